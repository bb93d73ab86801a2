//! What core knows of a store: bytes per batch. Keys and values live in `millstream-state`.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_wire::{BatchBuilder, Payload};

use crate::batch_limits::{BatchLimits, batch_of_one};
use crate::changelog_record::ChangelogRecord;
use crate::disk::{DiskRows, Expired, RowOrder};
use crate::error::{Error, Result, TooLarge};
use crate::log::{Isolation, TopicPartition};
use crate::state_budget::StateBudget;
use crate::store_query::StoreQuery;
use crate::time::{NO_TIME, Timestamp};

/// How many keys a store is told ahead.
pub const KEYS_AHEAD: usize = 16;

/// A store of a task, as the runtime sees it: it is flushed, committed, rolled back and restored.
///
/// Between two commits a store keeps, for every row it changed, the row as committed. Two generations of that can
/// exist: the rows of a commit that is under way, and those changed since.
pub trait StateStore: 'static {
    /// Writes every row changed since the last flush to the changelog and starts a new generation.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()>;

    /// The flushed generation is in the log: its undo information can go.
    fn committed(&mut self);

    /// Goes back to the last commit: undoes what changed since the flush, then what was flushed.
    fn rollback(&mut self);

    /// Applies one record of the changelog. Only called before the first record is processed.
    ///
    /// # Errors
    /// When the bytes are not what this store writes.
    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()>;

    /// About how many bytes of changes wait for the next flush.
    fn dirty_bytes(&self) -> usize;

    /// Whether looking up its rows waits for memory, so that [`StateStore::touch`] is worth its time.
    fn is_large(&self) -> bool {
        false
    }

    /// How its rows are ordered on disk.
    fn row_order(&self) -> RowOrder {
        RowOrder::Key
    }

    /// Given its rows on disk, before anything else: `true` if it reads them itself when they are asked for, and is told by
    /// [`StateStore::written`] which of its changes are among them. Otherwise it is handed all of them by [`StateStore::restore`].
    fn attach(&mut self, _rows: Box<dyn DiskRows>, _budget: &Arc<StateBudget>) -> bool {
        false
    }

    /// Asked, before anything else, to keep no more than so many rows, those that were used last: `false` if it cannot.
    fn keep_most_recent(&mut self, _rows: usize) -> bool {
        false
    }

    /// Told that its rows are complete, before the first record is processed: those on disk that it reads itself too.
    fn restored(&mut self) {}

    /// The largest time that a store with a retention has seen. It is committed with the positions of the input: the row that
    /// brought it may never have been written, or be deleted.
    fn observed(&self) -> Timestamp {
        NO_TIME
    }

    /// Told at a start what it had seen at the last commit.
    fn resume(&mut self, _observed: Timestamp) {}

    /// What the earliest commit changed that was not on disk yet, is.
    fn written(&mut self) {}

    /// What may go from the disk and was not named before.
    fn expired(&mut self) -> Expired {
        Expired::Nothing
    }

    /// Answers a part of a query: about so many rows of it, fewer if the
    /// writer is full, each as the changelog has it, and what is left to ask. A versioned
    /// store gives the time up to which a row is valid for its key. A part of an answer must be short in time; what has to be
    /// made ready first may take several without rows.
    ///
    /// # Errors
    /// When a row cannot be read or encoded; stores that answer no queries.
    fn query(
        &mut self,
        _query: &StoreQuery,
        _isolation: Isolation,
        _rows: usize,
        _answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        Err(Error::user("this store answers no queries"))
    }

    /// Told the keys of the records that come next, [`KEYS_AHEAD`] at most, it reads the rows that it has for them: memory fetches rows that are
    /// asked for in a row at once, but those of records being processed one after the other.
    fn touch(&self, _keys: &[&[u8]]) {}
}

/// Builds the changelog batches of one store partition.
#[derive(Debug)]
pub struct ChangelogWriter {
    open: BatchBuilder,
    full: Vec<BatchBuilder>,
    limits: BatchLimits,
    /// Bytes of the largest row that stands out.
    largest: usize,
}

/// Rows that go to no topic.
impl Default for ChangelogWriter {
    fn default() -> Self {
        ChangelogWriter::new(BatchLimits::none(Self::BATCH_BYTES))
    }
}

impl ChangelogWriter {
    /// Bytes of a batch, unless its topic takes no batches that are twice as large.
    pub const BATCH_BYTES: usize = 256 * 1024;

    pub(crate) fn new(limits: BatchLimits) -> Self {
        ChangelogWriter { open: BatchBuilder::default(), full: Vec::new(), limits, largest: 0 }
    }

    /// Appends one row; `value` `None` is a tombstone.
    #[inline]
    pub fn write(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp, headers: &[u8]) {
        #[cfg(feature = "plant")]
        if value.is_none() && crate::Plant::DropTombstone.is_set() {
            return;
        }
        let bytes = batch_of_one(Some(key), value, headers);
        if self.limits.stands_out(bytes) {
            self.make_room(bytes);
        }
        self.open.push(timestamp, Some(key), value, headers);
        if self.open.len() >= self.limits.batch {
            self.close();
        }
    }

    /// A row that is larger than a batch goes alone.
    #[cold]
    fn make_room(&mut self, bytes: usize) {
        self.largest = self.largest.max(bytes);
        if !self.open.is_empty() {
            self.close();
        }
    }

    fn close(&mut self) {
        // Another of this size mostly follows: it is not to grow there.
        let next = BatchBuilder::with_capacity(self.limits.batch + self.limits.batch / 8);
        self.full.push(std::mem::replace(&mut self.open, next));
    }

    /// Why not all of it can be written to `changelog`.
    pub(crate) fn too_large(&self, changelog: &TopicPartition) -> Option<TooLarge> {
        self.limits.too_large(self.largest, || changelog.clone())
    }

    /// Appends a row as it was read.
    pub fn copy(&mut self, row: ChangelogRecord<'_>) {
        self.write(row.key, row.value, row.timestamp, row.headers);
    }

    /// Appends all that another has, behind what is there. The other need not know how large batches may be.
    pub fn append(&mut self, other: ChangelogWriter) {
        for batch in other.into_batches() {
            if self.limits.takes(batch.len()) {
                if !self.open.is_empty() {
                    self.full.push(std::mem::take(&mut self.open));
                }
                self.full.push(batch);
            } else {
                self.write_again(batch);
            }
        }
    }

    /// Row by row.
    #[cold]
    fn write_again(&mut self, batch: BatchBuilder) {
        let mut rows = batch.into_records(0);
        while let Some(Ok(row)) = rows.next() {
            let (key, value) = (row.key.as_ref().map(Payload::as_slice), row.value.as_ref().map(Payload::as_slice));
            self.write(key.unwrap_or_default(), value, row.timestamp, row.headers);
        }
    }

    /// Bytes of the batch that is not full yet.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.open.len()
    }

    /// Whether there is more than a batch: enough for a part of an answer.
    pub fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// All batches in order.
    pub fn into_batches(self) -> impl Iterator<Item = BatchBuilder> {
        self.full.into_iter().chain((!self.open.is_empty()).then_some(self.open))
    }
}

/// A store as its task holds it: once for the runtime, once for the operators that know its type.
#[derive(Clone)]
pub struct StoreInstance {
    pub(crate) state: Rc<RefCell<dyn StateStore>>,
    typed: Rc<dyn Any>,
}

impl StoreInstance {
    /// Puts a store into its task.
    pub fn new<T: StateStore>(store: T) -> Self {
        let shared = Rc::new(RefCell::new(store));
        StoreInstance { state: shared.clone(), typed: shared }
    }

    /// See [`StateStore::keep_most_recent`].
    pub fn keep_most_recent(&self, rows: usize) -> bool {
        self.state.borrow_mut().keep_most_recent(rows)
    }

    /// The store with its type.
    ///
    /// # Panics
    /// If it is of another type: a store id carries its type in the DSL, so this is a bug there.
    pub fn typed<T: StateStore>(&self) -> Rc<RefCell<T>> {
        match self.typed.clone().downcast() {
            Ok(store) => store,
            Err(_) => panic!("a store id stands for one type, not also for {}", std::any::type_name::<T>()),
        }
    }
}
