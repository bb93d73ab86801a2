//! Windows and sessions outgrow memory: a start reads none of them, and what has left memory is found by late records, emitted
//! when it closes, in order, and given to queries.

use std::path::Path;
use std::sync::Arc;

use millstream_core::{Result, RuntimeConfig, StateDisk, Timestamp, Topology};
use millstream_dsl::{
    HOUR, MIN, SECOND, SessionWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, Window, Windowed,
};
use millstream_state::{RocksDisk, RocksOptions};

/// Keys with a window each.
const KEYS: i64 = 2_000;

fn start(folder: &Path, topology: Topology, rows: usize) -> Result<(TopologyTestDriver, Arc<RocksDisk>)> {
    let options = RocksOptions { rows, blocks: 1 << 20, unflushed: 1 << 20, background: false };
    let disk = Arc::new(RocksDisk::new(folder, options)?);
    let config = RuntimeConfig { disk: Some(disk.clone()), ..RuntimeConfig::embedded("test") };
    Ok((TopologyTestDriver::with_config(topology, config)?, disk))
}

fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(millstream_core::Error::user)
}

fn counts() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let windows = TimeWindows::of(MIN).grace(HOUR);
    b.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("counts").to_stream().to("out");
    b.build()
}

/// Every key once, in windows of ten minutes.
fn fill(t: &TopologyTestDriver) -> Result<()> {
    let input = t.input::<String, i64>("in")?;
    (0..KEYS).for_each(|n| input.pipe_at(n % 10 * 60_000, format!("key-{n}"), n));
    Ok(())
}

#[test]
fn a_start_reads_no_windows_and_a_late_record_finds_its_own() -> Result<()> {
    let folder = folder()?;
    let (t, disk) = start(folder.path(), counts()?, 1 << 30)?;
    fill(&t)?;
    let all = disk.budget().taken();
    assert!(all > 100 * KEYS as usize, "{all} bytes for all windows");
    t.restart()?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<Windowed<String>, Option<i64>>("out")?);
    out.read();
    for number in [3, 1_234, 3] {
        input.pipe_at(number % 10 * 60_000 + 1, format!("key-{number}"), 0);
    }
    let counts: Vec<_> = out.read().into_iter().map(|(key, count)| (key.key, key.window.start, count)).collect();
    let count = |number: i64, count| (format!("key-{number}"), number % 10 * 60_000, Some(count));
    assert_eq!(counts, [count(3, 2), count(1_234, 2), count(3, 3)]);
    let few = disk.budget().taken();
    assert!(few < all / 100, "{few} bytes for two windows, {all} for all");
    Ok(())
}

#[test]
fn what_the_budget_has_no_room_for_leaves() -> Result<()> {
    let folder = folder()?;
    let room = 20_000;
    let (t, disk) = start(folder.path(), counts()?, room)?;
    fill(&t)?;
    assert!(disk.budget().taken() <= room, "{} bytes", disk.budget().taken());
    Ok(())
}

fn sessions_that_close() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let sessions = SessionWindows::of(10 * SECOND).grace(MIN);
    let visits = b.stream::<String, i64>("in").group_by_key().windowed_by(sessions).emit_on_close();
    visits.reduce("visits", |a, b| a + b).to_stream().to("out");
    b.build()
}

/// The same with rows in memory and without, over a start: what closes, and in which order.
#[test]
fn sessions_that_have_left_memory_close_in_their_order() -> Result<()> {
    let mut outputs = Vec::new();
    for rows in [0, 1 << 30] {
        let folder = folder()?;
        let (t, _disk) = start(folder.path(), sessions_that_close()?, rows)?;
        let input = t.input::<String, i64>("in")?;
        for n in 0..KEYS {
            // Late ones among them that grow a session, or join two.
            let late = if n % 7 == 0 { 15_000 } else { n % 3 * 4_000 };
            input.pipe_at(n * 20 + 30_000 - late, format!("key-{}", n % 97), n);
        }
        let mut out = t.output::<Windowed<String>, Option<i64>>("out")?.read();
        t.restart()?;
        t.input::<String, i64>("in")?.pipe_at(1_000_000, "last", 1);
        out.extend(t.output::<Windowed<String>, Option<i64>>("out")?.read());
        let sum: i64 = out.iter().filter_map(|(_, sum)| *sum).sum();
        assert_eq!(sum, KEYS * (KEYS - 1) / 2);
        assert!(out.is_sorted_by_key(|(key, _)| (key.window.end, key.key.clone(), key.window.start)));
        outputs.push(out);
    }
    assert_eq!(outputs[0], outputs[1]);
    Ok(())
}

/// A commit that failed left a window in memory that the disk does not have, and took one that it has.
#[test]
fn a_commit_that_fails_takes_nothing_from_disk() -> Result<()> {
    let folder = folder()?;
    let (t, _disk) = start(folder.path(), counts()?, 0)?;
    fill(&t)?;
    t.fail_commits(Some(2));
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<Windowed<String>, Option<i64>>("out")?);
    out.read();
    let times = |n: Timestamp| [n % 10 * 60_000, 700_000];
    (0..50).for_each(|n| times(n).into_iter().for_each(|time| input.pipe_at(time, format!("key-{n}"), n)));
    t.fail_commits(None);
    t.run()?;
    let mut last = out.read();
    last.reverse();
    for n in 0..50 {
        for (time, count) in times(n).into_iter().zip([2, 1]) {
            let start = time / 60_000 * 60_000;
            let window = Windowed { key: format!("key-{n}"), window: Window { start, end: start + 60_000 } };
            let found = last.iter().find(|(key, _)| *key == window).map(|(_, count)| *count);
            assert_eq!(found, Some(Some(count)), "{window:?}");
        }
    }
    Ok(())
}
