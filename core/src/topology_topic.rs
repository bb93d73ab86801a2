//! The topic `<application.id>-topology`: what the application keeps, written before anything is processed, compared at
//! every start. A record per store and repartition topic; compacted.
//!
//! A program that keeps nothing has no such topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_wire::BatchBuilder;

use crate::config::{Compatibility, RuntimeConfig};
use crate::error::{Error, Result, StateError};
use crate::fingerprint::{Fingerprint, LEFT_BEHIND, Properties, REBUILT_FROM, period};
use crate::log::{
    CommitOutcome, Consumer, ConsumerOptions, GroupOffsets, Isolation, Log, LogError, Offset, ProducerOptions,
    TopicPartition, TopicSpec,
};
use crate::plan::Plan;
use crate::time::Timestamp;
use crate::topic_name::TopicName;
use crate::topology::Topology;
use crate::wakeup::Wakeup;

/// The topic's full name.
pub(crate) fn topology_topic(application_id: &str) -> String {
    format!("{application_id}-topology")
}

/// How what is kept is written; another number is another program's.
const FORMAT: (&str, &str) = ("format", "1");

/// What a start has to write down, after it was found to fit.
pub(crate) struct Changes {
    application_id: Arc<str>,
    /// The topic is not there yet.
    create: bool,
    records: Vec<(String, Option<String>)>,
    /// Configurations of changelogs that the program wants otherwise than the last one.
    alter: Vec<(TopicName, Properties)>,
    /// For [`Plan::known_inputs`].
    pub(crate) known_inputs: BTreeMap<String, BTreeSet<String>>,
}

impl Changes {
    /// Compares a program with what its application keeps.
    ///
    /// # Errors
    /// [`Error::Build`] with everything that does not fit, unless the settings say to ignore it; nothing is written.
    pub(crate) fn find(topology: &Topology, plan: &Plan, config: &RuntimeConfig, log: &dyn Log) -> Result<Self> {
        let application_id = config.application_id.clone();
        let now = Fingerprint::of(topology, plan);
        let mut look = Look::new(application_id.clone(), log)?;
        let earlier = look.earlier()?;
        let create = earlier.is_none();
        let earlier = earlier.unwrap_or_default();
        let mut wanted = now.clone();
        wanted.take_over(&earlier);
        let mut left = Vec::new();
        if config.compatibility == Compatibility::Refuse {
            let problems = now.differences(&earlier, topology, |name| look.holds(name, &earlier))?;
            if !problems.is_empty() {
                return Err(Error::Build(Box::new(problems)));
            }
        }
        for (name, was) in &earlier.0 {
            if now.0.contains_key(name) {
                continue;
            }
            if matches!(name, TopicName::Changelog(_)) && look.holds(name, &earlier)? {
                let mut was = was.clone();
                // Its topic has them all, whenever it comes back; a changelog would not.
                if !was.contains_key(REBUILT_FROM) {
                    was.insert(LEFT_BEHIND.to_owned(), "yes".to_owned());
                }
                wanted.0.insert(name.clone(), was);
            } else {
                left.push((name.to_string(), None));
            }
        }
        let changed = wanted.0.iter().filter(|(name, is)| earlier.0.get(*name) != Some(*is));
        let mut records: Vec<(String, Option<String>)> =
            changed.map(|(name, is)| (name.to_string(), Some(text(is)))).collect();
        records.extend(left);
        if !records.is_empty() {
            records.push((FORMAT.0.to_owned(), Some(FORMAT.1.to_owned())));
        }
        Ok(Changes {
            application_id,
            create,
            records,
            alter: now.longer(&earlier),
            known_inputs: wanted.known_inputs(),
        })
    }

    /// Writes them down; waits until that is certain.
    ///
    /// # Errors
    /// When the log fails.
    pub(crate) fn write(self, log: &dyn Log, time: Timestamp) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        for (name, configs) in &self.alter {
            let topic = name.resolve(&self.application_id);
            if log.admin().partitions(&topic)?.is_some() {
                // It may have more than the last program asked for.
                let has = log.admin().topic_configs(&topic)?;
                let longer = configs.iter().filter(|(key, _)| period(configs, key) > period(&has, key));
                let longer = longer.map(|(key, ms)| (key.clone(), ms.clone())).collect();
                log.admin().alter_configs(&topic, &longer)?;
            }
        }
        let name = topology_topic(&self.application_id);
        if self.create {
            let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
            match log.admin().create_topic(&TopicSpec { name: name.clone(), partitions: 1, configs }) {
                Ok(()) | Err(LogError::TopicExists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let wakeup = Arc::<Wakeup>::default();
        // One batch, so all of it or nothing, and no marker behind it that a reader would have to wait for.
        let options = ProducerOptions::plain(&name);
        let mut producer = log.producer(&options, wakeup.clone())?;
        let mut batch = BatchBuilder::new();
        for (key, value) in &self.records {
            batch.push(time, Some(key.as_bytes()), value.as_ref().map(String::as_bytes), &[]);
        }
        producer.send(&TopicPartition::new(name, 0), batch)?;
        producer.commit(GroupOffsets { group: self.application_id, offsets: Vec::new() });
        // A log without threads of its own (a simulation's) syncs when it is waited for, and else when somebody says so.
        producer.keep(producer.last_commit())?;
        loop {
            match producer.poll_commit() {
                Some(CommitOutcome::Done) => return Ok(()),
                Some(CommitOutcome::Failed(error) | CommitOutcome::Unknown(error)) => return Err(error.into()),
                None => wakeup.wait(LOOK_AGAIN),
            }
        }
    }
}

/// Should a wake be missed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// For how long a log that does not wake is asked for what it says it has: it is silent also about markers.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at what is in the application's topics.
struct Look<'a> {
    application_id: Arc<str>,
    log: &'a dyn Log,
    consumer: Box<dyn Consumer>,
    wakeup: Arc<Wakeup>,
}

impl<'a> Look<'a> {
    fn new(application_id: Arc<str>, log: &'a dyn Log) -> Result<Self> {
        let wakeup = Arc::<Wakeup>::default();
        let options = ConsumerOptions {
            client_id: topology_topic(&application_id),
            group: application_id.clone(),
            isolation: Isolation::ReadCommitted,
        };
        let consumer = log.consumer(&options, wakeup.clone())?;
        Ok(Look { application_id, log, consumer, wakeup })
    }

    /// What the last program kept; `None` before the first.
    fn earlier(&mut self) -> Result<Option<Fingerprint>> {
        let topic = topology_topic(&self.application_id);
        if self.log.admin().partitions(&topic)?.is_none() {
            return Ok(None);
        }
        let partition = TopicPartition::new(topic.as_str(), 0);
        let start = self.log.admin().start_offset(&partition)?;
        let mut latest = BTreeMap::new();
        self.read(&partition, start, |key, value| {
            match value {
                Some(value) => latest.insert(key, value),
                None => latest.remove(&key),
            };
            false
        })?;
        let damaged = |problem: String| Error::State(Box::new(StateError { store: topic.clone(), problem }));
        match latest.remove(FORMAT.0) {
            Some(format) if format != FORMAT.1 => {
                return Err(damaged(format!(
                    "it is of format {format}, known is {}\n  help: start with the version that wrote it, or a later one",
                    FORMAT.1
                )));
            }
            _ => {}
        }
        let mut entries = BTreeMap::new();
        for (key, value) in latest {
            let name = key
                .strip_suffix("-changelog")
                .map(|name| TopicName::Changelog(name.to_owned()))
                .or_else(|| key.strip_suffix("-repartition").map(|name| TopicName::Repartition(name.to_owned())))
                .ok_or_else(|| damaged(format!("`{key}` names no topic of an application")))?;
            entries.insert(name, properties(&value));
        }
        Ok(Some(Fingerprint(entries)))
    }

    /// Whether a changelog holds rows, the topic that stands for it has been read, or a repartition topic holds records
    /// that are not processed yet. A row that is deleted counts until it is compacted, its deletion alone does not.
    fn holds(&mut self, name: &TopicName, earlier: &Fingerprint) -> Result<bool> {
        let rebuilt_from = earlier.0.get(name).and_then(|was| was.get(REBUILT_FROM));
        let topic = rebuilt_from.cloned().unwrap_or_else(|| name.resolve(&self.application_id));
        let admin = self.log.admin();
        for partition in 0..admin.partitions(&topic)?.unwrap_or_default() {
            let partition = TopicPartition::new(topic.as_str(), partition);
            let committed = admin.committed(&self.application_id, std::slice::from_ref(&partition))?;
            let committed = committed.into_iter().flatten().map(|c| c.offset).next();
            if rebuilt_from.is_some() {
                if committed.is_some() {
                    return Ok(true);
                }
                continue;
            }
            let mut from = admin.start_offset(&partition)?;
            let is_repartition = matches!(name, TopicName::Repartition(_));
            if is_repartition {
                from = from.max(committed.unwrap_or(0));
            }
            let mut found = false;
            self.read(&partition, from, |_, value| {
                found |= is_repartition || value.is_some();
                found
            })?;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives keys and values from an offset to the end, or until `is_enough`.
    fn read(
        &mut self,
        partition: &TopicPartition,
        from: Offset,
        mut is_enough: impl FnMut(String, Option<String>) -> bool,
    ) -> Result<()> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let end = self.log.admin().end_offset(partition, Isolation::ReadCommitted)?;
        if from >= end {
            return Ok(());
        }
        self.consumer.assign(&[(partition.clone(), from)])?;
        let mut silent = Duration::ZERO;
        loop {
            let fetch = self.consumer.fetch(0, 1 << 20)?;
            let nothing = fetch.batches.is_empty();
            for mut batch in fetch.batches {
                while let Some(view) = batch.next() {
                    let view = view.map_err(|e| {
                        Error::from(LogError::Corrupt { place: partition.to_string(), problem: e.to_string() })
                    })?;
                    let key = view.key.map(|key| lossy(key.as_slice())).unwrap_or_default();
                    if is_enough(key, view.value.map(|value| lossy(value.as_slice()))) {
                        return Ok(());
                    }
                }
            }
            if fetch.position >= end {
                return Ok(());
            }
            match self.consumer.look_again() {
                Some(after) if nothing && silent < PATIENCE => {
                    self.wakeup.wait(after);
                    silent += after;
                }
                _ if nothing => return Ok(()),
                _ => silent = Duration::ZERO,
            }
        }
    }
}

fn text(properties: &Properties) -> String {
    properties.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

fn properties(text: &str) -> Properties {
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
