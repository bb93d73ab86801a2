//! Punctuation: work that is due by stream time or by the wall clock (semantics.md 59, 60).

use std::cell::RefCell;
use std::rc::Rc;

use crate::context::{TaskContext, TimeSlot};
use crate::error::Result;
use crate::time::Timestamp;

/// Which clock a punctuation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The task's stream time: first with the first record, then at multiples of the interval.
    StreamTime,
    /// The wall clock: first one interval after the start.
    WallClockTime,
}

/// A node with punctuations; `token` says which of them is due.
pub trait Punctuate {
    /// Does what is due at `time`: the stream time or the wall clock, not the time it was due.
    ///
    /// # Errors
    /// Whatever the node or an operator below returns.
    fn punctuate(&mut self, cx: &mut TaskContext, time: Timestamp, token: usize) -> Result<()>;
}

/// One repeated punctuation of a task.
pub(crate) struct Schedule {
    pub(crate) kind: PunctuationType,
    pub(crate) interval: Timestamp,
    pub(crate) next: TimeSlot,
    pub(crate) node: Rc<RefCell<dyn Punctuate>>,
    pub(crate) token: usize,
}

/// When a punctuation that was due at `due` and fires at `now` is due again: missed ones are not made up for.
pub(crate) fn next_due(due: Timestamp, now: Timestamp, interval: Timestamp) -> Timestamp {
    let next = due + interval;
    if now < next { next } else { due + ((now - due) / interval + 1) * interval }
}

/// Fires what is due of one kind; returns whether anything was.
pub(crate) fn fire(
    schedules: &[Schedule],
    kind: PunctuationType,
    now: Timestamp,
    cx: &mut TaskContext,
) -> Result<bool> {
    let mut fired = false;
    // The earliest first, as Kafka's queue does; a punctuation may be due again only at a later `now`.
    while let Some(schedule) =
        schedules.iter().filter(|s| s.kind == kind && cx.time(s.next) <= now).min_by_key(|s| cx.time(s.next))
    {
        let next = next_due(cx.time(schedule.next), now, schedule.interval);
        cx.set_time(schedule.next, next);
        cx.counters.punctuate += 1;
        cx.has_record = false;
        schedule.node.borrow_mut().punctuate(cx, now, schedule.token)?;
        fired = true;
    }
    Ok(fired)
}

/// When the next punctuation of a kind is due; the end of time if there is none.
pub(crate) fn earliest(schedules: &[Schedule], kind: PunctuationType, cx: &TaskContext) -> Timestamp {
    schedules.iter().filter(|s| s.kind == kind).map(|s| cx.time(s.next)).min().unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::next_due;

    #[test]
    fn a_jump_fires_once_and_keeps_to_multiples() {
        assert_eq!(next_due(0, 3, 10), 10);
        assert_eq!(next_due(10, 10, 10), 20);
        assert_eq!(next_due(20, 47, 10), 50);
        assert_eq!(next_due(50, 50, 10), 60);
    }
}
