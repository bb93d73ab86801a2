//! The broker's threads: one syncs the journal, one makes checkpoints and deletes what is too old, one compacts.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use millstream_core::LogError;

use crate::data_dir::io;
use crate::storage::Storage;

/// How often is looked at transactions and retention, and a failed checkpoint tried again
/// (`transaction.abort.timed.out.transaction.cleanup.interval.ms`).
const INTERVAL: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// `log.cleaner.backoff.ms`: how often is looked at what is worth compacting.
const CLEANER_INTERVAL: Duration = Duration::from_secs(15);

/// The threads of one broker. They hold it only while they work, so that dropping it ends them.
pub(crate) struct Housekeeping(Vec<JoinHandle<()>>);

impl Housekeeping {
    /// Starts them. `clean` and `tidy` answer `None` when there is no broker any more.
    pub(crate) fn start(
        storage: &Arc<Storage>,
        clean: impl Fn() -> Option<Result<(), LogError>> + Send + 'static,
        tidy: impl Fn() -> Option<Result<(), LogError>> + Send + 'static,
    ) -> Result<Self, LogError> {
        let mut threads = Vec::new();
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(name.to_owned()).spawn(work);
            threads.push(thread.map_err(|e| io("cannot start a thread for", name.as_ref(), e))?);
            Ok(())
        };
        if storage.journal.is_some() {
            let storage = storage.clone();
            start("log-journal", Box::new(move || storage.journal.iter().for_each(|journal| journal.work())))?;
        }
        let cleaner = storage.clone();
        start(
            "log-cleaner",
            Box::new(move || {
                while cleaner.wait_unless_closing(CLEANER_INTERVAL) {
                    // What failed is tried again; what is damaged is let be, and its readers say so.
                    let Some(_tried_again) = clean() else { return };
                }
            }),
        )?;
        let storage = storage.clone();
        start(
            "log-housekeeping",
            Box::new(move || {
                while storage.wait_for_work(INTERVAL) {
                    let Some(tidied) = tidy() else { return };
                    // A full disk is tried again; after a failed sync the broker itself says so at every call.
                    if tidied.is_err() && !storage.wait_unless_closing(TRY_AGAIN) {
                        return;
                    }
                }
            }),
        )?;
        Ok(Housekeeping(threads))
    }

    /// Waits for the threads, which have been told to end.
    pub(crate) fn join(self) {
        for thread in self.0.into_iter().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _panicked = thread.join();
        }
    }
}
