//! From a changelog to a store: how long a program without its state needs until it runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::Broker;
use millstream_core::{
    BatchBuilder, Error, Log, Result, RuntimeConfig, State, Streams, SystemClock, Text, TopicPartition, Topology,
    partition_for_key,
};
use millstream_dsl::{Materialized, StreamsBuilder};

use crate::cpu::Meter;
use crate::kafka_streams::RESTORE;
use crate::log::{PARTITIONS, create, open, producer};
use crate::memory::peak_megabytes;
use crate::processed::processed;
use crate::random::Random;
use crate::store::Store;
use crate::table::Row;

pub(crate) const GIGABYTE: u64 = 1_000_000_000;

/// Bytes of a key, and of a value of a large changelog: random ones, or they would be compressed.
const KEY: u64 = 16;
pub(super) const VALUE: u64 = 240;
/// Rows of a small changelog, and bytes of its values.
const SMALL: (u64, u64) = (900_000, 16);

/// The last value of every key; what comes out is its length.
pub(super) fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("out", PARTITIONS);
    // The cleaner takes turns of its own: compacting this changelog while it is read took a third of the process's time.
    b.materialized("rows", Materialized::new().with_logging_enabled([("min.compaction.lag.ms", "86400000")]));
    let rows = b.stream::<Text, Bytes>("in").group_by_key().reduce("rows", |_, new| new);
    rows.to_stream().map_values(|value| value.map(|value| value.len() as i64)).to("out");
    b.build()
}

pub(super) fn streams(log: &Broker, store: Store, folder: &Path) -> Result<Streams> {
    let config = RuntimeConfig { disk: store.disk(folder)?, ..RuntimeConfig::embedded("restore") };
    Streams::new(program()?, config, Arc::new(log.clone()) as Arc<dyn Log>, Arc::new(SystemClock::default()))
}

/// Sends a row of every one of these keys.
pub(super) fn send(log: &Broker, keys: impl Iterator<Item = u64>, value: u64) -> Result<()> {
    let mut producer = producer(log)?;
    let mut random = Random(7);
    let mut batches: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    let mut bytes = Vec::new();
    for key in keys {
        let text = format!("key-{:012}", key.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000_000_000);
        bytes.clear();
        while (bytes.len() as u64) < value {
            // The upper bits of its numbers are the random ones, and there are 31.
            bytes.extend_from_slice(&(random.next() >> 7).to_be_bytes()[5..]);
        }
        bytes.truncate(value as usize);
        let partition = partition_for_key(text.as_bytes(), PARTITIONS);
        let batch = &mut batches[partition as usize];
        batch.push(0, Some(text.as_bytes()), Some(&bytes), &[]);
        if batch.len() >= 64 << 10 {
            producer.send(&TopicPartition::new("in", partition), std::mem::take(batch))?;
        }
    }
    for (partition, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
        producer.send(&TopicPartition::new("in", partition as i32), batch)?;
    }
    Ok(())
}

/// Waits until everything is restored.
fn running(streams: &mut Streams) -> Result<()> {
    while streams.state() != State::Running {
        if streams.state() == State::Error {
            streams.join()?;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Makes a changelog of so many rows, and restores it: CPU and wall seconds.
fn restore(store: Store, rows: u64, value: u64) -> Result<(f64, f64)> {
    let (log, dir) = open()?;
    create(&log, "in")?;
    send(&log, 0..rows, value)?;
    let mut first = streams(&log, Store::Memory, dir.path())?;
    first.start()?;
    processed(&mut first, rows)?;
    first.close()?;
    drop(first);
    let mut second = streams(&log, store, &dir.path().join("state"))?;
    let meter = Meter::start();
    second.start()?;
    running(&mut second)?;
    let (cpu, wall) = meter.stop();
    let restored = second.counters().restore;
    second.close()?;
    match restored == rows {
        true => Ok((cpu / 1e9, wall / 1e9)),
        false => Err(Error::user(format!("{restored} of {rows} rows restored"))),
    }
}

fn kind(store: Store) -> &'static str {
    if store == Store::Memory { "memory" } else { "RocksDB" }
}

/// A changelog of so many bytes of keys and values.
pub(crate) fn large(store: Store, bytes: u64) -> Result<Vec<Row>> {
    let rows = bytes / (KEY + VALUE);
    let (cpu, wall) = restore(store, rows, VALUE)?;
    let gigabytes = bytes as f64 / GIGABYTE as f64;
    let row = |what: &str, figure, unit: &'static str, bound| Row {
        name: format!("restore, {}, {what}", kind(store)),
        keys: rows,
        records: rows,
        figure,
        unit: unit.into(),
        wall: wall * 1e9 / rows as f64,
        bound,
    };
    Ok(vec![
        row("all cores", cpu / gigabytes, "s CPU/GB", Some((2.5, false))),
        row("1 thread", wall / gigabytes, "s/GB", None),
        row("with what made it", peak_megabytes(), "MiB at most", None),
    ])
}

/// A changelog as Kafka Streams was measured with.
pub(crate) fn small(store: Store) -> Result<Vec<Row>> {
    let (rows, value) = SMALL;
    let (cpu, wall) = restore(store, rows, value)?;
    let row = |what: &str, figure, unit: &'static str, bound| Row {
        name: format!("restore of 900,000 small rows, {}{what}", kind(store)),
        keys: rows,
        records: rows,
        figure,
        unit: unit.into(),
        wall: wall * 1e9 / rows as f64,
        bound,
    };
    let rate = rows as f64 / wall / 1e3;
    Ok(vec![
        row("", rate, "k records/s", None),
        row(", CPU", cpu * 1e9 / rows as f64, "ns CPU/record", None),
        row(", Kafka Streams'", rate / RESTORE, "times", Some((15.0, true))),
    ])
}
