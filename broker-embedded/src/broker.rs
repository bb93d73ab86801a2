//! The broker: topics, coordinator and groups on one data directory.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millstream_core::{
    BatchBuilder, CommittedOffset, Files, Isolation, LogError, Offset, Timestamp, TopicPartition, TopicSpec,
};
use millstream_wire::SealOptions;

use crate::checkpoint::Checkpoint;
use crate::cleanable::Cleanable;
use crate::cleaner::{self, CleanerOptions};
use crate::data_dir::{DataDir, io};
use crate::fetch;
use crate::groups::{Groups, OFFSETS_TOPIC};
use crate::housekeeping::Housekeeping;
use crate::journal::Journal;
use crate::options::{BrokerOptions, Durability};
use crate::partition::{Partition, State};
use crate::recovery::{self, Known};
use crate::storage::Storage;
use crate::topic_config::{TopicConfig, check_name};
use crate::transactions::{Coordinator, STATE_TOPIC};

/// An embedded Kafka log. Clones share it; it is closed when the last clone is dropped, or by [`Broker::close`].
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: BrokerOptions,
    dir: Option<DataDir>,
    storage: Arc<Storage>,
    housekeeping: Mutex<Option<Housekeeping>>,
    topics: RwLock<BTreeMap<String, Topic>>,
    // Locked before a partition, never after one.
    coordinator: Mutex<Coordinator>,
    groups: Mutex<Groups>,
    /// Held for the length of a checkpoint.
    checkpointing: Mutex<()>,
    /// Held for the length of a round of compaction; before `checkpointing`.
    cleaning: Mutex<()>,
    /// The largest topic id that was given.
    newest_topic: AtomicU64,
    closed: AtomicBool,
    /// Whether it was opened to the end. What was not may lack what the journal has, and must not say otherwise.
    opened: AtomicBool,
}

struct Topic {
    id: u64,
    config: TopicConfig,
    partitions: Vec<Arc<Partition>>,
}

/// Marks a topic's first partition folder, written last: without it there is no topic.
const TOPIC_FILE: &str = "topic.properties";

const INTERNAL_SEGMENT_BYTES: u64 = 16 << 20;

impl Broker {
    /// Opens a data directory, recovering what an unclean end has left.
    ///
    /// # Errors
    /// When the directory is in use, cannot be written, has a newer format, or holds damage that is not a torn end.
    pub fn open(options: BrokerOptions) -> Result<Broker, LogError> {
        let files = options.files.clone();
        let dir = match options.durability {
            Durability::Memory => None,
            Durability::Os | Durability::Disk => Some(DataDir::open(&*files, &options.data_dir)?),
        };
        let checkpoint =
            dir.as_ref().map_or_else(|| Ok(Checkpoint::default()), |d| Checkpoint::read(&*files, &d.path))?;
        let journal = match &dir {
            Some(dir) if options.durability == Durability::Disk => Some(Journal::create(files.clone(), &dir.path)?),
            _ => None,
        };
        let storage = Arc::new(Storage::new(files, journal, options.threads, options.checkpoint_bytes));
        let topics = match &dir {
            Some(dir) => load_topics(dir, &options, &storage, &checkpoint)?,
            None => BTreeMap::new(),
        };
        let inner = Inner {
            options,
            dir,
            storage,
            housekeeping: Mutex::default(),
            topics: RwLock::new(topics),
            coordinator: Mutex::default(),
            groups: Mutex::default(),
            checkpointing: Mutex::default(),
            cleaning: Mutex::default(),
            newest_topic: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            opened: AtomicBool::new(false),
        };
        let broker = Broker { inner: Arc::new(inner) };
        broker.inner.replay(&checkpoint)?;
        if broker.inner.options.threads {
            *broker.inner.housekeeping() = Some(Housekeeping::start(&broker.inner)?);
        }
        for topic in [OFFSETS_TOPIC, STATE_TOPIC] {
            if broker.partition_count(topic).is_none() {
                // Closed early, so that what a start reads is short.
                let segment_bytes = broker.inner.options.segment_bytes.clamp(1024, INTERNAL_SEGMENT_BYTES);
                let configs = [("cleanup.policy", "compact".to_owned()), ("segment.bytes", segment_bytes.to_string())];
                let configs = configs.map(|(key, value)| (key.to_owned(), value)).into();
                broker.create_unchecked(&TopicSpec { name: topic.to_owned(), partitions: 1, configs })?;
            }
        }
        broker.load_state()?;
        broker.inner.opened.store(true, Ordering::SeqCst);
        Ok(broker)
    }

    fn load_state(&self) -> Result<(), LogError> {
        let mut coordinator = self.coordinator();
        self.read_all(STATE_TOPIC, |records| coordinator.load(records))?;
        coordinator.finish_open(self)?;
        drop(coordinator);
        let mut groups = self.groups();
        self.read_all(OFFSETS_TOPIC, |records| groups.load(records))
    }

    fn read_all(&self, topic: &str, mut take: impl FnMut(millstream_wire::Records)) -> Result<(), LogError> {
        let partition = self.partition(&TopicPartition::new(topic, 0))?;
        let mut offset = partition.start();
        loop {
            let found = fetch::fetch(&partition, offset, 1 << 20, Isolation::ReadCommitted)?;
            found.batches.into_iter().for_each(&mut take);
            if found.position == offset {
                return Ok(());
            }
            offset = found.position;
        }
    }

    /// Writes what is only in memory and marks the directory as left in order. Later calls fail with
    /// [`LogError::Closed`].
    ///
    /// # Errors
    /// When that cannot be written; the next open then recovers.
    pub fn close(&self) -> Result<(), LogError> {
        self.inner.close()
    }

    /// Deletes what is older, or more, than topics keep, compacts what is worth it, and makes a checkpoint when enough was
    /// written. Threads of the broker's own do that; without them ([`BrokerOptions::threads`]) it must be called now and then, and also syncs the
    /// journal.
    ///
    /// # Errors
    /// When a file cannot be written, synced or removed.
    pub fn tick(&self) -> Result<(), LogError> {
        self.inner.tick()
    }

    /// Appends a batch from outside, after a look at all of it, and returns the offset of its first record when it is
    /// kept as the durability promises.
    ///
    /// # Errors
    /// [`LogError::Refused`] when anything is wrong with it; nothing has been appended then.
    pub fn append(&self, to: &TopicPartition, batch: &[u8]) -> Result<Offset, LogError> {
        self.check_open()?;
        let offset = self.partition(to)?.append_checked(batch)?;
        self.storage().wait(self.storage().position())?;
        Ok(offset)
    }

    /// A topic's configuration, as it was given; `None` if there is no such topic.
    pub fn topic_config(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        self.topics_read().get(topic).map(|t| t.config.given.clone())
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`], or when its files cannot be removed.
    pub fn delete_topic(&self, topic: &str) -> Result<(), LogError> {
        // Neither a checkpoint nor a compacted segment is under way to a folder that goes.
        let _neither = self.inner.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics = self.inner.topics.write().unwrap_or_else(PoisonError::into_inner);
        let gone = topics.remove(topic).ok_or_else(|| LogError::UnknownTopic(TopicPartition::new(topic, 0)))?;
        gone.partitions.iter().for_each(|p| p.abandon());
        let Some(dir) = &self.inner.dir else { return Ok(()) };
        let files = &*self.storage().files;
        let first = partition_dir(&dir.path, topic, 0);
        let file = first.join(TOPIC_FILE);
        files.remove(&file).and_then(|()| files.sync_dir(&first)).map_err(|e| io("cannot remove", &file, e))?;
        for partition in 0..gone.partitions.len() {
            let path = partition_dir(&dir.path, topic, partition as i32);
            files.remove_dir(&path).map_err(|e| io("cannot remove", &path, e))?;
        }
        Ok(())
    }

    /// Every group's committed positions.
    pub fn group_offsets(&self) -> Vec<(String, TopicPartition, CommittedOffset)> {
        let mut all: Vec<_> = self
            .groups()
            .all()
            .map(|((group, partition), offset)| (group.clone(), partition.clone(), offset.clone()))
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    pub(crate) fn check_open(&self) -> Result<(), LogError> {
        if self.inner.closed.load(Ordering::Relaxed) {
            return Err(LogError::Closed);
        }
        self.storage().failure().map_or(Ok(()), Err)
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.options.clock.now().wall
    }

    pub(crate) fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.inner.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.inner.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics_read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Topic>> {
        self.inner.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        self.topics_read().keys().cloned().collect()
    }

    pub(crate) fn partition_count(&self, topic: &str) -> Option<i32> {
        self.topics_read().get(topic).map(|t| t.partitions.len() as i32)
    }

    pub(crate) fn partition(&self, id: &TopicPartition) -> Result<Arc<Partition>, LogError> {
        let topics = self.topics_read();
        let found = topics.get(&*id.topic).and_then(|t| t.partitions.get(usize::try_from(id.partition).ok()?));
        found.cloned().ok_or_else(|| LogError::UnknownTopic(id.clone()))
    }

    pub(crate) fn partitions_of_all_topics(&self) -> Vec<Arc<Partition>> {
        self.inner.partitions()
    }

    /// Appends to the one partition of an internal topic.
    pub(crate) fn append_internal(&self, topic: &str, batch: BatchBuilder) -> Result<(), LogError> {
        self.append_sealed(topic, batch, &SealOptions::default())
    }

    pub(crate) fn append_sealed(
        &self,
        topic: &str,
        batch: BatchBuilder,
        options: &SealOptions,
    ) -> Result<(), LogError> {
        self.check_open()?;
        let id = TopicPartition::new(topic, 0);
        let bytes =
            batch.seal(options).map_err(|e| LogError::Refused { partition: id.clone(), problem: e.to_string() })?;
        self.partition(&id)?.append(bytes).map(drop)
    }

    pub(crate) fn create(&self, spec: &TopicSpec) -> Result<(), LogError> {
        check_name(&spec.name)?;
        if spec.name == OFFSETS_TOPIC || spec.name == STATE_TOPIC {
            return Err(LogError::TopicExists(spec.name.clone()));
        }
        self.create_unchecked(spec)
    }

    /// Sets some of a topic's configuration keys: in its file first, so that a start after a crash finds them.
    pub(crate) fn alter(&self, name: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        let mut topics = self.inner.topics.write().unwrap_or_else(PoisonError::into_inner);
        let unknown = || LogError::UnknownTopic(TopicPartition::new(name, 0));
        let topic =
            topics.get_mut(name).filter(|_| name != OFFSETS_TOPIC && name != STATE_TOPIC).ok_or_else(unknown)?;
        let mut given = topic.config.given.clone();
        given.extend(configs.clone());
        let config = TopicConfig::new(&given, &self.inner.options)?;
        if let Some(dir) = &self.inner.dir {
            let spec = TopicSpec { name: name.to_owned(), partitions: topic.partitions.len() as i32, configs: given };
            write_topic_file(&*self.inner.storage.files, &partition_dir(&dir.path, name, 0), topic.id, &spec)?;
        }
        topic.partitions.iter().for_each(|partition| partition.configure(config.clone()));
        topic.config = config;
        Ok(())
    }

    fn create_unchecked(&self, spec: &TopicSpec) -> Result<(), LogError> {
        if spec.partitions < 1 {
            return Err(LogError::InvalidConfig {
                key: "partitions".into(),
                problem: format!("{} is not at least 1", spec.partitions),
            });
        }
        let config = TopicConfig::new(&spec.configs, &self.inner.options)?;
        let mut topics = self.inner.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.contains_key(&spec.name) {
            return Err(LogError::TopicExists(spec.name.clone()));
        }
        let root = self.inner.dir.as_ref().map(|d| d.path.as_path());
        let files = &*self.inner.storage.files;
        // Larger than every earlier one: an entry of the journal never finds a later topic of the same name.
        let newest = topics.values().map(|t| t.id).max().unwrap_or(0);
        let id =
            self.inner.newest_topic.fetch_max(newest, Ordering::SeqCst).max(newest).max(self.now().max(0) as u64) + 1;
        self.inner.newest_topic.fetch_max(id, Ordering::SeqCst);
        let mut partitions = Vec::new();
        for number in 0..spec.partitions {
            let dir = root.map(|root| partition_dir(root, &spec.name, number));
            if let Some(dir) = &dir {
                files.create_dir(dir).map_err(|e| io("cannot create", dir, e))?;
            }
            let place = Place { topic: &spec.name, id, number, dir };
            partitions.push(place.partition(&self.inner.options, &config, &self.inner.storage, State::default()));
        }
        if let Some(root) = root {
            files.sync_dir(root).map_err(|e| io("cannot sync", root, e))?;
            write_topic_file(files, &partition_dir(root, &spec.name, 0), id, spec)?;
        }
        topics.insert(spec.name.clone(), Topic { id, config, partitions });
        Ok(())
    }
}

/// Where a partition is.
struct Place<'a> {
    topic: &'a str,
    id: u64,
    number: i32,
    dir: Option<PathBuf>,
}

impl Place<'_> {
    fn partition(
        self,
        options: &BrokerOptions,
        config: &TopicConfig,
        storage: &Arc<Storage>,
        state: State,
    ) -> Arc<Partition> {
        let name = TopicPartition::new(self.topic, self.number);
        let (storage, tail) = (storage.clone(), options.tail_bytes);
        Arc::new(Partition::new(name, self.id, config.clone(), storage, self.dir, tail, state))
    }
}

impl Inner {
    /// Applies what the journal has beyond the checkpoint, and makes that durable before anything new is accepted.
    fn replay(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let journaled = self.storage.journal.is_some() || checkpoint.journal.is_some();
        if let Some(first) = checkpoint.journal {
            let partitions: BTreeMap<(u64, i32), Arc<Partition>> =
                self.partitions().into_iter().map(|p| ((p.topic_id, p.id.partition), p)).collect();
            Journal::read(&*self.storage.files, &dir.path, first, |entry| {
                // A topic that is not there was deleted later.
                partitions.get(&(entry.topic, entry.partition)).map_or(Ok(()), |p| p.replay(entry.batch))
            })?;
        }
        if journaled { self.checkpoint() } else { Ok(()) }
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().flat_map(|t| t.partitions.iter().cloned()).collect()
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn housekeeping(&self) -> MutexGuard<'_, Option<Housekeeping>> {
        self.housekeeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> Result<(), LogError> {
        if let Some(journal) = self.storage.journal.as_ref().filter(|_| !self.options.threads) {
            journal.sync()?;
        }
        self.tidy()?;
        self.clean()
    }

    /// Deletes what is too old, and makes a checkpoint if enough was written.
    pub(crate) fn tidy(&self) -> Result<(), LogError> {
        let now = self.options.clock.now().wall;
        self.partitions().iter().try_for_each(|p| p.retain(now))?;
        if self.storage.wants_checkpoint() { self.checkpoint() } else { Ok(()) }
    }

    /// Compacts what is worth it, the dirtiest first. What fails does not hold up the others.
    pub(crate) fn clean(&self) -> Result<(), LogError> {
        let _one_at_a_time = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        let options =
            CleanerOptions { now: self.options.clock.now().wall, buffer_bytes: self.options.cleaner_buffer_bytes };
        let mut put_off: Vec<Arc<Partition>> = Vec::new();
        let (mut result, mut cleaned) = (Ok(()), false);
        while self.storage.failure().is_none() && !self.storage.is_closing() {
            let looked = self.partitions().into_iter().filter(|p| !put_off.iter().any(|other| Arc::ptr_eq(p, other)));
            let found = looked.filter_map(|p| Some((cleaner::look(&p, options.now)?, p)));
            let rank = |c: &Cleanable| (c.overdue, c.dirty_ratio);
            let Some((cleanable, partition)) =
                found.max_by(|(a, _), (b, _)| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal))
            else {
                break;
            };
            // A crash replays the journal onto what the last checkpoint has synced: that must be there as it was.
            if partition.dir.is_some() && cleanable.until > partition.state().point {
                self.checkpoint()?;
            }
            match cleaner::clean(&partition, cleanable.until, &options, &self.checkpointing) {
                Ok(true) => cleaned = true,
                Ok(false) => put_off.push(partition),
                Err(error) => {
                    let is_there = self.partitions().iter().any(|p| Arc::ptr_eq(p, &partition));
                    result = result.and(if is_there { Err(error) } else { Ok(()) });
                    put_off.push(partition);
                }
            }
        }
        // With the indexes of the new segments.
        if cleaned && self.storage.failure().is_none() { result.and(self.checkpoint()) } else { result }
    }

    /// Syncs all segments and starts a new journal. The order matters: the journal goes on in a new file, so that all
    /// entries of the old one are in segments; these are synced; then the new journal, so that nothing in a segment
    /// outlives what came before it elsewhere; then the checkpoint says so, and what it makes superfluous is removed.
    fn checkpoint(&self) -> Result<(), LogError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let (storage, files) = (&self.storage, &*self.storage.files);
        storage.count_from(0);
        let checkpoint = || {
            let journal = storage.journal.as_ref().map(Journal::rotate).transpose()?;
            let mut checkpoint = Checkpoint { journal, ..Checkpoint::default() };
            let partitions = self.partitions();
            for partition in &partitions {
                checkpoint.points.insert((partition.topic_id, partition.id.partition), partition.checkpoint()?);
            }
            storage.journal.as_ref().map_or(Ok(()), Journal::sync)?;
            checkpoint.write(files, &dir.path)?;
            Journal::remove_below(files, &dir.path, journal.unwrap_or(u64::MAX))?;
            partitions.iter().try_for_each(|partition| {
                let end = checkpoint.points.get(&(partition.topic_id, partition.id.partition));
                end.map_or(Ok(()), |end| partition.checkpointed(*end))
            })
        };
        checkpoint().inspect_err(|_| storage.count_from(self.options.checkpoint_bytes))
    }

    fn close(&self) -> Result<(), LogError> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.storage.close();
        if let Some(housekeeping) = self.housekeeping().take() {
            housekeeping.join();
        }
        if !self.opened.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.storage.failure().map_or(Ok(()), Err)?;
        self.checkpoint()?;
        // Nothing is missing from the segments: the next start needs no journal.
        let (Some(dir), Some(_)) = (&self.dir, &self.storage.journal) else { return Ok(()) };
        let files = &*self.storage.files;
        let checkpoint = Checkpoint::read(files, &dir.path)?;
        Checkpoint { journal: None, ..checkpoint }.write(files, &dir.path)?;
        Journal::remove_below(files, &dir.path, u64::MAX)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What could not be written is recovered by the next open.
        let _recovered_later = self.close();
    }
}

fn partition_dir(root: &Path, topic: &str, partition: i32) -> PathBuf {
    root.join(format!("{topic}-{partition}"))
}

fn write_topic_file(files: &dyn Files, dir: &Path, id: u64, spec: &TopicSpec) -> Result<(), LogError> {
    let mut text = format!("version=1\nid={id}\npartitions={}\n", spec.partitions);
    for (key, value) in &spec.configs {
        text.push_str(&format!("config.{key}={value}\n"));
    }
    let path = dir.join(TOPIC_FILE);
    files.replace(&path, text.as_bytes()).map_err(|e| io("cannot write", &path, e))
}

fn load_topics(
    data: &DataDir,
    options: &BrokerOptions,
    storage: &Arc<Storage>,
    checkpoint: &Checkpoint,
) -> Result<BTreeMap<String, Topic>, LogError> {
    let files = &*storage.files;
    let mut topics = BTreeMap::new();
    for name in files.list(&data.path).map_err(|e| io("cannot list", &data.path, e))? {
        let Some(topic) = name.strip_suffix("-0") else { continue };
        let file = data.path.join(&name).join(TOPIC_FILE);
        let text = match files.read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // A creation that did not finish: there is no topic, and nothing of it was acknowledged.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(io("cannot read", &file, e)),
        };
        let properties: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let number = |key: &str| properties.get(key).and_then(|n| n.parse::<u64>().ok());
        let (Some(id), Some(count)) = (number("id"), number("partitions").and_then(|n| i32::try_from(n).ok())) else {
            return Err(LogError::Corrupt {
                place: file.display().to_string(),
                problem: "it does not say the topic's id and how many partitions there are".into(),
            });
        };
        let given = properties
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("config.")?.to_owned(), (*v).to_owned())))
            .collect();
        let config = TopicConfig::new(&given, options)?;
        let mut partitions = Vec::new();
        for number in 0..count {
            let dir = partition_dir(&data.path, topic, number);
            let cut = checkpoint.journal.is_some();
            let point = checkpoint.points.get(&(id, number)).copied().or(cut.then_some(0));
            let state = recovery::recover(files, &dir, Known { point, cut })?;
            let place = Place { topic, id, number, dir: Some(dir) };
            partitions.push(place.partition(options, &config, storage, state));
        }
        topics.insert(topic.to_owned(), Topic { id, config, partitions });
    }
    Ok(topics)
}
