//! State that is larger than the memory it may take: counts of ten times as many keys as rows stay decoded.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{
    BatchBuilder, Log, Result, RuntimeConfig, State, StateDisk, Streams, SystemClock, Text, TopicPartition,
    partition_for_key,
};
use millstream_dsl::StreamsBuilder;
use millstream_state::{RocksDisk, RocksOptions};

use crate::log::{PARTITIONS, create, open, producer};
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

/// Counts so many keys once, then updates them; the figure is of the updates.
pub(crate) fn large_state(keys: u64, updates: u64, which: Keys) -> Result<Vec<Row>> {
    let (log, dir) = open()?;
    create(&log, "in")?;
    create(&log, "out")?;
    let mut producer = producer(&log)?;
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
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("out", PARTITIONS);
    b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to("out");
    let budget = keys * ROW_BYTES / 10;
    let options = RocksOptions { rows: budget as usize, ..RocksOptions::default() };
    let disk: Arc<dyn StateDisk> = Arc::new(RocksDisk::new(&dir.path().join("state"), options)?);
    let config = RuntimeConfig { disk: Some(disk.clone()), ..RuntimeConfig::embedded("large") };
    let log: Arc<dyn Log> = Arc::new(log);
    let mut streams = Streams::new(b.build()?, config, log, Arc::new(SystemClock::default()))?;
    let began = Instant::now();
    streams.start()?;
    let filled = wait(&mut streams, keys)?.duration_since(began);
    let began = Instant::now();
    let updated = wait(&mut streams, keys + updates)?.duration_since(began);
    streams.close()?;
    let row = |what: &str, records: u64, took: Duration, bound| Row {
        name: format!("{what}, {which:?}, {} MB of rows in memory", budget >> 20),
        keys,
        records,
        figure: records as f64 / took.as_secs_f64() / 1e3,
        unit: "k records/s",
        wall: took.as_nanos() as f64 / records as f64,
        bound,
    };
    let goal = match which {
        Keys::Uniform => 100.0,
        Keys::Zipf => 1000.0,
    };
    let peak = Row {
        name: format!("  peak memory of the process, {which:?}"),
        figure: peak_megabytes(),
        unit: "MB",
        ..Row::default()
    };
    Ok(vec![
        row("new keys on disk", keys, filled, None),
        row("updates on disk", updates, updated, Some((goal, true))),
        peak,
    ])
}

pub(crate) fn wait(streams: &mut Streams, records: u64) -> Result<Instant> {
    while streams.counters().process < records {
        if streams.state() == State::Error {
            streams.join()?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Instant::now())
}

/// Most memory that the process has had (Linux).
pub(crate) fn peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Numbers that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// By the inverse of the distribution's integral: near enough for the tail, and exact in its shape.
    fn zipf(&mut self, keys: u64) -> u64 {
        const S: f64 = 1.1;
        let uniform = self.next() as f64 / (1u64 << 31) as f64;
        let all = 1.0 - (keys as f64).powf(1.0 - S);
        let rank = (1.0 - uniform * all).powf(1.0 / (1.0 - S));
        (rank as u64).clamp(1, keys) - 1
    }
}
