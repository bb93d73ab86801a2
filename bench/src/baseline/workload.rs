//! The six workloads that Kafka Streams was measured with: input, program, and what must come out.

use std::collections::HashMap;
use std::time::Duration;

use millstream_broker::Broker;
use millstream_core::{BatchBuilder, Error, Result, Text, TopicPartition, Topology, partition_for_key};
use millstream_dsl::{JoinWindows, SECOND, StreamsBuilder, TimeWindows};

use super::kafka_streams::{self, Measured};
use crate::log::{PARTITIONS, create, producer, read};
use crate::random::Random;

/// Different keys.
const KEYS: u64 = 100_000;
/// Its tails are the values: 39 to 78 bytes, 8 to 16 words.
const SENTENCE: &str = "in spring the first train of the day/night leaves before the people on it wake";
const TAILS: u64 = 40;
/// Milliseconds either side of a join.
const REACH: i64 = 100;
const BATCH: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Stateless,
    Count,
    Tumbling,
    WordCount,
    TableJoin,
    StreamJoin,
}

/// What a run has to process, and what has to come of it.
pub(crate) struct Input {
    /// As Kafka Streams' records were counted: lines, both sides of a join, not a table's rows.
    pub(crate) records: u64,
    /// As our tasks count them: rows of a table and records of a repartition topic too.
    pub(crate) processed: u64,
    outputs: u64,
}

impl Workload {
    pub(crate) const ALL: [Workload; 6] = [
        Workload::Stateless,
        Workload::Count,
        Workload::Tumbling,
        Workload::WordCount,
        Workload::TableJoin,
        Workload::StreamJoin,
    ];

    /// On the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Stateless => "stateless",
            Workload::Count => "count",
            Workload::Tumbling => "tumbling",
            Workload::WordCount => "word-count",
            Workload::TableJoin => "table-join",
            Workload::StreamJoin => "stream-join",
        }
    }

    pub(crate) fn kafka_streams(self) -> Measured {
        match self {
            Workload::Stateless => kafka_streams::STATELESS,
            Workload::Count => kafka_streams::COUNT,
            Workload::Tumbling => kafka_streams::TUMBLING,
            Workload::WordCount => kafka_streams::WORD_COUNT,
            Workload::TableJoin => kafka_streams::TABLE_JOIN,
            Workload::StreamJoin => kafka_streams::STREAM_JOIN,
        }
    }

    /// By how many times less CPU than Kafka Streams and its broker we promise.
    pub(crate) fn promise(self) -> f64 {
        match self {
            Workload::Stateless | Workload::TableJoin => 15.0,
            Workload::Count | Workload::Tumbling | Workload::WordCount => 20.0,
            Workload::StreamJoin => 50.0,
        }
    }

    /// Records of a topic.
    pub(crate) fn size(self) -> u64 {
        match self {
            Workload::WordCount | Workload::StreamJoin => 1_000_000,
            _ => 4_000_000,
        }
    }

    /// Fills the input topics.
    pub(crate) fn fill(self, log: &Broker, records: u64) -> Result<Input> {
        let mut random = Random(1);
        let mut words = 0;
        let sends = |topic| Sender::new(log, topic);
        match self {
            Workload::StreamJoin => {
                let (mut left, mut right) = (sends("in")?, sends("right")?);
                let mut times: HashMap<u64, [Vec<i64>; 2]> = HashMap::new();
                for number in 0..records {
                    for (side, topic) in [&mut left, &mut right].into_iter().enumerate() {
                        let key = random.next() % KEYS;
                        let time = topic.send(number, key, tail(&mut random))?;
                        times.entry(key).or_default()[side].push(time);
                    }
                }
                left.end()?;
                right.end()?;
                let outputs = times.values().map(matches).sum();
                return Ok(Input { records: 2 * records, processed: 2 * records, outputs });
            }
            Workload::TableJoin => {
                let mut table = sends("table")?;
                // All rows are older than the stream's records.
                (0..KEYS).try_for_each(|key| table.send(0, key, tail(&mut random)).map(drop))?;
                table.end()?;
            }
            _ => {}
        }
        let mut topic = sends("in")?;
        for number in 0..records {
            let value = tail(&mut random);
            words += if self == Workload::WordCount { split(value).count() as u64 } else { 0 };
            topic.send(100 + number, random.next() % KEYS, value)?;
        }
        topic.end()?;
        let (more, outputs) = match self {
            Workload::WordCount => (words, words),
            Workload::TableJoin => (KEYS, records),
            _ => (0, records),
        };
        Ok(Input { records, processed: records + more, outputs })
    }

    pub(crate) fn topology(self) -> Result<Topology> {
        let b = StreamsBuilder::new();
        b.topic("in", PARTITIONS).topic("out", PARTITIONS);
        let input = b.stream::<Text, Text>("in");
        match self {
            Workload::Stateless => input
                .filter(|_, v| v.len() > 10)
                .map_values(|v| format!("{}!", v.as_str()))
                .filter(|k, _| !k.is_empty())
                .map(|k, v| (k, v))
                .map_values(|mut v: String| {
                    v.pop();
                    v
                })
                .to("out"),
            Workload::Count => {
                input.group_by_key().count("counts").to_stream().map_values(text).to("out");
            }
            Workload::Tumbling => {
                let counts = input.group_by_key().windowed_by(TimeWindows::of(10 * SECOND)).count("counts");
                counts.to_stream().map_values(text).to("out");
            }
            Workload::WordCount => {
                let words = input.flat_map_values(|line| split(&line).map(|word| line.share(word)).collect::<Vec<_>>());
                let counts = words.group_by("by-word", |_, word| word.clone()).count("counts");
                counts.to_stream().map_values(text).to("out");
            }
            Workload::TableJoin => {
                let table = b.topic("table", PARTITIONS).table::<Text, Text>("table", "rows");
                input.join_table("joined", &table, |_, row: &Text| row.clone()).to("out");
            }
            Workload::StreamJoin => {
                let right = b.topic("right", PARTITIONS).stream::<Text, Text>("right");
                let windows = JoinWindows::of(Duration::from_millis(REACH as u64));
                input.join("joined", &right, windows, |left: &Text, _: &Text| left.clone()).to("out");
            }
        }
        b.build()
    }

    /// Every output is there, and the last counts add up.
    pub(crate) fn check(self, log: &Broker, input: &Input) -> Result<()> {
        let (mut outputs, mut last) = (0, HashMap::<Vec<u8>, u64>::new());
        let counts = matches!(self, Workload::Count | Workload::Tumbling | Workload::WordCount);
        read(log, "out", |key, value| {
            outputs += 1;
            if counts {
                let count = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                last.insert(key.to_vec(), count);
            }
        })?;
        let sum: u64 = last.values().sum();
        if outputs == input.outputs && (!counts || sum == outputs) {
            return Ok(());
        }
        Err(Error::user(format!("{self:?}: {outputs} outputs of {}, last counts {sum}", input.outputs)))
    }
}

fn text(count: Option<i64>) -> Option<String> {
    count.map(|n| n.to_string())
}

fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '/']).filter(|word| !word.is_empty())
}

fn tail(random: &mut Random) -> &'static str {
    &SENTENCE[(random.next() % TAILS) as usize..]
}

/// Pairs of two sorted lists of times that are no further apart than the join reaches.
fn matches([left, right]: &[Vec<i64>; 2]) -> u64 {
    let upto = |time: i64| right.partition_point(|t| *t <= time);
    left.iter().map(|time| (upto(time + REACH) - upto(time - REACH - 1)) as u64).sum()
}

/// Sends to a topic in batches per partition.
struct Sender<'a> {
    topic: &'a str,
    producer: Box<dyn millstream_core::Producer>,
    batches: Vec<BatchBuilder>,
}

impl<'a> Sender<'a> {
    fn new(log: &Broker, topic: &'a str) -> Result<Self> {
        create(log, topic)?;
        Ok(Sender { topic, producer: producer(log)?, batches: (0..PARTITIONS).map(|_| BatchBuilder::new()).collect() })
    }

    /// Sends the record of a number, a millisecond after every 100, and returns its time.
    fn send(&mut self, number: u64, key: u64, value: &str) -> Result<i64> {
        let (key, time) = (format!("key-{key}"), number as i64 / 100);
        let partition = partition_for_key(key.as_bytes(), PARTITIONS);
        let batch = &mut self.batches[partition as usize];
        batch.push(time, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        if batch.len() >= BATCH {
            self.producer.send(&TopicPartition::new(self.topic, partition), std::mem::take(batch))?;
        }
        Ok(time)
    }

    fn end(mut self) -> Result<()> {
        for (partition, batch) in self.batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
            self.producer.send(&TopicPartition::new(self.topic, partition as i32), batch)?;
        }
        Ok(())
    }
}
