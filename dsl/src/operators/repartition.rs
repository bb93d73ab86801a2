//! `repartition`: write a stream to an internal topic by its key and read it back, so that equal keys meet.

use std::sync::Arc;

use millstream_core::{
    Data, Downstream, FailOnInvalidTimestamp, Forward, Record, Result, TaskContext, TopicName, Topics,
};

use crate::consumed::{Consumed, Produced};
use crate::failure::BoxError;
use crate::kstream::KStream;

impl<K: Data, V: Data> KStream<K, V> {
    /// Repartitions by key over the topic `<application.id>-<name>-repartition`, with as many partitions as the
    /// largest topic behind this stream has. Null keys go through.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // Before a processor with a store nothing is repartitioned unless you say so.
    /// b.stream::<String, i64>("in").select_key(|_, n| n % 2).repartition("by-parity").to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<i64, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv(1, 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn repartition(&self, name: &str) -> KStream<K, V> {
        self.through(name, None, Produced::of::<K, V>())
    }

    /// Repartitions into so many partitions.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").repartition_to("wide", 8).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn repartition_to(&self, name: &str, partitions: i32) -> KStream<K, V> {
        self.through(name, Some(partitions), Produced::of::<K, V>())
    }

    /// Repartitions by a function of key, value and the number of partitions, as [`Produced::partitioner`] does.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // By the first letter of the key: `anna` and `adam` meet.
    /// let by_letter = |name: &String, _: &i64, partitions: i32| Some(vec![i32::from(name.as_bytes()[0]) % partitions]);
    /// b.stream::<String, i64>("in").repartition_by("by-letter", by_letter).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("anna", 5);
    /// assert_eq!(out.read(), [kv("anna", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn repartition_by(
        &self,
        name: &str,
        partitioner: impl Fn(&K, &V, i32) -> Option<Vec<i32>> + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.through(name, None, Produced::of::<K, V>().partitioner(partitioner))
    }

    /// As [`KStream::repartition_by`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let by_number = |_: &String, n: &String, partitions: i32| n.parse::<i32>().map(|n| Some(vec![n % partitions]));
    /// b.stream::<String, String>("in").try_repartition_by("by-number", by_number).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", "1".to_owned()), kv("a", "3".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_repartition_by<E: Into<BoxError>>(
        &self,
        name: &str,
        partitioner: impl Fn(&K, &V, i32) -> Result<Option<Vec<i32>>, E> + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.through(name, None, Produced::of::<K, V>().try_partitioner(partitioner))
    }

    fn through(&self, name: &str, partitions: Option<i32>, produced: Produced<K::Serde, V::Serde>) -> KStream<K, V> {
        let topic = TopicName::Repartition(name.to_owned());
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
        self.builder.repartition(name, partitions, sink, node);
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
