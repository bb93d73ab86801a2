//! The threads that an application itself waits for. A query of theirs would wait for them: for itself, or in a ring.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Stream threads, and whoever calls the listener of the state, for which they wait.
#[derive(Default)]
pub(crate) struct OwnThreads(Mutex<Vec<ThreadId>>);

/// This thread is one of them until this is dropped.
pub(crate) struct Entered<'a>(&'a OwnThreads);

impl OwnThreads {
    fn lock(&self) -> MutexGuard<'_, Vec<ThreadId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts this thread among them, once more if it is one already.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.lock().push(thread::current().id());
        Entered(self)
    }

    /// Whether this thread is one.
    pub(crate) fn is_one(&self) -> bool {
        self.lock().contains(&thread::current().id())
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let (mut threads, own) = (self.0.lock(), thread::current().id());
        if let Some(at) = threads.iter().position(|thread| *thread == own) {
            threads.swap_remove(at);
        }
    }
}
