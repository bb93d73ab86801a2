//! What is common to all windowed aggregations: their own stream time, and what has been emitted (semantics.md 3, 42).

use millstream_core::{NO_TIME, TaskBuilder, TaskContext, TimeSlot, Timestamp};

use crate::windows::EmitStrategy;

/// The two times of a windowed aggregation; committed with the offsets.
#[derive(Clone, Copy)]
pub(crate) struct WindowClock {
    stream_time: TimeSlot,
    closed: TimeSlot,
}

impl WindowClock {
    /// The clock of an input of an aggregation. Every input of a cogroup keeps a time of its own; but where windows are passed
    /// on once, all go by one, or the input that is ahead would let go what the others still have to add to.
    pub(crate) fn name(store: &str, input: usize, emit: EmitStrategy) -> String {
        format!("{store}.{}", if emit == EmitStrategy::OnWindowClose { 0 } else { input })
    }

    pub(crate) fn new(task: &mut TaskBuilder<'_>, store: &str) -> Self {
        WindowClock {
            stream_time: task.time(&format!("{store}.stream-time")),
            closed: task.time(&format!("{store}.closed")),
        }
    }

    /// Takes a record's time into account and returns the largest so far.
    #[inline]
    pub(crate) fn observe(&self, cx: &mut TaskContext, time: Timestamp) -> Timestamp {
        cx.advance_time(self.stream_time, time)
    }

    /// The close time up to which windows were emitted; `None` before the first.
    pub(crate) fn closed(&self, cx: &TaskContext) -> Option<Timestamp> {
        Some(cx.time(self.closed)).filter(|closed| *closed != NO_TIME)
    }

    /// The close time up to which windows were emitted, if `close_time` is beyond it; it is then the new one.
    pub(crate) fn close(&self, cx: &mut TaskContext, close_time: Timestamp) -> Option<Option<Timestamp>> {
        let last = self.closed(cx);
        if close_time < 0 || last.is_some_and(|last| last >= close_time) {
            return None;
        }
        cx.set_time(self.closed, close_time);
        Some(last)
    }
}
