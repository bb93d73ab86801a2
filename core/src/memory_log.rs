//! The log port in memory: for the test driver, and for tests of the runtime that need no broker.
//!
//! Not a broker: nothing is durable, retention and compaction do not exist, a transaction is held by its producer until
//! the commit. Commits can be made to fail, for tests of rollback.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use millstream_wire::{BatchBuilder, Records};

use crate::log::{
    Admin, CommitOutcome, CommittedOffset, Consumer, ConsumerOptions, Fetch, GroupOffsets, Isolation, Log, LogError,
    Offset, Producer, ProducerOptions, TopicPartition, TopicSpec,
};
use crate::time::Timestamp;
use crate::wakeup::Wakeup;

/// Topics in memory.
#[derive(Default)]
pub struct MemoryLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Vec<Partition>>,
    groups: HashMap<(String, TopicPartition), CommittedOffset>,
    commits: u64,
    fail_every: Option<u64>,
}

#[derive(Default)]
struct Partition {
    batches: Vec<Records>,
    start: Offset,
    end: Offset,
    waiting: Vec<Weak<Wakeup>>,
}

impl Partition {
    fn append(&mut self, batch: BatchBuilder) {
        let records = batch.into_records(self.end);
        self.end = records.next_offset();
        self.batches.push(records);
        self.waiting.retain(|wakeup| {
            wakeup.upgrade().is_some_and(|w| {
                w.wake();
                true
            })
        });
    }

    /// Batches that hold records at or behind `offset`.
    fn from(&self, offset: Offset) -> impl Iterator<Item = Records> {
        let first = self.batches.partition_point(|batch| batch.next_offset() <= offset);
        self.batches[first..].iter().cloned().map(move |mut batch| {
            batch.skip_to(offset);
            batch
        })
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets every `n`-th commit fail for certain; `None` lets all succeed.
    pub fn fail_commits(&self, every: Option<u64>) {
        self.state().fail_every = every;
    }

    /// Appends a batch, visible at once.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    pub fn append(&self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.state().partition(to)?.append(batch);
        Ok(())
    }

    /// All batches of a partition that hold records at or behind `offset`, and the end offset.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    pub fn read(&self, from: &TopicPartition, offset: Offset) -> Result<(Vec<Records>, Offset), LogError> {
        let mut state = self.state();
        let partition = state.partition(from)?;
        Ok((partition.from(offset).collect(), partition.end))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn partition(&mut self, id: &TopicPartition) -> Result<&mut Partition, LogError> {
        let partitions = self.topics.get_mut(&*id.topic);
        partitions
            .and_then(|p| p.get_mut(usize::try_from(id.partition).ok()?))
            .ok_or_else(|| LogError::UnknownTopic(id.clone()))
    }
}

/// The log port on a shared [`MemoryLog`].
impl Log for Arc<MemoryLog> {
    fn admin(&self) -> &dyn Admin {
        self.as_ref()
    }

    fn consumer(&self, _: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(MemoryConsumer { log: self.clone(), wakeup, slots: Vec::new() }))
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        let held = options.transactional_id.is_some().then(Vec::new);
        Ok(Box::new(MemoryProducer { log: self.clone(), wakeup, held, outcome: None }))
    }

    fn is_embedded(&self) -> bool {
        true
    }
}

impl Admin for MemoryLog {
    fn topics(&self) -> Result<Vec<String>, LogError> {
        Ok(self.state().topics.keys().cloned().collect())
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, LogError> {
        Ok(self.state().topics.get(topic).map(|p| p.len() as i32))
    }

    fn topic_id(&self, topic: &str) -> Result<Option<u128>, LogError> {
        // Topics are never deleted here.
        Ok(self.state().topics.contains_key(topic).then_some(0))
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let mut state = self.state();
        if state.topics.contains_key(&spec.name) {
            return Err(LogError::TopicExists(spec.name.clone()));
        }
        let partitions = (0..spec.partitions.max(1)).map(|_| Partition::default()).collect();
        state.topics.insert(spec.name.clone(), partitions);
        Ok(())
    }

    fn topic_configs(&self, _topic: &str) -> Result<BTreeMap<String, String>, LogError> {
        Ok(BTreeMap::new())
    }

    fn max_message_bytes(&self, _topic: &str) -> Result<Option<usize>, LogError> {
        Ok(None)
    }

    fn alter_configs(&self, topic: &str, _: &BTreeMap<String, String>) -> Result<(), LogError> {
        // It keeps everything, whatever a topic's configuration says.
        self.state().partition(&TopicPartition::new(topic, 0)).map(drop)
    }

    fn start_offset(&self, partition: &TopicPartition) -> Result<Offset, LogError> {
        Ok(self.state().partition(partition)?.start)
    }

    fn end_offset(&self, partition: &TopicPartition, _: Isolation) -> Result<Offset, LogError> {
        Ok(self.state().partition(partition)?.end)
    }

    fn offset_for_time(&self, partition: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        let mut state = self.state();
        let partition = state.partition(partition)?;
        for mut batch in partition.from(partition.start) {
            while let Some(Ok(view)) = batch.next() {
                if view.timestamp >= time {
                    return Ok(view.offset);
                }
            }
        }
        Ok(partition.end)
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        let state = self.state();
        Ok(partitions.iter().map(|p| state.groups.get(&(group.to_owned(), p.clone())).cloned()).collect())
    }

    fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        let mut state = self.state();
        let partition = state.partition(partition)?;
        partition.start = partition.start.max(before.min(partition.end));
        let start = partition.start;
        partition.batches.retain(|batch| batch.next_offset() > start);
        Ok(())
    }
}

struct MemoryConsumer {
    log: Arc<MemoryLog>,
    wakeup: Arc<Wakeup>,
    slots: Vec<(TopicPartition, Offset)>,
}

impl Consumer for MemoryConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        let mut state = self.log.state();
        for (partition, _) in partitions {
            state.partition(partition)?.waiting.push(Arc::downgrade(&self.wakeup));
        }
        self.slots = partitions.to_vec();
        Ok(())
    }

    fn seek(&mut self, slot: usize, offset: Offset) {
        self.slots[slot].1 = offset;
    }

    fn fetch(&mut self, slot: usize, max_bytes: usize) -> Result<Fetch, LogError> {
        let (id, position) = &mut self.slots[slot];
        let mut state = self.log.state();
        let partition = state.partition(id)?;
        if *position < partition.start {
            return Err(LogError::OutOfRange {
                partition: id.clone(),
                offset: *position,
                start: partition.start,
                end: partition.end,
            });
        }
        let mut bytes = 0;
        let mut batches = Vec::new();
        for batch in partition.from(*position) {
            bytes += batch.bytes();
            *position = batch.next_offset();
            batches.push(batch);
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(Fetch { batches, position: *position, end: partition.end })
    }
}

struct MemoryProducer {
    log: Arc<MemoryLog>,
    wakeup: Arc<Wakeup>,
    /// The open transaction's batches; `None` if sends are visible at once.
    held: Option<Vec<(TopicPartition, BatchBuilder)>>,
    outcome: Option<CommitOutcome>,
}

impl Producer for MemoryProducer {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        match &mut self.held {
            Some(held) => {
                held.push((to.clone(), batch));
                Ok(())
            }
            None => self.log.append(to, batch),
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        let mut state = self.log.state();
        state.commits += 1;
        let fails = state.fail_every.is_some_and(|every| state.commits.is_multiple_of(every));
        let outcome = if fails {
            CommitOutcome::Failed(LogError::Other { message: "a commit that was told to fail".into(), retriable: true })
        } else {
            let held = self.held.as_mut().map(std::mem::take).unwrap_or_default();
            let appended = held.into_iter().try_for_each(|(to, batch)| {
                state.partition(&to)?.append(batch);
                Ok(())
            });
            for (partition, offset) in offsets.offsets {
                state.groups.insert((offsets.group.to_string(), partition), offset);
            }
            appended.map_or_else(CommitOutcome::Unknown, |()| CommitOutcome::Done)
        };
        self.outcome = Some(outcome);
        self.wakeup.wake();
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
        self.outcome.take()
    }

    fn last_commit(&self) -> u64 {
        0
    }

    fn is_kept(&self, _commit: u64) -> Result<bool, LogError> {
        Ok(true)
    }

    fn keep(&self, _commit: u64) -> Result<(), LogError> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        if let Some(held) = &mut self.held {
            held.clear();
        }
        Ok(())
    }
}
