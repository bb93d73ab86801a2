//! The broker's threads: one syncs the journal, one makes checkpoints and deletes what is too old, one compacts.

use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use millstream_core::LogError;

use crate::broker::Inner;
use crate::data_dir::io;

/// How often retention is looked at, and a failed checkpoint tried again.
const INTERVAL: Duration = Duration::from_secs(30);
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// `log.cleaner.backoff.ms`: how often is looked at what is worth compacting.
const CLEANER_INTERVAL: Duration = Duration::from_secs(15);

/// The threads of one broker. They hold it only while they work, so that dropping it ends them.
pub(crate) struct Housekeeping(Vec<JoinHandle<()>>);

impl Housekeeping {
    pub(crate) fn start(broker: &Arc<Inner>) -> Result<Self, LogError> {
        let mut threads = Vec::new();
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(name.to_owned()).spawn(work);
            threads.push(thread.map_err(|e| io("cannot start a thread for", name.as_ref(), e))?);
            Ok(())
        };
        let storage = broker.storage().clone();
        if storage.journal.is_some() {
            let storage = storage.clone();
            start("log-journal", Box::new(move || storage.journal.iter().for_each(|journal| journal.work())))?;
        }
        let broker: Weak<Inner> = Arc::downgrade(broker);
        let (cleaner, cleaned) = (storage.clone(), broker.clone());
        start(
            "log-cleaner",
            Box::new(move || {
                while cleaner.wait_unless_closing(CLEANER_INTERVAL) {
                    let Some(broker) = cleaned.upgrade() else { return };
                    // What failed is tried again; what is damaged is let be, and its readers say so.
                    let _tried_again = broker.clean();
                }
            }),
        )?;
        start(
            "log-housekeeping",
            Box::new(move || {
                while storage.wait_for_work(INTERVAL) {
                    let Some(broker) = broker.upgrade() else { return };
                    // A full disk is tried again; after a failed sync the broker itself says so at every call.
                    if broker.tidy().is_err() {
                        drop(broker);
                        std::thread::sleep(TRY_AGAIN);
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
