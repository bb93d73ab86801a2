//! `flat_map`, `flat_map_values`: any number of records for every record, with its time and headers.

use std::sync::Arc;

use millstream_core::{Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Makes any number of records of every record. The key counts as changed.
    pub fn flat_map<K2, V2, I>(&self, f: impl Fn(K, V) -> I + Send + Sync + 'static) -> KStream<K2, V2>
    where
        K2: Clone + 'static,
        V2: Clone + 'static,
        I: IntoIterator<Item = (K2, V2)>,
    {
        let f = Arc::new(f);
        self.add("KSTREAM-FLATMAP", true, move |down| FlatMap { f: f.clone(), down })
    }

    /// Makes any number of values of every value; the key stays.
    pub fn flat_map_values<V2: Clone + 'static, I: IntoIterator<Item = V2>>(
        &self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        self.add("KSTREAM-FLATMAPVALUES", false, move |down| FlatMapValues { f: f.clone(), down })
    }
}

struct FlatMap<K2, V2, F> {
    f: Arc<F>,
    down: Downstream<Record<K2, V2>>,
}

impl<K, V, K2, V2, I, F> Forward<Record<K, V>> for FlatMap<K2, V2, F>
where
    K2: Clone,
    V2: Clone,
    I: IntoIterator<Item = (K2, V2)>,
    F: Fn(K, V) -> I,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        for (key, value) in (self.f)(record.key, record.value) {
            self.down
                .forward(cx, Record { key, value, timestamp: record.timestamp, headers: record.headers.clone() })?;
        }
        Ok(())
    }
}

struct FlatMapValues<K, V2, F> {
    f: Arc<F>,
    down: Downstream<Record<K, V2>>,
}

impl<K: Clone, V, V2: Clone, I: IntoIterator<Item = V2>, F: Fn(V) -> I> Forward<Record<K, V>>
    for FlatMapValues<K, V2, F>
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        for value in (self.f)(record.value) {
            self.down.forward(
                cx,
                Record { key: record.key.clone(), value, timestamp: record.timestamp, headers: record.headers.clone() },
            )?;
        }
        Ok(())
    }
}
