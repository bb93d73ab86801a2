//! Rows are on disk only when the log has their commit for good.
//!
//! Rows of a commit that the log had not synced could be in files of the database when a crash took that commit back: where
//! the log then ended in a marker that aborts instead of one that commits, the rows were taken for what it says.

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    BatchBuilder, Clock as _, Log, ManualClock, ProducerOptions, Result, RuntimeConfig, StreamThread, Streams,
    TopicPartition, Topology, Wakeup,
};
use millstream_dsl::StreamsBuilder;
use millstream_state::{RocksDisk, RocksOptions};
use tempfile::TempDir;

/// A log that syncs by itself, or at a tick alone.
fn open(folder: &TempDir, clock: &Arc<ManualClock>, by_itself: bool) -> Result<Broker> {
    let mut options = BrokerOptions::new(folder.path().join("log"), clock.clone());
    (options.durability, options.threads) = (Durability::Disk, by_itself);
    Ok(Broker::open(options)?)
}

fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    b.stream::<String, String>("in").group_by_key().count("counts").to_stream().to("out");
    b.build()
}

/// Commits that are done before, and after, the log has synced what it was given.
fn commits(has_disk: bool) -> Result<(u64, u64)> {
    let folder = TempDir::new().expect("a folder");
    let clock = Arc::new(ManualClock::at(1_000_000));
    // What a first start waits for.
    let log = open(&folder, &clock, true)?;
    drop(Streams::new(program()?, RuntimeConfig::embedded("app"), Arc::new(log.clone()), clock.clone())?);
    drop(log);

    let log = open(&folder, &clock, false)?;
    let mut config = RuntimeConfig::embedded("app");
    if has_disk {
        let options = RocksOptions { background: false, ..RocksOptions::default() };
        config.disk = Some(Arc::new(RocksDisk::new(&folder.path().join("state"), options)?));
    }
    let streams = Streams::new(program()?, config, Arc::new(log.clone()), clock.clone())?;

    let wakeup = Arc::new(Wakeup::default());
    let mut batch = BatchBuilder::new();
    batch.push(0, Some(b"a"), Some(b"b"), &[]);
    log.producer(&ProducerOptions::plain("input"), wakeup.clone())?.send(&TopicPartition::new("in", 0), batch)?;

    let mut thread = StreamThread::new(streams.context().clone(), "thread".to_owned(), &[0], wakeup, clock.now())?;
    let mut steps = || {
        for _ in 0..20 {
            clock.advance(Duration::from_secs(1));
            thread.step(clock.now())?;
        }
        Ok::<_, millstream_core::Error>(thread.counters().commit)
    };
    let before = steps()?;
    log.tick()?;
    Ok((before, steps()?))
}

#[test]
fn a_commit_with_rows_on_disk_is_done_when_it_is_synced() -> Result<()> {
    assert_eq!(commits(true)?, (0, 1));
    Ok(())
}

/// Nobody waits for it: after a crash state comes from the log alone.
#[test]
fn a_commit_with_rows_in_memory_is_done_when_it_is_decided() -> Result<()> {
    assert_eq!(commits(false)?, (1, 1));
    Ok(())
}
