//! Time as the runtime sees it: event time in records, and the injected clock.
//!
//! Nothing in the platform reads a clock on its own: a [`Clock`] comes in as an argument and is read once
//! per poll, so that a whole platform can run on virtual time.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC, as in a Kafka record; may be negative in arithmetic, never in a record.
pub type Timestamp = i64;

/// No time has been seen yet; smaller than every time of a record.
pub const NO_TIME: Timestamp = -1;

/// The latest time that a record may have: 146 million years from now. So it and the sum of a few durations stay in 64 bits.
pub const LATEST_TIME: Timestamp = Timestamp::MAX / 2;

/// The end of time: what it lets go has nothing to wait for any more. No record has it, and nothing is reckoned from it but
/// backwards.
pub const END_OF_TIME: Timestamp = Timestamp::MAX;

/// One reading of a [`Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time: what records without a time of their own get, and what wall-clock punctuation follows.
    pub wall: Timestamp,
    /// Time since an arbitrary start that never goes back: what intervals and time-outs follow.
    pub ticks: Duration,
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Reads both clocks at once.
    fn now(&self) -> Now;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: wall.as_millis() as Timestamp, ticks: self.0.elapsed() }
    }
}

/// A clock that stands still until it is moved: for the test driver, tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Duration>);

impl ManualClock {
    /// A clock that shows `wall` milliseconds.
    pub fn at(wall: Timestamp) -> Self {
        ManualClock(Mutex::new(Duration::from_millis(wall.max(0) as u64)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.lock() += by;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let ticks = *self.lock();
        Now { wall: ticks.as_millis() as Timestamp, ticks }
    }
}
