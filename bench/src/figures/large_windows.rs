//! Windows that are larger than the memory they may take: counts of ten windows per key, a tenth of which stay decoded.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{
    BatchBuilder, Log, Result, RuntimeConfig, State, StateDisk, Streams, SystemClock, Text, TopicPartition,
    partition_for_key,
};
use millstream_dsl::{HOUR, MIN, SessionWindows, StreamsBuilder, TimeWindows};
use millstream_state::{RocksDisk, RocksOptions};

use crate::cpu::Meter;
use crate::log::{PARTITIONS, create, open, producer};
use crate::memory::peak_megabytes;
use crate::processed::processed;
use crate::random::Random;
use crate::table::Row;

/// What is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Of a minute.
    Tumbling,
    /// A minute apart at least.
    Session,
}

/// Of every key.
const WINDOWS: u64 = 10;

/// What a window and its part of a key take in memory, about.
const ROW_BYTES: u64 = 200;

/// Windows of a minute, or sessions that begin every two.
const STEP: u64 = 120_000;

/// Counts windows of so many keys once, then updates them at random places, then starts again; the figures are of each.
pub(crate) fn large_windows(keys: u64, updates: u64, which: Windows) -> Result<Vec<Row>> {
    let (log, dir) = open()?;
    create(&log, "in")?;
    create(&log, "out")?;
    let mut producer = producer(&log)?;
    let mut random = Random(1);
    let rows = WINDOWS * keys;
    let mut batches: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
    for number in 0..rows + updates {
        // In the order of time, then anywhere.
        let (window, key) = if number < rows {
            (number / keys, number % keys)
        } else {
            (random.next() % WINDOWS, random.next() % keys)
        };
        let key = format!("key-{:012}", key.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000_000_000);
        let partition = partition_for_key(key.as_bytes(), PARTITIONS);
        let batch = &mut batches[partition as usize];
        batch.push((window * STEP + number % 1000) as i64, Some(key.as_bytes()), Some(b"x"), &[]);
        if batch.len() >= 64 << 10 {
            producer.send(&TopicPartition::new("in", partition), std::mem::take(batch))?;
        }
    }
    for (partition, batch) in batches.into_iter().enumerate().filter(|(_, b)| !b.is_empty()) {
        producer.send(&TopicPartition::new("in", partition as i32), batch)?;
    }
    let budget = rows * ROW_BYTES / WINDOWS;
    let log: Arc<dyn Log> = Arc::new(log);
    let mut streams = program(which, budget, dir.path(), log.clone())?;
    let meter = Meter::start();
    streams.start()?;
    processed(&mut streams, rows)?;
    let filled = meter.stop();
    let meter = Meter::start();
    processed(&mut streams, rows + updates)?;
    let updated = meter.stop();
    streams.close()?;
    let began = Instant::now();
    let mut streams = program(which, budget, dir.path(), log)?;
    streams.start()?;
    while streams.state() != State::Running {
        std::thread::sleep(Duration::from_millis(1));
    }
    let started = began.elapsed();
    streams.close()?;
    let named = |name: String, figure, unit: &'static str| Row { name, figure, unit: unit.into(), ..Row::default() };
    let row = |what: &str, records: u64, (cpu, wall): (f64, f64)| {
        let name = format!("{what}, {which:?}, {} MB of rows in memory", budget >> 20);
        let rate = named(name, records as f64 / wall * 1e6, "k records/s");
        let cpu = named(format!("  {what}, {which:?}, CPU of all threads"), cpu / records as f64, "ns/record");
        [Row { keys, records, wall: wall / records as f64, ..rate }, cpu]
    };
    let rows = row("new windows on disk", rows, filled).into_iter();
    let rest = [
        named(format!("  start with them, {which:?}"), started.as_secs_f64() * 1e3, "ms"),
        named(format!("  peak memory of the process, {which:?}"), peak_megabytes(), "MB"),
    ];
    Ok(rows.chain(row("updates of windows on disk", updates, updated)).chain(rest).collect())
}

fn program(which: Windows, budget: u64, folder: &Path, log: Arc<dyn Log>) -> Result<Streams> {
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("out", PARTITIONS);
    let records = b.stream::<Text, Text>("in").group_by_key();
    let counts = match which {
        Windows::Tumbling => records.windowed_by(TimeWindows::of(MIN).grace(HOUR)).count("counts"),
        Windows::Session => records.windowed_by(SessionWindows::of(MIN).grace(HOUR)).count("counts"),
    };
    counts.to_stream().to("out");
    let options = RocksOptions { rows: budget as usize, ..RocksOptions::default() };
    let disk: Arc<dyn StateDisk> = Arc::new(RocksDisk::new(&folder.join("state"), options)?);
    let config = RuntimeConfig { disk: Some(disk), ..RuntimeConfig::embedded("large") };
    Streams::new(b.build()?, config, log, Arc::new(SystemClock::default()))
}
