//! What the partitions of a data directory share: its files, its journal, and how much they have written since the last
//! checkpoint.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use millstream_core::{Files, LogError, Wakeup};

use crate::journal::Journal;

/// Shared storage.
pub(crate) struct Storage {
    pub(crate) files: Arc<dyn Files>,
    /// With durability `disk`.
    pub(crate) journal: Option<Journal>,
    /// Threads sync and clean up; without, whoever ticks does.
    threads: bool,
    checkpoint_bytes: u64,
    written: AtomicU64,
    failed: OnceLock<LogError>,
    /// Whether the broker is being closed.
    closing: Mutex<bool>,
    /// Housekeeping is to plan anew what it waits for.
    hurried: AtomicBool,
    work: Condvar,
}

impl Storage {
    pub(crate) fn new(files: Arc<dyn Files>, journal: Option<Journal>, threads: bool, checkpoint_bytes: u64) -> Self {
        Storage {
            files,
            journal,
            threads,
            checkpoint_bytes,
            written: AtomicU64::new(0),
            failed: OnceLock::new(),
            closing: Mutex::new(false),
            hurried: AtomicBool::new(false),
            work: Condvar::new(),
        }
    }

    /// Takes note of a batch in a segment, and of it in the journal. To be called in the order of a partition's offsets.
    pub(crate) fn appended(&self, topic: u64, partition: i32, batch: &[u8]) {
        if let Some(journal) = &self.journal {
            journal.add(topic, partition, batch);
        }
        let before = self.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if before < self.checkpoint_bytes && before + batch.len() as u64 >= self.checkpoint_bytes {
            self.work.notify_all();
        }
    }

    /// Whether a checkpoint is worth while.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.written.load(Ordering::Relaxed) >= self.checkpoint_bytes
    }

    /// Starts to count again, from 0 or so that a checkpoint is wanted still.
    pub(crate) fn count_from(&self, bytes: u64) {
        self.written.store(bytes, Ordering::Relaxed);
    }

    /// After a failed sync nothing is acknowledged any more.
    pub(crate) fn fail(&self, error: LogError) {
        if let Some(journal) = &self.journal {
            journal.give_up(error.clone());
        }
        let _first_counts = self.failed.set(error);
    }

    /// The error after which nothing is acknowledged any more.
    pub(crate) fn failure(&self) -> Option<LogError> {
        self.failed.get().cloned().or_else(|| self.journal.as_ref().and_then(Journal::failure))
    }

    /// A position that is reached by [`Storage::is_kept`] when everything so far is kept as the durability promises.
    pub(crate) fn position(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::end)
    }

    /// Asks for everything up to a position to be kept; `wakeup` is woken when it is.
    pub(crate) fn keep(&self, position: u64, wakeup: &Arc<Wakeup>) {
        match &self.journal {
            Some(journal) => journal.ask(position, wakeup),
            None => wakeup.wake(),
        }
    }

    /// Whether everything up to a position is kept.
    pub(crate) fn is_kept(&self, position: u64) -> Result<bool, LogError> {
        self.journal.as_ref().map_or(Ok(true), |journal| journal.has_synced(position))
    }

    /// Waits until everything up to a position is kept.
    pub(crate) fn wait(&self, position: u64) -> Result<(), LogError> {
        match &self.journal {
            Some(journal) if self.threads => journal.wait(position),
            Some(journal) => journal.sync(),
            None => Ok(()),
        }
    }

    /// `false` while too much waits for the disk.
    pub(crate) fn has_room(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::has_room)
    }

    /// Nothing more is taken, and the work in the background ends; `false` if that was so already.
    pub(crate) fn close(&self) -> bool {
        if std::mem::replace(&mut *self.closing(), true) {
            return false;
        }
        self.work.notify_all();
        if let Some(journal) = &self.journal {
            journal.close();
        }
        true
    }

    /// Whether something can be appended still.
    pub(crate) fn check_open(&self) -> Result<(), LogError> {
        if self.is_closing() { Err(LogError::Closed) } else { self.failure().map_or(Ok(()), Err) }
    }

    /// Whether the broker is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing()
    }

    fn closing(&self) -> MutexGuard<'_, bool> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a time; `false` when the broker is being closed.
    pub(crate) fn wait_unless_closing(&self, time: Duration) -> bool {
        let waited = self.work.wait_timeout_while(self.closing(), time, |closing| !*closing);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets housekeeping plan anew what it waits for.
    pub(crate) fn hurry(&self) {
        // Within the lock: between a look at it and the wait it would be missed.
        let _closing = self.closing();
        self.hurried.store(true, Ordering::Relaxed);
        self.work.notify_all();
    }

    /// Waits until there is housekeeping to do, at most for `longest`.
    pub(crate) fn wait_for_work(&self, longest: Duration) -> Work {
        let idle = |closing: &mut bool| !*closing && !self.wants_checkpoint() && !self.hurried.load(Ordering::Relaxed);
        let waited = self.work.wait_timeout_while(self.closing(), longest, idle);
        let closing = *waited.unwrap_or_else(PoisonError::into_inner).0;
        match self.hurried.swap(false, Ordering::Relaxed) {
            _ if closing => Work::Over,
            _ if self.wants_checkpoint() => Work::Checkpoint,
            true => Work::Plan,
            false => Work::Due,
        }
    }
}

/// What housekeeping has waited for.
pub(crate) enum Work {
    /// The broker is being closed.
    Over,
    /// Enough was written for a checkpoint.
    Checkpoint,
    /// Something is due earlier than was known.
    Plan,
    /// The time has passed.
    Due,
}
