//! Rows by key and place in time: windows by their start, sessions by their bounds.
//!
//! Per key, a short run of places in ascending order; over all keys, an index by place, for what closes and what
//! expires. A row older than the retention is invisible at once, whatever is still held (semantics.md 26); it is
//! removed when the commit that passed it over has taken effect, so that a rollback finds it.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;

use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{ChangelogRecord, ChangelogWriter, Result, Serde, StateError, StateStore, Timestamp};

use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_row};
use crate::rows::{Entry, RowId, Rows};

/// What places a row in time, besides its key.
pub trait Place: Copy + Ord + std::fmt::Debug + 'static {
    /// The time by which the row expires: it is visible while this is within the retention.
    fn time(&self) -> Timestamp;
    /// Appends the place to the key bytes, as Kafka's changelog has it (semantics.md 63).
    fn encode(&self, key: &mut Vec<u8>);
    /// Splits a changelog key.
    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)>;
}

/// A window: identified by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowStart(pub Timestamp);

impl Place for WindowStart {
    fn time(&self) -> Timestamp {
        self.0
    }

    fn encode(&self, key: &mut Vec<u8>) {
        key.extend(self.0.to_be_bytes());
        // The sequence number is for stores that keep duplicates.
        key.extend([0; 4]);
    }

    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)> {
        let (key, place) = bytes.split_at_checked(bytes.len().checked_sub(12)?)?;
        let start = place.first_chunk().copied().map(Timestamp::from_be_bytes)?;
        Some((key, WindowStart(start)))
    }
}

/// A session: both ends inclusive; ordered by end, then start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionBounds {
    /// Last time in it.
    pub end: Timestamp,
    /// First time in it.
    pub start: Timestamp,
}

impl Place for SessionBounds {
    fn time(&self) -> Timestamp {
        self.end
    }

    fn encode(&self, key: &mut Vec<u8>) {
        key.extend(self.end.to_be_bytes());
        key.extend(self.start.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)> {
        let (rest, start) = bytes.split_last_chunk()?;
        let (key, end) = rest.split_last_chunk()?;
        Some((key, SessionBounds { end: Timestamp::from_be_bytes(*end), start: Timestamp::from_be_bytes(*start) }))
    }
}

/// The places of one key, ascending.
struct Run<P> {
    key: KeyBytes,
    places: Vec<(P, RowId)>,
}

/// Index of a run.
type RunId = u32;

/// Rows by key and place.
pub struct TimedTable<P: Place, VS: Serde> {
    name: String,
    serde: VS,
    retention: Timestamp,
    /// The largest time that the store has seen.
    observed: Timestamp,
    /// The same at the last commit, and at the flush that is under way.
    committed_observed: Timestamp,
    flushed_observed: Timestamp,
    hasher: DefaultHashBuilder,
    index: HashTable<RunId>,
    runs: Vec<Run<P>>,
    free_runs: Vec<RunId>,
    by_place: BTreeMap<P, Vec<RowId>>,
    rows: Rows<(RunId, P), VS::Value>,
    scratch: Vec<u8>,
    key_scratch: Vec<u8>,
}

/// Windows by key and start.
pub type WindowTable<VS> = TimedTable<WindowStart, VS>;
/// Sessions by key and bounds.
pub type SessionTable<VS> = TimedTable<SessionBounds, VS>;

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone,
{
    /// An empty table that keeps rows for `retention` milliseconds behind the largest time it has seen.
    pub fn new(name: &str, serde: VS, retention: Timestamp) -> Self {
        TimedTable {
            name: name.to_owned(),
            serde,
            retention,
            observed: -1,
            committed_observed: -1,
            flushed_observed: -1,
            hasher: DefaultHashBuilder::default(),
            index: HashTable::new(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            by_place: BTreeMap::new(),
            rows: Rows::new(true),
            scratch: Vec::new(),
            key_scratch: Vec::new(),
        }
    }

    /// Moves the store's time forward.
    #[inline]
    pub fn observe(&mut self, time: Timestamp) {
        self.observed = self.observed.max(time);
    }

    /// Whether a row at this place would be visible.
    #[inline]
    pub fn is_live(&self, place: &P) -> bool {
        place.time() > self.observed.saturating_sub(self.retention)
    }

    fn find_run(&self, key: &[u8]) -> Option<RunId> {
        self.index.find(self.hasher.hash_one(key), |run| *self.runs[*run as usize].key == *key).copied()
    }

    fn find(&self, key: &[u8], place: P) -> Option<RowId> {
        let run = &self.runs[self.find_run(key)? as usize];
        run.places.binary_search_by(|(p, _)| p.cmp(&place)).ok().map(|i| run.places[i].1)
    }

    fn find_or_insert(&mut self, key: &[u8], place: P) -> RowId {
        let hash = self.hasher.hash_one(key);
        let run = match self.index.find(hash, |run| *self.runs[*run as usize].key == *key) {
            Some(run) => *run,
            None => self.insert_run(hash, key),
        };
        let places = &mut self.runs[run as usize].places;
        match places.binary_search_by(|(p, _)| p.cmp(&place)) {
            Ok(at) => places[at].1,
            Err(at) => {
                let row = self.rows.insert((run, place));
                places.insert(at, (place, row));
                self.by_place.entry(place).or_default().push(row);
                row
            }
        }
    }

    fn insert_run(&mut self, hash: u64, key: &[u8]) -> RunId {
        let run = Run { key: key.into(), places: Vec::new() };
        let id = match self.free_runs.pop() {
            Some(id) => {
                self.runs[id as usize] = run;
                id
            }
            None => {
                self.runs.push(run);
                (self.runs.len() - 1) as RunId
            }
        };
        let (runs, hasher) = (&self.runs, &self.hasher);
        self.index.insert_unique(hash, id, |run| hasher.hash_one(&*runs[*run as usize].key));
        id
    }

    /// The row at a place.
    pub fn get(&self, key: &[u8], place: P) -> Option<(&VS::Value, Timestamp)> {
        let entry = self.rows.entry(self.find(key, place).filter(|_| self.is_live(&place))?);
        entry.value.as_ref().map(|value| (value, entry.timestamp))
    }

    /// The row at a place, to be changed in place; empty if there is none. The place must be live.
    #[inline]
    pub fn change(&mut self, key: &[u8], place: P) -> &mut Entry<VS::Value> {
        let row = self.find_or_insert(key, place);
        self.rows.change(row)
    }

    /// The live rows of a key at places within a range, ascending.
    pub fn fetch(
        &self,
        key: &[u8],
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &VS::Value, Timestamp)> {
        let run = self.find_run(key).map(|run| self.runs[run as usize].places.as_slice()).unwrap_or_default();
        let from = run.partition_point(|(p, _)| p < places.start());
        let to = run.partition_point(|(p, _)| p <= places.end()).max(from);
        run[from..to].iter().filter(|(place, _)| self.is_live(place)).filter_map(|(place, row)| {
            let entry = self.rows.entry(*row);
            Some((*place, entry.value.as_ref()?, entry.timestamp))
        })
    }

    /// The rows of all keys at places within a range, in the order of time, key bytes, place; whether they are still
    /// live or not, since what closes is emitted before it expires (semantics.md 43).
    pub fn closing(&self, places: RangeInclusive<P>) -> Vec<(P, KeyBytes, VS::Value, Timestamp)> {
        if places.start() > places.end() {
            return Vec::new();
        }
        let rows = self.by_place.range(places).flat_map(|(place, rows)| rows.iter().map(move |row| (*place, *row)));
        let mut found: Vec<_> = rows
            .filter_map(|(place, row)| {
                let entry = self.rows.entry(row);
                let key = &self.runs[self.rows.place(row).0 as usize].key;
                Some((place, key.clone(), entry.value.clone()?, entry.timestamp))
            })
            .collect();
        found.sort_by(|a, b| (a.0.time(), &a.1, a.0).cmp(&(b.0.time(), &b.1, b.0)));
        found
    }

    fn forget(
        index: &mut HashTable<RunId>,
        runs: &mut [Run<P>],
        free_runs: &mut Vec<RunId>,
        by_place: &mut BTreeMap<P, Vec<RowId>>,
        hasher: &DefaultHashBuilder,
        row: RowId,
        (run, place): (RunId, P),
    ) {
        if let Some(rows) = by_place.get_mut(&place) {
            if let Some(at) = rows.iter().position(|r| *r == row) {
                rows.swap_remove(at);
            }
            if rows.is_empty() {
                by_place.remove(&place);
            }
        }
        let places = &mut runs[run as usize].places;
        places.retain(|(_, r)| *r != row);
        if places.is_empty() {
            if let Ok(found) = index.find_entry(hasher.hash_one(&*runs[run as usize].key), |r| *r == run) {
                found.remove();
            }
            free_runs.push(run);
        }
    }

    /// Removes rows that had expired at the last commit and that nothing has changed since.
    fn expire(&mut self) {
        let before = self.committed_observed.saturating_sub(self.retention);
        while let Some((place, _)) = self.by_place.first_key_value().filter(|(place, _)| place.time() <= before) {
            let place = *place;
            let rows = self.by_place.remove(&place).unwrap_or_default();
            let mut kept = Vec::new();
            for row in rows {
                let (run, place) = *self.rows.place(row);
                if !self.rows.free(row) {
                    kept.push(row);
                    continue;
                }
                let (index, runs, free_runs) = (&mut self.index, &mut self.runs, &mut self.free_runs);
                Self::forget(index, runs, free_runs, &mut self.by_place, &self.hasher, row, (run, place));
            }
            if !kept.is_empty() {
                self.by_place.insert(place, kept);
                break;
            }
        }
    }
}

impl<P: Place, VS: Serde> StateStore for TimedTable<P, VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        let (name, serde, scratch) = (&self.name, &self.serde, &mut self.scratch);
        let (runs, key) = (&self.runs, &mut self.key_scratch);
        self.rows.for_each_change(|(run, place), entry| {
            key.clear();
            key.extend_from_slice(&runs[*run as usize].key);
            place.encode(key);
            write_row(name, serde, scratch, key, entry, changelog)
        })?;
        self.rows.flushed();
        self.flushed_observed = self.observed;
        Ok(())
    }

    fn committed(&mut self) {
        let (index, runs, free_runs) = (&mut self.index, &mut self.runs, &mut self.free_runs);
        let (by_place, hasher) = (&mut self.by_place, &self.hasher);
        self.rows.committed(|row, place| Self::forget(index, runs, free_runs, by_place, hasher, row, *place));
        self.committed_observed = self.flushed_observed;
        self.expire();
    }

    fn rollback(&mut self) {
        let (index, runs, free_runs) = (&mut self.index, &mut self.runs, &mut self.free_runs);
        let (by_place, hasher) = (&mut self.by_place, &self.hasher);
        self.rows.rollback(|row, place| Self::forget(index, runs, free_runs, by_place, hasher, row, *place));
        self.observed = self.committed_observed;
        self.flushed_observed = self.committed_observed;
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let Some((key, place)) = P::decode(record.key) else {
            let problem = format!("changelog key of {} bytes at offset {}", record.key.len(), record.offset);
            return Err(millstream_core::Error::State(Box::new(StateError { store: self.name.clone(), problem })));
        };
        self.observe(place.time());
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        let entry = decode(&self.name, &self.serde, record)?;
        let row = self.find_or_insert(key, place);
        let gone = entry.value.is_none();
        self.rows.load(row, entry);
        if gone {
            let at = *self.rows.place(row);
            self.rows.free(row);
            let (index, runs, free_runs) = (&mut self.index, &mut self.runs, &mut self.free_runs);
            Self::forget(index, runs, free_runs, &mut self.by_place, &self.hasher, row, at);
        }
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 72)
    }
}
