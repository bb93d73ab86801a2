//! The broker: topics, coordinator and groups on one data directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millstream_core::{
    BatchBuilder, CommittedOffset, Isolation, LogError, Offset, Timestamp, TopicPartition, TopicSpec,
};
use millstream_wire::SealOptions;

use crate::data_dir::{DataDir, io};
use crate::fetch;
use crate::groups::{Groups, OFFSETS_TOPIC};
use crate::options::{BrokerOptions, Durability};
use crate::partition::{Partition, State};
use crate::recovery;
use crate::topic_config::{TopicConfig, check_name};
use crate::transactions::{Coordinator, STATE_TOPIC};

/// An embedded Kafka log. Clones share it; it is closed when the last clone is dropped, or by [`Broker::close`].
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    options: BrokerOptions,
    dir: Option<DataDir>,
    topics: RwLock<BTreeMap<String, Topic>>,
    // Locked before a partition, never after one.
    coordinator: Mutex<Coordinator>,
    groups: Mutex<Groups>,
    closed: AtomicBool,
}

struct Topic {
    config: TopicConfig,
    partitions: Vec<Arc<Partition>>,
}

/// Marks a topic's first partition folder, written last: without it there is no topic.
const TOPIC_FILE: &str = "topic.properties";

impl Broker {
    /// Opens a data directory, recovering what an unclean end has left.
    ///
    /// # Errors
    /// When the directory is in use, cannot be written, has a newer format, or holds damage that is not a torn end.
    pub fn open(options: BrokerOptions) -> Result<Broker, LogError> {
        let dir = match options.durability {
            Durability::Memory => None,
            Durability::Os => Some(DataDir::open(&options.data_dir)?),
        };
        let topics = match &dir {
            Some(dir) => load_topics(dir, &options)?,
            None => BTreeMap::new(),
        };
        let inner = Inner {
            options,
            dir,
            topics: RwLock::new(topics),
            coordinator: Mutex::default(),
            groups: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        let broker = Broker { inner: Arc::new(inner) };
        for topic in [OFFSETS_TOPIC, STATE_TOPIC] {
            if broker.partition_count(topic).is_none() {
                let configs = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
                broker.create_unchecked(&TopicSpec { name: topic.to_owned(), partitions: 1, configs })?;
            }
        }
        broker.load_state()?;
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

    /// Deletes what is older, or more, than topics keep. To be called now and then.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn tick(&self) -> Result<(), LogError> {
        let now = self.now();
        self.partitions_of_all_topics().iter().try_for_each(|p| p.retain(now))
    }

    /// Appends a batch from outside, after a look at all of it, and returns the offset of its first record.
    ///
    /// # Errors
    /// [`LogError::Refused`] when anything is wrong with it; nothing has been appended then.
    pub fn append(&self, to: &TopicPartition, batch: &[u8]) -> Result<Offset, LogError> {
        self.check_open()?;
        self.partition(to)?.append_checked(batch)
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
        let mut topics = self.inner.topics.write().unwrap_or_else(PoisonError::into_inner);
        let gone = topics.remove(topic).ok_or_else(|| LogError::UnknownTopic(TopicPartition::new(topic, 0)))?;
        let Some(dir) = &self.inner.dir else { return Ok(()) };
        let first = partition_dir(&dir.path, topic, 0).join(TOPIC_FILE);
        fs::remove_file(&first).map_err(|e| io("cannot remove", &first, e))?;
        for partition in 0..gone.partitions.len() {
            let path = partition_dir(&dir.path, topic, partition as i32);
            fs::remove_dir_all(&path).map_err(|e| io("cannot remove", &path, e))?;
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
        if self.inner.closed.load(Ordering::Relaxed) { Err(LogError::Closed) } else { Ok(()) }
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
        self.topics_read().values().flat_map(|t| t.partitions.iter().cloned()).collect()
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
        let mut partitions = Vec::new();
        for number in 0..spec.partitions {
            let dir = root.map(|root| partition_dir(root, &spec.name, number));
            if let Some(dir) = &dir {
                fs::create_dir_all(dir).map_err(|e| io("cannot create", dir, e))?;
            }
            partitions.push(self.inner.options.partition(&spec.name, number, &config, dir, State::default()));
        }
        if let Some(root) = root {
            write_topic_file(&partition_dir(root, &spec.name, 0), spec)?;
        }
        topics.insert(spec.name.clone(), Topic { config, partitions });
        Ok(())
    }
}

impl BrokerOptions {
    fn partition(
        &self,
        topic: &str,
        number: i32,
        config: &TopicConfig,
        dir: Option<PathBuf>,
        state: State,
    ) -> Arc<Partition> {
        Arc::new(Partition::new(TopicPartition::new(topic, number), config.clone(), dir, self.tail_bytes, state))
    }
}

impl Inner {
    fn close(&self) -> Result<(), LogError> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let Some(dir) = &self.dir else { return Ok(()) };
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().flat_map(|t| &t.partitions).try_for_each(|p| p.close())?;
        dir.mark_clean()
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

fn write_topic_file(dir: &Path, spec: &TopicSpec) -> Result<(), LogError> {
    let mut text = format!("version=1\npartitions={}\n", spec.partitions);
    for (key, value) in &spec.configs {
        text.push_str(&format!("config.{key}={value}\n"));
    }
    let (path, new) = (dir.join(TOPIC_FILE), dir.join("topic.properties.new"));
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(|e| io("cannot write", &path, e))
}

fn load_topics(data: &DataDir, options: &BrokerOptions) -> Result<BTreeMap<String, Topic>, LogError> {
    let mut topics = BTreeMap::new();
    for entry in fs::read_dir(&data.path).map_err(|e| io("cannot list", &data.path, e))? {
        let entry = entry.map_err(|e| io("cannot list", &data.path, e))?;
        let file = entry.path().join(TOPIC_FILE);
        let name = entry.file_name();
        let Some(topic) = name.to_str().and_then(|n| n.strip_suffix("-0")) else { continue };
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // A creation that did not finish: there is no topic, and nothing of it was acknowledged.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io("cannot read", &file, e)),
        };
        let damaged = || LogError::Corrupt {
            place: file.display().to_string(),
            problem: "it does not say how many partitions there are".into(),
        };
        let properties: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let count: i32 = properties.get("partitions").and_then(|n| n.parse().ok()).ok_or_else(damaged)?;
        let given = properties
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("config.")?.to_owned(), (*v).to_owned())))
            .collect();
        let config = TopicConfig::new(&given, options)?;
        let mut partitions = Vec::new();
        for number in 0..count {
            let dir = partition_dir(&data.path, topic, number);
            let state = recovery::recover(&dir, data.clean)?;
            partitions.push(options.partition(topic, number, &config, Some(dir), state));
        }
        topics.insert(topic.to_owned(), Topic { config, partitions });
    }
    Ok(topics)
}
