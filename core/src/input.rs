//! One input partition of a task: the batches that were fetched and not processed yet.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use millstream_wire::Records;

use crate::log::{Fetch, Offset, TopicPartition};
use crate::store::{KEYS_AHEAD, StateStore};
use crate::time::{NO_TIME, Timestamp};

/// Where partitions end.
pub(crate) type Ends = HashMap<TopicPartition, Offset>;

/// A partition's queue and positions.
pub struct Input {
    pub(crate) partition: TopicPartition,
    /// Index of the source node in the task's program.
    pub(crate) source: usize,
    pub(crate) queue: VecDeque<Records>,
    /// Next record to process; what a commit commits.
    pub(crate) consumed: Offset,
    /// Next offset to fetch: behind everything queued.
    pub(crate) position: Offset,
    /// Nothing from here on is taken.
    pub(crate) until: Offset,
    /// First offset not visible at the last fetch; unknown (-1) before the first.
    pub(crate) end: Offset,
    /// Partition time (semantics.md 1).
    pub(crate) time: Timestamp,
    /// Time of the head, once looked at.
    pub(crate) head: Option<Timestamp>,
    /// The record whose time the program is being asked for, ahead of its turn: a panic there is this one's.
    pub(crate) looked_at: Option<Offset>,
    /// The stores have been told the keys of the records before this one.
    pub(crate) touched: Offset,
}

/// Tells the stores the keys of a batch's next records, once per record: those before `touched` they know.
#[inline]
pub(crate) fn touch(batch: &Records, consumed: Offset, touched: &mut Offset, stores: &[Rc<RefCell<dyn StateStore>>]) {
    if consumed >= *touched {
        *touched = consumed + KEYS_AHEAD as Offset;
        if stores.iter().any(|store| store.borrow().is_large()) {
            *touched = touch_next(batch, stores);
        }
    }
}

#[inline(never)]
fn touch_next(batch: &Records, stores: &[Rc<RefCell<dyn StateStore>>]) -> Offset {
    let mut keys = [&[][..]; KEYS_AHEAD];
    let (found, behind) = batch.peek_keys(&mut keys);
    for store in stores {
        store.borrow().touch(&keys[..found]);
    }
    behind
}

impl Input {
    pub(crate) fn new(partition: TopicPartition, source: usize) -> Self {
        Input {
            partition,
            source,
            queue: VecDeque::new(),
            consumed: 0,
            position: 0,
            until: Offset::MAX,
            end: -1,
            time: NO_TIME,
            head: None,
            looked_at: None,
            touched: 0,
        }
    }

    /// Drops what is queued and goes back (or forward) to `offset`.
    pub(crate) fn reset(&mut self, offset: Offset, time: Timestamp) {
        self.queue.clear();
        self.head = None;
        self.looked_at = None;
        self.touched = 0;
        self.consumed = offset;
        self.position = offset;
        self.end = -1;
        self.time = time;
    }

    /// Fetches from another offset on; what is queued is still processed.
    pub(crate) fn jump(&mut self, to: Offset) {
        self.position = to;
        self.end = -1;
        if self.is_empty() {
            self.consumed = to;
        }
    }

    /// Takes nothing from an offset on, of what is queued neither.
    pub(crate) fn stop_at(&mut self, until: Offset) {
        self.until = until;
        self.queue.iter_mut().for_each(|batch| batch.cut(until));
        self.position = self.position.min(until.max(self.consumed));
        self.head = None;
    }

    /// Has no end any more; `false` if it had none.
    pub(crate) fn goes_on(&mut self) -> bool {
        std::mem::replace(&mut self.until, Offset::MAX) != Offset::MAX
    }

    /// Whether there is something to fetch that may be taken.
    pub(crate) fn may_take(&self) -> bool {
        self.position < self.until
    }

    /// Queues what a fetch brought.
    pub(crate) fn take(&mut self, fetch: Fetch) {
        let mut batches = fetch.batches;
        if fetch.position > self.until {
            batches.iter_mut().for_each(|batch| batch.cut(self.until));
        }
        self.queue.extend(batches.into_iter().filter(|b| b.remaining() > 0));
        self.position = fetch.position.min(self.until);
        self.end = fetch.end;
        if self.queue.is_empty() {
            self.consumed = self.position;
        }
    }

    /// The batch with the next record; finished batches are dropped on the way.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&mut Records> {
        while self.queue.front().is_some_and(|batch| batch.remaining() == 0) {
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            // Markers and gaps behind the last record count as processed.
            self.consumed = self.consumed.max(self.position);
        }
        self.queue.front_mut()
    }

    /// The offset of the next record, if one is queued.
    pub(crate) fn front_offset(&mut self) -> Option<Offset> {
        let mut look = self.front()?.clone();
        Some(look.next()?.ok()?.offset)
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.iter().all(|batch| batch.remaining() == 0)
    }

    /// Number of queued records.
    pub(crate) fn buffered(&self) -> usize {
        self.queue.iter().map(|batch| batch.remaining().max(0) as usize).sum()
    }

    /// Whether the log has, or may have, records that are not queued here (semantics.md 5).
    pub(crate) fn may_lag(&self) -> bool {
        self.may_take() && (self.end < 0 || self.position < self.end)
    }
}
