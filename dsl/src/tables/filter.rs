//! `filter` of a table: a row that does not match is no row (semantics.md 30).

use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Error, Forward, NodeId, Record, Result, TaskContext, Timestamp};
use millstream_state::Entry;

use crate::failure::{BoxError, Failure, row_or_none, sure};
use crate::ktable::{KTable, LookUp, Nature, OldValues, OwnStore};
use crate::stored::Stored;

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// The rows for which `keep` is true. A row that stops matching, or never matched, becomes a deletion, unless it is
    /// known that nothing was passed on for it.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").filter(|_, n| *n >= 10).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [5, 50, 6].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", Some(50)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KTable<K, V> {
        self.filtered(move |k, v| sure(keep(k, v)))
    }

    /// As [`KTable::filter`], with a predicate that may fail: `processing.exception.handler` decides then. A row that is left
    /// out is no row: what was passed on before is deleted (semantics.md 76).
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, String>("in", "rows").try_filter(|_, text| text.parse::<i64>().map(|n| n > 0)).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// let text = |text: &str| Some(text.to_owned());
    /// assert_eq!(out.read(), [kv("a", text("1")), kv("a", None), kv("a", text("3"))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_filter<E: Into<BoxError>>(
        &self,
        keep: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> KTable<K, V> {
        self.filtered(move |k, v| keep(k, v).map_err(Error::user))
    }

    fn filtered<E: Failure + 'static>(
        &self,
        keep: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> KTable<K, V> {
        // The rows above tell whether this one was ever passed on (KAFKA-10077). Those of a versioned table do only when
        // somebody below asks: its changes may be out of order.
        let asked = !self.nature.is_versioned() && self.old_values.ask();
        let node = self.builder.node("KTABLE-FILTER", &[self.node], &[]);
        let port = self.builder.port();
        let old_values = OldValues::derived(&[&self.old_values]);
        let keep = Arc::new(keep);
        let (out, predicate, wanted) = (port.clone(), keep.clone(), old_values.clone());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let send_old = wanted.wanted();
            Box::new(Filter { node, keep: predicate.clone(), knows_old: asked || send_old, send_old, down })
        });
        let above = self.rows.clone();
        let rows = Arc::new(move |task: &mut millstream_core::TaskBuilder<'_>| -> Box<dyn LookUp<K, V>> {
            Box::new(FilteredRows { above: above(task), keep: keep.clone() })
        });
        KTable {
            builder: self.builder.clone(),
            node,
            port,
            sources: self.sources.clone(),
            stores: self.stores.clone(),
            own: None,
            rows,
            old_values,
            nature: self.nature,
        }
    }

    /// The rows for which `leave_out` is false.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").filter_not(|_, n| *n >= 10).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [5, 50, 6].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", Some(5)), kv("a", None), kv("a", Some(6))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn filter_not(&self, leave_out: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KTable<K, V> {
        self.filter(move |k, v| !leave_out(k, v))
    }

    /// As [`KTable::filter_not`], with a predicate that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, String>("in", "rows").try_filter_not(|_, text| text.parse::<i64>().map(|n| n < 0)).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// let text = |text: &str| Some(text.to_owned());
    /// assert_eq!(out.read(), [kv("a", text("1")), kv("a", None), kv("a", text("3"))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_filter_not<E: Into<BoxError>>(
        &self,
        leave_out: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> KTable<K, V> {
        self.try_filter(move |k, v| leave_out(k, v).map(|leave_out| !leave_out))
    }

    /// The same table without deletions of rows that it does not have. Some operators delete below what they may never have
    /// passed on, as in Kafka Streams: a foreign-key join when a row without a partner goes, a join of tables when a row goes
    /// twice (semantics.md 31, 58). It costs a look at the row before: a table that has a store sends it along. Below a
    /// versioned table, whose changes may be out of order, all deletions are passed on.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// let towns = b.table::<String, i64>("towns", "towns"); // town, inhabitants
    /// let joined = people.join_on("neighbours", &towns, |town| Some(town.clone()), |_, n| n - 1);
    /// joined.without_needless_deletions().to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, Option<String>>("people")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// towns.pipe("Oslo", 700_000);
    /// for (name, town) in [("ann", Some("Atlantis")), ("ann", None), ("bob", Some("Oslo")), ("bob", None)] {
    ///     people.pipe(name, town.map(str::to_owned));
    /// }
    /// assert_eq!(out.read(), [kv("bob", Some(699_999)), kv("bob", None)]); // nothing of ann
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn without_needless_deletions(&self) -> KTable<K, V> {
        self.filter(|_, _| true)
    }

    /// The same table with its rows kept in a store of its own, so that look-ups do not compute them again.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let slow = b.table::<String, i64>("in", "rows").map_values(|n| (0..n).sum::<i64>());
    /// slow.materialize("sums").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("a", 4);
    /// assert_eq!(out.read(), [kv("a", 6)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn materialize(&self, store: &str) -> KTable<K, V> {
        let id = Stored::<K, V>::add(&self.builder, store);
        let node = self.builder.node("KTABLE-MATERIALIZE", &[self.node], &[id]);
        let port = self.builder.port();
        let old_values = OldValues::stored();
        let (out, wanted, name) = (port.clone(), old_values.clone(), Arc::<str>::from(store));
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(Materialize { rows: Stored::<K, V>::open(task, id, &name), send_old: wanted.wanted(), down })
        });
        KTable {
            builder: self.builder.clone(),
            node,
            port,
            sources: self.sources.clone(),
            stores: vec![id],
            own: Some(OwnStore::KeyValue(id)),
            rows: Stored::rows(id, store),
            old_values,
            nature: Nature::default(),
        }
    }
}

struct Filter<K, V, F> {
    node: NodeId,
    keep: Arc<F>,
    knows_old: bool,
    send_old: bool,
    down: Downstream<Record<K, Change<V>>>,
}

impl<K: Data, V: Data, E: Failure, F: Fn(&K, &V) -> Result<bool, E>> Forward<Record<K, Change<V>>> for Filter<K, V, F> {
    fn forward(&mut self, cx: &mut TaskContext, mut record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value: change, .. } = &mut record;
        let kept = |value: V| Ok::<_, E>((self.keep)(key, &value)?.then_some(value));
        change.new = row_or_none(cx, self.node, change.new.take().map_or(Ok(None), kept))?;
        // Where it fails, nothing has been passed on.
        change.old = change.old.take().and_then(|old| kept(old).ok().flatten());
        if self.knows_old && change.old.is_none() && change.new.is_none() {
            return Ok(());
        }
        if !self.send_old {
            change.old = None;
        }
        self.down.forward(cx, record)
    }
}

struct FilteredRows<K, V, F> {
    above: Box<dyn LookUp<K, V>>,
    keep: Arc<F>,
}

impl<K, V, E: Failure, F: Fn(&K, &V) -> Result<bool, E>> FilteredRows<K, V, F> {
    fn kept(&self, key: &K, row: Option<(V, Timestamp)>) -> Result<Option<(V, Timestamp)>> {
        let Some(row) = row else { return Ok(None) };
        Ok((self.keep)(key, &row.0).is_ok_and(|kept| kept).then_some(row))
    }
}

impl<K, V, E: Failure, F: Fn(&K, &V) -> Result<bool, E>> LookUp<K, V> for FilteredRows<K, V, F> {
    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        self.kept(key, self.above.get(key)?)
    }

    fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<(V, Timestamp)>> {
        self.kept(key, self.above.get_as_of(key, time)?)
    }
}

struct Materialize<K: Data, V: Data> {
    rows: Stored<K, V>,
    send_old: bool,
    down: Downstream<Record<K, Change<V>>>,
}

impl<K: Data, V: Data> Forward<Record<K, Change<V>>> for Materialize<K, V> {
    fn forward(&mut self, cx: &mut TaskContext, mut record: Record<K, Change<V>>) -> Result<()> {
        let (new, timestamp) = (record.value.new.clone(), record.timestamp);
        let old = self.rows.change(&record.key, |entry| std::mem::replace(entry, Entry { value: new, timestamp }))?;
        record.value.old = old.value.filter(|_| self.send_old);
        self.down.forward(cx, record)
    }
}
