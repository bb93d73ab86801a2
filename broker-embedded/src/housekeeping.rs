//! The broker's threads: one syncs the journal, one makes checkpoints and deletes what is too old, one compacts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use millstream_core::{LogError, panic_message};

use crate::data_dir::io;
use crate::options::BrokerOptions;
use crate::storage::{Storage, Work};

const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What housekeeping does, of a broker that is there only while it does.
pub(crate) trait Chores: Send + 'static {
    /// For how long to wait until a transaction is due, at most for this long; `None` when there is no broker any more.
    fn plan(&self, longest: Duration) -> Option<Duration>;

    /// Ends the transactions that are due.
    fn end_overdue(&self) -> Option<Result<(), LogError>>;

    /// Everything.
    fn tidy(&self) -> Option<Result<(), LogError>>;
}

/// The threads of one broker. They hold it only while they work, so that dropping it ends them.
pub(crate) struct Housekeeping(Vec<JoinHandle<()>>);

impl Housekeeping {
    /// Starts them. `clean` answers `None` when there is no broker any more.
    pub(crate) fn start(
        storage: &Arc<Storage>,
        options: &BrokerOptions,
        clean: impl Fn() -> Option<Result<(), LogError>> + Send + 'static,
        chores: impl Chores,
    ) -> Result<Self, LogError> {
        let mut threads = Vec::new();
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let (storage, thread) = (storage.clone(), name.to_owned());
            let thread = Builder::new().name(name.to_owned()).spawn(move || guard(&storage, &thread, work));
            threads.push(thread.map_err(|e| io("cannot start a thread for", name.as_ref(), e))?);
            Ok(())
        };
        if storage.journal.is_some() {
            let storage = storage.clone();
            start("log-journal", Box::new(move || storage.journal.iter().for_each(|journal| journal.work())))?;
        }
        let (cleaner, backoff) = (storage.clone(), options.cleaner_backoff);
        start(
            "log-cleaner",
            Box::new(move || {
                while cleaner.wait_unless_closing(backoff) {
                    // What failed is tried again; what is damaged is let be, and its readers say so.
                    let Some(_tried_again) = clean() else { return };
                }
            }),
        )?;
        let (storage, interval) = (storage.clone(), options.retention_check_interval);
        start("log-housekeeping", Box::new(move || keep_house(&storage, interval, &chores)))?;
        Ok(Housekeeping(threads))
    }

    /// Waits for the threads, which have been told to end.
    pub(crate) fn join(self) {
        for thread in self.0.into_iter().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _told_already = thread.join();
        }
    }
}

/// Does a thread's work. After a panic nothing is acknowledged any more, and every call says why: what the thread has left
/// half-done in memory is not to reach the disk, and without it topics would grow, or transactions stay open, without a word.
fn guard(storage: &Storage, thread: &str, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        storage.fail(LogError::Panicked { thread: thread.to_owned(), message: panic_message(&*panic) });
    }
}

/// Does the chores when they are due, until there is no broker any more.
fn keep_house(storage: &Storage, interval: Duration, chores: &impl Chores) {
    let mut tidied = Instant::now();
    loop {
        let rest = interval.saturating_sub(tidied.elapsed());
        let Some(wait) = chores.plan(rest) else { return };
        let work = storage.wait_for_work(wait);
        let is_all = matches!(work, Work::Checkpoint) || tidied.elapsed() >= interval;
        let done = match work {
            Work::Over => return,
            Work::Plan => continue,
            Work::Due | Work::Checkpoint if is_all => {
                tidied = Instant::now();
                chores.tidy()
            }
            Work::Due | Work::Checkpoint => chores.end_overdue(),
        };
        // A full disk is tried again; after a failed sync the broker itself says so at every call.
        if done.is_none_or(|done| done.is_err() && !storage.wait_unless_closing(TRY_AGAIN)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::SimFiles;

    use super::*;

    #[test]
    fn a_thread_that_panics_is_told_of_by_every_call() {
        let storage = Storage::new(Arc::new(SimFiles::default()), None, true, 1_000);
        guard(&storage, "log-cleaner", || {});
        assert!(storage.check_open().is_ok());
        guard(&storage, "log-cleaner", || panic!("out of range"));
        let told = storage.check_open().map_err(|error| error.to_string()).expect_err("an error");
        assert!(told.contains("`log-cleaner`") && told.contains("out of range") && told.contains("help:"), "{told}");
    }
}
