//! A simulated process: a broker and instances of the application, whose threads are stepped one at a time.

use std::path::Path;
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin, Clock, Error, Log, ManualClock, Next, Plan, ProducerOptions, Result, SimFiles, StateDisk, StreamThread,
    ThreadContext, TopicPartition, TopicSpec, Wakeup,
};
use millstream_dsl::StreamsBuilder;

use super::dice::Dice;
use super::network::{Network, Weather};
use super::plot::Plot;
use super::sim_disk::SimDisk;
use super::trace::Trace;
use super::traced_files::TracedFiles;
use crate::golden;

/// The broker and what runs on it.
pub(super) struct Process {
    pub(super) files: TracedFiles,
    pub(super) broker: Broker,
    pub(super) network: Network,
    pub(super) plan: Arc<Plan>,
    /// The instance that owns the tasks.
    pub(super) active: Instance,
    /// One that has been replaced and does not know.
    pub(super) zombie: Option<Instance>,
}

/// Threads of the application on one machine.
pub(super) struct Instance {
    context: ThreadContext,
    network: Network,
    /// Index of the disk for state.
    pub(super) machine: usize,
    threads: Vec<Slot>,
}

/// A thread's place.
struct Slot {
    name: String,
    tasks: Vec<usize>,
    wakeup: Arc<Wakeup>,
    /// `None` before it is made, and after it has failed.
    thread: Option<StreamThread>,
}

/// What a process is opened with.
pub(super) struct Surroundings<'a> {
    pub(super) plot: &'a Plot,
    pub(super) dice: &'a Dice,
    pub(super) trace: &'a Trace,
    pub(super) clock: &'a Arc<ManualClock>,
    pub(super) disks: &'a [SimDisk],
    pub(super) weather: Weather,
}

impl Process {
    /// Opens the data directory and starts an instance.
    pub(super) fn open(disk: &SimFiles, machine: usize, around: &Surroundings<'_>) -> Result<Self> {
        let Surroundings { plot, dice, trace, clock, .. } = around;
        let files = TracedFiles::new(disk.clone(), (*trace).clone());
        let broker = Broker::open(BrokerOptions {
            files: Arc::new(files.clone()),
            durability: plot.durability,
            threads: false,
            checkpoint_bytes: plot.checkpoint_bytes,
            segment_bytes: plot.segment_bytes,
            tail_bytes: plot.tail_bytes,
            retention_ms: None,
            ..BrokerOptions::new(Path::new("/data"), (*clock).clone())
        })?;
        for topic in plot.entry.topics.iter().chain(&["out"]) {
            if broker.partitions(topic)?.is_none() {
                let (name, partitions) = ((*topic).to_owned(), plot.partitions);
                broker.create_topic(&TopicSpec { name, partitions, configs: Default::default() })?;
            }
        }
        let network = Network::new(broker.clone(), dice.fork(), (*trace).clone(), around.weather);
        let (active, plan) = Instance::new(&network, machine, around)?;
        Ok(Process { files, broker, network, plan, active, zombie: None })
    }

    /// Another instance takes over, on another machine; the old one does not know.
    pub(super) fn take_over(&mut self, machine: usize, around: &Surroundings<'_>) -> Result<()> {
        let (next, _) = Instance::new(&self.network, machine, around)?;
        let old = std::mem::replace(&mut self.active, next);
        old.network.retire();
        self.zombie = Some(old);
        Ok(())
    }

    /// Whether the broker still takes anything.
    pub(super) fn is_alive(&self) -> bool {
        self.broker.producer(&ProducerOptions::plain("asks"), Arc::default()).is_ok()
    }
}

impl Instance {
    fn new(network: &Network, machine: usize, around: &Surroundings<'_>) -> Result<(Self, Arc<Plan>)> {
        let Surroundings { plot, dice, disks, .. } = around;
        let network = network.join();
        let b = StreamsBuilder::new();
        for topic in plot.entry.topics.iter().chain(&["out"]) {
            b.topic(topic, plot.partitions);
        }
        let topology = golden::build(&b, plot.entry.name, &plot.params)?;
        let mut config = plot.config(dice);
        config.disk = plot.disk.map(|_| Arc::new(disks[machine].clone()) as Arc<dyn StateDisk>);
        let plan = Arc::new(Plan::new(&topology, &config, network.admin())?);
        plan.create_topics(network.admin())?;
        let context = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: plan.clone(),
            config: Arc::new(config),
            log: Arc::new(network.clone()),
            process_id: "simulated".into(),
        };
        let threads = plan.assign(plot.threads.min(plan.tasks.len())).into_iter().enumerate();
        let threads = threads.map(|(number, tasks)| Slot {
            name: format!("thread-{number}"),
            tasks,
            wakeup: Arc::default(),
            thread: None,
        });
        Ok((Instance { context, network, machine, threads: threads.collect() }, plan))
    }

    /// How many threads there are.
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Steps a thread, which is made if there is none.
    pub(super) fn step(&mut self, number: usize, clock: &ManualClock) -> Result<Next> {
        let slot = &mut self.threads[number];
        let thread = match &mut slot.thread {
            Some(thread) => thread,
            none => none.insert(StreamThread::new(
                self.context.clone(),
                slot.name.clone(),
                &slot.tasks,
                slot.wakeup.clone(),
                clock.now(),
            )?),
        };
        thread.step(clock.now())
    }

    /// Whether a thread is there.
    pub(super) fn has_thread(&self, number: usize) -> bool {
        self.threads[number].thread.is_some()
    }

    /// Whether a thread has nothing left to do.
    pub(super) fn is_idle(&self, number: usize) -> bool {
        let thread = self.threads[number].thread.as_ref();
        thread.is_some_and(|thread| thread.is_running() && !thread.needs_commit() && thread.held_up().is_none())
    }

    /// Drops a thread, as after a failure.
    pub(super) fn drop_thread(&mut self, number: usize) {
        self.threads[number].thread = None;
    }

    /// Ends all threads in order.
    pub(super) fn close(&mut self, clock: &ManualClock) -> Result<()> {
        let mut threads = self.threads.iter_mut().filter_map(|slot| slot.thread.take());
        threads.try_for_each(|mut thread| thread.close(clock.now()))
    }
}

/// The input partitions of all tasks.
pub(super) fn inputs(plan: &Plan) -> Vec<TopicPartition> {
    plan.tasks.iter().flat_map(|task| task.inputs.iter().map(|(partition, _)| partition.clone())).collect()
}

/// Whether an error may come of faults that are there, and of nothing else.
pub(super) fn is_to_be_expected(error: &Error) -> bool {
    use millstream_core::LogError;
    match error {
        Error::Log(error) => {
            matches!(**error, LogError::Full { .. } | LogError::Io { .. } | LogError::Other { .. })
        }
        Error::Damaged(_) | Error::NoSpace(_) => true,
        Error::State(error) => error.problem == "cannot be written",
        _ => false,
    }
}
