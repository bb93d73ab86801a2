//! How queries come to a stream thread and answers back: one mailbox per thread, looked into between polls.
//!
//! ```text
//!   caller: put ─► wake ─► wait ............................ ─► answer, or the thread's end
//!   thread:             └► is anything there? take ─► answer ┘
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::query::{Ask, Part};
use crate::query_error::QueryError;
use crate::wakeup::Wakeup;

/// Queries for one thread.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// Something was put and not taken: all that a thread looks at that is asked nothing.
    any: AtomicBool,
    /// `None` when the thread has ended: nobody would answer.
    letters: Mutex<Option<Vec<Letter>>>,
}

/// A query that waits for its answer. Dropped without one it tells the caller that there will be none.
pub(crate) struct Letter {
    pub(crate) ask: Ask,
    /// The caller waits for a task that is not there yet.
    pub(crate) patient: bool,
    reply: Arc<Reply>,
}

/// Where the answer comes to lie.
#[derive(Default)]
struct Reply {
    answer: Mutex<Option<Result<Part, QueryError>>>,
    /// Told when it lies there.
    come: Condvar,
}

impl Reply {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Part, QueryError>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, answer: Result<Part, QueryError>) {
        self.lock().get_or_insert(answer);
        self.come.notify_one();
    }
}

impl Letter {
    pub(crate) fn answer(self, answer: Result<Part, QueryError>) {
        self.reply.give(answer);
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.reply) == 1
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.reply.give(Err(QueryError::Stopped));
    }
}

impl Mailbox {
    /// A mailbox of a thread that is to come.
    pub(crate) fn new() -> Self {
        Mailbox { any: AtomicBool::new(false), letters: Mutex::new(Some(Vec::new())) }
    }

    /// Tells those who do not wait that there is no task yet.
    pub(crate) fn put_off(&self) {
        let mut letters = Vec::new();
        self.take(&mut letters);
        letters.retain(|letter| !letter.is_abandoned());
        letters.extract_if(.., |letter| !letter.patient).for_each(|letter| letter.answer(Err(QueryError::Restoring)));
        self.put_back(letters);
    }

    fn letters(&self) -> MutexGuard<'_, Option<Vec<Letter>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the thread, and waits for its answer: for as long as it takes, but for a task that is not there yet only so long.
    pub(crate) fn ask(&self, ask: Ask, wait: Duration, wakeup: &Wakeup) -> Result<Part, QueryError> {
        if !wait.is_zero() {
            let reply = self.put(ask.clone(), true, wakeup)?;
            let answer = reply.come.wait_timeout_while(reply.lock(), wait, |answer| answer.is_none());
            if let Some(answer) = answer.unwrap_or_else(PoisonError::into_inner).0.take() {
                return answer;
            }
        }
        // Without patience the answer says how far the task has come.
        let reply = self.put(ask, false, wakeup)?;
        let answer = reply.come.wait_while(reply.lock(), |answer| answer.is_none());
        answer.unwrap_or_else(PoisonError::into_inner).take().unwrap_or(Err(QueryError::Stopped))
    }

    fn put(&self, ask: Ask, patient: bool, wakeup: &Wakeup) -> Result<Arc<Reply>, QueryError> {
        let reply = Arc::new(Reply::default());
        let letter = Letter { ask, patient, reply: reply.clone() };
        self.letters().as_mut().ok_or(QueryError::Stopped)?.push(letter);
        self.any.store(true, Ordering::Release);
        wakeup.wake();
        Ok(reply)
    }

    /// Takes what was put, behind what waits already.
    #[inline]
    pub(crate) fn take(&self, waiting: &mut Vec<Letter>) {
        if self.any.load(Ordering::Relaxed) {
            // Before they are taken: what is put meanwhile is found the next time.
            self.any.store(false, Ordering::Release);
            if let Some(letters) = self.letters().as_mut() {
                waiting.append(letters);
            }
        }
    }

    /// Puts back what a thread has taken and not answered: the one that comes in its place does, if there is one.
    pub(crate) fn put_back(&self, mut waiting: Vec<Letter>) {
        if let Some(letters) = self.letters().as_mut() {
            letters.append(&mut waiting);
            self.any.store(true, Ordering::Release);
        }
    }

    /// The thread has ended, and none comes in its place.
    pub(crate) fn close(&self) {
        // Dropped without the lock: each tells its caller.
        let _unanswered = self.letters().take();
    }
}
