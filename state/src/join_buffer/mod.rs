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
//!
//! With a disk, rows that the budget has no room for leave memory from the front too, once they are on it.

mod away;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, Error, Expired, Result, RowOrder, Serde, StateBudget, StateError,
    StateStore, Timestamp,
};

use self::away::Away;
use crate::arena::Arena;
use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_value};

/// Number of a row, as they come; after the largest comes 0.
type RowNumber = u32;

/// Tells changelog records of one key and time apart: later ones have larger numbers.
type Number = u32;

/// Bytes of a changelog key behind the record's: time and number.
const PLACE: usize = size_of::<Timestamp>() + size_of::<Number>();

/// Key, time and number of a changelog key.
fn split(changelog_key: &[u8]) -> Option<(&[u8], Timestamp, Number)> {
    let (rest, number) = changelog_key.split_last_chunk()?;
    let (key, time) = rest.split_last_chunk()?;
    Some((key, Timestamp::from_be_bytes(*time), Number::from_be_bytes(*number)))
}

/// A record that is kept.
struct Row<V> {
    key: KeyBytes,
    hash: Hash,
    number: Number,
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
    /// How many of the rows, from the front, are on disk; committed; flushed.
    written: usize,
    committed: usize,
    flushed: usize,
    /// Of each commit that is not on disk how many of the rows, from the front, will be when it is.
    unwritten: VecDeque<usize>,
    /// Rows that are gone, and were not yet at the last commit; at the flush that is under way, of those that it committed.
    aside: VecDeque<Row<VS::Value>>,
    flushed_aside: VecDeque<Row<VS::Value>>,
    /// What values share with the batches they came in is copied here.
    arena: Arena,
    next_number: Number,
    /// The changelog of what was added since the last flush: a row never changes, so it is written when it comes.
    parts: VecDeque<Part>,
    part: Part,
    away: Option<Away>,
    /// Rows that were asked for and are on disk alone.
    found: Vec<(Timestamp, Number, VS::Value)>,
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
            written: 0,
            committed: 0,
            flushed: 0,
            unwritten: VecDeque::new(),
            aside: VecDeque::new(),
            flushed_aside: VecDeque::new(),
            arena: Arena::default(),
            next_number: 0,
            parts: VecDeque::new(),
            part: Part::default(),
            away: None,
            found: Vec::new(),
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
    /// When it cannot be encoded, or the disk not be read; it is not kept then.
    #[inline]
    pub fn put(&mut self, key: &[u8], time: Timestamp, mut value: VS::Value) -> Result<bool> {
        self.observe(time);
        if !self.is_live(time) {
            return Ok(false);
        }
        self.expire();
        self.number_behind_those_on_disk(key, time)?;
        let (number, place) = (self.next_number, &mut self.key_scratch);
        place.clear();
        place.extend_from_slice(key);
        place.extend_from_slice(&time.to_be_bytes());
        place.extend_from_slice(&number.to_be_bytes());
        if self.part.rows.bytes() > PART {
            self.parts.push_back(std::mem::take(&mut self.part));
        }
        let (name, serde, scratch) = (&self.name, &self.serde, &mut self.scratch);
        write_value(name, serde, scratch, place, Some(&value), time, &mut self.part.rows)?;
        self.part.latest = self.part.latest.max(time);
        if let Some(away) = &mut self.away {
            away.share.saw(place.len() + self.scratch.len());
        }
        let arena = &mut self.arena;
        self.serde.detach(&mut value, &mut |bytes| arena.copy(bytes));
        self.next_number = number.wrapping_add(1);
        self.insert(key, (time, number), value);
        Ok(true)
    }

    /// The next row is to have a number of its own among those of its key and time, also of those before a start.
    #[inline]
    fn number_behind_those_on_disk(&mut self, key: &[u8], time: Timestamp) -> Result<()> {
        let Some(away) = self.away.as_ref().filter(|away| time <= away.unknown()) else { return Ok(()) };
        away.for_each(key, time..=time, &mut |_, number, _| {
            self.next_number = self.next_number.max(number.wrapping_add(1));
            Ok(())
        })
    }

    #[inline]
    fn is_live(&self, time: Timestamp) -> bool {
        time > self.observed.saturating_sub(self.retention)
    }

    /// The live records of a key with times within a range, by time, then in the order in which they came.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    #[inline]
    pub fn fetch(
        &mut self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
    ) -> Result<impl Iterator<Item = (Timestamp, &VS::Value)>> {
        let oldest = self.observed.saturating_sub(self.retention) + 1;
        let (from, to) = (oldest.max(*times.start()), *times.end());
        let hash = self.index.hash(key);
        self.found.clear();
        if let Some(away) = &self.away
            && from <= away.up_to(hash)
        {
            self.read(hash, key, from..=to)?;
        }
        let mut away = self.found.iter().peekable();
        let mut in_memory = self.in_memory(hash, key, from..=to).peekable();
        Ok(std::iter::from_fn(move || {
            let is_next = |(time, number, _): &&(_, _, _)| {
                in_memory.peek().is_none_or(|row| (*time, *number) < (row.timestamp, row.number))
            };
            match away.next_if(is_next) {
                Some((time, _, value)) => Some((*time, value)),
                None => in_memory.next().map(|row| (row.timestamp, &row.value)),
            }
        }))
    }

    /// The rows of a key in memory with times within a range.
    #[inline]
    fn in_memory(
        &self,
        hash: Hash,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
    ) -> impl Iterator<Item = &Row<VS::Value>> {
        let ((from, to), rows) = (times.into_inner(), &self.rows);
        let is_within = move |number: &RowNumber| rows.get(*number).is_some_and(|row| row.timestamp >= from);
        let latest = self.index.find(hash, |number| rows.is_of(number, key)).filter(is_within);
        let first = std::iter::successors(latest, move |number| rows.before(*number).filter(is_within)).last();
        std::iter::successors(first, move |number| rows.behind(*number))
            .filter_map(move |number| rows.get(number))
            .take_while(move |row| row.timestamp <= to)
    }

    /// Reads the rows of a key that are on disk alone.
    #[cold]
    fn read(&mut self, hash: Hash, key: &[u8], times: RangeInclusive<Timestamp>) -> Result<()> {
        let Some(away) = &self.away else { return Ok(()) };
        let mut found = std::mem::take(&mut self.found);
        let mut in_memory = self.in_memory(hash, key, times.clone()).map(|row| (row.timestamp, row.number)).peekable();
        let up_to = away.up_to(hash).min(*times.end());
        away.for_each(key, *times.start()..=up_to, &mut |time, number, record| {
            while in_memory.next_if(|place| *place < (time, number)).is_some() {}
            if in_memory.peek() != Some(&(time, number))
                && let Some(value) = decode(&self.name, &self.serde, record)?.value
            {
                found.push((time, number, value));
            }
            Ok(())
        })?;
        drop(in_memory);
        self.found = found;
        Ok(())
    }

    #[inline]
    fn insert(&mut self, key: &[u8], (timestamp, changelog_number): (Timestamp, Number), value: VS::Value) {
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
        let row = Row {
            key: KeyBytes::EMPTY,
            hash,
            number: changelog_number,
            timestamp,
            before: number,
            behind: number,
            value,
        };
        self.rows.rows.push_back(row);
        if let Some(row) = self.rows.rows.back_mut() {
            row.key.set(key);
        }
        self.rows.link(before, Some(number));
        self.rows.link(Some(number), behind);
    }

    /// Lets a row's neighbours, and the index, know that it is about to go.
    fn unlink(&mut self, number: RowNumber) {
        let Some(hash) = self.rows.get(number).map(|row| row.hash) else { return };
        let (before, behind) = (self.rows.before(number), self.rows.behind(number));
        self.rows.link(before, behind);
        match (before, behind) {
            (_, Some(_)) => {}
            (None, None) => _ = self.index.remove(hash, number),
            (Some(before), None) => {
                if let Some(latest) = self.index.find_mut(hash, |other| other == number) {
                    *latest = before;
                }
            }
        }
    }

    /// Takes back the row that came last.
    fn remove_newest(&mut self) {
        self.unlink(self.rows.end().wrapping_sub(1));
        self.rows.rows.pop_back();
    }

    /// Removes what is older than the retention.
    #[inline]
    fn expire(&mut self) {
        let oldest = self.observed.saturating_sub(self.retention);
        while let Some(row) = self.rows.rows.pop_front_if(|row| row.timestamp <= oldest) {
            if row.behind == self.rows.first {
                self.index.remove(row.hash, self.rows.first);
            }
            let (is_committed, is_flushed) = (self.committed > 0, self.flushed > 0);
            self.has_gone();
            self.set_aside(row, is_committed, is_flushed);
        }
        while self.parts.pop_front_if(|part| part.latest <= oldest).is_some() {}
    }

    /// The row at the front has gone.
    #[inline]
    fn has_gone(&mut self) {
        self.rows.first = self.rows.first.wrapping_add(1);
        for count in [&mut self.written, &mut self.committed, &mut self.flushed].into_iter().chain(&mut self.unwritten)
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Lets rows leave memory that the budget has no room for: the oldest, as far as they are on disk.
    fn evict(&mut self) {
        let too_many = self.too_many();
        // A rollback takes back what was seen since the last commit.
        let oldest = self.committed_observed.saturating_sub(self.retention);
        for _ in 0..too_many.min(self.written) {
            self.unlink(self.rows.first);
            let (Some(row), Some(away)) = (self.rows.rows.pop_front(), &mut self.away) else { break };
            away.add(row.hash, row.timestamp, oldest);
            self.has_gone();
        }
        self.shrink();
        self.too_many();
    }

    /// Takes what the rows need of the budget, and says for how many it has no room.
    fn too_many(&mut self) -> usize {
        let place = size_of::<Row<VS::Value>>() + Index::<RowNumber>::ENTRY_BYTES;
        let rows = self.rows.rows.len();
        self.away.as_mut().map_or(0, |away| away.too_many(rows, place))
    }

    /// Gives memory back that few rows are left in.
    fn shrink(&mut self) {
        let capacity = self.rows.rows.capacity();
        if self.rows.rows.len() < capacity / 4 {
            self.rows.rows.shrink_to(capacity / 2);
        }
    }

    /// Keeps a row that is gone for as long as a rollback would bring it back.
    #[inline]
    fn set_aside(&mut self, row: Row<VS::Value>, is_committed: bool, is_flushed: bool) {
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
        self.index.clear();
        let rest = std::mem::take(&mut self.rows.rows);
        for row in std::mem::take(&mut self.aside).into_iter().chain(rest) {
            self.insert(&row.key, (row.timestamp, row.number), row.value);
        }
        // All are committed; which of the commits before the last has them is not known.
        self.written = 0;
        self.unwritten.iter_mut().for_each(|count| *count = 0);
        *self.unwritten.back_mut().unwrap_or(&mut self.written) = self.rows.rows.len();
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
        if self.away.is_some() {
            self.unwritten.push_back(self.committed);
        }
        self.aside.append(&mut self.flushed_aside);
        let oldest = self.committed_observed.saturating_sub(self.retention);
        self.aside.retain(|row| row.timestamp > oldest);
        self.shrink();
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
        let Some((key, _, number)) = split(record.key) else {
            let problem = format!("changelog key of {} bytes at offset {}", record.key.len(), record.offset);
            return Err(Error::State(Box::new(StateError { store: self.name.clone(), problem })));
        };
        let entry = decode(&self.name, &self.serde, record)?;
        self.observe(entry.timestamp);
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        if let Some(value) = entry.value.filter(|_| self.is_live(entry.timestamp)) {
            // They need not come as they were written.
            self.next_number = self.next_number.max(number.wrapping_add(1));
            self.insert(key, (entry.timestamp, number), value);
        }
        self.committed = self.rows.rows.len();
        self.flushed = self.committed;
        self.expire();
        Ok(())
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Time { before_end: PLACE, part: (self.retention / 4).max(1) }
    }

    fn attach(&mut self, rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> bool {
        self.away = Some(Away::new(rows, self.row_order(), budget));
        true
    }

    fn restored(&mut self) {
        if let Some(latest) = self.away.as_mut().and_then(Away::restored) {
            self.resume(latest);
        }
    }

    fn written(&mut self) {
        self.written = self.unwritten.pop_front().unwrap_or(self.written);
        self.evict();
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
