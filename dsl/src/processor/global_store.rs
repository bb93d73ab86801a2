//! Global stores with a processor of their own: what is kept of a topic's records is the program's choice.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{Data, Downstream, Port, Record, Result, Serde, TimestampExtractor};

use crate::builder::{IntoTopics, StreamsBuilder};
use crate::consumed::Consumed;
use crate::processor::node::Running;
use crate::processor::out::{Out, Outputs};
use crate::processor::setup::Setup;
use crate::processor::step::{AnyKey, Processor};
use crate::processor::store::{KeyValueStore, StoreHandle};
use crate::stored::Stored;

impl StreamsBuilder {
    /// A store that every thread fills on its own with the records of a topic, from its first to its last, as `make`'s
    /// function says; processors read it by the handle, and what they put there is an error. It has no changelog: at a start the topic
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
        self.global_store_with(topic, store, Consumed::of::<K, V>(), make)
    }

    /// As [`StreamsBuilder::global_store`], with serdes or event time of its topic's own. It is always read from the start and has
    /// no part in stream time, so a reset policy or idleness is refused.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, event_time, kv};
    /// # use millstream_dsl::core::{NumberSerde, Record, Result, StringSerde};
    /// # struct Find { rows: KeyValueStore<String, i64> }
    /// # impl Processor for Find {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let found = self.rows.get(&r.key)?.unwrap_or(-1);
    /// #         out.forward(r.with_value(found))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let consumed = Consumed::with(StringSerde, NumberSerde::<i64>::default());
    /// let seen = consumed.timestamps(event_time(|_, seen: &Option<i64>| seen.unwrap_or(0)));
    /// // When each was seen last, whatever the order in the topic.
    /// let rows = b.global_store_with("seen", "last-seen", seen, |rows: KeyValueStore<String, i64>| {
    ///     move |r| r.key.map_or(Ok(()), |id| rows.update(&id, |last| *last = (*last).max(Some(r.timestamp))))
    /// });
    /// b.stream::<String, i64>("in").process("find", move |s| Find { rows: s.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let seen = t.input::<String, i64>("seen")?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// [7, 5].into_iter().for_each(|time| seen.pipe("ann", time));
    /// input.pipe("ann", 0);
    /// assert_eq!(out.read(), [kv("ann", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn global_store_with<KS, VS, X, SK, SV, F>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<KS, VS, X>,
        make: impl Fn(KeyValueStore<SK, SV>) -> F + Send + Sync + 'static,
    ) -> StoreHandle<KeyValueStore<SK, SV>>
    where
        KS: Serde<Value: Data>,
        VS: Serde<Value: Data>,
        X: TimestampExtractor<Option<KS::Value>, Option<VS::Value>>,
        SK: Data<NonNull = SK>,
        SV: Data<NonNull = SV>,
        F: FnMut(Record<Option<KS::Value>, Option<VS::Value>>) -> Result<()> + 'static,
    {
        let make = move |rows| Apply { f: make(rows), records: PhantomData };
        self.global_store_processor_with(topic, store, consumed.nullable(), make)
    }

    /// As [`StreamsBuilder::global_store`], filled by a processor: it can ask where a record came from, and for the times. It
    /// forwards nothing and has no timers. A type that is no `Option` takes a null for an undecodable record.
    ///
    /// At a start, too, rows come from the topic through the processor, never past it.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Find { rows: KeyValueStore<String, i64> }
    /// # impl Processor for Find {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let found = self.rows.get(&r.key)?.unwrap_or(-1);
    /// #         out.forward(r.with_value(found))
    /// #     }
    /// # }
    /// /// Where the last record of every key is.
    /// struct Offsets { rows: KeyValueStore<String, i64> }
    /// impl Processor for Offsets {
    ///     type KIn = String; type VIn = Option<String>; type KOut = Infallible; type VOut = Infallible;
    ///     fn process(&mut self, r: Record<String, Option<String>>, out: &mut Out<'_, Infallible, Infallible>) -> Result<()> {
    ///         let offset = out.source().map(|(_, offset)| offset);
    ///         self.rows.put(&r.key, offset).map(drop)
    ///     }
    /// }
    /// # let b = StreamsBuilder::new();
    /// let rows = b.global_store_processor("names", "offsets", |rows| Offsets { rows });
    /// b.stream::<String, i64>("in").process("find", move |s| Find { rows: s.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let names = t.input::<String, String>("names")?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// ["ann", "bea"].into_iter().for_each(|name| names.pipe("id 7", name));
    /// input.pipe("id 7", 0);
    /// assert_eq!(out.read(), [kv("id 7", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn global_store_processor<P, SK, SV>(
        &self,
        topic: &str,
        store: &str,
        make: impl Fn(KeyValueStore<SK, SV>) -> P + Send + Sync + 'static,
    ) -> StoreHandle<KeyValueStore<SK, SV>>
    where
        P: Processor<KIn: Data, VIn: Data, KOut = Infallible, VOut = Infallible>,
        SK: Data<NonNull = SK>,
        SV: Data<NonNull = SV>,
    {
        let consumed: Consumed<<P::KIn as Data>::Serde, <P::VIn as Data>::Serde> = Consumed::new();
        self.global_store_processor_with(topic, store, consumed, make)
    }

    /// As [`StreamsBuilder::global_store_processor`], with serdes or event time of its topic's own, as
    /// [`StreamsBuilder::global_store_with`].
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use millstream_dsl::{Consumed, KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{LogAndSkipOnInvalidTimestamp, Record, Result};
    /// # struct Find { rows: KeyValueStore<String, i64> }
    /// # impl Processor for Find {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let found = self.rows.get(&r.key)?.unwrap_or(-1);
    /// #         out.forward(r.with_value(found))
    /// #     }
    /// # }
    /// # struct Times { rows: KeyValueStore<String, i64> }
    /// # impl Processor for Times {
    /// #     type KIn = String; type VIn = i64; type KOut = Infallible; type VOut = Infallible;
    /// #     fn process(&mut self, r: Record<String, i64>, _: &mut Out<'_, Infallible, Infallible>) -> Result<()> {
    /// #         self.rows.put(&r.key, Some(r.timestamp)).map(drop)
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let consumed = Consumed::of::<String, i64>().timestamps(LogAndSkipOnInvalidTimestamp);
    /// let rows = b.global_store_processor_with("seen", "times", consumed, |rows| Times { rows });
    /// b.stream::<String, i64>("in").process("find", move |s| Find { rows: s.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let seen = t.input::<String, i64>("seen")?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// [7, -1].into_iter().try_for_each(|time| seen.try_pipe(Record::new("ann".to_owned(), 5, time)))?;
    /// input.pipe("ann", 0);
    /// assert_eq!(out.read(), [kv("ann", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn global_store_processor_with<KS, VS, X, P, SK, SV>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<KS, VS, X>,
        make: impl Fn(KeyValueStore<SK, SV>) -> P + Send + Sync + 'static,
    ) -> StoreHandle<KeyValueStore<SK, SV>>
    where
        KS: Serde<Value: Clone + 'static>,
        VS: Serde<Value: Clone + 'static>,
        X: TimestampExtractor<KS::Value, VS::Value>,
        P: Processor<KIn = KS::Value, VIn = VS::Value, KOut = Infallible, VOut = Infallible>,
        SK: Data<NonNull = SK>,
        SV: Data<NonNull = SV>,
    {
        self.no_start_of_globals("store", store, &consumed);
        let id = Stored::<SK, SV>::add_global(self, store);
        let port: Port<Record<P::KIn, P::VIn>> = self.port();
        let source = self.source_node(topic.into_topics(), consumed, &port, true);
        let node = self.node("GLOBAL-PROCESSOR", &[source], &[id]);
        let (name, builder) = (Arc::<str>::from(store), self.clone());
        let make = move |setup: &mut Setup<'_, P>| make(setup.store(StoreHandle::filling(id)));
        port.subscribe(move |task| {
            let down = Outputs { main: Downstream::None, children: Vec::new() };
            Box::new(Running::<P, AnyKey>::start(task, &builder, node, &name, down, &make))
        });
        StoreHandle::new(id)
    }
}

/// A function of the record as a processor.
struct Apply<F, K, V> {
    f: F,
    records: PhantomData<fn(K, V)>,
}

impl<K: Clone + 'static, V: Clone + 'static, F> Processor for Apply<F, K, V>
where
    F: FnMut(Record<K, V>) -> Result<()> + 'static,
{
    type KIn = K;
    type VIn = V;
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(&mut self, record: Record<K, V>, _: &mut Out<'_, Infallible, Infallible>) -> Result<()> {
        (self.f)(record)
    }
}
