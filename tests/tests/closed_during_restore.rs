//! A task that is closed in the middle of its restore goes on where it stopped, not at the changelog's end: nothing is missing
//! afterwards. One that was closed in order restores nothing, and one whose changelog has lost its beginning what is left.

use std::sync::Arc;

use millstream_core::{Admin, Result, RuntimeConfig, StateDisk, TopicPartition, Topology};
use millstream_dsl::StreamsBuilder;
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};

const KEYS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn counts() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    b.stream::<String, String>("in").group_by_key().count("counts").to_stream().to("out");
    b.build()
}

fn config(disk: Option<&SimDisk>) -> RuntimeConfig {
    let disk = disk.map(|disk| Arc::new(disk.clone()) as Arc<dyn StateDisk>);
    // Every record is a commit, and so a batch of the changelog.
    RuntimeConfig { disk, uncommitted_bytes: 1, poll_records: 1, ..RuntimeConfig::embedded("app") }
}

fn write(embedded: &Embedded, time: i64) -> Result<()> {
    KEYS.iter().try_for_each(|key| embedded.write("in", 0, &[(time, Some(key), "v")]))
}

/// A program that has counted every key so often, and keeps nothing on disk.
fn counted(times: i64) -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    (0..times).try_for_each(|time| write(&embedded, time))?;
    let mut program = ByHand::new(embedded, counts()?, config(None))?;
    program.run()?;
    program.close()?;
    Ok(program.embedded)
}

/// What comes out for one more record of each key.
fn next_counts(mut program: ByHand) -> Result<Vec<i64>> {
    let before = program.embedded.read::<String, i64>("out")?[0].len();
    write(&program.embedded, 100)?;
    program.run()?;
    Ok(program.embedded.read::<String, i64>("out")?[0][before..].iter().map(|(_, count)| *count).collect())
}

#[test]
fn a_restore_goes_on_where_it_was_closed() -> Result<()> {
    for steps in 1..20 {
        let disk = SimDisk::new(Dice::new(steps), Mishaps { late: 300, ..Mishaps::default() }, 0);
        let embedded = counted(5)?;
        let rows = embedded.read::<String, i64>("app-counts-changelog")?[0].len() as u64;
        assert!(rows > 20, "{rows}");
        let mut program = ByHand::new(embedded, counts()?, config(Some(&disk)))?;
        for _ in 0..3 {
            for _ in 0..steps {
                program.step()?;
            }
            program.close()?;
        }
        program.run()?;
        assert!(program.thread()?.counters().restore <= rows, "{steps} steps at a time");
        assert_eq!(next_counts(program)?, [6; 7], "{steps} steps at a time");
    }
    Ok(())
}

#[test]
fn what_was_closed_in_order_restores_nothing() -> Result<()> {
    let disk = SimDisk::new(Dice::new(1), Mishaps::default(), 0);
    let mut program = ByHand::new(counted(3)?, counts()?, config(Some(&disk)))?;
    program.run()?;
    assert_eq!(program.thread()?.counters().restore, 21);
    write(&program.embedded, 50)?;
    program.run()?;
    program.close()?;
    program.run()?;
    assert_eq!(program.thread()?.counters().restore, 0);
    assert_eq!(next_counts(program)?, [5; 7]);
    Ok(())
}

#[test]
fn a_crash_never_wipes_rows_that_were_flushed() -> Result<()> {
    let disk = SimDisk::new(Dice::new(1), Mishaps { flushed: 1000, ..Mishaps::default() }, 0);
    let mut program = ByHand::new(counted(3)?, counts()?, config(Some(&disk)))?;
    program.run()?;
    program.kill();
    let disk = disk.crash();
    let mut program = ByHand::new(program.embedded, counts()?, config(Some(&disk)))?;
    program.run()?;
    assert_eq!(program.thread()?.counters().restore, 0);
    assert_eq!(next_counts(program)?, [4; 7]);
    Ok(())
}

#[test]
fn a_changelog_that_has_lost_its_beginning_restores_what_is_left() -> Result<()> {
    let changelog = TopicPartition::new("app-counts-changelog", 0);
    for behind in [false, true] {
        let embedded = counted(3)?;
        let disk = SimDisk::new(Dice::new(1), Mishaps { flushed: 1000, ..Mishaps::default() }, 0);
        let mut program = ByHand::new(embedded, counts()?, config(Some(&disk)))?;
        if behind {
            // On disk there is what the changelog has no more: its position is before the changelog's start.
            program.step()?;
            program.step()?;
            program.close()?;
        }
        // The last record of each key and its marker.
        let end = program.embedded.log.end_offset(&changelog, millstream_core::Isolation::ReadUncommitted)?;
        program.embedded.log.delete_records(&changelog, end - 14)?;
        program.run()?;
        assert_eq!(next_counts(program)?, [4; 7], "behind: {behind}");
    }
    Ok(())
}
