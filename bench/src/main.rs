//! `./dev bench`: what a record costs, through the public DSL, the stream thread and the embedded log at durability `os`.
//! `./dev bench baseline`: what is promised, beside what Kafka Streams needs.
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

use millstream_core::{Error, Result};

use crate::figures::{Keys, Load, Windows, large_state, large_windows, latency};
use crate::log::Input;
use crate::programs::Program;
use crate::table::{Row, Table};

const HELP: &str = "\
./dev bench [--records N] [--only PROGRAM [--keys N]] [--json FILE]

What a record costs, through the public DSL, the stream thread and the embedded log at durability os: every program with
10,000, 100,000 and 1,000,000 keys, then the log, the start and latency. About five minutes on two cores.

  --records N     records of each program (2,000,000)
  --only PROGRAM  one of those below, three times
  --keys N        how many keys (100,000); with --only
  --json FILE     where the figures go too (bench.json)

./dev bench baseline  what is promised, beside what Kafka Streams needs: ./dev bench baseline --help
";

struct Arguments {
    records: u64,
    only: Option<String>,
    keys: u64,
    json: String,
}

impl Arguments {
    fn parse(words: &[String]) -> Result<Self> {
        let mut arguments = Arguments { records: 2_000_000, only: None, keys: 100_000, json: "bench.json".to_owned() };
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| Error::user(format!("{flag} needs a value")))?;
            let number = || {
                let number = value.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| Error::user(format!("{flag}: a whole number from 1, please, not `{value}`")))
            };
            match flag.as_str() {
                "--records" => arguments.records = number()?,
                "--only" => arguments.only = Some(value.clone()),
                "--keys" => arguments.keys = number()?,
                "--json" => arguments.json.clone_from(value),
                _ => return Err(Error::user(format!("unknown: {flag} {value}\n  help: ./dev bench --help"))),
            }
        }
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((command, rest)) if command == "baseline" => baseline::run(rest),
        Some((command, rest)) if command == child::COMMAND => baseline::part(rest),
        _ => run(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    if words.iter().any(|word| word == "--help" || word == "help") {
        println!("{HELP}");
        println!("programs  {}", names().join(", "));
        return Ok(());
    }
    let Arguments { records, only, keys, json } = Arguments::parse(words)?;
    let mut table = Table::default();
    match only {
        Some(name) => one(&name, records, keys, &mut table)?,
        None => all(records, &mut table)?,
    }
    table.print();
    std::fs::write(&json, table.json()).map_err(|error| Error::user(format!("{json}: {error}")))?;
    println!("written to {json}");
    Ok(())
}

/// What `--only` can name.
fn names() -> Vec<String> {
    let others = ["Compaction", "LargeState", "LargeStateZipf", "LargeWindows", "LargeSessions"].map(str::to_owned);
    Program::ALL.iter().map(|program| format!("{program:?}")).chain(others).collect()
}

/// One program: to look at closely.
fn one(name: &str, records: u64, keys: u64, table: &mut Table) -> Result<()> {
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
    let found = Program::ALL.into_iter().find(|p| format!("{p:?}").eq_ignore_ascii_case(name));
    let unknown = || Error::user(format!("no program is called `{name}`\n  help: {}", names().join(", ")));
    let program = found.ok_or_else(unknown)?;
    let input = Input::new(records, keys)?;
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
