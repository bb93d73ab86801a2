//! `table`, `to_table`: records become rows; the last one wins, in offset order (semantics.md 28, 29).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Forward, NodeId, Nullable, Port, Record, Result, TaskContext};
use millstream_state::Entry;

use crate::builder::{IntoTopics, StreamsBuilder};
use crate::consumed::Consumed;
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues};
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
        self.table_with(topic, store, Consumed::with(K::Serde::default(), V::Serde::default()))
    }

    /// A table with event time or reset policy of its own.
    pub fn table_with<K, V, X>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<K::Serde, V::Serde, X>,
    ) -> KTable<K, V>
    where
        K: Data<NonNull = K>,
        V: Data<NonNull = V>,
        X: millstream_core::TimestampExtractor<Option<K>, Option<V>>,
    {
        let port: Port<Record<Option<K>, Option<V>>> = self.port();
        let nullable = Consumed {
            key: Nullable(consumed.key),
            value: Nullable(consumed.value),
            extractor: consumed.extractor,
            reset: consumed.reset,
        };
        let node = self.source_node(topic.into_topics(), nullable, &port, false);
        add_table(self, node, &port, Arc::new([node].into()), store)
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

/// Hangs a stored table on a port of nullable records.
pub(crate) fn add_table<K: Data, V: Data>(
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
