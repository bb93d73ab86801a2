//! `cogroup`: several grouped streams folded into one row per key, each by its own function (KIP-150).

use std::sync::Arc;

use millstream_core::{Data, NodeId, StoreId, TaskBuilder};

use crate::aggregates::grouped::GroupedStream;
use crate::aggregates::key_value::Aggregate;
use crate::builder::StreamsBuilder;
use crate::ktable::{KTable, OldValues};
use crate::stored::Stored;

/// How one input of a cogroup is hung on the common store, once store and initialiser are known.
type Attach<K, A> = Arc<dyn Fn(&str, Init<A>, StoreId, &Table<K, A>) -> NodeId + Send + Sync>;
type Init<A> = Arc<dyn Fn() -> A + Send + Sync>;

/// The result under construction: its port and old values.
struct Table<K, A> {
    port: millstream_core::Port<millstream_core::Record<K, millstream_core::Change<A>>>,
    old_values: OldValues,
}

/// Several grouped streams that share one row per key.
pub struct CogroupedStream<K, A> {
    builder: StreamsBuilder,
    inputs: Vec<Attach<K, A>>,
}

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    /// Starts a cogroup with this stream, folded in place.
    pub fn cogroup<A: Data<NonNull = A>>(
        &self,
        f: impl Fn(&K, V::NonNull, &mut A) + Send + Sync + 'static,
    ) -> CogroupedStream<K, A> {
        let none = CogroupedStream { builder: self.stream_for("").builder.clone(), inputs: Vec::new() };
        none.cogroup(self, f)
    }
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> CogroupedStream<K, A> {
    /// Adds a stream, folded in place.
    pub fn cogroup<V: Data>(
        self,
        other: &GroupedStream<K, V>,
        f: impl Fn(&K, V::NonNull, &mut A) + Send + Sync + 'static,
    ) -> Self {
        self.cogroup_or_delete(other, move |key, value, mut sum| {
            f(key, value, &mut sum);
            Some(sum)
        })
    }

    /// Adds a stream whose function takes and returns the value; `None` deletes the row.
    pub fn cogroup_or_delete<V: Data>(
        mut self,
        other: &GroupedStream<K, V>,
        f: impl Fn(&K, V::NonNull, A) -> Option<A> + Send + Sync + 'static,
    ) -> Self {
        let (other, f) = (other.clone(), Arc::new(f));
        self.inputs.push(Arc::new(move |store, init, id, table| {
            let stream = other.stream_for(store);
            let node = stream.builder.node("COGROUPKSTREAM-AGGREGATE", &[stream.node], &[id]);
            let (out, wanted, name, f) =
                (table.port.clone(), table.old_values.clone(), Arc::<str>::from(store), f.clone());
            stream.port.subscribe(move |task: &mut TaskBuilder<'_>| {
                let down = task.open_shared(&out);
                let (f, init) = (f.clone(), init.clone());
                let fold = move |key: &K, value, sum: Option<A>| f(key, value, sum.unwrap_or_else(|| init()));
                Box::new(Aggregate {
                    rows: Stored::open(task, id, &name),
                    f: Arc::new(fold),
                    send_old: wanted.wanted(),
                    down,
                })
            });
            node
        }));
        self
    }

    /// Folds all streams; `init` makes the value of a key that has none.
    pub fn aggregate(self, store: &str, init: impl Fn() -> A + Send + Sync + 'static) -> KTable<K, A> {
        let id = Stored::<K, A>::add(&self.builder, store);
        let table = Table { port: self.builder.port(), old_values: OldValues::stored() };
        let init: Init<A> = Arc::new(init);
        let nodes: Vec<NodeId> = self.inputs.iter().map(|attach| attach(store, init.clone(), id, &table)).collect();
        let sources: std::collections::BTreeSet<NodeId> = self.builder.sources_of(&nodes);
        self.builder.copartition(&format!("cogroup `{store}`"), sources.clone());
        let node = self.builder.node("COGROUPKSTREAM-MERGE", &nodes, &[]);
        KTable {
            builder: self.builder,
            node,
            port: table.port,
            sources: Arc::new(sources),
            stores: vec![id],
            rows: Stored::rows(id, store),
            old_values: table.old_values,
        }
    }
}
