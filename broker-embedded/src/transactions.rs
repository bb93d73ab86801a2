//! Transactions over several partitions, in Kafka's record format (`__transaction_state`).
//!
//! ```text
//!   empty ── first batch ──► ongoing ── PrepareCommit written ──► committed whatever happens ── markers ──► empty
//!                               └────── abort, or an owner that died ──► markers ──► empty
//! ```
//!
//! PrepareCommit is the commit point: before it a crash aborts, after it a restart writes the missing markers. In one
//! process an ongoing transaction needs no record of its own: at a restart its owner is dead.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::{CommitOutcome, GroupOffsets, LogError, Timestamp, TopicPartition};
use millstream_wire::control::{self, Marker};
use millstream_wire::{BatchBuilder, ProducerStamp, Records, SealOptions};

use crate::broker::Broker;
use crate::groups::{self, Fields, OFFSETS_TOPIC, put_string};

/// The topic that holds the coordinator's state.
pub(crate) const STATE_TOPIC: &str = "__transaction_state";

const PREPARE_COMMIT: i8 = 2;
const COMPLETE_COMMIT: i8 = 4;
const EMPTY: i8 = 0;

/// What the coordinator knows of every transactional id.
#[derive(Default)]
pub(crate) struct Coordinator {
    /// In order, so that a recovery writes the same every time.
    ids: BTreeMap<String, Transactional>,
    next_producer_id: i64,
}

#[derive(Debug, Clone)]
struct Transactional {
    producer_id: i64,
    epoch: i16,
    /// Partitions of the ongoing transaction.
    partitions: BTreeSet<TopicPartition>,
    status: i8,
    /// A commit that has been asked for and is not over.
    prepared: Option<Prepared>,
}

/// From the attempt to write the commit point on there is no way but forward: the attempt may have succeeded.
#[derive(Debug, Clone)]
struct Prepared {
    offsets: GroupOffsets,
    /// The commit point is in the log for certain.
    logged: bool,
}

/// A producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

impl Coordinator {
    /// Takes up the records of the state topic, oldest first.
    pub(crate) fn load(&mut self, mut records: Records) {
        while let Some(Ok(record)) = records.next() {
            let decoded =
                record.key.zip(record.value).and_then(|(key, value)| decode(key.as_slice(), value.as_slice()));
            if let Some((id, state)) = decoded {
                self.next_producer_id = self.next_producer_id.max(state.producer_id + 1);
                self.ids.insert(id, state);
            }
        }
    }

    /// Finishes what the last process left open: a prepared transaction is committed, any other aborted.
    pub(crate) fn finish_open(&mut self, broker: &Broker) -> Result<(), LogError> {
        let prepared: BTreeSet<i64> =
            self.ids.values().filter(|t| t.status == PREPARE_COMMIT).map(|t| t.producer_id).collect();
        for partition in broker.partitions_of_all_topics() {
            let open = partition.state().producers.open();
            for (producer_id, epoch) in open {
                self.next_producer_id = self.next_producer_id.max(producer_id + 1);
                let marker = if prepared.contains(&producer_id) { Marker::Commit } else { Marker::Abort };
                partition.append(marker_batch(marker, Identity { producer_id, epoch }, broker.now())?)?;
            }
        }
        for (id, state) in &mut self.ids {
            if state.status == PREPARE_COMMIT {
                state.status = COMPLETE_COMMIT;
                state.partitions.clear();
                broker.append_internal(STATE_TOPIC, record(id, state, broker.now()))?;
            }
        }
        Ok(())
    }

    /// Gives an id to a new owner: the old one is fenced, and what it left open aborted.
    pub(crate) fn initialize(&mut self, broker: &Broker, id: &str) -> Result<Identity, LogError> {
        if id.is_empty() {
            let problem =
                "it is empty\n  help: give every producer a name of its own, which it has again after a start";
            return Err(LogError::InvalidConfig { key: "transactional.id".into(), problem: problem.into() });
        }
        let fresh = Transactional {
            producer_id: self.next_producer_id,
            epoch: -1,
            partitions: BTreeSet::new(),
            status: EMPTY,
            prepared: None,
        };
        let mut state = self.ids.get(id).cloned().unwrap_or(fresh);
        let ended = Self::finish(broker, id, &mut state);
        if let Some(known) = self.ids.get_mut(id) {
            known.clone_from(&state);
        }
        ended?;
        if state.epoch >= i16::MAX - 1 {
            // Epochs are used up: what is open is ended under the old id, in the last epoch, which nobody is ever given; a
            // new one begins. In its own epoch the old owner could write on behind the marker, and nobody would end that.
            state.epoch = i16::MAX;
            Self::end(broker, &mut state, Marker::Abort)?;
            state = Transactional { producer_id: self.next_producer_id, epoch: -1, ..state };
        }
        state.epoch += 1;
        // The old owner is fenced before the first marker: if they cannot all be written now, a commit of its that is still on
        // its way must not write others to the rest.
        let ended = Self::end(broker, &mut state, Marker::Abort);
        state.status = EMPTY;
        self.ids.insert(id.to_owned(), state.clone());
        self.next_producer_id = self.next_producer_id.max(state.producer_id + 1);
        ended?;
        broker.append_internal(STATE_TOPIC, record(id, &state, broker.now()))?;
        Ok(Identity { producer_id: state.producer_id, epoch: state.epoch })
    }

    /// Adds a partition to the ongoing transaction of an id.
    pub(crate) fn join(&mut self, id: &str, owner: Identity, partition: &TopicPartition) -> Result<(), LogError> {
        self.owned(id, owner)?.partitions.insert(partition.clone());
        Ok(())
    }

    fn owned(&mut self, id: &str, owner: Identity) -> Result<&mut Transactional, LogError> {
        let fenced = || LogError::Fenced { transactional_id: id.to_owned() };
        #[cfg(feature = "plant")]
        if millstream_core::Plant::SkipFence.is_set() {
            return self.ids.get_mut(id).ok_or_else(fenced);
        }
        self.ids.get_mut(id).filter(|t| t.producer_id == owner.producer_id && t.epoch == owner.epoch).ok_or_else(fenced)
    }

    /// Commits the ongoing transaction with a group's offsets; tells the broker's groups when it took effect.
    pub(crate) fn commit(
        &mut self,
        broker: &Broker,
        id: &str,
        owner: Identity,
        offsets: &GroupOffsets,
    ) -> CommitOutcome {
        let now = broker.now();
        let state = match self.owned(id, owner) {
            Ok(state) => state,
            Err(error) => return CommitOutcome::Failed(error),
        };
        if !offsets.offsets.is_empty() {
            let stamp = ProducerStamp { id: owner.producer_id, epoch: owner.epoch, base_sequence: -1 };
            let options = SealOptions { producer: Some(stamp), transactional: true, ..SealOptions::default() };
            state.partitions.insert(TopicPartition::new(OFFSETS_TOPIC, 0));
            if let Err(error) = broker.append_sealed(OFFSETS_TOPIC, groups::batch(offsets, now), &options) {
                return CommitOutcome::Failed(error);
            }
        }
        if state.partitions.is_empty() {
            return CommitOutcome::Done;
        }
        state.status = PREPARE_COMMIT;
        state.prepared = Some(Prepared { offsets: offsets.clone(), logged: false });
        match Self::finish(broker, id, state) {
            Ok(()) => CommitOutcome::Done,
            Err(error) => CommitOutcome::Unknown(error),
        }
    }

    /// Drives a commit that has been asked for to its end. It can be tried again after an error, where it left off.
    fn finish(broker: &Broker, id: &str, state: &mut Transactional) -> Result<(), LogError> {
        let now = broker.now();
        if !state.prepared.as_ref().is_none_or(|p| p.logged) {
            broker.append_internal(STATE_TOPIC, record(id, state, now))?;
            state.prepared.iter_mut().for_each(|p| p.logged = true);
        }
        let Some(prepared) = &state.prepared else { return Ok(()) };
        let offsets = prepared.offsets.clone();
        Self::end(broker, state, Marker::Commit)?;
        state.status = COMPLETE_COMMIT;
        broker.append_internal(STATE_TOPIC, record(id, state, now))?;
        broker.groups().apply(&offsets);
        state.prepared = None;
        Ok(())
    }

    /// Aborts the ongoing transaction.
    pub(crate) fn abort(&mut self, broker: &Broker, id: &str, owner: Identity) -> Result<(), LogError> {
        let state = self.owned(id, owner)?;
        Self::finish(broker, id, state)?;
        Self::end(broker, state, Marker::Abort)
    }

    /// Writes the markers. A partition that has its marker leaves the set, so that a second try writes only the rest.
    fn end(broker: &Broker, state: &mut Transactional, marker: Marker) -> Result<(), LogError> {
        let identity = Identity { producer_id: state.producer_id, epoch: state.epoch };
        while let Some(partition) = state.partitions.first().cloned() {
            match broker.partition(&partition) {
                Ok(found) => drop(found.append(marker_batch(marker, identity, broker.now())?)?),
                // The topic was deleted meanwhile: there is nothing left to end in it.
                Err(LogError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
            state.partitions.pop_first();
        }
        Ok(())
    }
}

fn marker_batch(marker: Marker, identity: Identity, now: Timestamp) -> Result<Vec<u8>, LogError> {
    control::encode(marker, identity.producer_id, identity.epoch, 0, now)
        .map_err(|e| LogError::Other { message: e.to_string(), retriable: false })
}

fn record(id: &str, state: &Transactional, now: Timestamp) -> BatchBuilder {
    let mut key = 0i16.to_be_bytes().to_vec();
    put_string(&mut key, id);
    let mut value = 0i16.to_be_bytes().to_vec();
    value.extend(state.producer_id.to_be_bytes());
    value.extend(state.epoch.to_be_bytes());
    value.extend(60_000i32.to_be_bytes());
    value.push(state.status as u8);
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in &state.partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    value.extend((topics.len() as i32).to_be_bytes());
    for (topic, partitions) in topics {
        put_string(&mut value, topic);
        value.extend((partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|p| value.extend(p.to_be_bytes()));
    }
    value.extend(now.to_be_bytes());
    value.extend(now.to_be_bytes());
    let mut batch = BatchBuilder::with_capacity(512);
    batch.push(now, Some(&key), Some(&value), &[]);
    batch
}

fn decode(key: &[u8], value: &[u8]) -> Option<(String, Transactional)> {
    let mut key = Fields(key);
    if key.i16()? != 0 {
        return None;
    }
    let id = key.string()?;
    let mut fields = Fields(value);
    fields.i16()?;
    let (producer_id, epoch) = (fields.i64()?, fields.i16()?);
    fields.i32()?;
    let status = fields.i8()?;
    let mut partitions = BTreeSet::new();
    for _ in 0..fields.i32()? {
        let topic = fields.string()?;
        for _ in 0..fields.i32()? {
            partitions.insert(TopicPartition::new(topic.as_str(), fields.i32()?));
        }
    }
    Some((id, Transactional { producer_id, epoch, partitions, status, prepared: None }))
}
