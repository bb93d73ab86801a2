//! The node of an aggregation in windows of a fixed size (semantics.md 35, 37, 42, 45).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Forward, Headers, Lifecycle, NodeId, Record, Result, TaskContext, Timestamp,
};
use millstream_state::{Entry, KeyRows, WindowStart};

use super::close::{CloseSpan, WindowClock};
use super::fixed_windows::FixedWindows;
use super::lent::Lent;
use super::spec::WindowSpec;
use super::store::TimedStore;
use crate::failure::Failure;
use crate::late::{Late, copy_if, pass_on_in};
use crate::windows::{EmitStrategy, Windowed};

/// The node: a fold per window, late records, and what closes.
pub(super) struct WindowAggregate<K: Data, V, A: Data, F> {
    pub(super) node: NodeId,
    pub(super) rows: TimedStore<WindowStart, K, A>,
    pub(super) clock: WindowClock,
    pub(super) f: Arc<F>,
    pub(super) spec: WindowSpec<FixedWindows>,
    pub(super) send_old: bool,
    /// How much longer rows are kept than a record can need, if there are other inputs.
    pub(super) spare: Option<Timestamp>,
    pub(super) late: Option<Late<Windowed<K>, V>>,
    /// The rows of the key of the record under way.
    pub(super) found: Option<KeyRows>,
    /// What the record under way has changed, if a function may yet fail on another of its windows.
    pub(super) steps: Vec<Step<A>>,
    /// What was in the windows before.
    pub(super) undo: Vec<(Timestamp, Entry<A>)>,
    pub(super) down: Downstream<Record<Windowed<K>, Change<A>>>,
}

/// What a record does to one of its windows.
pub(super) struct Step<A> {
    pub(super) start: Timestamp,
    pub(super) change: Change<A>,
    pub(super) time: Timestamp,
}

/// It is called by its input and by time.
pub(super) struct SharedAggregate<N>(pub(super) Rc<RefCell<N>>);

impl<K, V, A, E, F> Forward<Record<K, V>> for SharedAggregate<WindowAggregate<K, V, A, F>>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
{
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        if node.spec.windows.leaves_nulls_out() && record.value.as_non_null().is_none() {
            // It does not even move the operator's time.
            cx.drop_record();
            return Ok(());
        }
        let close_time = node.observe(cx, record.timestamp) - node.spec.windows.grace();
        let late = copy_if(&node.late, &record, || node.spec.windows.is_late(record.timestamp, close_time));
        let may_close = E::POSSIBLE && node.spec.emit == EmitStrategy::OnWindowClose;
        let headers = if may_close { record.headers.clone() } else { Headers::new() };
        node.process(cx, record, close_time).or_else(|error| {
            node.take_back()?;
            cx.failed(node.node, error)?;
            // Its time has come all the same, and what it closes may be forgotten with the next commit.
            node.emit_closed(cx, close_time, &headers)
        })?;
        late.map_or(Ok(()), |late| {
            let missed = node.spec.windows.missed(late.timestamp, close_time);
            pass_on_in(cx, &mut node.late, late, &missed)
        })
    }
}

impl<K, V, A, E, F> WindowAggregate<K, V, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
{
    /// The time by which a record is late: that of the inputs that it goes by, or that of rows that are forgotten, which
    /// another input of a cogroup may be further on with.
    #[inline]
    fn observe(&self, cx: &mut TaskContext, time: Timestamp) -> Timestamp {
        let now = self.clock.observe(cx, time);
        self.spare.map_or(now, |spare| now.max(self.rows.observed() - spare))
    }

    fn process(&mut self, cx: &mut TaskContext, record: Record<K, V>, close_time: Timestamp) -> Result<()> {
        self.found = None;
        if E::POSSIBLE {
            // What a panic has left.
            self.steps.clear();
            self.undo.clear();
        }
        match self.spec.windows {
            FixedWindows::Time(windows) => {
                let mut starts = windows.starts(record.timestamp);
                let Some(mut last) = starts.next() else { return self.emit_closed(cx, close_time, &record.headers) };
                for next in starts {
                    self.fold_into(cx, &record, last, None, last + windows.size > close_time)?;
                    last = next;
                }
                // The last window takes what the others have copied.
                let Record { key, value, timestamp, headers } = record;
                if last + windows.size <= close_time {
                    cx.drop_late_record();
                } else {
                    let step = self.update(&key, Lent::Last(value), timestamp, last, None)?;
                    self.pass_steps_on(cx, &key, &headers)?;
                    if self.clock.passes_on(cx, last) {
                        return self.pass_on(cx, key, headers, step);
                    }
                }
                return self.emit_closed(cx, close_time, &headers);
            }
            FixedWindows::Sliding(windows) => {
                if record.timestamp + windows.difference < close_time {
                    cx.drop_late_record();
                    return Ok(());
                }
                if record.timestamp < windows.difference {
                    self.slide_early(cx, &record, windows.difference, close_time)?;
                } else {
                    self.slide(cx, &record, windows.difference, close_time)?;
                }
                self.pass_steps_on(cx, &record.key, &record.headers)?;
            }
            FixedWindows::Unlimited(windows) if record.timestamp < windows.start => return Ok(()),
            FixedWindows::Unlimited(windows) => {
                let Record { key, value, timestamp, headers } = record;
                let step = self.update(&key, Lent::Last(value), timestamp, windows.start, None)?;
                self.undo.clear();
                return self.pass_on(cx, key, headers, step);
            }
        }
        self.emit_closed(cx, close_time, &record.headers)
    }

    /// A fold step on one of the windows of a record, if it is still open; `from` as in `update`.
    pub(super) fn fold_into(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        start: Timestamp,
        from: Option<Option<(A, Timestamp)>>,
        is_open: bool,
    ) -> Result<()> {
        if !is_open {
            cx.drop_late_record();
            return Ok(());
        }
        let step = self.update(&record.key, Lent::To(&record.value), record.timestamp, start, from)?;
        self.done(cx, record, step)
    }

    /// Passes a step on; if a function may yet fail on the record, when it has not.
    pub(super) fn done(&mut self, cx: &mut TaskContext, record: &Record<K, V>, step: Step<A>) -> Result<()> {
        if E::POSSIBLE {
            self.steps.push(step);
            return Ok(());
        }
        self.pass_copy_on(cx, &record.key, &record.headers, step)
    }

    /// Every window has taken the record.
    fn pass_steps_on(&mut self, cx: &mut TaskContext, key: &K, headers: &Headers) -> Result<()> {
        if !E::POSSIBLE {
            return Ok(());
        }
        self.undo.clear();
        let mut steps = std::mem::take(&mut self.steps);
        let passed = steps.drain(..).try_for_each(|step| self.pass_copy_on(cx, key, headers, step));
        self.steps = steps;
        passed
    }

    /// A function failed on one of the record's windows: it is in none of them.
    #[cold]
    fn take_back(&mut self) -> Result<()> {
        self.steps.clear();
        let (Some(found), rows) = (self.found, &self.rows) else { return Ok(()) };
        // The last first: a record may open a window twice.
        let mut undo = self.undo.drain(..).rev();
        undo.try_for_each(|(start, was)| rows.change_at(found, WindowStart(start), |row| *row = was))
    }

    /// Passes a change on that a record brought which is needed further, unless that is done when the window closes.
    fn pass_copy_on(&mut self, cx: &mut TaskContext, key: &K, headers: &Headers, step: Step<A>) -> Result<()> {
        if !self.clock.passes_on(cx, step.start) {
            return Ok(());
        }
        self.pass_on(cx, key.clone(), headers.clone(), step)
    }

    /// The rows of the record's key, of which that of a window is about to be changed.
    #[inline]
    pub(super) fn rows_of(&mut self, key: &K, start: Timestamp) -> Result<KeyRows> {
        match self.found {
            Some(rows) => Ok(rows),
            None => Ok(*self.found.insert(self.rows.rows_of(key, WindowStart(start))?)),
        }
    }

    /// One fold step on a window's row: on what is stored, or on `from` for a new window that starts with the content
    /// of another.
    fn update(
        &mut self,
        key: &K,
        value: Lent<'_, V>,
        timestamp: Timestamp,
        start: Timestamp,
        from: Option<Option<(A, Timestamp)>>,
    ) -> Result<Step<A>> {
        let rows = self.rows_of(key, start)?;
        let (f, send_old, undo) = (&self.f, self.send_old, &mut self.undo);
        let changed = self.rows.change_at(rows, WindowStart(start), |entry: &mut Entry<A>| {
            if E::POSSIBLE {
                undo.push((start, entry.clone()));
            }
            // What another window holds this one never was. It may be there: a record opens a window twice that is its own and
            // the right one of the record before it.
            let (old, stored, time) = match from {
                None => {
                    let stored = entry.value.take();
                    (if send_old { stored.clone() } else { None }, stored, entry.timestamp)
                }
                Some(from) => {
                    let (stored, time) = from.map_or((None, timestamp), |(value, time)| (Some(value), time));
                    (entry.value.take().filter(|_| send_old), stored, time)
                }
            };
            let time = if stored.is_some() { timestamp.max(time) } else { timestamp };
            let new = f(key, value, stored)?;
            *entry = Entry { value: new.clone(), timestamp: time };
            Ok(Step { start, change: Change { old, new }, time })
        })?;
        changed.map_err(E::into)
    }

    fn pass_on(&mut self, cx: &mut TaskContext, key: K, headers: Headers, step: Step<A>) -> Result<()> {
        let key = Windowed { key, window: self.spec.windows.window(step.start) };
        self.down.forward(cx, Record { key, value: step.change, timestamp: step.time, headers })
    }

    fn emit_closed(&mut self, cx: &mut TaskContext, close_time: Timestamp, headers: &Headers) -> Result<()> {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Ok(());
        }
        let Some(span) = self.clock.close(cx, close_time) else { return Ok(()) };
        self.emit(cx, span, headers)
    }

    fn emit(&mut self, cx: &mut TaskContext, span: CloseSpan, headers: &Headers) -> Result<()> {
        let mut closing = self.rows.closing(self.spec.windows.closing(span))?;
        while let Some(rows) = self.rows.closed(&mut closing)? {
            for (WindowStart(start), key, value, timestamp) in rows {
                let key = Windowed { key, window: self.spec.windows.window(start) };
                let value = Change { old: None, new: Some(value) };
                let record = Record { key, value, timestamp, headers: headers.clone() };
                cx.passing_on(|cx| self.down.forward(cx, record))?;
            }
        }
        Ok(())
    }
}

impl<K, V, A, E, F> Lifecycle for WindowAggregate<K, V, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
{
    fn due(&self, cx: &TaskContext) -> Timestamp {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Timestamp::MAX;
        }
        let windows = &self.spec.windows;
        let open = windows.first_open(self.clock.closed(cx));
        // What cannot be read now is due: then it is read again, and the failure told.
        let first = self.rows.first_from(open).unwrap_or(Some(open));
        first.map_or(Timestamp::MAX, |start| start + windows.closes_behind() + windows.grace())
    }

    fn on_time(&mut self, cx: &mut TaskContext, time: Timestamp) -> Result<()> {
        let now = self.clock.observe(cx, time);
        self.emit_closed(cx, now - self.spec.windows.grace(), &Headers::new())
    }

    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        match self.clock.end(cx) {
            Some(span) => self.emit(cx, span, &Headers::new()),
            None => Ok(()),
        }
    }
}
