//! The topics of a broker: created, changed, deleted, and found by name.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use millstream_core::{BatchBuilder, Files, LogError, Now, TopicPartition, TopicSpec};
use millstream_wire::SealOptions;

use crate::checkpoint::Checkpoint;
use crate::data_dir::io;
use crate::internal_topic;
use crate::options::BrokerOptions;
use crate::partition::{Partition, State};
use crate::recovery::{self, Known};
use crate::storage::Storage;
use crate::topic_config::{TopicConfig, check_name};

/// Marks a topic's first partition folder, written last: without it there is no topic.
const TOPIC_FILE: &str = "topic.properties";

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
        let topics = Topics { options, storage, root, topics: RwLock::default(), newest: AtomicU64::new(0) };
        if let Some(root) = &topics.root {
            let files = &*topics.storage.files;
            for name in files.list(root).map_err(|e| io("cannot list", root, e))? {
                let Some(name) = name.strip_suffix("-0") else { continue };
                if let Some(topic) = topics.read(root, name, checkpoint)? {
                    topics.write().insert(name.to_owned(), topic);
                }
            }
        }
        Ok(topics)
    }

    /// A topic from its folders; `None` if its creation did not finish: nothing of it was acknowledged.
    fn read(&self, root: &Path, name: &str, checkpoint: &Checkpoint) -> Result<Option<Topic>, LogError> {
        let files = &*self.storage.files;
        let file = partition_dir(root, name, 0).join(TOPIC_FILE);
        let text = match files.read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
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
        let config = TopicConfig::new(&given, &self.options)?;
        let mut partitions = Vec::new();
        for number in 0..count {
            let dir = partition_dir(root, name, number);
            let cut = checkpoint.journal.is_some();
            let point = checkpoint.points.get(&(id, number)).copied().or(cut.then_some(0));
            let state = recovery::recover(files, &dir, Known { point, cut })?;
            partitions.push(self.partition_at(TopicPartition::new(name, number), id, &config, Some(dir), state));
        }
        Ok(Some(Topic { id, config, partitions }))
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
        if internal_topic::is_internal(&spec.name) {
            return Err(LogError::TopicExists(spec.name.clone()));
        }
        self.create_unchecked(spec)
    }

    pub(crate) fn create_unchecked(&self, spec: &TopicSpec) -> Result<(), LogError> {
        if spec.partitions < 1 {
            return Err(LogError::InvalidConfig {
                key: "partitions".into(),
                problem: format!("{} is not at least 1", spec.partitions),
            });
        }
        let config = TopicConfig::new(&spec.configs, &self.options)?;
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
        let mut partitions = Vec::new();
        for number in 0..spec.partitions {
            let dir = root.map(|root| partition_dir(root, &spec.name, number));
            if let Some(dir) = &dir {
                files.create_dir(dir).map_err(|e| io("cannot create", dir, e))?;
            }
            let name = TopicPartition::new(spec.name.as_str(), number);
            partitions.push(self.partition_at(name, id, &config, dir, State::default()));
        }
        if let Some(root) = root {
            files.sync_dir(root).map_err(|e| io("cannot sync", root, e))?;
            write_topic_file(files, &partition_dir(root, &spec.name, 0), id, spec)?;
        }
        topics.insert(spec.name.clone(), Topic { id, config, partitions });
        Ok(())
    }

    /// Sets some of a topic's configuration keys: in its file first, so that a start after a crash finds them.
    pub(crate) fn alter(&self, name: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        let mut topics = self.write();
        let unknown = || LogError::UnknownTopic(TopicPartition::new(name, 0));
        let topic = topics.get_mut(name).filter(|_| !internal_topic::is_internal(name)).ok_or_else(unknown)?;
        let mut given = topic.config.given.clone();
        given.extend(configs.clone());
        let config = TopicConfig::new(&given, &self.options)?;
        if let Some(root) = &self.root {
            let spec = TopicSpec { name: name.to_owned(), partitions: topic.partitions.len() as i32, configs: given };
            write_topic_file(&*self.storage.files, &partition_dir(root, name, 0), topic.id, &spec)?;
        }
        topic.partitions.iter().for_each(|partition| partition.configure(config.clone()));
        topic.config = config;
        Ok(())
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), LogError> {
        let mut topics = self.write();
        let gone = topics.remove(name).ok_or_else(|| LogError::UnknownTopic(TopicPartition::new(name, 0)))?;
        gone.partitions.iter().for_each(|p| p.abandon());
        let Some(root) = &self.root else { return Ok(()) };
        let files = &*self.storage.files;
        let first = partition_dir(root, name, 0);
        let file = first.join(TOPIC_FILE);
        files.remove(&file).and_then(|()| files.sync_dir(&first)).map_err(|e| io("cannot remove", &file, e))?;
        for partition in 0..gone.partitions.len() {
            let path = partition_dir(root, name, partition as i32);
            files.remove_dir(&path).map_err(|e| io("cannot remove", &path, e))?;
        }
        Ok(())
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
