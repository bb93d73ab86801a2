//! Stream-stream joins: inner, left, outer, over a window of time (semantics.md 19 to 26).
//!
//! ```text
//!   record ─► waiting records whose windows have closed leave ─► the other side's records within the window join it
//!          ─► without a partner it waits, or leaves at once if its window is over ─► it is kept for the other side
//! ```

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{Data, Downstream, Forward, Port, Record, Result, StoreId, TaskContext, TimeSlot, Timestamp};

use crate::joins::held::{HeldRows, Side, Values};
use crate::joins::join_rows::JoinRows;
use crate::joins::self_join;
use crate::kstream::KStream;
use crate::windows::JoinWindows;

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins every record with the records of the other stream that have its key and a time within the window; the result
    /// has the later of both times. Records without a key or a value are left out. `name` names what the join keeps:
    /// `<name>-left`, `<name>-right`, and repartition topics of these names if keys have changed.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
    /// orders.join("paid", &payments, JoinWindows::of(10 * MIN), |order, how| format!("{order}, {how}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let payments = t.input::<String, String>("payments")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe_at(0, "o1", "hat");
    /// payments.pipe_at(600_000, "o1", "cash");
    /// payments.pipe_at(600_001, "o1", "too late");
    /// assert_eq!(out.read(), [kv("o1", "hat, cash")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join<W: Data, O: Clone + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: JoinWindows,
        f: impl Fn(&V::NonNull, &W::NonNull) -> O + Send + Sync + 'static,
    ) -> KStream<K::NonNull, O> {
        let join = move |key: K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| {
            Some((key.into_non_null()?, f(left?, right?)))
        };
        let left = self.keyed(&format!("{name}-left"));
        if self.is_same(other) {
            return self_join::add::<K, V, W, _, _>(&left, name, windows, join);
        }
        let right = other.keyed(&format!("{name}-right"));
        StreamJoin { name, windows, left_outer: false, right_outer: false }.add(&left, &right, join)
    }

    /// As [`KStream::join`]; a left record that finds no partner is joined with none when its window closes, in its own
    /// time. Left records without a key find none.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
    /// orders.left_join("paid", &payments, JoinWindows::of(10 * MIN), |order, how| format!("{order} {how:?}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let payments = t.input::<String, String>("payments")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe_at(0, "o1", "hat");
    /// assert_eq!(out.read(), []);
    /// orders.pipe_at(600_001, "o2", "bag"); // now nobody can pay for the hat in time any more
    /// assert_eq!(out.read(), [kv("o1", "hat None")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join<W: Data, O: Clone + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: JoinWindows,
        f: impl Fn(&V::NonNull, Option<&W::NonNull>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let left = self.repartitioned(&format!("{name}-left"));
        let right = other.keyed(&format!("{name}-right"));
        let join = move |key: K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| Some((key, f(left?, right)));
        StreamJoin { name, windows, left_outer: true, right_outer: false }.add(&left, &right, join)
    }

    /// As [`KStream::left_join`], for the records of both sides.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
    /// let windows = JoinWindows::of(10 * MIN);
    /// orders.outer_join("paid", &payments, windows, |order, how| format!("{order:?} {how:?}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let payments = t.input::<String, String>("payments")?;
    /// # let out = t.output::<String, String>("out")?;
    /// payments.pipe_at(0, "o1", "cash");
    /// orders.pipe_at(600_001, "o2", "bag");
    /// assert_eq!(out.read(), [kv("o1", "None Some(\"cash\")")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn outer_join<W: Data, O: Clone + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: JoinWindows,
        f: impl Fn(Option<&V::NonNull>, Option<&W::NonNull>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let left = self.repartitioned(&format!("{name}-left"));
        let right = other.repartitioned(&format!("{name}-right"));
        let join = move |key: K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| Some((key, f(left, right)));
        StreamJoin { name, windows, left_outer: true, right_outer: true }.add(&left, &right, join)
    }

    fn is_same<W: Data>(&self, other: &KStream<K, W>) -> bool {
        let other: &dyn std::any::Any = &other.port;
        other.downcast_ref::<Port<Record<K, V>>>().is_some_and(|port| port.is(&self.port))
    }
}

/// A join under construction.
struct StreamJoin<'a> {
    name: &'a str,
    windows: JoinWindows,
    left_outer: bool,
    right_outer: bool,
}

/// The names and stores of a join.
#[derive(Clone)]
struct Stores {
    windows: JoinWindows,
    left: (StoreId, Arc<str>),
    right: (StoreId, Arc<str>),
    held: Option<(StoreId, Arc<str>)>,
    time: Arc<str>,
}

impl StreamJoin<'_> {
    fn add<K: Data, V: Data, W: Data, K2: Clone + 'static, O: Clone + 'static>(
        &self,
        left: &KStream<K, V>,
        right: &KStream<K, W>,
        f: impl Fn(K, Option<&V::NonNull>, Option<&W::NonNull>) -> Option<(K2, O)> + Send + Sync + 'static,
    ) -> KStream<K2, O> {
        let (builder, name, retention) = (&left.builder, self.name, self.windows.retention());
        let names = ["left", "right", "held"].map(|part| Arc::<str>::from(format!("{name}-{part}")));
        let stores = Stores {
            windows: self.windows,
            left: (JoinRows::<K, V::NonNull>::add(builder, &names[0], retention), names[0].clone()),
            right: (JoinRows::<K, W::NonNull>::add(builder, &names[1], retention), names[1].clone()),
            held: self
                .left_outer
                .then(|| (HeldRows::<K, V::NonNull, W::NonNull>::add(builder, &names[2]), names[2].clone())),
            time: format!("{name}.stream-time").into(),
        };
        let ids: Vec<StoreId> = [Some(stores.left.0), Some(stores.right.0), stores.held.as_ref().map(|h| h.0)]
            .into_iter()
            .flatten()
            .collect();
        let node = builder.node("KSTREAM-JOIN", &[left.node, right.node], &ids);
        let port: Port<Record<K2, O>> = builder.port();
        let f = Arc::new(f);
        let (out, join, of, outer) = (port.clone(), f.clone(), stores.clone(), self.left_outer);
        left.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            Box::new(JoinSide::<LeftSide, K, V::NonNull, W::NonNull, _, K2, O> {
                own: JoinRows::open(task, of.left.0, &of.left.1),
                other: JoinRows::open(task, of.right.0, &of.right.1),
                held: of.held.as_ref().map(|(id, name)| HeldRows::open(task, *id, name, of.windows)),
                before: of.windows.before,
                after: of.windows.after,
                outer,
                time: task.time(&of.time),
                f: join.clone(),
                down,
                side: PhantomData,
            })
        });
        let (out, join, of, outer) = (port.clone(), f, stores, self.right_outer);
        right.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            Box::new(JoinSide::<RightSide, K, V::NonNull, W::NonNull, _, K2, O> {
                own: JoinRows::open(task, of.right.0, &of.right.1),
                other: JoinRows::open(task, of.left.0, &of.left.1),
                held: of.held.as_ref().map(|(id, name)| HeldRows::open(task, *id, name, of.windows)),
                before: of.windows.after,
                after: of.windows.before,
                outer,
                time: task.time(&of.time),
                f: join.clone(),
                down,
                side: PhantomData,
            })
        });
        let sources: BTreeSet<_> = left.sources.union(&right.sources).copied().collect();
        builder.copartition(&format!("join `{name}`"), sources.clone());
        KStream { builder: builder.clone(), node, port, key_changed: false, sources: Arc::new(sources) }
    }
}

/// What differs between the two sides.
trait JoinFrom<L, R> {
    type This: Data<NonNull = Self::This>;
    type Other: Data<NonNull = Self::Other>;
    const SIDE: Side;
    const OTHER: Side;
    /// The joiner's arguments.
    fn pair<'a>(this: &'a Self::This, other: Option<&'a Self::Other>) -> (Option<&'a L>, Option<&'a R>);
    fn values(this: Self::This) -> Values<L, R>;
}

struct LeftSide;
struct RightSide;

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

struct JoinSide<S: JoinFrom<L, R>, K: Data, L: Data, R: Data, F, K2, O> {
    own: JoinRows<K, S::This>,
    other: JoinRows<K, S::Other>,
    held: Option<HeldRows<K, L, R>>,
    before: Timestamp,
    after: Timestamp,
    outer: bool,
    /// The join's own stream time, of both sides.
    time: TimeSlot,
    f: Arc<F>,
    down: Downstream<Record<K2, O>>,
    side: PhantomData<S>,
}

impl<S, K, V, L, R, F, K2, O> Forward<Record<K, V>> for JoinSide<S, K, L, R, F, K2, O>
where
    S: JoinFrom<L, R>,
    K: Data,
    V: Data<NonNull = S::This>,
    L: Data,
    R: Data,
    F: Fn(K, Option<&L>, Option<&R>) -> Option<(K2, O)>,
    K2: Clone,
    O: Clone,
{
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let now = cx.advance_time(self.time, record.timestamp);
        let Record { key, value, timestamp, headers } = record;
        let (f, down) = (&*self.f, &mut self.down);
        let mut emit = |cx: &mut TaskContext, key: K, (left, right): (Option<&L>, Option<&R>), timestamp| {
            let Some((key, value)) = f(key, left, right) else { return Ok(()) };
            down.forward(cx, Record { key, value, timestamp, headers: headers.clone() })
        };
        let Some(value) = value.into_non_null() else {
            if key.as_non_null().is_some() {
                self.own.observe(cx, timestamp);
            }
            cx.drop_record();
            return Ok(());
        };
        if key.as_non_null().is_none() {
            if self.outer {
                return emit(cx, key, S::pair(&value, None), timestamp);
            }
            cx.drop_record();
            return Ok(());
        }
        if let Some(held) = self.held.as_ref().filter(|_| timestamp == now) {
            for (time, key, values) in held.close(cx, S::SIDE, now)? {
                match values {
                    Values::Left(values) => {
                        values.iter().try_for_each(|v| emit(cx, key.clone(), (Some(v), None), time))?;
                    }
                    Values::Right(values) => {
                        values.iter().try_for_each(|v| emit(cx, key.clone(), (None, Some(v)), time))?;
                    }
                }
            }
        }
        self.own.catch_up(cx);
        self.other.catch_up(cx);
        let (from, to) = ((timestamp - self.before).max(0), (timestamp + self.after).max(0));
        let held = &self.held;
        let found = self.other.for_each(&key, from..=to, |time, other| {
            if let Some(held) = held {
                held.matched(S::OTHER, &key, time)?;
            }
            emit(cx, key.clone(), S::pair(&value, Some(other)), timestamp.max(time))
        })?;
        if let Some(held) = held.as_ref().filter(|_| found == 0 && self.outer) {
            // Its window is over already: nothing can come any more.
            if to < now {
                emit(cx, key.clone(), S::pair(&value, None), timestamp)?;
            } else {
                held.hold(cx, S::SIDE, &key, timestamp, S::values(value.clone()))?;
            }
        }
        if !self.own.put(&key, timestamp, value)? {
            cx.drop_late_record();
        }
        Ok(())
    }
}
