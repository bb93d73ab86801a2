//! `map_values` of a table; deletions stay deletions.

use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Error, Forward, NodeId, Record, Result, TaskContext, Timestamp};

use crate::failure::{BoxError, Failure, row_or_none, sure};
use crate::ktable::{KTable, LookUp, OldValues};

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Makes another value of every row.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").map_values(|n| n * 2).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", None);
    /// assert_eq!(out.read(), [kv("a", Some(10)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map_values<V2: Data<NonNull = V2>>(&self, f: impl Fn(V) -> V2 + Send + Sync + 'static) -> KTable<K, V2> {
        self.map_values_with_key(move |_, v| f(v))
    }

    /// Makes another value of every row's key and value.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").map_values_with_key(|name, n| format!("{name} has {n}")).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// input.pipe("ann", 5);
    /// assert_eq!(out.read(), [kv("ann", "ann has 5".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map_values_with_key<V2: Data<NonNull = V2>>(
        &self,
        f: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.mapped_values(move |k, v| sure(f(k, v)))
    }

    /// As [`KTable::map_values`], with a function that may fail: `processing.exception.handler` decides then. A row that is
    /// left out is no row: what was passed on before is deleted (semantics.md 76).
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, String>("in", "rows").try_map_values(|text| text.parse::<i64>()).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", Some(1)), kv("a", None), kv("a", Some(3))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_map_values<V2: Data<NonNull = V2>, E: Into<BoxError>>(
        &self,
        f: impl Fn(V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.try_map_values_with_key(move |_, v| f(v))
    }

    /// As [`KTable::map_values_with_key`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, String>("in", "rows").try_map_values_with_key(|_, text| text.parse::<i64>()).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", Some(1)), kv("a", None), kv("a", Some(3))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_map_values_with_key<V2: Data<NonNull = V2>, E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.mapped_values(move |k, v| f(k, v).map_err(Error::user))
    }

    fn mapped_values<V2: Data<NonNull = V2>, E: Failure + 'static>(
        &self,
        f: impl Fn(&K, V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        // As a filter: where the function may fail, the rows above tell whether this one was ever passed on.
        let asked = E::POSSIBLE && !self.nature.is_versioned() && self.old_values.ask();
        let node = self.builder.node("KTABLE-MAPVALUES", &[self.node], &[]);
        let port = self.builder.port();
        let old_values = OldValues::derived(&[&self.old_values]);
        let f = Arc::new(f);
        let (out, mapper, wanted) = (port.clone(), f.clone(), old_values.clone());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let send_old = wanted.wanted();
            Box::new(MapValues { node, f: mapper.clone(), knows_old: asked || send_old, send_old, down })
        });
        let above = self.rows.clone();
        let rows = Arc::new(move |task: &mut millstream_core::TaskBuilder<'_>| -> Box<dyn LookUp<K, V2>> {
            Box::new(MappedRows { above: above(task), f: f.clone() })
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
}

struct MapValues<K, V2, F> {
    node: NodeId,
    f: Arc<F>,
    knows_old: bool,
    send_old: bool,
    down: Downstream<Record<K, Change<V2>>>,
}

impl<K: Data, V, V2: Data, E: Failure, F: Fn(&K, V) -> Result<V2, E>> Forward<Record<K, Change<V>>>
    for MapValues<K, V2, F>
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        let map = |value: Option<V>| value.map(|value| (self.f)(&key, value)).transpose();
        let (is_row, was_row) = (change.new.is_some(), change.old.is_some());
        let new = row_or_none(cx, self.node, map(change.new))?;
        // Where it fails, nothing has been passed on. To know that, it is asked too.
        let ask = self.send_old || (E::POSSIBLE && new.is_none());
        let old = change.old.filter(|_| ask).and_then(|old| map(Some(old)).ok().flatten());
        if E::POSSIBLE && self.knows_old && (is_row || was_row) && new.is_none() && old.is_none() {
            return Ok(());
        }
        let value = Change { old: old.filter(|_| self.send_old), new };
        self.down.forward(cx, Record { key, value, timestamp, headers })
    }
}

struct MappedRows<K, V, F> {
    above: Box<dyn LookUp<K, V>>,
    f: Arc<F>,
}

impl<K, V, F> MappedRows<K, V, F> {
    fn mapped<V2, E: Failure>(&self, key: &K, row: Option<(V, Timestamp)>) -> Result<Option<(V2, Timestamp)>>
    where
        F: Fn(&K, V) -> Result<V2, E>,
    {
        let Some((value, time)) = row else { return Ok(None) };
        Ok((self.f)(key, value).ok().map(|value| (value, time)))
    }
}

impl<K, V, V2, E: Failure, F: Fn(&K, V) -> Result<V2, E>> LookUp<K, V2> for MappedRows<K, V, F> {
    fn get(&self, key: &K) -> Result<Option<(V2, Timestamp)>> {
        self.mapped(key, self.above.get(key)?)
    }

    fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<(V2, Timestamp)>> {
        self.mapped(key, self.above.get_as_of(key, time)?)
    }
}
