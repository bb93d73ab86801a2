//! A topic's configuration: Kafka's keys, checked, with the defaults of the broker.

use std::collections::BTreeMap;

use millstream_core::{LogError, Timestamp, nearest_word};

use crate::options::BrokerOptions;

/// The keys that are known, with their smallest value where they are numbers.
const KEYS: [(&str, Option<i64>); 14] = [
    ("cleanup.policy", None),
    ("compression.type", None),
    ("delete.retention.ms", Some(0)),
    ("max.compaction.lag.ms", Some(1)),
    ("max.message.bytes", Some(0)),
    ("message.timestamp.type", None),
    ("min.cleanable.dirty.ratio", None),
    ("min.compaction.lag.ms", Some(0)),
    ("min.insync.replicas", Some(1)),
    ("retention.bytes", Some(-1)),
    ("retention.ms", Some(-1)),
    ("segment.bytes", Some(1024)),
    ("segment.ms", Some(1)),
    ("file.delete.delay.ms", Some(0)),
];

/// What a partition needs to know.
#[derive(Debug, Clone)]
pub(crate) struct TopicConfig {
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) segment_bytes: u64,
    /// A segment that was begun longer ago gets no more batches.
    pub(crate) segment_ms: i64,
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) max_message_bytes: usize,
    pub(crate) deletes: bool,
    pub(crate) compacts: bool,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: Option<i64>,
    /// For how long tombstones and markers are left for readers.
    pub(crate) delete_retention_ms: i64,
}

/// A compacted topic's segments are closed at this size if nothing else is said: only closed ones are compacted, and what
/// is left is what a start reads.
const COMPACTED_SEGMENT_BYTES: u64 = 64 << 20;

/// Places in a segment's index have 32 bits; it is Kafka's bound too.
const LARGEST_SEGMENT: u64 = i32::MAX as u64;

impl TopicConfig {
    /// As [`TopicConfig::new`], of settings that somebody asks for now: what versions before have taken is not refused by a start.
    pub(crate) fn asked_for(
        asked: &BTreeMap<String, String>,
        given: &BTreeMap<String, String>,
        broker: &BrokerOptions,
    ) -> Result<Self, LogError> {
        match asked.get("segment.bytes") {
            Some(value) if value.parse().is_ok_and(|bytes: u64| bytes > LARGEST_SEGMENT) => {
                Err(LogError::InvalidConfig {
                    key: "segment.bytes".into(),
                    problem: format!("`{value}` is not 1024 to {LARGEST_SEGMENT}"),
                })
            }
            _ => Self::new(given, broker),
        }
    }

    pub(crate) fn new(given: &BTreeMap<String, String>, broker: &BrokerOptions) -> Result<Self, LogError> {
        for (key, value) in given {
            check(key, value)?;
        }
        let number = |key: &str| given.get(key).and_then(|v| v.parse::<i64>().ok());
        let bounded = |key: &str, default: Option<i64>| number(key).map_or(default, |n| (n >= 0).then_some(n));
        let has_policy = |policy: &str| given.get("cleanup.policy").map(|p| p.split(',').any(|p| p.trim() == policy));
        let compacts = has_policy("compact").unwrap_or(false);
        let (min_lag, max_lag) = (number("min.compaction.lag.ms").unwrap_or(0), number("max.compaction.lag.ms"));
        if let Some(max) = max_lag.filter(|max| min_lag > *max) {
            return Err(LogError::InvalidConfig {
                key: "min.compaction.lag.ms".into(),
                problem: format!("{min_lag} is more than max.compaction.lag.ms={max}"),
            });
        }
        let segment_bytes =
            if compacts { broker.segment_bytes.min(COMPACTED_SEGMENT_BYTES) } else { broker.segment_bytes };
        let segment_ms = number("segment.ms").unwrap_or(7 * 24 * 3_600_000);
        Ok(TopicConfig {
            // What is never closed is never compacted.
            segment_ms: max_lag.filter(|_| compacts).map_or(segment_ms, |lag| lag.min(segment_ms)),
            segment_bytes: number("segment.bytes").map_or(segment_bytes, |n| n as u64).min(LARGEST_SEGMENT),
            retention_ms: bounded("retention.ms", broker.retention_ms),
            retention_bytes: bounded("retention.bytes", broker.retention_bytes.map(|n| n as i64)).map(|n| n as u64),
            max_message_bytes: number("max.message.bytes").map_or(broker.max_message_bytes, |n| n as usize),
            deletes: has_policy("delete").unwrap_or(true),
            compacts,
            min_cleanable_dirty_ratio: given
                .get("min.cleanable.dirty.ratio")
                .and_then(|ratio| ratio.parse().ok())
                .unwrap_or(0.5),
            min_compaction_lag_ms: min_lag,
            max_compaction_lag_ms: max_lag,
            delete_retention_ms: number("delete.retention.ms").unwrap_or(24 * 3_600_000),
            given: given.clone(),
        })
    }
}

impl TopicConfig {
    /// Whether a segment of so many bytes takes no batch of `more` bytes. `times`: when it was begun, and of a record of that
    /// batch; a marker has none.
    pub(crate) fn is_full(&self, size: u64, more: u64, times: Option<(Timestamp, Timestamp)>) -> bool {
        let large = size > 0 && size + more > self.segment_bytes;
        large || times.is_some_and(|(begun, time)| time.saturating_sub(begun) >= self.segment_ms)
    }
}

fn check(key: &str, value: &str) -> Result<(), LogError> {
    let invalid = |problem: String| Err(LogError::InvalidConfig { key: key.to_owned(), problem });
    let Some((_, smallest)) = KEYS.iter().find(|(name, _)| *name == key) else {
        let nearest = nearest_word(key, KEYS.iter().map(|(name, _)| *name));
        return invalid(nearest.map_or("unknown".into(), |nearest| format!("unknown; did you mean `{nearest}`?")));
    };
    if let Some(smallest) = smallest {
        return match value.parse::<i64>() {
            Ok(n) if n >= *smallest => Ok(()),
            _ => invalid(format!("`{value}` is not a whole number of at least {smallest}")),
        };
    }
    let allowed: &[&str] = match key {
        "cleanup.policy" => &["delete", "compact", "compact,delete", "delete,compact"],
        // Batches are kept as their producers made them.
        "compression.type" => &["producer"],
        "message.timestamp.type" => &["CreateTime"],
        _ => {
            return if value.parse::<f64>().is_ok_and(|r| (0.0..=1.0).contains(&r)) {
                Ok(())
            } else {
                invalid(format!("`{value}` is not between 0 and 1"))
            };
        }
    };
    if allowed.contains(&value) { Ok(()) } else { invalid(format!("`{value}` is none of {}", allowed.join(", "))) }
}

/// Kafka's rule for topic names.
pub(crate) fn check_name(name: &str) -> Result<(), LogError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let rule = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "`.` and `..` are folders"
    } else if name.len() > 249 {
        "at most 249 characters"
    } else if !name.chars().all(legal) {
        "only a-z, A-Z, 0-9, `.`, `_` and `-`"
    } else {
        return Ok(());
    };
    Err(LogError::InvalidTopic { name: name.to_owned(), rule })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::ManualClock;

    use super::*;

    #[test]
    fn records_of_any_time_fill_a_segment_without_an_overflow() {
        let broker = BrokerOptions::memory(Arc::new(ManualClock::at(0)));
        let config = TopicConfig::new(&BTreeMap::new(), &broker).expect("the defaults");
        let is_full = |begun, time| config.is_full(1, 1, Some((begun, time)));
        let ends = (Timestamp::MIN, Timestamp::MAX);
        assert_eq!([is_full(ends.0, ends.1), is_full(ends.1, ends.0), is_full(-1, ends.1)], [true, false, true]);
    }
}
