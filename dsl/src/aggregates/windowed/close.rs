//! What is common to all windowed aggregations: their own stream time, and what has been emitted (semantics.md 3, 42).

use millstream_core::{END_OF_TIME, NO_TIME, TaskBuilder, TaskContext, TimeSlot, Timestamp};

use crate::windows::EmitStrategy;

/// The times of a windowed aggregation; committed with the offsets.
#[derive(Clone, Copy)]
pub(crate) struct WindowClock {
    stream_time: TimeSlot,
    closed: TimeSlot,
    /// The stream time at the end of a bounded run, of windows that are passed on once.
    ended: Option<TimeSlot>,
}

/// Which windows are passed on, of those that are passed on once.
#[derive(Clone, Copy)]
pub(crate) struct CloseSpan {
    /// The close time up to which they were passed on before; `None` at first.
    pub(crate) after: Option<Timestamp>,
    /// The close time up to which they are now.
    pub(crate) up_to: Timestamp,
    /// What has begun by then was passed on with the end of a bounded run, and so was all that has come to it since.
    pub(crate) begun_after: Timestamp,
}

impl WindowClock {
    /// The clock of an input of an aggregation. Every input of a cogroup keeps a time of its own; but where windows are passed
    /// on once, all go by one, or the input that is ahead would let go what the others still have to add to.
    pub(crate) fn open(task: &mut TaskBuilder<'_>, store: &str, input: usize, emit: EmitStrategy) -> Self {
        let once = emit == EmitStrategy::OnWindowClose;
        let name = format!("{store}.{}", if once { 0 } else { input });
        WindowClock {
            stream_time: task.time(&format!("{name}.stream-time")),
            closed: task.time(&format!("{name}.closed")),
            ended: once.then(|| task.time(&format!("{name}.ended"))),
        }
    }

    /// Takes a record's time into account and returns the largest so far.
    #[inline]
    pub(crate) fn observe(&self, cx: &mut TaskContext, time: Timestamp) -> Timestamp {
        cx.advance_time(self.stream_time, time)
    }

    /// Whether an update of a window is passed on at once: if not all wait for their close, or if its result is known already,
    /// from the end of an earlier run.
    #[inline]
    pub(crate) fn passes_on(&self, cx: &TaskContext, start: Timestamp) -> bool {
        self.ended.is_none_or(|ended| start <= cx.time(ended))
    }

    /// The close time up to which windows were emitted; `None` before the first.
    pub(crate) fn closed(&self, cx: &TaskContext) -> Option<Timestamp> {
        Some(cx.time(self.closed)).filter(|closed| *closed != NO_TIME)
    }

    /// What a close time lets go, if it is beyond the last, which it then is.
    pub(crate) fn close(&self, cx: &mut TaskContext, close_time: Timestamp) -> Option<CloseSpan> {
        let after = self.closed(cx);
        if close_time < 0 || after.is_some_and(|after| after >= close_time) {
            return None;
        }
        cx.set_time(self.closed, close_time);
        Some(CloseSpan { after, up_to: close_time, begun_after: self.ended.map_or(NO_TIME, |ended| cx.time(ended)) })
    }

    /// What the end of a bounded run lets go: all that is open. It closes nothing, since the next run goes on with it.
    pub(crate) fn end(&self, cx: &mut TaskContext) -> Option<CloseSpan> {
        let ended = self.ended?;
        let span = CloseSpan { after: self.closed(cx), up_to: END_OF_TIME, begun_after: cx.time(ended) };
        cx.advance_time(ended, cx.time(self.stream_time));
        Some(span)
    }
}
