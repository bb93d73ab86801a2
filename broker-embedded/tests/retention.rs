//! What is too old goes, however often the process ends, and whatever fails beside it.
//!
//! How long a segment has been there was counted anew by every process: one that ended more often than records are kept never
//! deleted any.

#[expect(dead_code, reason = "shared by several test programs")]
mod common;
#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Outcome, batch, create, id, producer};
use compacted::Watched;
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, Call, Clock, Fault, Files, LogError, ManualClock, SimFiles};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A machine: a disk, and a clock that its files go by too.
struct Machine {
    files: SimFiles,
    clock: Arc<ManualClock>,
}

impl Machine {
    fn new() -> Self {
        let machine = Machine { files: SimFiles::default(), clock: Arc::new(ManualClock::at(0)) };
        machine.pass(1_000 * DAY);
        machine
    }

    fn pass(&self, time: i64) {
        self.clock.advance(Duration::from_millis(time as u64));
        self.files.set_time(self.clock.now().wall);
    }

    fn open(&self) -> Result<Broker, LogError> {
        self.open_on(Arc::new(self.files.clone()))
    }

    fn open_on(&self, files: Arc<dyn Files>) -> Result<Broker, LogError> {
        Broker::open(BrokerOptions {
            durability: Durability::Os,
            files,
            checkpoint_bytes: 1_000,
            threads: false,
            segment_bytes: 200,
            ..BrokerOptions::new("log", self.clock.clone())
        })
    }
}

/// Records are kept for seven days. A process a day writes ten for an hour, and ends in one way or the other.
#[test]
fn processes_that_end_every_day_delete_what_is_a_week_old() -> Outcome {
    for in_order in [true, false] {
        let mut machine = Machine::new();
        create(&machine.open()?, "t", 1)?;
        let mut starts = Vec::new();
        for _ in 0..20 {
            let broker = machine.open()?;
            let mut p = producer(&broker, None)?;
            (0..10).try_for_each(|_| p.send(&id("t", 0), batch(&["some text of some length"])))?;
            machine.pass(HOUR);
            broker.tick()?;
            starts.push(broker.start_offset(&id("t", 0))?);
            if in_order {
                broker.close()?;
            }
            machine.files = machine.files.kill();
            machine.pass(DAY - HOUR);
        }
        let wanted: Vec<i64> = (0..20).map(|day: i64| (day - 7).max(0) * 10).collect();
        assert_eq!(starts, wanted, "in order: {in_order}");
    }
    Ok(())
}

/// Topics `a`, `b` and `c` with ten records each, of which the files have been written a week ago.
fn old(machine: &Machine, files: Arc<dyn Files>) -> Result<Broker, LogError> {
    let broker = machine.open_on(files)?;
    let mut p = producer(&broker, None)?;
    for topic in ["a", "b", "c"] {
        create(&broker, topic, 1)?;
        (0..10).try_for_each(|_| p.send(&id(topic, 0), batch(&["some text of some length"])))?;
    }
    broker.tick()?;
    machine.pass(8 * DAY);
    Ok(broker)
}

fn starts(broker: &Broker) -> Result<[i64; 3], LogError> {
    let [a, b, c] = ["a", "b", "c"].map(|topic| broker.start_offset(&id(topic, 0)));
    Ok([a?, b?, c?])
}

/// The file with the start of the log needs space itself: it has that of the indexes, which go first.
#[test]
fn a_full_disk_is_freed_by_what_is_too_old() -> Outcome {
    let machine = Machine::new();
    let no_space = Arc::new(AtomicBool::new(false));
    let (disk, full) = (machine.files.clone(), no_space.clone());
    let files = Watched::files(&machine.files, move |call, _| {
        if call == "remove" {
            full.store(false, Ordering::SeqCst);
        } else if ["write", "create"].contains(&call) && full.load(Ordering::SeqCst) {
            disk.fail(Fault { call: Call::Write, skip: 0, times: 1, kind: ErrorKind::StorageFull });
        }
    });
    let broker = old(&machine, files)?;
    no_space.store(true, Ordering::SeqCst);
    assert!(matches!(broker.tick(), Err(LogError::Full { .. })), "the active segment of `a` has no successor");
    assert_eq!(starts(&broker)?, [8, 10, 10]);
    let broker = Machine { files: machine.files.kill(), clock: machine.clock.clone() }.open()?;
    assert_eq!(starts(&broker)?, [8, 10, 10], "a crash brings nothing back");
    broker.tick()?;
    assert_eq!(starts(&broker)?, [10, 10, 10]);
    Ok(())
}

#[test]
fn a_folder_that_refuses_every_write_keeps_neither_other_topics_nor_a_checkpoint() -> Outcome {
    let machine = Machine::new();
    let disk = machine.files.clone();
    let is_refused = Arc::new(AtomicBool::new(false));
    let refused = is_refused.clone();
    let files = Watched::files(&machine.files, move |call, path| {
        if call == "create" && path.starts_with("log/a-0") && refused.load(Ordering::SeqCst) {
            disk.fail(Fault { call: Call::Write, skip: 0, times: 1, kind: ErrorKind::PermissionDenied });
        }
    });
    let broker = old(&machine, files)?;
    producer(&broker, None)?.send(&id("c", 0), batch(&["x".repeat(2_000).as_str()]))?;
    let checkpoint = || machine.files.read(Path::new("log/recovery-point-checkpoint")).expect("a checkpoint");
    let before = checkpoint();
    is_refused.store(true, Ordering::SeqCst);
    assert!(matches!(broker.tick(), Err(LogError::Io { .. })));
    assert_eq!(starts(&broker)?[..2], [0, 10]);
    assert_ne!(checkpoint(), before);
    Ok(())
}
