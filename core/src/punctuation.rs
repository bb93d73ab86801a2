//! Punctuation: work that is due by stream time or by the wall clock (semantics.md 59, 60).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::context::{TaskContext, TimeSlot};
use crate::error::Result;
use crate::time::{END_OF_TIME, Timestamp};

/// Which clock a punctuation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The task's stream time: first with the first record, then at multiples of the interval.
    StreamTime,
    /// The wall clock: first one interval after the start.
    WallClockTime,
}

/// When a punctuation is to fire first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstTime {
    /// As its [`PunctuationType`] says.
    Usual,
    /// At this time; one that is past only aligns it.
    At(Timestamp),
}

/// A node with punctuations; `token` says which of them is due.
pub trait Punctuate {
    /// Does what is due at `time`: the stream time or the wall clock, not the time it was due.
    ///
    /// # Errors
    /// Whatever the node or an operator below returns.
    fn punctuate(&mut self, cx: &mut TaskContext, time: Timestamp, token: usize) -> Result<()>;
}

/// One repeated punctuation of a task. The node that is called may hold it too, to start and to stop it.
#[derive(Debug)]
pub struct Punctuation {
    kind: PunctuationType,
    interval: Timestamp,
    /// When it fires next; the end of time while it is stopped.
    due: Cell<Timestamp>,
    /// Whether it has fired in the round under way.
    has_fired: Cell<bool>,
}

impl Punctuation {
    /// One that is stopped.
    pub fn new(kind: PunctuationType, interval: Duration) -> Self {
        let interval = Timestamp::try_from(interval.as_millis()).unwrap_or(Timestamp::MAX / 8).max(1);
        Punctuation { kind, interval, due: Cell::new(END_OF_TIME), has_fired: Cell::new(false) }
    }

    /// Starts it now, also one that runs: what was due is forgotten.
    pub fn start(&self, cx: &mut TaskContext, first: FirstTime) {
        let now = match self.kind {
            PunctuationType::StreamTime => cx.stream_time(),
            PunctuationType::WallClockTime => cx.wall_time(),
        };
        let due = match (first, self.kind) {
            (FirstTime::At(time), _) if time > now => time,
            (FirstTime::At(time), _) => next_due(time, now, self.interval),
            // Due since 0, so at once; but a round in which punctuations start one another has an end.
            (FirstTime::Usual, PunctuationType::StreamTime) if self.has_fired.get() => next_due(0, now, self.interval),
            (FirstTime::Usual, PunctuationType::StreamTime) => 0,
            (FirstTime::Usual, PunctuationType::WallClockTime) => now + self.interval,
        };
        self.due.set(due);
        if self.kind == PunctuationType::StreamTime {
            cx.punctuate_at = cx.punctuate_at.min(due);
        }
    }

    /// It fires no more until it is started.
    pub fn stop(&self) {
        self.due.set(END_OF_TIME);
    }

    /// Its clock and interval, in a name.
    pub(crate) fn pace(&self) -> String {
        let clock = match self.kind {
            PunctuationType::StreamTime => "stream",
            PunctuationType::WallClockTime => "wall",
        };
        format!("{clock}.{}", self.interval)
    }

    /// Whether it fires.
    pub fn is_running(&self) -> bool {
        self.due.get() != END_OF_TIME
    }
}

/// A punctuation, what it calls, and where its next time is kept between two commits.
pub(crate) struct Schedule {
    pub(crate) punctuation: Rc<Punctuation>,
    pub(crate) slot: TimeSlot,
    pub(crate) node: Rc<RefCell<dyn Punctuate>>,
    pub(crate) token: usize,
}

impl Schedule {
    /// When it fires next; the end of time while it is stopped.
    pub(crate) fn due(&self) -> Timestamp {
        self.punctuation.due.get()
    }

    /// Goes on as it was when `due` was committed.
    pub(crate) fn resume(&self, due: Timestamp) {
        self.punctuation.due.set(due);
    }
}

/// When a punctuation that was due at `due` and fires at `now` is due again: missed ones are not made up for.
pub(crate) fn next_due(due: Timestamp, now: Timestamp, interval: Timestamp) -> Timestamp {
    let next = due.saturating_add(interval);
    if now < next {
        next
    } else {
        now.saturating_add(interval - (now.wrapping_sub(due) as u64 % interval as u64) as Timestamp)
    }
}

/// Fires what is due of one kind; returns whether anything was.
pub(crate) fn fire(
    schedules: &[Schedule],
    kind: PunctuationType,
    now: Timestamp,
    cx: &mut TaskContext,
) -> Result<bool> {
    let mut fired = false;
    let of_kind = || schedules.iter().filter(|s| s.punctuation.kind == kind);
    // The earliest first, as Kafka's queue does; one that a punctuation starts may be due in the same round.
    while let Some(schedule) = of_kind().filter(|s| s.due() <= now).min_by_key(|s| s.due()) {
        let Punctuation { interval, due, has_fired, .. } = &*schedule.punctuation;
        due.set(next_due(due.get(), now, *interval));
        has_fired.set(true);
        cx.counters.punctuate += 1;
        (cx.has_record, cx.has_passed_on) = (false, true);
        schedule.node.borrow_mut().punctuate(cx, now, schedule.token)?;
        fired = true;
    }
    of_kind().for_each(|s| s.punctuation.has_fired.set(false));
    Ok(fired)
}

/// When the next punctuation of a kind is due; the end of time if there is none.
pub(crate) fn earliest(schedules: &[Schedule], kind: PunctuationType) -> Timestamp {
    schedules.iter().filter(|s| s.punctuation.kind == kind).map(Schedule::due).min().unwrap_or(END_OF_TIME)
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, next_due};

    #[test]
    fn a_jump_fires_once_and_keeps_to_multiples() {
        assert_eq!(next_due(0, 3, 10), 10);
        assert_eq!(next_due(10, 10, 10), 20);
        assert_eq!(next_due(20, 47, 10), 50);
        assert_eq!(next_due(50, 50, 10), 60);
        // A start as far back as there is.
        assert_eq!(next_due(Timestamp::MIN, 50, 1), 51);
        assert_eq!(next_due(Timestamp::MIN, Timestamp::MAX / 2, 7), Timestamp::MAX / 2 + 3);
    }
}
