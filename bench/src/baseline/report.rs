//! The six workloads as Kafka Streams' table has them, each figure with how many times better it is.
#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use super::cell::{Cell, Figures};
use super::workload::Workload;
use crate::store::Store;
use crate::table::Row;

/// Kafka Streams' memory, of which we promise to need this part at most.
const MEMORY: f64 = 10.0;

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Report(Vec<(Cell, Figures)>);

impl Report {
    pub(crate) fn add(&mut self, cell: Cell, figures: Figures) {
        let kafka = cell.workload.kafka_streams();
        println!(
            "  {:<52} {:>8.0} k records/s  {:>6.3} us CPU/record  {:>5.0} MiB  ({:.1} times less CPU)",
            cell.name(),
            figures.rate,
            figures.cpu,
            figures.memory,
            if cell.exactly_once { kafka.exactly_once.1 } else { kafka.cpu } / figures.cpu
        );
        self.0.push((cell, figures));
    }

    fn find(&self, workload: Workload, store: Store, threads: usize, exactly_once: bool) -> Option<Figures> {
        let wanted = Cell { workload, store, threads, exactly_once };
        self.0.iter().find(|(cell, _)| *cell == wanted).map(|(_, figures)| *figures)
    }

    pub(crate) fn print(&self) {
        for (store, title) in [(Store::Memory, "stores in memory"), (Store::RocksDb, "stores on RocksDB")] {
            if !self.0.iter().any(|(cell, _)| cell.store == store) {
                continue;
            }
            println!("\n{title}; in brackets how many times Kafka Streams' figure");
            println!(
                "{:<24} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15}",
                "",
                "k records/s",
                "CPU us/record",
                "k records/s",
                "exactly once",
                "CPU us/record",
                "exactly once",
                "peak MiB"
            );
            println!(
                "{:<24} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15}",
                "", "1 thread", "whole stack", "2 threads", "2 thr. 100 ms", "the same", "1 thr. 100 ms"
            );
            Workload::ALL.into_iter().for_each(|workload| self.print_row(workload, store));
        }
        self.print_promises();
    }

    fn print_row(&self, workload: Workload, store: Store) {
        let find = |threads, exactly_once| self.find(workload, store, threads, exactly_once);
        let (Some(one), Some(two), Some(once_one), Some(once_two)) =
            (find(1, false), find(2, false), find(1, true), find(2, true))
        else {
            return;
        };
        let kafka = workload.kafka_streams();
        let memory = [one, two, once_one, once_two].iter().map(|f| f.memory).fold(0.0, f64::max);
        let more = |ours: f64, theirs: f64| format!("{ours:.0} ({:.1})", ours / theirs);
        let less = |ours: f64, theirs: f64| format!("{ours:.3} ({:.1})", theirs / ours);
        println!(
            "{:<24} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15}",
            workload.name(),
            more(one.rate, kafka.one_thread),
            less(one.cpu, kafka.cpu),
            more(two.rate, kafka.two_threads),
            more(once_two.rate, kafka.exactly_once.0),
            less(once_two.cpu, kafka.exactly_once.1),
            format!("{:.0}", once_one.rate),
            format!("{memory:.0} (1/{:.1})", kafka.memory / memory),
        );
    }

    fn print_promises(&self) {
        let rows = self.rows();
        if !rows.is_empty() {
            println!("\npromised");
        }
        rows.iter().for_each(Row::print_verdict);
    }

    /// What is promised of them: CPU at least once on one thread, and the most memory of all.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (store, kind) in [(Store::Memory, "memory"), (Store::RocksDb, "RocksDB")] {
            for workload in Workload::ALL {
                let kafka = workload.kafka_streams();
                let of = |(cell, figures): &(Cell, Figures)| {
                    (cell.workload == workload && cell.store == store).then_some(figures.memory)
                };
                let memory = self.0.iter().filter_map(of).fold(0.0, f64::max);
                let Some(one) = self.find(workload, store, 1, false) else { continue };
                rows.push(Row {
                    name: format!("{}, {kind}: CPU", workload.name()),
                    records: workload.size(),
                    figure: kafka.cpu / one.cpu,
                    unit: "times less".into(),
                    wall: 1e6 / one.rate,
                    bound: Some((workload.promise(), true)),
                    ..Row::default()
                });
                rows.push(Row {
                    name: format!("{}, {kind}: peak memory", workload.name()),
                    figure: kafka.memory / memory,
                    unit: "times less".into(),
                    bound: Some((MEMORY, true)),
                    ..Row::default()
                });
            }
        }
        rows
    }
}
