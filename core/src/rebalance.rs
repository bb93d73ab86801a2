//! Which thread of an application has which tasks, and how that changes while it runs: because threads are added or removed
//! (KIP-663), or because topics have come or gone that a pattern matches.
//!
//! ```text
//!   asked for ─► every thread commits, lets go of its tasks and waits ─► the last one plans anew ─► each takes up its part
//! ```
//!
//! Nobody processes between two generations, so every task goes on from its last commit, wherever it is then. What threads
//! do in a generation is in [`crate::stream_threads`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::mailbox::Mailbox;
use crate::thread_context::ThreadContext;
use crate::wakeup::Wakeup;

/// The tasks and threads between two rebalances.
pub(crate) struct Generation {
    number: u64,
    pub(crate) context: ThreadContext,
    /// The threads, by number.
    pub(crate) members: Vec<Member>,
}

/// A thread in a generation.
pub(crate) struct Member {
    /// Its tasks, as indices into the plan's.
    pub(crate) tasks: Vec<usize>,
    pub(crate) wakeup: Arc<Wakeup>,
    /// Closed when it has let go of its tasks.
    pub(crate) mailbox: Mailbox,
}

impl Generation {
    /// A plan's tasks on so many threads; on none, they rest where their last commits are.
    pub(crate) fn new(number: u64, context: ThreadContext, threads: usize) -> Self {
        let tasks = context.plan.assign(threads);
        let member = |tasks| Member { tasks, wakeup: Arc::default(), mailbox: Mailbox::new() };
        Generation { number, context, members: tasks.into_iter().map(member).collect() }
    }

    /// Whether a thread that comes from another generation goes on in this one. One that was removed may wake so late that
    /// another of its number is there; but no generation goes by without a thread that goes on.
    pub(crate) fn has(&self, number: usize, from: &Generation) -> bool {
        self.number == from.number + 1 && number < self.members.len()
    }

    /// Lets every thread look up from what it waits for.
    pub(crate) fn wake(&self) {
        self.members.iter().for_each(|member| member.wakeup.wake());
    }
}

/// The present generation, and the way to the next.
pub(crate) struct Rebalance {
    state: Mutex<State>,
    /// Told of every change of the state, and of the end.
    changed: Condvar,
    /// One is asked for: all that a thread looks at between polls.
    is_asked_for: AtomicBool,
}

struct State {
    generation: Arc<Generation>,
    /// With so many threads the next one is to be.
    wanted: Option<usize>,
    /// Threads that have not ended.
    live: usize,
    /// Of those, the ones that have let go of their tasks.
    waiting: usize,
}

impl Rebalance {
    pub(crate) fn new(first: Generation) -> Self {
        let live = first.members.len();
        let state = State { generation: Arc::new(first), wanted: None, live, waiting: 0 };
        Rebalance { state: Mutex::new(state), changed: Condvar::new(), is_asked_for: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.state().generation.clone()
    }

    /// Whether threads are to let go of their tasks.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.is_asked_for.load(Ordering::Relaxed)
    }

    /// Asks for another generation, with as many threads as `threads` makes of those that there are or will be. `None` from
    /// it: nothing is asked for. Returns the number, and whether a thread has to come, which is counted from here on: one that was
    /// to go and has not gone yet stays instead.
    pub(crate) fn ask(&self, threads: impl FnOnce(usize) -> Option<usize>) -> Option<(usize, bool)> {
        let mut state = self.state();
        let next = threads(state.wanted.unwrap_or(state.generation.members.len()))?;
        let comes = next > state.live;
        state.live += usize::from(comes);
        state.wanted = Some(next);
        self.is_asked_for.store(true, Ordering::Relaxed);
        state.generation.wake();
        Some((next, comes))
    }

    /// Waits, having let go of its tasks of a generation, for the next one. The last thread that comes makes it, for so many
    /// threads. `None`: the application has been stopped meanwhile.
    ///
    /// # Errors
    /// When the next generation cannot be made; the others wait until they are stopped.
    pub(crate) fn arrive(
        &self,
        from: &Generation,
        is_stopped: impl Fn() -> bool,
        next: impl FnOnce(u64, usize) -> Result<Generation>,
    ) -> Result<Option<Arc<Generation>>> {
        let mut state = self.state();
        state.waiting += 1;
        loop {
            if state.generation.number > from.number {
                return Ok(Some(state.generation.clone()));
            }
            if is_stopped() {
                state.waiting -= 1;
                return Ok(None);
            }
            if state.waiting == state.live
                && let Some(threads) = state.wanted
            {
                state.waiting -= 1;
                let generation = Arc::new(next(from.number + 1, threads)?);
                *state = State { generation: generation.clone(), wanted: None, live: threads, waiting: 0 };
                self.is_asked_for.store(false, Ordering::Relaxed);
                self.changed.notify_all();
                return Ok(Some(generation));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Threads have ended, and none comes in their place; whether they were the last.
    pub(crate) fn leave(&self, threads: usize) -> bool {
        let mut state = self.state();
        state.live -= threads;
        self.changed.notify_all();
        state.live == 0
    }

    /// Whether all threads have been removed, and none is on its way.
    pub(crate) fn is_deserted(&self) -> bool {
        let state = self.state();
        state.live == 0 && state.generation.members.is_empty()
    }

    /// Without threads, lets go of what was asked for and cannot be done.
    pub(crate) fn give_up(&self) {
        let mut state = self.state();
        if state.live == 0 {
            state.wanted = None;
            self.is_asked_for.store(false, Ordering::Relaxed);
            self.changed.notify_all();
        }
    }

    /// Waits, without threads, until the application is stopped.
    pub(crate) fn rest(&self, is_stopped: impl Fn() -> bool) {
        let deserted = |state: &mut State| state.live == 0 && state.generation.members.is_empty() && !is_stopped();
        drop(self.changed.wait_while(self.state(), deserted).unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets those that wait look whether the application is stopped.
    pub(crate) fn wake(&self) {
        let state = self.state();
        state.generation.wake();
        self.changed.notify_all();
    }

    /// Does something while no rebalance is under way and none can begin. `None`: the application has been stopped.
    pub(crate) fn while_settled<R>(
        &self,
        is_stopped: impl Fn() -> bool,
        work: impl FnOnce(&Generation) -> R,
    ) -> Option<R> {
        let mut state = self.state();
        while state.wanted.is_some() && !is_stopped() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!is_stopped()).then(|| work(&state.generation))
    }

    /// Whether a generation is over, or about to be.
    pub(crate) fn is_over(&self, generation: &Generation) -> bool {
        let state = self.state();
        state.wanted.is_some() || state.generation.number > generation.number
    }

    /// Waits for so long for the generation behind this one; whether it has come.
    pub(crate) fn wait_for_next(&self, generation: &Generation, wait: Duration, is_stopped: impl Fn() -> bool) -> bool {
        let is_waited_for = |state: &mut State| state.generation.number == generation.number && !is_stopped();
        let waited = self.changed.wait_timeout_while(self.state(), wait, is_waited_for);
        waited.unwrap_or_else(PoisonError::into_inner).0.generation.number > generation.number
    }
}
