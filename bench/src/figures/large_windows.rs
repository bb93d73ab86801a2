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

use crate::baseline::processed;
use crate::log::{PARTITIONS, create, open, producer};
use crate::memory::peak_megabytes;
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
    let began = Instant::now();
    streams.start()?;
    processed(&mut streams, rows)?;
    let filled = began.elapsed();
    let began = Instant::now();
    processed(&mut streams, rows + updates)?;
    let updated = began.elapsed();
    streams.close()?;
    let began = Instant::now();
    let mut streams = program(which, budget, dir.path(), log)?;
    streams.start()?;
    while streams.state() != State::Running {
        std::thread::sleep(Duration::from_millis(1));
    }
    let started = began.elapsed();
    streams.close()?;
    let row = |what: &str, records: u64, took: Duration| Row {
        name: format!("{what}, {which:?}, {} MB of rows in memory", budget >> 20),
        keys,
        records,
        figure: records as f64 / took.as_secs_f64() / 1e3,
        unit: "k records/s".into(),
        wall: took.as_nanos() as f64 / records as f64,
        ..Row::default()
    };
    let named = |name: &str, figure: f64, unit: &str| Row {
        name: name.to_owned(),
        figure,
        unit: unit.to_owned().into(),
        ..Row::default()
    };
    Ok(vec![
        row("new windows on disk", rows, filled),
        row("updates of windows on disk", updates, updated),
        named("  start with them", started.as_secs_f64() * 1e3, "ms"),
        named("  peak memory of the process", peak_megabytes(), "MB"),
    ])
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
