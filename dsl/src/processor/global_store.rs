//! Global stores with a processor of their own: what is kept of a topic's records is the program's choice.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Forward, Nullable, Port, Record, Result, TaskContext, Timestamp};

use crate::builder::{IntoTopics, StreamsBuilder};
use crate::consumed::Consumed;
use crate::processor::store::{KeyValueStore, ProcessorStore, StoreHandle};
use crate::stored::Stored;

impl StreamsBuilder {
    /// A store that every thread fills on its own with the records of a topic, from its first to its last, as `make`'s
    /// function says; processors read it by the handle, and must not write to it. It has no changelog: at a start the topic
    /// is read again.
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Find { rows: KeyValueStore<String, String> }
    /// # impl Processor for Find {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         match self.rows.get(&r.key)? { Some(id) => out.forward(r.with_key(id)), None => Ok(()) }
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// // Keyed by the value, with the key as its value: the topic the other way round.
    /// let rows = b.global_store::<String, String, String, String, _>("names", "by-name", |rows| {
    ///     move |r| match (r.key, r.value) {
    ///         (Some(id), Some(name)) => rows.put(&name, Some(id)).map(drop),
    ///         _ => Ok(()),
    ///     }
    /// });
    /// b.stream::<String, i64>("in").process("find", move |s| Find { rows: s.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let names = t.input::<String, String>("names")?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// names.pipe("id 7", "ann");
    /// input.pipe("ann", 5);
    /// assert_eq!(out.read(), [kv("id 7", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn global_store<K: Data<NonNull = K>, V: Data<NonNull = V>, SK, SV, F>(
        &self,
        topic: &str,
        store: &str,
        make: impl Fn(KeyValueStore<SK, SV>) -> F + Send + Sync + 'static,
    ) -> StoreHandle<KeyValueStore<SK, SV>>
    where
        SK: Data<NonNull = SK>,
        SV: Data<NonNull = SV>,
        F: FnMut(Record<Option<K>, Option<V>>) -> Result<()> + 'static,
    {
        let id = Stored::<SK, SV>::add_global(self, store);
        let port: Port<Record<Option<K>, Option<V>>> = self.port();
        let consumed: Consumed<Nullable<K::Serde>, Nullable<V::Serde>> = Consumed::new();
        let source = self.source_node(topic.into_topics(), consumed, &port, true);
        self.node("GLOBAL-PROCESSOR", &[source], &[id]);
        let (name, builder) = (Arc::<str>::from(store), self.clone());
        port.subscribe(move |task| {
            let now: Rc<Cell<Timestamp>> = Rc::default();
            let instance = task.store_instance(id).cloned().unwrap_or_else(|| builder.empty_store(id).0);
            Box::new(GlobalProcessor { f: make(KeyValueStore::open(&instance, &name, now.clone())), now })
        });
        StoreHandle::new(id)
    }
}

struct GlobalProcessor<F> {
    f: F,
    now: Rc<Cell<Timestamp>>,
}

impl<K, V, F: FnMut(Record<K, V>) -> Result<()>> Forward<Record<K, V>> for GlobalProcessor<F> {
    fn forward(&mut self, _: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        self.now.set(record.timestamp);
        (self.f)(record)
    }
}
