//! `merge`: two streams into one. Each keeps its own order; there is none between them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Both streams' records.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("web").merge(&b.stream("shops")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let web = t.input::<String, i64>("web")?;
    /// # let shops = t.input::<String, i64>("shops")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// web.pipe("a", 1);
    /// shops.pipe("a", 2);
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn merge(&self, other: &KStream<K, V>) -> KStream<K, V> {
        self.builder.same_program(&other.builder, "a merge");
        let node = self.builder.node("KSTREAM-MERGE", &[self.node, other.node], &[]);
        let port = self.builder.port();
        for side in [self, other] {
            let out = port.clone();
            side.port.subscribe(move |task| Box::new(task.open_shared(&out)));
        }
        let sources: BTreeSet<_> = self.sources.union(&other.sources).copied().collect();
        KStream {
            builder: self.builder.clone(),
            node,
            port,
            key_changed: self.key_changed || other.key_changed,
            sources: Arc::new(sources),
        }
    }
}
