//! `./dev bench [--records N] [--only PROGRAM [--keys N]] [--json FILE]`: what a record costs, through the public DSL, the stream thread and the
//! embedded log at durability `os`. `./dev bench baseline`: what is promised, beside what Kafka Streams needs.
//!
//! What it does not show: another machine, a network, a foreign cluster, state beyond memory. The machine may be shared:
//! CPU time and ratios within one run are steadier than wall time.
#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

mod baseline;
mod child;
mod cpu;
mod figures;
mod kafka_streams;
mod log;
mod memory;
mod processed;
mod programs;
mod random;
mod store;
mod table;

use std::process::ExitCode;

use millstream_core::Result;

use crate::figures::{Keys, Load, Windows, large_state, large_windows, latency};
use crate::log::Input;
use crate::programs::Program;
use crate::table::{Row, Table};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let other = match arguments.split_first() {
        Some((command, rest)) if command == "baseline" => Some(baseline::run(rest)),
        Some((command, rest)) if command == child::COMMAND => Some(baseline::part(rest)),
        _ => None,
    };
    if let Some(done) = other {
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let records: u64 = value("--records").and_then(|n| n.parse().ok()).unwrap_or(2_000_000);
    let mut table = Table::default();
    let result = match value("--only") {
        Some(name) => only(&name, records, value("--keys").and_then(|n| n.parse().ok()).unwrap_or(100_000), &mut table),
        None => all(records, &mut table),
    };
    if let Err(error) = result {
        println!("error: {error}");
        return ExitCode::FAILURE;
    }
    table.print();
    let json = value("--json").unwrap_or_else(|| "bench.json".into());
    match std::fs::write(&json, table.json()) {
        Ok(()) => {
            println!("written to {json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error: {json}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One program: to look at closely.
fn only(name: &str, records: u64, keys: u64, table: &mut Table) -> Result<()> {
    if name.eq_ignore_ascii_case("compaction") {
        table.add(log::compaction(records, keys)?);
        return Ok(());
    }
    let large = [("LargeState", Keys::Uniform), ("LargeStateZipf", Keys::Zipf)];
    if let Some((_, which)) = large.into_iter().find(|(large, _)| large.eq_ignore_ascii_case(name)) {
        large_state(keys, records, which)?.into_iter().for_each(|row| table.add(row));
        return Ok(());
    }
    let large = [("LargeWindows", Windows::Tumbling), ("LargeSessions", Windows::Session)];
    if let Some((_, which)) = large.into_iter().find(|(large, _)| large.eq_ignore_ascii_case(name)) {
        large_windows(keys, records, which)?.into_iter().for_each(|row| table.add(row));
        return Ok(());
    }
    let input = Input::new(records, keys)?;
    let found = Program::ALL.into_iter().find(|p| format!("{p:?}").eq_ignore_ascii_case(name));
    let program =
        found.ok_or_else(|| millstream_core::Error::user(format!("no program `{name}` among {:?}", Program::ALL)))?;
    for _ in 0..3 {
        table.add(programs::run(&input, program, 1)?);
    }
    Ok(())
}

fn all(records: u64, table: &mut Table) -> Result<()> {
    for keys in [10_000, 100_000, 1_000_000] {
        println!("waiting: {records} records of {keys} keys");
        let input = Input::new(records, keys)?;
        for program in Program::ALL {
            let row = programs::run(&input, program, 1)?;
            table.add(row);
        }
        if keys == 100_000 {
            let one = programs::run(&input, Program::Count, 1)?;
            let two = programs::run(&input, Program::Count, 2)?;
            let ratio = one.wall / two.wall;
            table.add(Row {
                name: "count, 2 threads: speed of 1 thread".into(),
                figure: ratio,
                unit: "times".into(),
                bound: Some((1.7, true)),
                ..two
            });
        }
    }
    println!("waiting: log, start, idle, latency");
    table.add(log::produce_consume(records)?);
    table.add(log::compaction(records * 2, 100_000)?);
    table.add(programs::cold_start()?);
    table.add(programs::idle()?);
    latency(Load::AT_LEAST_ONCE)?.into_iter().for_each(|row| table.add(row));
    Ok(())
}
