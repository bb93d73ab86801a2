//! What is too old goes, however often the process ends, and whatever fails beside it.
//!
//! How long a segment has been there was counted anew by every process: one that ended more often than records are kept never
//! deleted any.

#[expect(dead_code, reason = "shared by several test programs")]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Outcome, batch, create, id, producer};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, Clock, LogError, ManualClock, SimFiles};

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
        Broker::open(BrokerOptions {
            durability: Durability::Os,
            files: Arc::new(self.files.clone()),
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
