//! Rows are on disk only when the log has their commit for good, and a restore is over only when they are on disk.
//!
//! Rows of a commit that the log had not synced could be in files of the database when a crash took that commit back: where
//! the log then ended in a marker that aborts instead of one that commits, the rows were taken for what it says.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    BatchBuilder, ChangelogRecord, Clock as _, DiskPosition, DiskRows, Family, FamilyWrite, Log, ManualClock, Next,
    ProducerOptions, Result, RuntimeConfig, StateBudget, StateDisk, StreamThread, Streams, TaskDisk, Timestamp,
    TopicPartition, Topology, Wakeup,
};
use millstream_dsl::StreamsBuilder;
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

/// Counts the writes that it is given, and is done with each at once, unless it is stuck.
#[derive(Debug)]
struct Counting {
    budget: Arc<StateBudget>,
    writes: Arc<AtomicU64>,
    stuck: Arc<AtomicBool>,
}

impl StateDisk for Counting {
    fn open(&self, _task: &str, _families: Vec<Family>) -> Result<Box<dyn TaskDisk>> {
        Ok(Box::new(CountingTask { writes: self.writes.clone(), stuck: self.stuck.clone() }))
    }

    fn clean_up(&self) -> Result<()> {
        Ok(())
    }

    fn budget(&self) -> &Arc<StateBudget> {
        &self.budget
    }
}

struct CountingTask {
    writes: Arc<AtomicU64>,
    stuck: Arc<AtomicBool>,
}

impl TaskDisk for CountingTask {
    fn position(&self, _family: usize) -> Option<DiskPosition> {
        None
    }

    fn rows(&self, _family: usize) -> Box<dyn DiskRows> {
        Box::new(NoRows)
    }

    fn clear(&mut self, _family: usize) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _writes: Vec<FamilyWrite>) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    fn written(&mut self) -> Result<u64> {
        Ok(if self.stuck.load(Ordering::Relaxed) { 0 } else { self.writes.load(Ordering::Relaxed) })
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

struct NoRows;

impl DiskRows for NoRows {
    fn get(&self, _key: &[u8], _found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        Ok(false)
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(true)
    }

    fn approximate_len(&self) -> usize {
        0
    }

    fn latest(&self) -> Option<Timestamp> {
        None
    }

    fn scan(
        &self,
        _range: (Bound<&[u8]>, Bound<&[u8]>),
        _descending: bool,
        _row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_commit_is_done_when_it_is_decided_and_its_rows_wait_for_the_sync() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let clock = Arc::new(ManualClock::at(1_000_000));
    // What a first start waits for.
    let log = open(&folder, &clock, true)?;
    drop(Streams::new(program()?, RuntimeConfig::embedded("app"), Arc::new(log.clone()), clock.clone())?);
    drop(log);

    let log = open(&folder, &clock, false)?;
    let writes = Arc::new(AtomicU64::new(0));
    let disk = Counting { budget: Arc::new(StateBudget::new(0)), writes: writes.clone(), stuck: Arc::default() };
    let config = RuntimeConfig { disk: Some(Arc::new(disk)), ..RuntimeConfig::embedded("app") };
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
        Ok::<_, millstream_core::Error>((thread.counters().commit, writes.load(Ordering::Relaxed)))
    };
    assert_eq!(steps()?, (1, 0));
    log.tick()?;
    assert_eq!(steps()?, (1, 1));
    Ok(())
}

/// The thread stepped again and again, and took from the disk's writer the processor that both of them needed.
#[test]
fn a_restore_that_waits_for_the_disk_lets_its_thread_wait() -> Result<()> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let log = Broker::open(BrokerOptions::memory(clock.clone()))?;
    let (stuck, writes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let start = |disk: Option<Arc<dyn StateDisk>>| -> Result<StreamThread> {
        let config = RuntimeConfig { disk, ..RuntimeConfig::embedded("app") };
        let streams = Streams::new(program()?, config, Arc::new(log.clone()), clock.clone())?;
        StreamThread::new(streams.context().clone(), "thread".to_owned(), &[0], Arc::default(), clock.now())
    };
    let mut first = start(None)?;
    let mut batch = BatchBuilder::new();
    batch.push(0, Some(b"a"), Some(b"b"), &[]);
    log.producer(&ProducerOptions::plain("input"), Arc::default())?.send(&TopicPartition::new("in", 0), batch)?;
    while first.step(clock.now())? == Next::Again {}
    first.close(clock.now())?;

    let budget = Arc::new(StateBudget::new(0));
    let mut second = start(Some(Arc::new(Counting { budget, writes: writes.clone(), stuck: stuck.clone() })))?;
    let steps = |thread: &mut StreamThread| {
        for _ in 0..5 {
            if let Next::Wait(until) = thread.step(clock.now())? {
                return Ok(until);
            }
        }
        Err(millstream_core::Error::user("it goes on and on"))
    };
    let until = steps(&mut second)?;
    // Nobody wakes it when the disk is done.
    assert!(until.is_some_and(|until| until <= clock.now().ticks + Duration::from_millis(10)));
    assert_eq!((second.is_running(), writes.load(Ordering::Relaxed)), (false, 1));

    stuck.store(false, Ordering::Relaxed);
    steps(&mut second)?;
    assert!(second.is_running());
    Ok(())
}
