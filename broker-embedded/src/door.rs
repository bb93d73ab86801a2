//! The in-process door: consumers and producers that call the log directly.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, Consumer, ConsumerOptions, Fetch, GroupOffsets, Isolation, Log, LogError,
    Offset, Producer, ProducerOptions, TopicPartition, Wakeup,
};
use millstream_wire::{ProducerStamp, SealOptions};

use crate::broker::Broker;
use crate::fetch;
use crate::groups::Positions;
use crate::internal_topic::OFFSETS_TOPIC;
use crate::partition::Partition;
use crate::producers::sequence_after;
use crate::transactional::Identity;

impl Log for Broker {
    fn admin(&self) -> &dyn Admin {
        self
    }

    fn consumer(&self, options: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        self.storage().check_open()?;
        Ok(Box::new(LocalConsumer { broker: self.clone(), isolation: options.isolation, wakeup, slots: Vec::new() }))
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        self.storage().check_open()?;
        let transaction = match &options.transactional_id {
            Some(id) => {
                let owner = self.coordinator().initialize(id, options.transaction_timeout)?;
                Some(Transaction { id: id.clone(), owner, joined: HashSet::new(), sequences: HashMap::new() })
            }
            None => None,
        };
        // A commit of an earlier producer that nobody knows the outcome of is before this.
        let last_commit = self.storage().position();
        self.storage().keep(last_commit, &wakeup);
        Ok(Box::new(LocalProducer {
            broker: self.clone(),
            transaction,
            partitions: HashMap::new(),
            read: HashMap::new(),
            durable: options.durable,
            outcome: None,
            last_commit,
            wakeup,
        }))
    }

    fn is_embedded(&self) -> bool {
        true
    }
}

struct LocalConsumer {
    broker: Broker,
    isolation: Isolation,
    wakeup: Arc<Wakeup>,
    slots: Vec<(Arc<Partition>, Offset)>,
}

impl Consumer for LocalConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        let found: Result<Vec<_>, LogError> =
            partitions.iter().map(|(id, offset)| Ok((self.broker.topics().partition(id)?, *offset))).collect();
        self.slots = found?;
        self.slots.iter().for_each(|(partition, _)| partition.wait_with(&self.wakeup, self.isolation));
        Ok(())
    }

    fn seek(&mut self, slot: usize, offset: Offset) {
        self.slots[slot].1 = offset;
    }

    fn fetch(&mut self, slot: usize, max_bytes: usize) -> Result<Fetch, LogError> {
        let (partition, position) = &mut self.slots[slot];
        let fetch = fetch::fetch(partition, *position, max_bytes, self.isolation)?;
        *position = fetch.position;
        Ok(fetch)
    }
}

struct Transaction {
    id: String,
    owner: Identity,
    /// Partitions that the coordinator knows to be part of the ongoing transaction.
    joined: HashSet<TopicPartition>,
    sequences: HashMap<TopicPartition, i32>,
}

struct LocalProducer {
    broker: Broker,
    transaction: Option<Transaction>,
    partitions: HashMap<TopicPartition, Arc<Partition>>,
    /// The topics that positions were committed in.
    read: HashMap<TopicPartition, u64>,
    durable: bool,
    /// The outcome of the commit under way, and the position from which on it is kept.
    outcome: Option<(CommitOutcome, u64)>,
    /// The position of the last commit.
    last_commit: u64,
    wakeup: Arc<Wakeup>,
}

impl LocalProducer {
    /// Commits. The topics that positions are in are neither deleted nor made anew meanwhile: that takes both locks.
    fn end(&mut self, offsets: &GroupOffsets) -> CommitOutcome {
        let broker = self.broker.clone();
        match &mut self.transaction {
            Some(transaction) => {
                transaction.joined.clear();
                let (id, owner) = (transaction.id.clone(), transaction.owner);
                let mut coordinator = broker.coordinator();
                match self.positions(offsets) {
                    Ok(positions) => coordinator.commit(&id, owner, positions),
                    Err(error) => CommitOutcome::Failed(error),
                }
            }
            None => {
                let mut groups = broker.groups();
                let written = self.positions(offsets).and_then(|positions| {
                    let topics = broker.topics();
                    topics.append_internal(OFFSETS_TOPIC, positions.batch(topics.now().wall))?;
                    groups.apply(&positions);
                    Ok(())
                });
                written.map_or_else(CommitOutcome::Failed, |()| CommitOutcome::Done)
            }
        }
    }

    /// The positions to be committed, unless one is in a topic that was deleted since the last commit: in one that was made
    /// anew it would pass over records that nobody has read.
    fn positions(&mut self, offsets: &GroupOffsets) -> Result<Positions, LogError> {
        let topics = self.broker.topics();
        for (partition, _) in &offsets.offsets {
            let now = topics.id_of(partition);
            match self.read.get(partition) {
                Some(before) if Some(*before) != now => {
                    self.read.remove(partition);
                    return Err(LogError::UnknownTopic(partition.clone()));
                }
                Some(_) => {}
                None => self.read.extend(now.map(|id| (partition.clone(), id))),
            }
        }
        Ok(Positions::of(offsets, topics))
    }
}

impl Producer for LocalProducer {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.broker.storage().check_open()?;
        if !self.partitions.contains_key(to) {
            self.partitions.insert(to.clone(), self.broker.topics().foreign_partition(to)?);
        }
        let partition = &self.partitions[to];
        partition.check_keys(batch.is_keyless())?;
        let mut options = SealOptions::default();
        let count = i64::from(batch.count());
        if let Some(transaction) = &mut self.transaction {
            // One that is over here may have timed out so long ago that the partition has forgotten its producer.
            let is_open = || partition.state().producers.is_open(transaction.owner.producer_id);
            if !transaction.joined.contains(to) || !is_open() {
                self.broker.coordinator().join(&transaction.id, transaction.owner, to)?;
                transaction.joined.insert(to.clone());
            }
            options.producer = Some(ProducerStamp {
                id: transaction.owner.producer_id,
                epoch: transaction.owner.epoch,
                base_sequence: transaction.sequences.get(to).copied().unwrap_or(0),
            });
            options.transactional = true;
        }
        let bytes =
            batch.seal(&options).map_err(|e| LogError::Refused { partition: to.clone(), problem: e.to_string() })?;
        let appended = partition.append(bytes);
        match (&appended, &mut self.transaction) {
            // The partition does not know by what.
            (Err(LogError::Fenced { .. }), Some(transaction)) => {
                self.broker.coordinator().check(&transaction.id, transaction.owner)?;
            }
            // Its topic was deleted; the next send finds the one that was made anew, if there is one.
            (Err(LogError::UnknownTopic(_)), transaction) => {
                self.partitions.remove(to);
                if let Some(transaction) = transaction {
                    transaction.sequences.remove(to);
                }
            }
            _ => {}
        }
        appended?;
        // Not before: a batch that was not appended leaves no gap.
        if let Some(transaction) = &mut self.transaction {
            let next = transaction.sequences.entry(to.clone()).or_insert(0);
            *next = sequence_after(*next, count);
        }
        Ok(())
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        let outcome = self.end(&offsets);
        let storage = self.broker.storage();
        let position = storage.position();
        self.outcome = Some((outcome, position));
        self.last_commit = position;
        storage.keep(position, &self.wakeup);
        if !self.durable {
            self.wakeup.wake();
        }
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
        let (outcome, position) = self.outcome.take()?;
        if !self.durable || !matches!(outcome, CommitOutcome::Done) {
            return Some(outcome);
        }
        match self.broker.storage().is_kept(position) {
            Ok(true) => Some(CommitOutcome::Done),
            Ok(false) => {
                self.outcome = Some((outcome, position));
                None
            }
            Err(error) => Some(CommitOutcome::Unknown(error)),
        }
    }

    fn last_commit(&self) -> u64 {
        self.last_commit
    }

    fn is_kept(&self, commit: u64) -> Result<bool, LogError> {
        let is_kept = self.broker.storage().is_kept(commit)?;
        if let Some(transaction) = self.transaction.as_ref().filter(|_| is_kept) {
            self.broker.coordinator().check(&transaction.id, transaction.owner)?;
        }
        Ok(is_kept)
    }

    fn keep(&self, commit: u64) -> Result<(), LogError> {
        self.broker.storage().wait(commit)
    }

    fn has_room(&self) -> bool {
        self.broker.storage().has_room()
    }

    fn abort(&mut self) -> Result<(), LogError> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        transaction.joined.clear();
        self.broker.coordinator().abort(&transaction.id, transaction.owner)
    }
}
