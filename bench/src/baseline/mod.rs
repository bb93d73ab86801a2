//! `./dev bench baseline`: the promises that the platform makes, each with its figure.
//!
//! First Kafka Streams' six workloads, as many times its measured figures as we reach; then what only we promise.

mod cell;
mod report;
mod workload;

use std::time::Instant;

use millstream_core::{Error, Result};

use self::cell::{Cell, Figures};
use self::report::Report;
use self::workload::Workload;
use crate::child;
use crate::figures::Figure;
use crate::store::Store;
use crate::table::{Row, Table};

const HELP: &str = "\
./dev bench baseline [--only NAME[,NAME…]] [--store memory|rocksdb] [--scale PART] [--json FILE]

Runs Kafka Streams' six workloads through the public DSL on the embedded log, at durability os, and prints their figures
with how many times Kafka Streams' own they are; then figures of ours. Without --only, everything: about a quarter of an hour
on two cores (twelve minutes were seen, on a machine that did other work too), and several GB of $TMPDIR.

  --only NAME   of the workloads and figures below
  --store KIND  the workloads with one kind of store only
  --scale PART  a part of the workloads' records, 0.1 say: to try it out; the figures are then no promise
  --json FILE   where the figures go too (bench.json)
";

const NOT_SHOWN: &str = "\
Kafka Streams' side was measured before, on a machine like this one, and is not run here: machines differ, and so does what else
they do meanwhile. Its CPU time and ours are steadier than records/s. Its counts come from a cache that leaves out updates: of a
row's several between two commits only the last is passed on. So do ours with `emit_on_commit`: count, tumbling, word-count.
Those called every-update pass on each, which is more than it did. What is promised is promised of both. Our CPU time and
memory are those of the one process that is broker and application, and what prepares the input; Kafka Streams' memory is the
application's alone. Not shown: a network, a foreign cluster, latency under
another load, more than two threads.";

struct Arguments {
    only: Vec<String>,
    stores: Vec<Store>,
    scale: f64,
    json: String,
}

impl Arguments {
    fn parse(words: &[String]) -> Result<Self> {
        let mut arguments =
            Arguments { only: Vec::new(), stores: Store::ALL.to_vec(), scale: 1.0, json: "bench.json".to_owned() };
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| Error::user(format!("{flag} needs a value")))?;
            match flag.as_str() {
                "--only" => arguments.only = value.split(',').map(str::to_owned).collect(),
                "--store" if value == "memory" => arguments.stores = vec![Store::Memory],
                "--store" if value == "rocksdb" => arguments.stores = vec![Store::RocksDb],
                "--scale" => {
                    let scale = value.parse().ok().filter(|scale| (0.1..=1.0).contains(scale));
                    arguments.scale = scale.ok_or_else(|| {
                        Error::user("--scale: a number from 0.1 to 1, please: CPU time is counted in 10 ms")
                    })?;
                }
                "--json" => arguments.json.clone_from(value),
                _ => return Err(Error::user(format!("unknown: {flag} {value}\n  help: ./dev bench baseline --help"))),
            }
        }
        let names: Vec<&str> =
            Workload::ALL.iter().map(|w| w.name()).chain(Figure::ALL.iter().map(|f| f.name())).collect();
        match arguments.only.iter().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(Error::user(format!("no figure is called `{name}`\n  help: {}", names.join(", ")))),
            None => Ok(arguments),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }
}

/// The command.
#[expect(clippy::print_stdout, reason = "a program whose output is its result")]
pub(crate) fn run(words: &[String]) -> Result<()> {
    if words.iter().any(|word| word == "--help" || word == "help") {
        println!("{HELP}");
        println!("workloads  {}", Workload::ALL.map(Workload::name).join(", "));
        Figure::ALL.iter().for_each(|figure| println!("  {:<20} {}", figure.name(), figure.what()));
        println!("\n{NOT_SHOWN}");
        return Ok(());
    }
    let arguments = Arguments::parse(words)?;
    let began = Instant::now();
    let mut report = Report::default();
    let workloads = Workload::ALL.into_iter().filter(|workload| arguments.wants(workload.name()));
    let cells: Vec<Cell> = workloads
        .flat_map(|workload| arguments.stores.iter().flat_map(move |store| Cell::all(workload, *store)))
        .collect();
    for (number, cell) in cells.iter().enumerate() {
        eprintln!("waiting: {} of {}, {} ({} s)", number + 1, cells.len(), cell.name(), began.elapsed().as_secs());
        report.add(*cell, child::run::<Figures>(&cell.name(), arguments.scale)?);
    }
    let mut table = Table::default();
    for figure in Figure::ALL.into_iter().filter(|figure| arguments.wants(figure.name())) {
        eprintln!("waiting: {}, {} ({} s)", figure.name(), figure.what(), began.elapsed().as_secs());
        for part in figure.parts() {
            child::run::<Vec<Row>>(&part, arguments.scale)?.into_iter().for_each(|row| table.add(row));
        }
    }
    report.print();
    if !table.0.is_empty() {
        table.print();
    }
    println!("\n{NOT_SHOWN}\ntook {} s; load before that and others' work: uptime", began.elapsed().as_secs());
    table.0.extend(report.rows());
    std::fs::write(&arguments.json, table.json()).map_err(|e| Error::user(format!("{}: {e}", arguments.json)))?;
    println!("written to {}", arguments.json);
    Ok(())
}

/// A part, in the process that is its own.
pub(crate) fn part(words: &[String]) -> Result<()> {
    let (Some(name), Some(Ok(scale))) = (words.first(), words.get(1).map(|scale| scale.parse())) else {
        return Err(Error::user("a part needs its name and scale"));
    };
    match Cell::parse(name) {
        Some(cell) => child::answer(&cell.measure(scale)?),
        None => child::answer(&Figure::measure(name, scale)?),
    }
}
