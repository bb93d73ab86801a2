//! Timestamp extractors: the event time of a source's records (semantics.md 6).

use crate::record::Record;
use crate::serde::SerdeError;
use crate::time::{LATEST_TIME, Timestamp};

/// What a [`TimestampExtractor`] says of a record.
#[derive(Debug, Clone)]
pub enum Extracted {
    /// The record's event time. A negative one drops the record; behind [`LATEST_TIME`] it cannot be used.
    Time(Timestamp),
    /// The wall clock's time, when the record is processed.
    WallClock,
    /// Drop the record and count it.
    Drop,
    /// The record cannot be used; the deserialization handler decides.
    Fail(SerdeError),
}

impl Extracted {
    /// The record's event time, or none if it is dropped.
    #[inline]
    pub(crate) fn time(self, wall: Timestamp) -> Result<Option<Timestamp>, SerdeError> {
        match self {
            Extracted::Time(time @ 0..=LATEST_TIME) => Ok(Some(time)),
            Extracted::Time(time) if time > LATEST_TIME => Err(too_late(time)),
            Extracted::WallClock => Ok(Some(wall)),
            Extracted::Time(_) | Extracted::Drop => Ok(None),
            Extracted::Fail(error) => Err(error),
        }
    }
}

/// A time that no reckoning can be done with.
#[cold]
fn too_late(time: Timestamp) -> SerdeError {
    SerdeError::invalid(format!(
        "the record has the time {time}, and the latest is {LATEST_TIME} ms\n  help: give the source a timestamp extractor that says when it was, or drops it"
    ))
}

/// Gives a record its event time.
pub trait TimestampExtractor<K, V>: Clone + Send + Sync + 'static {
    /// Whether a time that the log has may be replaced; then the head of a queue is decoded to be compared with others.
    const READS_RECORD: bool = true;

    /// The event time. `record.timestamp` is the time in the log; `partition_time` the largest before it.
    fn extract(&self, record: &Record<K, V>, partition_time: Timestamp) -> Extracted;
}

/// The default: the time in the log; a record with a negative one is for the deserialization handler.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailOnInvalidTimestamp;

impl<K, V> TimestampExtractor<K, V> for FailOnInvalidTimestamp {
    const READS_RECORD: bool = false;

    #[inline]
    fn extract(&self, record: &Record<K, V>, _: Timestamp) -> Extracted {
        time_or(record, |time| {
            Extracted::Fail(SerdeError::invalid(format!(
                "the record has the negative time {time}\n  help: give the source a timestamp extractor"
            )))
        })
    }
}

/// The time in the log; a record with a negative one is dropped and counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogAndSkipOnInvalidTimestamp;

impl<K, V> TimestampExtractor<K, V> for LogAndSkipOnInvalidTimestamp {
    const READS_RECORD: bool = false;

    #[inline]
    fn extract(&self, record: &Record<K, V>, _: Timestamp) -> Extracted {
        time_or(record, |_| Extracted::Drop)
    }
}

/// The time in the log, or, where that is negative, the largest before it in its partition. If there is none yet, the record is for
/// the deserialization handler.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsePartitionTimeOnInvalidTimestamp;

impl<K, V> TimestampExtractor<K, V> for UsePartitionTimeOnInvalidTimestamp {
    const READS_RECORD: bool = false;

    #[inline]
    fn extract(&self, record: &Record<K, V>, partition_time: Timestamp) -> Extracted {
        time_or(record, |time| match partition_time {
            0.. => Extracted::Time(partition_time),
            _ => Extracted::Fail(SerdeError::invalid(format!(
                "the record has the negative time {time}, and none before it in its partition has a time\n  help: give the source another timestamp extractor"
            ))),
        })
    }
}

/// The wall clock's time, when the record is processed: whatever time it has in the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallclockTimestampExtractor;

impl<K, V> TimestampExtractor<K, V> for WallclockTimestampExtractor {
    #[inline]
    fn extract(&self, _: &Record<K, V>, _: Timestamp) -> Extracted {
        Extracted::WallClock
    }
}

/// The time in the log, or what is made of a negative one.
#[inline]
fn time_or<K, V>(record: &Record<K, V>, invalid: impl FnOnce(Timestamp) -> Extracted) -> Extracted {
    if record.timestamp >= 0 { Extracted::Time(record.timestamp) } else { invalid(record.timestamp) }
}
