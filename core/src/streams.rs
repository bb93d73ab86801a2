//! A running application: its stream threads on real threads, their common state, and how they end.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client_state::State;
use crate::config::RuntimeConfig;
use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::plan::Plan;
use crate::query::{Ask, Part};
use crate::query_error::QueryError;
use crate::query_stores::QueryStores;
use crate::rebalance::Generation;
use crate::restore_listener::StateRestoreListener;
use crate::stream_threads::{Shared, drive};
use crate::thread_context::ThreadContext;
use crate::time::Clock;
use crate::topology::Topology;
use crate::topology_topic::Changes;
use crate::uncaught::Uncaught;

/// An application.
pub struct Streams {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Streams {
    /// Fits a topology to a log and creates the topics that are missing; nothing runs yet.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Build`] with every problem at once, before any topic is created; the latter also when the
    /// application's state was left by a program that this one does not fit.
    pub fn new(topology: Topology, config: RuntimeConfig, log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Result<Self> {
        if let Some(store) = topology.wants_disk().filter(|_| config.disk.is_none()) {
            return Err(Error::Build(Box::new(vec![format!(
                "store `{}` is to be on disk, and the application has none\n  help: the feature `rocksdb` where `run` starts it; else RuntimeConfig::disk",
                store.name
            )])));
        }
        let mut plan = Plan::new(&topology, &config, log.admin())?;
        let changes = Changes::find(&topology, &plan, &config, log.as_ref())?;
        plan.known_inputs.clone_from(&changes.known_inputs);
        plan.create_topics(log.admin())?;
        changes.write(log.as_ref(), clock.now().wall)?;
        let threads = config.threads.clamp(1, plan.tasks.len().max(1));
        let context = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log,
            process_id: "embedded".to_owned(),
        };
        let shared = Shared::new(Generation::new(1, context, threads), clock);
        Ok(Streams { shared: Arc::new(shared), threads: Vec::new() })
    }

    /// Calls `listener` with the old and the new state at every change, on the thread that brings it about and in
    /// order. It replaces an earlier one.
    pub fn on_state_change(&mut self, listener: impl Fn(State, State) + Send + Sync + 'static) {
        *self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
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
    /// When it was started or closed before; or when the operating system gives no thread: those that it gave end then.
    pub fn start(&mut self) -> Result<()> {
        // A thread that is replaced takes the same arrow while the application runs.
        if !self.threads.is_empty() || !self.shared.change(State::Rebalancing) {
            return Err(Error::user(format!(
                "the application is {:?}: it starts once\n  help: make another Streams",
                self.state()
            )));
        }
        let generation = self.shared.rebalance.generation();
        for number in 0..generation.members.len() {
            if let Err(error) = self.spawn(number, false) {
                let error = || {
                    Error::user(format!(
                        "no stream thread {}: {error}\n  help: a lower num.stream.threads, or a higher limit of the system's",
                        number + 1
                    ))
                };
                let missing = &generation.members[number..];
                // Nobody would answer.
                missing.iter().for_each(|member| member.mailbox.close());
                self.shared.fail(error());
                self.shared.leave(missing.len());
                return Err(error());
            }
        }
        Ok(())
    }

    fn spawn(&mut self, number: usize, is_new: bool) -> io::Result<String> {
        let shared = self.shared.clone();
        let name = thread_name(&self.context(), number);
        let (thread, own) = (std::thread::Builder::new().name(name.clone()), name.clone());
        self.threads.push(thread.spawn(move || drive(&shared, number, &own, is_new))?);
        Ok(name)
    }

    /// Adds a stream thread (KIP-663) and returns its name. The tasks are divided anew: every thread commits and lets go of
    /// its own first, and what is in memory is restored from the changelogs. Returns before that is done: the application is
    /// `Rebalancing` until all run.
    ///
    /// # Errors
    /// When the application does not run, or is to end with its input; or when the operating system gives no thread.
    pub fn add_stream_thread(&mut self) -> Result<String> {
        let (threads, comes) = self.rebalance("a thread is added to", |threads| Some(threads + 1))?;
        if !comes {
            return Ok(thread_name(&self.context(), threads - 1));
        }
        self.spawn(threads - 1, true).map_err(|error| {
            // The one that was counted does not come.
            self.shared.rebalance.ask(|threads| Some(threads - 1));
            self.shared.leave(1);
            self.shared.rebalance.give_up();
            self.shared.rest();
            Error::user(format!("no further stream thread: {error}\n  help: a higher limit of the system's"))
        })
    }

    /// Removes the stream thread that was added last (KIP-663) and returns its name. The tasks are divided anew, as by
    /// [`Streams::add_stream_thread`]. Without any thread the application is still `Running`: it processes nothing and answers no
    /// query until one is added.
    ///
    /// # Errors
    /// When the application does not run, or is to end with its input; or when it has no thread.
    pub fn remove_stream_thread(&mut self) -> Result<String> {
        let (left, _) = self.rebalance("a thread is removed from", |threads| threads.checked_sub(1))?;
        Ok(thread_name(&self.context(), left))
    }

    /// Asks for as many threads as `threads` makes of those that there are, `None` for too few. Returns their number, and
    /// whether one has to come.
    fn rebalance(&self, what: &str, threads: impl FnOnce(usize) -> Option<usize>) -> Result<(usize, bool)> {
        let (shared, state) = (&self.shared, self.state());
        if !matches!(state, State::Rebalancing | State::Running) || shared.is_stopped() {
            return Err(Error::user(format!(
                "{what} an application that is {state:?}\n  help: while it runs; before, set num.stream.threads"
            )));
        }
        let threads = |now| if shared.bounded.is_asked_for() { None } else { threads(now) };
        let Some(asked) = shared.ask(threads) else {
            return Err(Error::user(if shared.bounded.is_asked_for() {
                format!("{what} an application that ends with its input\n  help: before drain() or run_to_end()")
            } else {
                format!("{what} an application that has none\n  help: add_stream_thread() adds one, close() ends it")
            }));
        };
        Ok(asked)
    }

    /// Lets all threads rest (KIP-834): what is processed is committed, nothing more is taken for processing, and no timer fires,
    /// until [`Streams::resume`]. Queries are answered, global tables are kept up to date, the state stays what it is. May be
    /// called before the start. Returns at once; a thread in the middle of a poll ends it first.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
        self.shared.rebalance.wake();
    }

    /// Lets the threads go on after [`Streams::pause`]. A timer by the wall clock that was due meanwhile fires once.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
        self.shared.rebalance.wake();
    }

    /// Whether it was paused, and not resumed.
    pub fn is_paused(&self) -> bool {
        self.shared.paused.load(Ordering::Relaxed)
    }

    /// Removes the state on disk, if there is any. The changelogs have it too: the next start restores it from there.
    ///
    /// # Errors
    /// While the application runs, in this process or in another.
    pub fn clean_up(&self) -> Result<()> {
        let state = self.state();
        if !matches!(state, State::Created | State::NotRunning | State::Error) {
            return Err(Error::user(format!(
                "the application is {state:?}: its state is in use\n  help: clean_up() before start() or behind close()"
            )));
        }
        let context = self.context();
        context.config.disks(context.topology.places()).into_iter().try_for_each(|disk| disk.clean_up())
    }

    /// Starts the threads and runs until everything that is in the input topics now, and what comes of it, has been
    /// processed: windows close, all is committed, and the threads end. A program whose records come back to it for ever has no end, and
    /// neither has one with a timer of the wall clock that passes something on in every round, which takes some milliseconds.
    ///
    /// # Errors
    /// The error that stopped a thread, or that it is paused: nobody could let it go on.
    pub fn run_to_end(mut self) -> Result<Counters> {
        if self.is_paused() {
            return Err(Error::user(
                "a paused application does not come to the end of its input\n  help: resume() before run_to_end()",
            ));
        }
        self.start()?;
        self.drain()?;
        self.join()
    }

    /// Lets a started application end with its input, as [`Streams::run_to_end`] does: what is in the input topics now, and what comes of
    /// it, is the last that must be processed.
    ///
    /// # Errors
    /// When the log cannot say where the topics end, or when there is no thread.
    pub fn drain(&self) -> Result<()> {
        let begin = |generation: &Generation| {
            if generation.members.is_empty() {
                return Err(Error::user(
                    "an application without threads cannot process what is there\n  help: add_stream_thread() before drain()",
                ));
            }
            let begun = self.shared.bounded.begin(&generation.context, generation.members.len());
            generation.wake();
            begun
        };
        self.shared.rebalance.while_settled(|| self.shared.is_stopped(), begin).unwrap_or(Ok(()))
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
        self.shared.rebalance.rest(|| self.shared.is_stopped());
        self.shared.rest();
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
        self.shared.stop();
        if self.state() == State::Created {
            // No thread will answer.
            self.shared.rebalance.generation().members.iter().for_each(|member| member.mailbox.close());
            self.shared.end();
        }
        self.join()
    }

    /// Something to stop the application with from elsewhere, a signal handler say.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Something to ask its stores through, from any thread but the application's own: in a processor, a closure of the program or a
    /// listener of the application, a query is [`QueryError::OwnThread`]. These must not wait for a query of another thread either.
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

    /// The topics, tasks and settings of this run, as they are now.
    pub fn context(&self) -> ThreadContext {
        self.shared.rebalance.generation().context.clone()
    }
}

fn thread_name(context: &ThreadContext, number: usize) -> String {
    format!("{}-StreamThread-{}", context.config.application_id, number + 1)
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.stop();
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
        self.0.stop();
    }
}

/// Asks the stores of an application. The DSL's typed queries go through it.
#[derive(Clone)]
pub struct Queries(Arc<Shared>);

impl QueryStores for Queries {
    fn context(&self) -> Cow<'_, ThreadContext> {
        Cow::Owned(self.0.rebalance.generation().context.clone())
    }

    fn ask(&self, ask: Ask, wait: Duration) -> Result<Part, QueryError> {
        let shared = &self.0;
        if shared.own_threads.is_one() {
            return Err(QueryError::OwnThread);
        }
        let state = || shared.progress().state;
        loop {
            if let not_running @ (State::Created | State::NotRunning | State::Error) = state() {
                return Err(QueryError::NotRunning(not_running));
            }
            let generation = shared.rebalance.generation();
            // Every thread has the global stores: they are asked for as partition 0.
            let number = Plan::thread_for(ask.partition, generation.members.len());
            let Some(member) = generation.members.get(number) else {
                // There is no thread: one may be added.
                if shared.rebalance.wait_for_next(&generation, wait, || shared.is_stopped()) {
                    continue;
                }
                return Err(QueryError::Restoring);
            };
            match member.mailbox.ask(ask.clone(), wait, &member.wakeup) {
                // Its tasks are on their way to another thread.
                Err(QueryError::Stopped) if shared.rebalance.is_over(&generation) && !shared.is_stopped() => {
                    if !shared.rebalance.wait_for_next(&generation, wait, || shared.is_stopped()) {
                        return Err(QueryError::Restoring);
                    }
                }
                Err(QueryError::Stopped) => {
                    return Err(match state() {
                        State::Created | State::Rebalancing | State::Running => QueryError::Stopped,
                        ended => QueryError::NotRunning(ended),
                    });
                }
                answer => return answer,
            }
        }
    }
}
