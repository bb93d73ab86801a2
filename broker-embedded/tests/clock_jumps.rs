//! A clock that is wrong for a moment deletes nothing: what is too old by a clock that has jumped waits until that is back, or
//! has stayed for an hour. Kafka deletes.
//!
//! One look of housekeeping with a clock that was a month ahead deleted every record.

#[expect(dead_code, reason = "shared by several test programs")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use common::{Outcome, batch, create, id, producer, read};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Clock, Isolation, LogError, Now, SimFiles, TopicSpec};
use millstream_wire::{ProducerStamp, SealOptions};

const DAY: i64 = 24 * 3_600_000;
const ALL: Isolation = Isolation::ReadUncommitted;

/// A clock that passes, and may be set otherwise.
#[derive(Default)]
struct Watch {
    ahead: AtomicI64,
    ticks: AtomicU64,
}

impl Clock for Watch {
    fn now(&self) -> Now {
        let ticks = self.ticks.load(Ordering::SeqCst);
        let wall = 100 * DAY + ticks as i64 + self.ahead.load(Ordering::SeqCst);
        Now { wall, ticks: Duration::from_millis(ticks) }
    }
}

impl Watch {
    fn pass(&self, by: i64) {
        self.ticks.fetch_add(by as u64, Ordering::SeqCst);
    }

    fn set_ahead(&self, by: i64) {
        self.ahead.store(by, Ordering::SeqCst);
    }
}

fn open(watch: &Arc<Watch>) -> Result<Broker, LogError> {
    open_on(watch, &SimFiles::default())
}

fn open_on(watch: &Arc<Watch>, files: &SimFiles) -> Result<Broker, LogError> {
    let options = BrokerOptions::new("log", watch.clone());
    let files = Arc::new(files.clone());
    Broker::open(BrokerOptions { durability: Durability::Os, files, threads: false, segment_bytes: 200, ..options })
}

/// How many records are left of `t`.
fn left(broker: &Broker) -> Result<usize, LogError> {
    broker.tick()?;
    Ok(read(broker, &id("t", 0), millstream_core::Admin::start_offset(broker, &id("t", 0))?, ALL)?.len())
}

fn fill(broker: &Broker) -> Outcome {
    let mut p = producer(broker, None)?;
    (0..100).try_for_each(|number| p.send(&id("t", 0), batch(&[&number.to_string()])))
}

#[test]
fn what_is_old_by_a_clock_that_has_jumped_stays_until_that_has_stayed() -> Outcome {
    let watch = Arc::new(Watch::default());
    let broker = open(&watch)?;
    create(&broker, "t", 1)?;
    fill(&broker)?;
    watch.pass(1_000);
    assert_eq!(left(&broker)?, 100);
    for month in [30 * DAY, -30 * DAY, 400 * DAY] {
        watch.set_ahead(month);
        watch.pass(10_000);
        assert_eq!(left(&broker)?, 100, "{month}");
        watch.set_ahead(0);
        watch.pass(10_000);
        assert_eq!(left(&broker)?, 100, "{month}");
    }
    // A machine that has slept has it so too.
    watch.set_ahead(30 * DAY);
    assert_eq!(left(&broker)?, 100);
    watch.pass(3_599_999);
    assert_eq!(left(&broker)?, 100);
    watch.pass(1);
    assert_eq!(left(&broker)?, 0);
    fill(&broker)?;
    assert_eq!(left(&broker)?, 100);
    watch.pass(8 * DAY);
    assert_eq!(left(&broker)?, 0, "time that passes is no jump");
    Ok(())
}

/// A deletion that is gone from a changelog too early comes back as the row that it has deleted.
#[test]
fn compaction_waits_too() -> Outcome {
    let watch = Arc::new(Watch::default());
    let broker = open(&watch)?;
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    millstream_core::Admin::create_topic(&broker, &TopicSpec { name: "t".into(), partitions: 1, configs })?;
    watch.set_ahead(30 * DAY);
    fill(&broker)?;
    assert_eq!(left(&broker)?, 100);
    watch.set_ahead(0);
    assert!(left(&broker)? < 10);
    Ok(())
}

/// A producer that is forgotten too early is refused, or what it sends again is there twice.
#[test]
fn producers_are_not_forgotten_by_it() -> Outcome {
    let watch = Arc::new(Watch::default());
    let broker = open(&watch)?;
    create(&broker, "t", 1)?;
    let idempotent = |sequence| {
        let stamp = ProducerStamp { id: 7_000, epoch: 0, base_sequence: sequence };
        let options = SealOptions { producer: Some(stamp), ..Default::default() };
        broker.append(&id("t", 0), &batch(&["again"]).seal(&options).expect("a batch"))
    };
    let (mut a, _newest) = (producer(&broker, Some("a"))?, producer(&broker, Some("newest"))?);
    let first = idempotent(0)?;
    for month in [30 * DAY, -30 * DAY, 400 * DAY] {
        watch.set_ahead(month);
        broker.tick()?;
        watch.set_ahead(0);
        broker.tick()?;
        a.send(&id("t", 0), batch(&["on"]))?;
        a.abort()?;
        assert_eq!(idempotent(0)?, first, "{month}");
    }
    watch.pass(8 * DAY);
    broker.tick()?;
    assert!(matches!(a.send(&id("t", 0), batch(&["late"])), Err(LogError::Forgotten { .. })));
    Ok(())
}

/// The files of a process know nothing of a clock that the next one has.
#[test]
fn a_clock_that_has_jumped_between_two_processes_deletes_nothing() -> Outcome {
    let watch = Arc::new(Watch::default());
    let files = SimFiles::default();
    files.set_time(watch.now().wall);
    let broker = open_on(&watch, &files)?;
    create(&broker, "t", 1)?;
    fill(&broker)?;
    drop(broker);
    for month in [30 * DAY, -30 * DAY, 400 * DAY, 0] {
        watch.set_ahead(month);
        watch.pass(10_000);
        files.set_time(watch.now().wall);
        let broker = open_on(&watch, &files)?;
        assert_eq!(left(&broker)?, 100, "{month}");
        watch.set_ahead(0);
        watch.pass(4_000_000);
        assert_eq!(left(&broker)?, 100, "{month}, and back");
    }
    Ok(())
}
