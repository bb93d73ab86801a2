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
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::{CommitOutcome, LogError, Timestamp, TopicPartition};
use millstream_wire::control::Marker;
use millstream_wire::{BatchBuilder, ProducerStamp, Records, SealOptions};

use crate::completion::{Completion, marker_batch};
use crate::groups::{Groups, Positions};
use crate::internal_topic::{OFFSETS_TOPIC, STATE_TOPIC};
use crate::topics::Topics;
use crate::transactional::{
    COMPLETE_ABORT, COMPLETE_COMMIT, EMPTY, Identity, PREPARE_ABORT, PREPARE_COMMIT, Prepared, Transactional, decode,
    decode_key, key, record,
};

/// How often at most is looked for transactions that have reached their time-out.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A record of an id has 32 bits for its time-out in milliseconds.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// So many forgotten ids go into one batch.
const TOMBSTONES: usize = 1_000;

/// What the coordinator knows of every transactional id.
pub(crate) struct Coordinator {
    ids: Ids,
    next_producer_id: i64,
    topics: Arc<Topics>,
    completion: Completion,
    /// When housekeeping looks next at time-outs, by the clock that never goes back.
    next_look: Duration,
}

/// In order, so that a recovery writes the same every time.
struct Ids(BTreeMap<String, Transactional>);

impl Coordinator {
    /// A coordinator that knows of nothing yet, and tells these groups what took effect.
    pub(crate) fn new(topics: Arc<Topics>, groups: Arc<Mutex<Groups>>) -> Self {
        let completion = Completion { topics: topics.clone(), groups };
        Coordinator { ids: Ids(BTreeMap::new()), next_producer_id: 0, topics, completion, next_look: Duration::ZERO }
    }

    /// Takes up the records of the state topic, oldest first.
    pub(crate) fn load(&mut self, mut records: Records) {
        while let Some(Ok(record)) = records.next() {
            let Some(id) = record.key.and_then(|key| decode_key(key.as_slice())) else { continue };
            match record.value.map(|value| decode(value.as_slice())) {
                Some(Some(state)) => {
                    self.next_producer_id = self.next_producer_id.max(state.producer_id + 1);
                    self.ids.0.insert(id, state);
                }
                Some(None) => {}
                None => drop(self.ids.0.remove(&id)),
            }
        }
    }

    /// Finishes what the last process left open: a prepared transaction is committed, any other aborted.
    pub(crate) fn finish_open(&mut self) -> Result<(), LogError> {
        let prepared: BTreeSet<i64> =
            self.ids.0.values().filter(|t| t.status == PREPARE_COMMIT).map(|t| t.producer_id).collect();
        let mut epochs: BTreeMap<i64, i16> = BTreeMap::new();
        for partition in self.topics.partitions() {
            let (open, largest) = {
                let state = partition.state();
                for (id, epoch) in state.producers.epochs() {
                    let newest = epochs.entry(id).or_insert(epoch);
                    *newest = epoch.max(*newest);
                }
                (state.producers.open(), state.producers.largest_id())
            };
            self.next_producer_id = self.next_producer_id.max(largest.map_or(0, |id| id + 1));
            for (producer_id, epoch) in open {
                let marker = if prepared.contains(&producer_id) { Marker::Commit } else { Marker::Abort };
                partition.append(marker_batch(marker, Identity { producer_id, epoch }, self.topics.now().wall)?)?;
            }
        }
        for (id, state) in &mut self.ids.0 {
            // An owner was given it, or was to be, whose markers were written and whose record was not.
            state.epoch = epochs.get(&state.producer_id).map_or(state.epoch, |epoch| state.epoch.max(*epoch));
            state.status = match state.status {
                PREPARE_COMMIT => COMPLETE_COMMIT,
                PREPARE_ABORT => COMPLETE_ABORT,
                _ => continue,
            };
            state.partitions.clear();
            self.topics.append_internal(STATE_TOPIC, record(id, state))?;
        }
        Ok(())
    }

    /// Gives an id to a new owner: the old one is fenced, and what it left open aborted.
    pub(crate) fn initialize(&mut self, id: &str, timeout: Duration) -> Result<Identity, LogError> {
        if id.is_empty() {
            let problem =
                "it is empty\n  help: give every producer a name of its own, which it has again after a start";
            return Err(LogError::InvalidConfig { key: "transactional.id".into(), problem: problem.into() });
        }
        let longest = self.topics.options.transaction_max_timeout.min(LONGEST_TIMEOUT);
        if timeout.is_zero() || timeout > longest {
            let is_bounded = timeout > longest && longest < LONGEST_TIMEOUT;
            let or = if is_bounded { ", or raise the log's transaction.max.timeout.ms" } else { "" };
            let (is, longest) = (timeout.as_millis(), longest.as_millis());
            return Err(LogError::InvalidConfig {
                key: "transaction.timeout.ms".into(),
                problem: format!("{is} is not 1 to {longest}\n  help: give it a time between these{or}"),
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
            used: self.topics.now().wall,
            timed_out: false,
        };
        let mut state = self.ids.0.get(id).cloned().unwrap_or(fresh);
        let ended = self.completion.finish(id, &mut state);
        if let Some(known) = self.ids.0.get_mut(id) {
            known.clone_from(&state);
        }
        ended?;
        if state.epoch >= i16::MAX - 1 {
            // Epochs are used up: what is open is ended under the old id, in the last epoch, which nobody is ever given; a
            // new one begins. In its own epoch the old owner could write on behind the marker, and nobody would end that.
            state.epoch = i16::MAX;
            self.completion.end(&mut state, Marker::Abort)?;
            state = Transactional { producer_id: self.next_producer_id, epoch: -1, ..state };
        }
        state.epoch += 1;
        // The old owner is fenced before the first marker: if they cannot all be written now, a commit of its that is still on
        // its way must not write others to the rest.
        let ended = self.completion.end(&mut state, Marker::Abort);
        (state.status, state.timeout, state.used, state.timed_out) = (EMPTY, timeout, self.topics.now().wall, false);
        self.ids.0.insert(id.to_owned(), state.clone());
        self.next_producer_id = self.next_producer_id.max(state.producer_id + 1);
        ended?;
        self.topics.append_internal(STATE_TOPIC, record(id, &state))?;
        Ok(Identity { producer_id: state.producer_id, epoch: state.epoch })
    }

    /// Adds a partition to the ongoing transaction of an id.
    pub(crate) fn join(&mut self, id: &str, owner: Identity, partition: &TopicPartition) -> Result<(), LogError> {
        let state = self.ids.owned(id, owner)?;
        // What comes now is no part of what is being committed.
        self.completion.finish(id, state)?;
        let now = self.topics.now();
        if state.began.is_none() {
            state.began = Some(now.ticks);
            if now.ticks + state.timeout + LOOK_EVERY < self.next_look {
                self.topics.storage.hurry();
            }
        }
        state.used = now.wall;
        state.partitions.insert(partition.clone());
        Ok(())
    }

    /// For how long housekeeping may wait until it looks at time-outs, at most for `longest`.
    pub(crate) fn plan(&mut self, longest: Duration) -> Duration {
        let now = self.topics.now().ticks;
        let due = self.ids.0.values().filter_map(|state| Some(state.began? + state.timeout)).min();
        let wait = due.map_or(longest, |due| due.saturating_sub(now).max(LOOK_EVERY).min(longest));
        self.next_look = now + wait;
        wait
    }

    /// Tells an owner from one of the past.
    ///
    /// # Errors
    /// [`LogError::Fenced`] if there is a newer owner, [`LogError::TimedOut`] if there is none, but this one took too long,
    /// [`LogError::Forgotten`] if nobody knows.
    pub(crate) fn check(&mut self, id: &str, owner: Identity) -> Result<(), LogError> {
        self.ids.owned(id, owner).map(drop)
    }

    /// Drives on what was asked for and failed, and aborts what takes longer than its time-out. What fails is tried again by the
    /// next call, and holds up no other.
    pub(crate) fn end_overdue(&mut self) -> Result<(), LogError> {
        let now = self.topics.now();
        let mut result = Ok(());
        for (id, state) in &mut self.ids.0 {
            let is_over = state.began.is_some_and(|began| now.ticks.saturating_sub(began) >= state.timeout);
            if state.prepared.is_some() {
                result = result.and(self.completion.finish(id, state));
            } else if is_over || state.status == PREPARE_ABORT {
                result = result.and(self.completion.time_out(id, state));
            }
        }
        result
    }

    /// Forgets the ids that nobody has used for a time, but for the one that has the newest producer id: after a restart those
    /// of new ones go on from it, and none is given a second time.
    pub(crate) fn forget_unused(&mut self, now: Timestamp) -> Result<(), LogError> {
        let after = self.topics.options.transactional_id_expiration.as_millis() as Timestamp;
        let newest = self.ids.0.values().map(|state| state.producer_id).max();
        let is_unused = |state: &Transactional| {
            state.began.is_none()
                && state.prepared.is_none()
                && state.status != PREPARE_ABORT
                && now.saturating_sub(state.used) >= after
                && Some(state.producer_id) != newest
        };
        let unused: Vec<String> = self.ids.0.iter().filter(|(_, s)| is_unused(s)).map(|(id, _)| id.clone()).collect();
        for ids in unused.chunks(TOMBSTONES) {
            let mut batch = BatchBuilder::new();
            ids.iter().for_each(|id| batch.push(now, Some(&key(id)), None, &[]));
            self.topics.append_internal(STATE_TOPIC, batch)?;
            ids.iter().for_each(|id| drop(self.ids.0.remove(id)));
        }
        Ok(())
    }

    /// Commits the ongoing transaction with a group's positions; tells the broker's groups when it took effect.
    pub(crate) fn commit(&mut self, id: &str, owner: Identity, positions: Positions) -> CommitOutcome {
        let now = self.topics.now();
        let state = match self.ids.owned(id, owner) {
            Ok(state) => state,
            Err(error) => return CommitOutcome::Failed(error),
        };
        // One before it whose outcome was not known.
        if let Err(error) = self.completion.finish(id, state) {
            return CommitOutcome::Failed(error);
        }
        state.used = now.wall;
        if !positions.is_empty() {
            let stamp = ProducerStamp { id: owner.producer_id, epoch: owner.epoch, base_sequence: -1 };
            let options = SealOptions { producer: Some(stamp), transactional: true, ..SealOptions::default() };
            state.began.get_or_insert(now.ticks);
            state.partitions.insert(TopicPartition::new(OFFSETS_TOPIC, 0));
            if let Err(error) = self.topics.append_sealed(OFFSETS_TOPIC, positions.batch(now.wall), &options) {
                return CommitOutcome::Failed(error);
            }
        }
        if state.partitions.is_empty() {
            return CommitOutcome::Done;
        }
        state.status = PREPARE_COMMIT;
        state.prepared = Some(Prepared { positions, logged: false });
        match self.completion.finish(id, state) {
            Ok(()) => CommitOutcome::Done,
            Err(error) => CommitOutcome::Unknown(error),
        }
    }

    /// Aborts the ongoing transaction.
    pub(crate) fn abort(&mut self, id: &str, owner: Identity) -> Result<(), LogError> {
        let state = self.ids.owned(id, owner)?;
        self.completion.finish(id, state)?;
        state.used = self.topics.now().wall;
        self.completion.end(state, Marker::Abort)
    }
}

impl Ids {
    /// The state of an id that this owner has.
    fn owned(&mut self, id: &str, owner: Identity) -> Result<&mut Transactional, LogError> {
        let transactional_id = id.to_owned();
        let Some(state) = self.0.get_mut(id) else { return Err(LogError::Forgotten { transactional_id }) };
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
}
