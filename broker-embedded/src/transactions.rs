//! Transactions over several partitions, in Kafka's record format (`__transaction_state`).
//!
//! ```text
//!   empty ── first batch ──► ongoing ── PrepareCommit written ──► committed whatever happens ── markers ──► empty
//!                               ├────── abort, or an owner that died ──► markers ──► empty
//!                               └────── time-out: next epoch, PrepareAbort written ──► markers ──► empty
//! ```
//!
//! PrepareCommit is the commit point: before it a crash aborts, after it a restart writes the missing markers. In one
//! process an ongoing transaction needs no record of its own: at a restart its owner is dead. One that takes too long is
//! aborted in the next epoch, so that its owner cannot go on as if nothing had happened; it takes a new epoch and does. An id
//! that nobody uses is forgotten after a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::{CommitOutcome, GroupOffsets, LogError, Timestamp, TopicPartition};
use millstream_wire::control::{self, Marker};
use millstream_wire::{BatchBuilder, ProducerStamp, Records, SealOptions};

use crate::broker::Broker;
use crate::groups::{self, Fields, OFFSETS_TOPIC, put_string};

/// The topic that holds the coordinator's state.
pub(crate) const STATE_TOPIC: &str = "__transaction_state";

const EMPTY: i8 = 0;
const PREPARE_COMMIT: i8 = 2;
const PREPARE_ABORT: i8 = 3;
const COMPLETE_COMMIT: i8 = 4;
const COMPLETE_ABORT: i8 = 5;

/// So many forgotten ids go into one batch.
const TOMBSTONES: usize = 1_000;

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
    timeout: Duration,
    /// When the ongoing transaction began, by the clock that never goes back.
    began: Option<Duration>,
    /// When it was last used.
    used: Timestamp,
    /// The epoch is nobody's: the owner of the one before took too long.
    timed_out: bool,
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
            let Some(id) = record.key.and_then(|key| decode_key(key.as_slice())) else { continue };
            match record.value.map(|value| decode(value.as_slice())) {
                Some(Some(state)) => {
                    self.next_producer_id = self.next_producer_id.max(state.producer_id + 1);
                    self.ids.insert(id, state);
                }
                Some(None) => {}
                None => drop(self.ids.remove(&id)),
            }
        }
    }

    /// Finishes what the last process left open: a prepared transaction is committed, any other aborted.
    pub(crate) fn finish_open(&mut self, broker: &Broker) -> Result<(), LogError> {
        let prepared: BTreeSet<i64> =
            self.ids.values().filter(|t| t.status == PREPARE_COMMIT).map(|t| t.producer_id).collect();
        for partition in broker.partitions_of_all_topics() {
            let (open, largest) = {
                let state = partition.state();
                (state.producers.open(), state.producers.largest_id())
            };
            self.next_producer_id = self.next_producer_id.max(largest.map_or(0, |id| id + 1));
            for (producer_id, epoch) in open {
                let marker = if prepared.contains(&producer_id) { Marker::Commit } else { Marker::Abort };
                partition.append(marker_batch(marker, Identity { producer_id, epoch }, broker.now().wall)?)?;
            }
        }
        for (id, state) in &mut self.ids {
            state.status = match state.status {
                PREPARE_COMMIT => COMPLETE_COMMIT,
                PREPARE_ABORT => COMPLETE_ABORT,
                _ => continue,
            };
            state.partitions.clear();
            broker.append_internal(STATE_TOPIC, record(id, state))?;
        }
        Ok(())
    }

    /// Gives an id to a new owner: the old one is fenced, and what it left open aborted.
    pub(crate) fn initialize(&mut self, broker: &Broker, id: &str, timeout: Duration) -> Result<Identity, LogError> {
        if id.is_empty() {
            let problem =
                "it is empty\n  help: give every producer a name of its own, which it has again after a start";
            return Err(LogError::InvalidConfig { key: "transactional.id".into(), problem: problem.into() });
        }
        let longest = broker.options().transaction_max_timeout;
        if timeout.is_zero() || timeout > longest {
            return Err(LogError::InvalidConfig {
                key: "transaction.timeout.ms".into(),
                problem: format!(
                    "{} is not 1 to {}\n  help: lower it, or raise the log's transaction.max.timeout.ms",
                    timeout.as_millis(),
                    longest.as_millis()
                ),
            });
        }
        let fresh = Transactional {
            producer_id: self.next_producer_id,
            epoch: -1,
            partitions: BTreeSet::new(),
            status: EMPTY,
            prepared: None,
            timeout,
            began: None,
            used: broker.now().wall,
            timed_out: false,
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
        (state.status, state.timeout, state.used, state.timed_out) = (EMPTY, timeout, broker.now().wall, false);
        self.ids.insert(id.to_owned(), state.clone());
        self.next_producer_id = self.next_producer_id.max(state.producer_id + 1);
        ended?;
        broker.append_internal(STATE_TOPIC, record(id, &state))?;
        Ok(Identity { producer_id: state.producer_id, epoch: state.epoch })
    }

    /// Adds a partition to the ongoing transaction of an id.
    pub(crate) fn join(
        &mut self,
        broker: &Broker,
        id: &str,
        owner: Identity,
        partition: &TopicPartition,
    ) -> Result<(), LogError> {
        let state = self.owned(id, owner)?;
        // What comes now is no part of what is being committed.
        Self::finish(broker, id, state)?;
        let now = broker.now();
        state.began.get_or_insert(now.ticks);
        state.used = now.wall;
        state.partitions.insert(partition.clone());
        Ok(())
    }

    /// Tells an owner from one of the past.
    ///
    /// # Errors
    /// [`LogError::Fenced`] if there is a newer owner, [`LogError::TimedOut`] if there is none, but this one took too long.
    pub(crate) fn check(&mut self, id: &str, owner: Identity) -> Result<(), LogError> {
        self.owned(id, owner).map(drop)
    }

    fn owned(&mut self, id: &str, owner: Identity) -> Result<&mut Transactional, LogError> {
        let transactional_id = id.to_owned();
        let Some(state) = self.ids.get_mut(id) else { return Err(LogError::TimedOut { transactional_id }) };
        #[cfg(feature = "plant")]
        if millstream_core::Plant::SkipFence.is_set() {
            return Ok(state);
        }
        if (state.producer_id, state.epoch) == (owner.producer_id, owner.epoch) {
            return Ok(state);
        }
        let is_last = state.producer_id == owner.producer_id && state.epoch == owner.epoch + 1;
        if state.timed_out && is_last {
            Err(LogError::TimedOut { transactional_id })
        } else {
            Err(LogError::Fenced { transactional_id })
        }
    }

    /// Drives on what was asked for and failed, aborts what takes longer than its time-out, and forgets ids that nobody has
    /// used for a time. What fails is tried again by the next call, and holds up no other.
    pub(crate) fn tick(&mut self, broker: &Broker) -> Result<(), LogError> {
        let now = broker.now();
        let mut result = Ok(());
        for (id, state) in &mut self.ids {
            let is_over = state.began.is_some_and(|began| now.ticks.saturating_sub(began) >= state.timeout);
            if state.prepared.is_some() {
                result = result.and(Self::finish(broker, id, state));
            } else if is_over || state.status == PREPARE_ABORT {
                result = result.and(Self::time_out(broker, id, state));
            }
        }
        result.and(self.forget_unused(broker, now.wall))
    }

    /// Aborts a transaction in an epoch that nobody has: its owner is fenced wherever it writes.
    fn time_out(broker: &Broker, id: &str, state: &mut Transactional) -> Result<(), LogError> {
        if state.status != PREPARE_ABORT {
            let next = Transactional {
                epoch: state.epoch + 1,
                status: PREPARE_ABORT,
                used: broker.now().wall,
                timed_out: true,
                ..state.clone()
            };
            broker.append_internal(STATE_TOPIC, record(id, &next))?;
            *state = next;
        }
        Self::end(broker, state, Marker::Abort)?;
        let complete = Transactional { status: COMPLETE_ABORT, ..state.clone() };
        broker.append_internal(STATE_TOPIC, record(id, &complete))?;
        *state = complete;
        Ok(())
    }

    /// Forgets the ids that are idle, but for the one that has the newest producer id: after a restart those of new ones
    /// go on from it, and none is given a second time.
    fn forget_unused(&mut self, broker: &Broker, now: Timestamp) -> Result<(), LogError> {
        let after = broker.options().transactional_id_expiration.as_millis() as Timestamp;
        let newest = self.ids.values().map(|state| state.producer_id).max();
        let is_unused = |state: &Transactional| {
            state.began.is_none()
                && state.prepared.is_none()
                && state.status != PREPARE_ABORT
                && now.saturating_sub(state.used) >= after
                && Some(state.producer_id) != newest
        };
        let unused: Vec<String> = self.ids.iter().filter(|(_, s)| is_unused(s)).map(|(id, _)| id.clone()).collect();
        for ids in unused.chunks(TOMBSTONES) {
            let mut batch = BatchBuilder::new();
            ids.iter().for_each(|id| batch.push(now, Some(&key(id)), None, &[]));
            broker.append_internal(STATE_TOPIC, batch)?;
            ids.iter().for_each(|id| drop(self.ids.remove(id)));
        }
        Ok(())
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
        // One before it whose outcome was not known.
        if let Err(error) = Self::finish(broker, id, state) {
            return CommitOutcome::Failed(error);
        }
        state.used = now.wall;
        if !offsets.offsets.is_empty() {
            let stamp = ProducerStamp { id: owner.producer_id, epoch: owner.epoch, base_sequence: -1 };
            let options = SealOptions { producer: Some(stamp), transactional: true, ..SealOptions::default() };
            state.began.get_or_insert(now.ticks);
            state.partitions.insert(TopicPartition::new(OFFSETS_TOPIC, 0));
            if let Err(error) = broker.append_sealed(OFFSETS_TOPIC, groups::batch(offsets, now.wall), &options) {
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
        if !state.prepared.as_ref().is_none_or(|p| p.logged) {
            broker.append_internal(STATE_TOPIC, record(id, state))?;
            state.prepared.iter_mut().for_each(|p| p.logged = true);
        }
        let Some(prepared) = &state.prepared else { return Ok(()) };
        let offsets = prepared.offsets.clone();
        Self::end(broker, state, Marker::Commit)?;
        state.status = COMPLETE_COMMIT;
        broker.append_internal(STATE_TOPIC, record(id, state))?;
        broker.groups().apply(&offsets);
        state.prepared = None;
        Ok(())
    }

    /// Aborts the ongoing transaction.
    pub(crate) fn abort(&mut self, broker: &Broker, id: &str, owner: Identity) -> Result<(), LogError> {
        let state = self.owned(id, owner)?;
        Self::finish(broker, id, state)?;
        state.used = broker.now().wall;
        Self::end(broker, state, Marker::Abort)
    }

    /// Writes the markers. A partition that has its marker leaves the set, so that a second try writes only the rest.
    fn end(broker: &Broker, state: &mut Transactional, marker: Marker) -> Result<(), LogError> {
        let identity = Identity { producer_id: state.producer_id, epoch: state.epoch };
        while let Some(partition) = state.partitions.first().cloned() {
            match broker.partition(&partition) {
                Ok(found) => drop(found.append(marker_batch(marker, identity, broker.now().wall)?)?),
                // The topic was deleted meanwhile: there is nothing left to end in it.
                Err(LogError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
            state.partitions.pop_first();
        }
        state.began = None;
        Ok(())
    }
}

fn marker_batch(marker: Marker, identity: Identity, now: Timestamp) -> Result<Vec<u8>, LogError> {
    control::encode(marker, identity.producer_id, identity.epoch, 0, now)
        .map_err(|e| LogError::Other { message: e.to_string(), retriable: false })
}

fn key(id: &str) -> Vec<u8> {
    let mut key = 0i16.to_be_bytes().to_vec();
    put_string(&mut key, id);
    key
}

fn record(id: &str, state: &Transactional) -> BatchBuilder {
    let mut value = 0i16.to_be_bytes().to_vec();
    value.extend(state.producer_id.to_be_bytes());
    value.extend(state.epoch.to_be_bytes());
    value.extend((state.timeout.as_millis() as i32).to_be_bytes());
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
    value.extend(state.used.to_be_bytes());
    value.extend(state.used.to_be_bytes());
    let mut batch = BatchBuilder::with_capacity(512);
    batch.push(state.used, Some(&key(id)), Some(&value), &[]);
    batch
}

fn decode_key(key: &[u8]) -> Option<String> {
    let mut fields = Fields(key);
    if fields.i16()? == 0 { fields.string() } else { None }
}

fn decode(value: &[u8]) -> Option<Transactional> {
    let mut fields = Fields(value);
    fields.i16()?;
    let (producer_id, epoch) = (fields.i64()?, fields.i16()?);
    let timeout = Duration::from_millis(u64::try_from(fields.i32()?).ok()?);
    let status = fields.i8()?;
    let mut partitions = BTreeSet::new();
    for _ in 0..fields.i32()? {
        let topic = fields.string()?;
        for _ in 0..fields.i32()? {
            partitions.insert(TopicPartition::new(topic.as_str(), fields.i32()?));
        }
    }
    let used = fields.i64()?;
    let (prepared, began, timed_out) = (None, None, false);
    Some(Transactional { producer_id, epoch, partitions, status, prepared, timeout, began, used, timed_out })
}
