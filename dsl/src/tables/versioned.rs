//! Tables with a history: `versioned_table`, `to_versioned_table` (KIP-889, KIP-914).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Change, Data, Downstream, Forward, NodeId, Port, Record, Result, StoreFormat, StoreId, TaskBuilder, TaskContext,
    Timestamp, TimestampExtractor,
};
use millstream_state::{Put, VersionedTable};

use crate::builder::{IntoTopics, NewStore, StreamsBuilder};
use crate::consumed::Consumed;
use crate::durations::Least;
use crate::keys::Keys;
use crate::kstream::KStream;
use crate::ktable::{KTable, LookUp, Nature, OldValues, OwnStore};
use crate::row_serde::RowSerde;

impl StreamsBuilder {
    /// A table of a topic whose store keeps `history`: updates count by their time, not by their offset, and those older
    /// than the history are dropped. Joins of streams with it meet the row as of the stream record's time.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let prices = b.versioned_table::<String, i64>("prices", "prices", HOUR);
    /// b.stream::<String, i64>("orders").join_table("priced", &prices, |n, price| n * price).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let prices = t.input::<String, i64>("prices")?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// prices.pipe_at(0, "hat", 20);
    /// prices.pipe_at(60_000, "hat", 30);
    /// orders.pipe_at(59_999, "hat", 1); // the price of its time
    /// assert_eq!(out.read(), [kv("hat", 20)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn versioned_table<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        topic: &str,
        store: &str,
        history: Duration,
    ) -> KTable<K, V> {
        self.versioned_table_with(topic, store, history, Consumed::of::<K, V>())
    }

    /// As [`StreamsBuilder::versioned_table`], with serdes, event time, reset policy or idleness of its topic's own; its store
    /// has the serdes of the types. The extractor is given keys and values that may be null.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, HOUR, StreamsBuilder, TopologyTestDriver, event_time, kv};
    /// # let b = StreamsBuilder::new();
    /// // A price is valid from the time that is in it.
    /// let from = event_time(|_: &Option<String>, price: &Option<i64>| price.map_or(-1, |price| price / 100));
    /// let consumed = Consumed::of::<String, i64>().timestamps(from);
    /// let prices = b.versioned_table_with("prices", "prices", HOUR, consumed);
    /// b.stream::<String, i64>("orders").join_table("priced", &prices, |n, price| n * (price % 100)).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let prices = t.input::<String, i64>("prices")?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// prices.pipe("hat", 1030); // 30 from 10 on
    /// prices.pipe("hat", 520); // 20 from 5 on
    /// orders.pipe_at(7, "hat", 2);
    /// orders.pipe_at(11, "hat", 2);
    /// assert_eq!(out.read(), [kv("hat", 40), kv("hat", 60)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn versioned_table_with<KS, VS, X>(
        &self,
        topic: &str,
        store: &str,
        history: Duration,
        consumed: Consumed<KS, VS, X>,
    ) -> KTable<KS::Value, VS::Value>
    where
        KS: RowSerde,
        VS: RowSerde,
        X: TimestampExtractor<Option<KS::Value>, Option<VS::Value>>,
    {
        let port = self.port();
        let node = self.source_node(topic.into_topics(), consumed.nullable(), &port, false);
        add_versioned(self, node, &port, Arc::new([node].into()), store, history)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// The table of the stream's values by time, with their history. Repartitions first, over a topic named after the
    /// store, if the key may have changed.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let prices = b.stream::<String, i64>("prices").filter(|_, n| *n > 0).to_versioned_table("prices", HOUR);
    /// b.stream::<String, i64>("orders").join_table("priced", &prices, |n, price| n * price).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let prices = t.input::<String, i64>("prices")?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// prices.pipe_at(60_000, "hat", 30);
    /// prices.pipe_at(0, "hat", 20); // older, although it comes later
    /// orders.pipe_at(60_000, "hat", 1);
    /// assert_eq!(out.read(), [kv("hat", 30)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to_versioned_table(&self, store: &str, history: Duration) -> KTable<K::NonNull, V::NonNull> {
        let stream = self.repartitioned(store);
        add_versioned(&stream.builder, stream.node, &stream.port, stream.sources.clone(), store, history)
    }
}

fn add_versioned<K: Data, V: Data>(
    builder: &StreamsBuilder,
    input: NodeId,
    from: &Port<Record<K, V>>,
    sources: Arc<BTreeSet<NodeId>>,
    store: &str,
    history: Duration,
) -> KTable<K::NonNull, V::NonNull> {
    let history = builder.millis(&format!("`{store}`"), "a history", history, Least::Zero);
    let id = VersionedRows::<K::NonNull, V::NonNull>::add(builder, store, history);
    let node = builder.node("KTABLE-SOURCE", &[input], &[id]);
    let port = builder.port();
    let old_values = OldValues::stored();
    let (out, wanted, name) = (port.clone(), old_values.clone(), Arc::<str>::from(store));
    from.subscribe(move |task| {
        let down = task.open(&out);
        let rows = VersionedRows::<K::NonNull, V::NonNull>::open(task.store(id), &name);
        Box::new(VersionedSource { rows, send_old: wanted.wanted(), down })
    });
    let name: Arc<str> = store.into();
    let rows = Arc::new(move |task: &mut TaskBuilder<'_>| -> Box<dyn LookUp<K::NonNull, V::NonNull>> {
        Box::new(VersionedRows::<K::NonNull, V::NonNull>::open(task.store(id), &name))
    });
    let nature = Nature { history: Some(history), ahead: false };
    let own = Some(OwnStore::Versioned(id));
    KTable { builder: builder.clone(), node, port, sources, stores: vec![id], own, rows, old_values, nature }
}

/// A versioned store in its task, addressed by typed keys.
pub(crate) struct VersionedRows<K: Data, V: Data> {
    pub(crate) table: Rc<RefCell<VersionedTable<V::Serde>>>,
    pub(crate) keys: Keys<K>,
}

impl<K: Data, V: Data> VersionedRows<K, V> {
    /// Adds the store. Its changelog is not compacted before a day after the history (semantics.md 11).
    pub(crate) fn add(builder: &StreamsBuilder, name: &str, history: Timestamp) -> StoreId {
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("min.compaction.lag.ms", history.saturating_add(86_400_000).to_string()),
        ];
        let format = StoreFormat::of::<K::Serde, V::Serde>("versioned");
        let make = move |name: &str| VersionedTable::<V::Serde>::new(name, V::Serde::default(), history);
        builder.store_named(NewStore::new(name, format, configs, make))
    }

    pub(crate) fn open(table: Rc<RefCell<VersionedTable<V::Serde>>>, name: &Arc<str>) -> Self {
        VersionedRows { table, keys: Keys::new(name) }
    }
}

impl<K: Data, V: Data> LookUp<K, V> for VersionedRows<K, V> {
    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        Ok(self.table.borrow_mut().get(&key)?.map(|version| (version.value.clone(), version.timestamp)))
    }

    fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<(V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        Ok(self.table.borrow_mut().get_as_of(&key, time)?.map(|version| (version.value.clone(), version.timestamp)))
    }
}

struct VersionedSource<K: Data, V: Data> {
    rows: VersionedRows<K, V>,
    send_old: bool,
    down: Downstream<Record<K, Change<V>>>,
}

impl<K: Data, V: Data> Forward<Record<K, V>> for VersionedSource<K::NonNull, V::NonNull> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let Some(key) = key.into_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        let new = value.into_non_null();
        let (old, put) = {
            let bytes = self.rows.keys.encode(&key)?;
            let mut table = self.rows.table.borrow_mut();
            let old = if self.send_old { table.get(&bytes)?.map(|version| version.value.clone()) } else { None };
            (old, table.put(&bytes, timestamp, new.clone())?)
        };
        if put == Put::TooOld {
            cx.drop_late_record();
            return Ok(());
        }
        let before = cx.set_out_of_order(put != Put::Latest);
        let forwarded = self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers });
        cx.set_out_of_order(before);
        forwarded
    }
}
