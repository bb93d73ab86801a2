//! A program whose one thread is stepped by hand, on an embedded log in memory that some call of fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::{
    Admin, BatchBuilder, Clock, CommitOutcome, CommittedOffset, Consumer, ConsumerOptions, Fetch, GroupOffsets,
    Isolation, Log, LogError, Next, Offset, Plan, Producer, ProducerOptions, Result, RuntimeConfig, StateDisk,
    StreamThread, ThreadContext, Timestamp, TopicPartition, TopicSpec, Topology, Wakeup,
};

use crate::embedded::Embedded;

/// Which calls of a log fail: so many, from a number on.
#[derive(Debug, Clone, Copy)]
pub struct Failing {
    /// The first; calls are counted from 0.
    pub from: u64,
    /// How many.
    pub times: u64,
    /// Whether the same call may succeed later.
    pub retriable: bool,
    /// Whether a commit among them is done all the same: its outcome is unknown either way.
    pub done: bool,
}

/// A log, some calls of which fail. Fetches bring one batch at a time.
#[derive(Clone)]
pub struct FailingCalls {
    log: Arc<dyn Log>,
    calls: Arc<AtomicU64>,
    failing: Arc<Mutex<Option<Failing>>>,
    holds_answers: Arc<AtomicBool>,
}

impl FailingCalls {
    /// Around a log; no call fails.
    pub fn new(log: Arc<dyn Log>) -> Self {
        FailingCalls { log, calls: Arc::default(), failing: Arc::default(), holds_answers: Arc::default() }
    }

    /// Counts from now on, and lets calls fail.
    pub fn fail(&self, failing: Option<Failing>) {
        self.calls.store(0, Ordering::Relaxed);
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }

    /// Tells nobody how commits end, or tells it.
    pub fn hold_answers(&self, holds: bool) {
        self.holds_answers.store(holds, Ordering::Relaxed);
    }

    /// Calls since the last [`FailingCalls::fail`].
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<Failing> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let failing = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.filter(|f| (f.from..f.from + f.times).contains(&number))
    }

    fn call(&self) -> Result<(), LogError> {
        self.failure().map_or(Ok(()), |failing| Err(told_to_fail(failing.retriable)))
    }
}

fn told_to_fail(retriable: bool) -> LogError {
    LogError::Other { message: "a call that was told to fail".into(), retriable }
}

impl Log for FailingCalls {
    fn admin(&self) -> &dyn Admin {
        self
    }

    fn consumer(&self, options: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        let consumer = self.log.consumer(options, wakeup)?;
        Ok(Box::new(FailingConsumer { consumer, calls: self.clone() }))
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        // It is made whether there is an answer or not.
        let producer = self.log.producer(options, wakeup)?;
        self.call()?;
        Ok(Box::new(FailingProducer { producer, calls: self.clone(), unknown: false }))
    }

    fn is_embedded(&self) -> bool {
        self.log.is_embedded()
    }
}

impl Admin for FailingCalls {
    fn topics(&self) -> Result<Vec<String>, LogError> {
        self.log.admin().topics()
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, LogError> {
        self.log.admin().partitions(topic)
    }

    fn topic_id(&self, topic: &str) -> Result<Option<u128>, LogError> {
        self.call()?;
        self.log.admin().topic_id(topic)
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.log.admin().create_topic(spec)
    }

    fn topic_configs(&self, topic: &str) -> Result<BTreeMap<String, String>, LogError> {
        self.call()?;
        self.log.admin().topic_configs(topic)
    }

    fn max_message_bytes(&self, topic: &str) -> Result<Option<usize>, LogError> {
        self.call()?;
        self.log.admin().max_message_bytes(topic)
    }

    fn alter_configs(&self, topic: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        self.log.admin().alter_configs(topic, configs)
    }

    fn start_offset(&self, partition: &TopicPartition) -> Result<Offset, LogError> {
        self.call()?;
        self.log.admin().start_offset(partition)
    }

    fn end_offset(&self, partition: &TopicPartition, isolation: Isolation) -> Result<Offset, LogError> {
        self.call()?;
        self.log.admin().end_offset(partition, isolation)
    }

    fn offset_for_time(&self, partition: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        self.call()?;
        self.log.admin().offset_for_time(partition, time)
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        self.call()?;
        self.log.admin().committed(group, partitions)
    }

    fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        self.log.admin().delete_records(partition, before)
    }
}

struct FailingConsumer {
    consumer: Box<dyn Consumer>,
    calls: FailingCalls,
}

impl Consumer for FailingConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        self.calls.call()?;
        self.consumer.assign(partitions)
    }

    fn seek(&mut self, slot: usize, offset: Offset) {
        self.consumer.seek(slot, offset);
    }

    fn fetch(&mut self, slot: usize, _max_bytes: usize) -> Result<Fetch, LogError> {
        self.calls.call()?;
        self.consumer.fetch(slot, 1)
    }
}

struct FailingProducer {
    producer: Box<dyn Producer>,
    calls: FailingCalls,
    unknown: bool,
}

impl Producer for FailingProducer {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.calls.call()?;
        self.producer.send(to, batch)
    }

    fn has_room(&self) -> bool {
        self.producer.has_room()
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        let failure = self.calls.failure();
        self.unknown = failure.is_some();
        if failure.is_none_or(|failing| failing.done) {
            self.producer.commit(offsets);
        }
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
        if self.calls.holds_answers.load(Ordering::Relaxed) {
            return None;
        }
        if std::mem::take(&mut self.unknown) {
            return Some(CommitOutcome::Unknown(told_to_fail(true)));
        }
        self.producer.poll_commit()
    }

    fn last_commit(&self) -> u64 {
        self.producer.last_commit()
    }

    fn is_kept(&self, commit: u64) -> Result<bool, LogError> {
        self.producer.is_kept(commit)
    }

    fn keep(&self, commit: u64) -> Result<(), LogError> {
        self.producer.keep(commit)
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.calls.call()?;
        self.producer.abort()
    }
}

/// A program on an embedded log.
pub struct ByHand {
    /// The log and the clock.
    pub embedded: Embedded,
    /// The log as the program sees it.
    pub calls: FailingCalls,
    /// Whether every step is followed by a commit, as the last of a bounded run is.
    pub commits_each_step: bool,
    shared: ThreadContext,
    thread: Option<StreamThread>,
}

impl ByHand {
    /// The program, its topics and its thread, which has done nothing yet.
    ///
    /// # Errors
    /// When the topology does not fit the log.
    pub fn new(embedded: Embedded, topology: Topology, config: RuntimeConfig) -> Result<Self> {
        let calls = FailingCalls::new(Arc::new(embedded.log.clone()));
        let plan = Plan::new(&topology, &config, calls.admin())?;
        plan.create_topics(calls.admin())?;
        let shared = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log: Arc::new(calls.clone()),
            process_id: "by-hand".into(),
        };
        Ok(ByHand { embedded, calls, commits_each_step: false, shared, thread: None })
    }

    /// A thread for all tasks, beside the one that there is.
    ///
    /// # Errors
    /// When the log gives no producer.
    pub fn another_thread(&self) -> Result<StreamThread> {
        self.thread_of(self.shared.clone())
    }

    /// As [`ByHand::another_thread`], with state on a disk of its own, as on another machine.
    ///
    /// # Errors
    /// When the log gives no producer.
    pub fn thread_on(&self, disk: Arc<dyn StateDisk>) -> Result<StreamThread> {
        let config = Arc::new(RuntimeConfig { disk: Some(disk), ..(*self.shared.config).clone() });
        self.thread_of(ThreadContext { config, ..self.shared.clone() })
    }

    fn thread_of(&self, shared: ThreadContext) -> Result<StreamThread> {
        let all: Vec<usize> = (0..shared.plan.tasks.len()).collect();
        StreamThread::new(shared, "thread".into(), &all, Arc::default(), self.embedded.clock.now())
    }

    /// The thread, which is made if there is none.
    ///
    /// # Errors
    /// When the log gives no producer.
    pub fn thread(&mut self) -> Result<&mut StreamThread> {
        if self.thread.is_none() {
            self.thread = Some(self.another_thread()?);
        }
        self.thread.as_mut().ok_or_else(|| millstream_core::Error::user("no thread"))
    }

    /// Drops the thread, as a process does that is killed.
    pub fn kill(&mut self) {
        self.thread = None;
    }

    /// Ends the thread in order.
    ///
    /// # Errors
    /// When its last commit fails.
    pub fn close(&mut self) -> Result<()> {
        let now = self.embedded.clock.now();
        self.thread.take().map_or(Ok(()), |mut thread| thread.close(now))
    }

    /// One step, after which the clock moves if there is nothing to do: `false`. A thread that fails is replaced.
    ///
    /// # Errors
    /// An error that no fault explains.
    pub fn step(&mut self) -> Result<bool> {
        let (now, commits) = (self.embedded.clock.now(), self.commits_each_step);
        let step = |thread: &mut StreamThread| {
            let next = thread.step(now)?;
            if commits {
                thread.commit_now(now)?;
            }
            Ok(next)
        };
        match self.thread().and_then(step) {
            Ok(Next::Again) => {}
            Ok(Next::Wait(_)) => {
                self.embedded.clock.advance(Duration::from_millis(120));
                return Ok(false);
            }
            Err(error) if error.to_string().contains("told to fail") => self.kill(),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Steps until everything is processed and committed. Returns after how many of the steps the thread was held up.
    ///
    /// # Errors
    /// As [`ByHand::step`], and when that takes too long.
    pub fn run(&mut self) -> Result<usize> {
        let (mut idle, mut held_up) = (0, 0);
        for _ in 0..2_000 {
            let is_busy = self.step()?;
            held_up += usize::from(self.thread.as_ref().is_some_and(|t| t.held_up().is_some()));
            let thread = self.thread.as_ref().filter(|t| t.is_running() && !t.needs_commit() && t.held_up().is_none());
            idle = if thread.is_some() && !is_busy { idle + 1 } else { 0 };
            if idle > 5 {
                return Ok(held_up);
            }
        }
        Err(millstream_core::Error::user("it does not come to an end"))
    }
}
