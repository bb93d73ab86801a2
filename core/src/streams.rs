//! A running application: its stream threads on real threads, their common state, and how they end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::alignment::{Head, TimeAlignment};
use crate::config::RuntimeConfig;
use crate::counters::Counters;
use crate::error::{Error, Result, panic_message};
use crate::log::{Isolation, Log, Offset, TopicPartition};
use crate::mailbox::Mailbox;
use crate::plan::Plan;
use crate::query::{Ask, Part, QueryError, QueryStores};
use crate::restore_listener::StateRestoreListener;
use crate::thread::{Next, StreamThread, ThreadContext};
use crate::time::Clock;
use crate::topology::Topology;
use crate::topology_topic::Changes;
use crate::wakeup::Wakeup;

/// The state of an application, as in Kafka Streams.
///
/// ```text
///      ┌──────────────┬───────────┐
///   Created ─► Rebalancing ◄► Running ─► PendingShutdown ─► NotRunning
///                   └─────────────┴─────────────┴─► PendingError ─► Error
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Created,
    /// Tasks are being restored: at the start, or in a thread that replaces one that has failed.
    Rebalancing,
    /// All tasks process.
    Running,
    /// Threads are ending in order.
    PendingShutdown,
    /// All threads have ended in order.
    NotRunning,
    /// A thread has failed, the others are ending.
    PendingError,
    /// All threads have ended after a failure.
    Error,
}

impl State {
    /// The arrows above; threads that are late may ask for others.
    fn may_become(self, next: State) -> bool {
        match next {
            State::Created => false,
            State::Rebalancing => matches!(self, State::Created | State::Running),
            State::Running => self == State::Rebalancing,
            State::PendingShutdown => matches!(self, State::Created | State::Rebalancing | State::Running),
            State::NotRunning => self == State::PendingShutdown,
            State::PendingError => matches!(self, State::Rebalancing | State::Running | State::PendingShutdown),
            State::Error => self == State::PendingError,
        }
    }
}

/// What happens after an error that no other handler took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Uncaught {
    /// The failed thread's tasks go on in a new one, from their last commit. How often, the handler decides: what fails for a
    /// lasting reason fails again at once.
    ReplaceThread,
    /// All threads of this process end, and [`Streams::join`] returns the error.
    #[default]
    StopClient,
    /// As `StopClient`: all threads of this process end. In Kafka Streams every other process of the application ends too;
    /// here an application is one process, and other processes are not told of anything.
    StopApplication,
}

type Listener = Box<dyn Fn(State, State) + Send + Sync>;
type UncaughtHandler = Box<dyn Fn(&Error) -> Uncaught + Send + Sync>;
type HeldUpListener = Box<dyn Fn(&Error) + Send + Sync>;

/// What the threads of an application share.
struct Shared {
    context: ThreadContext,
    clock: Arc<dyn Clock>,
    stop: AtomicBool,
    wakeups: Vec<Arc<Wakeup>>,
    /// Of every thread; closed when it has ended for good.
    mailboxes: Vec<Mailbox>,
    progress: Mutex<Progress>,
    /// Locked during a change of state and the call for it, so that it hears the changes in their order.
    listener: Mutex<Option<Listener>>,
    held_up: Mutex<Option<HeldUpListener>>,
    restore: Mutex<Option<Arc<dyn StateRestoreListener>>>,
    uncaught: Mutex<Option<UncaughtHandler>>,
    bounded: Mutex<Option<Bounded>>,
}

struct Progress {
    state: State,
    running: Vec<bool>,
    ended: usize,
    counters: Vec<Counters>,
    /// Of threads that were replaced.
    replaced: Counters,
    error: Option<Error>,
}

/// A run that ends with its input: group by group of sub-topologies, in the order of flow (DESIGN 3.17), in rounds. A
/// group is read to its ends until nothing new comes of it; then its input is ended, and again until nothing comes.
struct Bounded {
    round: usize,
    group: usize,
    /// The group's input is ended: windows close.
    ended: bool,
    ends: HashMap<TopicPartition, Offset>,
    /// Threads that have not finished this round.
    left: usize,
}

/// An application.
pub struct Streams {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Streams {
    /// Fits a topology to a log and creates the topics that are missing; nothing runs yet.
    ///
    /// # Errors
    /// [`Error::Build`] with every problem at once, before any topic is created; also when the application's state was left
    /// by a program that this one does not fit.
    pub fn new(topology: Topology, config: RuntimeConfig, log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Result<Self> {
        let plan = Plan::new(&topology, &config, log.admin())?;
        let changes = Changes::find(&topology, &config, log.as_ref())?;
        plan.create_topics(log.admin())?;
        changes.write(log.as_ref(), clock.now().wall)?;
        let threads = config.threads.clamp(1, plan.tasks.len().max(1));
        let context = ThreadContext {
            alignment: TimeAlignment::new(plan.tasks.len(), config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log,
            process_id: "embedded".to_owned(),
        };
        let progress = Progress {
            state: State::Created,
            running: vec![false; threads],
            ended: 0,
            counters: vec![Counters::default(); threads],
            replaced: Counters::default(),
            error: None,
        };
        let shared = Shared {
            context,
            clock,
            stop: AtomicBool::new(false),
            wakeups: (0..threads).map(|_| Arc::default()).collect(),
            mailboxes: (0..threads).map(|_| Mailbox::new()).collect(),
            progress: Mutex::new(progress),
            listener: Mutex::new(None),
            held_up: Mutex::new(None),
            restore: Mutex::new(None),
            uncaught: Mutex::new(None),
            bounded: Mutex::new(None),
        };
        Ok(Streams { shared: Arc::new(shared), threads: Vec::new() })
    }

    /// Calls `listener` with the old and the new state at every change, on the thread that brings it about and in
    /// order. It replaces an earlier one.
    pub fn on_state_change(&mut self, listener: impl Fn(State, State) + Send + Sync + 'static) {
        *self.shared.listener() = Some(Box::new(listener));
    }

    /// Calls `listener` when a thread begins to wait because of an error that may pass by itself, such as a full disk. It
    /// replaces an earlier one.
    pub fn on_held_up(&mut self, listener: impl Fn(&Error) + Send + Sync + 'static) {
        *self.shared.held_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
    }

    /// Tells `listener` how stores are restored, on the threads that do it, from their next restore on. It replaces an earlier one.
    pub fn on_restore(&mut self, listener: impl StateRestoreListener + 'static) {
        *self.shared.restore.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
    }

    /// Asks `handler` what to do when a thread has failed: it calls `handler` with the error, on that thread. The default is
    /// [`Uncaught::StopClient`], which stands also for a handler that panics. It replaces an earlier one.
    pub fn on_uncaught(&mut self, handler: impl Fn(&Error) -> Uncaught + Send + Sync + 'static) {
        *self.shared.uncaught.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// When it was started or closed before, or when the operating system gives no thread.
    pub fn start(&mut self) -> Result<()> {
        // A thread that is replaced takes the same arrow while the application runs.
        if !self.threads.is_empty() || !self.shared.change(State::Rebalancing) {
            return Err(Error::user(format!(
                "the application is {:?}: it starts once\n  help: make another Streams",
                self.state()
            )));
        }
        let assignment = self.shared.context.plan.assign(self.shared.wakeups.len());
        for (number, tasks) in assignment.into_iter().enumerate() {
            let shared = self.shared.clone();
            let name = format!("{}-StreamThread-{}", shared.context.config.application_id, number + 1);
            let thread =
                std::thread::Builder::new().name(name.clone()).spawn(move || drive(&shared, number, name, &tasks));
            self.threads.push(thread.map_err(Error::user)?);
        }
        Ok(())
    }

    /// Starts the threads and runs until everything that is in the input topics now, and what comes of it, has been
    /// processed: windows close, all is committed, and the threads end.
    ///
    /// # Errors
    /// The error that stopped a thread.
    pub fn run_to_end(mut self) -> Result<Counters> {
        self.start()?;
        self.drain()?;
        self.join()
    }

    /// Lets a started application end with its input: what is in the input topics now is the last that is processed.
    ///
    /// # Errors
    /// When the log cannot say where the topics end.
    pub fn drain(&self) -> Result<()> {
        let ends = group_ends(&self.shared.context, 0)?;
        let left = self.shared.wakeups.len();
        *self.shared.bounded() = Some(Bounded { round: 0, group: 0, ended: false, ends, left });
        self.shared.wakeups.iter().for_each(|w| w.wake());
        Ok(())
    }

    /// Waits until the threads have ended by themselves, or by [`Streams::stopper`].
    ///
    /// # Errors
    /// The error that stopped a thread.
    pub fn join(&mut self) -> Result<Counters> {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                let _first =
                    self.shared.progress().error.get_or_insert_with(|| Error::user("a stream thread panicked"));
            }
        }
        let mut progress = self.shared.progress();
        match progress.error.take() {
            Some(error) => Err(error),
            None => Ok(progress.total()),
        }
    }

    /// Ends the threads in order, after a last commit.
    ///
    /// # Errors
    /// The error that stopped a thread.
    pub fn close(&mut self) -> Result<Counters> {
        self.stopper().stop();
        if self.state() == State::Created {
            self.shared.change(State::PendingShutdown);
            self.shared.change(State::NotRunning);
        }
        self.join()
    }

    /// Something to stop the application with from elsewhere, a signal handler say.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Something to ask its stores through, from any thread.
    pub fn queries(&self) -> Queries {
        Queries(self.shared.clone())
    }

    /// The application's state.
    pub fn state(&self) -> State {
        self.shared.progress().state
    }

    /// Totals over all tasks.
    pub fn counters(&self) -> Counters {
        self.shared.progress().total()
    }

    /// The topics, tasks and settings of this run.
    pub fn context(&self) -> &ThreadContext {
        &self.shared.context
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stopper().stop();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Stops an application.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Asks all threads to end in order; does not wait for it.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.wakeups.iter().for_each(|w| w.wake());
    }
}

/// Asks the stores of an application. The DSL's typed queries go through it.
#[derive(Clone)]
pub struct Queries(Arc<Shared>);

impl QueryStores for Queries {
    fn context(&self) -> Cow<'_, ThreadContext> {
        Cow::Borrowed(&self.0.context)
    }

    fn ask(&self, ask: Ask, wait: Duration) -> Result<Part, QueryError> {
        let shared = &self.0;
        let state = || shared.progress().state;
        if let not_running @ (State::Created | State::NotRunning | State::Error) = state() {
            return Err(QueryError::NotRunning(not_running));
        }
        // Every thread has the global stores: they are asked for as partition 0.
        let number = Plan::thread_for(ask.partition, shared.wakeups.len());
        match shared.mailboxes[number].ask(ask, wait, &shared.wakeups[number]) {
            Err(QueryError::Stopped) => Err(match state() {
                State::Created | State::Rebalancing | State::Running => QueryError::Stopped,
                ended => QueryError::NotRunning(ended),
            }),
            answer => answer,
        }
    }
}

impl Progress {
    fn total(&self) -> Counters {
        let mut sum = self.replaced;
        self.counters.iter().for_each(|c| sum += *c);
        sum
    }
}

impl Shared {
    fn bounded(&self) -> MutexGuard<'_, Option<Bounded>> {
        self.bounded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells of it, or does nothing (`false`) if there is no such arrow from the present one:
    /// each thread asks for itself, so most ask late.
    fn change(&self, to: State) -> bool {
        let listener = self.listener();
        let from = {
            let mut progress = self.progress();
            if !progress.state.may_become(to) {
                return false;
            }
            std::mem::replace(&mut progress.state, to)
        };
        if let Some(listener) = listener.as_ref() {
            listener(from, to);
        }
        true
    }

    /// Whether the handler wants a failed thread to be replaced; one that is to stop is not.
    fn replaces(&self, error: &Error) -> bool {
        let handler = self.uncaught.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = || handler.as_ref().map(|handler| handler(error)).unwrap_or_default();
        let wanted = catch_unwind(AssertUnwindSafe(ask)).unwrap_or_default();
        wanted == Uncaught::ReplaceThread && !self.stop.load(Ordering::SeqCst)
    }

    /// Makes ready for a thread in the place of one that has failed.
    fn replace(&self, number: usize, tasks: &[usize]) {
        // The others wait until the new one has looked for its records: it goes back to the last commit.
        tasks.iter().for_each(|task| self.context.alignment.publish(*task, Head::Unknown));
        {
            let mut progress = self.progress();
            progress.running[number] = false;
            let counted = std::mem::take(&mut progress.counters[number]);
            progress.replaced += counted;
        }
        self.change(State::Rebalancing);
    }

    fn publish(&self, number: usize, thread: &StreamThread) {
        let started = {
            let mut progress = self.progress();
            progress.counters[number] = thread.counters();
            progress.running[number] = thread.is_running();
            progress.state == State::Rebalancing && progress.running.iter().all(|r| *r)
        };
        if started {
            self.change(State::Running);
        }
    }
}

/// One thread's life: a [`StreamThread`], and those that replace it.
fn drive(shared: &Shared, number: usize, name: String, tasks: &[usize]) {
    let mut round = 0;
    let error = loop {
        let error = live(shared, number, &name, tasks, &mut round).err();
        match &error {
            Some(error) if shared.replaces(error) => shared.replace(number, tasks),
            _ => break error,
        }
    };
    shared.mailboxes[number].close();
    // A thread that has ended holds nobody up.
    tasks.iter().for_each(|task| shared.context.alignment.publish(*task, Head::Ended));
    if let Some(error) = error {
        shared.progress().error.get_or_insert(error);
        // Before the others are stopped, or one of them would take it for an orderly end; and before this thread counts
        // as ended, so that whoever ends last finds the state that leads to `Error`.
        shared.change(State::PendingError);
        shared.stop.store(true, Ordering::SeqCst);
        shared.wakeups.iter().for_each(|w| w.wake());
    }
    let (all_ended, any_failed) = {
        let mut progress = shared.progress();
        progress.ended += 1;
        (progress.ended == shared.wakeups.len(), progress.error.is_some())
    };
    if all_ended {
        shared.change(if any_failed { State::Error } else { State::NotRunning });
    }
}

/// Runs a stream thread to its end, and ends what a failure has left open.
fn live(shared: &Shared, number: usize, name: &str, tasks: &[usize], round: &mut usize) -> Result<()> {
    let mut thread = None;
    // Panics of the program are caught in its tasks; what comes here is one of ours, or of a listener.
    let ended = catch_unwind(AssertUnwindSafe(|| run(shared, number, name, tasks, round, &mut thread)));
    let ended = ended.unwrap_or_else(|panic| {
        Err(Error::user(format!("a stream thread panicked: {}", panic_message(panic.as_ref()))))
    });
    if let (Err(_), Some(thread)) = (&ended, &mut thread) {
        thread.abandon();
        shared.progress().counters[number] = thread.counters();
    }
    ended
}

/// Steps the thread until it ends; it stays with the caller.
fn run(
    shared: &Shared,
    number: usize,
    name: &str,
    tasks: &[usize],
    round: &mut usize,
    thread: &mut Option<StreamThread>,
) -> Result<()> {
    let wakeup = shared.wakeups[number].clone();
    let context = shared.context.clone();
    let thread = thread.insert(StreamThread::new(context, name.to_owned(), tasks, wakeup.clone(), shared.clock.now())?);
    if let Some(listener) = &*shared.restore.lock().unwrap_or_else(PoisonError::into_inner) {
        thread.on_restore(listener.clone());
    }
    loop {
        let now = shared.clock.now();
        if shared.stop.load(Ordering::Relaxed) {
            shared.change(State::PendingShutdown);
            thread.close(now)?;
            shared.publish(number, thread);
            return Ok(());
        }
        let was_held_up = thread.held_up().is_some();
        let mut next = thread.step(now)?;
        shared.publish(number, thread);
        // Before it waits: the step may have brought what a query waits for.
        thread.answer_queries(&shared.mailboxes[number], shared.clock.as_ref());
        match finish_round(shared, round, thread) {
            Ok(false) => {}
            Ok(true) => {
                shared.change(State::PendingShutdown);
                thread.close(shared.clock.now())?;
                shared.publish(number, thread);
                return Ok(());
            }
            // The round is not finished: its records are read again.
            Err(error) => next = thread.recover(error, now)?,
        }
        if let (Some(error), false) = (thread.held_up(), was_held_up)
            && let Some(listener) = &*shared.held_up.lock().unwrap_or_else(PoisonError::into_inner)
        {
            listener(error);
        }
        if let Next::Wait(until) = next {
            // Shutdown and the rounds of a bounded run are looked at now and then, should a wake be missed.
            let is_bounded = shared.bounded().is_some() && thread.held_up().is_none();
            let longest = if is_bounded { Duration::from_millis(1) } else { Duration::from_millis(500) };
            let timeout = until.map_or(longest, |until| until.saturating_sub(shared.clock.now().ticks).min(longest));
            wakeup.wait(timeout);
        }
    }
}

/// Ends the thread's part of the present round of a bounded run when its input is consumed; `true` after the last.
fn finish_round(shared: &Shared, round: &mut usize, thread: &mut StreamThread) -> Result<bool> {
    let order = &shared.context.plan.order;
    let (group, ended) = match shared.bounded().as_ref() {
        None => return Ok(false),
        Some(bounded) => match order.get(bounded.group) {
            None => return Ok(true),
            Some(group) if bounded.round == *round && group.iter().all(|s| thread.has_consumed(*s, &bounded.ends)) => {
                (group, bounded.ended)
            }
            Some(_) => return Ok(false),
        },
    };
    if !thread.commit_now(shared.clock.now())? {
        return Ok(false);
    }
    if ended {
        group.iter().try_for_each(|s| thread.end_input(*s))?;
        if !thread.commit_now(shared.clock.now())? {
            return Ok(false);
        }
    }
    *round += 1;
    let mut bounded = shared.bounded();
    let Some(bounded) = bounded.as_mut() else { return Ok(false) };
    bounded.left -= 1;
    if bounded.left == 0 {
        bounded.left = shared.wakeups.len();
        bounded.round += 1;
        let ends = group_ends(&shared.context, bounded.group)?;
        if ends == bounded.ends {
            bounded.group += usize::from(bounded.ended);
            bounded.ended = !bounded.ended;
        }
        bounded.ends = group_ends(&shared.context, bounded.group)?;
    }
    Ok(bounded.group >= order.len())
}

/// The end offsets of the input partitions of a group of sub-topologies.
fn group_ends(context: &ThreadContext, group: usize) -> Result<HashMap<TopicPartition, Offset>> {
    let Some(group) = context.plan.order.get(group) else { return Ok(HashMap::new()) };
    let tasks = context.plan.tasks.iter().filter(|t| group.contains(&t.id.sub_topology));
    let inputs = tasks.flat_map(|t| &t.inputs);
    inputs.map(|(p, _)| Ok((p.clone(), context.log.admin().end_offset(p, Isolation::ReadCommitted)?))).collect()
}
