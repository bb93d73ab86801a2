//! A task: one partition of one sub-topology. Its program lives on one thread; its stores outlive the program.
//!
//! ```text
//!   created ── restore ──► running ── prepare ──► (commit under way) ── committed ──► running
//!                             ▲                            │
//!                             └───────── rollback ◄────────┴── any failure
//! ```

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use crate::alignment::TimeAlignment;
use crate::batch_limits::BatchLimits;
use crate::collector::Collector;
use crate::context::{TaskContext, TimeSlot};
use crate::disk::StateDisk;
use crate::disk_stores::DiskStores;
use crate::error::{Error, Panicked, Result, TooLarge, Unencodable, panic_message};
use crate::error_handler_context::RawRecord;
use crate::exception_handler::ExceptionHandler;
use crate::fault_search::{FaultSearch, Suspects};
use crate::handlers::Handlers;
use crate::headers::Headers;
use crate::idleness::IdleSource;
use crate::input::Input;
use crate::log::{Admin, CommittedOffset, Isolation, Offset, Producer, TopicPartition};
use crate::offset_metadata::OffsetMetadata;
use crate::plan::TaskPlan;
use crate::position::Position;
use crate::punctuation::{self, PunctuationType};
use crate::query::{Ask, Part};
use crate::query_error::QueryError;
use crate::serde::Payload;
use crate::source::RunLimit;
use crate::store::{ChangelogWriter, StoreInstance};
use crate::task_builder::{Program, TaskBuilder};
use crate::task_id::TaskId;
use crate::time::{END_OF_TIME, NO_TIME, Timestamp};
use crate::times::{self, Times};
use crate::topology::Topology;
use crate::topology_index::StoreId;

/// The number of commits, among the times: no two leave the same with the group, even if the positions stand still, so what it
/// has says which was the last. No operator has such a name.
const COMMITS: &str = "/commits";

/// What a commit makes permanent besides records and rows.
#[derive(Debug, Clone)]
struct Snapshot {
    offsets: Vec<(Offset, Timestamp)>,
    stream_time: Timestamp,
    times: Vec<Timestamp>,
}

/// A task.
pub struct Task {
    id: TaskId,
    topology: Arc<Topology>,
    application_id: Arc<str>,
    sources: Vec<usize>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) stores: Vec<(StoreId, StoreInstance, Option<TopicPartition>)>,
    /// Its stores on disk, by disk.
    pub(crate) disks: Vec<DiskStores>,
    globals: Rc<HashMap<StoreId, StoreInstance>>,
    times: Times,
    /// Of every store, what it has seen: committed with the positions.
    store_times: Vec<TimeSlot>,
    /// Of every store, how large the batches of its changelog may be.
    changelog_limits: Vec<BatchLimits>,
    cx: TaskContext,
    program: Program,
    idle: Vec<IdleSource>,
    /// Records that the processing handler is asked about in place of processing them again, since the last commit.
    left_out: Vec<LeftOut>,
    /// After the last error a rollback helps.
    goes_on: bool,
    /// Nothing more is processed before a commit.
    waits_for_commit: bool,
    /// For the record that makes a row that its store cannot write.
    search: FaultSearch,
    /// Per idle source, the indices of the program's lifecycles below it.
    below: Vec<Vec<usize>>,
    committed: Snapshot,
    /// What its group has of each input.
    kept: Vec<Option<CommittedOffset>>,
    /// The snapshot of the commit that is under way, and what the group has when it is done.
    pending: Option<(Snapshot, Vec<Option<CommittedOffset>>)>,
    /// Something happened since the last commit.
    dirty: bool,
    /// Since when an empty input holds the task up, on the wall clock.
    idle_since: Option<Timestamp>,
    /// What it said last of an empty input that it waits for.
    pub(crate) waits_until: Option<Timestamp>,
}

/// A record that is left out.
struct LeftOut {
    input: usize,
    offset: Offset,
    why: Why,
}

/// Why a record is left out.
enum Why {
    /// The program panics on it.
    Panicked(Panicked),
    /// It makes a row that its store cannot write; with the node that has the store.
    Unwritable(String, Unwritable),
}

/// Why a row cannot be written.
#[derive(Clone)]
enum Unwritable {
    /// The store's serde refuses it.
    Unencodable(Unencodable),
    /// No batch of the changelog may hold it.
    TooLarge(TooLarge),
}

impl From<Unwritable> for Error {
    fn from(why: Unwritable) -> Self {
        match why {
            Unwritable::Unencodable(why) => Error::Unencodable(Box::new(why)),
            Unwritable::TooLarge(why) => Error::TooLarge(Box::new(why)),
        }
    }
}

/// Whether a task may process now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Its next record has this time.
    Now(Timestamp),
    /// It waits for an empty input, at most until this wall-clock time.
    Until(Timestamp),
    /// Nothing is queued.
    Empty,
}

impl Task {
    /// A task with empty stores and no nodes yet: restore it, then [`Task::start`] it.
    pub(crate) fn new(
        plan: &TaskPlan,
        topology: Arc<Topology>,
        application_id: Arc<str>,
        collector: Collector,
        globals: Rc<HashMap<StoreId, StoreInstance>>,
    ) -> Self {
        let stores = plan
            .stores
            .iter()
            .map(|(id, changelog)| (*id, (topology.stores()[id.0].supplier)(), changelog.clone()))
            .collect();
        let partitions = plan.inputs.iter().map(|(partition, _)| partition.clone()).collect();
        let nodes = plan.inputs.iter().map(|(_, source)| topology.sources()[plan.sources[*source]].node).collect();
        let mut task = Task {
            id: plan.id,
            cx: TaskContext::new(plan.id, topology.node_names().clone(), collector, partitions, nodes),
            topology,
            application_id,
            sources: plan.sources.clone(),
            inputs: plan.inputs.iter().map(|(partition, source)| Input::new(partition.clone(), *source)).collect(),
            stores,
            disks: Vec::new(),
            globals,
            times: Times::default(),
            store_times: Vec::new(),
            changelog_limits: Vec::new(),
            program: Program::default(),
            idle: Vec::new(),
            left_out: Vec::new(),
            goes_on: false,
            waits_for_commit: false,
            search: FaultSearch::default(),
            below: Vec::new(),
            committed: Snapshot { offsets: Vec::new(), stream_time: NO_TIME, times: Vec::new() },
            kept: Vec::new(),
            pending: None,
            dirty: false,
            idle_since: None,
            waits_until: None,
        };
        for idle in &plan.idle {
            let topics = &task.topology.sources()[task.sources[idle.source]].topics;
            let names = ["silent-since", "silent-time"].map(|what| format!("{topics}.{what}"));
            let [since, reached] = names.map(|name| task.slot(&name));
            task.idle.push(IdleSource::new(idle.clone(), since, reached));
        }
        task
    }

    /// The task's name.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Topics that its records or handlers have named.
    pub(crate) fn named_topics(&self) -> &[Arc<str>] {
        self.cx.collector.named()
    }

    /// The task's counters.
    pub(crate) fn counters(&self) -> crate::counters::Counters {
        self.cx.counters
    }

    pub(crate) fn cx(&mut self) -> &mut TaskContext {
        &mut self.cx
    }

    /// Opens the rows that its stores have on a disk. `restored`: which stores are restored, from which topic and up to which offset.
    pub(crate) fn open_disk(
        &mut self,
        disk: &dyn StateDisk,
        restored: &[(usize, TopicPartition, Offset)],
        admin: &dyn Admin,
        wall: Timestamp,
    ) -> Result<()> {
        let stores = restored.iter().map(|(index, topic, end)| {
            let (id, store, _) = &self.stores[*index];
            (*index, self.topology.stores()[id.0].name.as_str(), store, topic.clone(), *end)
        });
        // A start that failed later on may have opened them: the stores have their rows.
        if self.disks.iter().any(|disk| restored.iter().any(|(store, ..)| disk.has(*store))) {
            return Ok(());
        }
        self.disks.extend(DiskStores::open(disk, self.id.partition, stores.collect(), admin, wall)?);
        Ok(())
    }

    /// Gives its disk what was committed; to be called between two commits.
    pub(crate) fn exchange_with_disk(
        &mut self,
        admin: &dyn Admin,
        producer: &dyn Producer,
        wall: Timestamp,
    ) -> Result<()> {
        let positions = self.inputs.iter().map(|i| &i.partition).zip(&self.committed.offsets);
        let position = |topic: &TopicPartition| positions.clone().find(|(t, _)| *t == topic).map(|(_, (o, _))| *o);
        let stores = &self.stores;
        self.disks.iter_mut().try_for_each(|disk| disk.exchange(stores, &position, admin, producer, wall))
    }

    /// Builds the nodes and takes up the positions, one per input; `kept` is what the group has of them.
    pub(crate) fn start(
        &mut self,
        admin: &dyn Admin,
        kept: Vec<Option<CommittedOffset>>,
        committed: &[(Offset, Option<OffsetMetadata>)],
        handlers: Handlers,
        wall: Timestamp,
    ) -> Result<()> {
        self.cx.handlers = handlers;
        self.cx.wall = wall;
        self.stores.iter().for_each(|(_, store, _)| store.state.borrow_mut().restored());
        for (input, (offset, metadata)) in self.inputs.iter_mut().zip(committed) {
            input.reset(*offset, metadata.as_ref().map_or(NO_TIME, |m| m.partition_time));
            self.cx.stream_time = self.cx.stream_time.max(input.time);
        }
        // Every input carries the operators' times of its task; the largest stands (semantics.md 2).
        committed.iter().filter_map(|(_, m)| m.as_ref()).for_each(|m| self.take_up(&m.times));
        self.slot(COMMITS);
        // No operator has such a name.
        let name = |id: &StoreId| format!("{}/rows", self.topology.stores()[id.0].name);
        let names: Vec<String> = self.stores.iter().map(|(id, _, _)| name(id)).collect();
        self.store_times = names.iter().map(|name| self.slot(name)).collect();
        for ((_, store, _), slot) in self.stores.iter().zip(&self.store_times) {
            store.state.borrow_mut().resume(self.cx.times[slot.0]);
        }
        let limits = self.stores.iter().map(|(_, _, changelog)| {
            let Some(changelog) = changelog else { return Ok(BatchLimits::none(ChangelogWriter::BATCH_BYTES)) };
            let max_message_bytes = admin.max_message_bytes(&changelog.topic)?;
            Ok(self.cx.collector.limits(ChangelogWriter::BATCH_BYTES, max_message_bytes))
        });
        self.changelog_limits = limits.collect::<Result<_>>()?;
        let reached = self.idle.iter().map(|idle| idle.reached(&self.cx)).max();
        self.cx.stream_time = self.cx.stream_time.max(reached.unwrap_or(NO_TIME));
        self.build()?;
        (self.committed, self.kept) = (self.snapshot(), kept);
        Ok(())
    }

    /// Takes up operators' times that were committed.
    pub(crate) fn take_up<'a>(&mut self, times: impl IntoIterator<Item = &'a (String, Timestamp)>) {
        times.into_iter().for_each(|(name, time)| self.times.take_up(name, *time, &mut self.cx.times));
    }

    /// A time of the task by its name.
    fn slot(&mut self, name: &str) -> TimeSlot {
        self.times.slot(name, &mut self.cx.times)
    }

    /// Runs what may call the program's code. A panic there becomes an error of this task: it is half done, and whoever
    /// gets the error rolls it back, so nothing of what the panic left behind is looked at.
    #[inline]
    fn guarded<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(result) => result,
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                let looks = self.inputs.iter().enumerate().find_map(|(at, input)| Some((at, input.looked_at?)));
                if let Some((input, offset)) = looks {
                    (self.cx.input, self.cx.offset, self.cx.has_record) = (input, offset, true);
                }
                let record = self.cx.source().map(|(partition, offset)| (partition.clone(), offset));
                let handled = record.is_some() && self.cx.handlers.asks_about_panics();
                Err(Error::Panicked(Box::new(Panicked { task: self.id, record, message, handled })))
            }
        }
    }

    fn build(&mut self) -> Result<()> {
        self.cx.has_record = false;
        self.guarded(Self::build_program)
    }

    fn build_program(&mut self) -> Result<()> {
        let mut stores: HashMap<StoreId, StoreInstance> =
            self.stores.iter().map(|(id, store, _)| (*id, store.clone())).collect();
        stores.extend(self.globals.iter().map(|(id, store)| (*id, store.clone())));
        self.cx.stores = self.stores.iter().map(|(_, store, _)| store.state.clone()).collect();
        // The old nodes hold the stores too; they go before new ones come.
        self.program = Program::default();
        self.program = TaskBuilder::build(
            self.sources.iter().map(|source| &self.topology.sources()[*source].supplier),
            &self.application_id,
            &stores,
            &mut self.times,
            &mut self.cx,
        )?;
        self.cx.punctuate_at = punctuation::earliest(&self.program.schedules, PunctuationType::StreamTime);
        let from_above = |idle: &IdleSource| {
            let nodes = self.program.lifecycles.iter().enumerate();
            nodes.filter(|(_, (id, _))| self.topology.reaches(idle.plan.node, *id)).map(|(at, _)| at).collect()
        };
        self.below = self.idle.iter().map(from_above).collect();
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        let offsets = self.inputs.iter().map(|i| (i.consumed, i.time)).collect();
        let mut times = self.cx.times.clone();
        self.program.schedules.iter().for_each(|schedule| times[schedule.slot.0] = schedule.due());
        Snapshot { offsets, stream_time: self.cx.stream_time, times }
    }

    /// Whether it can process now, and at which event time its next record is. `max_idle`: how long an empty input may
    /// hold it up; `None` never.
    ///
    /// # Errors
    /// When a timestamp extractor panics.
    pub(crate) fn ready(&mut self, wall: Timestamp, max_idle: Option<Timestamp>) -> Result<Ready> {
        let ready = self.guarded_by_handler(|task| Ok(task.readiness(wall, max_idle)))?;
        self.waits_until = if let Ready::Until(time) = ready { Some(time) } else { None };
        Ok(ready)
    }

    fn readiness(&mut self, wall: Timestamp, max_idle: Option<Timestamp>) -> Ready {
        let (mut oldest, mut missing, mut lags) = (None::<Timestamp>, false, false);
        for (index, input) in self.inputs.iter_mut().enumerate() {
            match Self::head(&mut self.program, &self.left_out, index, input, wall) {
                Some(time) => oldest = Some(oldest.map_or(time, |o| o.min(time))),
                None => {
                    // Of one that has come to the end of a bounded run nothing is waited for.
                    missing |= input.may_take();
                    lags |= input.may_lag();
                }
            }
        }
        let Some(oldest) = oldest else {
            self.idle_since = None;
            return Ready::Empty;
        };
        let Some(max_idle) = max_idle.filter(|_| missing) else {
            self.idle_since = None;
            return Ready::Now(oldest);
        };
        if lags {
            return Ready::Until(wall.saturating_add(1));
        }
        let since = *self.idle_since.get_or_insert(wall);
        if wall >= since.saturating_add(max_idle) {
            if max_idle > 0 {
                self.cx.counters.enforced_processing += 1;
            }
            return Ready::Now(oldest);
        }
        Ready::Until(since.saturating_add(max_idle))
    }

    fn head(
        program: &mut Program,
        left_out: &[LeftOut],
        index: usize,
        input: &mut Input,
        wall: Timestamp,
    ) -> Option<Timestamp> {
        if input.head.is_none() {
            // The time of a record that is left out may be what the program panics on: its turn comes as soon as possible.
            let is_left_out = left_out.iter().any(|p| p.input == index && Some(p.offset) == input.front_offset());
            input.head =
                if is_left_out { Some(input.time) } else { program.sources[input.source].head_time(input, wall) };
        }
        input.head
    }

    /// Processes records with times up to `until`, at most `records` of them: always the oldest head, the first
    /// input on a tie (semantics.md 4). Stops when an input runs empty, so that the caller can fetch. Returns how many.
    pub(crate) fn process(&mut self, until: Timestamp, records: usize) -> Result<usize> {
        self.guarded_by_handler(|task| task.run(until, records))
    }

    /// As [`Task::guarded`]; a record on which the program panics is left out the next time, unless the handler says fail.
    fn guarded_by_handler<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.cx.has_record = false;
        let done = self.guarded(work);
        if let Err(Error::Panicked(panicked)) = &done
            && panicked.handled
            && !matches!(self.cx.handlers.processing, ExceptionHandler::Fail)
        {
            let (input, offset) = (self.cx.input, self.cx.offset);
            // The second time, it is the handler that has been asked and says fail.
            if !self.left_out.iter().any(|p| p.input == input && p.offset == offset) {
                self.left_out.push(LeftOut { input, offset, why: Why::Panicked(Panicked::clone(panicked)) });
                self.goes_on = true;
            }
        }
        done
    }

    /// Whether a rollback helps after the error that was just returned. It undoes what the record at fault has done, which is not
    /// processed again but left to the processing handler; or that record is looked for.
    pub(crate) fn goes_on(&mut self) -> bool {
        std::mem::take(&mut self.goes_on)
    }

    /// A store cannot write a row. Half as many records are then committed together, until that fails with the one that makes it.
    #[cold]
    fn refused(&mut self, store: StoreId, why: Unwritable) -> Error {
        let suspects = self.search.failed();
        self.goes_on |= matches!(suspects, Suspects::Several);
        // What has waited may make it, a timer, or the end of the input: no record is to blame for that.
        let (Suspects::One(input, offset), false) = (suspects, self.cx.has_passed_on) else { return why.into() };
        let node = self.topology.nodes().iter().find(|node| node.stores.contains(&store));
        let node = node.map(|node| node.name.clone()).unwrap_or_default();
        (self.cx.input, self.cx.offset, self.cx.has_record) = (input, offset, true);
        let error = self.cx.unwritable(node.clone(), why.clone().into());
        if !matches!(self.cx.handlers.processing, ExceptionHandler::Fail) {
            self.left_out.push(LeftOut { input, offset, why: Why::Unwritable(node, why) });
            self.search.found();
            self.goes_on = true;
        }
        error
    }

    /// Goes on behind a panic without a rollback: nodes are made anew, and the input of the record is read again from it on. Returns
    /// the input, and how many records that have been read before.
    pub(crate) fn read_again(&mut self) -> Result<(usize, usize)> {
        let index = self.cx.input;
        self.cx.failures.clear();
        let input = &mut self.inputs[index];
        // Of a queue that is empty now all would count as processed.
        let (from, time) = (input.consumed, input.time);
        self.left_out.retain(|p| p.input != index || p.offset >= from);
        let is_queued = input.front_offset() == Some(self.cx.offset);
        let records = input.buffered() + usize::from(!is_queued);
        input.reset(from, time);
        self.build()?;
        Ok((index, records))
    }

    /// Leaves out the next record of an input, if it is one of those; `None` if it is not.
    fn leave_out(&mut self, index: usize) -> Result<Option<usize>> {
        let input = &mut self.inputs[index];
        let Some(mut look) = input.front().map(|batch| batch.clone()) else { return Ok(None) };
        let Some(Ok(view)) = look.next() else { return Ok(None) };
        let Some(left_out) = self.left_out.iter().find(|p| p.input == index && p.offset == view.offset) else {
            return Ok(None);
        };
        (self.cx.offset, self.cx.has_record) = (view.offset, true);
        let headers = Headers::from_section(view.headers);
        let (key, value) = (view.key.as_ref(), view.value.as_ref());
        let (key, value) = (key.map(Payload::as_slice), value.map(Payload::as_slice));
        let record = RawRecord { key, value, headers: &headers, timestamp: view.timestamp };
        let error = match &left_out.why {
            Why::Panicked(why) => Error::Panicked(Box::new(why.clone())),
            Why::Unwritable(node, why) => self.cx.unwritable(node.clone(), why.clone().into()),
        };
        self.cx.ask_handler(error, record)?;
        input.consumed = view.offset + 1;
        if let Some(batch) = input.front() {
            batch.next();
        }
        Ok(Some(1))
    }

    fn run(&mut self, until: Timestamp, records: usize) -> Result<usize> {
        let mut done = 0;
        while done < records {
            let mut first: Option<(usize, Timestamp)> = None;
            let mut limit = until;
            for index in 0..self.inputs.len() {
                let (input, wall) = (&mut self.inputs[index], self.cx.wall);
                let Some(time) = Self::head(&mut self.program, &self.left_out, index, input, wall) else { continue };
                match first {
                    // The later input runs only strictly before the earlier one's head.
                    Some((_, best)) if time >= best => limit = limit.min(time),
                    Some((_, best)) => {
                        limit = limit.min(best - 1);
                        first = Some((index, time));
                    }
                    None => first = Some((index, time)),
                }
            }
            let Some((index, head)) = first.filter(|(_, head)| *head <= until) else { break };
            self.cx.input = index;
            // While one is ahead that is left out, records go one by one.
            let is_ahead = self.left_out.iter().any(|p| p.input == index && p.offset >= self.inputs[index].consumed);
            let left_out = if is_ahead { self.leave_out(index)? } else { None };
            let input = &mut self.inputs[index];
            let most = if is_ahead { 1 } else { self.search.at_most(records - done) };
            let limit = RunLimit { until: limit.max(head), records: most };
            let taken = match left_out {
                Some(taken) => taken,
                None => self.program.sources[input.source].run(&mut self.cx, input, limit)?,
            };
            input.head = None;
            let source = input.source;
            if let Some(idle) = self.idle.iter().find(|idle| idle.plan.source == source) {
                idle.delivered(&mut self.cx);
            }
            self.cx.counters.process += taken as u64;
            self.dirty = true;
            done += taken;
            match left_out {
                None => self.search.processed(taken, index, self.cx.offset),
                Some(taken) => self.search.passed_over(taken),
            }
            self.fire_by_stream_time()?;
            // Each panic would otherwise undo what was done behind the ones before it, and many of them take time by their square.
            let was_last = || !self.left_out.iter().any(|p| p.offset >= self.inputs[p.input].consumed);
            if self.search.wants_commit() || (left_out.is_some() && was_last()) {
                self.waits_for_commit = true;
                break;
            }
            if self.inputs[index].is_empty() {
                break;
            }
        }
        Ok(done)
    }

    /// Fires what is due: by the wall clock, and by a stream time that was reached before it was started.
    pub(crate) fn punctuate(&mut self, wall: Timestamp) -> Result<()> {
        self.guarded(|task| {
            task.fire(PunctuationType::WallClockTime, wall)?;
            task.fire_by_stream_time()
        })
    }

    fn fire_by_stream_time(&mut self) -> Result<()> {
        let now = self.cx.stream_time;
        if now >= self.cx.punctuate_at { self.fire(PunctuationType::StreamTime, now) } else { Ok(()) }
    }

    fn fire(&mut self, kind: PunctuationType, now: Timestamp) -> Result<()> {
        self.dirty |= punctuation::fire(&self.program.schedules, kind, now, &mut self.cx)?;
        if kind == PunctuationType::StreamTime {
            self.cx.punctuate_at = punctuation::earliest(&self.program.schedules, kind);
        }
        Ok(())
    }

    /// Notes that records are about to be looked for.
    pub(crate) fn look(&mut self, wall: Timestamp, alignment: &TimeAlignment) {
        self.idle.iter_mut().for_each(|idle| idle.look(wall, alignment));
    }

    /// Whether the last look has found nothing that is not processed. At what nobody looks any more it may be there.
    fn is_quiet(&self) -> bool {
        self.inputs.iter().all(|input| input.is_empty() && input.may_take() && !input.may_lag())
    }

    /// Lets go what waits for time, if idle sources have been silent for long enough (see [`crate::idleness`]).
    pub(crate) fn pass_time(&mut self) -> Result<()> {
        if self.idle.is_empty() || !self.is_quiet() {
            return Ok(());
        }
        self.cx.has_record = false;
        self.guarded(|task| (0..task.idle.len()).try_for_each(|idle| task.pass_time_of(idle)))
    }

    fn pass_time_of(&mut self, index: usize) -> Result<()> {
        let idle = &self.idle[index];
        idle.begin(&mut self.cx);
        let Some(time) = idle.time_at(idle.proven(), &self.inputs, &self.cx) else { return Ok(()) };
        if self.due(index) > time {
            return Ok(());
        }
        idle.reach(&mut self.cx, time);
        self.cx.stream_time = self.cx.stream_time.max(time);
        self.dirty = true;
        for node in &self.below[index] {
            self.program.lifecycles[*node].1.borrow_mut().on_time(&mut self.cx, time)?;
        }
        self.fire_by_stream_time()
    }

    /// The stream time for which something below an idle source waits.
    fn due(&self, idle: usize) -> Timestamp {
        let below = self.below[idle].iter().map(|node| self.program.lifecycles[*node].1.borrow().due(&self.cx));
        // Not `punctuate_at`, which is too early when that one was stopped.
        let punctuation = punctuation::earliest(&self.program.schedules, PunctuationType::StreamTime);
        below.fold(punctuation, Timestamp::min)
    }

    /// When, on the wall clock, an idle source lets something go next.
    pub(crate) fn next_time(&self) -> Option<Timestamp> {
        let idle = self.idle.iter().enumerate().filter(|_| self.is_quiet());
        let next = idle.filter_map(|(index, idle)| {
            let due = Some(self.due(index)).filter(|due| *due != Timestamp::MAX)?;
            idle.wall_at(due, &self.inputs, &self.cx)
        });
        next.min()
    }

    /// Up to when, on the wall clock, all that was there for an idle source has been passed on and committed.
    pub(crate) fn passed_on(&mut self) -> impl Iterator<Item = (usize, Timestamp)> {
        if !self.idle.is_empty() && !self.needs_commit() && self.pending.is_none() {
            self.note_passing_on();
            self.idle.iter_mut().for_each(IdleSource::has_passed_on);
        }
        self.idle.iter().filter_map(|idle| Some((idle.plan.source, idle.passed_on()?)))
    }

    /// What the last look has found is all processed, or not.
    fn note_passing_on(&mut self) {
        let all = self.is_quiet();
        self.idle.iter_mut().for_each(|idle| idle.passing_on(all));
    }

    /// When, on the wall clock, punctuation is due next: at once, if its stream time was reached before it was started.
    pub(crate) fn next_punctuation(&self) -> Timestamp {
        if self.cx.stream_time >= self.cx.punctuate_at {
            return Timestamp::MIN;
        }
        punctuation::earliest(&self.program.schedules, PunctuationType::WallClockTime)
    }

    /// Whether a commit would write anything.
    pub(crate) fn needs_commit(&self) -> bool {
        self.dirty
            || self.inputs.iter().zip(&self.committed.offsets).any(|(input, (offset, _))| input.consumed > *offset)
    }

    /// Whether a node asked for a commit.
    pub(crate) fn wants_commit(&self) -> bool {
        self.cx.commit_requested || self.waits_for_commit
    }

    /// Whether nothing more is to be processed before a commit.
    pub(crate) fn waits_for_commit(&self) -> bool {
        self.waits_for_commit
    }

    /// Bytes of state changed since the last flush.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.stores.iter().map(|(_, store, _)| store.state.borrow().dirty_bytes()).sum()
    }

    /// Goes on at another offset of one input: what was there is gone. A rollback does not go back behind it, or a
    /// second jump could end elsewhere.
    pub(crate) fn jump(&mut self, input: usize, to: Offset) {
        self.inputs[input].jump(to);
        let pending = self.pending.as_mut().map(|(snapshot, _)| snapshot);
        for snapshot in [Some(&mut self.committed), pending].into_iter().flatten() {
            snapshot.offsets[input].0 = to;
        }
        self.dirty = true;
    }

    /// Step (1) of a commit: nodes forward what they held back, the lowest node last, since it may get more.
    pub(crate) fn flush_nodes(&mut self) -> Result<()> {
        self.cx.has_record = false;
        self.guarded(|task| {
            let mut nodes = task.program.lifecycles.iter();
            nodes.try_for_each(|(_, node)| node.borrow_mut().on_commit(&mut task.cx))
        })
    }

    /// Answers a part of a query on one of its stores. The position is that of the part's begin: what comes meanwhile may show.
    pub(crate) fn query(&mut self, ask: &Ask, rows: usize) -> Result<Part, QueryError> {
        let position: Position = match ask.isolation {
            Isolation::ReadUncommitted => self.inputs.iter().map(|i| (i.partition.clone(), i.consumed)).collect(),
            Isolation::ReadCommitted => {
                let offsets = self.committed.offsets.iter().map(|(offset, _)| *offset);
                self.inputs.iter().map(|i| i.partition.clone()).zip(offsets).collect()
            }
        };
        // A global store has all partitions of its topic.
        let is_global = self.topology.stores()[ask.store.0].global;
        let partition = (!is_global).then_some(ask.partition);
        let unread = ask.bound.iter().find(|(of, _)| {
            let is_read = position.iter().any(|(own, _)| own.topic == of.topic);
            // One of a pattern may be read one day.
            let is_read = is_read || self.topology.has_pattern_of(&of.topic);
            partition.is_none_or(|partition| of.partition == partition) && !is_read
        });
        if let Some((of, _)) = unread {
            let reads: BTreeSet<String> = position.iter().map(|(own, _)| own.topic.to_string()).collect();
            return Err(QueryError::UnknownTopic {
                store: self.topology.stores()[ask.store.0].name.to_string(),
                topic: of.topic.to_string(),
                reads: reads.into_iter().collect(),
            });
        }
        if !position.has_reached(&ask.bound, partition) {
            return Err(QueryError::NotUpToBound { partition: ask.partition, position });
        }
        self.cx.has_record = false;
        let mut answer = ChangelogWriter::default();
        let rest = self.guarded(|task| {
            let store = task.stores.iter().find(|(id, _, _)| *id == ask.store);
            let (_, store, _) = store.ok_or_else(|| Error::user("the task has no such store"))?;
            store.state.borrow_mut().query(&ask.query, ask.isolation, rows, &mut answer)
        })?;
        let rows = answer.into_batches().map(|batch| batch.into_records(0)).collect();
        Ok(Part { rows, rest, position })
    }

    /// The input has ended: windows close as if time had gone on.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.cx.has_record = false;
        self.guarded(|task| {
            let mut nodes = task.program.lifecycles.iter();
            nodes.try_for_each(|(_, node)| node.borrow_mut().on_end(&mut task.cx))
        })?;
        self.dirty = true;
        Ok(())
    }

    /// Step (2): the changelog batches of every store.
    pub(crate) fn flush_stores(
        &mut self,
        mut send: impl FnMut(&TopicPartition, millstream_wire::BatchBuilder) -> Result<()>,
    ) -> Result<()> {
        self.cx.has_record = false;
        self.guarded(|task| {
            for index in 0..task.stores.len() {
                let (id, store, changelog) = &task.stores[index];
                let mut writer = ChangelogWriter::new(task.changelog_limits[index]);
                let flushed = store.state.borrow_mut().flush(&mut writer);
                if let Err(Error::Unencodable(why)) = flushed {
                    return Err(task.refused(*id, Unwritable::Unencodable(*why)));
                }
                flushed?;
                if let Some(why) = changelog.as_ref().and_then(|changelog| writer.too_large(changelog)) {
                    return Err(task.refused(*id, Unwritable::TooLarge(why)));
                }
                for batch in writer.into_batches() {
                    task.disks.iter_mut().for_each(|disk| disk.keep(index, &batch));
                    if let Some(changelog) = changelog {
                        send(changelog, batch)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Step (4): the positions to commit. From here until [`Task::committed`] or [`Task::rollback`] a commit is under way.
    pub(crate) fn prepare(&mut self) -> Vec<(TopicPartition, CommittedOffset)> {
        for ((_, store, _), slot) in self.stores.iter().zip(&self.store_times) {
            self.cx.advance_time(*slot, store.state.borrow().observed());
        }
        let commits = self.slot(COMMITS);
        self.cx.set_time(commits, self.cx.time(commits).max(0) + 1);
        let snapshot = self.snapshot();
        // A restart begins with those that the program starts, as upstream.
        let mut kept = snapshot.times.clone();
        self.program.schedules.iter().filter(|s| s.due() == END_OF_TIME).for_each(|s| kept[s.slot.0] = NO_TIME);
        // What is left of timers that the program has no more must not come back with one of their names.
        let is_own = |slot: TimeSlot| self.program.schedules.iter().any(|schedule| schedule.slot == slot);
        let times = self.times.iter().filter(|(name, slot)| !times::is_due(name) || is_own(*slot));
        let mut times: Vec<(String, Timestamp)> = times.map(|(name, slot)| (name.to_owned(), kept[slot.0])).collect();
        times.sort_unstable();
        let offsets = self.inputs.iter().zip(&snapshot.offsets).map(|(input, (offset, time))| {
            let metadata = OffsetMetadata { partition_time: *time, times: times.clone() }.encode();
            (input.partition.clone(), CommittedOffset { offset: *offset, metadata })
        });
        let offsets: Vec<_> = offsets.collect();
        self.pending = Some((snapshot, offsets.iter().map(|(_, kept)| Some(kept.clone())).collect()));
        self.note_passing_on();
        self.search.written();
        (self.dirty, self.cx.has_passed_on) = (false, false);
        (self.cx.commit_requested, self.waits_for_commit) = (false, false);
        offsets
    }

    /// What its group was last seen to have, or to be given, of each input.
    pub(crate) fn kept(&self) -> &[Option<CommittedOffset>] {
        &self.kept
    }

    /// The commit under way has taken effect.
    pub(crate) fn committed(&mut self) {
        if let Some(pending) = self.pending.take() {
            (self.committed, self.kept) = pending;
            let offsets = &self.committed.offsets;
            self.left_out.retain(|p| p.offset >= offsets[p.input].0);
            self.idle.iter_mut().for_each(IdleSource::has_passed_on);
            self.stores.iter().for_each(|(_, store, _)| store.state.borrow_mut().committed());
            self.disks.iter_mut().for_each(DiskStores::committed);
            self.cx.counters.commit += 1;
        }
    }

    /// Back to the last commit: the one way out of every failure. Returns the offsets to read from, one per input.
    pub(crate) fn rollback(&mut self) -> Result<Vec<Offset>> {
        self.pending = None;
        self.search.rolled_back();
        (self.dirty, self.cx.has_passed_on) = (false, false);
        self.idle_since = None;
        (self.cx.commit_requested, self.waits_for_commit) = (false, false);
        self.cx.out_of_order = false;
        self.cx.counters.rollback += 1;
        self.cx.collector.clear();
        self.cx.failures.clear();
        self.stores.iter().for_each(|(_, store, _)| store.state.borrow_mut().rollback());
        self.disks.iter_mut().for_each(DiskStores::rollback);
        for (input, (offset, time)) in self.inputs.iter_mut().zip(&self.committed.offsets) {
            input.reset(*offset, *time);
        }
        self.cx.stream_time = self.committed.stream_time;
        // What has got a name since goes on without a time.
        let slots = self.cx.times.len();
        self.cx.times.clone_from(&self.committed.times);
        self.cx.times.resize(slots, NO_TIME);
        self.build()?;
        Ok(self.committed.offsets.iter().map(|(offset, _)| *offset).collect())
    }
}
