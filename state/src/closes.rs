//! Which rows stand at which time: a bucket of row numbers per time, filled as rows come, read when that time closes, and
//! dropped whole.
//!
//! Rows are not taken out one by one: a bucket may hold rows that are gone, that have moved on since (a session that grew),
//! or that are there twice. Whoever reads it looks at them anyway.
//!
//! Rows that are on disk alone are listed by key and place, and only those that close next: a part of time is read from disk
//! when what closes comes to it.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use millstream_core::Timestamp;

use crate::key_bytes::KeyBytes;
use crate::key_order::KeyOrder;
use crate::rows::RowId;
use crate::timed::Place;

/// Rows by time.
pub(crate) struct Closes<P> {
    buckets: BTreeMap<Timestamp, Vec<RowId>>,
    /// The last time that was read. A row that leaves a bucket behind it is not found there any more.
    read: Timestamp,
    /// Rows that are on disk alone, or were; wherever there are some, there is a bucket.
    away: BTreeMap<Timestamp, Vec<(KeyBytes, P)>>,
    /// The times at which all rows that are on disk alone are listed.
    listed: Range<Timestamp>,
    /// Entries of rows that have left memory since.
    stale: usize,
    pub(crate) keys: KeyOrder,
}

impl<P: Place> Closes<P> {
    /// So many stale entries are borne in any case.
    const FEW: usize = 4096;

    pub(crate) fn new() -> Self {
        Closes {
            buckets: BTreeMap::new(),
            read: Timestamp::MIN,
            away: BTreeMap::new(),
            listed: 0..0,
            stale: 0,
            keys: KeyOrder::default(),
        }
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

    /// A row that has left memory.
    pub(crate) fn left(&mut self, key: &KeyBytes, place: P) {
        self.stale += 1;
        if self.listed.contains(&place.time()) {
            self.list_away(key.clone(), place);
        }
    }

    /// A row that is on disk alone.
    pub(crate) fn list_away(&mut self, key: KeyBytes, place: P) {
        self.away.entry(place.time()).or_default().push((key, place));
        self.buckets.entry(place.time()).or_default();
    }

    /// From which time on rows that are on disk alone are to be listed, so that those from a time on are.
    pub(crate) fn next_to_list(&mut self, from: Timestamp) -> Timestamp {
        if !(self.listed.start..=self.listed.end).contains(&from) {
            self.away.clear();
            self.listed = from..from;
        }
        self.listed.end
    }

    /// They are listed up to a time, exclusive.
    pub(crate) fn listed(&mut self, to: Timestamp) {
        self.listed.end = to;
    }

    /// Whether more entries are stale than there are rows in memory: then they are to be listed anew.
    pub(crate) fn is_mostly_stale(&self, rows: usize) -> bool {
        self.stale > rows + Self::FEW
    }

    /// Lists nothing any more.
    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
        self.away.clear();
        (self.listed, self.stale) = (0..0, 0);
    }

    /// The rows of a bucket that was taken out, as far as they are there still.
    pub(crate) fn put_back(&mut self, time: Timestamp, rows: Vec<RowId>) {
        *self.buckets.entry(time).or_default() = rows;
    }

    /// The first bucket within a range, taken out: those of its rows that are there still are to be put back, the others to be listed
    /// where they are now.
    pub(crate) fn take(&mut self, times: RangeInclusive<Timestamp>) -> Option<(Timestamp, Vec<RowId>)> {
        self.read = self.read.max(*times.end());
        let (time, rows) = self.buckets.range_mut(times).next()?;
        Some((*time, std::mem::take(rows)))
    }

    /// The rows at a time that are on disk alone, or were.
    pub(crate) fn away(&self, time: Timestamp) -> &[(KeyBytes, P)] {
        self.away.get(&time).map(Vec::as_slice).unwrap_or_default()
    }

    /// A row at the first of the times within a range at which one is on disk alone, or was.
    pub(crate) fn first_away(&self, times: Range<Timestamp>) -> Option<&(KeyBytes, P)> {
        self.away.range(times).find_map(|(_, rows)| rows.last())
    }

    /// Forgets the row that [`Closes::first_away`] gave, of this time.
    pub(crate) fn forget_away(&mut self, time: Timestamp) {
        if let Some(rows) = self.away.get_mut(&time) {
            rows.pop();
            if rows.is_empty() {
                self.away.remove(&time);
            }
        }
    }

    /// Nothing is read before this time any more, but after a rollback.
    pub(crate) fn read_from(&mut self, time: Timestamp) {
        self.read = self.read.max(time.saturating_sub(1));
    }

    /// The buckets from a time on.
    pub(crate) fn from(&self, time: Timestamp) -> impl Iterator<Item = (Timestamp, &[RowId])> {
        self.buckets.range(time..).map(|(time, rows)| (*time, rows.as_slice()))
    }

    /// Drops the buckets up to a time.
    pub(crate) fn forget(&mut self, through: Timestamp) {
        self.buckets = self.buckets.split_off(&through.saturating_add(1));
        self.away = self.away.split_off(&through.saturating_add(1));
    }
}
