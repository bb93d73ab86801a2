//! A stream thread: a set of tasks, one reader, one writer, and one step function that never blocks.
//!
//! ```text
//!            ┌─────────────────────────────── step ───────────────────────────────┐
//!   settle the commit ─► restore ─► fetch ─► globals ─► process ─► send ─► punctuate ─► commit, if due
//! ```
//!
//! The commit is a state: `Idle`, or `UnderWay` from the hand-over to the log until its outcome. Meanwhile records are
//! processed, but nothing is sent. The order within a commit is written in [`StreamThread::begin_commit`] and nowhere else.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::alignment::{Head, TimeAlignment};
use crate::collector::Collector;
use crate::config::{ProcessingGuarantee, RuntimeConfig};
use crate::counters::Counters;
use crate::disk_stores::DiskStores;
use crate::error::{Error, Result};
use crate::exception_handler::Handlers;
use crate::input::Input;
use crate::log::{
    CommitOutcome, CommittedOffset, Consumer, ConsumerOptions, GroupOffsets, Isolation, Log, LogError, Offset,
    Producer, ProducerOptions, TopicPartition,
};
use crate::mailbox::{Letter, Mailbox};
use crate::offset_metadata::OffsetMetadata;
use crate::offset_reset::OffsetReset;
use crate::plan::Plan;
use crate::punctuation::PunctuationType;
use crate::query::{Ask, Part, QueryError};
use crate::restore::{Progress, Restore};
use crate::restore_listener::StateRestoreListener;
use crate::store::StoreInstance;
use crate::task::{Ready, Task, TaskId};
use crate::time::{Clock, Now, Timestamp};
use crate::topology::{StoreId, TopicName, Topology};
use crate::wakeup::Wakeup;

/// `repartition.purge.interval.ms`.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// What a driver does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Step again: there is more to do.
    Again,
    /// Wait until woken, at most until the clock's ticks show this; `None` is until woken.
    Wait(Option<Duration>),
}

/// What a stream thread shares with the process around it.
#[derive(Clone)]
pub struct ThreadContext {
    /// The program.
    pub topology: Arc<Topology>,
    /// Its tasks and topics.
    pub plan: Arc<Plan>,
    /// Settings.
    pub config: Arc<RuntimeConfig>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Event-time drift between tasks.
    pub alignment: TimeAlignment,
    /// Names this process among those of the application; part of transactional ids.
    pub process_id: String,
}

/// `transaction.timeout.ms` of Kafka Streams' producers, and the most that a log allows unless it is told otherwise.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_TRANSACTION: Duration = Duration::from_secs(15 * 60);

/// How long a thread waits after an error that may pass, such as a full disk.
const RETRY_BACKOFF: Duration = Duration::from_millis(500);

/// How long queries may keep a thread from its records, between two polls.
const TURN: Duration = Duration::from_millis(1);

/// The same in rows.
const TURN_ROWS: usize = 1_000;

/// How soon a restore that waits for the disk looks at it again.
const LOOK_AT_DISK: Duration = Duration::from_millis(1);

/// How soon a silence that others have to prove is looked for again.
const LOOK_FOR_SILENCE: Duration = Duration::from_millis(100);

/// The commit that is under way, if any, with its positions.
enum Commit {
    Idle,
    UnderWay(Vec<(TopicPartition, CommittedOffset)>),
    /// It may have been done or not: the log has to be asked.
    Unknown(Vec<(TopicPartition, CommittedOffset)>),
}

/// A thread's work. The driver around it owns the real thread, or a test steps it by hand.
pub struct StreamThread {
    shared: ThreadContext,
    name: String,
    tasks: Vec<Task>,
    /// Index in the plan of every task, for the alignment.
    planned: Vec<usize>,
    /// Task and input of every slot of the consumer.
    slots: Vec<(usize, usize)>,
    globals: Option<(Task, Box<dyn Consumer>)>,
    global_stores: Rc<HashMap<StoreId, StoreInstance>>,
    restore: Option<Restore>,
    restore_listener: Option<Arc<dyn StateRestoreListener>>,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    wakeup: Arc<Wakeup>,
    commit: Commit,
    last_commit: Duration,
    last_purge: Duration,
    /// Event time of the first record since the last commit.
    uncommitted_since: Option<Timestamp>,
    /// The unit of work spans as much event time as it may.
    span_is_full: bool,
    /// Event time of the first record since batches were last handed over.
    unsent_since: Option<Timestamp>,
    /// The tasks are started: restored, positioned, built.
    running: bool,
    /// A step has failed, and the rollback after it has not been done yet.
    broken: bool,
    /// Nothing is taken for processing.
    paused: bool,
    /// State was found damaged, and nothing was committed since.
    rebuilt: bool,
    /// The producer has failed to end its transaction, and a new one has been asked for: that may have fenced this one even
    /// if there was no answer.
    spent: bool,
    /// Another thread has taken over: this one asks the log for nothing any more.
    fenced: Option<LogError>,
    held_up: Option<Error>,
    /// Queries that wait for their turn, or for a task to come as far as they want.
    letters: Vec<Letter>,
}

impl StreamThread {
    /// A thread for some of the plan's tasks. Nothing is processed before the first [`StreamThread::step`].
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn new(shared: ThreadContext, name: String, tasks: &[usize], wakeup: Arc<Wakeup>, now: Now) -> Result<Self> {
        let consumer = shared.log.consumer(&consumer_options(&shared, &name), wakeup.clone())?;
        let producer = shared.log.producer(&producer_options(&shared, &name), wakeup.clone())?;
        let mut globals = None;
        let mut global_stores = HashMap::new();
        if !shared.plan.globals.sources.is_empty() {
            let task = Task::new(
                &shared.plan.globals,
                shared.topology.clone(),
                shared.config.application_id.clone(),
                collector(&shared),
                Rc::default(),
            );
            global_stores = task.stores.iter().map(|(id, store, _)| (*id, store.clone())).collect();
            globals = Some((
                task,
                shared.log.consumer(&consumer_options(&shared, &format!("{name}-global")), wakeup.clone())?,
            ));
        }
        let global_stores = Rc::new(global_stores);
        shared.alignment.register(&wakeup);
        let planned = tasks.to_vec();
        let tasks = new_tasks(&shared, &planned, &global_stores);
        let slots =
            tasks.iter().enumerate().flat_map(|(t, task)| (0..task.inputs.len()).map(move |i| (t, i))).collect();
        Ok(StreamThread {
            shared,
            name,
            tasks,
            planned,
            slots,
            globals,
            global_stores,
            restore: None,
            restore_listener: None,
            consumer,
            producer,
            wakeup,
            commit: Commit::Idle,
            last_commit: now.ticks,
            last_purge: now.ticks,
            uncommitted_since: None,
            span_is_full: false,
            unsent_since: None,
            running: false,
            broken: false,
            paused: false,
            rebuilt: false,
            spent: false,
            fenced: None,
            held_up: None,
            letters: Vec::new(),
        })
    }

    /// Does what can be done now, about `max.poll.records` records at most, and says when to come back.
    ///
    /// # Errors
    /// An error that no handler took. The tasks have been rolled back to their last commit; the thread may be dropped,
    /// or stepped again to try once more. A thread that was told that another has taken over
    /// ([`Error::is_task_migrated`]) is to be dropped: every later step says the same.
    pub fn step(&mut self, now: Now) -> Result<Next> {
        match self.try_step(now) {
            Ok(next) => {
                self.held_up = None;
                Ok(next)
            }
            Err(error) => self.recover(error, now),
        }
    }

    /// Rolls back to the last commit after an error, and says how to go on.
    ///
    /// # Errors
    /// The error, if it neither passes by itself nor can be mended here.
    pub(crate) fn recover(&mut self, error: Error, now: Now) -> Result<Next> {
        self.broken = true;
        // The first error is the one to report, unless the rollback says that another has taken over; one that
        // fails for another reason is tried again by the next step.
        let second = if error.is_task_migrated() { None } else { self.mend(now.wall).err() };
        let error = second.filter(Error::is_task_migrated).unwrap_or(error);
        if let Error::Log(fenced) = &error
            && fenced.is_task_migrated()
        {
            self.fenced = Some((**fenced).clone());
        }
        if matches!(error, Error::Panicked(_)) && self.tasks.iter_mut().any(Task::goes_on) {
            return Ok(Next::Again);
        }
        if matches!(error, Error::Damaged(_)) && !std::mem::replace(&mut self.rebuilt, true) {
            self.rebuild();
            return Ok(Next::Again);
        }
        if matches!(error, Error::NoSpace(_)) {
            self.rebuild();
        }
        if error.is_retriable() {
            self.held_up = Some(error);
            return Ok(Next::Wait(Some(now.ticks + RETRY_BACKOFF)));
        }
        Err(error)
    }

    /// Starts the tasks anew. What is damaged on disk was marked, and is emptied when it is opened again; a disk that has
    /// failed takes nothing more before that.
    fn rebuild(&mut self) {
        // Before new ones open the same folders.
        self.tasks.clear();
        self.tasks = new_tasks(&self.shared, &self.planned, &self.global_stores);
        (self.running, self.restore) = (false, None);
    }

    /// Lets later steps process nothing, and fire no timer, or lets them go on. What is processed is committed all the same.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// The error that holds the thread up and may pass by itself; it is back at its last commit and tries again.
    pub fn held_up(&self) -> Option<&Error> {
        self.held_up.as_ref()
    }

    fn try_step(&mut self, now: Now) -> Result<Next> {
        if let Some(fenced) = &self.fenced {
            return Err(fenced.clone().into());
        }
        self.mend(now.wall)?;
        if !self.settle(now)? {
            return Ok(Next::Again);
        }
        if !self.running {
            match self.start(now)? {
                Progress::Done => {}
                Progress::Reading => return Ok(Next::Again),
                Progress::Waiting => return Ok(Next::Wait(Some(now.ticks + LOOK_AT_DISK))),
            }
        }
        self.exchange_with_disk(now)?;
        if self.paused {
            // Its batches are with the log, or leave with the commit.
            self.read_globals(now.wall)?;
            self.send()?;
            self.commit_if_due(now)?;
            let is_committed = !self.tasks.iter().any(Task::needs_commit);
            return Ok(Next::Wait(
                (!is_committed).then_some(self.last_commit.saturating_add(self.shared.config.commit_interval)),
            ));
        }
        let position = self.shared.alignment.position();
        let fetched = self.fetch(now.wall)?;
        // After the fetch: a row that was written before a record is then seen before it.
        self.read_globals(now.wall)?;
        let processed = self.process(now, position)?;
        for task in &mut self.tasks {
            task.pass_time()?;
            if task.next_wall_punctuation() <= now.wall {
                task.punctuate(PunctuationType::WallClockTime, now.wall)?;
            }
        }
        self.send()?;
        self.commit_if_due(now)?;
        let news = self.publish_passed_on();
        if processed > 0 || fetched {
            return Ok(Next::Again);
        }
        Ok(self.deadline(now, news))
    }

    /// Ends what is under way and commits what was processed. For an orderly end; a thread that is only dropped loses
    /// nothing either.
    ///
    /// # Errors
    /// When the last commit fails.
    pub fn close(&mut self, now: Now) -> Result<()> {
        self.settle_blocking(now)?;
        if self.running && !self.broken && self.tasks.iter().any(Task::needs_commit) {
            self.begin_commit(now)?;
            self.settle_blocking(now)?;
        }
        self.exchange_with_disk(now)?;
        if self.tasks.iter().any(|task| task.disk.is_some()) {
            self.producer.keep(self.producer.last_commit())?;
            self.exchange_with_disk(now)?;
        }
        self.tasks.iter_mut().filter_map(|task| task.disk.as_mut()).try_for_each(DiskStores::close)?;
        self.planned.iter().for_each(|task| self.shared.alignment.publish(*task, Head::Ended));
        Ok(())
    }

    /// Ends the open transaction after a failure or a panic: its readers would wait for it, and the next run may have
    /// no thread of this name that ends it.
    pub(crate) fn abandon(&mut self) {
        // Without the log there are no readers either; the log ends the transaction when it is opened again.
        let _unreachable = self.producer.abort();
    }

    /// Commits now, if there is anything to commit, and waits for the outcome. `false`: everything was rolled back.
    ///
    /// # Errors
    /// When it cannot be done and has not been rolled back: the next step does that.
    pub fn commit_now(&mut self, now: Now) -> Result<bool> {
        if !self.settle_blocking(now)? {
            return Ok(false);
        }
        if self.tasks.iter().any(Task::needs_commit) {
            self.exchange_with_disk(now)?;
            self.begin_commit(now)?;
            return self.settle_blocking(now);
        }
        Ok(true)
    }

    /// Whether a commit would write anything.
    pub fn needs_commit(&self) -> bool {
        self.tasks.iter().any(Task::needs_commit)
    }

    /// Whether every input of the sub-topology's tasks here has reached its end offset.
    pub(crate) fn has_consumed(&self, sub_topology: usize, ends: &HashMap<TopicPartition, Offset>) -> bool {
        let mut inputs = self.tasks.iter().filter(|t| t.id().sub_topology == sub_topology).flat_map(|t| &t.inputs);
        self.running && inputs.all(|input| ends.get(&input.partition).is_none_or(|end| input.consumed >= *end))
    }

    /// Closes windows as if time had gone on, for the tasks of one sub-topology.
    pub(crate) fn end_input(&mut self, sub_topology: usize) -> Result<()> {
        self.tasks.iter_mut().filter(|t| t.id().sub_topology == sub_topology).try_for_each(Task::end)
    }

    /// Tells this listener how stores are restored, from the next restore on.
    pub fn on_restore(&mut self, listener: Arc<dyn StateRestoreListener>) {
        self.restore_listener = Some(listener);
    }

    /// Whether the tasks are restored and processing.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// The tasks here.
    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.iter().map(Task::id)
    }

    /// Totals over the tasks here.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.tasks.iter().for_each(|task| sum += task.counters());
        sum
    }

    /// Answers what it was asked, for a turn: about [`TURN_ROWS`] rows or [`TURN`] at most.
    pub(crate) fn answer_queries(&mut self, mailbox: &Mailbox, clock: &dyn Clock) {
        mailbox.take(&mut self.letters);
        if self.letters.is_empty() {
            return;
        }
        let (begin, mut rows, mut is_over) = (clock.now().ticks, 0, false);
        for letter in std::mem::take(&mut self.letters) {
            if letter.is_abandoned() {
                continue;
            }
            if is_over {
                self.letters.push(letter);
                continue;
            }
            match self.answer_query(&letter.ask) {
                Err(QueryError::NotUpToBound { .. } | QueryError::Restoring) if letter.patient => {
                    self.letters.push(letter);
                }
                answer => {
                    let given = answer.iter().flat_map(|part| &part.rows).map(|rows| rows.remaining() as usize);
                    rows += given.sum::<usize>();
                    letter.answer(answer);
                }
            }
            is_over = rows >= TURN_ROWS || clock.now().ticks.saturating_sub(begin) >= TURN;
        }
        if is_over && !self.letters.is_empty() {
            self.wakeup.wake();
        }
    }

    /// Answers a part of a query.
    ///
    /// # Errors
    /// [`QueryError`], for whatever stands in the way.
    pub fn answer_query(&mut self, ask: &Ask) -> Result<Part, QueryError> {
        if !self.running {
            return Err(QueryError::Restoring);
        }
        if self.shared.topology.stores()[ask.store.0].global {
            let (task, _) = self.globals.as_mut().ok_or(QueryError::Stopped)?;
            // They are changed by nobody's commit.
            return task.query(&Ask { isolation: Isolation::ReadUncommitted, ..ask.clone() }, TURN_ROWS);
        }
        let has_store = |task: &&mut Task| {
            task.id().partition == ask.partition && task.stores.iter().any(|(id, _, _)| *id == ask.store)
        };
        self.tasks.iter_mut().find(has_store).ok_or(QueryError::Stopped)?.query(ask, TURN_ROWS)
    }

    /// Takes the outcome of the commit under way, if there is one. `false`: everything was rolled back.
    fn settle(&mut self, now: Now) -> Result<bool> {
        if !matches!(self.commit, Commit::UnderWay(_)) {
            return Ok(true);
        }
        let Some(outcome) = self.producer.poll_commit() else { return Ok(true) };
        let Commit::UnderWay(offsets) = std::mem::replace(&mut self.commit, Commit::Idle) else { return Ok(true) };
        match outcome {
            CommitOutcome::Done => {
                self.tasks.iter_mut().for_each(Task::committed);
                self.rebuilt = false;
                self.purge(now, &offsets)?;
            }
            CommitOutcome::Failed(error) if error.is_task_migrated() => return Err(error.into()),
            // Trying again at once would not make space.
            CommitOutcome::Failed(error @ LogError::Full { .. }) => return Err(error.into()),
            CommitOutcome::Failed(_) => {
                self.rollback(now.wall)?;
                return Ok(false);
            }
            CommitOutcome::Unknown(_) => {
                self.commit = Commit::Unknown(offsets);
                if !self.resolve()? {
                    self.rollback(now.wall)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Gives what was committed to the disk, before the next commit begins.
    fn exchange_with_disk(&mut self, now: Now) -> Result<()> {
        let (admin, producer) = (self.shared.log.admin(), self.producer.as_ref());
        self.tasks.iter_mut().try_for_each(|task| task.exchange_with_disk(admin, producer, now.wall))
    }

    /// Finds out how a commit of unknown outcome ended: a new producer of the same id ends the old transaction; after
    /// that the group's positions tell. `true`: it was done. After an error it is unknown still.
    fn resolve(&mut self) -> Result<bool> {
        let Commit::Unknown(offsets) = &self.commit else { return Ok(true) };
        self.producer = self.shared.log.producer(&producer_options(&self.shared, &self.name), self.wakeup.clone())?;
        let partitions: Vec<TopicPartition> = offsets.iter().map(|(p, _)| p.clone()).collect();
        let found = self.shared.log.admin().committed(&self.shared.config.application_id, &partitions)?;
        let done = found.iter().zip(offsets).all(|(found, (_, wanted))| found.as_ref() == Some(wanted));
        self.commit = Commit::Idle;
        if done {
            self.tasks.iter_mut().for_each(Task::committed);
        }
        Ok(done)
    }

    /// Forgets records of repartition topics that are committed: nobody else reads them (semantics.md 11).
    fn purge(&mut self, now: Now, committed: &[(TopicPartition, CommittedOffset)]) -> Result<()> {
        if now.ticks.saturating_sub(self.last_purge) < PURGE_INTERVAL {
            return Ok(());
        }
        self.last_purge = now.ticks;
        let names = self.shared.topology.repartitions().iter().map(|r| TopicName::Repartition(r.name.clone()));
        let names: Vec<String> = names.map(|n| n.resolve(&self.shared.config.application_id)).collect();
        for (partition, offset) in committed.iter().filter(|(p, _)| names.iter().any(|n| *n == *p.topic)) {
            self.shared.log.admin().delete_records(partition, offset.offset)?;
        }
        Ok(())
    }

    /// As [`StreamThread::settle`], when the outcome is there.
    fn settle_blocking(&mut self, now: Now) -> Result<bool> {
        while matches!(self.commit, Commit::UnderWay(_)) {
            if !self.settle(now)? {
                return Ok(false);
            }
            if matches!(self.commit, Commit::UnderWay(_)) {
                self.wakeup.wait(Duration::from_millis(5));
            }
        }
        Ok(true)
    }

    /// Takes up stores and positions: when that is done the tasks run.
    fn start(&mut self, now: Now) -> Result<Progress> {
        if self.restore.is_none() {
            let (shared, wakeup) = (&self.shared, self.wakeup.clone());
            let listener = self.restore_listener.clone();
            self.restore = Some(Restore::new(shared, &self.name, &mut self.tasks, wakeup, now.wall, listener)?);
        }
        if let Some(restore) = &mut self.restore {
            match restore.step(&self.shared, &mut self.tasks, self.producer.as_ref(), now.wall)? {
                Progress::Done => {}
                progress => return Ok(progress),
            }
        }
        if let Some((task, consumer)) = &mut self.globals {
            let admin = self.shared.log.admin();
            let starts: Result<Vec<Offset>, LogError> =
                task.inputs.iter().map(|i| admin.start_offset(&i.partition)).collect();
            let starts = starts?;
            let assignment: Vec<(TopicPartition, Offset)> =
                task.inputs.iter().map(|i| i.partition.clone()).zip(starts.iter().copied()).collect();
            consumer.assign(&assignment)?;
            task.start(&starts.iter().map(|s| (*s, None)).collect::<Vec<_>>(), Handlers::FAIL, now.wall)?;
        }
        self.read_globals(now.wall)?;
        let mut assignment = Vec::new();
        for task in &mut self.tasks {
            let partitions: Vec<TopicPartition> = task.inputs.iter().map(|i| i.partition.clone()).collect();
            let committed = self.shared.log.admin().committed(&self.shared.config.application_id, &partitions)?;
            let mut positions = Vec::new();
            for (input, committed) in task.inputs.iter().zip(committed) {
                let position = match committed {
                    Some(committed) => (committed.offset, OffsetMetadata::decode(&committed.metadata)),
                    None => (first_offset(&self.shared, task, input, "no committed position", now.wall)?, None),
                };
                assignment.push((input.partition.clone(), position.0));
                positions.push(position);
            }
            task.start(&positions, Handlers::new(&self.shared.config), now.wall)?;
        }
        self.consumer.assign(&assignment)?;
        // Not before: should anything above fail, the next try must not restore the same rows once more.
        self.restore = None;
        self.last_commit = now.ticks;
        self.running = true;
        Ok(Progress::Done)
    }

    /// Applies all there is to the global stores: they are complete before the first record, and ahead afterwards.
    fn read_globals(&mut self, wall: Timestamp) -> Result<()> {
        let Some((task, consumer)) = &mut self.globals else { return Ok(()) };
        loop {
            let mut any = false;
            for (slot, input) in task.inputs.iter_mut().enumerate() {
                let fetch = consumer.fetch(slot, self.shared.config.fetch_bytes)?;
                any |= !fetch.batches.is_empty();
                input.take(fetch);
            }
            if !any {
                return Ok(());
            }
            task.cx().wall = wall;
            while task.process(Timestamp::MAX, usize::MAX)? > 0 {}
        }
    }

    /// Fills the queues that run low. `true` if anything came.
    fn fetch(&mut self, wall: Timestamp) -> Result<bool> {
        if !self.producer.has_room() {
            return Ok(false);
        }
        self.tasks.iter_mut().for_each(|task| task.look(wall, &self.shared.alignment));
        let mut any = false;
        let low = self.shared.config.poll_records.min(1_000);
        for slot in 0..self.slots.len() {
            let (task, input) = self.slots[slot];
            if self.tasks[task].inputs[input].buffered() < low {
                any |= self.fetch_slot(slot, wall)?;
            }
        }
        // An input that was looked at before another one got its records may have got some meanwhile that are older: a
        // table's rows, say, written before the stream's records. What is empty is looked at again.
        for slot in 0..self.slots.len() {
            let (task, input) = self.slots[slot];
            let inputs = &self.tasks[task].inputs;
            if any && inputs.len() > 1 && inputs[input].is_empty() {
                self.fetch_slot(slot, wall)?;
            }
        }
        Ok(any)
    }

    fn fetch_slot(&mut self, slot: usize, wall: Timestamp) -> Result<bool> {
        let (index, input) = self.slots[slot];
        let task = &mut self.tasks[index];
        match self.consumer.fetch(slot, self.shared.config.fetch_bytes) {
            Ok(fetch) => {
                let any = !fetch.batches.is_empty();
                task.inputs[input].take(fetch);
                Ok(any)
            }
            // Retention has passed the position: the source's policy says where to go on.
            Err(LogError::OutOfRange { offset, start, end, .. }) => {
                let why = format!("no record at its position {offset}, it holds offsets {start} to {end},");
                let to = first_offset(&self.shared, task, &task.inputs[input], &why, wall)?;
                self.consumer.seek(slot, to);
                task.jump(input, to);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Processes up to `max.poll.records` records: always from the task whose next record is oldest (DESIGN 2.1).
    fn process(&mut self, now: Now, position: Timestamp) -> Result<usize> {
        let config = self.shared.config.clone();
        // What is processed while a commit is under way waits here for it; more than this, and processing waits.
        let waiting: usize = self.tasks.iter_mut().map(|t| t.cx().collector.full_bytes()).sum();
        let disk_is_behind = self.tasks.iter().filter_map(|t| t.disk.as_ref()).any(DiskStores::is_behind);
        if waiting > config.uncommitted_bytes || !self.producer.has_room() || disk_is_behind {
            return Ok(0);
        }
        let mut ready: Vec<Ready> = Vec::with_capacity(self.tasks.len());
        for (task, planned) in self.tasks.iter_mut().zip(&self.planned) {
            task.cx().wall = now.wall;
            let state = task.ready(now.wall, config.max_task_idle)?;
            self.shared.alignment.publish(*planned, published(state, task, position));
            ready.push(state);
        }
        let mut done = 0;
        while done < config.poll_records {
            let oldest = ready
                .iter()
                .enumerate()
                .filter_map(|(i, r)| if let Ready::Now(time) = r { Some((*time, i)) } else { None })
                .min();
            let Some((head, index)) = oldest else { break };
            // Batches leave task by task: if they held more event time than half the skew, that alone would put records out
            // of order for whoever reads them. They leave at the end of a step, unless a commit is under way.
            let span = config
                .max_task_skew
                .map_or(Timestamp::MAX, |skew| self.unsent_since.get_or_insert(head).saturating_add(skew / 2));
            let limit = self.shared.alignment.limit(self.planned[index]);
            if head > limit {
                self.shared.alignment.look_again(&self.wakeup, head);
            }
            let limit = limit.min(span);
            if head > limit {
                break;
            }
            // Threads commit on their own. When one's unit of work is lost and the others' are not, its records come
            // again behind theirs: by no more than half the skew.
            if let Some(skew) = config.max_task_skew.filter(|_| config.threads > 1)
                && head > self.uncommitted_since.get_or_insert(head).saturating_add(skew / 2)
            {
                self.span_is_full = true;
                break;
            }
            let taken = self.tasks[index].process(limit, config.poll_records - done)?;
            done += taken;
            let state = self.tasks[index].ready(now.wall, config.max_task_idle)?;
            self.shared.alignment.publish(self.planned[index], published(state, &self.tasks[index], position));
            ready[index] = if taken == 0 { Ready::Empty } else { state };
        }
        Ok(done)
    }

    /// Tells those who read what the tasks here write up to when nothing is under way; whether that is news to them.
    fn publish_passed_on(&mut self) -> bool {
        let mut news = false;
        for (task, planned) in self.tasks.iter_mut().zip(&self.planned) {
            if let Some(wall) = task.passed_on() {
                news |= self.shared.alignment.publish_passed_on(*planned, wall);
            }
        }
        news
    }

    /// Hands the batches over, unless a commit is under way.
    fn send(&mut self) -> Result<()> {
        if !matches!(self.commit, Commit::Idle) {
            return Ok(());
        }
        self.unsent_since = None;
        let producer = &mut self.producer;
        for task in &mut self.tasks {
            task.cx().collector.take(true, |to, batch| Ok(producer.send(&to, batch)?))?;
        }
        Ok(())
    }

    fn commit_if_due(&mut self, now: Now) -> Result<()> {
        if matches!(self.commit, Commit::Idle) && self.commit_is_due(now) {
            self.begin_commit(now)?;
            self.settle(now)?;
            self.exchange_with_disk(now)?;
        }
        Ok(())
    }

    fn commit_is_due(&self, now: Now) -> bool {
        let config = &self.shared.config;
        let due = now.ticks.saturating_sub(self.last_commit) >= config.commit_interval
            || self.span_is_full
            || self.tasks.iter().any(Task::wants_commit)
            || self.tasks.iter().map(Task::dirty_bytes).sum::<usize>() > config.uncommitted_bytes / 2;
        due && self.tasks.iter().any(Task::needs_commit)
    }

    /// The order of a commit, written once: (1) nodes forward what they held back, (2) changelogs are sent, (3) with
    /// every other batch; (4) then the offsets, which the log writes only when everything before is acknowledged.
    /// (5) The stores keep their committed rows until [`StreamThread::settle`] sees `Done`.
    fn begin_commit(&mut self, now: Now) -> Result<()> {
        self.last_commit = now.ticks;
        (self.uncommitted_since, self.span_is_full) = (None, false);
        let mut offsets = Vec::new();
        for task in &mut self.tasks {
            task.flush_nodes()?;
        }
        self.send()?;
        let producer = &mut self.producer;
        for task in &mut self.tasks {
            task.flush_stores(|to, batch| Ok(producer.send(to, batch)?))?;
            offsets.extend(task.prepare());
        }
        #[cfg(feature = "plant")]
        if crate::Plant::DoubleApply.is_set() && now.wall % 4 != 0 {
            self.producer.commit(GroupOffsets { group: self.shared.config.application_id.clone(), offsets: vec![] });
            self.commit = Commit::UnderWay(offsets);
            return Ok(());
        }
        self.producer
            .commit(GroupOffsets { group: self.shared.config.application_id.clone(), offsets: offsets.clone() });
        self.commit = Commit::UnderWay(offsets);
        Ok(())
    }

    /// Does the rollback that a failed step needs.
    fn mend(&mut self, wall: Timestamp) -> Result<()> {
        if self.broken {
            self.rollback(wall)?;
            self.broken = false;
        }
        Ok(())
    }

    /// Every failure ends here: the transaction is ended, every task goes back to its last commit, reading goes on
    /// from there. A commit that is under way may yet have been done: the log is asked first.
    fn rollback(&mut self, wall: Timestamp) -> Result<()> {
        match std::mem::replace(&mut self.commit, Commit::Idle) {
            Commit::Idle => {
                if !self.spent {
                    match self.producer.abort() {
                        // A new producer would fence whoever has taken over.
                        Err(error) if error.is_task_migrated() => return Err(error.into()),
                        aborted => self.spent = aborted.is_err(),
                    }
                }
                if self.spent {
                    let options = producer_options(&self.shared, &self.name);
                    self.producer = self.shared.log.producer(&options, self.wakeup.clone())?;
                    self.spent = false;
                }
            }
            Commit::UnderWay(offsets) | Commit::Unknown(offsets) => {
                self.commit = Commit::Unknown(offsets);
                self.resolve()?;
            }
        }
        (self.uncommitted_since, self.span_is_full, self.unsent_since) = (None, false, None);
        if !self.running {
            return Ok(());
        }
        let mut slot = 0;
        for task in &mut self.tasks {
            task.cx().wall = wall;
            for offset in task.rollback()? {
                self.consumer.seek(slot, offset);
                slot += 1;
            }
        }
        Ok(())
    }

    /// When to come back if nothing wakes us: for the commit, for punctuation, for a task that waits for another or for time.
    fn deadline(&self, now: Now, news: bool) -> Next {
        let until_wall =
            |wall: Timestamp| now.ticks + Duration::from_millis(wall.saturating_sub(now.wall).max(0) as u64);
        let commit = self
            .tasks
            .iter()
            .any(Task::needs_commit)
            .then_some(self.last_commit.saturating_add(self.shared.config.commit_interval));
        let punctuation =
            self.tasks.iter().map(Task::next_wall_punctuation).filter(|t| *t != Timestamp::MAX).map(until_wall).min();
        // Queued records that were not processed wait for an input, for another thread's task, or for room.
        let held_up = self
            .tasks
            .iter()
            .any(|t| t.inputs.iter().any(|i| i.buffered() > 0))
            .then(|| now.ticks + Duration::from_micros(100));
        let look = self.consumer.look_again().map(|after| now.ticks + after);
        let passing = self.tasks.iter().filter_map(Task::next_time).min();
        let passing = match passing {
            None => None,
            Some(at) if at > now.wall => Some(until_wall(at)),
            Some(_) if news => return Next::Again,
            // It waits until others have said that nothing is under way.
            Some(_) => Some(now.ticks + LOOK_FOR_SILENCE),
        };
        Next::Wait([commit, punctuation, held_up, look, passing].into_iter().flatten().min())
    }
}

fn new_tasks(shared: &ThreadContext, planned: &[usize], globals: &Rc<HashMap<StoreId, StoreInstance>>) -> Vec<Task> {
    let plans = planned.iter().map(|index| &shared.plan.tasks[*index]);
    let application_id = &shared.config.application_id;
    plans
        .map(|plan| {
            Task::new(plan, shared.topology.clone(), application_id.clone(), collector(shared), globals.clone())
        })
        .collect()
}

/// What the other tasks must know of a task's next record.
fn published(ready: Ready, task: &Task, position: Timestamp) -> Head {
    match ready {
        Ready::Now(time) => Head::At(time),
        Ready::Empty if task.inputs.iter().any(|i| i.end < 0) => Head::Unknown,
        Ready::Empty | Ready::Until(_) => Head::NoneAt(position),
    }
}

fn collector(shared: &ThreadContext) -> Collector {
    let log = shared.log.clone();
    Collector::new(
        shared.config.batch_bytes,
        shared.config.max_request_bytes,
        Arc::new(move |topic: &str| log.admin().partitions(topic)),
    )
}

pub(crate) fn consumer_options(shared: &ThreadContext, name: &str) -> ConsumerOptions {
    let isolation = match shared.config.guarantee {
        ProcessingGuarantee::ExactlyOnceV2 => Isolation::ReadCommitted,
        ProcessingGuarantee::AtLeastOnce => Isolation::ReadUncommitted,
    };
    ConsumerOptions { client_id: name.to_owned(), group: shared.config.application_id.clone(), isolation }
}

fn producer_options(shared: &ThreadContext, name: &str) -> ProducerOptions {
    let transactional = shared.config.guarantee == ProcessingGuarantee::ExactlyOnceV2;
    let id = format!("{}-{}-{name}", shared.config.application_id, shared.process_id);
    // Kafka Streams' ten seconds, and with a long interval the time until the commit is due.
    let transaction_timeout =
        TRANSACTION_TIMEOUT.saturating_add(shared.config.commit_interval).min(LONGEST_TRANSACTION);
    let transactional_id = transactional.then_some(id);
    // Nobody waits for a task's commits but its next ones, and the log keeps their order. Rows on disk are held until a
    // commit is kept.
    ProducerOptions { client_id: name.to_owned(), transactional_id, transaction_timeout, durable: false }
}

/// Where an input starts whose source's policy decides; `why` it does, for the message of `none`.
fn first_offset(shared: &ThreadContext, task: &Task, input: &Input, why: &str, wall: Timestamp) -> Result<Offset> {
    let (admin, partition) = (shared.log.admin(), &input.partition);
    let source = shared.topology.sub_topologies()[task.id().sub_topology].sources[input.source];
    let source = &shared.topology.sources()[source];
    // What the application itself has sent on is read from its first record, whatever the setting says.
    let reset = if shared.topology.repartitions().iter().any(|r| r.source == source.node) {
        OffsetReset::Earliest
    } else {
        source.reset.unwrap_or(shared.config.offset_reset)
    };
    let offset = match reset {
        OffsetReset::Earliest => admin.start_offset(partition)?,
        OffsetReset::Latest => admin.end_offset(partition, consumer_options(shared, "").isolation)?,
        OffsetReset::ByDuration(age) => {
            let age = Timestamp::try_from(age.as_millis()).unwrap_or(Timestamp::MAX);
            admin.offset_for_time(partition, wall.saturating_sub(age))?
        }
        OffsetReset::None => {
            return Err(Error::Config(Box::new(vec![format!(
                "{partition} has {why} and its offset reset is `none`\n  help: set auto.offset.reset, or the source's Consumed::reset, to `earliest` or `latest`"
            )])));
        }
    };
    Ok(offset)
}
