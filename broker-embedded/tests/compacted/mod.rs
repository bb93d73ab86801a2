//! What the tests of compaction share: a broker on a simulated disk with small segments and a clock that stands, records with
//! keys, and what a reader sees of them with its offsets.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, ConsumerOptions, Files, GroupOffsets, Isolation, LockError, Log, LogError,
    ManualClock, Offset, OpenFile, OpenMode, Producer, ProducerOptions, SimFiles, Timestamp, TopicPartition, TopicSpec,
    Wakeup,
};

pub(crate) type Outcome = Result<(), LogError>;

pub(crate) const ALL: Isolation = Isolation::ReadUncommitted;
pub(crate) const COMMITTED: Isolation = Isolation::ReadCommitted;

/// A disk and a clock that a test's brokers share, one after the other.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) files: SimFiles,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) durability: Durability,
}

impl World {
    pub(crate) fn new(durability: Durability) -> Self {
        World { files: SimFiles::default(), clock: Arc::new(ManualClock::at(1_000)), durability }
    }

    pub(crate) fn options(&self) -> BrokerOptions {
        BrokerOptions {
            files: Arc::new(self.files.clone()),
            durability: self.durability,
            threads: false,
            segment_bytes: 600,
            retention_ms: None,
            tail_bytes: if self.durability == Durability::Memory { usize::MAX } else { 0 },
            ..BrokerOptions::new(Path::new("/data"), self.clock.clone())
        }
    }

    pub(crate) fn open(&self) -> Result<Broker, LogError> {
        Broker::open(self.options())
    }

    /// The same world on a disk of its own, with every byte that is written now.
    pub(crate) fn copy(&self) -> World {
        let root = Path::new("/data");
        for dir in self.files.list(root).unwrap_or_default().iter().map(|name| root.join(name)).chain([root.to_owned()])
        {
            for name in self.files.list(&dir).unwrap_or_default() {
                if let Ok(file) = self.files.open(&dir.join(name), OpenMode::Existing) {
                    file.sync().expect("a sync");
                }
            }
            self.files.sync_dir(&dir).expect("a sync");
        }
        World { files: self.files.power_cut(1), ..self.clone() }
    }

    pub(crate) fn now(&self) -> i64 {
        millstream_core::Clock::now(&*self.clock).wall
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.advance(std::time::Duration::from_millis(ms));
    }

    /// Names of the files of partition 0 of topic `t`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.files.list(Path::new("/data/t-0")).unwrap_or_default()
    }

    /// Where the active segment of partition 0 of topic `t` begins.
    pub(crate) fn active(&self) -> Option<Offset> {
        self.names().iter().filter_map(|n| n.strip_suffix(".log")?.parse().ok()).max()
    }
}

pub(crate) fn t() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Topic `t` with one partition and these settings.
pub(crate) fn create(broker: &Broker, settings: &str) -> Outcome {
    let pairs = settings.split_whitespace().filter_map(|s| s.split_once('='));
    let configs: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    broker.create_topic(&TopicSpec { name: "t".into(), partitions: 1, configs })
}

pub(crate) fn producer(broker: &Broker, transactional_id: Option<&str>) -> Result<Box<dyn Producer>, LogError> {
    let options =
        ProducerOptions { transactional_id: transactional_id.map(Into::into), ..ProducerOptions::plain("test") };
    broker.producer(&options, Arc::new(Wakeup::default()))
}

/// A batch of `key=value` and, for tombstones, `key`.
pub(crate) fn batch(time: i64, records: &str) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for record in records.split_whitespace() {
        let (key, value) = record.split_once('=').map_or((record, None), |(key, value)| (key, Some(value)));
        batch.push(time, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    batch
}

pub(crate) fn send(producer: &mut dyn Producer, time: i64, records: &str) -> Outcome {
    producer.send(&t(), batch(time, records))
}

pub(crate) fn commit(producer: &mut dyn Producer) -> Outcome {
    producer.commit(GroupOffsets { group: "g".into(), offsets: Vec::new() });
    match producer.poll_commit() {
        // On a disk it is acknowledged later.
        Some(CommitOutcome::Done) | None => Ok(()),
        Some(CommitOutcome::Failed(error) | CommitOutcome::Unknown(error)) => Err(error),
    }
}

/// What a reader sees of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: Offset,
    pub(crate) text: String,
}

/// What a reader sees of topic `t` from an offset on, as `key=value`, and `key` of a tombstone.
pub(crate) fn seen(broker: &Broker, offset: Offset, isolation: Isolation) -> Result<Vec<Seen>, LogError> {
    let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation };
    let mut consumer = broker.consumer(&options, Arc::new(Wakeup::default()))?;
    consumer.assign(&[(t(), offset)])?;
    let mut seen = Vec::new();
    let mut position = offset;
    loop {
        let fetch = consumer.fetch(0, 200)?;
        for mut batch in fetch.batches {
            assert!(batch.remaining() > 0, "an empty batch means nothing to a reader");
            while let Some(record) = batch.next() {
                let record = record.expect("a whole record");
                assert!((position..fetch.position).contains(&record.offset), "{} from {position}", record.offset);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let key = text(record.key.expect("a key").as_slice());
                let value = record.value.map(|v| format!("={}", text(v.as_slice())));
                seen.push(Seen { offset: record.offset, text: key + &value.unwrap_or_default() });
            }
        }
        if fetch.position == position {
            assert_eq!(position, fetch.end, "a reader stands still before the end only when it is there");
            return Ok(seen);
        }
        position = fetch.position;
    }
}

pub(crate) fn texts(broker: &Broker, isolation: Isolation) -> Result<String, LogError> {
    let start = broker.start_offset(&t())?;
    Ok(seen(broker, start, isolation)?.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" "))
}

/// Numbers from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What is told the call and the file.
type Before = dyn Fn(&str, &Path) + Send + Sync;

/// Files that tell somebody of each call that changes something, before it is made.
#[derive(Clone)]
pub(crate) struct Watched {
    files: SimFiles,
    before: Arc<Before>,
}

impl Watched {
    pub(crate) fn files(files: &SimFiles, before: impl Fn(&str, &Path) + Send + Sync + 'static) -> Arc<dyn Files> {
        Arc::new(Watched { files: files.clone(), before: Arc::new(before) })
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

#[derive(Debug)]
struct WatchedFile {
    files: Watched,
    path: PathBuf,
    file: Arc<dyn OpenFile>,
}

impl OpenFile for WatchedFile {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        (self.files.before)("write", &self.path);
        self.file.write_all_at(bytes, at)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        (self.files.before)("set_len", &self.path);
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn modified(&self) -> io::Result<Timestamp> {
        self.file.modified()
    }
    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        self.file.set_modified(time)
    }
    fn sync(&self) -> io::Result<()> {
        (self.files.before)("sync", &self.path);
        self.file.sync()
    }
}

impl Files for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>> {
        if mode == OpenMode::Create {
            (self.before)("create", path);
        }
        let file = self.files.open(path, mode)?;
        Ok(Arc::new(WatchedFile { files: self.clone(), path: path.to_owned(), file }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path, OpenMode::Create)?.write_all_at(bytes, 0)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.before)("rename", from);
        self.files.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.before)("remove", path);
        self.files.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir(dir)
    }
    /// As an operating system does: file by file, and what comes in between is in the way.
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.list(dir)?.iter().try_for_each(|name| self.files.remove(&dir.join(name)))?;
        (self.before)("remove_dir", dir);
        if !self.files.list(dir)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.files.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        (self.before)("sync_dir", dir);
        self.files.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        self.files.lock(path)
    }
}
