//! How a thread that waits is woken: by new records, by the end of a commit, by shutdown.
//!
//! One per stream thread. The log holds clones and calls [`Wakeup::wake`]; only the driver around
//! `StreamThread::step` waits. Waking a thread that is awake costs one atomic read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that one thread waits for and any thread may set.
#[derive(Debug, Default)]
pub struct Wakeup {
    // Set by wakers, cleared by the waiter when it goes on; a wake between two waits is never lost.
    set: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Wakeup {
    /// Lets the waiting thread go on, now or at its next wait.
    pub fn wake(&self) {
        if !self.set.load(Ordering::Relaxed) && !self.set.swap(true, Ordering::AcqRel) {
            // Taking the lock orders this wake after a waiter's look at the flag and before its sleep.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_one();
        }
    }

    /// Waits until woken or until `timeout` is over, and clears the flag.
    pub fn wait(&self, timeout: Duration) {
        if self.set.swap(false, Ordering::AcqRel) || timeout.is_zero() {
            return;
        }
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _unused = self.changed.wait_timeout_while(guard, timeout, |()| !self.set.load(Ordering::Acquire));
        self.set.store(false, Ordering::Release);
    }
}
