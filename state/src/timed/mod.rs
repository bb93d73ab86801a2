//! Rows by key and place in time: windows by their start, sessions by their bounds.
//!
//! Per key, a short run of places in ascending order; over all keys, buckets by time as soon as somebody has asked
//! what closes. With a disk, rows that are there too leave memory when the process's budget is used up, and come back when they
//! are asked for. A row older than the retention is invisible at once, whatever is still held (semantics.md 26); it is
//! removed some time after the commit that passed it over has taken effect, so that a rollback finds it.

mod closing;
mod disk;
mod place;
mod query;
mod scan;

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, Error, Expired, Isolation, KEYS_AHEAD, Result, RowOrder, Serde,
    StateBudget, StateError, StateStore, StoreQuery, Timestamp,
};
use thin_vec::ThinVec;

use crate::closes::Closes;
use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_row};
use crate::rows::{Content, Entry, RowId, Rows};
use crate::sorted_keys::SortedKeys;

pub use closing::Closing;
use disk::Disk;
pub use place::{Place, SessionBounds, WindowStart};

/// So many places are looked at one by one.
const NEAR: usize = 8;

/// The places of one key, ascending. The newest is where most records go: found on the run's own cache line, which a thin list of the
/// others leaves room on for a session's bounds.
#[repr(C, align(64))]
struct Run<P> {
    key: KeyBytes,
    newest: Option<(P, RowId)>,
    earlier: ThinVec<(P, RowId)>,
}

const _: () = assert!(size_of::<Run<SessionBounds>>() == 64);

impl<P: Place> Run<P> {
    #[inline]
    fn find(&self, place: P) -> Option<RowId> {
        let (newest, row) = self.newest?;
        match place.cmp(&newest) {
            Ordering::Equal => Some(row),
            Ordering::Greater => None,
            Ordering::Less => self.find_earlier(place),
        }
    }

    /// Most are among the last ones.
    fn find_earlier(&self, place: P) -> Option<RowId> {
        let (far, near) = self.earlier.split_at(self.earlier.len().saturating_sub(NEAR));
        match near.first() {
            Some((first, _)) if *first <= place => near.iter().rfind(|(p, _)| *p == place).map(|(_, row)| *row),
            _ => far.binary_search_by(|(p, _)| p.cmp(&place)).ok().map(|at| far[at].1),
        }
    }

    fn insert(&mut self, place: P, row: RowId) {
        if self.newest.is_some_and(|(newest, _)| place < newest) {
            let at = self.earlier.partition_point(|(p, _)| *p < place);
            self.earlier.insert(at, (place, row));
        } else {
            self.earlier.extend(self.newest.replace((place, row)));
        }
    }

    fn remove(&mut self, row: RowId) {
        if self.newest.is_some_and(|(_, newest)| newest == row) {
            self.newest = self.earlier.pop();
        } else {
            self.earlier.retain(|(_, other)| *other != row);
        }
    }

    fn places(&self) -> impl Iterator<Item = &(P, RowId)> {
        self.earlier.iter().chain(&self.newest)
    }

    fn first(&self) -> Option<P> {
        self.earlier.first().or(self.newest.as_ref()).map(|(place, _)| *place)
    }

    fn range(&self, places: RangeInclusive<P>) -> impl DoubleEndedIterator<Item = &(P, RowId)> {
        let from = self.earlier.partition_point(|(p, _)| p < places.start());
        let to = self.earlier.partition_point(|(p, _)| p <= places.end()).max(from);
        self.earlier[from..to].iter().chain(self.newest.iter().filter(move |(p, _)| places.contains(p)))
    }
}

/// What changes in a row: a session's place too.
#[derive(Clone)]
struct Placed<P, V> {
    place: P,
    entry: Entry<V>,
}

impl<P: Place, V: Clone> Content for Placed<P, V> {
    #[inline]
    fn is_there(&self) -> bool {
        self.entry.is_there()
    }

    fn clear(&mut self) {
        self.entry.clear();
    }
}

/// Index of a run.
type RunId = u32;

/// The rows of one key, until the next commit or rollback.
#[derive(Clone, Copy)]
pub struct KeyRows(RunId);

/// Rows by key and place.
pub struct TimedTable<P: Place, VS: Serde> {
    name: String,
    serde: VS,
    retention: Timestamp,
    /// How many of a key's rows a record mostly changes: its newest.
    at_once: usize,
    /// The largest time that the store has seen.
    observed: Timestamp,
    /// The same at the last commit, and at the flush that is under way.
    committed_observed: Timestamp,
    flushed_observed: Timestamp,
    index: Index<RunId>,
    runs: Vec<Run<P>>,
    free_runs: Vec<RunId>,
    /// Every run once, under a part of the retention that its first place was in: it is looked at when that has
    /// expired, and is listed again or goes.
    expiring: BTreeMap<Timestamp, VecDeque<RunId>>,
    closes: Option<Closes<P>>,
    /// For queries that ask for ranges of keys.
    sorted: Option<SortedKeys<RunId>>,
    rows: Rows<RunId, Placed<P, VS::Value>>,
    /// From here on all rows are in memory.
    known: P,
    disk: Option<Disk<P>>,
    /// Rows may leave memory.
    may_leave: bool,
    scratch: Vec<u8>,
    key_scratch: Vec<u8>,
}

/// Windows by key and start.
pub type WindowTable<VS> = TimedTable<WindowStart, VS>;
/// Sessions by key and bounds.
pub type SessionTable<VS> = TimedTable<SessionBounds, VS>;

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone + 'static,
{
    /// An empty table that keeps rows for `retention` milliseconds behind the largest time it has seen.
    pub fn new(name: &str, serde: VS, retention: Timestamp) -> Self {
        TimedTable {
            name: name.to_owned(),
            serde,
            retention,
            at_once: 1,
            observed: -1,
            committed_observed: -1,
            flushed_observed: -1,
            index: Index::default(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            expiring: BTreeMap::new(),
            closes: None,
            sorted: None,
            rows: Rows::new(true),
            known: P::FIRST,
            disk: None,
            may_leave: false,
            scratch: Vec::new(),
            key_scratch: Vec::new(),
        }
    }

    /// Expects that a record changes so many rows of its key: they are read ahead.
    #[must_use]
    pub fn changing_at_once(mut self, rows: usize) -> Self {
        self.at_once = rows;
        self
    }

    /// Lets rows leave memory that are on disk, if there is one.
    #[must_use]
    pub fn larger_than_memory(self) -> Self {
        TimedTable { may_leave: true, ..self }
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

    #[inline]
    fn find_run(&self, hash: Hash, key: &[u8]) -> Option<RunId> {
        self.index.find(hash, |run| *self.runs[run as usize].key == *key)
    }

    fn run(&self, key: &[u8]) -> Option<&Run<P>> {
        self.find_run(self.index.hash(key), key).map(|run| &self.runs[run as usize])
    }

    /// The rows of a key, of which that at `place` is about to be changed, and perhaps others: found once for all.
    #[inline]
    pub fn rows_of(&mut self, key: &[u8], place: P) -> KeyRows {
        let runs = &self.runs;
        let found = self.index.find_next(key, |run| *runs[run as usize].key == *key);
        KeyRows(found.unwrap_or_else(|hash| self.insert_run(hash, key, place)))
    }

    /// The same, with all of the key's rows from a place on in memory.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    #[inline]
    pub fn rows_from(&mut self, key: &[u8], place: P, from: P) -> Result<KeyRows> {
        let rows = self.rows_of(key, place);
        if from < self.known {
            self.read_places(key, from..=P::LAST)?;
        }
        Ok(rows)
    }

    #[inline]
    fn find_or_insert(&mut self, KeyRows(id): KeyRows, place: P) -> Result<RowId> {
        if let Some(row) = self.runs[id as usize].find(place) {
            return Ok(row);
        }
        if place < self.known {
            let key = self.runs[id as usize].key.clone();
            if let Some(row) = self.read_row(&key, place)? {
                return Ok(row);
            }
        }
        Ok(self.insert_row(id, place))
    }

    fn insert_row(&mut self, id: RunId, place: P) -> RowId {
        let row = self.rows.insert(id, Placed { place, entry: Entry::EMPTY });
        self.runs[id as usize].insert(place, row);
        if let Some(closes) = &mut self.closes {
            closes.list(place.time(), row);
        }
        row
    }

    fn insert_run(&mut self, hash: Hash, key: &[u8], place: P) -> RunId {
        let run = Run { key: key.into(), newest: None, earlier: ThinVec::new() };
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
        if let Some(closes) = &mut self.closes {
            closes.keys.add(key);
        }
        if let Some(sorted) = &mut self.sorted {
            sorted.insert(key.into(), id);
        }
        if let Some(disk) = self.disk.as_mut().filter(|_| self.known > P::FIRST) {
            disk.set_known(id, self.known);
        }
        self.index.insert(hash, id);
        self.expiring.entry(Self::part(self.retention, place.time())).or_default().push_back(id);
        id
    }

    /// Removes a run without rows that is not listed any more.
    fn remove_run(&mut self, id: RunId) {
        let key = &self.runs[id as usize].key;
        if let Some(sorted) = &mut self.sorted {
            sorted.remove(key);
        }
        self.index.remove(self.index.hash(key), id);
        self.free_runs.push(id);
    }

    /// Time in parts of the retention.
    fn part(retention: Timestamp, time: Timestamp) -> Timestamp {
        time.div_euclid(retention / 16 + 1)
    }

    /// The row at a place.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn get(&mut self, key: &[u8], place: P) -> Result<Option<(&VS::Value, Timestamp)>> {
        if !self.is_live(&place) {
            return Ok(None);
        }
        let row = match self.run(key).and_then(|run| run.find(place)) {
            None if place < self.known => self.read_row(key, place)?,
            row => row,
        };
        let Some(row) = row else { return Ok(None) };
        let entry = &self.rows.read(row).entry;
        Ok(entry.value.as_ref().map(|value| (value, entry.timestamp)))
    }

    /// The row at a place, to be changed in place; empty if there is none. The place must be live.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    #[inline]
    pub fn change(&mut self, key: &[u8], place: P) -> Result<&mut Entry<VS::Value>> {
        let rows = self.rows_of(key, place);
        self.change_at(rows, place)
    }

    /// The same among the rows of a key.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    #[inline]
    pub fn change_at(&mut self, rows: KeyRows, place: P) -> Result<&mut Entry<VS::Value>> {
        let row = self.find_or_insert(rows, place)?;
        Ok(&mut self.rows.change(row).entry)
    }

    /// Moves the newest row of a key to another place, where it is the newest still, and returns the place and the row, to be changed.
    /// `to` says where, given the row's place and the one before it. `None` if there is no such live row or `to` says so.
    /// A row before it that is on disk alone is none: [`TimedTable::rows_from`].
    #[inline]
    pub fn move_newest(
        &mut self,
        KeyRows(id): KeyRows,
        to: impl FnOnce(P, Option<P>) -> Option<P>,
    ) -> Option<(P, &mut Entry<VS::Value>)> {
        let run = &mut self.runs[id as usize];
        let (from, row) =
            run.newest.filter(|(place, _)| place.time() > self.observed.saturating_sub(self.retention))?;
        let before = run.earlier.last().map(|(place, _)| *place);
        let to = to(from, before).filter(|to| before.is_none_or(|before| before < *to))?;
        let is_live = from.time() > self.observed.saturating_sub(self.retention);
        if !is_live || !self.rows.content(row).is_there() {
            return None;
        }
        run.newest = Some((to, row));
        if let Some(closes) = &mut self.closes {
            closes.moved(from.time(), to.time(), row);
        }
        self.observed = self.observed.max(to.time());
        let content = self.rows.change(row);
        content.place = to;
        Some((to, &mut content.entry))
    }

    /// Removes rows that had expired at the last commit and that nothing has changed since.
    fn expire(&mut self) {
        let before = self.committed_observed.saturating_sub(self.retention);
        let later = self.expiring.split_off(&Self::part(self.retention, before.saturating_add(1)));
        let due: Vec<_> = std::mem::replace(&mut self.expiring, later).into_values().flatten().collect();
        let mut stay = Vec::new();
        for (at, id) in due.iter().copied().enumerate() {
            if at % KEYS_AHEAD == 0 {
                let runs = due[at..].iter().take(KEYS_AHEAD).map(|id| &self.runs[*id as usize]);
                runs.clone().for_each(|run| {
                    black_box(run.newest);
                });
                let due = |run: &'_ Run<P>| {
                    run.places()
                        .take_while(|(place, _)| place.time() <= before)
                        .for_each(|(_, row)| self.rows.touch(*row))
                };
                runs.for_each(due);
            }
            let run = &mut self.runs[id as usize];
            let rows = &mut self.rows;
            let mut goes = |&(place, row): &(P, RowId)| {
                let due = place.time() <= before;
                let goes = due && rows.free(row);
                if due && !goes {
                    stay.push((place.time(), row));
                }
                goes
            };
            run.earlier.retain(|at| !goes(at));
            if run.newest.as_ref().is_some_and(goes) {
                run.newest = run.earlier.pop();
            }
            match run.first() {
                Some(first) => {
                    self.expiring.entry(Self::part(self.retention, first.time())).or_default().push_back(id);
                }
                None => self.remove_run(id),
            }
        }
        if let Some(closes) = &mut self.closes {
            closes.forget(before);
            stay.into_iter().for_each(|(time, row)| closes.list(time, row));
        }
    }
}

impl<P: Place, VS: Serde> StateStore for TimedTable<P, VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        let (name, serde, scratch, disk) = (&self.name, &self.serde, &mut self.scratch, &mut self.disk);
        let (runs, key) = (&self.runs, &mut self.key_scratch);
        let read_run = |run: &RunId| {
            black_box(runs[*run as usize].newest);
        };
        let mut last = None;
        self.rows.for_each_change(read_run, |rows, id, was| {
            let (number, run) = (*rows.identity(id), &runs[*rows.identity(id) as usize]);
            if last.replace(number) == Some(number) {
                // Of the key of the row before it.
                key.truncate(run.key.len());
            } else {
                key.clear();
                key.extend_from_slice(&run.key);
            }
            let moved = was.place != rows.content(id).place;
            // A row that is where this one was came after it left: only the newest row of a key moves, and it stays that.
            // So it is written later.
            if moved && was.is_there() {
                was.place.encode(key);
                changelog.write(key, None, was.place.time().max(0), &[]);
                key.truncate(run.key.len());
            }
            let (_, Placed { place, entry }) = rows.parts(id);
            if moved && entry.value.is_none() {
                return Ok(());
            }
            place.encode(key);
            write_row(name, serde, scratch, key, entry, changelog)?;
            disk.iter_mut().for_each(|disk| disk.share.saw(key.len() + scratch.len()));
            Ok::<(), Error>(())
        })?;
        self.rows.flushed();
        self.flushed_observed = self.observed;
        Ok(())
    }

    fn committed(&mut self) {
        let runs = &mut self.runs;
        self.rows.committed(|row, run| {
            runs[*run as usize].remove(row);
        });
        self.committed_observed = self.flushed_observed;
        self.expire();
    }

    fn observed(&self) -> Timestamp {
        self.observed
    }

    fn resume(&mut self, observed: Timestamp) {
        self.observed = self.observed.max(observed);
        (self.committed_observed, self.flushed_observed) = (self.observed, self.observed);
    }

    fn rollback(&mut self) {
        let (runs, closes, has_disk) = (&mut self.runs, &mut self.closes, self.disk.is_some());
        self.rows.rollback(|row, run, content| {
            let run = &mut runs[*run as usize];
            run.remove(row);
            // The disk may still have a row that is not there, so it is not forgotten. It gives way to one that moves back.
            if has_disk && let Some(other) = run.find(content.place) {
                if !content.is_there() {
                    return;
                }
                run.remove(other);
            }
            if content.is_there() || has_disk {
                run.insert(content.place, row);
                // It may have left the bucket of this time.
                if let Some(closes) = closes {
                    closes.list(content.place.time(), row);
                }
            }
        });
        self.observed = self.committed_observed;
        self.flushed_observed = self.committed_observed;
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let Some((key, place)) = P::decode(record.key) else {
            let problem = format!("changelog key of {} bytes at offset {}", record.key.len(), record.offset);
            return Err(Error::State(Box::new(StateError { store: self.name.clone(), problem })));
        };
        self.observe(place.time());
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        let entry = decode(&self.name, &self.serde, record)?;
        if entry.value.is_some() {
            let rows = self.rows_of(key, place);
            let row = self.find_or_insert(rows, place)?;
            self.rows.parts(row).1.entry = entry;
        } else if let Some(row) = self.run(key).and_then(|run| run.find(place)) {
            let run = *self.rows.identity(row);
            self.runs[run as usize].remove(row);
            self.rows.free(row);
        }
        Ok(())
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Time { before_end: P::TIME_BEFORE_END, part: self.retention / 16 + 1 }
    }

    fn attach(&mut self, rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> bool {
        if self.may_leave {
            self.rows.attach();
            self.disk = Some(Disk::new(rows, budget));
        }
        self.may_leave
    }

    fn restored(&mut self) {
        if let Some(latest) = self.disk.as_ref().and_then(|disk| disk.rows.latest()) {
            (self.observed, self.committed_observed, self.flushed_observed) = (latest, latest, latest);
            self.known = P::first_at(latest.saturating_add(1));
        }
    }

    fn written(&mut self) {
        let runs = &mut self.runs;
        self.rows.written(|row, run| runs[*run as usize].remove(row));
        self.evict();
    }

    fn expired(&mut self) -> Expired {
        Expired::Before(self.kept_from())
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 72)
    }

    fn query(
        &mut self,
        query: &StoreQuery,
        isolation: Isolation,
        rows: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        self.answer(query, isolation, rows, answer)
    }

    fn is_large(&self) -> bool {
        self.rows.is_large()
    }

    fn touch(&self, keys: &[&[u8]]) {
        let guess = self.index.look_ahead(keys);
        let runs = guess.map(|run| run.map(|run| &self.runs[run as usize]));
        for (_, row) in runs.map(|run| run.and_then(|run| run.newest)).into_iter().flatten() {
            self.rows.touch(row);
        }
        self.rows.touch_free();
        for run in runs.into_iter().flatten() {
            black_box(run.earlier.last().copied());
        }
        if self.at_once > 1 {
            let earlier = runs.into_iter().flatten().flat_map(|run| run.earlier.iter().rev().take(self.at_once - 1));
            earlier.for_each(|(_, row)| self.rows.touch(*row));
        }
    }
}
