//! `filter`, `filter_not`: keep the records that a predicate is true for, or false.

use std::sync::Arc;

use millstream_core::{Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Keeps the records for which `keep` is true.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").filter(|_, n| *n >= 10).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 50);
    /// assert_eq!(out.read(), [kv("a", 50)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        let keep = Arc::new(keep);
        self.add("KSTREAM-FILTER", false, move |down| Filter { keep: keep.clone(), down })
    }

    /// Keeps the records for which `leave_out` is false.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").filter_not(|_, n| *n >= 10).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 50);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn filter_not(&self, leave_out: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.filter(move |k, v| !leave_out(k, v))
    }
}

struct Filter<K, V, F> {
    keep: Arc<F>,
    down: Downstream<Record<K, V>>,
}

impl<K: Clone, V: Clone, F: Fn(&K, &V) -> bool> Forward<Record<K, V>> for Filter<K, V, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        if (self.keep)(&record.key, &record.value) { self.down.forward(cx, record) } else { Ok(()) }
    }
}
