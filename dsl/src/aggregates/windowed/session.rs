//! Session windows (semantics.md 35, 39 to 43).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Change, Data, Downstream, Error, Forward, Headers, Lifecycle, NodeId, Port, Record, Result, StoreFormat, StoreId,
    TaskContext, Timestamp,
};
use millstream_state::{Entry, KeyRows, SessionBounds};

use crate::aggregates::grouped::GroupedStream;
use crate::aggregates::windowed::close::WindowClock;
use crate::aggregates::windowed::spec::WindowSpec;
use crate::aggregates::windowed::store::{TimedStore, WindowedRows};
use crate::builder::StreamsBuilder;
use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, Rows};
use crate::late::{Late, LateStream, keep, pass_on, too_late};
use crate::windows::{EmitStrategy, SessionWindows, Window, Windowed};

/// A grouped stream in sessions.
pub struct SessionWindowedStream<K, V> {
    grouped: GroupedStream<K, V>,
    late: Option<Arc<LateStream<K, V>>>,
    pub(crate) spec: WindowSpec<SessionWindows>,
}

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    pub(crate) fn in_sessions(&self, windows: SessionWindows) -> SessionWindowedStream<K, V> {
        SessionWindowedStream { grouped: self.clone(), late: None, spec: WindowSpec::new(windows) }
    }
}

impl<K: Data<NonNull = K>, V: Data> SessionWindowedStream<K, V> {
    /// Keeps sessions readable for so long behind the newest, by their ends: at least gap and grace, which is the default.
    /// Less is an error of [`crate::StreamsBuilder::build`].
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, MIN, SECOND, SessionWindows, StreamsBuilder};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(SessionWindows::of(MIN)).retention(HOUR).count("long");
    /// assert!(b.build().is_ok());
    /// clicks.windowed_by(SessionWindows::of(MIN)).retention(SECOND).count("short");
    /// assert!(b.build().is_err());
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn retention(mut self, retention: Duration) -> Self {
        self.spec.keep_for(retention);
        self
    }

    /// Passes every session on once, when gap and grace are over.
    /// A run that ends with its input closes what is open with it.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Window, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(SessionWindows::of(MIN)).emit_on_close().count("visits").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [0, 50_000, 110_000].into_iter().for_each(|time| input.pipe_at(time, "ann", 5));
    /// assert_eq!(out.read(), []);
    /// input.pipe_at(170_001, "bob", 5); // more than a minute later
    /// let visit = Windowed { key: "ann".to_owned(), window: Window { start: 0, end: 110_000 } };
    /// assert_eq!(out.read(), [(visit, Some(3))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn emit_on_close(mut self) -> Self {
        self.spec.emit = EmitStrategy::OnWindowClose;
        self
    }

    /// Gives the records that come too late for a window to `use_it`, as a stream: each once, as it came, however many of
    /// its windows are over. They are counted as dropped all the same.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, SessionWindows, TopologyTestDriver};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(SessionWindows::of(MIN)).on_late(|late| late.to("too-late")).count("counts");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let late = t.output::<String, i64>("too-late")?;
    /// [(0, 1), (240_000, 2), (5, 3)].into_iter().for_each(|(time, n)| input.pipe_at(time, "a", n));
    /// assert_eq!(late.read(), [("a".to_owned(), 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn on_late(mut self, use_it: impl FnOnce(KStream<K, V>)) -> Self {
        self.late = Some(LateStream::of(self.grouped.stream(), use_it));
        self
    }

    /// Records per key and session; null values count.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(SessionWindows::of(MIN)).count("visits").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "ann", 5);
    /// input.pipe_at(60_000, "ann", 5); // the session grows: as it was it is deleted
    /// let visits: Vec<(i64, Option<i64>)> = out.read().into_iter().map(|(key, n)| (key.window.end, n)).collect();
    /// assert_eq!(visits, [(0, Some(1)), (0, None), (60_000, Some(2))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn count(&self, store: &str) -> KTable<Windowed<K>, i64> {
        self.grouped.builder().warn_of_nulls::<V>(store);
        self.fold(store, |_, _, n| sure(Some(n.unwrap_or(0) + 1)), |_, a, b| Ok(Some(a.unwrap_or(0) + b)))
    }

    /// Folds the values of a session into one of their own type. A null value adds nothing, but the session grows by it.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let rides = b.stream::<String, i64>("in").group_by_key();
    /// rides.windowed_by(SessionWindows::of(MIN)).reduce("longest", i64::max).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "ann", 5);
    /// input.pipe_at(0, "ann", 7);
    /// assert_eq!(out.read()[1].1, Some(7));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> V::NonNull + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.reduce_or_delete(store, move |sum, value| Some(f(sum, value)))
    }

    /// As [`SessionWindowedStream::reduce`], with a function that returns `None` to delete the session's row: the session itself
    /// goes on with the next record.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// amounts.reduce_or_delete("open", |sum, n| Some(sum + n).filter(|sum| *sum != 0)).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [5, -5, 3].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(5), None, Some(3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce_or_delete(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Option<V::NonNull> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.reduce_fold(store, move |sum, value| sure(f(sum, value)))
    }

    fn reduce_fold<E: Failure + 'static>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<Option<V::NonNull>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        let f = Arc::new(f);
        let merge = f.clone();
        self.fold(
            store,
            move |_, value: V, sum| match (sum, value.into_non_null()) {
                (Some(sum), Some(value)) => f(sum, value),
                (sum, value) => Ok(sum.or(value)),
            },
            move |_, a, b| match a {
                Some(a) => merge(a, b),
                None => Ok(Some(b)),
            },
        )
    }

    /// As [`SessionWindowedStream::reduce`], with a function that may fail: `processing.exception.handler` decides then, and
    /// the sessions stay as they were.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// amounts.try_reduce("sums", |sum, n| sum.checked_add(n).ok_or("too much")).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [i64::MAX, 1, -1].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(i64::MAX), Some(i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce<E: Into<BoxError>>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<V::NonNull, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.try_reduce_or_delete(store, move |sum, value| f(sum, value).map(Some))
    }

    /// As [`SessionWindowedStream::try_reduce`]; `None` deletes the session's row.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// let add = |sum: i64, n: i64| sum.checked_add(n).map(|sum| Some(sum).filter(|sum| *sum != 0)).ok_or("too much");
    /// amounts.try_reduce_or_delete("open", add).to_stream().to("out");
    /// # let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// # let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [5, i64::MAX, -5].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(5), None]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce_or_delete<E: Into<BoxError>>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<Option<V::NonNull>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.reduce_fold(store, move |sum, value| f(sum, value).map_err(Error::user))
    }

    /// Folds the values of a session into a value of another type, in place. `merge` makes one value of those of two
    /// sessions that grow together: what is merged so far, and the next.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let paid = b.stream::<String, i64>("in").group_by_key();
    /// paid.windowed_by(SessionWindows::of(MIN).grace(HOUR))
    ///     .aggregate("spent", || 0, |_, n, sum| *sum += n, |_, a, b| a + b)
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// for (time, n) in [(0, 1), (100_000, 2), (50_000, 4)] {
    ///     input.pipe_at(time, "ann", n); // the last one joins the sessions of the first two
    /// }
    /// assert_eq!(out.read().last().map(|(_, sum)| *sum), Some(Some(7)));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let fold = move |key: &K, value, mut sum: A| {
            f(key, value, &mut sum);
            sure(Some(sum))
        };
        self.fold_from(store, init, fold, move |key, a, b| Ok(Some(merge(key, a, b))))
    }

    /// As [`SessionWindowedStream::aggregate`], with functions that take and return the value; `None` deletes the session's
    /// row: the session itself goes on with the next record.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// let add = |_: &String, n: i64, sum: i64| Some(sum + n).filter(|sum| *sum != 0);
    /// amounts.aggregate_or_delete("open", || 0, add, move |key, a, b| add(key, b, a)).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [5, -5, 3].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(5), None, Some(3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate_or_delete<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let fold = move |key: &K, value, sum| sure(f(key, value, sum));
        self.fold_from(store, init, fold, move |key, a, b| Ok(merge(key, a, b)))
    }

    /// Folds with functions that may fail, and take and return the value; as [`SessionWindowedStream::try_reduce`].
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// let add = |_: &String, n: i64, sum: i64| sum.checked_add(n).ok_or("too much");
    /// amounts.try_aggregate("sums", || 0, add, move |key, a, b| add(key, b, a)).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [i64::MAX, 1, -1].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(i64::MAX), Some(i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Result<A, E> + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Result<A, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let fold = move |key: &K, value, sum| f(key, value, sum).map(Some);
        self.try_aggregate_or_delete(store, init, fold, move |key, a, b| merge(key, a, b).map(Some))
    }

    /// As [`SessionWindowedStream::try_aggregate`]; `None` deletes the session's row.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// let add = |_: &String, n: i64, sum: i64| {
    ///     sum.checked_add(n).map(|sum| Some(sum).filter(|sum| *sum != 0)).ok_or("too much")
    /// };
    /// amounts.try_aggregate_or_delete("open", || 0, add, move |key, a, b| add(key, b, a)).to_stream().to("out");
    /// # let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// # let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [5, i64::MAX, -5].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(5), None]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate_or_delete<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Result<Option<A>, E> + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let fold = move |key: &K, value, sum| f(key, value, sum).map_err(Error::user);
        self.fold_from(store, init, fold, move |key, a, b| merge(key, a, b).map_err(Error::user))
    }

    /// Folds what begins with `init`.
    fn fold_from<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Result<Option<A>, E> + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let init = Arc::new(init);
        let first = init.clone();
        let fold = move |key: &K, value, sum: Option<A>| f(key, value, sum.unwrap_or_else(&*init));
        self.fold(store, fold, move |key, a: Option<A>, b| merge(key, a.unwrap_or_else(&*first), b))
    }

    fn fold<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        f: impl Fn(&K, V, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
        merge: impl Fn(&K, Option<A>, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let stream = self.grouped.stream_for(store);
        let result = SessionTableBuilder::add(&stream.builder, store, self.spec);
        let node = stream.builder.node("KSTREAM-AGGREGATE", &[stream.node], &[result.id]);
        if let Some(late) = &self.late {
            late.follow(&stream, node);
        }
        result.subscribe(node, &stream, self.late.clone(), f, Arc::new(merge));
        result.into_table(node, stream.sources.clone(), stream.builder)
    }
}

/// The result of a session aggregation under construction, that several inputs may share.
pub(crate) struct SessionTableBuilder<K, A> {
    pub(crate) id: StoreId,
    port: Port<Record<Windowed<K>, Change<A>>>,
    old_values: OldValues,
    pub(crate) store: Arc<str>,
    spec: WindowSpec<SessionWindows>,
    inputs: Cell<usize>,
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> SessionTableBuilder<K, A> {
    pub(crate) fn add(builder: &StreamsBuilder, store: &str, spec: WindowSpec<SessionWindows>) -> Self {
        let least = spec.windows.gap + spec.windows.grace;
        let problem = spec.windows.bad.get().map(|bad| bad.to_string());
        let retention = spec.kept(builder, store, problem, ("sessions", "gap and grace"), least);
        // A session that ended gap and grace ago may still merge (semantics.md 41): a record a gap later, which is late by
        // itself, can bring it into a session that is open.
        let format = StoreFormat::of::<K::Serde, A::Serde>("session").with("session.gap.ms", spec.windows.gap);
        let id = TimedStore::<SessionBounds, K, A>::add(builder, store, retention + spec.windows.gap + 1, 1, format);
        SessionTableBuilder {
            id,
            port: builder.port(),
            old_values: OldValues::stored(),
            store: store.into(),
            spec,
            inputs: Cell::new(0),
        }
    }

    pub(crate) fn subscribe<
        V: Data,
        E: Failure + 'static,
        M: Fn(&K, Option<A>, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    >(
        &self,
        node: NodeId,
        stream: &KStream<K, V>,
        late: Option<Arc<LateStream<K, V>>>,
        f: impl Fn(&K, V, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
        merge: Arc<M>,
    ) {
        let (id, out, wanted, store) = (self.id, self.port.clone(), self.old_values.clone(), self.store.clone());
        let (f, spec, id_of_node) = (Arc::new(f), self.spec, node);
        let input = self.inputs.replace(self.inputs.get() + 1);
        let clock = WindowClock::name(&store, input, spec.emit);
        stream.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            let node = SessionAggregate {
                node,
                rows: TimedStore::open(task, id, &store),
                clock: WindowClock::new(task, &clock),
                functions: (f.clone(), merge.clone()),
                spec,
                send_old: wanted.wanted(),
                late: late.as_ref().map(|late| late.open(task)),
                down,
            };
            let node = Rc::new(RefCell::new(node));
            task.lifecycle(id_of_node, node.clone());
            Box::new(SharedSessions(node))
        });
    }

    pub(crate) fn into_table(
        self,
        node: NodeId,
        sources: Arc<BTreeSet<NodeId>>,
        builder: StreamsBuilder,
    ) -> KTable<Windowed<K>, A> {
        let nature = Nature { grace: Some(self.spec.windows.closes_behind()), history: None };
        let (id, store) = (self.id, self.store);
        let rows: Rows<Windowed<K>, A> = Arc::new(move |task| {
            let store = TimedStore::<SessionBounds, K, A>::open(task, id, &store);
            let place = |w: Window| SessionBounds { end: w.end, start: w.start };
            Box::new(WindowedRows { store, place, types: PhantomData })
        });
        KTable { builder, node, port: self.port, sources, stores: vec![id], rows, old_values: self.old_values, nature }
    }
}

struct SessionAggregate<K: Data, V, A: Data, F, M> {
    node: NodeId,
    rows: TimedStore<SessionBounds, K, A>,
    clock: WindowClock,
    functions: (Arc<F>, Arc<M>),
    spec: WindowSpec<SessionWindows>,
    send_old: bool,
    late: Option<Late<K, V>>,
    down: Downstream<Record<Windowed<K>, Change<A>>>,
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

struct SharedSessions<N>(Rc<RefCell<N>>);

impl<K, V, A, E, F, M> Forward<Record<K, V>> for SharedSessions<SessionAggregate<K, V, A, F, M>>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
    M: Fn(&K, Option<A>, A) -> Result<Option<A>, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        let kept = keep(&node.late, &record);
        node.process(cx, record).or_else(|error| cx.failed(node.node, error))?;
        pass_on(cx, &mut node.late, kept)
    }
}

impl<K, V, A, E, F, M> SessionAggregate<K, V, A, F, M>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
    M: Fn(&K, Option<A>, A) -> Result<Option<A>, E>,
{
    fn process(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp: time, headers } = record;
        let SessionWindows { gap, grace, .. } = self.spec.windows;
        let close_time = self.clock.observe(cx, time) - grace - gap;
        // What may fail is computed before anything is moved.
        let rows = self.rows.rows_from(&key, point(time), first_reached(time, gap))?;
        if E::POSSIBLE || !self.grow(cx, rows, &key, &value, time, close_time)? {
            self.merge(cx, rows, &key, value, time, close_time)?;
        }
        self.emit_closed(cx, close_time, &headers)
    }

    /// The usual record grows the newest session of its key and reaches no other: one row, changed in place. Whether
    /// this is such a record.
    #[inline]
    fn grow(
        &mut self,
        cx: &mut TaskContext,
        rows: KeyRows,
        key: &K,
        value: &V,
        time: Timestamp,
        close_time: Timestamp,
    ) -> Result<bool> {
        let (gap, send_old, functions) = (self.spec.windows.gap, self.send_old, &self.functions);
        let mut from = point(time);
        let to = |newest: SessionBounds, before: Option<SessionBounds>| {
            let alone = before.is_none_or(|before| before.end < time - gap);
            from = newest;
            Some(newest.with(point(time))).filter(|to| alone && newest.reaches(time, gap) && to.end >= close_time)
        };
        let changed = self.rows.move_newest(rows, to, |grown, entry| {
            let stored = entry.value.take();
            let old = if send_old { stored.clone() } else { None };
            let sum = stored.map_or(Ok(None), |stored| functions.1(key, None, stored))?;
            let new = functions.0(key, value.clone(), sum)?;
            *entry = Entry { value: new.clone(), timestamp: grown.end };
            Ok((grown, old, new))
        });
        let Some((grown, old, new)) = changed.transpose().map_err(E::into)? else { return Ok(false) };
        if from != point(time) {
            self.pass_on(cx, key, from, Change { old, new: None })?;
        }
        self.pass_on(cx, key, grown, Change { old: None, new })?;
        Ok(true)
    }

    /// Any record: the sessions that it reaches go, and one comes that holds them all.
    fn merge(
        &mut self,
        cx: &mut TaskContext,
        rows: KeyRows,
        key: &K,
        value: V,
        time: Timestamp,
        close_time: Timestamp,
    ) -> Result<()> {
        let gap = self.spec.windows.gap;
        // Sessions that end at or after time - gap and start at or before time + gap; ordered by end, then start.
        let from = first_reached(time, gap);
        let to = SessionBounds { end: Timestamp::MAX, start: Timestamp::MAX };
        let mut found = self.rows.fetch_at(rows, from..=to);
        found.retain(|(bounds, _, _)| bounds.reaches(time, gap));
        let (f, merge) = &self.functions;
        let (mut merged, mut sum) = (point(time), None);
        for (bounds, value, _) in &found {
            sum = merge(key, sum, value.clone()).map_err(E::into)?;
            merged = merged.with(*bounds);
        }
        if merged.end < close_time {
            too_late(cx, &mut self.late);
            return Ok(());
        }
        let new = f(key, value, sum).map_err(E::into)?;
        if merged != point(time) {
            for (bounds, old, _) in found {
                self.rows.change_at(rows, bounds, |entry| *entry = Entry { value: None, timestamp: bounds.end })?;
                self.pass_on(cx, key, bounds, Change { old: Some(old), new: None })?;
            }
        }
        let entry = Entry { value: new.clone(), timestamp: merged.end };
        self.rows.change_at(rows, merged, |row| *row = entry)?;
        self.pass_on(cx, key, merged, Change { old: None, new })
    }

    /// A session's result has the time of its end and no headers (semantics.md 39).
    fn pass_on(&mut self, cx: &mut TaskContext, key: &K, bounds: SessionBounds, mut change: Change<A>) -> Result<()> {
        if self.spec.emit == EmitStrategy::OnWindowClose {
            return Ok(());
        }
        if !self.send_old {
            change.old = None;
        }
        let key = Windowed { key: key.clone(), window: Window { start: bounds.start, end: bounds.end } };
        self.down.forward(cx, Record::new(key, change, bounds.end))
    }

    fn emit_closed(&mut self, cx: &mut TaskContext, close_time: Timestamp, headers: &Headers) -> Result<()> {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Ok(());
        }
        let Some(last) = self.clock.close(cx, close_time) else { return Ok(()) };
        // The end is inclusive: a session closes when its end is passed.
        let mut closing = self.rows.closing(first_open(last)..=close_time - 1)?;
        while let Some(rows) = self.rows.closed(&mut closing)? {
            for (bounds, key, value, _) in rows {
                let key = Windowed { key, window: Window { start: bounds.start, end: bounds.end } };
                let value = Change { old: None, new: Some(value) };
                self.down.forward(cx, Record { key, value, timestamp: bounds.end, headers: headers.clone() })?;
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
    F: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
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
        self.emit_closed(cx, Timestamp::MAX / 2, &Headers::new())
    }
}
