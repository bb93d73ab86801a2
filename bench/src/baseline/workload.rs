//! The six workloads that Kafka Streams was measured with: input, program, and what must come out.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_core::{BatchBuilder, Data, Error, Result, Text, TopicPartition, Topology, partition_for_key};
use millstream_dsl::{JoinWindows, KStream, KTable, SECOND, StreamsBuilder, TimeWindows};

use crate::kafka_streams::{self, Measured};
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

/// Which updates of a count are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emission {
    EveryUpdate,
    /// The last of a row between two commits, as Kafka Streams with its record cache.
    OnCommit,
}

use Emission::{EveryUpdate, OnCommit};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Stateless,
    Count(Emission),
    Tumbling(Emission),
    WordCount(Emission),
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
    pub(crate) const ALL: [Workload; 9] = [
        Workload::Stateless,
        Workload::Count(OnCommit),
        Workload::Count(EveryUpdate),
        Workload::Tumbling(OnCommit),
        Workload::Tumbling(EveryUpdate),
        Workload::WordCount(OnCommit),
        Workload::WordCount(EveryUpdate),
        Workload::TableJoin,
        Workload::StreamJoin,
    ];

    /// On the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Stateless => "stateless",
            Workload::Count(OnCommit) => "count",
            Workload::Count(EveryUpdate) => "count-every-update",
            Workload::Tumbling(OnCommit) => "tumbling",
            Workload::Tumbling(EveryUpdate) => "tumbling-every-update",
            Workload::WordCount(OnCommit) => "word-count",
            Workload::WordCount(EveryUpdate) => "word-count-every-update",
            Workload::TableJoin => "table-join",
            Workload::StreamJoin => "stream-join",
        }
    }

    pub(crate) fn kafka_streams(self) -> Measured {
        match self {
            Workload::Stateless => kafka_streams::STATELESS,
            Workload::Count(_) => kafka_streams::COUNT,
            Workload::Tumbling(_) => kafka_streams::TUMBLING,
            Workload::WordCount(_) => kafka_streams::WORD_COUNT,
            Workload::TableJoin => kafka_streams::TABLE_JOIN,
            Workload::StreamJoin => kafka_streams::STREAM_JOIN,
        }
    }

    /// By how many times less CPU than Kafka Streams and its broker we promise, whichever way results are emitted.
    pub(crate) fn promise(self) -> f64 {
        match self {
            Workload::Stateless | Workload::TableJoin => 15.0,
            Workload::Count(_) | Workload::Tumbling(_) | Workload::WordCount(_) => 20.0,
            Workload::StreamJoin => 50.0,
        }
    }

    /// Records of a topic.
    pub(crate) fn size(self) -> u64 {
        match self {
            Workload::WordCount(_) | Workload::StreamJoin => 1_000_000,
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
                let mut pairs = Pairs::new();
                for number in 0..records {
                    for (side, topic) in [&mut left, &mut right].into_iter().enumerate() {
                        let key = random.next() % KEYS;
                        let time = topic.send(number, key, tail(&mut random))?;
                        pairs.add(key, side, time);
                    }
                }
                left.end()?;
                right.end()?;
                return Ok(Input { records: 2 * records, processed: 2 * records, outputs: pairs.found });
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
            words += if matches!(self, Workload::WordCount(_)) { split(value).count() as u64 } else { 0 };
            topic.send(100 + number, random.next() % KEYS, value)?;
        }
        topic.end()?;
        let (more, outputs) = match self {
            Workload::WordCount(_) => (words, words),
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
                .map_values(|v| [v.as_str(), "!"].concat())
                .filter(|k, _| !k.is_empty())
                .map(|k, v| (k, v))
                .map_values(|mut v: String| {
                    v.pop();
                    v
                })
                .to("out"),
            Workload::Count(emission) => {
                emit(input.group_by_key().count("counts"), emission).map_values(text).to("out");
            }
            Workload::Tumbling(emission) => {
                let counts = input.group_by_key().windowed_by(TimeWindows::of(10 * SECOND)).count("counts");
                emit(counts, emission).map_values(text).to("out");
            }
            Workload::WordCount(emission) => {
                let words = input.flat_map_values(|line| split(&line).map(|word| line.share(word)).collect::<Vec<_>>());
                let counts = words.group_by("by-word", |_, word| word.clone()).count("counts");
                emit(counts, emission).map_values(text).to("out");
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

    /// Every output that is to be there is, and the last counts add up.
    pub(crate) fn check(self, log: &Broker, input: &Input) -> Result<()> {
        let (mut outputs, mut last) = (0, HashMap::<Vec<u8>, u64>::new());
        let (counts, some) = match self {
            Workload::Count(emission) | Workload::Tumbling(emission) | Workload::WordCount(emission) => {
                (true, emission == OnCommit)
            }
            _ => (false, false),
        };
        read(log, "out", |key, value| {
            outputs += 1;
            if counts {
                let count = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                last.insert(key.to_vec(), count);
            }
        })?;
        let sum: u64 = last.values().sum();
        if (some || outputs == input.outputs) && (!counts || sum == input.outputs) {
            return Ok(());
        }
        Err(Error::user(format!("{self:?}: {outputs} outputs of {}, last counts {sum}", input.outputs)))
    }
}

fn emit<K: Data<NonNull = K>>(counts: KTable<K, i64>, emission: Emission) -> KStream<K, Option<i64>> {
    match emission {
        EveryUpdate => counts.to_stream(),
        OnCommit => counts.emit_on_commit().to_stream(),
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

/// Counts the pairs of a join's two sides. It keeps only what can still meet another: its memory is the program's too.
struct Pairs {
    recent: VecDeque<(i64, u64, usize)>,
    /// By key and side, how many of these there are.
    counts: Vec<[u32; 2]>,
    found: u64,
}

impl Pairs {
    fn new() -> Self {
        Pairs { recent: VecDeque::new(), counts: vec![[0; 2]; KEYS as usize], found: 0 }
    }

    /// Adds a record; none before it has a later time.
    fn add(&mut self, key: u64, side: usize, time: i64) {
        while let Some((_, key, side)) = self.recent.pop_front_if(|(other, ..)| *other < time - REACH) {
            self.counts[key as usize][side] -= 1;
        }
        let counts = &mut self.counts[key as usize];
        self.found += u64::from(counts[1 - side]);
        counts[side] += 1;
        self.recent.push_back((time, key, side));
    }
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
