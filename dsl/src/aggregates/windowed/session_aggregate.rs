//! The node of an aggregation in sessions (semantics.md 41, 42).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Forward, Headers, Lifecycle, NodeId, Record, Result, TaskContext, Timestamp,
};
use millstream_state::{Entry, KeyRows, SessionBounds};

use super::close::{CloseSpan, WindowClock};
use super::lent::Lent;
use super::spec::WindowSpec;
use super::store::TimedStore;
use crate::failure::Failure;
use crate::late::{Late, pass_on_in};
use crate::windows::{EmitStrategy, SessionWindows, Window, Windowed};

/// The node: sessions that begin, grow, merge and close, and late records.
pub(super) struct SessionAggregate<K: Data, V, A: Data, F, M> {
    pub(super) node: NodeId,
    pub(super) rows: TimedStore<SessionBounds, K, A>,
    pub(super) clock: WindowClock,
    pub(super) functions: (Arc<F>, Arc<M>),
    pub(super) spec: WindowSpec<SessionWindows>,
    pub(super) send_old: bool,
    /// How much longer rows are kept than a record can need, if there are other inputs.
    pub(super) spare: Option<Timestamp>,
    pub(super) late: Option<Late<Windowed<K>, V>>,
    pub(super) down: Downstream<Record<Windowed<K>, Change<A>>>,
}

/// A session that grew.
struct Grown<A> {
    from: SessionBounds,
    to: SessionBounds,
    old: Option<A>,
    new: Option<A>,
}

/// The first end of sessions that are open behind a close time.
fn first_open(last: Option<Timestamp>) -> Timestamp {
    last.unwrap_or(0).max(0)
}

/// The first place of sessions that a record at a time can reach: they end a gap before it, or later.
fn first_reached(time: Timestamp, gap: Timestamp) -> SessionBounds {
    SessionBounds { end: time - gap, start: Timestamp::MIN }
}

/// The session of one record.
fn point(time: Timestamp) -> SessionBounds {
    SessionBounds { end: time, start: time }
}

/// It is called by its input and by time.
pub(super) struct SharedSessions<N>(pub(super) Rc<RefCell<N>>);

impl<K, V, A, E, F, M> Forward<Record<K, V>> for SharedSessions<SessionAggregate<K, V, A, F, M>>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
    M: Fn(&K, Option<A>, A) -> Result<Option<A>, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        let close_time = node.observe(cx, record.timestamp) - node.spec.windows.grace - node.spec.windows.gap;
        let may_close = E::POSSIBLE && node.spec.emit == EmitStrategy::OnWindowClose;
        let headers = if may_close { record.headers.clone() } else { Headers::new() };
        let late = node.process(cx, record, close_time).or_else(|error| {
            cx.failed(node.node, error)?;
            node.emit_closed(cx, close_time, &headers).map(|()| None)
        })?;
        late.map_or(Ok(()), |late| {
            let (start, end) = (late.timestamp, late.timestamp);
            pass_on_in(cx, &mut node.late, late, &[Window { start, end }])
        })
    }
}

impl<K, V, A, E, F, M> SessionAggregate<K, V, A, F, M>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
    M: Fn(&K, Option<A>, A) -> Result<Option<A>, E>,
{
    /// The time by which a record is late: another input of a cogroup may be so far on that what it needs is forgotten.
    #[inline]
    fn observe(&self, cx: &mut TaskContext, time: Timestamp) -> Timestamp {
        let now = self.clock.observe(cx, time);
        self.spare.map_or(now, |spare| now.max(self.rows.observed() - spare))
    }

    /// Gives a record back that is late.
    fn process(
        &mut self,
        cx: &mut TaskContext,
        record: Record<K, V>,
        close_time: Timestamp,
    ) -> Result<Option<Record<K, V>>> {
        let Record { key, value, timestamp: time, headers } = record;
        // What may fail is computed before anything is moved.
        let rows = self.rows.rows_from(&key, point(time), first_reached(time, self.spec.windows.gap))?;
        let grown = if E::POSSIBLE { None } else { self.grow(rows, &key, &value, time, close_time)? };
        if let Some(Grown { from, to, old, new }) = grown {
            // The session of the record's own point is changed in place.
            let old = if from == point(time) {
                old
            } else {
                self.pass_on(cx, key.clone(), from, Change { old, new: None })?;
                None
            };
            self.pass_on(cx, key, to, Change { old, new })?;
            return self.emit_closed(cx, close_time, &headers).map(|()| None);
        }
        let late = self.merge(cx, rows, &key, value, time, close_time)?;
        self.emit_closed(cx, close_time, &headers)?;
        Ok(late.map(|value| Record { key, value, timestamp: time, headers }))
    }

    /// The usual record grows the newest session of its key and reaches no other: one row, changed in place. `None` if this
    /// is not such a record.
    #[inline]
    fn grow(
        &mut self,
        rows: KeyRows,
        key: &K,
        value: &V,
        time: Timestamp,
        close_time: Timestamp,
    ) -> Result<Option<Grown<A>>> {
        let (gap, send_old, functions) = (self.spec.windows.gap, self.send_old, &self.functions);
        let open = self.spec.windows.open_from(close_time);
        let mut from = point(time);
        let to = |newest: SessionBounds, before: Option<SessionBounds>| {
            let alone = before.is_none_or(|before| before.end < time - gap);
            from = newest;
            let is_open = newest.end.min(time) >= open;
            let to = newest.with(point(time));
            Some(to).filter(|to| alone && is_open && newest.reaches(time, gap) && to.end >= close_time)
        };
        let changed = self.rows.move_newest(rows, to, |grown, entry| {
            let stored = entry.value.take();
            let old = if send_old { stored.clone() } else { None };
            let sum = stored.map_or(Ok(None), |stored| functions.1(key, None, stored))?;
            let new = functions.0(key, Lent::To(value), sum)?;
            *entry = Entry { value: new.clone(), timestamp: grown.end };
            Ok((grown, old, new))
        });
        let grown = changed.transpose().map_err(E::into)?;
        Ok(grown.map(|(to, old, new)| Grown { from, to, old, new }))
    }

    /// Any record: the sessions that it reaches go, and one comes that holds them all. Gives the value back if it is late.
    fn merge(
        &mut self,
        cx: &mut TaskContext,
        rows: KeyRows,
        key: &K,
        value: V,
        time: Timestamp,
        close_time: Timestamp,
    ) -> Result<Option<V>> {
        let gap = self.spec.windows.gap;
        // Sessions that end at or after time - gap and start at or before time + gap; ordered by end, then start.
        let from = first_reached(time, gap);
        let to = SessionBounds { end: Timestamp::MAX, start: Timestamp::MAX };
        let mut found = self.rows.fetch_at(rows, from..=to);
        found.retain(|(bounds, _, _)| bounds.reaches(time, gap));
        if self.spec.windows.strict_end && !self.leave_closed(&mut found, time, close_time) {
            cx.drop_late_record();
            return Ok(Some(value));
        }
        let (f, merge) = &self.functions;
        let (mut merged, mut sum) = (point(time), None);
        for (bounds, value, _) in &found {
            sum = merge(key, sum, value.clone()).map_err(E::into)?;
            merged = merged.with(*bounds);
        }
        if merged.end < close_time {
            cx.drop_late_record();
            return Ok(Some(value));
        }
        let new = f(key, Lent::Last(value), sum).map_err(E::into)?;
        let mut own = None;
        if merged == point(time) {
            own = found.pop().map(|(_, old, _)| old);
        } else {
            for (bounds, old, _) in found {
                self.rows.change_at(rows, bounds, |entry| *entry = Entry { value: None, timestamp: bounds.end })?;
                self.pass_on(cx, key.clone(), bounds, Change { old: Some(old), new: None })?;
            }
        }
        let entry = Entry { value: new.clone(), timestamp: merged.end };
        self.rows.change_at(rows, merged, |row| *row = entry)?;
        self.pass_on(cx, key.clone(), merged, Change { old: own, new })?;
        Ok(None)
    }

    /// With a strict end a record merges no session that has closed (semantics.md 47). `false` if it would make an open one reach
    /// over such a session, or over a place where the store may have forgotten one: only a record that is late by itself can,
    /// since what has closed ends before all others.
    fn leave_closed(
        &self,
        found: &mut Vec<(SessionBounds, A, Timestamp)>,
        time: Timestamp,
        close_time: Timestamp,
    ) -> bool {
        let reaches_over = found.iter().any(|(session, ..)| (time..close_time).contains(&session.end));
        found.retain(|(session, ..)| session.end >= close_time);
        !reaches_over && (self.rows.is_live(point(time)) || found.iter().any(|(session, ..)| session.start <= time))
    }

    /// A session's result has the time of its end and no headers (semantics.md 39).
    fn pass_on(&mut self, cx: &mut TaskContext, key: K, bounds: SessionBounds, mut change: Change<A>) -> Result<()> {
        if !self.clock.passes_on(cx, bounds.start) {
            return Ok(());
        }
        if !self.send_old {
            change.old = None;
        }
        let key = Windowed { key, window: Window { start: bounds.start, end: bounds.end } };
        self.down.forward(cx, Record::new(key, change, bounds.end))
    }

    fn emit_closed(&mut self, cx: &mut TaskContext, close_time: Timestamp, headers: &Headers) -> Result<()> {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Ok(());
        }
        let Some(span) = self.clock.close(cx, close_time) else { return Ok(()) };
        self.emit(cx, span, headers)
    }

    fn emit(&mut self, cx: &mut TaskContext, span: CloseSpan, headers: &Headers) -> Result<()> {
        // The end is inclusive: a session closes when its end is passed.
        let mut closing = self.rows.closing(first_open(span.after)..=span.up_to - 1)?;
        while let Some(rows) = self.rows.closed(&mut closing)? {
            for (bounds, key, value, _) in rows.into_iter().filter(|(bounds, ..)| bounds.start > span.begun_after) {
                let key = Windowed { key, window: Window { start: bounds.start, end: bounds.end } };
                let value = Change { old: None, new: Some(value) };
                let record = Record { key, value, timestamp: bounds.end, headers: headers.clone() };
                cx.passing_on(|cx| self.down.forward(cx, record))?;
            }
        }
        Ok(())
    }
}

impl<K, V, A, E, F, M> Lifecycle for SessionAggregate<K, V, A, F, M>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
    M: Fn(&K, Option<A>, A) -> Result<Option<A>, E>,
{
    fn due(&self, cx: &TaskContext) -> Timestamp {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Timestamp::MAX;
        }
        let SessionWindows { gap, grace, .. } = self.spec.windows;
        let open = first_open(self.clock.closed(cx));
        // What cannot be read now is due: then it is read again, and the failure told.
        let first = self.rows.first_from(open).unwrap_or(Some(open));
        first.map_or(Timestamp::MAX, |end| end + 1 + gap + grace)
    }

    fn on_time(&mut self, cx: &mut TaskContext, time: Timestamp) -> Result<()> {
        let SessionWindows { gap, grace, .. } = self.spec.windows;
        let now = self.clock.observe(cx, time);
        self.emit_closed(cx, now - grace - gap, &Headers::new())
    }

    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        match self.clock.end(cx) {
            Some(span) => self.emit(cx, span, &Headers::new()),
            None => Ok(()),
        }
    }
}
