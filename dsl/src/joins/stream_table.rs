//! Stream-table join: every stream record meets the row that its key has now (semantics.md 32).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{Data, Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;
use crate::ktable::{KTable, LookUp};

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins every record with its key's row; records without a row, a key or a value are left out. `name` names the
    /// repartition topic, should the key have changed.
    pub fn join_table<T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        name: &str,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&V::NonNull, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        let stream = if self.key_changed { self.without_null_keys_kept(name) } else { self.clone() };
        stream.table_join(name, table, move |key: K, value, row| Some((key.into_non_null()?, f(value, row?))))
    }

    /// Joins every record with its key's row, or with none. Records without a value are left out; without a key they
    /// meet no row.
    pub fn left_join_table<T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        name: &str,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&V::NonNull, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.repartitioned(name).table_join(name, table, move |key: K, value, row| Some((key, f(value, row))))
    }

    /// An inner join needs no null keys on its repartition topic (semantics.md 10).
    fn without_null_keys_kept(&self, name: &str) -> KStream<K, V> {
        self.filter(|key, _| key.as_non_null().is_some()).repartition(name)
    }

    fn table_join<T: Data<NonNull = T>, K2: Clone + 'static, R: Clone + 'static>(
        &self,
        name: &str,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(K, &V::NonNull, Option<&T>) -> Option<(K2, R)> + Send + Sync + 'static,
    ) -> KStream<K2, R> {
        let node = self.builder.node("KSTREAM-JOIN", &[self.node], &table.stores);
        let port = self.builder.port();
        let (out, rows, f) = (port.clone(), table.rows.clone(), Arc::new(f));
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(TableJoin { rows: rows(task), f: f.clone(), down })
        });
        let sources: BTreeSet<_> = self.sources.union(&table.sources).copied().collect();
        self.builder.copartition(&format!("join `{name}`"), sources.clone());
        KStream { builder: self.builder.clone(), node, port, key_changed: false, sources: Arc::new(sources) }
    }
}

struct TableJoin<K: Data, T, F, K2, R> {
    rows: Box<dyn LookUp<K::NonNull, T>>,
    f: Arc<F>,
    down: Downstream<Record<K2, R>>,
}

impl<K, V, T, F, K2, R> Forward<Record<K, V>> for TableJoin<K, T, F, K2, R>
where
    K: Data,
    V: Data,
    K2: Clone,
    R: Clone,
    F: Fn(K, &V::NonNull, Option<&T>) -> Option<(K2, R)>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let Some(value) = value.as_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        let has_key = key.as_non_null().is_some();
        let row = key.as_non_null().and_then(|key| self.rows.get(key)).map(|(row, _)| row);
        match (self.f)(key, value, row.as_ref()) {
            Some((key, value)) => self.down.forward(cx, Record { key, value, timestamp, headers }),
            None => {
                if !has_key {
                    cx.drop_record();
                }
                Ok(())
            }
        }
    }
}
