//! `process_values`: a processor that cannot change the key, so that nothing after it repartitions.

use std::marker::PhantomData;

use millstream_core::{Headers, Record, Result, Timestamp};

use crate::kstream::KStream;
use crate::processor::kind::{Kind, OutOf};
use crate::processor::node::WithChildren;
use crate::processor::out::Out;
use crate::processor::setup::Setup;

/// A record whose key stays as it is. A program cannot make one: those that came can be changed, kept, and forwarded later.
///
/// ```
/// # use millstream_dsl::{FixedKeyRecord, StreamsBuilder, TopologyTestDriver, ValueOut, ValueProcessor};
/// # use millstream_dsl::core::Result;
/// # struct Shift;
/// # impl ValueProcessor for Shift {
/// #     type K = String; type VIn = i64; type VOut = String;
///     fn process(&mut self, mut r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, String>) -> Result<()> {
///         let (text, time) = (format!("{} of {}", r.value, r.key()), r.timestamp);
///         r.headers.add("from", Some(b"shift"));
///         out.forward(r.with_value(text).with_timestamp(time + 1))
///     }
/// # }
/// # let b = StreamsBuilder::new();
/// # b.stream::<String, i64>("in").process_values("shift", |_| Shift).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe_at(7, "a", 5);
/// # let out = t.output::<String, String>("out")?.read_records();
/// # assert_eq!((out[0].value.as_str(), out[0].timestamp), ("5 of a", 8));
/// # assert_eq!(out[0].headers.last("from"), Some(b"shift".as_slice()));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
///
/// ```compile_fail,E0308
/// # use millstream_dsl::{FixedKeyRecord, ValueOut};
/// # use millstream_dsl::core::{Record, Result};
/// fn process(r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
///     out.forward(Record::new("another key".to_owned(), r.value, r.timestamp))
/// }
/// ```
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
    #[inline]
    pub fn with_value<V2>(self, value: V2) -> FixedKeyRecord<K, V2> {
        FixedKeyRecord { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record at another time.
    pub fn with_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = timestamp;
        self
    }
}

impl<K, V> From<FixedKeyRecord<K, V>> for Record<K, V> {
    #[inline]
    fn from(FixedKeyRecord { key, value, timestamp, headers }: FixedKeyRecord<K, V>) -> Self {
        Record { key, value, timestamp, headers }
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
/// b.stream("in").process_values("change", move |setup| Change { last: setup.store(last) }).to("out");
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

/// Where a [`ValueProcessor`] forwards to: records that came, with another value, time or headers.
pub type ValueOut<'a, K, V> = Out<'a, K, V, FixedKeyRecord<K, V>>;

/// What a [`ValueProcessor`] is made with: stores and timers. A timer forwards records that the processor has kept.
pub type ValueSetup<'a, P> = Setup<'a, P, FixedKey>;

/// A step that keeps the key.
#[derive(Debug)]
pub struct FixedKey(PhantomData<()>);

impl<P: ValueProcessor> Kind<P> for FixedKey {
    type KIn = P::K;
    type VIn = P::VIn;
    type KOut = P::K;
    type VOut = P::VOut;
    type Forwarded = FixedKeyRecord<P::K, P::VOut>;

    #[inline]
    fn process(processor: &mut P, record: Record<P::K, P::VIn>, out: &mut OutOf<'_, P, Self>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        processor.process(FixedKeyRecord { key, value, timestamp, headers }, out)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Processes every record by hand, keeping its key. `make` makes the processor of one task; it is also called once
    /// while the program is built.
    ///
    /// ```
    /// # use millstream_dsl::{Clock, FixedKeyRecord, MIN, StreamsBuilder, TopologyTestDriver, ValueOut, ValueProcessor, kv};
    /// # use millstream_dsl::core::Result;
    /// # let b = StreamsBuilder::new();
    /// // Every record at once, and the last one again with every minute.
    /// struct Repeat { last: Option<FixedKeyRecord<String, i64>> }
    /// impl ValueProcessor for Repeat {
    ///     type K = String; type VIn = i64; type VOut = i64;
    ///     fn process(&mut self, r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
    ///         self.last = Some(r.clone());
    ///         out.forward(r)
    ///     }
    /// }
    /// impl Repeat {
    ///     fn tick(&mut self, now: i64, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
    ///         self.last.clone().map_or(Ok(()), |last| out.forward(last.with_timestamp(now)))
    ///     }
    /// }
    /// b.stream::<String, i64>("in")
    ///     .process_values("repeat", |setup| {
    ///         setup.every(MIN, Clock::Wall, Repeat::tick);
    ///         Repeat { last: None }
    ///     })
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// t.advance(MIN)?;
    /// assert_eq!(out.read(), [kv("a", 5), kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn process_values<P: ValueProcessor<K = K, VIn = V>>(
        &self,
        name: &str,
        make: impl Fn(&mut ValueSetup<'_, P>) -> P + Send + Sync + 'static,
    ) -> KStream<K, P::VOut> {
        self.process_values_with_children(name, &[], make).0
    }

    /// As [`KStream::process_values`], with named children besides what follows, as [`KStream::process_with_children`] has
    /// them.
    ///
    /// ```
    /// # use millstream_dsl::{FixedKeyRecord, StreamsBuilder, TopologyTestDriver, ValueOut, ValueProcessor, kv};
    /// # use millstream_dsl::core::Result;
    /// # let b = StreamsBuilder::new();
    /// struct Sorter;
    /// impl ValueProcessor for Sorter {
    ///     type K = String; type VIn = i64; type VOut = i64;
    ///     fn process(&mut self, r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
    ///         out.forward_to(if r.value < 0 { "negative" } else { "positive" }, r)
    ///     }
    /// }
    /// let (_, children) =
    ///     b.stream("in").process_values_with_children("sort", &["negative", "positive"], |_| Sorter);
    /// // Keys are what they were: nothing is repartitioned.
    /// children.get("negative").expect("a child").group_by_key().count("negative").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// [5, -5].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn process_values_with_children<P: ValueProcessor<K = K, VIn = V>>(
        &self,
        name: &str,
        children: &[&str],
        make: impl Fn(&mut ValueSetup<'_, P>) -> P + Send + Sync + 'static,
    ) -> WithChildren<K, P::VOut> {
        self.add_processor::<P, FixedKey>("KSTREAM-PROCESSVALUES", self.key_changed, name, children, make)
    }
}
