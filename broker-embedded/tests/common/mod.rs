//! What the broker's tests share: opening, producing, reading.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, CommittedOffset, ConsumerOptions, GroupOffsets, Isolation, Log, LogError,
    ManualClock, Producer, ProducerOptions, TopicPartition, TopicSpec, Wakeup,
};

pub(crate) type Outcome = Result<(), LogError>;

pub(crate) fn options(dir: &Path) -> BrokerOptions {
    BrokerOptions::new(dir, Arc::new(ManualClock::at(1_000)))
}

pub(crate) fn open(dir: &Path) -> Result<Broker, LogError> {
    Broker::open(options(dir))
}

pub(crate) fn id(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub(crate) fn create(broker: &Broker, topic: &str, partitions: i32) -> Outcome {
    broker.create_topic(&TopicSpec { name: topic.into(), partitions, configs: Default::default() })
}

pub(crate) fn producer(broker: &Broker, transactional_id: Option<&str>) -> Result<Box<dyn Producer>, LogError> {
    let options =
        ProducerOptions { transactional_id: transactional_id.map(Into::into), ..ProducerOptions::plain("test") };
    broker.producer(&options, Arc::new(Wakeup::default()))
}

pub(crate) fn batch(values: &[&str]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    values.iter().for_each(|v| batch.push(5, Some(b"k"), Some(v.as_bytes()), &[]));
    batch
}

/// Ends a transaction with a position of group `g`.
pub(crate) fn commit(producer: &mut dyn Producer, offset: i64) -> CommitOutcome {
    let committed = CommittedOffset { offset, metadata: "m".into() };
    producer.commit(GroupOffsets { group: "g".into(), offsets: vec![(id("in", 0), committed)] });
    producer.poll_commit().expect("an embedded commit is over at once")
}

/// Values that a reader sees from `offset` on.
pub(crate) fn read(
    broker: &Broker,
    partition: &TopicPartition,
    offset: i64,
    isolation: Isolation,
) -> Result<Vec<String>, LogError> {
    let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation };
    let mut consumer = broker.consumer(&options, Arc::new(Wakeup::default()))?;
    consumer.assign(&[(partition.clone(), offset)])?;
    let mut values = Vec::new();
    let mut position = offset;
    loop {
        let fetch = consumer.fetch(0, 200)?;
        for mut batch in fetch.batches {
            while let Some(record) = batch.next() {
                let record = record.expect("a whole record");
                values.push(String::from_utf8_lossy(record.value.expect("a value").as_slice()).into_owned());
            }
        }
        if fetch.position == position {
            return Ok(values);
        }
        position = fetch.position;
    }
}

pub(crate) fn committed(broker: &Broker) -> Option<i64> {
    let found = broker.committed("g", &[id("in", 0)]).expect("an answer");
    found[0].as_ref().map(|c| c.offset)
}

/// Copies a data directory as a crash would leave it: as it is now.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
