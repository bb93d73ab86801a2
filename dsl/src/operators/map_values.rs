//! `map_values`: another value for every record; the key stays.

use std::sync::Arc;

use millstream_core::{Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Makes another value of every value.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").map_values(|n| n * 2).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 10)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map_values<V2: Clone + 'static>(&self, f: impl Fn(V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.map_values_with_key(move |_, v| f(v))
    }

    /// Makes another value of every key and value.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").map_values_with_key(|name, n| format!("{name} has {n}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// input.pipe("ann", 5);
    /// assert_eq!(out.read(), [kv("ann", "ann has 5")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map_values_with_key<V2: Clone + 'static>(
        &self,
        f: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        self.add("KSTREAM-MAPVALUES", false, move |down| MapValues { f: f.clone(), down })
    }
}

struct MapValues<K, V2, F> {
    f: Arc<F>,
    down: Downstream<Record<K, V2>>,
}

impl<K: Clone, V, V2: Clone, F: Fn(&K, V) -> V2> Forward<Record<K, V>> for MapValues<K, V2, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let value = (self.f)(&record.key, record.value);
        self.down.forward(cx, Record { key: record.key, value, timestamp: record.timestamp, headers: record.headers })
    }
}
