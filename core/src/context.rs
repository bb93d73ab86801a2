//! What the nodes of a task share: where the present record came from, the task's times, its output, and what becomes of
//! records that fail.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::rc::Rc;
use std::sync::Arc;

use crate::collector::{Collector, SinkSlot};
use crate::counters::Counters;
use crate::dead_letter::DeadLetter;
use crate::error::{Error, NodeFailure, Panicked, Result, Undecodable};
use crate::headers::Headers;
use crate::log::{Offset, TopicPartition};
use crate::store::StateStore;
use crate::task::TaskId;
use crate::time::{NO_TIME, Timestamp};
use crate::topology::{NodeId, Topology};

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
    topology: Arc<Topology>,
    pub(crate) inputs: Vec<TopicPartition>,
    pub(crate) input: usize,
    pub(crate) offset: Offset,
    pub(crate) has_record: bool,
    pub(crate) stream_time: Timestamp,
    pub(crate) wall: Timestamp,
    pub(crate) times: Vec<Timestamp>,
    /// When the next stream-time punctuation is due; a run ends there.
    pub(crate) punctuate_at: Timestamp,
    pub(crate) commit_requested: bool,
    pub(crate) handlers: Handlers,
    /// Failures of the record under way: the source, which has its bytes, sends them when the record is done.
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) out_of_order: bool,
    /// The task's stores, told of keys ahead.
    pub(crate) stores: Vec<Rc<RefCell<dyn StateStore>>>,
}

/// What happens to a record that cannot be decoded, processed or written: `deserialization.exception.handler`,
/// `processing.exception.handler`, `production.exception.handler`.
///
/// An error ends the path of its record below the operator that returned it: what the record had done before stays, as in
/// Kafka Streams. A panic may have left anything behind; so the unit of work is rolled back, and the record is left out as
/// if it had never been there, time included. A panic in a timer, at a commit or in a timestamp extractor that reads the
/// record always fails the task.
///
/// There is no answer `retry`. What may pass by itself (KIP-1065: a log that times out, a full disk) is never asked about: the
/// thread goes back to its last commit and tries again until it has passed. What is asked about stays: the same bytes, the
/// same record, the same size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExceptionHandler {
    /// The task fails and says which record it was.
    #[default]
    Fail,
    /// The record's path ends there, and it is counted as dropped.
    Skip,
    /// As `Skip`, and the source record goes to this topic, with its raw bytes and headers that say why, in the same commit.
    DeadLetter(String),
}

/// An [`ExceptionHandler`] in a task.
#[derive(Clone, Copy)]
pub(crate) enum OnError {
    Fail,
    Skip,
    DeadLetter(SinkSlot),
}

/// The handlers of a task.
#[derive(Clone, Copy)]
pub(crate) struct Handlers {
    pub(crate) deserialization: OnError,
    pub(crate) processing: OnError,
    pub(crate) production: OnError,
}

impl Handlers {
    pub(crate) const FAIL: Handlers =
        Handlers { deserialization: OnError::Fail, processing: OnError::Fail, production: OnError::Fail };
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

    /// Topic, partition and offset of the record being processed; `None` inside a punctuation.
    pub fn source(&self) -> Option<(&TopicPartition, Offset)> {
        self.has_record.then(|| (&self.inputs[self.input], self.offset))
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

    /// Does with an undecodable record what the handler says.
    #[cold]
    pub(crate) fn undecodable(
        &mut self,
        error: Undecodable,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
        timestamp: Timestamp,
    ) -> Result<()> {
        match self.handlers.deserialization {
            OnError::Fail => return Err(Error::Undecodable(Box::new(error))),
            OnError::Skip => {}
            OnError::DeadLetter(slot) => {
                let letter = DeadLetter::undecodable(slot, error);
                self.send_letter(letter, key, value, headers, timestamp)?;
            }
        }
        self.drop_record();
        Ok(())
    }

    /// Leaves out a record on which the program has panicked.
    #[cold]
    pub(crate) fn panicked(
        &mut self,
        error: &Panicked,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
        timestamp: Timestamp,
    ) -> Result<()> {
        if let OnError::DeadLetter(slot) = self.handlers.processing {
            self.send_letter(DeadLetter::panicked(slot, error), key, value, headers, timestamp)?;
        }
        self.drop_record();
        Ok(())
    }

    /// Does with a failure of a node what the processing handler says; `Ok` means that the record's path ends here. What
    /// is no [`Error::User`] is not the node's own failure, and stays one.
    ///
    /// # Errors
    /// [`Error::Processing`] when the handler says fail.
    #[cold]
    pub fn failed(&mut self, node: NodeId, error: Error) -> Result<()> {
        let Error::User(source) = error else { return Err(error) };
        let failure = self.failure(node, *source);
        match self.handlers.processing {
            OnError::Fail => Err(Error::Processing(Box::new(failure))),
            OnError::Skip => self.leave_out(None, &failure),
            OnError::DeadLetter(slot) => self.leave_out(Some(slot), &failure),
        }
    }

    /// Does with a record that a sink cannot write what the production handler says; `Ok` means that it is left out.
    ///
    /// # Errors
    /// [`Error::Production`] when the handler says fail.
    #[cold]
    pub fn unwritten(&mut self, sink: NodeId, error: Error) -> Result<()> {
        let failure = self.failure(sink, Box::new(error));
        match self.handlers.production {
            OnError::Fail => Err(Error::Production(Box::new(failure))),
            OnError::Skip => self.leave_out(None, &failure),
            OnError::DeadLetter(slot) => self.leave_out(Some(slot), &failure),
        }
    }

    fn failure(&self, node: NodeId, source: Box<dyn StdError + Send + Sync>) -> NodeFailure {
        NodeFailure {
            node: self.topology.nodes()[node.0].name.clone(),
            task: self.task,
            record: self.source().map(|(partition, offset)| (partition.clone(), offset)),
            source,
        }
    }

    fn leave_out(&mut self, letters: Option<SinkSlot>, failure: &NodeFailure) -> Result<()> {
        self.drop_record();
        let Some(slot) = letters else { return Ok(()) };
        let letter = DeadLetter::failed(slot, failure);
        // A punctuation has no source record.
        if !self.has_record {
            return self.send_letter(letter, None, None, &Headers::new(), self.stream_time);
        }
        self.letters.push(letter);
        Ok(())
    }

    /// Sends the letters of a record that is done: its raw bytes, its headers, its time.
    #[cold]
    pub(crate) fn send_letters(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
        timestamp: Timestamp,
    ) -> Result<()> {
        let mut letters = std::mem::take(&mut self.letters).into_iter();
        letters.try_for_each(|letter| self.send_letter(letter, key, value, headers, timestamp))
    }

    fn send_letter(
        &mut self,
        letter: DeadLetter,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
        timestamp: Timestamp,
    ) -> Result<()> {
        let partition = self.collector.partition(letter.slot, key, self.partition());
        let headers = letter.headers(headers);
        self.collector.send(letter.slot, partition, timestamp.max(0), key, value, headers.section())?;
        self.counters.dead_letter += 1;
        Ok(())
    }

    pub(crate) fn new(
        task: TaskId,
        topology: Arc<Topology>,
        collector: Collector,
        inputs: Vec<TopicPartition>,
    ) -> Self {
        TaskContext {
            collector,
            counters: Counters::default(),
            task,
            topology,
            inputs,
            input: 0,
            offset: 0,
            has_record: false,
            stream_time: NO_TIME,
            wall: 0,
            times: Vec::new(),
            punctuate_at: Timestamp::MAX,
            commit_requested: false,
            handlers: Handlers::FAIL,
            letters: Vec::new(),
            out_of_order: false,
            stores: Vec::new(),
        }
    }
}
