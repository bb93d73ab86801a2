//! `map`: another key and value for every record. The key counts as changed.

use std::sync::Arc;

use millstream_core::{Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Makes another record of every record; time and headers stay.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").map(|name, n| (n, name)).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<i64, String>("out")?;
    /// input.pipe("ann", 7);
    /// assert_eq!(out.read(), [kv(7, "ann")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map<K2: Clone + 'static, V2: Clone + 'static>(
        &self,
        f: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let f = Arc::new(f);
        self.add("KSTREAM-MAP", true, move |down| Map { f: f.clone(), down })
    }
}

struct Map<K2, V2, F> {
    f: Arc<F>,
    down: Downstream<Record<K2, V2>>,
}

impl<K, V, K2: Clone, V2: Clone, F: Fn(K, V) -> (K2, V2)> Forward<Record<K, V>> for Map<K2, V2, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let (key, value) = (self.f)(record.key, record.value);
        self.down.forward(cx, Record { key, value, timestamp: record.timestamp, headers: record.headers })
    }
}
