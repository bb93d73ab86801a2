//! One side of a join of streams in its task, and the part of an outer join that time reaches without a record (semantics.md
//! 19 to 26).

use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{
    Data, Downstream, END_OF_TIME, Forward, Headers, Lifecycle, NodeId, Record, Result, TaskContext, TimeSlot,
    Timestamp,
};

use crate::failure::Failure;
use crate::joins::held::{HeldRows, Leaving, Side, Values};
use crate::joins::join_rows::JoinRows;
use crate::keys::Keys;
use crate::late::{Late, copy_if, pass_on};
use crate::windows::JoinWindows;

/// What differs between the two sides.
pub(super) trait JoinFrom<L, R> {
    type This: Data<NonNull = Self::This>;
    type Other: Data<NonNull = Self::Other>;
    const SIDE: Side;
    const OTHER: Side;
    /// The joiner's arguments.
    fn pair<'a>(this: &'a Self::This, other: Option<&'a Self::Other>) -> (Option<&'a L>, Option<&'a R>);
    fn values(this: Self::This) -> Values<L, R>;
}

pub(super) struct LeftSide;
pub(super) struct RightSide;

impl<L: Data<NonNull = L>, R: Data<NonNull = R>> JoinFrom<L, R> for LeftSide {
    type This = L;
    type Other = R;
    const SIDE: Side = Side::Left;
    const OTHER: Side = Side::Right;

    fn pair<'a>(this: &'a L, other: Option<&'a R>) -> (Option<&'a L>, Option<&'a R>) {
        (Some(this), other)
    }
    fn values(this: L) -> Values<L, R> {
        Values::Left(vec![this])
    }
}

impl<L: Data<NonNull = L>, R: Data<NonNull = R>> JoinFrom<L, R> for RightSide {
    type This = R;
    type Other = L;
    const SIDE: Side = Side::Right;
    const OTHER: Side = Side::Left;

    fn pair<'a>(this: &'a R, other: Option<&'a L>) -> (Option<&'a L>, Option<&'a R>) {
        (other, Some(this))
    }
    fn values(this: R) -> Values<L, R> {
        Values::Right(vec![this])
    }
}

pub(super) struct JoinSide<S: JoinFrom<L, R>, K: Data, V, L: Data, R: Data, F, K2, O> {
    pub(super) node: NodeId,
    pub(super) keys: Keys<K>,
    pub(super) own: JoinRows<S::This>,
    pub(super) other: JoinRows<S::Other>,
    pub(super) held: Option<HeldRows<K, L, R>>,
    pub(super) windows: JoinWindows,
    pub(super) before: Timestamp,
    pub(super) after: Timestamp,
    pub(super) outer: bool,
    /// The join's own stream time, of both sides.
    pub(super) time: TimeSlot,
    pub(super) f: Arc<F>,
    pub(super) late: Option<Late<K, V>>,
    pub(super) down: Downstream<Record<K2, O>>,
    pub(super) side: PhantomData<S>,
}

impl<S, K, V, L, R, E, F, K2, O> Forward<Record<K, V>> for JoinSide<S, K, V, L, R, F, K2, O>
where
    S: JoinFrom<L, R>,
    K: Data,
    V: Data<NonNull = S::This>,
    L: Data,
    R: Data,
    E: Failure,
    F: Fn(K, Option<&L>, Option<&R>) -> Result<Option<(K2, O)>, E>,
    K2: Clone,
    O: Clone,
{
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let late = copy_if(&self.late, &record, || self.is_late(cx, &record));
        self.take(cx, record)?;
        pass_on(cx, &mut self.late, late)
    }
}

impl<S, K, V, L, R, E, F, K2, O> JoinSide<S, K, V, L, R, F, K2, O>
where
    S: JoinFrom<L, R>,
    K: Data,
    V: Data<NonNull = S::This>,
    L: Data,
    R: Data,
    E: Failure,
    F: Fn(K, Option<&L>, Option<&R>) -> Result<Option<(K2, O)>, E>,
    K2: Clone,
    O: Clone,
{
    /// Whether a record is counted as late.
    fn is_late(&self, cx: &TaskContext, record: &Record<K, V>) -> bool {
        let time = record.timestamp;
        let is_kept = record.key.as_non_null().is_some();
        record.value.as_non_null().is_some()
            && (self.windows.is_late(time, self.after, cx.time(self.time).max(time))
                || is_kept && self.windows.is_forgotten(time, self.own.catch_up(cx).max(time)))
    }

    /// Joins a record, keeps it or leaves it out.
    #[inline]
    fn take(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let now = cx.advance_time(self.time, record.timestamp);
        let Record { key, value, timestamp, headers } = record;
        let Some(value) = value.into_non_null() else {
            if key.as_non_null().is_some() {
                self.own.observe(cx, timestamp);
            }
            cx.drop_record();
            return Ok(());
        };
        if self.windows.is_late(timestamp, self.after, now) {
            cx.drop_late_record();
            return Ok(());
        }
        let met = if key.as_non_null().is_some() {
            self.meet(cx, &key, value, (timestamp, now), &headers)
        } else {
            self.pass(cx, key, &value, timestamp, headers)
        };
        met.or_else(|error| cx.failed(self.node, error))
    }

    /// A record without a key finds no partner.
    fn pass(
        &mut self,
        cx: &mut TaskContext,
        key: K,
        value: &S::This,
        timestamp: Timestamp,
        headers: Headers,
    ) -> Result<()> {
        if !self.outer {
            cx.drop_record();
            return Ok(());
        }
        let (left, right) = S::pair(value, None);
        let Some((key, value)) = (self.f)(key, left, right).map_err(E::into)? else { return Ok(()) };
        self.down.forward(cx, Record { key, value, timestamp, headers })
    }

    /// Joins a record with what is there, and keeps it for what is to come.
    #[inline]
    fn meet(
        &mut self,
        cx: &mut TaskContext,
        key: &K,
        value: S::This,
        (timestamp, now): (Timestamp, Timestamp),
        headers: &Headers,
    ) -> Result<()> {
        let (node, f, down) = (self.node, &*self.f, &mut self.down);
        let mut emit = |cx: &mut TaskContext, (left, right): (Option<&L>, Option<&R>), key: K, timestamp| {
            let Some((key, value)) = f(key, left, right).map_err(E::into)? else { return Ok(()) };
            down.forward(cx, Record { key, value, timestamp, headers: headers.clone() })
        };
        let bytes = self.keys.encode(key)?;
        if let Some(held) = self.held.as_ref().filter(|_| timestamp == now) {
            let leaving = held.close(cx, S::SIDE, now)?;
            let_go(cx, node, leaving, &mut emit)?;
        }
        self.own.catch_up(cx);
        self.other.catch_up(cx);
        let (from, to) = ((timestamp - self.before).max(0), (timestamp + self.after).max(0));
        let held = &self.held;
        let found = self.other.for_each(&bytes, from..=to, |time, other| {
            if let Some(held) = held {
                held.matched(S::OTHER, &bytes, time)?;
            }
            emit(cx, S::pair(&value, Some(other)), key.clone(), timestamp.max(time))
        });
        let met = match (found, held) {
            // Its window is over already: nothing can come any more.
            (Ok(0), _) if self.outer && self.windows.is_over(to, now) => {
                emit(cx, S::pair(&value, None), key.clone(), timestamp)
            }
            (Ok(0), Some(held)) if self.outer => {
                held.hold(cx, S::SIDE, &bytes, timestamp, S::values(value.clone()))?;
                Ok(())
            }
            (found, _) => found.map(drop),
        };
        // It waits for partners to come also when the function has failed on those that are there.
        if !self.own.put(&bytes, timestamp, value)? {
            cx.drop_late_record();
        }
        met
    }
}

/// Emits the records whose windows have closed without a partner. They have left the buffer: a failure on one is not the end
/// of the others.
fn let_go<K: Clone, L, R>(
    cx: &mut TaskContext,
    node: NodeId,
    leaving: Vec<Leaving<K, L, R>>,
    mut emit: impl FnMut(&mut TaskContext, (Option<&L>, Option<&R>), K, Timestamp) -> Result<()>,
) -> Result<()> {
    for (time, key, values) in leaving {
        let mut emit_one = |cx: &mut TaskContext, pair| {
            cx.passing_on(|cx| emit(cx, pair, key.clone(), time).or_else(|error| cx.failed(node, error)))
        };
        match values {
            Values::Left(values) => values.iter().try_for_each(|v| emit_one(cx, (Some(v), None)))?,
            Values::Right(values) => values.iter().try_for_each(|v| emit_one(cx, (None, Some(v))))?,
        }
    }
    Ok(())
}

/// The part of a left or outer join that time reaches without a record.
pub(super) struct JoinTime<K: Data, L: Data, R: Data, F, K2, O> {
    pub(super) node: NodeId,
    pub(super) held: HeldRows<K, L, R>,
    pub(super) time: TimeSlot,
    pub(super) f: Arc<F>,
    pub(super) down: Downstream<Record<K2, O>>,
}

impl<K, L, R, E, F, K2, O> Lifecycle for JoinTime<K, L, R, F, K2, O>
where
    K: Data,
    L: Data,
    R: Data,
    E: Failure,
    F: Fn(K, Option<&L>, Option<&R>) -> Result<Option<(K2, O)>, E>,
    K2: Clone,
    O: Clone,
{
    fn due(&self, _: &TaskContext) -> Timestamp {
        self.held.due()
    }

    fn on_time(&mut self, cx: &mut TaskContext, time: Timestamp) -> Result<()> {
        let now = cx.advance_time(self.time, time);
        self.let_go_until(cx, now)
    }

    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        self.let_go_until(cx, END_OF_TIME)
    }
}

impl<K, L, R, E, F, K2, O> JoinTime<K, L, R, F, K2, O>
where
    K: Data,
    L: Data,
    R: Data,
    E: Failure,
    F: Fn(K, Option<&L>, Option<&R>) -> Result<Option<(K2, O)>, E>,
    K2: Clone,
    O: Clone,
{
    fn let_go_until(&mut self, cx: &mut TaskContext, now: Timestamp) -> Result<()> {
        let leaving = self.held.close_all(cx, now)?;
        let (f, down) = (&*self.f, &mut self.down);
        let_go(cx, self.node, leaving, |cx, (left, right), key, timestamp| {
            let Some((key, value)) = f(key, left, right).map_err(E::into)? else { return Ok(()) };
            down.forward(cx, Record { key, value, timestamp, headers: Headers::new() })
        })
    }
}
