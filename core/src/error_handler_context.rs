//! A record that failed, as an exception handler is told of it.

use crate::error::Error;
use crate::headers::Headers;
use crate::log::{Offset, TopicPartition};
use crate::task_id::TaskId;
use crate::time::Timestamp;

/// A record that failed, and where and why. Key, value, headers and time are the source record's, not those of the
/// operator that failed; a timer has none, but the task's stream time.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ErrorHandlerContext<'a> {
    /// The node that failed, as [`crate::Topology::describe`] names it; after a panic the record's source.
    pub node: &'a str,
    /// Its task.
    pub task: TaskId,
    /// Topic, partition and offset of the source record; `None` in a timer.
    pub source: Option<(&'a TopicPartition, Offset)>,
    /// Milliseconds since 1970 UTC: the event time, or the time in the log if the record could not be decoded.
    pub timestamp: Timestamp,
    /// The source record's headers.
    pub headers: &'a Headers,
    /// The source record's key, as it came; `None` is null.
    pub raw_key: Option<&'a [u8]>,
    /// The source record's value, as it came; `None` is null.
    pub raw_value: Option<&'a [u8]>,
    /// What went wrong: [`Error::Undecodable`], [`Error::Processing`], [`Error::Panicked`] or [`Error::Production`]. What a
    /// closure returned is its [`std::error::Error::source`].
    pub error: &'a Error,
}

/// A source record as it came.
#[derive(Clone, Copy)]
pub(crate) struct RawRecord<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a Headers,
    pub(crate) timestamp: Timestamp,
}
