//! `repartition`: write a stream to an internal topic by its key and read it back, so that equal keys meet.

use std::sync::Arc;

use millstream_core::{
    Data, Downstream, Error, FailOnInvalidTimestamp, Forward, PlacedBy, Record, Result, TaskContext, TopicName, Topics,
};

use crate::consumed::{Consumed, Partitioner, Produced};
use crate::failure::BoxError;
use crate::kstream::KStream;

/// How a stream is repartitioned. The name alone will do for the default partitioner and as many partitions as the largest topic
/// behind the stream has; beside a topic of the user's, in a join, as many as that.
///
/// ```
/// # use millstream_dsl::{Repartitioned, StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// // By the first letter of the key: `anna` and `adam` meet, in one of 8 partitions.
/// let by_letter = |name: &String, _: &i64, partitions: i32| Some(vec![i32::from(name.as_bytes()[0]) % partitions]);
/// let letters = Repartitioned::named("by-letter").number_of_partitions(8).partitioner(by_letter);
/// b.stream::<String, i64>("in").repartition(letters).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// input.pipe("anna", 5);
/// assert_eq!(out.read(), [kv("anna", 5)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct Repartitioned<K, V> {
    name: String,
    partitions: Option<i32>,
    /// The partitioner, and which one it is.
    placed: Option<(Partitioner<K, V>, PlacedBy)>,
}

impl<K, V> Repartitioned<K, V> {
    /// Names the topic `<application.id>-<name>-repartition`.
    pub fn named(name: &str) -> Self {
        Repartitioned { name: name.to_owned(), partitions: None, placed: None }
    }

    /// Into so many partitions, at least 1.
    pub fn number_of_partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// By a function of key, value and the number of partitions, as [`Produced::partitioner`].
    pub fn partitioner<F>(mut self, partitioner: F) -> Self
    where
        F: Fn(&K, &V, i32) -> Option<Vec<i32>> + Send + Sync + 'static,
    {
        let partitions = move |key: &K, value: &V, partitions: i32| Ok(partitioner(key, value, partitions));
        self.placed = Some((Arc::new(partitions), PlacedBy::function::<F>()));
        self
    }

    /// As [`Repartitioned::partitioner`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{Repartitioned, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let by_number = |_: &String, n: &String, partitions: i32| n.parse::<i32>().map(|n| Some(vec![n % partitions]));
    /// b.stream::<String, String>("in").repartition(Repartitioned::named("by-number").try_partitioner(by_number)).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", "1".to_owned()), kv("a", "3".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_partitioner<F, E: Into<BoxError>>(mut self, partitioner: F) -> Self
    where
        F: Fn(&K, &V, i32) -> Result<Option<Vec<i32>>, E> + Send + Sync + 'static,
    {
        let partitions =
            move |key: &K, value: &V, partitions: i32| partitioner(key, value, partitions).map_err(Error::user);
        self.placed = Some((Arc::new(partitions), PlacedBy::function::<F>()));
        self
    }
}

impl<K, V> From<&str> for Repartitioned<K, V> {
    fn from(name: &str) -> Self {
        Repartitioned::named(name)
    }
}

impl<K, V> From<&String> for Repartitioned<K, V> {
    fn from(name: &String) -> Self {
        Repartitioned::named(name)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Repartitions by key over the topic `<application.id>-<name>-repartition`, with as many partitions as the
    /// largest topic behind this stream has, or as a topic of the user's that it is joined with; a [`Repartitioned`] says otherwise.
    /// Null keys go through.
    ///
    /// ```
    /// # use millstream_dsl::{Repartitioned, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // Before a processor with a store nothing is repartitioned unless you say so.
    /// let by_parity = b.stream::<String, i64>("in").select_key(|_, n| n % 2).repartition("by-parity");
    /// by_parity.repartition(Repartitioned::named("wide").number_of_partitions(8)).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<i64, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv(1, 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn repartition(&self, repartitioned: impl Into<Repartitioned<K, V>>) -> KStream<K, V> {
        let Repartitioned { name, partitions, placed } = repartitioned.into();
        let (partitioner, placed_by) = placed.unzip();
        let produced = Produced { partitioner, placed_by, ..Produced::of::<K, V>() };
        let topic = TopicName::Repartition(name.clone());
        let sink = self.builder.sink::<K::Serde, V::Serde>(self.node, Some(topic.clone()));
        self.builder.place(sink, &produced);
        self.sink_to(sink, topic.clone(), produced);
        let port = self.builder.port();
        let node = self.builder.source_node(
            Topics::Named(vec![topic]),
            Consumed::<K::Serde, V::Serde, FailOnInvalidTimestamp>::new(),
            &port,
            false,
        );
        self.builder.repartition(&name, partitions, sink, node);
        KStream { builder: self.builder.clone(), node, port, key_changed: false, sources: Arc::new([node].into()) }
    }

    /// Repartitions if the key may have changed.
    pub(crate) fn repartitioned(&self, name: &str) -> KStream<K, V> {
        if self.key_changed { self.shared("repartition", || self.repartition(name)) } else { self.clone() }
    }

    /// The same stream without null values, which are counted as dropped.
    pub(crate) fn without_null_values(&self) -> KStream<K, V::NonNull> {
        self.add("KSTREAM-FILTER", false, |_, down| DropNullValues { down })
    }

    /// The same stream without null keys, which are counted as dropped (semantics.md 10, 35).
    pub(crate) fn without_null_keys(&self) -> KStream<K::NonNull, V> {
        self.shared("without null keys", || self.add("KSTREAM-FILTER", false, |_, down| DropNullKeys { down }))
    }
}

struct DropNullKeys<K, V> {
    down: Downstream<Record<K, V>>,
}

impl<K: Data, V: Clone> Forward<Record<K, V>> for DropNullKeys<K::NonNull, V> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Some(key) = record.key.into_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        self.down.forward(cx, Record { key, value: record.value, timestamp: record.timestamp, headers: record.headers })
    }
}

struct DropNullValues<K, V> {
    down: Downstream<Record<K, V>>,
}

impl<K: Clone, V: Data> Forward<Record<K, V>> for DropNullValues<K, V::NonNull> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Some(value) = record.value.into_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        self.down.forward(cx, Record { key: record.key, value, timestamp: record.timestamp, headers: record.headers })
    }
}
