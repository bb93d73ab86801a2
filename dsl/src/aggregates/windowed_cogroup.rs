//! Cogroups in windows and sessions, and the records that come too late for them.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Data, Error, NodeId, Result};

use crate::aggregates::cogroup::{CogroupedStream, Init, Input, Merge};
use crate::aggregates::grouped::GroupedStream;
use crate::aggregates::windowed::{FixedWindows, SessionTableBuilder, WindowSpec, WindowedTable};
use crate::failure::BoxError;
use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::late::LateStream;
use crate::windows::{EmitStrategy, SessionWindows, Windowed};

/// A cogroup in windows of a fixed size.
///
/// ```
/// # use millstream_dsl::{HOUR, MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
/// # let b = StreamsBuilder::new();
/// let bought = b.stream::<String, i64>("in").group_by_key();
/// bought
///     .cogroup(|_, n, sum| *sum += n)
///     .windowed_by(TimeWindows::of(MIN))
///     .retention(HOUR)
///     .emit_on_close()
///     .aggregate("sums", || 0)
///     .to_stream()
///     .to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
/// [(0, 3), (1, 4), (120_000, 5)].into_iter().for_each(|(time, n)| input.pipe_at(time, "ann", n));
/// assert_eq!(out.read().into_iter().map(|(_, sum)| sum).collect::<Vec<_>>(), [Some(7)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct WindowedCogroup<K, A> {
    streams: CogroupedStream<K, A>,
    late: LateInputs,
    spec: WindowSpec<FixedWindows>,
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> WindowedCogroup<K, A> {
    pub(super) fn new(streams: CogroupedStream<K, A>, windows: FixedWindows) -> Self {
        WindowedCogroup { streams, late: LateInputs::default(), spec: WindowSpec::new(windows) }
    }

    /// Keeps windows readable for so long behind the newest; at least size and grace.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.spec.keep_for(retention);
        self
    }

    /// Passes every window on once, when its grace is over.
    pub fn emit_on_close(mut self) -> Self {
        self.spec.emit = EmitStrategy::OnWindowClose;
        self
    }

    /// Gives the records of one of the streams that come too late to `use_it`, as a stream: with each of the windows that they
    /// have missed as their key, unless the value is null; a session that is missed is that of the record alone. They are counted
    /// as dropped all the same. Given twice for one stream, both have them.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Window, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("bought").group_by_key();
    /// let returned = b.stream::<String, String>("returned").group_by_key();
    /// bought
    ///     .cogroup(|_, n, owned| *owned += n)
    ///     .cogroup(&returned, |_, _, owned| *owned -= 1)
    ///     .windowed_by(TimeWindows::of(MIN))
    ///     .on_late(&bought, |late| late.to("bought-late"))
    ///     .on_late(&returned, |late| late.to("returned-late"))
    ///     .aggregate("owned", || 0);
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let bought = t.input::<String, i64>("bought")?;
    /// # let late = t.output::<Windowed<String>, i64>("bought-late")?;
    /// [(0, 1), (240_000, 2), (5, 3)].into_iter().for_each(|(time, n)| bought.pipe_at(time, "ann", n));
    /// let window = Window { start: 0, end: 60_000 };
    /// assert_eq!(late.read(), [(Windowed { key: "ann".to_owned(), window }, 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn on_late<V: Data>(
        mut self,
        stream: &GroupedStream<K, V>,
        use_it: impl FnOnce(KStream<Windowed<K>, V::NonNull>),
    ) -> Self {
        self.late.add(&self.streams, stream, use_it);
        self
    }

    /// Folds all streams; `init` makes the value of a key and window that has none.
    pub fn aggregate(self, store: &str, init: impl Fn() -> A + Send + Sync + 'static) -> KTable<Windowed<K>, A> {
        let target = WindowedTable::add(&self.streams.builder, store, self.spec);
        let init: Init<A> = Arc::new(init);
        let attach = |input: &dyn Input<K, A>, node: &mut dyn FnMut(NodeId) -> NodeId| {
            input.fold_windows(node, &target, &self.late, init.clone())
        };
        let (node, sources) = self.streams.hang(store, target.id, attach);
        target.into_table(node, Arc::new(sources), self.streams.builder)
    }
}

/// A cogroup in sessions.
///
/// ```
/// # use millstream_dsl::{HOUR, MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
/// # let b = StreamsBuilder::new();
/// let bought = b.stream::<String, i64>("in").group_by_key();
/// bought
///     .cogroup(|_, n, sum| *sum += n)
///     .in_sessions(SessionWindows::of(MIN))
///     .retention(HOUR)
///     .emit_on_close()
///     .aggregate("sums", || 0, |_, a, b| a + b)
///     .to_stream()
///     .to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
/// [(0, 3), (1, 4), (120_000, 5)].into_iter().for_each(|(time, n)| input.pipe_at(time, "ann", n));
/// assert_eq!(out.read().into_iter().map(|(_, sum)| sum).collect::<Vec<_>>(), [Some(7)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct SessionCogroup<K, A> {
    streams: CogroupedStream<K, A>,
    late: LateInputs,
    spec: WindowSpec<SessionWindows>,
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> SessionCogroup<K, A> {
    pub(super) fn new(streams: CogroupedStream<K, A>, windows: SessionWindows) -> Self {
        SessionCogroup { streams, late: LateInputs::default(), spec: WindowSpec::new(windows) }
    }

    /// Keeps sessions readable for so long behind the newest; at least gap and grace.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.spec.keep_for(retention);
        self
    }

    /// Passes every session on once, when gap and grace are over.
    pub fn emit_on_close(mut self) -> Self {
        self.spec.emit = EmitStrategy::OnWindowClose;
        self
    }

    /// Gives the records of one of the streams that come too late to `use_it`, as a stream: with each of the windows that they
    /// have missed as their key, unless the value is null; a session that is missed is that of the record alone. They are counted
    /// as dropped all the same. Given twice for one stream, both have them.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Window, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("bought").group_by_key();
    /// let returned = b.stream::<String, String>("returned").group_by_key();
    /// bought
    ///     .cogroup(|_, n, owned| *owned += n)
    ///     .cogroup(&returned, |_, _, owned| *owned -= 1)
    ///     .in_sessions(SessionWindows::of(MIN))
    ///     .on_late(&bought, |late| late.to("bought-late"))
    ///     .on_late(&returned, |late| late.to("returned-late"))
    ///     .aggregate("owned", || 0, |_, a, b| a + b);
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let bought = t.input::<String, i64>("bought")?;
    /// # let late = t.output::<Windowed<String>, i64>("bought-late")?;
    /// [(0, 1), (240_000, 2), (5, 3)].into_iter().for_each(|(time, n)| bought.pipe_at(time, "ann", n));
    /// let window = Window { start: 5, end: 5 };
    /// assert_eq!(late.read(), [(Windowed { key: "ann".to_owned(), window }, 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn on_late<V: Data>(
        mut self,
        stream: &GroupedStream<K, V>,
        use_it: impl FnOnce(KStream<Windowed<K>, V::NonNull>),
    ) -> Self {
        self.late.add(&self.streams, stream, use_it);
        self
    }

    /// Folds all streams; `merge` makes one value of those of two sessions that grow together.
    pub fn aggregate(
        self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_or_delete(store, init, move |key, a, b| Some(merge(key, a, b)))
    }

    /// As [`SessionCogroup::aggregate`]; a merger that returns `None` leaves nothing of the sessions so far, and the record that
    /// brought them together starts over.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("in").group_by_key();
    /// bought
    ///     .cogroup(|_, n, sum: &mut i64| *sum += n)
    ///     .in_sessions(SessionWindows::of(MIN))
    ///     .aggregate_or_delete("sums", || 0, |_, a, b| Some(a + b).filter(|sum| *sum != 0))
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [(0, 3), (90_000, -3), (50_000, 1)].into_iter().for_each(|(time, n)| input.pipe_at(time, "ann", n));
    /// let sums: Vec<_> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(3), Some(-3), None, None, Some(1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate_or_delete(
        self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let init: Init<A> = Arc::new(init);
        let first = init.clone();
        let merge = move |key: &K, a: Option<A>, b| merge(key, a.unwrap_or_else(|| first()), b);
        self.folded(store, init, Merge::Sure(Arc::new(merge)))
    }

    /// As [`SessionCogroup::aggregate`], with a merger that may fail: `processing.exception.handler` decides then, and the
    /// sessions stay as they were.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("in").group_by_key();
    /// bought
    ///     .cogroup(|_, n, sum: &mut i64| *sum += n)
    ///     .in_sessions(SessionWindows::of(MIN))
    ///     .try_aggregate("sums", || 0, |_, a, b| a.checked_add(b).ok_or("too many"))
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// // Two sessions of so many are one too many, when a third record brings them together.
    /// [(0, i64::MAX), (90_000, i64::MAX), (50_000, 1)].into_iter().for_each(|(time, n)| input.pipe_at(time, "ann", n));
    /// assert_eq!(out.read().into_iter().map(|(_, sum)| sum).collect::<Vec<_>>(), [Some(i64::MAX); 2]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate<E: Into<BoxError>>(
        self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Result<A, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.try_aggregate_or_delete(store, init, move |key, a, b| merge(key, a, b).map(Some))
    }

    /// As [`SessionCogroup::aggregate_or_delete`], with a merger that may fail; as [`SessionCogroup::try_aggregate`].
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let bought = b.stream::<String, i64>("in").group_by_key();
    /// let merge = |_: &String, a: i64, b| a.checked_add(b).map(|sum| Some(sum).filter(|sum| *sum != 0)).ok_or("too many");
    /// bought
    ///     .cogroup(|_, n, sum: &mut i64| *sum += n)
    ///     .in_sessions(SessionWindows::of(MIN))
    ///     .try_aggregate_or_delete("sums", || 0, merge)
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [(0, i64::MAX), (90_000, i64::MAX), (50_000, 1)].into_iter().for_each(|(time, n)| input.pipe_at(time, "ann", n));
    /// assert_eq!(out.read().into_iter().map(|(_, sum)| sum).collect::<Vec<_>>(), [Some(i64::MAX); 2]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate_or_delete<E: Into<BoxError>>(
        self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let init: Init<A> = Arc::new(init);
        let first = init.clone();
        let merge = move |key: &K, a: Option<A>, b| merge(key, a.unwrap_or_else(|| first()), b).map_err(Error::user);
        self.folded(store, init, Merge::MayFail(Arc::new(merge)))
    }

    fn folded(self, store: &str, init: Init<A>, merge: Merge<K, A>) -> KTable<Windowed<K>, A> {
        let target = SessionTableBuilder::add(&self.streams.builder, store, self.spec);
        let attach = |input: &dyn Input<K, A>, node: &mut dyn FnMut(NodeId) -> NodeId| {
            input.fold_sessions(node, &target, &self.late, init.clone(), merge.clone());
        };
        let (node, sources) = self.streams.hang(store, target.id, attach);
        target.into_table(node, Arc::new(sources), self.streams.builder)
    }
}

/// The late records of a cogroup's streams, whose value types only these know.
#[derive(Default)]
pub(super) struct LateInputs(RefCell<Vec<(NodeId, Box<dyn Any>)>>);

impl LateInputs {
    fn add<K: Data<NonNull = K>, A, V: Data>(
        &mut self,
        streams: &CogroupedStream<K, A>,
        stream: &GroupedStream<K, V>,
        use_it: impl FnOnce(KStream<Windowed<K>, V::NonNull>),
    ) {
        let stream = stream.stream();
        if !streams.inputs.iter().any(|input| input.stream() == stream.node) {
            let help = "help: give it one that was given to `cogroup`, or began it";
            streams.builder.problem(format!("`on_late` of a cogroup is given a stream that is not in it\n  {help}"));
            return;
        }
        let inputs = self.0.get_mut();
        let of_it = inputs.iter().find(|(input, _)| *input == stream.node);
        let late = match of_it.and_then(|(_, late)| late.downcast_ref::<Arc<LateStream<Windowed<K>, V::NonNull>>>()) {
            Some(late) => late.clone(),
            None => {
                let late = LateStream::of(stream);
                inputs.push((stream.node, Box::new(late.clone())));
                late
            }
        };
        use_it(late.stream());
    }

    /// The late records of an input, hung on its operator. A stream that is there twice has them once.
    pub(super) fn take<K: Data, V: Data, W: Data>(
        &self,
        input: NodeId,
        stream: &KStream<K, W>,
        operator: NodeId,
    ) -> Option<Arc<LateStream<Windowed<K>, V>>> {
        let mut inputs = self.0.borrow_mut();
        let found = inputs.iter().position(|(late, _)| *late == input)?;
        let late = inputs.swap_remove(found).1.downcast::<Arc<LateStream<Windowed<K>, V>>>().ok()?;
        late.follow(stream, operator);
        Some(*late)
    }
}
