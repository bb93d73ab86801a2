//! Which rows stand at which time: a bucket of row numbers per time, filled as rows come, read when that time closes, and
//! dropped whole.
//!
//! Rows are not taken out one by one: a bucket may hold rows that are gone, that have moved on since (a session that grew),
//! or that are there twice. Whoever reads it looks at them anyway.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use millstream_core::Timestamp;

use crate::key_order::KeyOrder;
use crate::rows::RowId;

/// Rows by time.
pub(crate) struct Closes {
    buckets: BTreeMap<Timestamp, Vec<RowId>>,
    /// The last time that was read. A row that leaves a bucket behind it is not found there any more.
    read: Timestamp,
    pub(crate) keys: KeyOrder,
}

impl Closes {
    pub(crate) fn new() -> Self {
        Closes { buckets: BTreeMap::new(), read: Timestamp::MIN, keys: KeyOrder::default() }
    }

    /// A row that has come.
    #[inline]
    pub(crate) fn list(&mut self, time: Timestamp, row: RowId) {
        self.buckets.entry(time).or_default().push(row);
    }

    /// A row that goes to a later time: it is found on the way there.
    #[inline]
    pub(crate) fn moved(&mut self, from: Timestamp, to: Timestamp, row: RowId) {
        if from <= self.read {
            self.list(to, row);
        }
    }

    /// The first bucket within a range, taken out: its rows are to be listed again, at the times where they are now.
    pub(crate) fn take(&mut self, times: RangeInclusive<Timestamp>) -> Option<(Timestamp, Vec<RowId>)> {
        self.read = self.read.max(*times.end());
        let (time, rows) = self.buckets.range_mut(times).next()?;
        Some((*time, std::mem::take(rows)))
    }

    /// The buckets from a time on.
    pub(crate) fn from(&self, time: Timestamp) -> impl Iterator<Item = (Timestamp, &[RowId])> {
        self.buckets.range(time..).map(|(time, rows)| (*time, rows.as_slice()))
    }

    /// Drops the buckets up to a time.
    pub(crate) fn forget(&mut self, through: Timestamp) {
        self.buckets = self.buckets.split_off(&through.saturating_add(1));
    }
}
