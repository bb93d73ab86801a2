//! `process_values`: a processor that cannot change the key, so that nothing after it repartitions.

use std::cell::Cell;
use std::rc::Rc;

use millstream_core::{
    Downstream, Forward, Headers, NodeId, Record, Result, StoreId, StoreInstance, TaskContext, Timestamp,
};

use crate::kstream::KStream;
use crate::processor::node::{stores_in, stores_of};
use crate::processor::store::{ProcessorStore, StoreHandle};

/// A record whose key stays as it is.
#[derive(Debug, Clone)]
pub struct FixedKeyRecord<K, V> {
    key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp: Timestamp,
    /// Headers.
    pub headers: Headers,
}

impl<K, V> FixedKeyRecord<K, V> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: V2) -> FixedKeyRecord<K, V2> {
        FixedKeyRecord { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }
}

/// A step written by hand that keeps the key.
///
/// ```
/// # use millstream_dsl::{FixedKeyRecord, KeyValueStore, StreamsBuilder, TopologyTestDriver, ValueOut, ValueProcessor, kv};
/// # use millstream_dsl::core::Result;
/// struct Change {
///     last: KeyValueStore<String, i64>,
/// }
/// impl ValueProcessor for Change {
///     // …
/// #     type K = String; type VIn = i64; type VOut = i64;
///     fn process(&mut self, r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
///         let before = self.last.put(r.key(), Some(r.value))?.unwrap_or(0);
///         let change = r.value - before;
///         out.forward(r.with_value(change))
///     }
/// }
/// # let b = StreamsBuilder::new();
/// let last = b.store::<String, i64>("last");
/// b.stream("in").process_values(move |setup| Change { last: setup.store(last) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// [5, 7].into_iter().for_each(|n| input.pipe("a", n));
/// assert_eq!(out.read(), [kv("a", 5), kv("a", 2)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub trait ValueProcessor: 'static {
    /// Key.
    type K: Clone + 'static;
    /// Value it takes.
    type VIn: Clone + 'static;
    /// Value it forwards.
    type VOut: Clone + 'static;

    /// Takes one record.
    ///
    /// # Errors
    /// As in [`crate::Processor::process`].
    fn process(
        &mut self,
        record: FixedKeyRecord<Self::K, Self::VIn>,
        out: &mut ValueOut<'_, Self::K, Self::VOut>,
    ) -> Result<()>;
}

/// Where a [`ValueProcessor`] forwards to.
pub struct ValueOut<'a, K, V> {
    cx: &'a mut TaskContext,
    down: &'a mut Downstream<Record<K, V>>,
}

impl<K: Clone, V: Clone> ValueOut<'_, K, V> {
    /// Passes a record on.
    ///
    /// # Errors
    /// Whatever an operator below returns.
    pub fn forward(&mut self, record: FixedKeyRecord<K, V>) -> Result<()> {
        let FixedKeyRecord { key, value, timestamp, headers } = record;
        self.down.forward(self.cx, Record { key, value, timestamp, headers })
    }
}

/// Given to the function that makes a [`ValueProcessor`]: its stores.
pub struct ValueSetup<'a> {
    pub(crate) stores: &'a mut dyn FnMut(StoreId) -> (StoreInstance, String),
    pub(crate) now: Rc<Cell<Timestamp>>,
}

impl ValueSetup<'_> {
    /// The task's own part of a store.
    pub fn store<S: ProcessorStore>(&mut self, store: StoreHandle<S>) -> S {
        let (instance, name) = (self.stores)(store.id);
        S::open(&instance, &name.into(), self.now.clone())
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Processes every record by hand, keeping its key. `make` makes the processor of one task; it is also called once
    /// while the program is built.
    ///
    /// ```
    /// # use millstream_dsl::{FixedKeyRecord, StreamsBuilder, TopologyTestDriver, ValueOut, ValueProcessor, kv};
    /// # use millstream_dsl::core::Result;
    /// # let b = StreamsBuilder::new();
    /// struct Double;
    /// impl ValueProcessor for Double {
    ///     type K = String; type VIn = i64; type VOut = i64;
    ///     fn process(&mut self, r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
    ///         let twice = r.value * 2;
    ///         out.forward(r.with_value(twice))
    ///     }
    /// }
    /// b.stream::<String, i64>("in").process_values(|_| Double).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 10)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn process_values<P: ValueProcessor<K = K, VIn = V>>(
        &self,
        make: impl Fn(&mut ValueSetup<'_>) -> P + Send + Sync + 'static,
    ) -> KStream<K, P::VOut> {
        let stores = stores_of(&self.builder, |stores| make(&mut ValueSetup { stores, now: Rc::default() }));
        let node = self.builder.node("KSTREAM-PROCESSVALUES", &[self.node], &stores);
        let port = self.builder.port();
        let (out, builder) = (port.clone(), self.builder.clone());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let now = Rc::new(Cell::new(0));
            let mut stores = stores_in(task, &builder);
            let processor = make(&mut ValueSetup { stores: &mut stores, now: now.clone() });
            Box::new(ProcessingValues { node, processor, now, down })
        });
        KStream {
            builder: self.builder.clone(),
            node,
            port,
            key_changed: self.key_changed,
            sources: self.sources.clone(),
        }
    }
}

struct ProcessingValues<P: ValueProcessor> {
    node: NodeId,
    processor: P,
    now: Rc<Cell<Timestamp>>,
    down: Downstream<Record<P::K, P::VOut>>,
}

impl<P: ValueProcessor> Forward<Record<P::K, P::VIn>> for ProcessingValues<P> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<P::K, P::VIn>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        self.now.set(timestamp);
        let record = FixedKeyRecord { key, value, timestamp, headers };
        let done = self.processor.process(record, &mut ValueOut { cx, down: &mut self.down });
        done.or_else(|error| cx.failed(self.node, error))
    }
}
