//! The embedded log: input topics for the programs, and what producing and consuming alone cost.

use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, BatchBuilder, ConsumerOptions, Error, Isolation, Log, Producer, ProducerOptions, Result, SystemClock,
    TopicPartition, TopicSpec, Wakeup, partition_for_key,
};
use tempfile::TempDir;

use crate::cpu::Meter;
use crate::table::Row;

/// Partitions of every topic.
pub(crate) const PARTITIONS: i32 = 4;
/// An output batch of the producer.
const BATCH: usize = 64 << 10;

/// A log with topics `in` and `right`: 16-byte text keys, 80-byte values, uniform keys, a millisecond every 100 records.
pub(crate) struct Input {
    pub(crate) log: Broker,
    pub(crate) records: u64,
    pub(crate) keys: u64,
    _dir: TempDir,
}

pub(crate) fn open() -> Result<(Broker, TempDir)> {
    open_with(Durability::Os)
}

pub(crate) fn open_with(durability: Durability) -> Result<(Broker, TempDir)> {
    let dir = tempfile::tempdir().map_err(Error::user)?;
    let options = BrokerOptions { durability, ..BrokerOptions::new(dir.path(), Arc::new(SystemClock::default())) };
    Ok((Broker::open(options)?, dir))
}

/// Gives key and value of every record of a topic that has both, partition by partition.
pub(crate) fn read(log: &Broker, topic: &str, mut record: impl FnMut(&[u8], &[u8])) -> Result<()> {
    let options = ConsumerOptions { client_id: "check".into(), group: "".into(), isolation: Isolation::ReadCommitted };
    let mut consumer = log.consumer(&options, Arc::new(Wakeup::default()))?;
    consumer.assign(&(0..PARTITIONS).map(|p| (TopicPartition::new(topic, p), 0)).collect::<Vec<_>>())?;
    for slot in 0..PARTITIONS as usize {
        loop {
            let fetch = consumer.fetch(slot, 4 << 20)?;
            if fetch.batches.is_empty() {
                break;
            }
            for mut batch in fetch.batches {
                while let Some(Ok(view)) = batch.next() {
                    if let (Some(key), Some(value)) = (view.key, view.value) {
                        record(key.as_slice(), value.as_slice());
                    }
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn producer(log: &Broker) -> Result<Box<dyn Producer>> {
    let options = ProducerOptions::plain("bench");
    Ok(log.producer(&options, Arc::new(Wakeup::default()))?)
}

pub(crate) fn create(log: &Broker, topic: &str) -> Result<()> {
    Ok(log.create_topic(&TopicSpec { name: topic.into(), partitions: PARTITIONS, configs: Default::default() })?)
}

impl Input {
    pub(crate) fn new(records: u64, keys: u64) -> Result<Self> {
        let (log, dir) = open()?;
        create(&log, "in")?;
        create(&log, "table")?;
        let mut producer = producer(&log)?;
        create(&log, "right")?;
        fill(producer.as_mut(), "in", records, 1, |random, _| random % keys)?;
        fill(producer.as_mut(), "right", records, 1, |random, _| (random >> 3) % keys)?;
        // The table's rows are all older than the stream's records.
        fill(producer.as_mut(), "table", keys, 0, |_, number| number)?;
        Ok(Input { log, records, keys, _dir: dir })
    }
}

fn fill(
    producer: &mut dyn Producer,
    topic: &str,
    records: u64,
    times: i64,
    key: impl Fn(u64, u64) -> u64,
) -> Result<()> {
    let value = "x".repeat(80);
    let mut batches: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    let mut random = 1u64;
    for number in 0..records {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("key-{:012}", key(random >> 33, number));
        let partition = partition_for_key(key.as_bytes(), PARTITIONS);
        let batch = &mut batches[partition as usize];
        batch.push((1 + (number / 100) as i64) * times, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        if batch.len() >= BATCH {
            producer.send(&TopicPartition::new(topic, partition), std::mem::take(batch))?;
        }
    }
    for (partition, batch) in batches.into_iter().enumerate().filter(|(_, b)| !b.is_empty()) {
        producer.send(&TopicPartition::new(topic, partition as i32), batch)?;
    }
    Ok(())
}

/// One thread builds batches, sends them and reads every record back.
pub(crate) fn produce_consume(records: u64) -> Result<Row> {
    let (log, _dir) = open()?;
    create(&log, "t")?;
    let mut producer = producer(&log)?;
    let options =
        ConsumerOptions { client_id: "bench".into(), group: "".into(), isolation: Isolation::ReadUncommitted };
    let mut consumer = log.consumer(&options, Arc::new(Wakeup::default()))?;
    let to = TopicPartition::new("t", 0);
    consumer.assign(&[(to.clone(), 0)])?;
    let (key, value) = (b"key-000000000000", [b'x'; 80]);
    let mut read = 0u64;
    let meter = Meter::start();
    let mut batch = BatchBuilder::with_capacity(BATCH + 200);
    for number in 0..records {
        batch.push(number as i64, Some(key), Some(&value), &[]);
        if batch.len() >= BATCH || number + 1 == records {
            producer.send(&to, std::mem::replace(&mut batch, BatchBuilder::with_capacity(BATCH + 200)))?;
            for mut records in consumer.fetch(0, 1 << 20)?.batches {
                while let Some(Ok(view)) = records.next() {
                    read += u64::from(view.value.is_some_and(|v| v.as_slice().len() == 80));
                }
            }
        }
    }
    let (cpu, wall) = meter.stop();
    if read != records {
        return Err(Error::user(format!("{read} of {records} records came back")));
    }
    Ok(Row {
        name: "produce to consume, in process".into(),
        records,
        figure: records as f64 / cpu * 1e3,
        unit: "M records/s".into(),
        wall: wall / records as f64,
        bound: Some((5.0, true)),
        ..Row::default()
    })
}

/// Compacts a log of random keys.
pub(crate) fn compaction(records: u64, keys: u64) -> Result<Row> {
    let dir = tempfile::tempdir().map_err(Error::user)?;
    // A broker without threads compacts when it is told to.
    let options = BrokerOptions { threads: false, ..BrokerOptions::new(dir.path(), Arc::new(SystemClock::default())) };
    let log = Broker::open(options)?;
    // Small segments: the last one is not compacted.
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "4194304")];
    let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    log.create_topic(&TopicSpec { name: "t".into(), partitions: PARTITIONS, configs })?;
    fill(producer(&log)?.as_mut(), "t", records, 1, |random, _| random % keys)?;
    let size = || -> Result<u64> {
        let sum = |files: std::fs::ReadDir| files.flatten().filter_map(|f| Some(f.metadata().ok()?.len())).sum::<u64>();
        (0..PARTITIONS)
            .map(|p| Ok(sum(std::fs::read_dir(dir.path().join(format!("t-{p}"))).map_err(Error::user)?)))
            .sum()
    };
    let before = size()?;
    let meter = Meter::start();
    log.tick()?;
    let (cpu, wall) = meter.stop();
    println!("  {} MB became {} MB", before >> 20, size()? >> 20);
    Ok(Row {
        name: "compaction".into(),
        keys,
        records,
        figure: before as f64 / cpu * 1e3,
        unit: "MB/s".into(),
        wall: wall / records as f64,
        ..Row::default()
    })
}
