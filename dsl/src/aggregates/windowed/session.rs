//! Session windows (semantics.md 35, 39 to 43).

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Data, Error, Result};

use super::lent::Lent;
use super::session_table::SessionTableBuilder;
use super::spec::WindowSpec;
use crate::aggregates::grouped::GroupedStream;
use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::late::LateStream;
use crate::windows::{EmitStrategy, SessionWindows, Windowed};

/// A grouped stream in sessions.
pub struct SessionWindowedStream<K, V> {
    grouped: GroupedStream<K, V>,
    late: Option<Arc<LateStream<Windowed<K>, V>>>,
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

    /// Gives the records that come too late for a session to `use_it`, as a stream: with that of the record alone as their key.
    /// They are counted as dropped all the same. Given twice, both have them.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, SessionWindows, TopologyTestDriver, Window, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(SessionWindows::of(MIN)).on_late(|late| late.to("too-late")).count("counts");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let late = t.output::<Windowed<String>, i64>("too-late")?;
    /// [(0, 1), (240_000, 2), (5, 3)].into_iter().for_each(|(time, n)| input.pipe_at(time, "a", n));
    /// let window = Window { start: 5, end: 5 };
    /// assert_eq!(late.read(), [(Windowed { key: "a".to_owned(), window }, 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn on_late(mut self, use_it: impl FnOnce(KStream<Windowed<K>, V>)) -> Self {
        use_it(self.late.get_or_insert_with(|| LateStream::of(self.grouped.stream())).stream());
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
        self.fold_lent(store, |_, _, n| sure(Some(n.unwrap_or(0) + 1)), |_, a, b| Ok(Some(a.unwrap_or(0) + b)))
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
        self.fold_lent(store, move |key, value, sum| f(key, value.take(), sum), merge)
    }

    fn fold_lent<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        f: impl Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
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
