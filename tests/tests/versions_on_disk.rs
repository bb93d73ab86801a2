//! A versioned table's disk forgets what its history has left behind: versions were never removed from it, so that it grew
//! for ever and every start read all of them.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use millstream_core::{Family, Record, Result, RowOrder, RuntimeConfig, StateDisk, Timestamp};
use millstream_dsl::{SECOND, StreamsBuilder, TopologyTestDriver};
use millstream_state::{RocksDisk, RocksOptions};

fn disk(folder: &Path) -> Result<Arc<RocksDisk>> {
    let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
    Ok(Arc::new(RocksDisk::new(folder, options)?))
}

/// A table with a history of 10 seconds, on this disk, and what asks it for a row as of a time.
fn start(folder: &Path) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    let rows = b.versioned_table::<String, i64>("in", "rows", 10 * SECOND);
    b.stream::<String, i64>("asked").left_join_table("found", &rows, |_, row| row.copied().unwrap_or(-1)).to("out");
    let config = RuntimeConfig { disk: Some(disk(folder)?), ..RuntimeConfig::embedded("test") };
    TopologyTestDriver::with_config(b.build()?, config)
}

/// The versions on the disk of a program that has ended, by key and time in seconds.
fn versions(folder: &Path) -> Result<Vec<(String, Timestamp)>> {
    let family = Family { name: "rows".to_owned(), order: RowOrder::Versions };
    let task = disk(folder)?.open("rows-0", vec![family])?;
    let mut found = Vec::new();
    task.rows(0).scan((Bound::Unbounded, Bound::Unbounded), false, &mut |row| {
        found.push((String::from_utf8_lossy(row.key).into_owned(), row.timestamp / 1_000));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Puts rows into the table, with a commit after each; `None` deletes.
fn put(t: &TopologyTestDriver, rows: &[(Timestamp, &str, Option<i64>)]) -> Result<()> {
    let input = t.input::<String, Option<i64>>("in")?;
    rows.iter().for_each(|(second, key, n)| input.pipe_at(second * 1_000, *key, *n));
    Ok(())
}

fn row(key: &str, second: Timestamp) -> (String, Timestamp) {
    (key.to_owned(), second)
}

#[test]
fn what_a_running_table_has_left_behind_goes_with_the_next_commit() -> Result<()> {
    let folder = tempfile::tempdir().map_err(millstream_core::Error::user)?;
    let t = start(folder.path())?;
    for second in 0..100 {
        put(&t, &[(second, "a", Some(second))])?;
    }
    put(&t, &[(100, "b", Some(1)), (101, "b", None), (120, "a", None), (140, "c", Some(1)), (141, "c", Some(2))])?;
    drop(t);
    // Of `a` there is nothing: it was deleted longer than the history ago. So was `b`.
    assert_eq!(versions(folder.path())?, [row("c", 140), row("c", 141)]);
    Ok(())
}

/// Whether a version has ended is known when all of them are there: rows that are never put again would keep theirs.
#[test]
fn what_ended_before_the_history_goes_after_a_start() -> Result<()> {
    let folder = tempfile::tempdir().map_err(millstream_core::Error::user)?;
    let t = start(folder.path())?;
    put(&t, &[(0, "a", Some(1)), (1, "a", Some(2)), (2, "a", Some(3)), (50, "b", Some(1)), (51, "b", Some(2))])?;
    t.restart()?;
    put(&t, &[(52, "c", Some(1)), (53, "c", Some(2))])?;
    let found = [row("a", 2), row("b", 50), row("b", 51), row("c", 52), row("c", 53)];
    assert_eq!(asked(&t, &[("a", 53), ("b", 50), ("b", 51), ("c", 52)])?, [3, 1, 2, 1]);
    drop(t);
    assert_eq!(versions(folder.path())?, found);
    Ok(())
}

/// A commit that fails is rolled back: what it had let go is still there, or a start would miss it.
#[test]
fn what_went_in_a_commit_that_failed_is_still_there() -> Result<()> {
    let folder = tempfile::tempdir().map_err(millstream_core::Error::user)?;
    let t = start(folder.path())?;
    t.fail_commits(Some(2));
    let input = t.input::<String, i64>("in")?;
    for second in 0..60 {
        input.enqueue(Record::new("a".to_owned(), second, second * 1_000))?;
        if second % 7 == 0 {
            t.run()?;
        }
    }
    t.run()?;
    t.fail_commits(None);
    t.restart()?;
    let history: Vec<(&str, Timestamp)> = (49..60).map(|second| ("a", second)).collect();
    assert_eq!(asked(&t, &history)?, (49..60).collect::<Vec<_>>());
    Ok(())
}

/// What the table has for keys as of seconds.
fn asked(t: &TopologyTestDriver, keys: &[(&str, Timestamp)]) -> Result<Vec<i64>> {
    let (asked, out) = (t.input::<String, i64>("asked")?, t.output::<String, i64>("out")?);
    keys.iter().for_each(|(key, second)| asked.pipe_at(second * 1_000, *key, 0));
    Ok(out.read().into_iter().map(|(_, found)| found).collect())
}
