//! A stream thread: a set of tasks, one reader, one writer, and one step function that never blocks.
//!
//! ```text
//!            ┌─────────────────────────────── step ───────────────────────────────┐
//!   settle the commit ─► restore ─► fetch ─► globals ─► process ─► send ─► punctuate ─► commit, if due
//! ```
//!
//! The commit is a state: `Idle`, or `UnderWay` from the hand-over to the log until its outcome. Meanwhile records are
//! processed, but nothing is sent. The order within a commit is written in [`StreamThread::begin_commit`] and nowhere else.

mod commit;
mod globals;
mod queries;
pub(crate) mod recovery;
mod start;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::commit::Commit;
use self::globals::Globals;
use self::start::first_offset;
use crate::alignment::Head;
use crate::collector::{Collector, Target};
use crate::config::ProcessingGuarantee;
use crate::counters::Counters;
use crate::disk_stores::DiskStores;
use crate::error::{Error, Result};
use crate::input::Ends;
use crate::log::{Consumer, LogError, Offset, Producer, ProducerOptions, TopicPartition};
use crate::mailbox::Letter;
use crate::restore::{Progress, Restore};
use crate::restore_listener::StateRestoreListener;
use crate::store::StoreInstance;
use crate::task::{Ready, Task};
use crate::task_id::TaskId;
use crate::thread_context::ThreadContext;
use crate::time::{Now, Timestamp};
use crate::topology_index::StoreId;
use crate::wakeup::Wakeup;

/// What a driver does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Step again: there is more to do.
    Again,
    /// Wait until woken, at most until the clock's ticks show this; `None` is until woken.
    Wait(Option<Duration>),
}

/// `transaction.timeout.ms` of Kafka Streams' producers, and the most that a log allows unless it is told otherwise.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_TRANSACTION: Duration = Duration::from_secs(15 * 60);

/// How soon a restore that waits for the disk looks at it again.
const LOOK_AT_DISK: Duration = Duration::from_millis(1);

/// How soon a silence that others have to prove is looked for again.
const LOOK_FOR_SILENCE: Duration = Duration::from_millis(100);

/// A thread's work. The driver around it owns the real thread, or a test steps it by hand.
pub struct StreamThread {
    shared: ThreadContext,
    name: String,
    tasks: Vec<Task>,
    /// Index in the plan of every task, for the alignment.
    planned: Vec<usize>,
    /// Task and input of every slot of the consumer.
    slots: Vec<(usize, usize)>,
    globals: Option<Globals>,
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
    /// Where inputs have begun, by the position that the group had of them: their source's policy may have put them elsewhere. Should
    /// the tasks start anew before the next commit, `latest` would pass over records.
    begun: HashMap<TopicPartition, (Option<Offset>, Offset)>,
    /// The tasks are started: restored, positioned, built.
    running: bool,
    /// A step has failed, and the rollback after it has not been done yet.
    broken: bool,
    /// Nothing is taken for processing.
    paused: bool,
    /// Nothing is taken from here on.
    stops_at: Option<Arc<Ends>>,
    /// How often state was found damaged since the last commit.
    rebuilt: usize,
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
        let consumer = shared.log.consumer(&shared.consumer_options(&name), wakeup.clone())?;
        let producer = shared.log.producer(&producer_options(&shared, &name), wakeup.clone())?;
        let globals = Globals::new(&shared, &name, &wakeup, collector(&shared))?;
        let global_stores = Rc::new(globals.as_ref().map(Globals::stores).unwrap_or_default());
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
            begun: HashMap::new(),
            running: false,
            broken: false,
            paused: false,
            stops_at: None,
            rebuilt: 0,
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
            if !self.commit_if_due(now)? {
                return Ok(Next::Again);
            }
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
            if task.next_punctuation() <= now.wall {
                task.punctuate(now.wall)?;
            }
        }
        self.send()?;
        let is_undone = !self.commit_if_due(now)?;
        let news = self.publish_passed_on();
        if processed > 0 || fetched || is_undone {
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
            match self.begin_commit(now) {
                // What is not committed is read again by the next start.
                Err(error) if error.is_for_next_start() => {
                    self.recover(error, now)?;
                }
                begun => begun?,
            }
            self.settle_blocking(now)?;
        }
        match self.close_disks(now) {
            // All is committed: the next start reads from the changelogs what is damaged.
            Err(Error::Damaged(_)) => {}
            closed => closed?,
        }
        self.planned.iter().for_each(|task| self.shared.alignment.publish(*task, Head::Ended));
        Ok(())
    }

    fn close_disks(&mut self, now: Now) -> Result<()> {
        // A producer that failed may have been followed by another one that was not made: what the disk has not got the next start
        // reads from the changelogs.
        if !self.broken && self.tasks.iter().any(|task| !task.disks.is_empty()) {
            self.exchange_with_disk(now)?;
            match self.producer.keep(self.producer.last_commit()) {
                // Nobody may make space: the next start reads from the changelogs what the log had not kept.
                Ok(()) | Err(LogError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.exchange_with_disk(now)?;
        }
        self.tasks.iter_mut().flat_map(|task| &mut task.disks).try_for_each(DiskStores::close)
    }

    /// Whether every input of the sub-topology's tasks here has reached its end offset.
    pub(crate) fn has_consumed(&self, sub_topology: usize, ends: &Ends) -> bool {
        let mut inputs = self.tasks.iter().filter(|t| t.id().sub_topology == sub_topology).flat_map(|t| &t.inputs);
        self.running && inputs.all(|input| ends.get(&input.partition).is_none_or(|end| input.consumed >= *end))
    }

    /// Takes nothing from these ends on; of an input that has none any more, what comes behind the last one.
    pub(crate) fn stop_at(&mut self, ends: &Arc<Ends>) {
        if self.stops_at.as_ref().is_some_and(|before| Arc::ptr_eq(before, ends)) {
            return;
        }
        for (slot, (task, input)) in self.slots.iter().enumerate() {
            let input = &mut self.tasks[*task].inputs[*input];
            match ends.get(&input.partition) {
                Some(end) => input.stop_at(*end),
                None if input.goes_on() => self.consumer.seek(slot, input.position),
                None => {}
            }
        }
        self.stops_at = Some(ends.clone());
    }

    /// Topics that records or handlers of the tasks here have named.
    pub(crate) fn named_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tasks.iter().flat_map(|task| task.named_topics())
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

    /// Totals over the tasks here, and what the global stores have left out.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.tasks.iter().for_each(|task| sum += task.counters());
        sum.dropped_records += self.globals.as_ref().map_or(0, |globals| globals.task.counters().dropped_records);
        sum
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
        if !task.inputs[input].may_take() {
            return Ok(false);
        }
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
                let at = task.kept()[input].as_ref().map(|kept| kept.offset);
                self.begun.insert(task.inputs[input].partition.clone(), (at, to));
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Processes up to `max.poll.records` records: always from the task whose next record is oldest (DESIGN 2.1).
    fn process(&mut self, now: Now, position: Timestamp) -> Result<usize> {
        let config = self.shared.config.clone();
        self.tasks.iter_mut().for_each(|task| task.waits_until = None);
        // What is processed while a commit is under way waits here for it; more than this, and processing waits.
        let waiting: usize = self.tasks.iter_mut().map(|t| t.cx().collector.full_bytes()).sum();
        let disk_is_behind = self.tasks.iter().flat_map(|task| &task.disks).any(DiskStores::is_behind);
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
            if self.tasks[index].waits_for_commit() {
                break;
            }
        }
        Ok(done)
    }

    /// Tells those who read what the tasks here write up to when nothing is under way; whether that is news to them.
    fn publish_passed_on(&mut self) -> bool {
        let mut news = false;
        for (task, planned) in self.tasks.iter_mut().zip(&self.planned) {
            for (source, wall) in task.passed_on() {
                news |= self.shared.alignment.publish_passed_on(*planned, source, wall);
            }
        }
        news
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
            self.tasks.iter().map(Task::next_punctuation).filter(|t| *t != Timestamp::MAX).map(until_wall).min();
        // Queued records that were not processed wait for an input, which wakes us or takes too long, for another thread's task,
        // or for room.
        let held_up = self
            .tasks
            .iter()
            .filter(|t| t.inputs.iter().any(|i| i.buffered() > 0))
            .map(|t| t.waits_until.map_or(now.ticks + Duration::from_micros(100), until_wall))
            .min();
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
        Ready::Empty if task.inputs.iter().any(|i| i.end < 0 && i.may_take()) => Head::Unknown,
        Ready::Empty | Ready::Until(_) => Head::NoneAt(position),
    }
}

fn collector(shared: &ThreadContext) -> Collector {
    let log = shared.log.clone();
    Collector::new(
        shared.config.batch_bytes,
        shared.config.max_request_bytes,
        Arc::new(move |topic: &str| {
            let Some(partitions) = log.admin().partitions(topic)? else { return Ok(None) };
            Ok(Some(Target { partitions, max_message_bytes: log.admin().max_message_bytes(topic)? }))
        }),
        shared.plan.internal_topics.clone(),
    )
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
