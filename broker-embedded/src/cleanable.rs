//! Whether a partition is to be compacted, and up to where: decided from what its segments are like, nothing else.

use millstream_core::{Offset, Timestamp};

use crate::topic_config::TopicConfig;

/// What is known of a closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) base: Offset,
    /// Where the next one begins.
    pub(crate) end: Offset,
    pub(crate) size: u64,
    /// The largest time of its first batch, and of all.
    pub(crate) begun: Option<Timestamp>,
    pub(crate) newest: Timestamp,
    /// Since when it has not grown, as far as that is known.
    pub(crate) unchanged_since: Timestamp,
}

/// How old records are.
///
/// They are older than a time when their own times say so, and they have been in the log for that long: records of long
/// ago that were written just now are young. A changelog's age counts from its newest record instead: event time may be far
/// behind the clock, and its rows are needed for as long as their store has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    pub(crate) now: Timestamp,
    /// The largest time in the partition.
    pub(crate) newest: Timestamp,
    pub(crate) is_changelog: bool,
}

impl Ages {
    /// Whether a segment's records are all older than `ms`.
    pub(crate) fn exceed(&self, ms: i64, newest: Timestamp, unchanged_since: Timestamp) -> bool {
        let today = if self.is_changelog { self.newest.min(self.now) } else { self.now };
        let limit = today.saturating_sub(ms);
        newest < limit && (self.is_changelog || unchanged_since < limit)
    }
}

/// A partition that is worth compacting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cleanable {
    /// Where to stop.
    pub(crate) until: Offset,
    /// `max.compaction.lag.ms` has passed.
    pub(crate) overdue: bool,
    /// What part of it was never compacted.
    pub(crate) dirty_ratio: f64,
}

/// Decides about a partition with these closed segments, compacted up to `cleaned` so far.
pub(crate) fn cleanable(
    config: &TopicConfig,
    closed: &[Extent],
    cleaned: Offset,
    last_stable: Offset,
    ages: Ages,
) -> Option<Cleanable> {
    let lag = config.min_compaction_lag_ms;
    let is_ready = |s: &&Extent| {
        s.end <= last_stable && (lag == 0 || s.end <= cleaned || ages.exceed(lag, s.newest, s.unchanged_since))
    };
    let ready = closed.iter().take_while(is_ready).count();
    let (clean, dirty) = closed[..ready].split_at(closed[..ready].partition_point(|s| s.end <= cleaned));
    let bytes = |segments: &[Extent]| segments.iter().map(|s| s.size).sum::<u64>();
    let dirty_bytes = bytes(dirty);
    let until = dirty.last().filter(|_| config.compacts && dirty_bytes > 0)?.end;
    let dirty_ratio = dirty_bytes as f64 / (dirty_bytes + bytes(clean)) as f64;
    let begun = dirty.iter().find_map(|s| s.begun);
    let overdue =
        begun.zip(config.max_compaction_lag_ms).is_some_and(|(begun, lag)| ages.now.saturating_sub(begun) > lag);
    (overdue || dirty_ratio > config.min_cleanable_dirty_ratio).then_some(Cleanable { until, overdue, dirty_ratio })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use millstream_core::ManualClock;

    use super::*;
    use crate::options::BrokerOptions;

    /// Segments of ten offsets and 100 bytes, with records of these times, which have not changed since then.
    fn decide(
        settings: &str,
        times: &[i64],
        cleaned: Offset,
        last_stable: Offset,
        now: Timestamp,
    ) -> Option<Cleanable> {
        let options = BrokerOptions::memory(Arc::new(ManualClock::at(0)));
        let given: BTreeMap<_, _> = [("cleanup.policy", "compact")]
            .into_iter()
            .chain(settings.split_whitespace().filter_map(|s| s.split_once('=')))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let config = TopicConfig::new(&given, &options).expect("settings");
        let segments = (0..).zip(times).map(|(number, time)| Extent {
            base: number * 10,
            end: number * 10 + 10,
            size: 100,
            begun: Some(*time),
            newest: *time,
            unchanged_since: *time,
        });
        let newest = times.iter().copied().max().unwrap_or(-1);
        cleanable(
            &config,
            &segments.collect::<Vec<_>>(),
            cleaned,
            last_stable,
            Ages { now, newest, is_changelog: false },
        )
    }

    #[test]
    fn a_partition_is_compacted_when_more_than_the_ratio_is_dirty_up_to_the_last_stable_offset() {
        let until =
            |settings, cleaned, stable| decide(settings, &[1, 2, 3, 4], cleaned, stable, 1_000).map(|c| c.until);
        assert_eq!(until("", 0, 100), Some(40));
        assert_eq!(until("", 0, 39), Some(30), "the last stable offset is inside the last segment");
        assert_eq!(until("", 0, 9), None);
        assert_eq!(until("", 20, 100), None, "just half of it is dirty");
        assert_eq!(until("", 19, 100), Some(40));
        assert_eq!(until("min.cleanable.dirty.ratio=0.2", 30, 100), Some(40));
        assert_eq!(until("min.cleanable.dirty.ratio=0", 40, 100), None, "nothing is dirty");
        assert_eq!(until("cleanup.policy=delete", 0, 100), None);
    }

    #[test]
    fn young_segments_wait_and_old_ones_do_not() {
        let until = |settings, now| decide(settings, &[100, 200, 300, 400], 20, 100, now).map(|c| (c.until, c.overdue));
        assert_eq!(until("min.cleanable.dirty.ratio=0 min.compaction.lag.ms=50", 300), None);
        assert_eq!(until("min.cleanable.dirty.ratio=0 min.compaction.lag.ms=50", 351), Some((30, false)));
        assert_eq!(until("min.cleanable.dirty.ratio=0 min.compaction.lag.ms=50", 451), Some((40, false)));
        assert_eq!(until("max.compaction.lag.ms=500", 800), None);
        assert_eq!(until("max.compaction.lag.ms=500", 801), Some((40, true)));
    }
}
