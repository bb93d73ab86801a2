//! Driving transactions to their end: what it takes in the log, in an order that a crash may cut anywhere.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{LogError, Timestamp};
use millstream_wire::control::{self, Marker};

use crate::groups::Groups;
use crate::internal_topic::STATE_TOPIC;
use crate::topics::Topics;
use crate::transactional::{COMPLETE_ABORT, COMPLETE_COMMIT, Identity, PREPARE_ABORT, Transactional, record};

/// Writes states and markers, and tells the groups what took effect.
pub(crate) struct Completion {
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Mutex<Groups>>,
}

impl Completion {
    /// Drives a commit that has been asked for to its end. It can be tried again after an error, where it left off.
    pub(crate) fn finish(&self, id: &str, state: &mut Transactional) -> Result<(), LogError> {
        if !state.prepared.as_ref().is_none_or(|p| p.logged) {
            self.topics.append_internal(STATE_TOPIC, record(id, state))?;
            state.prepared.iter_mut().for_each(|p| p.logged = true);
        }
        let Some(prepared) = &state.prepared else { return Ok(()) };
        let positions = prepared.positions.clone();
        self.end(state, Marker::Commit)?;
        state.status = COMPLETE_COMMIT;
        self.topics.append_internal(STATE_TOPIC, record(id, state))?;
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).apply(&positions);
        state.prepared = None;
        Ok(())
    }

    /// Writes the markers. A partition that has its marker leaves the set, so that a second try writes only the rest.
    pub(crate) fn end(&self, state: &mut Transactional, marker: Marker) -> Result<(), LogError> {
        let identity = Identity { producer_id: state.producer_id, epoch: state.epoch };
        while let Some(partition) = state.partitions.first().cloned() {
            let batch = marker_batch(marker, identity, self.topics.now().wall)?;
            match self.topics.partition(&partition).and_then(|found| found.append(batch)) {
                // The topic was deleted meanwhile: there is nothing left to end in it.
                Ok(_) | Err(LogError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
            state.partitions.pop_first();
        }
        state.began = None;
        Ok(())
    }

    /// Aborts a transaction in an epoch that nobody has: its owner is fenced wherever it writes.
    pub(crate) fn time_out(&self, id: &str, state: &mut Transactional) -> Result<(), LogError> {
        if state.status != PREPARE_ABORT {
            let next = Transactional {
                epoch: state.epoch + 1,
                status: PREPARE_ABORT,
                used: self.topics.now().wall,
                timed_out: true,
                ..state.clone()
            };
            self.topics.append_internal(STATE_TOPIC, record(id, &next))?;
            *state = next;
        }
        self.end(state, Marker::Abort)?;
        let complete = Transactional { status: COMPLETE_ABORT, ..state.clone() };
        self.topics.append_internal(STATE_TOPIC, record(id, &complete))?;
        *state = complete;
        Ok(())
    }
}

/// The batch that ends a transaction in one partition.
pub(crate) fn marker_batch(marker: Marker, identity: Identity, now: Timestamp) -> Result<Vec<u8>, LogError> {
    control::encode(marker, identity.producer_id, identity.epoch, 0, now)
        .map_err(|e| LogError::Other { message: e.to_string(), retriable: false })
}
