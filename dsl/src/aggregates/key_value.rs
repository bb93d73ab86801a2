//! `count`, `reduce`, `aggregate` per key (semantics.md 35, 36). Null values are left out and counted.

use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Error, Forward, NodeId, Record, Result, TaskContext};
use millstream_state::Entry;

use crate::aggregates::grouped::GroupedStream;
use crate::failure::{BoxError, Failure, sure};
use crate::ktable::{KTable, Nature, OldValues, OwnStore};
use crate::stored::Stored;

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    /// Records per key.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["a", "b", "a"].into_iter().for_each(|key| input.pipe(key, 5));
    /// assert_eq!(out.read(), [kv("a", 1), kv("b", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn count(&self, store: &str) -> KTable<K, i64> {
        self.fold(store, |_, _, n| sure(Some(n.unwrap_or(0) + 1)))
    }

    /// Folds the values of a key into one of their own type.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").group_by_key().reduce("largest", i64::max).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [5, 7, 6].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", 5), kv("a", 7), kv("a", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> V::NonNull + Send + Sync + 'static,
    ) -> KTable<K, V::NonNull> {
        self.reduce_or_delete(store, move |sum, value| Some(f(sum, value)))
    }

    /// As `reduce`; `None` deletes the row, and the next record starts over.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in")
    ///     .group_by_key()
    ///     .reduce_or_delete("open", |sum, n| Some(sum + n).filter(|sum| *sum != 0))
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [5, -5, 3].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", Some(5)), kv("a", None), kv("a", Some(3))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce_or_delete(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Option<V::NonNull> + Send + Sync + 'static,
    ) -> KTable<K, V::NonNull> {
        self.fold(store, move |_, value, sum| match sum {
            Some(sum) => sure(f(sum, value)),
            None => Ok(Some(value)),
        })
    }

    /// As [`GroupedStream::reduce`], with a function that may fail: `processing.exception.handler` decides then, and the
    /// row stays as it was.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key();
    /// amounts.try_reduce("sums", |sum, n| sum.checked_add(n).ok_or("too much")).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [i64::MAX, 1, -1].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", i64::MAX), kv("a", i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce<E: Into<BoxError>>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<V::NonNull, E> + Send + Sync + 'static,
    ) -> KTable<K, V::NonNull> {
        self.try_reduce_or_delete(store, move |sum, value| f(sum, value).map(Some))
    }

    /// As [`GroupedStream::reduce_or_delete`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key();
    /// let add = |sum: i64, n: i64| sum.checked_add(n).ok_or("too much");
    /// amounts
    ///     .try_reduce_or_delete("sums", move |sum, n| add(sum, n).map(|sum| Some(sum).filter(|sum| *sum != 0)))
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [i64::MAX, 1, -i64::MAX].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", Some(i64::MAX)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce_or_delete<E: Into<BoxError>>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<Option<V::NonNull>, E> + Send + Sync + 'static,
    ) -> KTable<K, V::NonNull> {
        self.fold(store, move |_, value, sum| match sum {
            Some(sum) => f(sum, value).map_err(Error::user),
            None => Ok(Some(value)),
        })
    }

    /// Folds the values of a key into a value of another type, in place.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in")
    ///     .group_by_key()
    ///     .aggregate("all", String::new, |_, n, all| *all += &format!("{n};"))
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 7);
    /// assert_eq!(out.read(), [kv("a", "5;".to_owned()), kv("a", "5;7;".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V::NonNull, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.fold(store, move |key, value, sum| {
            let mut sum = sum.unwrap_or_else(&init);
            f(key, value, &mut sum);
            sure(Some(sum))
        })
    }

    /// As `aggregate`, but takes and returns the value; `None` deletes the row.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in")
    ///     .group_by_key()
    ///     .aggregate_or_delete("sums", || 0, |_, n, sum| if n == 0 { None } else { Some(sum + n) })
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [5, 7, 0].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", Some(5)), kv("a", Some(12)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate_or_delete<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V::NonNull, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.fold(store, move |key, value, sum| sure(f(key, value, sum.unwrap_or_else(&init))))
    }

    /// Folds with a function that may fail: it takes and returns the value, and the row stays as it was when
    /// `processing.exception.handler` says to go on.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let texts = b.stream::<String, String>("in").group_by_key();
    /// texts.try_aggregate("sums", || 0, |_, text, sum| text.parse::<i64>().map(|n| sum + n)).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 4)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V::NonNull, A) -> Result<A, E> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.try_aggregate_or_delete(store, init, move |key, value, sum| f(key, value, sum).map(Some))
    }

    /// As [`GroupedStream::try_aggregate`]; `None` deletes the row.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let texts = b.stream::<String, String>("in").group_by_key();
    /// // A 0 deletes the row.
    /// let add = |_: &String, text: String, sum: i64| text.parse::<i64>().map(|n| (n != 0).then_some(sum + n));
    /// texts.try_aggregate_or_delete("sums", || 0, add).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "0"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", Some(1)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate_or_delete<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V::NonNull, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.fold(store, move |key, value, sum| f(key, value, sum.unwrap_or_else(&init)).map_err(Error::user))
    }

    fn fold<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        f: impl Fn(&K, V::NonNull, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let stream = self.stream_for(store);
        let id = Stored::<K, A>::add(&stream.builder, store);
        let node = stream.builder.node("KSTREAM-AGGREGATE", &[stream.node], &[id]);
        let port = stream.builder.port();
        let old_values = OldValues::stored();
        let (out, wanted, name, f) = (port.clone(), old_values.clone(), Arc::<str>::from(store), Arc::new(f));
        stream.port.subscribe(move |task| {
            let down = task.open(&out);
            let rows = Stored::open(task, id, &name);
            Box::new(Aggregate { node, rows, f: f.clone(), send_old: wanted.wanted(), down })
        });
        KTable {
            builder: stream.builder.clone(),
            node,
            port,
            sources: stream.sources.clone(),
            stores: vec![id],
            own: Some(OwnStore::KeyValue(id)),
            rows: Stored::rows(id, store),
            old_values,
            nature: Nature::default(),
        }
    }
}

/// One fold step per record on the row of its key.
pub(crate) struct Aggregate<K: Data, A: Data, F> {
    pub(crate) node: NodeId,
    pub(crate) rows: Stored<K, A>,
    pub(crate) f: Arc<F>,
    pub(crate) send_old: bool,
    pub(crate) down: Downstream<Record<K, Change<A>>>,
}

impl<K, V, A, E, F> Forward<Record<K, V>> for Aggregate<K, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, V::NonNull, Option<A>) -> Result<Option<A>, E>,
{
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let Some(value) = value.into_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        let (f, send_old) = (&self.f, self.send_old);
        let changed = self.rows.change(&key, |entry: &mut Entry<A>| {
            let old = if send_old { entry.value.clone() } else { None };
            let time = if entry.value.is_some() { timestamp.max(entry.timestamp) } else { timestamp };
            // What fails leaves the row as it was.
            let kept = if E::POSSIBLE { entry.value.clone() } else { None };
            let new = f(&key, value, entry.value.take()).inspect_err(|_| entry.value = kept)?;
            *entry = Entry { value: new.clone(), timestamp: time };
            Ok((Change { old, new }, time))
        })?;
        match changed {
            Ok((value, timestamp)) => self.down.forward(cx, Record { key, value, timestamp, headers }),
            Err(error) => cx.failed(self.node, E::into(error)),
        }
    }
}
