//! State that is larger than the memory it may take: counts of ten times as many keys as rows stay decoded.

use std::sync::Arc;

use millstream_broker::Broker;
use millstream_core::{
    BatchBuilder, Log, Result, RuntimeConfig, StateDisk, Streams, SystemClock, Text, TopicPartition, partition_for_key,
};
use millstream_dsl::StreamsBuilder;
use millstream_state::{RocksDisk, RocksOptions};

use crate::cpu::Meter;
use crate::log::{PARTITIONS, create, open, producer};
use crate::memory::peak_megabytes;
use crate::processed::processed;
use crate::random::Random;
use crate::table::Row;

/// Which keys are updated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys {
    Uniform,
    /// The n-th key as often as `n` to the power of -1.1.
    Zipf,
}

/// What a row of this program takes in memory: its place, its place in the index, twice its encoded bytes.
const ROW_BYTES: u64 = 130;

/// Sends every key once, then updates.
pub(super) fn fill(log: &Broker, keys: u64, updates: u64, which: Keys) -> Result<()> {
    create(log, "in")?;
    let mut producer = producer(log)?;
    let mut random = Random(1);
    let mut batches: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    for number in 0..keys + updates {
        let key = match which {
            // Neighbours in the order of filling are no neighbours among the keys.
            _ if number < keys => number,
            Keys::Uniform => random.next() % keys,
            Keys::Zipf => random.zipf(keys),
        };
        let key = format!("key-{:012}", key.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000_000_000);
        let partition = partition_for_key(key.as_bytes(), PARTITIONS);
        let batch = &mut batches[partition as usize];
        batch.push(number as i64 / 100, Some(key.as_bytes()), Some(b"x"), &[]);
        if batch.len() >= 64 << 10 {
            producer.send(&TopicPartition::new("in", partition), std::mem::take(batch))?;
        }
    }
    for (partition, batch) in batches.into_iter().enumerate().filter(|(_, b)| !b.is_empty()) {
        producer.send(&TopicPartition::new("in", partition as i32), batch)?;
    }
    Ok(())
}

/// Counts so many keys once, then updates them; the figure is of the updates.
pub(crate) fn large_state(keys: u64, updates: u64, which: Keys) -> Result<Vec<Row>> {
    let (log, dir) = open()?;
    create(&log, "out")?;
    fill(&log, keys, updates, which)?;
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("out", PARTITIONS);
    b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to("out");
    let budget = keys * ROW_BYTES / 10;
    let options = RocksOptions { rows: budget as usize, ..RocksOptions::default() };
    let disk: Arc<dyn StateDisk> = Arc::new(RocksDisk::new(&dir.path().join("state"), options)?);
    let config = RuntimeConfig { disk: Some(disk.clone()), ..RuntimeConfig::embedded("large") };
    let log: Arc<dyn Log> = Arc::new(log);
    let mut streams = Streams::new(b.build()?, config, log, Arc::new(SystemClock::default()))?;
    let meter = Meter::start();
    streams.start()?;
    processed(&mut streams, keys)?;
    let filled = meter.stop();
    let meter = Meter::start();
    processed(&mut streams, keys + updates)?;
    let updated = meter.stop();
    streams.close()?;
    // On a machine that does something else meanwhile only the second says something.
    let rows = |what: &str, records: u64, (cpu, wall): (f64, f64), bound| {
        let row = |name, figure, unit: &'static str, bound| Row {
            name,
            keys,
            records,
            figure,
            unit: unit.into(),
            wall: wall / records as f64,
            bound,
        };
        let name = format!("{what}, {which:?}, {} MB of rows in memory", budget >> 20);
        let rate = row(name, records as f64 / wall * 1e6, "k records/s", bound);
        [rate, row(format!("  {what}, {which:?}, CPU of all threads"), cpu / records as f64, "ns/record", None)]
    };
    let goal = match which {
        Keys::Uniform => 100.0,
        Keys::Zipf => 1000.0,
    };
    let peak = Row {
        name: format!("  peak memory of the process, {which:?}"),
        figure: peak_megabytes(),
        unit: "MB".into(),
        ..Row::default()
    };
    let filled = rows("new keys on disk", keys, filled, None);
    let updated = rows("updates on disk", updates, updated, Some((goal, true)));
    Ok(filled.into_iter().chain(updated).chain([peak]).collect())
}
