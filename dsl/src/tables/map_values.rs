//! `map_values` of a table; deletions stay deletions.

use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Forward, Record, Result, TaskContext, Timestamp};

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
        let node = self.builder.node("KTABLE-MAPVALUES", &[self.node], &[]);
        let port = self.builder.port();
        let old_values = OldValues::derived(&[&self.old_values]);
        let f = Arc::new(f);
        let (out, mapper, wanted) = (port.clone(), f.clone(), old_values.clone());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(MapValues { f: mapper.clone(), send_old: wanted.wanted(), down })
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
            rows,
            old_values,
            nature: self.nature,
        }
    }
}

struct MapValues<K, V2, F> {
    f: Arc<F>,
    send_old: bool,
    down: Downstream<Record<K, Change<V2>>>,
}

impl<K: Data, V, V2: Data, F: Fn(&K, V) -> V2> Forward<Record<K, Change<V>>> for MapValues<K, V2, F> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        let new = change.new.map(|new| (self.f)(&key, new));
        let old = change.old.filter(|_| self.send_old).map(|old| (self.f)(&key, old));
        self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers })
    }
}

struct MappedRows<K, V, F> {
    above: Box<dyn LookUp<K, V>>,
    f: Arc<F>,
}

impl<K, V, V2, F: Fn(&K, V) -> V2> LookUp<K, V2> for MappedRows<K, V, F> {
    fn get(&self, key: &K) -> Option<(V2, Timestamp)> {
        self.above.get(key).map(|(value, time)| ((self.f)(key, value), time))
    }

    fn get_as_of(&self, key: &K, time: Timestamp) -> Option<(V2, Timestamp)> {
        self.above.get_as_of(key, time).map(|(value, time)| ((self.f)(key, value), time))
    }
}
