//! `KStream`: a stream of records, and where its operators hang on.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Data, Downstream, FailOnInvalidTimestamp, Forward, NodeId, OffsetReset, Port, Record, Serde, Source,
    TimestampExtractor, Topics,
};

use crate::builder::{IntoTopics, SourceOptions, StreamsBuilder};
use crate::consumed::Consumed;

/// A stream of records with keys `K` and values `V`: a step in a program, to be cloned, stored and extended freely.
/// A null key or value is `None` in an `Option` type.
pub struct KStream<K, V> {
    pub(crate) builder: StreamsBuilder,
    pub(crate) node: NodeId,
    pub(crate) port: Port<Record<K, V>>,
    /// The key may differ from the one that placed the record in its partition (semantics.md 8).
    pub(crate) key_changed: bool,
    /// The sources whose partitioning this stream has.
    pub(crate) sources: Arc<BTreeSet<NodeId>>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        KStream {
            builder: self.builder.clone(),
            node: self.node,
            port: self.port.clone(),
            key_changed: self.key_changed,
            sources: self.sources.clone(),
        }
    }
}

impl StreamsBuilder {
    /// A stream of one or several topics, with the default serdes of its types.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver};
    /// # let b = StreamsBuilder::new();
    /// // Two topics, one stream. A null key is `None`.
    /// b.stream::<Option<String>, i64>(["web", "shops"]).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let shops = t.input::<Option<String>, i64>("shops")?;
    /// # let out = t.output::<Option<String>, i64>("out")?;
    /// shops.pipe(None, 5);
    /// assert_eq!(out.read(), [(None, 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn stream<K: Data, V: Data>(&self, topics: impl IntoTopics) -> KStream<K, V> {
        self.stream_with(topics, Consumed::<K::Serde, V::Serde>::new())
    }

    /// A stream with serdes, timestamp extractor, reset policy or idleness of its own. Streams of the same topics share one
    /// source, that of the first, if all of these agree, the first two by their types; else they are refused.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, StreamsBuilder, TopologyTestDriver, event_time};
    /// # use millstream_dsl::core::OffsetReset;
    /// # let b = StreamsBuilder::new();
    /// // The record's own time, here from its value, and a start of its own.
    /// let consumed = Consumed::of::<String, i64>().timestamps(event_time(|_, n| *n)).reset(OffsetReset::Latest);
    /// b.stream_with("in", consumed).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 86_400_000);
    /// assert_eq!(out.read_records()[0].timestamp, 86_400_000);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn stream_with<KS, VS, X>(
        &self,
        topics: impl IntoTopics,
        consumed: Consumed<KS, VS, X>,
    ) -> KStream<KS::Value, VS::Value>
    where
        KS: Serde<Value: Clone + 'static>,
        VS: Serde<Value: Clone + 'static>,
        X: TimestampExtractor<KS::Value, VS::Value>,
    {
        let topics = topics.into_topics();
        let types = TypeId::of::<(KS, VS, X)>();
        let reads = Reads { topics: topics.clone(), reset: consumed.reset, idleness: consumed.idleness, types };
        self.once(reads, Reads::are_same, || {
            let port = self.port();
            let node = self.source_node(topics, consumed, &port, false);
            KStream { builder: self.clone(), node, port, key_changed: false, sources: Arc::new([node].into()) }
        })
    }

    /// The source node in front of a port.
    pub(crate) fn source_node<KS, VS, X>(
        &self,
        topics: Topics,
        consumed: Consumed<KS, VS, X>,
        port: &Port<Record<KS::Value, VS::Value>>,
        global: bool,
    ) -> NodeId
    where
        KS: Serde<Value: Clone + 'static>,
        VS: Serde<Value: Clone + 'static>,
        X: TimestampExtractor<KS::Value, VS::Value>,
    {
        let out = port.clone();
        // What serdes are told.
        let topic = topics.to_string();
        let Consumed { key, value, extractor, reset, idleness } = consumed;
        let supplier =
            Arc::new(move |task: &mut millstream_core::TaskBuilder<'_>| -> Box<dyn millstream_core::SourceNode> {
                let down = task.open(&out);
                Box::new(Source {
                    topic: topic.clone(),
                    key: key.clone(),
                    value: value.clone(),
                    extractor: extractor.clone(),
                    down,
                })
            });
        self.source::<KS, VS>("KSTREAM-SOURCE", topics, SourceOptions { reset, idleness, global }, supplier)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Hangs an operator on this stream: `make` builds its node in front of what follows.
    pub(crate) fn add<K2, V2, N>(
        &self,
        kind: &str,
        changes_key: bool,
        make: impl Fn(NodeId, Downstream<Record<K2, V2>>) -> N + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Clone + 'static,
        V2: Clone + 'static,
        N: Forward<Record<K, V>> + 'static,
    {
        let node = self.builder.node(kind, &[self.node], &[]);
        let port = self.builder.port();
        let out = port.clone();
        self.port.subscribe(move |task| Box::new(make(node, task.open(&out))));
        KStream {
            builder: self.builder.clone(),
            node,
            port,
            key_changed: self.key_changed || changes_key,
            sources: self.sources.clone(),
        }
    }
}

/// What the source of a stream reads, and how.
struct Reads {
    topics: Topics,
    reset: Option<OffsetReset>,
    idleness: Option<Duration>,
    /// Of serdes and extractor.
    types: TypeId,
}

impl Reads {
    fn are_same(&self, other: &Reads) -> bool {
        let topics = match (&self.topics, &other.topics) {
            (Topics::Named(a), Topics::Named(b)) => a.iter().collect::<BTreeSet<_>>() == b.iter().collect(),
            (Topics::Pattern(a), Topics::Pattern(b)) => a.to_string() == b.to_string(),
            _ => false,
        };
        topics && (self.reset, self.idleness, self.types) == (other.reset, other.idleness, other.types)
    }
}

/// The default source options of a type pair.
pub type DefaultConsumed<K, V> = Consumed<<K as Data>::Serde, <V as Data>::Serde, FailOnInvalidTimestamp>;
