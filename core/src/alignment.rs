//! How far the tasks of a process may drift apart in event time (`max.task.skew.ms`).
//!
//! Every task publishes the time of its next record; no task may process a record that is later than the oldest of
//! these by more than the skew. Without it, a catch-up makes most re-keyed records late (DESIGN 2.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::Timestamp;

/// Not known yet: everybody waits for it.
pub(crate) const UNKNOWN: Timestamp = Timestamp::MIN;
/// Nothing to process: nobody waits for it.
pub(crate) const NOTHING: Timestamp = Timestamp::MAX;

/// The next record's time of every task in the process. Cheap to clone; shared by its threads.
#[derive(Clone)]
pub struct TimeAlignment {
    heads: Arc<[AtomicI64]>,
    skew: Option<Timestamp>,
}

impl TimeAlignment {
    /// For so many tasks; `skew` `None` is no bound.
    pub fn new(tasks: usize, skew: Option<Timestamp>) -> Self {
        TimeAlignment { heads: (0..tasks).map(|_| AtomicI64::new(UNKNOWN)).collect(), skew }
    }

    /// Relaxed is enough: a head that is seen late only makes a task wait a little longer, because heads of one
    /// task move forward, and back only by a rollback.
    pub(crate) fn publish(&self, task: usize, head: Timestamp) {
        self.heads[task].store(head, Ordering::Relaxed);
    }

    /// The latest time that a task may process now.
    pub(crate) fn limit(&self, task: usize) -> Timestamp {
        let Some(skew) = self.skew else { return Timestamp::MAX };
        let others = self
            .heads
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != task)
            .map(|(_, head)| head.load(Ordering::Relaxed));
        match others.min() {
            None | Some(NOTHING) => Timestamp::MAX,
            Some(oldest) => oldest.saturating_add(skew),
        }
    }
}
