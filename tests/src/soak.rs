//! A program under a steady load for as long as one likes, on files and with everything on: exactly-once, two threads, counts in windows,
//! a join of two streams, a table in RocksDB, retention and compaction. Nothing that it takes may grow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin as _, BatchBuilder, Clock as _, Error, Log, ManualClock, ProducerOptions, Result, RuntimeConfig, Streams,
    SystemClock, TopicPartition, TopicSpec, Topology,
};
use millstream_dsl::{JoinWindows, SECOND, StreamsBuilder, TimeWindows};
use millstream_state::{RocksDisk, RocksOptions};

use crate::embedded::Embedded;
use crate::simulation::Dice;
use crate::usage::{Usage, growth};

/// Records a second, in the two input topics together.
const RATE: u64 = 10_000;
const KEYS: u64 = 20_000;
const PARTITIONS: i32 = 2;
/// What expires goes after so long.
const RETENTION: Duration = Duration::from_secs(10);
/// The same in changelogs of windows and joins.
const CHANGELOG_RETENTION: Duration = Duration::from_secs(30);
/// Bytes of a segment.
const SEGMENT: u64 = 4 << 20;

/// What was seen at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// What the process took.
    pub usage: Usage,
    /// Bytes in files: log and state.
    pub files: u64,
    /// Records written, and processed.
    pub records: (u64, u64),
}

fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, String>("right"));
    left.clone().group_by_key().count("totals").to_stream().to("totals");
    let windows = TimeWindows::of(5 * SECOND).grace(SECOND);
    left.clone()
        .group_by_key()
        .windowed_by(windows)
        .count("windows")
        .to_stream()
        .map(|key, n| (key.key, n))
        .to("windows");
    left.join("pairs", &right, JoinWindows::of(2 * SECOND).grace(SECOND), |l, _| l.clone()).to("pairs");
    b.build()
}

/// A topic of the program's, its old records deleted or compacted soon.
fn create(broker: &Broker, name: &str, policy: &str) -> Result<()> {
    let configs = [
        ("cleanup.policy", policy.to_owned()),
        ("retention.ms", RETENTION.as_millis().to_string()),
        ("segment.bytes", SEGMENT.to_string()),
    ];
    let configs = configs.map(|(key, value)| (key.to_owned(), value)).into();
    Ok(broker.create_topic(&TopicSpec { name: name.to_owned(), partitions: PARTITIONS, configs })?)
}

/// Writes [`RATE`] records a second until it is told to stop. Returns how many of `left` had each key.
fn load(broker: &Broker, clock: &SystemClock, written: &AtomicU64, stop: &AtomicBool) -> Result<BTreeMap<String, i64>> {
    let mut producer = broker.producer(&ProducerOptions::plain("load"), Arc::default())?;
    let (dice, began) = (Dice::new(1), Instant::now());
    // As many as there will be: memory is looked at.
    let mut left: BTreeMap<String, i64> = (0..KEYS).map(|key| (key.to_string(), 0)).collect();
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as u64;
        let time = clock.now().wall;
        for (topic, partition) in [("left", 0), ("left", 1), ("right", 0), ("right", 1)] {
            let mut batch = BatchBuilder::new();
            let records = due.saturating_sub(written.load(Ordering::Relaxed)) / 4;
            for _ in 0..records {
                // A key is always in one partition.
                let key = (dice.below(KEYS) / 2 * 2 + partition).to_string();
                batch.push(time, Some(key.as_bytes()), Some(b"a value of some twenty"), &[]);
                if topic == "left" {
                    *left.entry(key).or_default() += 1;
                }
            }
            if !batch.is_empty() {
                producer.send(&TopicPartition::new(topic, partition as i32), batch)?;
            }
            written.fetch_add(records, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    left.retain(|_, records| *records > 0);
    Ok(left)
}

fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes(&entry.path()),
        // What has been deleted meanwhile has none.
        of => of.map_or(0, |of| of.len()),
    };
    entries.map(size).sum()
}

/// Runs in a folder for so long, and tells of a sample every `every`.
///
/// # Errors
/// When the program fails, or has not counted every record once.
pub fn run(folder: &Path, length: Duration, every: Duration, tell: &mut dyn FnMut(&Sample)) -> Result<Vec<Sample>> {
    let clock = Arc::new(SystemClock::default());
    // With little of each partition in memory that is full soon.
    let (segment_bytes, tail_bytes) = (SEGMENT, 1 << 20);
    let options = BrokerOptions { segment_bytes, tail_bytes, ..BrokerOptions::new(folder.join("log"), clock.clone()) };
    let broker = Broker::open(options)?;
    for (topic, policy) in
        [("left", "delete"), ("right", "delete"), ("windows", "delete"), ("pairs", "delete"), ("totals", "compact")]
    {
        create(&broker, topic, policy)?;
    }
    let options = RocksOptions { rows: 4 << 20, blocks: 4 << 20, unflushed: 8 << 20, background: true };
    let disk = Some(Arc::new(RocksDisk::new(&folder.join("state"), options)?) as Arc<_>);
    let config = RuntimeConfig { disk, threads: 2, ..RuntimeConfig::embedded("soak") };
    let mut streams = Streams::new(program()?, config, Arc::new(broker.clone()), clock.clone())?;
    for changelog in broker.topics()?.iter().filter(|topic| topic.ends_with("-changelog")) {
        let mut configs = BTreeMap::from([("segment.bytes".to_owned(), SEGMENT.to_string())]);
        // Those of windows and joins would keep everything for a day.
        if broker.topic_configs(changelog)?.get("cleanup.policy").is_some_and(|policy| policy.contains("delete")) {
            configs.insert("retention.ms".to_owned(), CHANGELOG_RETENTION.as_millis().to_string());
        }
        broker.alter_configs(changelog, &configs)?;
    }
    streams.start()?;
    let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let loader = {
        let (broker, clock, written, stop) = (broker.clone(), clock.clone(), written.clone(), stop.clone());
        std::thread::spawn(move || load(&broker, &clock, &written, &stop))
    };
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < length && !loader.is_finished() {
        std::thread::sleep(every);
        let sample = Sample {
            at: began.elapsed(),
            usage: Usage::now().map_err(Error::user)?,
            files: bytes(folder),
            records: (written.load(Ordering::Relaxed), streams.counters().process),
        };
        tell(&sample);
        samples.push(sample);
    }
    stop.store(true, Ordering::Relaxed);
    let left = loader.join().map_err(|_| Error::user("the load panicked"))??;
    streams.drain()?;
    streams.join()?;
    let embedded = Embedded { log: broker.clone(), clock: Arc::new(ManualClock::at(0)) };
    let totals: BTreeMap<String, i64> = embedded.read("totals")?.into_iter().flatten().collect();
    broker.close()?;
    // Also one that was never written.
    match left.keys().chain(totals.keys()).find(|key| left.get(*key) != totals.get(*key)) {
        Some(key) => Err(Error::user(format!(
            "of the key {key} {} records were written, {} counted",
            left.get(key).unwrap_or(&0),
            totals.get(key).unwrap_or(&0)
        ))),
        None => Ok(samples),
    }
}

/// What may grow: its name, how much of it a sample has, and the part and the amount by which it may.
type Limit = (&'static str, fn(&Sample) -> u64, f64, f64);

/// What has grown in the last two thirds of the samples, when everything has been there for a while: memory by more than a tenth and 8 MiB,
/// handles or threads by more than a tenth and 4, files by more than a half.
pub fn grown(samples: &[Sample]) -> Vec<String> {
    let warm = &samples[samples.len() / 3..];
    let limits: [Limit; 4] = [
        ("memory", |s| s.usage.memory, 0.1, 8.0 * 1024.0 * 1024.0),
        ("handles", |s| s.usage.handles, 0.1, 4.0),
        ("threads", |s| s.usage.threads, 0.1, 4.0),
        ("files", |s| s.files, 0.5, 0.0),
    ];
    let check = |(what, of, part, more): Limit| {
        let mean = warm.iter().map(of).sum::<u64>() as f64 / warm.len().max(1) as f64;
        let (grown, most) = (growth(warm.iter().map(of)), part * mean + more);
        (grown > most).then(|| format!("{what} grew by {grown:.0}, from {mean:.0} on average; {most:.0} is the most"))
    };
    limits.into_iter().filter_map(check).collect()
}
