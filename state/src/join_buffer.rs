//! The records of one side of a stream-stream join, by key and time; several of one key and time are all kept.
//!
//! Rows are only added, and forgotten when they are older than the retention: the changelog gets each once at most and is
//! never compacted (semantics.md 11). A row older than the retention is invisible (26) and goes: what a rollback would bring
//! back is set aside until a commit has passed it over, and what came and went between two commits leaves no trace.
//!
//! ```text
//!   rows, as they came:  1 a@10   2 b@12   3 a@20   4 a@15        index: a ─► 3, b ─► 2
//!   of one key, by time:   1 ◄──────────────────────► 4 ◄─► 3
//!
//!   set aside ◄── committed ── flushed ── new ◄── put             older than the retention: aside, or gone if new
//! ```
//!
//! Rows go from the front, as they came. One that came out of order stays until the rows before it have gone: no longer
//! than the retention, since these are no later than the buffer's time was.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, Error, Expired, Result, RowOrder, Serde, StateError, StateStore, Timestamp,
};

use crate::arena::Arena;
use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_value};

/// Number of a row, as they come; after the largest comes 0.
type RowNumber = u32;

/// A record that is kept.
struct Row<V> {
    key: KeyBytes,
    hash: Hash,
    timestamp: Timestamp,
    /// The rows of its key before and behind it in time, among those of one time as they came. A row without such a
    /// neighbour names itself; one that has been removed was too old, and so is all before it.
    before: RowNumber,
    behind: RowNumber,
    value: V,
}

/// Rows as they came, numbered without a gap.
struct Rows<V> {
    rows: VecDeque<Row<V>>,
    first: RowNumber,
}

impl<V> Rows<V> {
    #[inline]
    fn get(&self, number: RowNumber) -> Option<&Row<V>> {
        self.rows.get(number.wrapping_sub(self.first) as usize)
    }

    #[inline]
    fn get_mut(&mut self, number: RowNumber) -> Option<&mut Row<V>> {
        self.rows.get_mut(number.wrapping_sub(self.first) as usize)
    }

    /// The number of the row to come.
    #[inline]
    fn end(&self) -> RowNumber {
        self.first.wrapping_add(self.rows.len() as u32)
    }

    #[inline]
    fn is_of(&self, number: RowNumber, key: &[u8]) -> bool {
        self.get(number).is_some_and(|row| *row.key == *key)
    }

    /// The neighbour that a row names as `of`; `None` if it names itself.
    #[inline]
    fn neighbour(&self, number: RowNumber, of: impl Fn(&Row<V>) -> RowNumber) -> Option<RowNumber> {
        self.get(number).map(of).filter(|other| *other != number && self.get(*other).is_some())
    }

    fn before(&self, number: RowNumber) -> Option<RowNumber> {
        self.neighbour(number, |row| row.before)
    }

    fn behind(&self, number: RowNumber) -> Option<RowNumber> {
        self.neighbour(number, |row| row.behind)
    }

    /// Makes two rows neighbours; a row without one on that side names itself.
    fn link(&mut self, before: Option<RowNumber>, behind: Option<RowNumber>) {
        if let Some((number, row)) = before.and_then(|number| Some((number, self.get_mut(number)?))) {
            row.behind = behind.unwrap_or(number);
        }
        if let Some((number, row)) = behind.and_then(|number| Some((number, self.get_mut(number)?))) {
            row.before = before.unwrap_or(number);
        }
    }
}

/// Bytes of a part, before its memory would have to grow from 60 to 120 KiB.
const PART: usize = 56 << 10;

/// A batch of the changelog, and the largest time in it: when that is older than the retention, nobody needs the batch.
#[derive(Default)]
struct Part {
    rows: ChangelogWriter,
    latest: Timestamp,
}

/// Records by key and time.
pub struct JoinBuffer<VS: Serde> {
    name: String,
    serde: VS,
    retention: Timestamp,
    /// The largest time that the buffer has seen; at the last commit; at the flush that is under way.
    observed: Timestamp,
    committed_observed: Timestamp,
    flushed_observed: Timestamp,
    /// The latest row of a key.
    index: Index<RowNumber>,
    rows: Rows<VS::Value>,
    /// How many of the rows, from the front, are committed; flushed.
    committed: usize,
    flushed: usize,
    /// Rows that are gone, and were not yet at the last commit; at the flush that is under way, of those that it committed.
    aside: VecDeque<Row<VS::Value>>,
    flushed_aside: VecDeque<Row<VS::Value>>,
    /// What values share with the batches they came in is copied here.
    arena: Arena,
    /// Tells changelog records of one key and time apart.
    next_number: u32,
    /// The changelog of what was added since the last flush: a row never changes, so it is written when it comes.
    parts: VecDeque<Part>,
    part: Part,
    scratch: Vec<u8>,
    key_scratch: Vec<u8>,
}

impl<VS: Serde> JoinBuffer<VS> {
    /// An empty buffer that keeps records for `retention` milliseconds behind the largest time it has seen.
    pub fn new(name: &str, serde: VS, retention: Timestamp) -> Self {
        JoinBuffer {
            name: name.to_owned(),
            serde,
            retention,
            observed: -1,
            committed_observed: -1,
            flushed_observed: -1,
            index: Index::default(),
            rows: Rows { rows: VecDeque::new(), first: 0 },
            committed: 0,
            flushed: 0,
            aside: VecDeque::new(),
            flushed_aside: VecDeque::new(),
            arena: Arena::default(),
            next_number: 0,
            parts: VecDeque::new(),
            part: Part::default(),
            scratch: Vec::new(),
            key_scratch: Vec::new(),
        }
    }

    /// Moves the buffer's time forward, and returns it.
    #[inline]
    pub fn observe(&mut self, time: Timestamp) -> Timestamp {
        self.observed = self.observed.max(time);
        self.observed
    }

    /// Keeps a record. `false`: it is older than the retention, and is not kept.
    ///
    /// # Errors
    /// When it cannot be encoded; it is not kept then.
    #[inline]
    pub fn put(&mut self, key: &[u8], time: Timestamp, mut value: VS::Value) -> Result<bool> {
        self.observe(time);
        if !self.is_live(time) {
            return Ok(false);
        }
        self.expire();
        let place = &mut self.key_scratch;
        place.clear();
        place.extend_from_slice(key);
        place.extend_from_slice(&time.to_be_bytes());
        place.extend_from_slice(&self.next_number.to_be_bytes());
        if self.part.rows.bytes() > PART {
            self.parts.push_back(std::mem::take(&mut self.part));
        }
        let (name, serde, scratch) = (&self.name, &self.serde, &mut self.scratch);
        write_value(name, serde, scratch, place, Some(&value), time, &mut self.part.rows)?;
        self.part.latest = self.part.latest.max(time);
        let arena = &mut self.arena;
        self.serde.detach(&mut value, &mut |bytes| arena.copy(bytes));
        self.next_number = self.next_number.wrapping_add(1);
        self.insert(key, time, value);
        Ok(true)
    }

    #[inline]
    fn is_live(&self, time: Timestamp) -> bool {
        time > self.observed.saturating_sub(self.retention)
    }

    /// The live records of a key with times within a range, by time, then in the order in which they came.
    #[inline]
    pub fn fetch(&self, key: &[u8], times: RangeInclusive<Timestamp>) -> impl Iterator<Item = (Timestamp, &VS::Value)> {
        let oldest = self.observed.saturating_sub(self.retention) + 1;
        let (from, to) = (oldest.max(*times.start()), *times.end());
        let rows = &self.rows;
        let is_within = move |number: &RowNumber| rows.get(*number).is_some_and(|row| row.timestamp >= from);
        let latest = self.index.find(self.index.hash(key), |number| rows.is_of(number, key)).filter(is_within);
        let first = std::iter::successors(latest, move |number| rows.before(*number).filter(is_within)).last();
        std::iter::successors(first, move |number| rows.behind(*number))
            .filter_map(move |number| rows.get(number))
            .take_while(move |row| row.timestamp <= to)
            .map(|row| (row.timestamp, &row.value))
    }

    #[inline]
    fn insert(&mut self, key: &[u8], timestamp: Timestamp, value: VS::Value) {
        let (number, hash, rows) = (self.rows.end(), self.index.hash(key), &self.rows);
        let latest = self.index.find_mut(hash, |number| rows.is_of(number, key));
        let (mut before, mut behind) = (latest.as_deref().copied(), None);
        while let Some(later) = before.filter(|other| rows.get(*other).is_some_and(|row| row.timestamp > timestamp)) {
            (before, behind) = (rows.before(later), before);
        }
        match latest {
            Some(latest) if behind.is_none() => *latest = number,
            Some(_) => {}
            None => self.index.insert(hash, number),
        }
        let row = Row { key: KeyBytes::EMPTY, hash, timestamp, before: number, behind: number, value };
        self.rows.rows.push_back(row);
        if let Some(row) = self.rows.rows.back_mut() {
            row.key.set(key);
        }
        self.rows.link(before, Some(number));
        self.rows.link(Some(number), behind);
    }

    /// Takes back the row that came last.
    fn remove_newest(&mut self) {
        let number = self.rows.end().wrapping_sub(1);
        let (before, behind) = (self.rows.before(number), self.rows.behind(number));
        self.rows.link(before, behind);
        let Some(row) = self.rows.rows.pop_back() else { return };
        match (before, behind) {
            (_, Some(_)) => {}
            (None, None) => _ = self.index.remove(row.hash, number),
            (Some(before), None) => {
                if let Some(latest) = self.index.find_mut(row.hash, |other| other == number) {
                    *latest = before;
                }
            }
        }
    }

    /// Removes what is older than the retention.
    #[inline]
    fn expire(&mut self) {
        let oldest = self.observed.saturating_sub(self.retention);
        while let Some(row) = self.rows.rows.pop_front_if(|row| row.timestamp <= oldest) {
            if row.behind == self.rows.first {
                self.index.remove(row.hash, self.rows.first);
            }
            self.rows.first = self.rows.first.wrapping_add(1);
            self.set_aside(row);
        }
        while self.parts.pop_front_if(|part| part.latest <= oldest).is_some() {}
    }

    /// Keeps a row that is gone for as long as a rollback would bring it back.
    #[inline]
    fn set_aside(&mut self, row: Row<VS::Value>) {
        let (is_committed, is_flushed) = (self.committed > 0, self.flushed > 0);
        self.committed = self.committed.saturating_sub(1);
        self.flushed = self.flushed.saturating_sub(1);
        let was_live = |observed: Timestamp| row.timestamp > observed.saturating_sub(self.retention);
        if is_committed && was_live(self.committed_observed) {
            self.aside.push_back(row);
        } else if !is_committed && is_flushed && was_live(self.flushed_observed) {
            self.flushed_aside.push_back(row);
        }
    }

    /// Brings back what was set aside: it came before all rows that are left.
    fn bring_back(&mut self) {
        self.flushed_aside.clear();
        if self.aside.is_empty() {
            return;
        }
        self.index = Index::default();
        let rest = std::mem::take(&mut self.rows.rows);
        for row in std::mem::take(&mut self.aside).into_iter().chain(rest) {
            self.insert(&row.key, row.timestamp, row.value);
        }
    }
}

impl<VS: Serde> StateStore for JoinBuffer<VS>
where
    VS::Value: 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        self.expire();
        self.parts.drain(..).for_each(|part| changelog.append(part.rows));
        changelog.append(std::mem::take(&mut self.part).rows);
        self.flushed = self.rows.rows.len();
        self.flushed_observed = self.observed;
        Ok(())
    }

    fn committed(&mut self) {
        self.committed = self.flushed;
        self.committed_observed = self.flushed_observed;
        self.aside.append(&mut self.flushed_aside);
        let oldest = self.committed_observed.saturating_sub(self.retention);
        self.aside.retain(|row| row.timestamp > oldest);
        let capacity = self.rows.rows.capacity();
        if self.rows.rows.len() < capacity / 4 {
            self.rows.rows.shrink_to(capacity / 2);
        }
    }

    fn observed(&self) -> Timestamp {
        self.observed
    }

    fn resume(&mut self, observed: Timestamp) {
        self.observed = self.observed.max(observed);
        (self.committed_observed, self.flushed_observed) = (self.observed, self.observed);
    }

    fn rollback(&mut self) {
        self.parts.clear();
        self.part = Part::default();
        while self.rows.rows.len() > self.committed {
            self.remove_newest();
        }
        self.bring_back();
        self.committed = self.rows.rows.len();
        self.flushed = self.committed;
        self.observed = self.committed_observed;
        self.flushed_observed = self.committed_observed;
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let place = record.key.split_at_checked(record.key.len().wrapping_sub(12));
        let Some((key, Some(number))) = place.map(|(key, place)| (key, place.last_chunk())) else {
            let problem = format!("changelog key of {} bytes at offset {}", record.key.len(), record.offset);
            return Err(Error::State(Box::new(StateError { store: self.name.clone(), problem })));
        };
        let entry = decode(&self.name, &self.serde, record)?;
        self.observe(entry.timestamp);
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        if let Some(value) = entry.value.filter(|_| self.is_live(entry.timestamp)) {
            // They need not come as they were written.
            self.next_number = self.next_number.max(u32::from_be_bytes(*number).wrapping_add(1));
            self.insert(key, entry.timestamp, value);
        }
        self.committed = self.rows.rows.len();
        self.flushed = self.committed;
        self.expire();
        Ok(())
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Time { before_end: 12, part: (self.retention / 4).max(1) }
    }

    fn expired(&mut self) -> Expired {
        Expired::Before(self.committed_observed.saturating_sub(self.retention) + 1)
    }

    fn dirty_bytes(&self) -> usize {
        (self.rows.rows.len() - self.flushed) * (size_of::<VS::Value>() + 48)
    }

    fn is_large(&self) -> bool {
        self.rows.rows.len() > 8192
    }

    fn touch(&self, keys: &[&[u8]]) {
        for number in self.index.guess(keys).into_iter().flatten() {
            std::hint::black_box(self.rows.get(number).map(|row| row.timestamp));
        }
    }
}
