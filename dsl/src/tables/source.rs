//! `table`, `to_table`: records become rows; the last one wins, in offset order (semantics.md 28, 29).

use std::any::TypeId;
use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Encoded, FailOnInvalidTimestamp, Forward, Half, Headers, NodeId, Nullable, Port,
    RebuiltFrom, Record, Result, Row, RowOf, Serde, SerdeContext, TaskContext, TimestampExtractor,
};
use millstream_state::Entry;

use crate::builder::{IntoTopics, StreamsBuilder};
use crate::consumed::Consumed;
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, OwnStore};
use crate::row_serde::RowSerde;
use crate::stored::Stored;

impl StreamsBuilder {
    /// A table of a topic, kept in the store `store`. A null value deletes its row; a null key is dropped and counted.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", None);
    /// assert_eq!(out.read(), [kv("a", Some(5)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn table<K: Data<NonNull = K>, V: Data<NonNull = V>>(&self, topic: &str, store: &str) -> KTable<K, V> {
        self.table_with(topic, store, Consumed::of::<K, V>())
    }

    /// A table with serdes, event time, reset policy or idleness of its topic's own; its store has the serdes of the types.
    /// The extractor is given keys and values that may be null. With event time of its own it keeps its changelog, also when
    /// [`crate::Optimization::ReuseSourceTopics`] is asked for.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::OffsetReset;
    /// # let b = StreamsBuilder::new();
    /// // A new application sees only the changes that are still to come.
    /// let consumed = Consumed::of::<String, i64>().reset(OffsetReset::Latest);
    /// b.table_with("in", "rows", consumed).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn table_with<KS, VS, X>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<KS, VS, X>,
    ) -> KTable<KS::Value, VS::Value>
    where
        KS: RowSerde,
        VS: RowSerde,
        X: TimestampExtractor<Option<KS::Value>, Option<VS::Value>>,
    {
        let port = self.port();
        let consumed = consumed.nullable();
        let row = row_of(topic, store, consumed.key.clone(), consumed.value.clone());
        let node = self.source_node(topic.into_topics(), consumed, &port, false);
        let table = add_table(self, node, &port, Arc::new([node].into()), store);
        // Event time of a program's own may depend on more than the record.
        if TypeId::of::<X>() == TypeId::of::<FailOnInvalidTimestamp>() {
            let from = RebuiltFrom { topic: topic.to_owned(), row };
            table.stores.iter().for_each(|id| self.rebuildable(*id, from.clone()));
        }
        table
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// The table of the stream's latest values. Repartitions first, over a topic named after the store, if the key may
    /// have changed.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let latest = b.stream::<String, i64>("in").filter(|_, n| *n > 0).to_table("latest");
    /// b.stream::<String, i64>("asked").join_table("answers", &latest, |_, n| *n).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let asked = t.input::<String, i64>("asked")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// [5, 7, -1].into_iter().for_each(|n| input.pipe("a", n));
    /// asked.pipe("a", 0);
    /// assert_eq!(out.read(), [kv("a", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to_table(&self, store: &str) -> KTable<K::NonNull, V::NonNull> {
        let stream = self.repartitioned(store);
        add_table(&stream.builder, stream.node, &stream.port, stream.sources.clone(), store)
    }
}

/// The row of a record of a table's topic: keys and values as the store writes them.
fn row_of<KS, VS>(topic: &str, store: &str, key: Nullable<KS>, value: Nullable<VS>) -> RowOf
where
    KS: Serde<Value: Data>,
    VS: Serde<Value: Data>,
{
    let (topic, store) = (topic.to_owned(), store.to_owned());
    Arc::new(move |key_bytes, value_bytes, headers| {
        let read = |half| SerdeContext { topic: &topic, half };
        let row_key = key.deserialize(key_bytes, read(Half::Key), headers).ok()??;
        let row_value = value.deserialize(value_bytes, read(Half::Value), headers).ok()?;
        let write = |half| SerdeContext { topic: &store, half };
        let mut row = Row { key: Vec::new(), value: None, headers: Headers::new() };
        let key = <KS::Value as Data>::Serde::default();
        let _not_null = key.serialize(&row_key, write(Half::Key), &mut Headers::new(), &mut row.key).ok()?;
        let (value, mut bytes) = (Nullable(<VS::Value as Data>::Serde::default()), Vec::new());
        let encoded = value.serialize(&row_value, write(Half::Value), &mut row.headers, &mut bytes).ok()?;
        row.value = (encoded == Encoded::Bytes).then_some(bytes);
        Some(row)
    })
}

/// Hangs a stored table on a port of nullable records.
fn add_table<K: Data, V: Data>(
    builder: &StreamsBuilder,
    input: NodeId,
    from: &Port<Record<K, V>>,
    sources: Arc<BTreeSet<NodeId>>,
    store: &str,
) -> KTable<K::NonNull, V::NonNull> {
    let id = Stored::<K::NonNull, V::NonNull>::add(builder, store);
    let node = builder.node("KTABLE-SOURCE", &[input], &[id]);
    let port = builder.port();
    let old_values = OldValues::stored();
    let (out, wanted, name) = (port.clone(), old_values.clone(), Arc::<str>::from(store));
    from.subscribe(move |task| {
        let down = task.open(&out);
        Box::new(TableSource {
            rows: Stored::<K::NonNull, V::NonNull>::open(task, id, &name),
            send_old: wanted.wanted(),
            down,
        })
    });
    KTable {
        builder: builder.clone(),
        node,
        port,
        sources,
        stores: vec![id],
        own: Some(OwnStore::KeyValue(id)),
        rows: Stored::rows(id, store),
        old_values,
        nature: Nature::default(),
    }
}

struct TableSource<K: Data, V: Data> {
    rows: Stored<K, V>,
    send_old: bool,
    down: Downstream<Record<K, Change<V>>>,
}

impl<K: Data, V: Data> Forward<Record<K, V>> for TableSource<K::NonNull, V::NonNull> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let Some(key) = key.into_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        let new = value.into_non_null();
        let old = self.rows.change(&key, |entry| std::mem::replace(entry, Entry { value: new.clone(), timestamp }))?;
        let old = old.value.filter(|_| self.send_old);
        self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers })
    }
}
