//! `to_stream`: a table's changes as a stream; a deletion is `None`.

use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;
use crate::ktable::KTable;

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// The stream of this table's new values.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // A deleted row is `None`. To leave deletions out:
    /// b.table::<String, i64>("in", "rows").to_stream().flat_map_values(|n| n).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", None);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        let node = self.builder.node("KTABLE-TOSTREAM", &[self.node], &[]);
        let port = self.builder.port();
        let out = port.clone();
        self.port.subscribe(move |task| Box::new(ToStream { down: task.open(&out) }));
        KStream { builder: self.builder.clone(), node, port, key_changed: false, sources: Arc::clone(&self.sources) }
    }
}

struct ToStream<K, V> {
    down: Downstream<Record<K, Option<V>>>,
}

impl<K: Clone, V: Clone> Forward<Record<K, Change<V>>> for ToStream<K, V> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        self.down.forward(cx, Record { key, value: value.new, timestamp, headers })
    }
}
