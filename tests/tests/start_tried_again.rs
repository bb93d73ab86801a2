//! A start that fails half-way and is tried again restores each row once, holds each lock once, and forgets no task.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Result, RuntimeConfig};
use millstream_dsl::StreamsBuilder;
use millstream_tests::by_hand::{ByHand, Failing};
use millstream_tests::embedded::Embedded;
use millstream_tests::golden;
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};

type Rows = Vec<Vec<(Option<String>, Option<String>)>>;

/// What a join with itself says to records before and after a start of which these calls fail.
fn joined(disk: Option<&SimDisk>, failing: Option<Failing>) -> Result<(Rows, u64)> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 2)?;
    embedded.write("in", 0, &[(1, Some("k"), "a"), (2, Some("k"), "b")])?;
    embedded.write("in", 1, &[(1, Some("l"), "c")])?;
    let b = StreamsBuilder::new();
    b.topic("in", 2);
    b.topic("out", 2);
    let ms = [("before", 10), ("after", 10), ("grace", 10)].map(|(name, ms)| (name.to_owned(), ms));
    let topology = golden::build(&b, "stream-self-join", &BTreeMap::from(ms))?;
    let mut config = RuntimeConfig::embedded("app");
    config.disk = disk.map(|disk| Arc::new(disk.clone()) as _);
    let mut program = ByHand::new(embedded, topology, config)?;
    program.run()?;
    program.kill();
    program.embedded.write("in", 0, &[(3, Some("k"), "d")])?;
    program.embedded.write("in", 1, &[(3, Some("l"), "e")])?;
    program.calls.fail(failing);
    program.run()?;
    Ok((program.embedded.read("out")?, program.calls.calls()))
}

#[test]
fn each_row_is_restored_once() -> Result<()> {
    for on_disk in [false, true] {
        let disk = || SimDisk::new(Dice::new(1), Mishaps::default(), 0);
        let (wanted, calls) = joined(on_disk.then(disk).as_ref(), None)?;
        for from in 0..calls.min(60) {
            for (times, retriable) in [(1, true), (1, false), (3, true)] {
                let failing = Failing { from, times, retriable, done: true };
                let told = joined(on_disk.then(disk).as_ref(), Some(failing));
                let (found, _) = told.unwrap_or_else(|e| panic!("on disk {on_disk}, {failing:?}: {e}"));
                assert_eq!(found, wanted, "on disk {on_disk}, {failing:?}");
            }
        }
    }
    Ok(())
}
