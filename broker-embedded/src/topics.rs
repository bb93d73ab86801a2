//! The topics of a broker: created, changed, deleted, and found by name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use millstream_core::{BatchBuilder, Files, LogError, Now, Offset, OpenMode, TopicPartition, TopicSpec};
use millstream_wire::{BatchHeader, SealOptions};

use crate::checkpoint::{Checkpoint, Point};
use crate::data_dir::{io, sync_failed};
use crate::internal_topic;
use crate::journal::Journal;
use crate::options::BrokerOptions;
use crate::partition::{Partition, State};
use crate::recovery::{self, Found, Known};
use crate::sealed::{Kind, Text};
use crate::segment::Segment;
use crate::storage::Storage;
use crate::topic_config::{TopicConfig, check_name};

/// Marks a topic's first partition folder, written last: without it there is no topic.
const TOPIC_FILE: &str = "topic.properties";
/// Marks it when the topic is deleted, before its folders go: what of them a crash leaves goes with the next start.
const DELETED: &str = "topic.deleted";

pub(crate) struct Topics {
    pub(crate) options: BrokerOptions,
    pub(crate) storage: Arc<Storage>,
    /// `None` at durability `memory`.
    root: Option<PathBuf>,
    topics: RwLock<BTreeMap<String, Topic>>,
    /// The largest topic id that was given.
    newest: AtomicU64,
}

struct Topic {
    id: u64,
    config: TopicConfig,
    partitions: Vec<Arc<Partition>>,
}

impl Topics {
    /// Reads the topics of a data directory; none at durability `memory`.
    pub(crate) fn load(
        root: Option<PathBuf>,
        options: BrokerOptions,
        storage: Arc<Storage>,
        checkpoint: &Checkpoint,
    ) -> Result<Self, LogError> {
        // Of topics that were deleted since the checkpoint too: one that is made now must not be taken for them.
        let newest = AtomicU64::new(checkpoint.points.last_key_value().map_or(0, |((newest, _), _)| *newest));
        let topics = Topics { options, storage, root, topics: RwLock::default(), newest };
        if let Some(root) = &topics.root {
            let files = &*topics.storage.files;
            // All is read before anything is changed: what is damaged stays as it is.
            let (mut found, mut deleted) = (Vec::new(), Vec::new());
            for (name, numbers) in folders(files, root)? {
                if is_there(files, &partition_dir(root, &name, 0).join(DELETED))? {
                    deleted.push((name, numbers));
                } else {
                    found.extend(topics.read(root, &name, &numbers, checkpoint)?);
                }
            }
            check_ids(root, &found)?;
            check_journal(files, root, checkpoint, &found)?;
            for (name, numbers) in deleted {
                remove_folders(files, root, &name, &numbers)?;
            }
            for topic in found {
                let (name, topic) = topics.mend(root, topic)?;
                topics.write().insert(name, topic);
            }
            topics.age();
        }
        Ok(topics)
    }

    /// Makes segments as old as they were when the last process wrote last. Files say when that was by the clock of then, and
    /// that of now may have jumped: the time between counts for nothing yet. It does at the next start, if something was written meanwhile.
    fn age(&self) {
        let (now, partitions) = (self.now().wall, self.partitions());
        let newest = partitions.iter().filter_map(|p| p.state().segments.iter().filter_map(Segment::grown).max()).max();
        let between = now.saturating_sub(newest.unwrap_or(now)).max(0);
        for partition in partitions {
            for segment in &mut partition.state().segments {
                let since = segment.grown().map_or(now, |grown| grown.saturating_add(between).min(now));
                segment.set_unchanged_since(since);
            }
        }
    }

    /// A topic from its folders; `None` if its creation did not finish: nothing of it was acknowledged.
    fn read(
        &self,
        root: &Path,
        name: &str,
        numbers: &BTreeSet<i32>,
        checkpoint: &Checkpoint,
    ) -> Result<Option<FoundTopic>, LogError> {
        let files = &*self.storage.files;
        let first = partition_dir(root, name, 0);
        let file = first.join(TOPIC_FILE);
        let damaged = |problem: String| LogError::Corrupt { place: file.display().to_string(), problem };
        let kind = Kind { name: "topic", of: &format!("{name}-0") };
        let (text, sealed) = match kind.read(files, &file)? {
            Some(Text::Sealed(text)) => (text, true),
            Some(Text::Plain(text)) => (text, false),
            None => {
                for number in numbers {
                    let dir = partition_dir(root, name, *number);
                    if holds_batches(files, &dir)? {
                        return Err(damaged(format!(
                            "it is not there, and {} holds batches; if a version before was deleting the topic, remove its folders",
                            dir.display()
                        )));
                    }
                }
                return Ok(None);
            }
        };
        let body = if sealed { Some(&*text) } else { text.strip_prefix("version=1\n") };
        let properties: BTreeMap<&str, &str> =
            body.iter().flat_map(|b| b.lines()).filter_map(|l| l.split_once('=')).collect();
        let number = |key: &str| properties.get(key).and_then(|n| n.parse::<u64>().ok());
        let (Some(id), Some(count)) = (number("id"), number("partitions").and_then(|n| i32::try_from(n).ok())) else {
            return Err(damaged("it does not say the topic's id and how many partitions there are".into()));
        };
        let given = properties
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("config.")?.to_owned(), (*v).to_owned())))
            .collect();
        let config = TopicConfig::new(&given, &self.options)
            .map_err(|error| if sealed { error } else { damaged(error.to_string()) })?;
        if let Some(missing) = (0..count).find(|number| !numbers.contains(number)) {
            return Err(damaged(format!("partition {missing} of {count} has no folder")));
        }
        for number in numbers.range(count..) {
            let dir = partition_dir(root, name, *number);
            if holds_batches(files, &dir)? {
                return Err(damaged(format!("there are {count} partitions, and {} holds batches", dir.display())));
            }
        }
        let mut partitions = Vec::new();
        for number in 0..count {
            let cut = checkpoint.journal.is_some();
            let point = checkpoint.point(id, number).map_err(damaged)?.or(cut.then(Point::default));
            let known = Known { point, cut, doubted: internal_topic::is_internal(name), compacts: config.compacts };
            partitions.push(recovery::recover(files, &partition_dir(root, name, number), known)?);
        }
        Ok(Some(FoundTopic { name: name.to_owned(), id, config, sealed, partitions }))
    }

    /// Brings the folders of a topic to what was found.
    fn mend(&self, root: &Path, found: FoundTopic) -> Result<(String, Topic), LogError> {
        let files = &*self.storage.files;
        let FoundTopic { name, id, config, sealed, partitions } = found;
        if !sealed {
            let spec =
                TopicSpec { name: name.clone(), partitions: partitions.len() as i32, configs: config.given.clone() };
            write_topic_file(files, root, id, &spec)?;
        }
        let mend = |(number, partition): (i32, Found)| {
            let dir = partition_dir(root, &name, number);
            let state = partition.mend(files, &dir)?;
            Ok(self.partition_at(TopicPartition::new(&*name, number), id, &config, Some(dir), state))
        };
        let partitions = (0..).zip(partitions).map(mend).collect::<Result<_, LogError>>()?;
        Ok((name, Topic { id, config, partitions }))
    }

    fn partition_at(
        &self,
        partition: TopicPartition,
        topic: u64,
        config: &TopicConfig,
        dir: Option<PathBuf>,
        state: State,
    ) -> Arc<Partition> {
        let (storage, tail) = (self.storage.clone(), self.options.tail_bytes);
        Arc::new(Partition::new(partition, topic, config.clone(), storage, dir, tail, state))
    }

    fn topics(&self) -> RwLockReadGuard<'_, BTreeMap<String, Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Topic>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Now {
        self.options.clock.now()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.topics().keys().cloned().collect()
    }

    pub(crate) fn partition_count(&self, topic: &str) -> Option<i32> {
        self.topics().get(topic).map(|t| t.partitions.len() as i32)
    }

    /// A topic's configuration, as it was given.
    pub(crate) fn config(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        self.topics().get(topic).map(|t| t.config.given.clone())
    }

    pub(crate) fn partition(&self, id: &TopicPartition) -> Result<Arc<Partition>, LogError> {
        let topics = self.topics();
        let found = topics.get(&*id.topic).and_then(|t| t.partitions.get(usize::try_from(id.partition).ok()?));
        found.cloned().ok_or_else(|| LogError::UnknownTopic(id.clone()))
    }

    /// One that is not of the log's own topics.
    pub(crate) fn foreign_partition(&self, id: &TopicPartition) -> Result<Arc<Partition>, LogError> {
        internal_topic::check_foreign(&id.topic)?;
        self.partition(id)
    }

    /// The id of a partition's topic; `None` if there is no such partition.
    pub(crate) fn id_of(&self, partition: &TopicPartition) -> Option<u64> {
        self.partition(partition).ok().map(|found| found.topic_id)
    }

    /// Those of all topics.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics().values().flat_map(|t| t.partitions.iter().cloned()).collect()
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
        self.storage.check_open()?;
        let id = TopicPartition::new(topic, 0);
        let bytes =
            batch.seal(options).map_err(|e| LogError::Refused { partition: id.clone(), problem: e.to_string() })?;
        self.partition(&id)?.append(bytes).map(drop)
    }

    /// Creates a topic that somebody asks for.
    pub(crate) fn create(&self, spec: &TopicSpec) -> Result<(), LogError> {
        check_name(&spec.name)?;
        internal_topic::check_foreign(&spec.name)?;
        self.create_unchecked(spec)
    }

    pub(crate) fn create_unchecked(&self, spec: &TopicSpec) -> Result<(), LogError> {
        if spec.partitions < 1 {
            return Err(LogError::InvalidConfig {
                key: "partitions".into(),
                problem: format!("{} is not at least 1", spec.partitions),
            });
        }
        let config = TopicConfig::asked_for(&spec.configs, &spec.configs, &self.options)?;
        let mut topics = self.write();
        if topics.contains_key(&spec.name) {
            return Err(LogError::TopicExists(spec.name.clone()));
        }
        let root = self.root.as_deref();
        let files = &*self.storage.files;
        // Larger than every earlier one: an entry of the journal never finds a later topic of the same name.
        let newest = topics.values().map(|t| t.id).max().unwrap_or(0);
        let id = self.newest.fetch_max(newest, Ordering::SeqCst).max(newest).max(self.now().wall.max(0) as u64) + 1;
        self.newest.fetch_max(id, Ordering::SeqCst);
        if let Some(root) = root {
            finish_deletion(files, root, &spec.name)?;
        }
        let mut partitions = Vec::new();
        for number in 0..spec.partitions {
            let dir = root.map(|root| partition_dir(root, &spec.name, number));
            if let Some(dir) = &dir {
                create_folder(files, dir)?;
            }
            let name = TopicPartition::new(spec.name.as_str(), number);
            partitions.push(self.partition_at(name, id, &config, dir, State::default()));
        }
        if let Some(root) = root {
            files.sync_dir(root).map_err(|e| sync_failed(root, e))?;
            write_topic_file(files, root, id, spec)?;
        }
        topics.insert(spec.name.clone(), Topic { id, config, partitions });
        Ok(())
    }

    /// Sets some of a topic's configuration keys: in its file first, so that a start after a crash finds them.
    pub(crate) fn alter(&self, name: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        internal_topic::check_foreign(name)?;
        let mut topics = self.write();
        let unknown = || LogError::UnknownTopic(TopicPartition::new(name, 0));
        let topic = topics.get_mut(name).ok_or_else(unknown)?;
        let mut given = topic.config.given.clone();
        given.extend(configs.clone());
        let config = TopicConfig::asked_for(configs, &given, &self.options)?;
        if let Some(root) = &self.root {
            let spec = TopicSpec { name: name.to_owned(), partitions: topic.partitions.len() as i32, configs: given };
            write_topic_file(&*self.storage.files, root, topic.id, &spec)?;
        }
        topic.partitions.iter().for_each(|partition| partition.configure(config.clone()));
        topic.config = config;
        Ok(())
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), LogError> {
        let mut topics = self.write();
        if !topics.contains_key(name) {
            return Err(LogError::UnknownTopic(TopicPartition::new(name, 0)));
        }
        let (root, files) = (self.root.as_deref(), &*self.storage.files);
        if let Some(mark) = root.map(|root| partition_dir(root, name, 0).join(DELETED)) {
            // Without its mark it is not deleted, now or at the next start.
            files.replace(&mark, b"").map_err(|e| {
                let _may_not_be_there = files.remove(&mark);
                io("cannot write", &mark, e)
            })?;
        }
        let gone = topics.remove(name).into_iter().flat_map(|topic| topic.partitions);
        let numbers = gone.inspect(|partition| partition.abandon()).map(|partition| partition.id.partition).collect();
        root.map_or(Ok(()), |root| remove_folders(files, root, name, &numbers))
    }
}

/// A topic as it was found, before anything is changed.
struct FoundTopic {
    name: String,
    id: u64,
    config: TopicConfig,
    /// Its file has a checksum.
    sealed: bool,
    partitions: Vec<Found>,
}

fn partition_dir(root: &Path, topic: &str, partition: i32) -> PathBuf {
    root.join(format!("{topic}-{partition}"))
}

/// Folders that may be partitions, by topic.
fn folders(files: &dyn Files, root: &Path) -> Result<BTreeMap<String, BTreeSet<i32>>, LogError> {
    let mut folders: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for name in files.list(root).map_err(|e| io("cannot list", root, e))? {
        let Some((topic, number)) = name.rsplit_once('-') else { continue };
        let Some(number) = number.parse::<i32>().ok().filter(|n| n.to_string() == number) else { continue };
        if files.list(&root.join(&name)).is_ok() {
            folders.entry(topic.to_owned()).or_default().insert(number);
        }
    }
    Ok(folders)
}

fn is_there(files: &dyn Files, path: &Path) -> Result<bool, LogError> {
    match files.open(path, OpenMode::Existing) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io("cannot open", path, e)),
    }
}

fn holds_batches(files: &dyn Files, dir: &Path) -> Result<bool, LogError> {
    for suffix in ["log", "log.swap"] {
        for base in Segment::list(files, dir, suffix)? {
            if Segment::has_bytes(files, dir, base, suffix)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Two topics never have one id: it tells their entries in the journal apart.
fn check_ids(root: &Path, topics: &[FoundTopic]) -> Result<(), LogError> {
    let mut names: BTreeMap<u64, &str> = BTreeMap::new();
    for topic in topics {
        if let Some(other) = names.insert(topic.id, &topic.name) {
            return Err(LogError::Corrupt {
                place: partition_dir(root, &topic.name, 0).join(TOPIC_FILE).display().to_string(),
                problem: format!("it has the id {} of topic `{other}`", topic.id),
            });
        }
    }
    Ok(())
}

/// Reads the journal as it will be replayed: its entries follow what the segments keep, and each other.
fn check_journal(
    files: &dyn Files,
    root: &Path,
    checkpoint: &Checkpoint,
    topics: &[FoundTopic],
) -> Result<(), LogError> {
    let mut ends: BTreeMap<(u64, i32), (&str, Offset)> = BTreeMap::new();
    for topic in topics {
        for (number, found) in (0..).zip(&topic.partitions) {
            ends.insert((topic.id, number), (&*topic.name, found.state.end));
        }
    }
    let mut known: BTreeSet<u64> = BTreeSet::new();
    Journal::read(files, root, checkpoint, |entry| {
        let Some((name, end)) = ends.get_mut(&(entry.topic, entry.partition)) else { return Ok(()) };
        let damaged = |problem: String| LogError::Corrupt {
            place: format!("the journal's entry for {name}-{}", entry.partition),
            problem,
        };
        let head = entry.batch.first_chunk().map(BatchHeader::parse).transpose().map_err(|e| damaged(e.to_string()))?;
        let header = head.ok_or_else(|| damaged("a batch is cut off".into()))?;
        if header.base_offset > *end {
            return Err(damaged(format!("offset {} follows {end}", header.base_offset)));
        }
        *end = header.next_offset().max(*end);
        known.insert(entry.topic);
        Ok(())
    })?;
    // A topic that is younger than the checkpoint has all that was acknowledged in the journal. Of one whose file has no checksum
    // that is not known.
    let doubtful = topics.iter().find(|topic| {
        !topic.sealed
            && !checkpoint.points.contains_key(&(topic.id, 0))
            && !known.contains(&topic.id)
            && topic.partitions.iter().any(Found::is_cut)
    });
    doubtful.map_or(Ok(()), |topic| {
        Err(LogError::Corrupt {
            place: partition_dir(root, &topic.name, 0).join(TOPIC_FILE).display().to_string(),
            problem: format!("neither the checkpoint nor the journal knows the id {}, and there are batches", topic.id),
        })
    })
}

/// A new partition's folder: what a creation that did not end has left there goes, if it is no batch.
fn create_folder(files: &dyn Files, dir: &Path) -> Result<(), LogError> {
    if files.list(dir).is_ok_and(|names| !names.is_empty()) {
        if holds_batches(files, dir)? {
            return Err(LogError::Corrupt {
                place: dir.display().to_string(),
                problem: "it holds batches, and no topic has them".into(),
            });
        }
        remove_folder(files, dir)?;
    }
    files.create_dir(dir).map_err(|e| io("cannot create", dir, e))
}

/// Removes what is left of a topic of this name whose deletion did not end.
fn finish_deletion(files: &dyn Files, root: &Path, name: &str) -> Result<(), LogError> {
    if !is_there(files, &partition_dir(root, name, 0).join(DELETED))? {
        return Ok(());
    }
    let numbers = folders(files, root)?.remove(name).unwrap_or_default();
    remove_folders(files, root, name, &numbers)
}

/// Removes the folders of a topic that is marked as deleted; the mark goes last.
fn remove_folders(files: &dyn Files, root: &Path, name: &str, numbers: &BTreeSet<i32>) -> Result<(), LogError> {
    for number in numbers.iter().filter(|number| **number > 0) {
        remove_folder(files, &partition_dir(root, name, *number))?;
    }
    let first = partition_dir(root, name, 0);
    let names = files.list(&first).map_err(|e| io("cannot list", &first, e))?;
    names.iter().filter(|name| *name != DELETED).map(|name| first.join(name)).try_for_each(|path| {
        match files.remove(&path) {
            // Compaction has given up what it had begun.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|e| io("cannot remove", &path, e)),
        }
    })?;
    files.sync_dir(&first).map_err(|e| sync_failed(&first, e))?;
    remove_folder(files, &first)
}

/// Removes a folder. Compaction that has not seen the deletion yet may begin one file there meanwhile, not a second one.
fn remove_folder(files: &dyn Files, dir: &Path) -> Result<(), LogError> {
    let removed = match files.remove_dir(dir) {
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => files.remove_dir(dir),
        removed => removed,
    };
    removed.map_err(|e| io("cannot remove", dir, e))
}

fn write_topic_file(files: &dyn Files, root: &Path, id: u64, spec: &TopicSpec) -> Result<(), LogError> {
    let mut text = format!("id={id}\npartitions={}\n", spec.partitions);
    for (key, value) in &spec.configs {
        text.push_str(&format!("config.{key}={value}\n"));
    }
    let path = partition_dir(root, &spec.name, 0).join(TOPIC_FILE);
    Kind { name: "topic", of: &format!("{}-0", spec.name) }.write(files, &path, &text)
}
