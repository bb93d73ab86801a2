//! A thread that writes for tasks of a process, so that theirs go on.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use millstream_core::{Error, FamilyWrite, Result, StateError, panic_message};

use super::database::Database;

/// Bytes of a task that wait at most before it waits too.
const MUCH: usize = 64 << 20;

/// What one task has given and has not been told of.
#[derive(Default)]
pub(super) struct Pending {
    bytes: AtomicUsize,
    progress: Mutex<Progress>,
    /// Told when `progress` changes.
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    given: u64,
    /// Written, or left out after a failure.
    over: u64,
    done: u64,
    failed: Option<Failure>,
}

/// A failure that several callers are told of.
struct Failure {
    kind: fn(Box<StateError>) -> Error,
    problem: StateError,
}

impl Failure {
    fn of(error: Error) -> Self {
        match error {
            Error::Damaged(problem) => Failure { kind: Error::Damaged, problem: *problem },
            Error::NoSpace(problem) => Failure { kind: Error::NoSpace, problem: *problem },
            Error::State(problem) => Failure { kind: Error::State, problem: *problem },
            other => {
                let problem = StateError { store: "state".to_owned(), problem: other.to_string() };
                Failure { kind: Error::State, problem }
            }
        }
    }

    fn error(&self) -> Error {
        (self.kind)(Box::new(self.problem.clone()))
    }
}

impl Pending {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn done(&self) -> Result<u64> {
        let progress = self.progress();
        progress.failed.as_ref().map_or(Ok(progress.done), |failure| Err(failure.error()))
    }

    pub(super) fn is_much(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > MUCH
    }

    /// Waits until nothing waits: nobody but the task holds the database then.
    pub(super) fn wait(&self) -> Result<()> {
        let mut progress = self.progress();
        while progress.over < progress.given {
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        progress.failed.as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Writes, unless a write before has failed. A panic is such a failure: whoever waits must hear of it.
    ///
    /// What `write` holds is gone before the task, which may be waiting to close its database, is told: the last to hold that must be
    /// the task.
    fn carry_out(&self, bytes: usize, write: impl FnOnce() -> Result<()>) {
        let has_failed = self.progress().failed.is_some();
        let result = if has_failed {
            drop(write);
            Ok(())
        } else {
            catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|panic| {
                let problem = format!("a write panicked: {}", panic_message(&*panic));
                Err(Error::State(Box::new(StateError { store: "state".to_owned(), problem })))
            })
        };
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut progress = self.progress();
        progress.over += 1;
        match result {
            Ok(()) => progress.done += u64::from(!has_failed),
            Err(error) => progress.failed = Some(Failure::of(error)),
        }
        self.changed.notify_all();
    }
}

/// Something to be written.
struct Job {
    database: Arc<Database>,
    pending: Arc<Pending>,
    writes: Vec<FamilyWrite>,
    bytes: usize,
}

impl Job {
    fn carry_out(self) {
        let Job { database, pending, writes, bytes } = self;
        pending.carry_out(bytes, move || database.write(&writes));
    }
}

/// Writes in the order in which it is asked to. The thread ends with the last of its callers, who waits for that.
#[derive(Clone)]
pub(super) struct Writer {
    /// `None`: the caller writes.
    thread: Option<Arc<WriterThread>>,
}

struct WriterThread {
    /// `None` at the end, which tells the thread of it.
    jobs: Option<Sender<Job>>,
    handle: Option<JoinHandle<()>>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.jobs = None;
        let _panicked = self.handle.take().map(JoinHandle::join);
    }
}

impl Writer {
    pub(super) fn new(background: bool) -> io::Result<Self> {
        if !background {
            return Ok(Writer { thread: None });
        }
        let (sender, jobs) = channel::<Job>();
        let handle = thread::Builder::new().name("state-writer".to_owned()).spawn(move || {
            jobs.into_iter().for_each(Job::carry_out);
        })?;
        Ok(Writer { thread: Some(Arc::new(WriterThread { jobs: Some(sender), handle: Some(handle) })) })
    }

    pub(super) fn write(&self, database: &Arc<Database>, pending: &Arc<Pending>, writes: Vec<FamilyWrite>) {
        let bytes = writes.iter().flat_map(|write| &write.batches).map(|batch| batch.bytes()).sum();
        pending.bytes.fetch_add(bytes, Ordering::Relaxed);
        pending.progress().given += 1;
        let job = Job { database: database.clone(), pending: pending.clone(), writes, bytes };
        let refused = match self.thread.as_ref().and_then(|thread| thread.jobs.as_ref()) {
            Some(jobs) => jobs.send(job).err().map(|refused| refused.0),
            None => Some(job),
        };
        // Without a thread the caller does it.
        refused.into_iter().for_each(Job::carry_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever waited for the write, or closed the task's folder, waited for ever.
    #[test]
    fn a_write_that_panics_has_failed_and_nobody_waits_for_it() {
        let pending = Pending::default();
        pending.progress().given = 3;
        pending.carry_out(0, || Ok(()));
        pending.carry_out(0, || panic!("out of range"));
        pending.carry_out(0, || unreachable!("nothing is written behind it"));
        for told in [pending.wait(), pending.done().map(drop)] {
            assert!(told.is_err_and(|error| error.to_string().contains("out of range")));
        }
    }
}
