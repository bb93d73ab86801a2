//! `to_dynamic`: write every record to the topic that it names.

use std::sync::Arc;

use millstream_core::{
    Data, Error, Forward, Headers, LogError, Offset, Record, Result, Serde, TaskContext, Timestamp, TopicPartition,
};

use super::to::SinkWriter;
use crate::consumed::Produced;
use crate::failure::BoxError;
use crate::kstream::KStream;

/// What [`KStream::to_dynamic`] knows of a record besides key and value, as Kafka Streams' `RecordContext`.
///
/// ```
/// # use millstream_dsl::{RecordContext, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::Record;
/// # let b = StreamsBuilder::new();
/// /// The topic of the header `route`, or one by where the record came from.
/// fn route(context: &RecordContext<'_>) -> String {
///     let header = context.headers.last("route").map(String::from_utf8_lossy);
///     let source = context.source.map(|(partition, _offset)| format!("{}-rest", partition.topic));
///     header.map(String::from).or(source).unwrap_or_else(|| "of-timers".to_owned())
/// }
/// b.topic("in-rest", 1).topic("fast", 1);
/// b.stream::<String, i64>("in").to_dynamic(|_, _, context| route(context));
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// let mut record = Record::new("a".to_owned(), 5, 0);
/// record.headers.add("route", Some(b"fast"));
/// input.try_pipe(record)?;
/// input.pipe("b", 6);
/// assert_eq!(t.output::<String, i64>("fast")?.read(), [kv("a", 5)]);
/// assert_eq!(t.output::<String, i64>("in-rest")?.read(), [kv("b", 6)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RecordContext<'a> {
    /// Topic, partition and offset of the source record; `None` for what a timer, or the end of a window, has forwarded.
    pub source: Option<(&'a TopicPartition, Offset)>,
    /// The record's event time, in milliseconds since 1970 UTC.
    pub timestamp: Timestamp,
    /// The record's headers.
    pub headers: &'a Headers,
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Writes every record to the topic that `f` names for it, by its key, value and [`RecordContext`]. No topic is created: one that is
    /// not there is a failure of the record, which `production.exception.handler` decides about.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.topic("out-large", 1).topic("out-small", 1);
    /// b.stream::<String, i64>("in").to_dynamic(|_, n, _| if *n > 9 { "out-large" } else { "out-small" }.to_owned());
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// input.pipe("a", 5);
    /// assert_eq!(t.output::<String, i64>("out-small")?.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to_dynamic(&self, f: impl Fn(&K, &V, &RecordContext<'_>) -> String + Send + Sync + 'static) {
        self.to_dynamic_with(f, Produced::of::<K, V>());
    }

    /// As [`KStream::to_dynamic`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.topic("even", 1).topic("odd", 1);
    /// b.stream::<String, String>("in")
    ///     .try_to_dynamic(|_, text, _| text.parse::<i64>().map(|n| if n % 2 == 0 { "even" } else { "odd" }.to_owned()));
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let odd = t.output::<String, String>("odd")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(odd.read(), [kv("a", "1"), kv("a", "3")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_to_dynamic<E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, &V, &RecordContext<'_>) -> Result<String, E> + Send + Sync + 'static,
    ) {
        self.try_to_dynamic_with(f, Produced::of::<K, V>());
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// As [`KStream::to_dynamic`], with serdes or a partitioner of its own, which is told how many partitions the record's topic has.
    ///
    /// ```
    /// # use millstream_dsl::{Produced, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.topic("large", 4).topic("small", 1);
    /// let last = Produced::of::<String, i64>().partitioner(|_, _, partitions| Some(vec![partitions - 1]));
    /// b.stream::<String, i64>("in").to_dynamic_with(|_, n, _| if *n > 9 { "large" } else { "small" }.to_owned(), last);
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// [5, 50].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(t.output::<String, i64>("small")?.read(), [kv("a", 5)]);
    /// assert_eq!(t.output::<String, i64>("large")?.read(), [kv("a", 50)]); // in partition 3
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to_dynamic_with<KS: Serde<Value = K>, VS: Serde<Value = V>>(
        &self,
        f: impl Fn(&K, &V, &RecordContext<'_>) -> String + Send + Sync + 'static,
        produced: Produced<KS, VS>,
    ) {
        self.sink_by(Arc::new(move |k, v, context| Ok(f(k, v, context))), produced);
    }

    /// As [`KStream::to_dynamic_with`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{Produced, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig, StringSerde};
    /// # let b = StreamsBuilder::new();
    /// b.topic("even", 1).topic("odd", 1);
    /// let topic = |n: i64| if n % 2 == 0 { "even" } else { "odd" }.to_owned();
    /// b.stream::<String, String>("in")
    ///     .try_to_dynamic_with(move |_, text, _| text.parse().map(topic), Produced::with(StringSerde, StringSerde));
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let odd = t.output::<String, String>("odd")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(odd.read(), [kv("a", "1"), kv("a", "3")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_to_dynamic_with<KS: Serde<Value = K>, VS: Serde<Value = V>, E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, &V, &RecordContext<'_>) -> Result<String, E> + Send + Sync + 'static,
        produced: Produced<KS, VS>,
    ) {
        self.sink_by(Arc::new(move |k, v, context| f(k, v, context).map_err(Error::user)), produced);
    }

    fn sink_by<KS: Serde<Value = K>, VS: Serde<Value = V>>(
        &self,
        f: Arc<TopicNameExtractor<K, V>>,
        produced: Produced<KS, VS>,
    ) {
        let node = self.builder.sink::<KS, VS>(self.node, None);
        self.port.subscribe(move |_| {
            Box::new(DynamicSink { f: f.clone(), sink: SinkWriter::new(node, String::new(), produced.clone()) })
        });
    }
}

/// Names a record's topic.
type TopicNameExtractor<K, V> = dyn Fn(&K, &V, &RecordContext<'_>) -> Result<String> + Send + Sync;

struct DynamicSink<KS: Serde, VS: Serde> {
    f: Arc<TopicNameExtractor<KS::Value, VS::Value>>,
    sink: SinkWriter<KS, VS>,
}

impl<KS: Serde, VS: Serde> Forward<Record<KS::Value, VS::Value>> for DynamicSink<KS, VS> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<KS::Value, VS::Value>) -> Result<()> {
        let context = RecordContext { source: cx.source(), timestamp: record.timestamp, headers: &record.headers };
        self.sink.topic = match (self.f)(&record.key, &record.value, &context) {
            Ok(topic) => topic,
            Err(error) => return cx.failed(self.sink.node, error),
        };
        match cx.collector.slot_of_users(&self.sink.topic) {
            Ok(slot) => self.sink.write(cx, slot, record),
            Err(Error::Log(error)) if matches!(*error, LogError::UnknownTopic(_)) => {
                cx.unwritten(self.sink.node, Error::Log(error))
            }
            Err(error) => cx.failed(self.sink.node, error),
        }
    }
}
