//! What the nodes of a task share: where the present record came from, the task's times, its output.

use crate::collector::{Collector, SinkSlot};
use crate::counters::Counters;
use crate::error::{Error, Result, Undecodable};
use crate::headers::Headers;
use crate::log::{Offset, TopicPartition};
use crate::time::{NO_TIME, Timestamp};

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
    pub(crate) undecodable: OnUndecodable,
    out_of_order: bool,
}

/// What happens to a record that cannot be decoded (`deserialization.exception.handler`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeserializationHandler {
    /// The application stops and says which record it was.
    #[default]
    Fail,
    /// The record is counted as dropped.
    Skip,
    /// The record goes to this topic, with its raw bytes and headers that say why, in the same commit.
    DeadLetter(String),
}

#[derive(Clone)]
pub(crate) enum OnUndecodable {
    Fail,
    Skip,
    DeadLetter(SinkSlot),
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
        let slot = match &self.undecodable {
            OnUndecodable::Fail => return Err(Error::Undecodable(Box::new(error))),
            OnUndecodable::Skip => {
                self.drop_record();
                return Ok(());
            }
            OnUndecodable::DeadLetter(slot) => *slot,
        };
        let mut headers = headers.clone();
        let mut note = |name: &str, text: &str| headers.add(&format!("__streams.errors.{name}"), Some(text.as_bytes()));
        note("exception", "SerdeError");
        note("message", &error.source.to_string());
        note("stacktrace", "");
        note("topic", &error.partition.topic);
        note("partition", &error.partition.partition.to_string());
        note("offset", &error.offset.to_string());
        let partition = self.collector.partition(slot, key, error.partition.partition);
        self.collector.send(slot, partition, timestamp.max(0), key, value, headers.section());
        self.counters.dropped_records += 1;
        self.counters.dead_letter += 1;
        Ok(())
    }

    pub(crate) fn new(collector: Collector, inputs: Vec<TopicPartition>) -> Self {
        TaskContext {
            collector,
            counters: Counters::default(),
            inputs,
            input: 0,
            offset: 0,
            has_record: false,
            stream_time: NO_TIME,
            wall: 0,
            times: Vec::new(),
            punctuate_at: Timestamp::MAX,
            commit_requested: false,
            undecodable: OnUndecodable::Fail,
            out_of_order: false,
        }
    }
}
