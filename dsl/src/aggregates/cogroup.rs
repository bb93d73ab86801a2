//! `cogroup`: several grouped streams folded into one row per key, each by its own function (KIP-150).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{Change, Data, Error, NodeId, Port, Record, Result, StoreId, TaskBuilder};

use crate::aggregates::grouped::GroupedStream;
use crate::aggregates::key_value::Aggregate;
use crate::aggregates::windowed::{FixedWindows, Lent, SessionTableBuilder, WindowedTable};
use crate::aggregates::windowed_cogroup::{LateInputs, SessionCogroup, WindowedCogroup};
use crate::builder::StreamsBuilder;
use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, OwnStore};
use crate::stored::Stored;
use crate::windows::SessionWindows;

pub(super) type Init<A> = Arc<dyn Fn() -> A + Send + Sync>;

type Merger<K, A, R> = Arc<dyn Fn(&K, Option<A>, A) -> R + Send + Sync>;

/// What makes one value of those of two sessions, or none.
pub(super) enum Merge<K, A> {
    Sure(Merger<K, A, Option<A>>),
    MayFail(Merger<K, A, Result<Option<A>>>),
}

impl<K, A> Clone for Merge<K, A> {
    fn clone(&self) -> Self {
        match self {
            Merge::Sure(merge) => Merge::Sure(merge.clone()),
            Merge::MayFail(merge) => Merge::MayFail(merge.clone()),
        }
    }
}

/// Several grouped streams that share one row per key. Null values are left out and counted.
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// let bought = b.stream::<String, i64>("bought").group_by_key();
/// let returned = b.stream::<String, i64>("returned").group_by_key();
/// let closed = b.stream::<String, String>("closed").group_by_key();
/// bought
///     .cogroup(|_, n, owned| *owned += n)
///     .cogroup(&returned, |_, n, owned| *owned -= n)
///     .cogroup_or_delete(&closed, |_, _, _| None)
///     .aggregate("owned", || 0)
///     .to_stream()
///     .to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let bought = t.input::<String, i64>("bought")?;
/// # let returned = t.input::<String, i64>("returned")?;
/// # let closed = t.input::<String, String>("closed")?;
/// # let out = t.output::<String, Option<i64>>("out")?;
/// bought.pipe("ann", 3);
/// returned.pipe("ann", 1);
/// closed.pipe("ann", "today");
/// assert_eq!(out.read(), [kv("ann", Some(3)), kv("ann", Some(2)), kv("ann", None)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct CogroupedStream<K, A> {
    pub(super) builder: StreamsBuilder,
    pub(super) inputs: Vec<Arc<dyn Input<K, A>>>,
}

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    /// Starts a cogroup with this stream, folded in place.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("bought").group_by_key();
    /// let returned = b.stream::<String, i64>("returned").group_by_key();
    /// bought
    ///     .cogroup(|_, n, owned| *owned += n)
    ///     .cogroup(&returned, |_, n, owned| *owned -= n)
    ///     .aggregate("owned", || 0)
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let bought = t.input::<String, i64>("bought")?;
    /// # let returned = t.input::<String, i64>("returned")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// bought.pipe("ann", 3);
    /// returned.pipe("ann", 1);
    /// assert_eq!(out.read(), [kv("ann", 3), kv("ann", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn cogroup<A: Data<NonNull = A>>(
        &self,
        f: impl Fn(&K, V::NonNull, &mut A) + Send + Sync + 'static,
    ) -> CogroupedStream<K, A> {
        CogroupedStream { builder: self.builder().clone(), inputs: Vec::new() }.cogroup(self, f)
    }

    /// Starts a cogroup with this stream, whose function takes and returns the value; `None` deletes the row.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let closed = b.stream::<String, String>("closed").group_by_key();
    /// let bought = b.stream::<String, i64>("bought").group_by_key();
    /// closed
    ///     .cogroup_or_delete(|_, _, _: i64| None)
    ///     .cogroup(&bought, |_, n, owned| *owned += n)
    ///     .aggregate("owned", || 0)
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let closed = t.input::<String, String>("closed")?;
    /// # let bought = t.input::<String, i64>("bought")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// bought.pipe("ann", 3);
    /// closed.pipe("ann", "today");
    /// bought.pipe("ann", 4);
    /// assert_eq!(out.read(), [kv("ann", Some(3)), kv("ann", None), kv("ann", Some(4))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn cogroup_or_delete<A: Data<NonNull = A>>(
        &self,
        f: impl Fn(&K, V::NonNull, A) -> Option<A> + Send + Sync + 'static,
    ) -> CogroupedStream<K, A> {
        CogroupedStream { builder: self.builder().clone(), inputs: Vec::new() }.cogroup_or_delete(self, f)
    }

    /// Starts a cogroup with this stream, whose function takes and returns the value, and may fail; as
    /// [`CogroupedStream::try_cogroup`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let texts = b.stream::<String, String>("in").group_by_key();
    /// texts
    ///     .try_cogroup(|_, text, sum: i64| text.parse::<i64>().map(|n| Some(sum + n)))
    ///     .aggregate("sums", || 0)
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 4)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_cogroup<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, V::NonNull, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> CogroupedStream<K, A> {
        CogroupedStream { builder: self.builder().clone(), inputs: Vec::new() }.try_cogroup(self, f)
    }
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> CogroupedStream<K, A> {
    /// Adds a stream, folded in place.
    pub fn cogroup<V: Data>(
        self,
        other: &GroupedStream<K, V>,
        f: impl Fn(&K, V::NonNull, &mut A) + Send + Sync + 'static,
    ) -> Self {
        self.cogroup_or_delete(other, move |key, value, mut sum| {
            f(key, value, &mut sum);
            Some(sum)
        })
    }

    /// Adds a stream whose function takes and returns the value, and may fail: `processing.exception.handler` decides then,
    /// and the row stays as it was. `None` deletes the row.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let sold = b.stream::<String, i64>("sold").group_by_key();
    /// let texts = b.stream::<String, String>("in").group_by_key();
    /// sold.cogroup(|_, n, sum| *sum += n)
    ///     .try_cogroup(&texts, |_, text, sum: i64| text.parse::<i64>().map(|n| Some(sum + n)))
    ///     .aggregate("sums", || 0)
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 4)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_cogroup<V: Data, E: Into<BoxError>>(
        self,
        other: &GroupedStream<K, V>,
        f: impl Fn(&K, V::NonNull, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> Self {
        self.folded(other, move |key, value, sum| f(key, value, sum).map_err(Error::user))
    }

    /// Adds a stream whose function takes and returns the value; `None` deletes the row.
    pub fn cogroup_or_delete<V: Data>(
        self,
        other: &GroupedStream<K, V>,
        f: impl Fn(&K, V::NonNull, A) -> Option<A> + Send + Sync + 'static,
    ) -> Self {
        self.folded(other, move |key, value, sum| sure(f(key, value, sum)))
    }

    fn folded<V: Data, E: Failure + 'static>(
        mut self,
        other: &GroupedStream<K, V>,
        f: impl Fn(&K, V::NonNull, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> Self {
        self.builder.same_program(other.builder(), "a cogroup");
        self.inputs.push(Arc::new(Folded { grouped: other.clone(), f: Arc::new(f) }));
        self
    }

    /// Folds all streams; `init` makes the value of a key that has none.
    pub fn aggregate(self, store: &str, init: impl Fn() -> A + Send + Sync + 'static) -> KTable<K, A> {
        let id = Stored::<K, A>::add(&self.builder, store);
        let (port, old_values): (Port<Record<K, Change<A>>>, _) = (self.builder.port(), OldValues::stored());
        let init: Init<A> = Arc::new(init);
        let target = KeyValueTarget { id, store: store.into(), port: port.clone(), old_values: old_values.clone() };
        let (node, sources) = self.hang(store, id, |input, node| input.fold_rows(node, &target, init.clone()));
        let rows = Stored::rows(id, store);
        KTable {
            builder: self.builder,
            node,
            port,
            sources: Arc::new(sources),
            stores: vec![id],
            own: Some(OwnStore::KeyValue(id)),
            rows,
            old_values,
            nature: Nature::default(),
        }
    }

    /// Folds in tumbling or hopping ([`crate::TimeWindows`]) or sliding ([`crate::SlidingWindows`]) windows.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("in").group_by_key();
    /// bought
    ///     .cogroup(|_, n, sum| *sum += n)
    ///     .windowed_by(TimeWindows::of(HOUR))
    ///     .aggregate("per-hour", || 0)
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "ann", 3);
    /// assert_eq!(out.read()[0].1, Some(3));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn windowed_by(self, windows: impl Into<FixedWindows>) -> WindowedCogroup<K, A> {
        WindowedCogroup::new(self, windows.into())
    }

    /// Folds in sessions.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("in").group_by_key();
    /// bought
    ///     .cogroup(|_, n, sum| *sum += n)
    ///     .in_sessions(SessionWindows::of(MIN))
    ///     .aggregate("per-visit", || 0, |_, a, b| a + b)
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "ann", 3);
    /// assert_eq!(out.read()[0].1, Some(3));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn in_sessions(self, windows: SessionWindows) -> SessionCogroup<K, A> {
        SessionCogroup::new(self, windows)
    }

    /// Adds every input's node in front of one merge node, and the co-partitioning of their sources.
    pub(super) fn hang(
        &self,
        store: &str,
        id: StoreId,
        attach: impl Fn(&dyn Input<K, A>, &mut dyn FnMut(NodeId) -> NodeId),
    ) -> (NodeId, BTreeSet<NodeId>) {
        let mut nodes = Vec::new();
        for input in &self.inputs {
            attach(input.as_ref(), &mut |stream| {
                let node = self.builder.node("COGROUPKSTREAM-AGGREGATE", &[stream], &[id]);
                nodes.push(node);
                node
            });
        }
        let sources = self.builder.sources_of(&nodes);
        self.builder.copartition(&format!("cogroup `{store}`"), sources.clone());
        (self.builder.node("COGROUPKSTREAM-MERGE", &nodes, &[]), sources)
    }
}

/// Where unwindowed folds go.
pub(super) struct KeyValueTarget<K, A> {
    id: StoreId,
    store: Arc<str>,
    port: Port<Record<K, Change<A>>>,
    old_values: OldValues,
}

/// One input of a cogroup, whose value type only it knows.
pub(super) trait Input<K, A>: Send + Sync {
    /// The stream, as it was given.
    fn stream(&self) -> NodeId;
    fn fold_rows(&self, node: &mut dyn FnMut(NodeId) -> NodeId, target: &KeyValueTarget<K, A>, init: Init<A>);
    fn fold_windows(
        &self,
        node: &mut dyn FnMut(NodeId) -> NodeId,
        target: &WindowedTable<K, A>,
        late: &LateInputs,
        init: Init<A>,
    );
    fn fold_sessions(
        &self,
        node: &mut dyn FnMut(NodeId) -> NodeId,
        target: &SessionTableBuilder<K, A>,
        late: &LateInputs,
        init: Init<A>,
        merge: Merge<K, A>,
    );
}

struct Folded<K, V, F> {
    grouped: GroupedStream<K, V>,
    f: Arc<F>,
}

impl<K: Data<NonNull = K>, V: Data, F> Folded<K, V, F> {
    fn placed(&self, store: &str, node: &mut dyn FnMut(NodeId) -> NodeId) -> (NodeId, KStream<K, V>) {
        let stream = self.grouped.stream_for(store);
        (node(stream.node), stream)
    }
}

impl<K, V, A, E, F> Input<K, A> for Folded<K, V, F>
where
    E: Failure + 'static,
    K: Data<NonNull = K>,
    V: Data,
    A: Data<NonNull = A>,
    F: Fn(&K, V::NonNull, A) -> Result<Option<A>, E> + Send + Sync + 'static,
{
    fn stream(&self) -> NodeId {
        self.grouped.stream().node
    }

    fn fold_rows(&self, node: &mut dyn FnMut(NodeId) -> NodeId, target: &KeyValueTarget<K, A>, init: Init<A>) {
        let (node, stream) = self.placed(&target.store, node);
        let (id, out, wanted, name) = (target.id, target.port.clone(), target.old_values.clone(), target.store.clone());
        let f = self.f.clone();
        stream.port.subscribe(move |task: &mut TaskBuilder<'_>| {
            let down = task.open_shared(&out);
            let (f, init) = (f.clone(), init.clone());
            let fold = move |key: &K, value, sum: Option<A>| f(key, value, sum.unwrap_or_else(|| init()));
            Box::new(Aggregate {
                node,
                rows: Stored::open(task, id, &name),
                f: Arc::new(fold),
                send_old: wanted.wanted(),
                down,
            })
        });
    }

    fn fold_windows(
        &self,
        node: &mut dyn FnMut(NodeId) -> NodeId,
        target: &WindowedTable<K, A>,
        late: &LateInputs,
        init: Init<A>,
    ) {
        let (node, stream) = self.placed(&target.store, node);
        let late = late.take(self.grouped.stream().node, &stream, node);
        let stream = stream.without_null_values();
        let f = self.f.clone();
        target.subscribe(node, &stream, late, move |key, value, sum: Option<A>| {
            f(key, value.take(), sum.unwrap_or_else(|| init()))
        });
    }

    fn fold_sessions(
        &self,
        node: &mut dyn FnMut(NodeId) -> NodeId,
        target: &SessionTableBuilder<K, A>,
        late: &LateInputs,
        init: Init<A>,
        merge: Merge<K, A>,
    ) {
        let (node, stream) = self.placed(&target.store, node);
        let late = late.take(self.grouped.stream().node, &stream, node);
        let stream = stream.without_null_values();
        let f = self.f.clone();
        let fold = move |key: &K, value: Lent<'_, V::NonNull>, sum: Option<A>| {
            f(key, value.take(), sum.unwrap_or_else(|| init()))
        };
        match merge {
            Merge::Sure(merge) => {
                let merge = move |key: &K, a: Option<A>, b: A| Ok(merge(key, a, b));
                target.subscribe(node, &stream, late, fold, Arc::new(merge));
            }
            Merge::MayFail(merge) => {
                let fold = move |key: &K, value: Lent<'_, V::NonNull>, sum| fold(key, value, sum).map_err(E::into);
                target.subscribe(node, &stream, late, fold, Arc::new(move |key: &K, a, b| merge(key, a, b)));
            }
        }
    }
}
