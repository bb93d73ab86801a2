//! Whole programs on an embedded log in memory: topics, records in, `Streams` on real threads, records out. The clock
//! stands still, so that commits come from a program's end alone.

use std::path::Path;
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin, BatchBuilder, ConsumerOptions, Data, Error, Half, Headers, Isolation, Log, ManualClock, ProducerOptions,
    Result, RuntimeConfig, Serde, SerdeContext, Streams, Timestamp, TopicPartition, TopicSpec, Topology, Wakeup,
};

/// A folder in memory, if there is such a thing: where what a power cut leaves is not asked, and starts would wait for disks.
///
/// # Errors
/// When it cannot be made.
pub fn folder() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.map_err(Error::user)
}

/// A log and the clock that it and its programs share.
#[derive(Clone)]
pub struct Embedded {
    /// The log.
    pub log: Broker,
    /// The clock; it shows 1,000,000 at first.
    pub clock: Arc<ManualClock>,
}

impl Embedded {
    /// A log without files.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn in_memory() -> Result<Self> {
        let clock = Arc::new(ManualClock::at(1_000_000));
        Ok(Embedded { log: Broker::open(BrokerOptions::memory(clock.clone()))?, clock })
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When it is there already.
    pub fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        let spec = TopicSpec { name: topic.to_owned(), partitions, configs: Default::default() };
        Ok(self.log.create_topic(&spec)?)
    }

    /// Appends text records, each with a time, a key or none, and a value or none, to one partition.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn write<'a>(
        &self,
        topic: &str,
        partition: i32,
        records: &[(Timestamp, Option<&str>, impl Into<Option<&'a str>> + Copy)],
    ) -> Result<()> {
        let options = ProducerOptions::plain("input");
        let mut producer = self.log.producer(&options, Arc::new(Wakeup::default()))?;
        for records in records.chunks(1_000) {
            let mut batch = BatchBuilder::new();
            for (time, key, value) in records {
                batch.push(*time, key.map(str::as_bytes), (*value).into().map(str::as_bytes), &[]);
            }
            producer.send(&TopicPartition::new(topic, partition), batch)?;
        }
        Ok(())
    }

    /// What a read-committed reader sees of a topic, partition by partition.
    ///
    /// # Errors
    /// When there is no such topic, or a record is of another type.
    pub fn read<K: Data, V: Data>(&self, topic: &str) -> Result<Vec<Vec<(K, V)>>> {
        let options =
            ConsumerOptions { client_id: "output".into(), group: "".into(), isolation: Isolation::ReadCommitted };
        let mut consumer = self.log.consumer(&options, Arc::new(Wakeup::default()))?;
        let partitions = self.log.partitions(topic)?.unwrap_or_default();
        let mut read = Vec::new();
        for partition in 0..partitions {
            let partition = TopicPartition::new(topic, partition);
            consumer.assign(&[(partition.clone(), self.log.start_offset(&partition)?)])?;
            let mut records = Vec::new();
            loop {
                let fetch = consumer.fetch(0, 1 << 20)?;
                for mut batch in fetch.batches {
                    while let Some(view) = batch.next() {
                        let view = view.map_err(|e| Error::user(e.to_string()))?;
                        let headers = Headers::from_section(view.headers);
                        let cx = |half| SerdeContext { topic, half };
                        let key = K::Serde::default().deserialize(view.key, cx(Half::Key), &headers);
                        let value = V::Serde::default().deserialize(view.value, cx(Half::Value), &headers);
                        records.push((key.map_err(Error::user)?, value.map_err(Error::user)?));
                    }
                }
                if fetch.position >= fetch.end {
                    break;
                }
            }
            read.push(records);
        }
        Ok(read)
    }

    /// The program on this log, not started.
    ///
    /// # Errors
    /// When the topology does not fit the log.
    pub fn streams(&self, topology: Topology, config: RuntimeConfig) -> Result<Streams> {
        Streams::new(topology, config, Arc::new(self.log.clone()) as Arc<dyn Log>, self.clock.clone())
    }
}
