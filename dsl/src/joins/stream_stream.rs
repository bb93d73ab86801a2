//! Stream-stream joins: inner, left, outer, over a window of time (semantics.md 19 to 26).
//!
//! ```text
//!   record ─► waiting records whose windows have closed leave ─► the other side's records within the window join it
//!          ─► without a partner it waits, or leaves at once if its window is over ─► it is kept for the other side
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Error, Port, Record, Result, StoreId};

use crate::failure::{BoxError, Failure, sure};
use crate::joins::held::HeldRows;
use crate::joins::join_rows::JoinRows;
use crate::joins::join_side::{JoinSide, JoinTime, LeftSide, RightSide};
use crate::joins::self_join;
use crate::joins::stream_joined::{LateSide, StreamJoined};
use crate::keys::Keys;
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
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&V::NonNull, &W::NonNull) -> O + Send + Sync + 'static,
    ) -> KStream<K::NonNull, O> {
        let join = move |_: &K::NonNull, left: &V::NonNull, right: &W::NonNull| sure(f(left, right));
        self.inner_join(name, other, windows.into(), join)
    }

    /// As [`KStream::join`], with a function that may fail: `processing.exception.handler` decides then. Further partners
    /// are left out; the record stays for those to come.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, i64>("right"));
    /// left.try_join("sums", &right, JoinWindows::of(MIN), |l, r| l.parse::<i64>().map(|l| l + r)).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// right.pipe_at(0, "a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe_at(0, "a", text));
    /// assert_eq!(out.read(), [kv("a", 11), kv("a", 13)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join<W: Data, O: Clone + 'static, E: Into<BoxError>>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&V::NonNull, &W::NonNull) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K::NonNull, O> {
        let join = move |_: &K::NonNull, left: &V::NonNull, right: &W::NonNull| f(left, right).map_err(Error::user);
        self.inner_join(name, other, windows.into(), join)
    }

    pub(super) fn inner_join<W: Data, O: Clone + 'static, E: Failure + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        joined: StreamJoined<K, V, W>,
        f: impl Fn(&K::NonNull, &V::NonNull, &W::NonNull) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K::NonNull, O> {
        let join = move |key: K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| {
            let (Some(key), Some(left), Some(right)) = (key.into_non_null(), left, right) else { return Ok(None) };
            f(&key, left, right).map(|joined| Some((key, joined)))
        };
        let left = self.keyed(&format!("{name}-left"));
        if self.is_same(other) {
            return self_join::add::<K, V, W, _, _, _>(&left, name, joined, join);
        }
        let right = other.keyed(&format!("{name}-right"));
        StreamJoin { name, windows: joined.windows, left_outer: false, right_outer: false }.add(
            &left,
            &right,
            joined.late(&left, &right),
            join,
        )
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
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&V::NonNull, Option<&W::NonNull>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let join = move |_: &K, left: &V::NonNull, right: Option<&W::NonNull>| sure(f(left, right));
        self.join_left(name, other, windows.into(), join)
    }

    /// As [`KStream::left_join`], with a function that may fail; as [`KStream::try_join`].
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, i64>("right"));
    /// let sum = |l: &String, r: Option<&i64>| l.parse::<i64>().map(|l| l + r.unwrap_or(&0));
    /// left.try_left_join("sums", &right, JoinWindows::of(MIN), sum).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// right.pipe_at(0, "a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe_at(0, "a", text));
    /// assert_eq!(out.read(), [kv("a", 11), kv("a", 13)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join<W: Data, O: Clone + 'static, E: Into<BoxError>>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&V::NonNull, Option<&W::NonNull>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let join = move |_: &K, left: &V::NonNull, right: Option<&W::NonNull>| f(left, right).map_err(Error::user);
        self.join_left(name, other, windows.into(), join)
    }

    pub(super) fn join_left<W: Data, O: Clone + 'static, E: Failure + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        joined: StreamJoined<K, V, W>,
        f: impl Fn(&K, &V::NonNull, Option<&W::NonNull>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let left = self.repartitioned(&format!("{name}-left"));
        let right = other.keyed(&format!("{name}-right"));
        let join = move |key: K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| {
            left.map(|left| f(&key, left, right).map(|joined| (key, joined))).transpose()
        };
        StreamJoin { name, windows: joined.windows, left_outer: true, right_outer: false }.add(
            &left,
            &right,
            joined.late(&left, &right),
            join,
        )
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
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(Option<&V::NonNull>, Option<&W::NonNull>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        self.join_both(
            name,
            other,
            windows.into(),
            move |_: &K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| sure(f(left, right)),
        )
    }

    /// As [`KStream::outer_join`], with a function that may fail; as [`KStream::try_join`].
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, i64>("right"));
    /// let sum = |l: Option<&String>, r: Option<&i64>| l.map_or(Ok(0), |l| l.parse()).map(|l: i64| l + r.unwrap_or(&0));
    /// left.try_outer_join("sums", &right, JoinWindows::of(MIN), sum).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// right.pipe_at(0, "a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe_at(0, "a", text));
    /// assert_eq!(out.read(), [kv("a", 11), kv("a", 13)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_outer_join<W: Data, O: Clone + 'static, E: Into<BoxError>>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(Option<&V::NonNull>, Option<&W::NonNull>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        self.join_both(
            name,
            other,
            windows.into(),
            move |_: &K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| f(left, right).map_err(Error::user),
        )
    }

    pub(super) fn join_both<W: Data, O: Clone + 'static, E: Failure + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        joined: StreamJoined<K, V, W>,
        f: impl Fn(&K, Option<&V::NonNull>, Option<&W::NonNull>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let left = self.repartitioned(&format!("{name}-left"));
        let right = other.repartitioned(&format!("{name}-right"));
        let join = move |key: K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| {
            f(&key, left, right).map(|joined| Some((key, joined)))
        };
        StreamJoin { name, windows: joined.windows, left_outer: true, right_outer: true }.add(
            &left,
            &right,
            joined.late(&left, &right),
            join,
        )
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
    fn add<K: Data, V: Data, W: Data, K2: Clone + 'static, O: Clone + 'static, E: Failure + 'static>(
        &self,
        left: &KStream<K, V>,
        right: &KStream<K, W>,
        (late_left, late_right): (LateSide<K, V>, LateSide<K, W>),
        f: impl Fn(K, Option<&V::NonNull>, Option<&W::NonNull>) -> Result<Option<(K2, O)>, E> + Send + Sync + 'static,
    ) -> KStream<K2, O> {
        let (builder, name, retention) = (&left.builder, self.name, self.windows.retention());
        builder.same_program(&right.builder, &format!("join `{name}`"));
        builder.warn_of_windows_of_no_time(name, self.windows);
        builder.no_bad_duration(&format!("join `{name}`"), self.windows.bad);
        let names = ["left", "right", "held"].map(|part| Arc::<str>::from(format!("{name}-{part}")));
        let stores = Stores {
            windows: self.windows,
            left: (JoinRows::<V::NonNull>::add::<K>(builder, &names[0], retention), names[0].clone()),
            right: (JoinRows::<W::NonNull>::add::<K>(builder, &names[1], retention), names[1].clone()),
            held: self
                .left_outer
                .then(|| (HeldRows::<K, V::NonNull, W::NonNull>::add(builder, &names[2]), names[2].clone())),
            // Other operators may have the name, each with times of their own.
            time: format!("{name}.joined.stream-time").into(),
        };
        let ids: Vec<StoreId> = [Some(stores.left.0), Some(stores.right.0), stores.held.as_ref().map(|h| h.0)]
            .into_iter()
            .flatten()
            .collect();
        let node = builder.looking_node("KSTREAM-JOIN", &[left.node, right.node], &ids);
        builder.make(stores.left.0, left.node);
        builder.make(stores.right.0, right.node);
        if let Some((held, _)) = &stores.held {
            builder.make(*held, left.node);
            builder.make(*held, right.node);
        }
        late_left.iter().for_each(|late| late.follow(left, node));
        late_right.iter().for_each(|late| late.follow(right, node));
        let port: Port<Record<K2, O>> = builder.port();
        let f = Arc::new(f);
        let (out, join, of, outer) = (port.clone(), f.clone(), stores.clone(), self.left_outer);
        left.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            if let Some((id, name)) = &of.held {
                let held = HeldRows::<K, V::NonNull, W::NonNull>::open(task, *id, name, of.windows);
                let (time, f, down) = (task.time(&of.time), join.clone(), task.open_shared(&out));
                task.lifecycle(node, Rc::new(RefCell::new(JoinTime { node, held, time, f, down })));
            }
            Box::new(JoinSide::<LeftSide, K, V, V::NonNull, W::NonNull, _, K2, O> {
                node,
                keys: Keys::new(&of.left.1),
                own: JoinRows::open(task, of.left.0, &of.left.1),
                other: JoinRows::open(task, of.right.0, &of.right.1),
                held: of.held.as_ref().map(|(id, name)| HeldRows::open(task, *id, name, of.windows)),
                windows: of.windows,
                before: of.windows.before,
                after: of.windows.after,
                outer,
                time: task.time(&of.time),
                f: join.clone(),
                late: late_left.as_ref().map(|late| late.open(task)),
                down,
                side: PhantomData,
            })
        });
        let (out, join, of, outer) = (port.clone(), f.clone(), stores.clone(), self.right_outer);
        right.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            Box::new(JoinSide::<RightSide, K, W, V::NonNull, W::NonNull, _, K2, O> {
                node,
                keys: Keys::new(&of.right.1),
                own: JoinRows::open(task, of.right.0, &of.right.1),
                other: JoinRows::open(task, of.left.0, &of.left.1),
                held: of.held.as_ref().map(|(id, name)| HeldRows::open(task, *id, name, of.windows)),
                windows: of.windows,
                before: of.windows.after,
                after: of.windows.before,
                outer,
                time: task.time(&of.time),
                f: join.clone(),
                late: late_right.as_ref().map(|late| late.open(task)),
                down,
                side: PhantomData,
            })
        });
        let sources: BTreeSet<_> = left.sources.union(&right.sources).copied().collect();
        builder.copartition(&format!("join `{name}`"), sources.clone());
        KStream { builder: builder.clone(), node, port, key_changed: false, sources: Arc::new(sources) }
    }
}
