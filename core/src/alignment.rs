//! How far the tasks of a process may drift apart in event time (`max.task.skew.ms`).
//!
//! Every task publishes the time of its next record; no task may process a record that is later than the oldest of
//! these by more than the skew. Without it, a catch-up makes most re-keyed records late (DESIGN 2.1).
//!
//! A task that has nothing to process holds nobody up for long, but what it says grows stale: records may have arrived
//! for it since it looked. So it says up to where it knows: the oldest head in the process before it looked. Whoever
//! wants to go beyond that, and the skew, wakes the others and lets them look again.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::time::Timestamp;
use crate::wakeup::Wakeup;

/// No time at all; later than every record.
const NOTHING: Timestamp = Timestamp::MAX;

/// What a task says of its next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// It has not looked yet: everybody waits for it.
    Unknown,
    /// Its time.
    At(Timestamp),
    /// It had none when the process had come so far.
    NoneAt(Timestamp),
    /// It will never have one again.
    Ended,
}

/// The next record's time of every task in the process. Cheap to clone; shared by its threads.
#[derive(Clone)]
pub struct TimeAlignment {
    shared: Arc<Shared>,
    skew: Option<Timestamp>,
}

struct Shared {
    /// Times of next records; `NOTHING` for a task without one.
    heads: Vec<AtomicI64>,
    /// For a task without a next record: how far the process was when it looked.
    seen: Vec<AtomicI64>,
    /// Per task and source of it, up to when on the wall clock all that was there has been passed on and committed.
    passed_on: Vec<Box<[AtomicI64]>>,
    /// The latest head that was ever published.
    latest: AtomicI64,
    wakeups: Mutex<Vec<Arc<Wakeup>>>,
}

// Relaxed is enough for heads: a value that is seen late only makes a task wait a little longer. Heads of a task move
// forward, and back only by a rollback; what `seen` says was true when it was read.
impl TimeAlignment {
    /// For tasks with so many sources each; `skew` `None` is no bound.
    pub(crate) fn new(sources: &[usize], skew: Option<Timestamp>) -> Self {
        fn times<T: FromIterator<AtomicI64>>(count: usize) -> T {
            (0..count).map(|_| AtomicI64::new(Timestamp::MIN)).collect()
        }
        let shared = Shared {
            heads: times(sources.len()),
            seen: times(sources.len()),
            passed_on: sources.iter().map(|count| times(*count)).collect(),
            latest: AtomicI64::new(Timestamp::MIN),
            wakeups: Mutex::default(),
        };
        TimeAlignment { shared: Arc::new(shared), skew }
    }

    /// A thread that may have to look again for others.
    pub(crate) fn register(&self, wakeup: &Arc<Wakeup>) {
        let mut wakeups = self.shared.wakeups.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that replaces another has its wakeup.
        if !wakeups.iter().any(|known| Arc::ptr_eq(known, wakeup)) {
            wakeups.push(wakeup.clone());
        }
    }

    /// How far the process is: the oldest head, or the latest that ever was. To be read before looking for records.
    pub(crate) fn position(&self) -> Timestamp {
        let oldest = self.shared.heads.iter().map(|head| head.load(Ordering::Relaxed)).min().unwrap_or(NOTHING);
        if oldest == NOTHING { self.shared.latest.load(Ordering::Relaxed) } else { oldest }
    }

    pub(crate) fn publish(&self, task: usize, head: Head) {
        let (head, seen) = match head {
            Head::Unknown => (Timestamp::MIN, Timestamp::MIN),
            Head::At(time) => {
                self.shared.latest.fetch_max(time, Ordering::Relaxed);
                (time, time)
            }
            Head::NoneAt(position) => (NOTHING, position),
            Head::Ended => (NOTHING, NOTHING),
        };
        self.shared.seen[task].store(seen, Ordering::Relaxed);
        self.shared.heads[task].store(head, Ordering::Relaxed);
    }

    /// All that was there for a source of a task at `wall` has been passed on and committed. Whether that is news.
    pub(crate) fn publish_passed_on(&self, task: usize, source: usize, wall: Timestamp) -> bool {
        // Whoever reads this looks for records afterwards, and must find those that were committed before.
        self.shared.passed_on[task][source].fetch_max(wall, Ordering::Release) < wall
    }

    /// Up to when on the wall clock all that was there for a source of a task has been passed on and committed.
    pub(crate) fn passed_on(&self, task: usize, source: usize) -> Timestamp {
        self.shared.passed_on[task][source].load(Ordering::Acquire)
    }

    /// The latest time that a task may process now.
    pub(crate) fn limit(&self, task: usize) -> Timestamp {
        let Some(skew) = self.skew else { return Timestamp::MAX };
        let said = |other: usize| match self.shared.heads[other].load(Ordering::Relaxed) {
            NOTHING => self.shared.seen[other].load(Ordering::Relaxed),
            head => head,
        };
        let others = (0..self.shared.heads.len()).filter(|other| *other != task).map(said);
        others.min().map_or(Timestamp::MAX, |oldest| oldest.saturating_add(skew))
    }

    /// Lets every other thread look for records again, if one that has none is what `time` waits for.
    pub(crate) fn look_again(&self, own: &Arc<Wakeup>, time: Timestamp) {
        let skew = self.skew.unwrap_or(0);
        let stale = self.shared.heads.iter().zip(&self.shared.seen).any(|(head, seen)| {
            head.load(Ordering::Relaxed) == NOTHING && seen.load(Ordering::Relaxed).saturating_add(skew) < time
        });
        if stale {
            let wakeups = self.shared.wakeups.lock().unwrap_or_else(PoisonError::into_inner);
            wakeups.iter().filter(|w| !Arc::ptr_eq(w, own)).for_each(|w| w.wake());
        }
    }
}
