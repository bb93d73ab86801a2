//! What the nodes of a task share: where the present record came from, the task's times, its output, and what becomes of
//! records that fail.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::rc::Rc;
use std::sync::Arc;

use crate::collector::Collector;
use crate::counters::Counters;
use crate::dead_letter::{self, DeadLetter};
use crate::error::{BufferFull, Error, NodeFailure, Result, TooLarge};
use crate::error_handler_context::{ErrorHandlerContext, RawRecord};
use crate::exception_handler::{ExceptionHandler, HandlerResponse};
use crate::handlers::Handlers;
use crate::headers::Headers;
use crate::log::{LogError, Offset, TopicPartition};
use crate::store::StateStore;
use crate::task_id::TaskId;
use crate::time::{NO_TIME, Timestamp};
use crate::topic_name::TopicName;
use crate::topology_index::NodeId;

/// Index of a time that an operator keeps in its task: its own stream time, the last window end that it closed, when
/// it punctuates next. Times are committed with the offsets and rolled back with them (semantics.md 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSlot(pub(crate) usize);

/// Passed down with every record.
pub struct TaskContext {
    /// The output under construction.
    pub collector: Collector,
    /// The task's counters.
    pub counters: Counters,
    task: TaskId,
    /// Names of the topology's nodes.
    nodes: Arc<[String]>,
    pub(crate) inputs: Vec<TopicPartition>,
    /// Of every input, the source node.
    sources: Vec<NodeId>,
    pub(crate) input: usize,
    pub(crate) offset: Offset,
    pub(crate) has_record: bool,
    /// What has waited was passed on since the last commit, or a timer has fired: not all that was done is of records.
    pub(crate) has_passed_on: bool,
    pub(crate) stream_time: Timestamp,
    pub(crate) wall: Timestamp,
    pub(crate) times: Vec<Timestamp>,
    /// The stream time up to which no punctuation is due; a run ends there.
    pub(crate) punctuate_at: Timestamp,
    pub(crate) commit_requested: bool,
    pub(crate) handlers: Handlers,
    /// Failures of the record under way: handlers are asked when it is done, by the source, which has its bytes.
    pub(crate) failures: Vec<Error>,
    pub(crate) out_of_order: bool,
    /// The task's stores, told of keys ahead.
    pub(crate) stores: Vec<Rc<RefCell<dyn StateStore>>>,
}

impl TaskContext {
    /// The largest time of any record taken for processing in this task (semantics.md 1); -1 before the first.
    #[inline]
    pub fn stream_time(&self) -> Timestamp {
        self.stream_time
    }

    /// The wall clock at the start of this poll.
    #[inline]
    pub fn wall_time(&self) -> Timestamp {
        self.wall
    }

    /// Topic, partition and offset of the record being processed; `None` inside a punctuation, and for what has waited.
    pub fn source(&self) -> Option<(&TopicPartition, Offset)> {
        self.has_record.then(|| (&self.inputs[self.input], self.offset))
    }

    /// Passes on what has waited, for time or for a commit: the record that made it leave is not its source, and is not to blame
    /// for what becomes of it.
    #[inline]
    pub fn passing_on<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let has_record = std::mem::replace(&mut self.has_record, false);
        self.has_passed_on = true;
        let done = work(self);
        self.has_record = has_record;
        done
    }

    /// Number of the partition being processed; the task's own inside a punctuation.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.inputs.get(self.input).map_or(0, |p| p.partition)
    }

    /// The value of an operator's time.
    #[inline]
    pub fn time(&self, slot: TimeSlot) -> Timestamp {
        self.times[slot.0]
    }

    /// Moves an operator's time forward to `time` if that is later, and returns it.
    #[inline]
    pub fn advance_time(&mut self, slot: TimeSlot, time: Timestamp) -> Timestamp {
        let own = &mut self.times[slot.0];
        *own = (*own).max(time);
        *own
    }

    /// Sets an operator's time.
    #[inline]
    pub fn set_time(&mut self, slot: TimeSlot, time: Timestamp) {
        self.times[slot.0] = time;
    }

    /// Whether the change under way is of a versioned table and older than its row (KIP-914).
    #[inline]
    pub fn is_out_of_order(&self) -> bool {
        self.out_of_order
    }

    /// Says so of what is forwarded next, and returns what was said before.
    pub fn set_out_of_order(&mut self, out_of_order: bool) -> bool {
        std::mem::replace(&mut self.out_of_order, out_of_order)
    }

    /// Asks for a commit as soon as possible.
    pub fn request_commit(&mut self) {
        self.commit_requested = true;
    }

    /// Counts a record that an operator leaves out.
    #[inline]
    pub fn drop_record(&mut self) {
        self.counters.dropped_records += 1;
    }

    /// Counts a record that came too late for its window.
    #[inline]
    pub fn drop_late_record(&mut self) {
        self.counters.dropped_records += 1;
        self.counters.late_records += 1;
    }

    /// Leaves a failure of a node to the processing handler; `Ok` means that the record's path ends here. What is no
    /// [`Error::User`] is not the node's own failure, and stays one.
    ///
    /// # Errors
    /// [`Error::Processing`] when the handler says fail without being asked.
    #[cold]
    pub fn failed(&mut self, node: NodeId, error: Error) -> Result<()> {
        let Error::User(source) = error else { return Err(error) };
        let failure = self.failure(self.name(node), *source);
        self.leave_to_handler(Error::Processing(Box::new(failure)))
    }

    /// Leaves a record that a sink cannot write to the production handler; `Ok` means that its path ends here.
    ///
    /// # Errors
    /// [`Error::Production`] when the handler says fail without being asked.
    #[cold]
    pub fn unwritten(&mut self, sink: NodeId, error: Error) -> Result<()> {
        let failure = self.failure(self.name(sink), Box::new(error));
        self.leave_to_handler(Error::Production(Box::new(failure)))
    }

    /// The error of a suppression that holds more than it may: `waits` rows or bytes, where `may` may.
    #[cold]
    pub fn full(&self, name: &str, waits: usize, may: usize, what: &'static str) -> Error {
        let record = self.source().map(|(partition, offset)| (partition.clone(), offset));
        Error::Full(Box::new(BufferFull { name: name.to_owned(), task: self.task, record, waits, may, what }))
    }

    fn name(&self, node: NodeId) -> String {
        self.nodes[node.0].clone()
    }

    fn failure(&self, node: String, source: Box<dyn StdError + Send + Sync>) -> NodeFailure {
        NodeFailure {
            node,
            task: self.task,
            record: self.source().map(|(partition, offset)| (partition.clone(), offset)),
            source,
            retry: false,
        }
    }

    /// A node's store cannot write the row that the record has made.
    #[cold]
    pub(crate) fn unwritable(&self, node: String, why: Error) -> Error {
        Error::Processing(Box::new(self.failure(node, Box::new(why))))
    }

    fn leave_to_handler(&mut self, error: Error) -> Result<()> {
        if matches!(self.handlers.of(&error), ExceptionHandler::Fail) {
            return Err(error);
        }
        // A punctuation has no source record, nor has what waited.
        if !self.has_record {
            let (headers, timestamp) = (Headers::new(), self.stream_time);
            return self.ask_handler(error, RawRecord { key: None, value: None, headers: &headers, timestamp });
        }
        self.failures.push(error);
        Ok(())
    }

    /// Asks the handlers about the failures of a record that is done.
    #[cold]
    pub(crate) fn ask_handlers(&mut self, record: RawRecord<'_>) -> Result<()> {
        let mut failures = std::mem::take(&mut self.failures).into_iter();
        failures.try_for_each(|error| self.ask_handler(error, record))
    }

    /// Does with a failure what its handler answers; `Ok` means that the record is left out.
    #[cold]
    pub(crate) fn ask_handler(&mut self, error: Error, record: RawRecord<'_>) -> Result<()> {
        let (why, letters) = self.answer(error, record)?;
        self.drop_record();
        if !self.handlers.letters {
            return Ok(());
        }
        letters.iter().try_for_each(|letter| match self.send_letter(letter) {
            Err(Error::TooLarge(large)) => self.unwritten_letter(&why, *large, record),
            sent => sent,
        })
    }

    /// A dead letter is too large: the production handler is asked, as about any record. About what it writes instead none is.
    #[cold]
    fn unwritten_letter(&mut self, why: &Error, large: TooLarge, record: RawRecord<'_>) -> Result<()> {
        let told = self.told(why, record);
        let (node, letter) = (told.node.to_owned(), Some(dead_letter::reason(&told).1));
        let failure = self.failure(node, Box::new(Error::TooLarge(Box::new(TooLarge { letter, ..large }))));
        let (error, letters) = self.answer(Error::Production(Box::new(failure)), record)?;
        for letter in letters {
            match self.send_letter(&letter) {
                Err(Error::TooLarge(_)) => return Err(error),
                sent => sent?,
            }
        }
        self.counters.large_dead_letter += 1;
        Ok(())
    }

    /// What a handler is told.
    fn told<'a>(&'a self, error: &'a Error, record: RawRecord<'a>) -> ErrorHandlerContext<'a> {
        let source = &self.nodes[self.sources[self.input].0];
        ErrorHandlerContext {
            node: error.node().unwrap_or(source),
            task: self.task,
            source: self.source(),
            timestamp: record.timestamp,
            headers: record.headers,
            raw_key: record.key,
            raw_value: record.value,
            error,
        }
    }

    /// The letters of a handler that leaves a record out, and why it does.
    fn answer(&self, error: Error, record: RawRecord<'_>) -> Result<(Error, Vec<DeadLetter>)> {
        match self.handlers.of(&error).answer(&self.told(&error, record)) {
            Ok(HandlerResponse::Continue) => Ok((error, Vec::new())),
            Ok(HandlerResponse::ContinueWith(letters)) => Ok((error, letters)),
            Ok(HandlerResponse::Fail) => Err(error),
            Ok(HandlerResponse::Retry) => Err(error.tried_again()),
            Err(panic) => Err(Error::user(format!("{panic}\n  it was asked about: {error}"))),
        }
    }

    fn send_letter(&mut self, letter: &DeadLetter) -> Result<()> {
        let DeadLetter { topic, partition, key, value, timestamp, headers } = letter;
        let slot = self.collector.slot_of_users(topic).map_err(|error| match error {
            Error::Log(unknown) if matches!(*unknown, LogError::UnknownTopic(_)) => {
                let help = if TopicName::is_legal(topic) {
                    format!("create it, or name it with .topic(\"{topic}\", partitions) in the program")
                } else {
                    format!("no topic can have this name, wanted is {}", TopicName::RULE)
                };
                Error::user(format!(
                    "an exception handler writes to topic `{topic}`, which does not exist\n  help: {help}"
                ))
            }
            other => other,
        })?;
        let (key, partitions) = (key.as_deref(), self.collector.partitions(slot));
        let partition = partition.unwrap_or_else(|| self.collector.partition(slot, key, self.partition()));
        if !(0..partitions).contains(&partition) {
            return Err(Error::user(format!(
                "an exception handler writes to partition {partition} of topic `{topic}`, which has {partitions}\n  help: `partition: None` places the record by its key"
            )));
        }
        self.collector.send(slot, partition, (*timestamp).max(0), key, value.as_deref(), headers.section())?;
        self.counters.dead_letter += 1;
        Ok(())
    }

    pub(crate) fn new(
        task: TaskId,
        nodes: Arc<[String]>,
        collector: Collector,
        inputs: Vec<TopicPartition>,
        sources: Vec<NodeId>,
    ) -> Self {
        TaskContext {
            collector,
            counters: Counters::default(),
            task,
            nodes,
            inputs,
            sources,
            input: 0,
            offset: 0,
            has_record: false,
            has_passed_on: false,
            stream_time: NO_TIME,
            wall: 0,
            times: Vec::new(),
            punctuate_at: Timestamp::MAX,
            commit_requested: false,
            handlers: Handlers::FAIL,
            failures: Vec::new(),
            out_of_order: false,
            stores: Vec::new(),
        }
    }
}
