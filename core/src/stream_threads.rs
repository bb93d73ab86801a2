//! The threads of an application: what they share, and the life of one, from its start over generations and failures to its
//! end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::alignment::Head;
use crate::bounded_run::BoundedRun;
use crate::client_state::State;
use crate::counters::Counters;
use crate::error::{Error, Result, panic_message};
use crate::own_threads::OwnThreads;
use crate::plan::Plan;
use crate::rebalance::{Generation, Rebalance};
use crate::restore_listener::StateRestoreListener;
use crate::thread::recovery::RETRY_BACKOFF;
use crate::thread::{Next, StreamThread};
use crate::thread_context::ThreadContext;
use crate::time::{Clock, Now};
use crate::uncaught::Uncaught;

pub(crate) type Listener = Box<dyn Fn(State, State) + Send + Sync>;
pub(crate) type UncaughtHandler = Box<dyn Fn(&Error) -> Uncaught + Send + Sync>;
pub(crate) type HeldUpListener = Box<dyn Fn(&Error) + Send + Sync>;

/// How long a thread sleeps at most: shutdown and the rounds of a bounded run are looked at now and then, should a wake be
/// missed.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// What the threads of an application share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rebalance: Rebalance,
    pub(crate) bounded: BoundedRun,
    pub(crate) own_threads: OwnThreads,
    stop: AtomicBool,
    pub(crate) paused: AtomicBool,
    progress: Mutex<Progress>,
    /// Locked during a change of state and the call for it, so that it hears the changes in their order.
    pub(crate) listener: Mutex<Option<Listener>>,
    pub(crate) held_up: Mutex<Option<HeldUpListener>>,
    pub(crate) restore: Mutex<Option<Arc<dyn StateRestoreListener>>>,
    pub(crate) uncaught: Mutex<Option<UncaughtHandler>>,
}

pub(crate) struct Progress {
    pub(crate) state: State,
    /// Of the threads of this generation.
    running: Vec<bool>,
    counters: Vec<Counters>,
    /// Of threads that have failed, and of generations that are over.
    past: Counters,
    pub(crate) error: Option<Error>,
}

impl Progress {
    pub(crate) fn total(&self) -> Counters {
        let mut sum = self.past;
        self.counters.iter().for_each(|c| sum += *c);
        sum
    }

    /// Room for the threads of a generation.
    fn expect(&mut self, threads: usize) {
        self.running = vec![false; threads];
        self.counters = vec![Counters::default(); threads];
    }

    /// A thread has let go of its tasks.
    fn let_go(&mut self, number: usize) {
        self.running[number] = false;
        self.past += std::mem::take(&mut self.counters[number]);
    }
}

impl Shared {
    pub(crate) fn new(first: Generation, clock: Arc<dyn Clock>) -> Self {
        let mut progress = Progress {
            state: State::Created,
            running: Vec::new(),
            counters: Vec::new(),
            past: Counters::default(),
            error: None,
        };
        progress.expect(first.members.len());
        Shared {
            clock,
            rebalance: Rebalance::new(first),
            bounded: BoundedRun::default(),
            own_threads: OwnThreads::default(),
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            progress: Mutex::new(progress),
            listener: Mutex::new(None),
            held_up: Mutex::new(None),
            restore: Mutex::new(None),
            uncaught: Mutex::new(None),
        }
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Asks all threads to end in order.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.rebalance.wake();
    }

    /// Brings about what threads otherwise do, if there are none: the application runs on without them, or ends. The last thread
    /// calls it when it goes, and whoever waits for the end.
    pub(crate) fn rest(&self) {
        if !self.rebalance.is_deserted() {
            return;
        }
        if self.is_stopped() {
            self.end();
        } else {
            self.change_when(State::Running, || self.rebalance.is_deserted() && !self.rebalance.is_asked_for());
        }
    }

    /// Ends an application that has no thread to do it.
    pub(crate) fn end(&self) {
        self.change(State::PendingShutdown);
        let failed = self.progress().error.is_some();
        self.change(if failed { State::Error } else { State::NotRunning });
    }

    /// Asks for another generation, as [`Rebalance::ask`]; the application is `Rebalancing` from there on, before a thread can
    /// have ended it.
    pub(crate) fn ask(&self, threads: impl FnOnce(usize) -> Option<usize>) -> Option<(usize, bool)> {
        let mut asked = None;
        self.change_when(State::Rebalancing, || {
            asked = self.rebalance.ask(threads);
            asked.is_some()
        });
        asked
    }

    /// Ends the application with an error, if it is the first.
    pub(crate) fn fail(&self, error: Error) {
        self.progress().error.get_or_insert(error);
        // Before the others are stopped, or one of them would take it for an orderly end; and before this thread counts
        // as ended, so that whoever ends last finds the state that leads to `Error`.
        self.change(State::PendingError);
        self.stop();
    }

    /// Threads have ended.
    pub(crate) fn leave(&self, threads: usize) {
        if self.rebalance.leave(threads) {
            let failed = self.progress().error.is_some();
            self.change(if failed { State::Error } else { State::NotRunning });
        }
    }

    /// Changes the state and tells of it, or does nothing (`false`) if there is no such arrow from the present one:
    /// each thread asks for itself, so most ask late.
    pub(crate) fn change(&self, to: State) -> bool {
        self.change_when(to, || true)
    }

    /// As [`Shared::change`], if `when` says so, while nobody else changes the state.
    fn change_when(&self, to: State, when: impl FnOnce() -> bool) -> bool {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if !when() {
            return false;
        }
        let from = {
            let mut progress = self.progress();
            if !progress.state.may_become(to) {
                return false;
            }
            std::mem::replace(&mut progress.state, to)
        };
        let told = listener.as_ref().map(|listener| {
            let _own = self.own_threads.enter();
            catch_unwind(AssertUnwindSafe(|| listener(from, to)))
        });
        drop(listener);
        // Whoever changed the state has more to do: others wait for it.
        if let Some(Err(panic)) = told {
            self.fail(Error::user(format!("the state listener panicked: {}", panic_message(panic.as_ref()))));
        }
        true
    }

    /// Whether the handler wants a failed thread to be replaced; one that is to stop is not.
    fn replaces(&self, error: &Error) -> bool {
        let handler = self.uncaught.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = || handler.as_ref().map(|handler| handler(error)).unwrap_or_default();
        let wanted = catch_unwind(AssertUnwindSafe(ask)).unwrap_or_default();
        wanted == Uncaught::ReplaceThread && !self.is_stopped()
    }

    /// Makes ready for a thread in the place of one that has failed.
    fn replace(&self, generation: &Generation, number: usize) {
        // The others wait until the new one has looked for its records: it goes back to the last commit.
        let tasks = generation.members[number].tasks.iter();
        tasks.for_each(|task| generation.context.alignment.publish(*task, Head::Unknown));
        self.progress().let_go(number);
        self.change(State::Rebalancing);
    }

    fn publish(&self, number: usize, thread: &StreamThread) {
        let started = {
            let mut progress = self.progress();
            progress.counters[number] = thread.counters();
            progress.running[number] = thread.is_running();
            progress.state == State::Rebalancing && progress.running.iter().all(|r| *r)
        };
        // What runs now is about to be let go of.
        if started {
            self.change_when(State::Running, || !self.rebalance.is_asked_for());
        }
    }

    fn tell_held_up(&self, error: &Error) {
        if let Some(listener) = &*self.held_up.lock().unwrap_or_else(PoisonError::into_inner) {
            listener(error);
        }
    }

    /// Lets the threads take up topics that have come since the plan was made, and let go of those that are gone.
    fn look_for_topics(&self, context: &ThreadContext) -> Result<()> {
        let found = match Plan::new(&context.topology, &context.config, context.log.admin()) {
            // The next look may find more.
            Err(error) if error.is_retriable() => return Ok(()),
            found => found?,
        };
        if found.inputs().eq(context.plan.inputs()) {
            return Ok(());
        }
        self.ask(|threads| (!self.bounded.is_asked_for()).then_some(threads));
        Ok(())
    }

    /// The generation behind one: with the topics that are there now.
    fn next_generation(&self, from: &Generation, number: u64, threads: usize) -> Result<Generation> {
        let ThreadContext { topology, config, log, process_id, .. } = &from.context;
        let mut plan = Plan::new(topology, config, log.admin())?;
        plan.known_inputs.clone_from(&from.context.plan.known_inputs);
        plan.create_topics(log.admin())?;
        let context = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: topology.clone(),
            plan: Arc::new(plan),
            config: config.clone(),
            log: log.clone(),
            process_id: process_id.clone(),
        };
        self.progress().expect(threads);
        Ok(Generation::new(number, context, threads))
    }

    /// Waits for the next generation. `None`: there is none with this thread in it.
    fn next(&self, from: &Generation) -> Result<Option<Arc<Generation>>> {
        let next = |next, threads| self.next_generation(from, next, threads);
        self.rebalance.arrive(from, || self.is_stopped(), next)
    }
}

/// Why a thread has ended its work in a generation, in order.
enum End {
    Stopped,
    Rebalance,
}

/// One thread's life: a [`StreamThread`] for every generation, and those that replace one that has failed. `is_new`: its first
/// generation is the next one.
pub(crate) fn drive(shared: &Shared, number: usize, name: &str, is_new: bool) {
    let _own = shared.own_threads.enter();
    let mut generation = shared.rebalance.generation();
    let mut round = 0;
    let mut ended = if is_new { Ok(End::Rebalance) } else { live(shared, &generation, number, name, &mut round) };
    let error = loop {
        match ended {
            Ok(End::Stopped) => break None,
            Ok(End::Rebalance) => match shared.next(&generation) {
                Ok(Some(next)) if next.has(number, &generation) => generation = next,
                // It was removed, and is not counted any more.
                Ok(Some(_)) => return shared.rest(),
                Ok(None) => break None,
                Err(error) => break Some(error),
            },
            Err(error) if shared.replaces(&error) => shared.replace(&generation, number),
            Err(error) => break Some(error),
        }
        ended = live(shared, &generation, number, name, &mut round);
    };
    if let Some(member) = generation.members.get(number) {
        member.mailbox.close();
        // A thread that has ended holds nobody up.
        member.tasks.iter().for_each(|task| generation.context.alignment.publish(*task, Head::Ended));
    }
    match error {
        Some(error) => shared.fail(error),
        None => drop(shared.change(State::PendingShutdown)),
    }
    shared.leave(1);
}

/// Runs a stream thread to its end, and ends what a failure has left open.
fn live(shared: &Shared, generation: &Generation, number: usize, name: &str, round: &mut usize) -> Result<End> {
    let mut thread = None;
    // Panics of the program are caught in its tasks; what comes here is one of ours, or of a restore listener.
    let ended = catch_unwind(AssertUnwindSafe(|| run(shared, generation, number, name, round, &mut thread)));
    let ended = ended.unwrap_or_else(|panic| {
        Err(Error::user(format!("a stream thread panicked: {}", panic_message(panic.as_ref()))))
    });
    if let (Err(_), Some(thread)) = (&ended, &mut thread) {
        thread.abandon();
        generation.members[number].mailbox.put_back(thread.unanswered());
        shared.progress().counters[number] = thread.counters();
    }
    if let Ok(End::Rebalance) = ended {
        generation.members[number].mailbox.close();
        shared.progress().let_go(number);
    }
    ended
}

/// Steps the thread until it ends; it stays with the caller.
fn run(
    shared: &Shared,
    generation: &Generation,
    number: usize,
    name: &str,
    round: &mut usize,
    thread: &mut Option<StreamThread>,
) -> Result<End> {
    let (context, member) = (&generation.context, &generation.members[number]);
    let mut is_told = false;
    let (made, begin) = loop {
        let (wakeup, begin) = (member.wakeup.clone(), shared.clock.now());
        match StreamThread::new(context.clone(), name.to_owned(), &member.tasks, wakeup, begin) {
            // The log has no room for a producer, say.
            Err(error) if error.is_retriable() => {
                if shared.is_stopped() {
                    shared.change(State::PendingShutdown);
                    return Ok(End::Stopped);
                }
                if shared.rebalance.is_asked_for() {
                    return Ok(End::Rebalance);
                }
                if !std::mem::replace(&mut is_told, true) {
                    shared.tell_held_up(&error);
                }
                member.mailbox.put_off();
                member.wakeup.wait(RETRY_BACKOFF);
            }
            made => break (made?, begin),
        }
    };
    let thread = thread.insert(made);
    if let Some(listener) = &*shared.restore.lock().unwrap_or_else(PoisonError::into_inner) {
        thread.on_restore(listener.clone());
    }
    // One thread looks for all.
    let looks = number == 0 && context.topology.reads_patterns();
    let mut last_look = begin.ticks;
    loop {
        let now = shared.clock.now();
        if shared.is_stopped() {
            shared.change(State::PendingShutdown);
            thread.close(now)?;
            shared.publish(number, thread);
            return Ok(End::Stopped);
        }
        if shared.rebalance.is_asked_for() {
            let_go(thread, now)?;
            shared.publish(number, thread);
            return Ok(End::Rebalance);
        }
        if looks && now.ticks.saturating_sub(last_look) >= context.config.metadata_max_age {
            last_look = now.ticks;
            shared.look_for_topics(context)?;
        }
        thread.pause(shared.paused.load(Ordering::Relaxed));
        let was_held_up = thread.held_up().is_some();
        if let Some(ends) = shared.bounded.given() {
            thread.stop_at(&ends);
        }
        let mut next = thread.step(now)?;
        shared.publish(number, thread);
        // Before it waits: the step may have brought what a query waits for.
        thread.answer_queries(&member.mailbox, shared.clock.as_ref());
        match shared.bounded.finish_round(context, shared.clock.as_ref(), round, thread) {
            Ok(false) => {}
            Ok(true) => {
                shared.change(State::PendingShutdown);
                thread.close(shared.clock.now())?;
                shared.publish(number, thread);
                return Ok(End::Stopped);
            }
            // The round is not finished: its records are read again.
            Err(error) => next = thread.recover(error, now)?,
        }
        if let (Some(error), false) = (thread.held_up(), was_held_up) {
            shared.tell_held_up(error);
        }
        if let Next::Wait(until) = next {
            let is_bounded = shared.bounded.is_asked_for() && thread.held_up().is_none();
            let longest = if is_bounded { Duration::from_millis(1) } else { LONGEST_SLEEP };
            let timeout = until.map_or(longest, |until| until.saturating_sub(shared.clock.now().ticks).min(longest));
            member.wakeup.wait(timeout);
        }
    }
}

/// Commits, or goes without what is held up: it comes again in the next generation.
fn let_go(thread: &mut StreamThread, now: Now) -> Result<()> {
    match thread.close(now) {
        Err(error) if error.is_retriable() => {
            thread.abandon();
            Ok(())
        }
        closed => closed,
    }
}
