//! `to`: write a stream to a topic.

use millstream_core::{
    Data, Encoded, Error, Forward, Half, Headers, NodeId, Record, Result, Serde, SerdeContext, SinkSlot, TaskContext,
    TopicName, unencodable,
};

use crate::consumed::{Partitioner, Produced};
use crate::kstream::KStream;

impl<K: Data, V: Data> KStream<K, V> {
    /// Writes to a topic with the default serdes, placed by key as Kafka's default partitioner does. A null key keeps the
    /// number of the partition that its record came from.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to(&self, topic: &str) {
        self.to_with(topic, Produced::of::<K, V>());
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Writes to a topic with serdes or a partitioner of its own.
    ///
    /// ```
    /// # use millstream_dsl::{Produced, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // All of a shop's records in one partition, whatever their keys are.
    /// let by_shop = |_: &String, shop: &i64, partitions: i32| Some(vec![*shop as i32 % partitions]);
    /// b.topic("out", 4);
    /// b.stream::<String, i64>("in").to_with("out", Produced::of::<String, i64>().partitioner(by_shop));
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("order 1", 7);
    /// assert_eq!(out.read(), [kv("order 1", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn to_with<KS: Serde<Value = K>, VS: Serde<Value = V>>(&self, topic: &str, produced: Produced<KS, VS>) {
        let topic = TopicName::User(topic.to_owned());
        let sink = self.builder.sink::<KS, VS>(self.node, Some(topic.clone()));
        self.builder.place(sink, &produced);
        self.sink_to(sink, topic, produced);
    }

    pub(crate) fn sink_to<KS: Serde<Value = K>, VS: Serde<Value = V>>(
        &self,
        node: NodeId,
        topic: TopicName,
        produced: Produced<KS, VS>,
    ) {
        self.port.subscribe(move |task| {
            let slot = task.sink(&topic);
            Box::new(Sink { slot, writer: SinkWriter::new(node, topic.to_string(), produced.clone()) })
        });
    }
}

/// Encodes records into the task's output.
pub(super) struct SinkWriter<KS: Serde, VS: Serde> {
    pub(super) node: NodeId,
    pub(super) topic: String,
    key: KS,
    value: VS,
    partitioner: Option<Partitioner<KS::Value, VS::Value>>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

impl<KS: Serde, VS: Serde> SinkWriter<KS, VS> {
    pub(super) fn new(node: NodeId, topic: String, produced: Produced<KS, VS>) -> Self {
        let Produced { key, value, partitioner, .. } = produced;
        SinkWriter { node, topic, key, value, partitioner, key_bytes: Vec::new(), value_bytes: Vec::new() }
    }

    #[inline]
    pub(super) fn write(
        &mut self,
        cx: &mut TaskContext,
        slot: SinkSlot,
        mut record: Record<KS::Value, VS::Value>,
    ) -> Result<()> {
        match self.try_write(cx, slot, &mut record) {
            Ok(()) => Ok(()),
            Err(error @ Error::User(_)) => cx.failed(self.node, error),
            Err(error) => cx.unwritten(self.node, error),
        }
    }

    /// What it returns is wrong with the record, but for an [`Error::User`], which is the partitioner's fault.
    #[inline]
    fn try_write(
        &mut self,
        cx: &mut TaskContext,
        slot: SinkSlot,
        record: &mut Record<KS::Value, VS::Value>,
    ) -> Result<()> {
        let headers = &mut record.headers;
        let key = encoded(&self.key, &record.key, &self.topic, Half::Key, headers, &mut self.key_bytes)?;
        let value = encoded(&self.value, &record.value, &self.topic, Half::Value, headers, &mut self.value_bytes)?;
        let headers = record.headers.section();
        if let Some(partitioner) = &self.partitioner {
            let partitions = cx.collector.partitions(slot);
            if let Some(chosen) = partitioner(&record.key, &record.value, partitions)? {
                if chosen.is_empty() {
                    cx.drop_record();
                }
                if let Some(wrong) = chosen.iter().find(|partition| !(0..partitions).contains(*partition)) {
                    return Err(Error::user(format!(
                        "a partitioner chose partition {wrong} of `{}`, which has {partitions}",
                        self.topic
                    )));
                }
                let mut chosen = chosen.into_iter();
                return chosen.try_for_each(|to| cx.collector.send(slot, to, record.timestamp, key, value, headers));
            }
        }
        let partition = cx.collector.partition(slot, key.map(|k| self.key.partition_bytes(k)), cx.partition());
        cx.collector.send(slot, partition, record.timestamp, key, value, headers)
    }
}

/// The bytes of a half of a record, `None` being null: its own, or those that are written to `out`.
#[inline]
fn encoded<'a, S: Serde>(
    serde: &S,
    value: &'a S::Value,
    topic: &str,
    half: Half,
    headers: &mut Headers,
    out: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>> {
    if let Some(bytes) = serde.as_encoded(value) {
        return Ok(Some(bytes));
    }
    out.clear();
    let encoded = serde.serialize(value, SerdeContext { topic, half }, headers, out);
    let encoded = encoded.map_err(|e| unencodable(topic, half, e))?;
    Ok((encoded == Encoded::Bytes).then_some(out.as_slice()))
}

struct Sink<KS: Serde, VS: Serde> {
    slot: SinkSlot,
    writer: SinkWriter<KS, VS>,
}

impl<KS: Serde, VS: Serde> Forward<Record<KS::Value, VS::Value>> for Sink<KS, VS> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<KS::Value, VS::Value>) -> Result<()> {
        self.writer.write(cx, self.slot, record)
    }
}
