//! The port to a disk for state: rows that outgrow memory and outlive the process (DESIGN 3.6, 3.7).
//!
//! What is on it was committed: a task hands over the rows of a commit when the log has it, with the position in the
//! changelog up to which they stand. The changelog stays the truth: the disk may be behind it, or be lost, at any time,
//! and what is missing is read from there. Implemented by `millstream-state` over RocksDB. Tasks call it; stores get a
//! [`DiskRows`] each.

use std::fmt;
use std::ops::{Bound, ControlFlow, RangeInclusive};
use std::sync::Arc;

use millstream_wire::Records;

use crate::changelog_record::ChangelogRecord;
use crate::error::Result;
use crate::log::Offset;
use crate::state_budget::StateBudget;
use crate::time::Timestamp;

/// Opens the disks of an application's tasks.
pub trait StateDisk: Send + Sync + fmt::Debug {
    /// Opens the rows of a task, against everybody else. What is there and cannot be read is removed: those stores begin
    /// without a position.
    ///
    /// # Errors
    /// When somebody else has it open, or the operating system refuses.
    fn open(&self, task: &str, families: Vec<Family>) -> Result<Box<dyn TaskDisk>>;

    /// Removes the rows of all tasks: the changelogs have them too.
    ///
    /// # Errors
    /// When somebody has one open, or the operating system refuses.
    fn clean_up(&self) -> Result<()>;

    /// The memory that all stores share for rows that are on disk too.
    fn budget(&self) -> &Arc<StateBudget>;
}

/// The rows of one store of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The store's name.
    pub name: String,
    /// How its rows are ordered. Rows that were written in another order are removed.
    pub order: RowOrder,
}

/// In which order a store's rows lie on disk. The key that a row has in the changelog is part of every key on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// By key.
    Key,
    /// By time in parts of so many milliseconds, then by key without what stands behind it from the time on, then by that: what
    /// expires lies together, and so do the rows of a key in a part. The time is the big-endian number that begins so many
    /// bytes before the key's end.
    Time {
        /// Where the time begins, in bytes from the end of the key.
        before_end: usize,
        /// Length of a part, in milliseconds.
        part: Timestamp,
    },
    /// By key, then by the row's timestamp: a key has a row for every time, and all of them lie together.
    Versions,
}

impl RowOrder {
    /// Bytes of a time.
    const TIME: usize = size_of::<Timestamp>();

    /// Behind a key, where a time follows. No key has it: a zero byte of a key is followed by [`Self::ZERO`].
    const KEY_END: [u8; 2] = [0, 0];
    /// Behind a zero byte of a key, where a time follows: keys stay in their order.
    const ZERO: u8 = 0xFF;

    /// Appends the key on disk of a row.
    pub fn disk_key(self, key: &[u8], timestamp: Timestamp, out: &mut Vec<u8>) {
        match self {
            RowOrder::Key => out.extend_from_slice(key),
            RowOrder::Versions => {
                Self::push_key(key, out);
                out.extend(timestamp.to_be_bytes());
            }
            RowOrder::Time { before_end, part } => {
                Self::push_part(Self::time_in(key, before_end).unwrap_or(0).div_euclid(part), out);
                let (key, place) = key.split_at(key.len().saturating_sub(before_end));
                Self::push_key(key, out);
                out.extend_from_slice(place);
            }
        }
    }

    /// Appends the key in the changelog of a key on disk.
    pub fn changelog_key(self, disk_key: &[u8], out: &mut Vec<u8>) {
        match self {
            RowOrder::Key => out.extend_from_slice(disk_key),
            RowOrder::Versions => {
                Self::read_key(disk_key, out);
            }
            RowOrder::Time { .. } => {
                let place = Self::read_key(disk_key.get(Self::TIME..).unwrap_or_default(), out);
                out.extend_from_slice(place);
            }
        }
    }

    /// The time of a row, by its key in the changelog and its timestamp; `None` if its place on disk says nothing of time.
    pub fn time_of(self, key: &[u8], timestamp: Timestamp) -> Option<Timestamp> {
        match self {
            RowOrder::Key => None,
            RowOrder::Versions => Some(timestamp),
            RowOrder::Time { before_end, .. } => Self::time_in(key, before_end),
        }
    }

    fn time_in(key: &[u8], before_end: usize) -> Option<Timestamp> {
        let at = key.len().checked_sub(before_end)?;
        key[at..].first_chunk().map(|time| Timestamp::from_be_bytes(*time))
    }

    /// Whether a row is one that [`Expired::Before`] lets go from among the versions of keys, given key and time of the row that
    /// follows it on disk.
    pub fn has_ended(row: ChangelogRecord<'_>, next: Option<(&[u8], Timestamp)>, before: Timestamp) -> bool {
        let is_followed = next.is_some_and(|(key, time)| key == row.key && time < before);
        is_followed || (row.value.is_none() && row.timestamp < before)
    }

    /// Between what keys on disk the versions of a key lie, and no others, both inclusive; of [`RowOrder::Versions`].
    pub fn versions_of(key: &[u8]) -> [Vec<u8>; 2] {
        [0, Timestamp::MAX].map(|time| {
            let mut bound = Vec::with_capacity(key.len() + Self::KEY_END.len() + Self::TIME);
            RowOrder::Versions.disk_key(key, time, &mut bound);
            bound
        })
    }

    /// What the keys on disk begin with of the rows of a key, without what stands behind it from the time on, in the part that a time is
    /// in. `behind`: what is behind all of them instead, and before those of the next key.
    pub fn key_in_part(self, time: Timestamp, key: &[u8], behind: bool) -> Option<Vec<u8>> {
        let mut prefix = self.part_of(time)?;
        Self::push_key(key, &mut prefix);
        if let Some(last) = prefix.last_mut().filter(|_| behind) {
            *last += 1;
        }
        Some(prefix)
    }

    fn push_key(key: &[u8], out: &mut Vec<u8>) {
        for byte in key {
            out.push(*byte);
            if *byte == 0 {
                out.push(Self::ZERO);
            }
        }
        out.extend(Self::KEY_END);
    }

    /// Appends the key that [`Self::push_key`] wrote, and gives what stands behind it.
    fn read_key<'a>(mut bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        while let Some(zero) = bytes.iter().position(|byte| *byte == 0) {
            out.extend_from_slice(&bytes[..zero]);
            let is_zero = bytes.get(zero + 1) == Some(&Self::ZERO);
            bytes = bytes.get(zero + 2..).unwrap_or_default();
            if !is_zero {
                break;
            }
            out.push(0);
        }
        bytes
    }

    /// The times within a range, part by part; none if rows do not lie by time.
    pub fn parts(self, times: RangeInclusive<Timestamp>) -> impl Iterator<Item = RangeInclusive<Timestamp>> {
        let (from, to) = times.into_inner();
        let length = if let RowOrder::Time { part, .. } = self { Some(part) } else { None }.filter(|_| from <= to);
        length.into_iter().flat_map(move |length| {
            let part = move |part: Timestamp| {
                let start = part.saturating_mul(length);
                start.max(from)..=start.saturating_add(length - 1).min(to)
            };
            (from.div_euclid(length)..=to.div_euclid(length)).map(part)
        })
    }

    /// The least key on disk of the part that a time is in; `None` if rows do not lie by time.
    pub fn part_of(self, time: Timestamp) -> Option<Vec<u8>> {
        let RowOrder::Time { part, .. } = self else { return None };
        let mut key = Vec::with_capacity(Self::TIME);
        Self::push_part(time.div_euclid(part), &mut key);
        Some(key)
    }

    /// As bytes that are ordered as the numbers are.
    fn push_part(part: Timestamp, out: &mut Vec<u8>) {
        out.extend((part ^ Timestamp::MIN).to_be_bytes());
    }
}

/// Up to where the rows of a store stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskPosition {
    /// The partition of the changelog: what [`crate::Admin::topic_id`] names its topic, and in the highest bits the number. A topic
    /// that was made anew is another, and so is another task's.
    pub changelog: u128,
    /// Offset of the first record of it that is not in the rows.
    pub offset: Offset,
    /// When it was written, on the wall clock: later than the changelog keeps deletions, the rows cannot be trusted.
    pub written: Timestamp,
}

/// The rows of a task on disk.
pub trait TaskDisk {
    /// Where a store stands; `None`: it is empty. `family` is an index into what was opened.
    fn position(&self, family: usize) -> Option<DiskPosition>;

    /// The rows of a store.
    fn rows(&self, family: usize) -> Box<dyn DiskRows>;

    /// Removes the rows of a store: the changelog is read from its start.
    ///
    /// # Errors
    /// When the disk fails.
    fn clear(&mut self, family: usize) -> Result<()>;

    /// Writes what one commit changed, after what was given before, all of a store's rows with its position. It may return before it
    /// is done.
    fn write(&mut self, writes: Vec<FamilyWrite>);

    /// How many of the writes are done.
    ///
    /// # Errors
    /// When one has failed: nothing is written after it.
    fn written(&mut self) -> Result<u64>;

    /// Whether so much waits to be written that the task should wait too.
    fn is_behind(&self) -> bool {
        false
    }

    /// Waits for the writes, and sees to it that the next start has nothing to read again.
    ///
    /// # Errors
    /// When one has failed.
    fn close(&mut self) -> Result<()>;
}

/// What a commit changed in a store.
#[derive(Debug)]
pub struct FamilyWrite {
    /// Index of the family.
    pub family: usize,
    /// The rows, as the changelog has them.
    pub batches: Vec<Records>,
    /// Where the store stands after it.
    pub position: DiskPosition,
    /// The rows that may go, also if they are among the batches.
    pub expired: Expired,
}

/// Rows that a store asks for no more, whatever happens next.
#[derive(Debug, Clone, Copy, Default)]
pub enum Expired {
    /// None that it knows of.
    #[default]
    Nothing,
    /// Of [`RowOrder::Time`]: those of a time before this. Of [`RowOrder::Versions`]: those of a key that another one with a time
    /// before this follows, and deletions of a time before this. They need not go at once.
    Before(Timestamp),
}

/// Reads the rows of one store, as they were written last.
pub trait DiskRows {
    /// Gives the row of a key in the changelog to `found`; `false` if there is none. For [`RowOrder::Key`] and
    /// [`RowOrder::Time`].
    ///
    /// # Errors
    /// When the disk fails or is damaged, and those of `found`.
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool>;

    /// Whether there are none.
    ///
    /// # Errors
    /// When the disk fails or is damaged.
    fn is_empty(&self) -> Result<bool>;

    /// About how many there are; a guess, which costs no more than a look.
    fn approximate_len(&self) -> usize;

    /// The largest time of the rows that were ever written; of [`RowOrder::Time`] and [`RowOrder::Versions`]. `None` if there were none.
    fn latest(&self) -> Option<Timestamp>;

    /// As [`DiskRows::scan`], for few rows that are asked for often: a key's.
    ///
    /// # Errors
    /// When the disk fails or is damaged, and those of `row`.
    fn look_up(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.scan(range, descending, row)
    }

    /// Gives the rows with keys on disk within a range to `row`, in their order or the other way round, until it says `Break`.
    ///
    /// # Errors
    /// When the disk fails or is damaged, and those of `row`.
    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_on_disk_are_ordered_by_part_and_lead_back_to_those_of_the_changelog() {
        let order = RowOrder::Time { before_end: 12, part: 1000 };
        let row = |key: &str, time: Timestamp| {
            let mut row = key.as_bytes().to_vec();
            row.extend(time.to_be_bytes());
            row.extend([0; 4]);
            row
        };
        let on_disk = |row: &[u8]| {
            let mut key = Vec::new();
            order.disk_key(row, -1, &mut key);
            key
        };
        let rows = [row("z", -1), row("a", 0), row("a", 999), row("b", 1), row("a", 1000)];
        let keys: Vec<_> = rows.iter().map(|row| on_disk(row)).collect();
        assert!(keys.is_sorted());
        for (row, key) in rows.iter().zip(&keys) {
            let mut back = Vec::new();
            order.changelog_key(key, &mut back);
            assert_eq!(back, *row);
        }
        let expired = order.part_of(1500).unwrap();
        assert_eq!(keys.iter().filter(|key| **key < expired).count(), 4);
    }

    /// Where the time came right behind a key, that decided between a key and another one that it begins with.
    #[test]
    fn keys_on_disk_are_ordered_by_key_before_time_whatever_a_key_holds() {
        let order = RowOrder::Time { before_end: 8, part: 1000 };
        let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"\0\x01", b"\x01", b"a", b"a\0", b"a\xFF"];
        let on_disk = |key: &[u8], time: Timestamp| {
            let mut disk_key = Vec::new();
            order.disk_key(&[key, &time.to_be_bytes()].concat(), -1, &mut disk_key);
            disk_key
        };
        let rows = keys.iter().flat_map(|key| [on_disk(key, 7_100), on_disk(key, 7_999)]);
        assert!(rows.collect::<Vec<_>>().is_sorted());
        for key in keys {
            let bound = |behind| order.key_in_part(7_500, key, behind).unwrap();
            let within = |key: &&&[u8]| (bound(false)..bound(true)).contains(&on_disk(key, 7_800));
            assert_eq!(keys.iter().filter(within).collect::<Vec<_>>(), [&key]);
            let mut back = Vec::new();
            order.changelog_key(&on_disk(key, 7_100), &mut back);
            assert_eq!(back, [key, &7_100i64.to_be_bytes()].concat());
        }
    }

    /// Versions of a key lay between those of another, which begins with it and ends in what looked like a time.
    #[test]
    fn versions_of_a_key_lie_together_whatever_a_key_holds() {
        let between = [&b"a"[..], &5i64.to_be_bytes()].concat();
        let keys: [&[u8]; 6] = [b"", b"\0", b"a", b"a\0", &between, b"b"];
        let on_disk = |key: &[u8], time: Timestamp| {
            let mut disk_key = Vec::new();
            RowOrder::Versions.disk_key(key, time, &mut disk_key);
            disk_key
        };
        let rows: Vec<_> =
            keys.iter().flat_map(|key| [0, 3, 7, Timestamp::MAX].map(|time| on_disk(key, time))).collect();
        assert!(rows.is_sorted());
        for (key, rows) in keys.iter().zip(rows.chunks(4)) {
            let [from, to] = RowOrder::versions_of(key);
            assert_eq!([&from, &to], [&rows[0], &rows[3]]);
            let mut back = Vec::new();
            RowOrder::Versions.changelog_key(&rows[1], &mut back);
            assert_eq!(back, *key);
        }
    }
}
