//! Rows by key and place in time: windows by their start, sessions by their bounds.
//!
//! Per key, a short run of places in ascending order; over all keys, an index by place as soon as somebody has asked
//! what closes. A row older than the retention is invisible at once, whatever is still held (semantics.md 26); it is
//! removed some time after the commit that passed it over has taken effect, so that a rollback finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use millstream_core::{ChangelogRecord, ChangelogWriter, KEYS_AHEAD, Result, Serde, StateError, StateStore, Timestamp};

use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_row};
use crate::rows::{Content, Entry, RowId, Rows};

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

impl SessionBounds {
    /// Whether a record at a time belongs to the session: it is in it, or within the gap of it.
    #[inline]
    pub fn reaches(&self, time: Timestamp, gap: Timestamp) -> bool {
        self.end >= time - gap && self.start <= time + gap
    }

    /// The session that holds both.
    #[inline]
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        SessionBounds { end: self.end.max(other.end), start: self.start.min(other.start) }
    }
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

/// The places of one key, ascending. The newest is where most records go: found on the run's own cache line.
#[repr(C, align(64))]
struct Run<P> {
    key: KeyBytes,
    newest: Option<(P, RowId)>,
    earlier: Vec<(P, RowId)>,
}

impl<P: Place> Run<P> {
    #[inline]
    fn find(&self, place: P) -> Option<RowId> {
        match self.newest {
            Some((newest, row)) if newest == place => Some(row),
            _ => self.earlier.binary_search_by(|(p, _)| p.cmp(&place)).ok().map(|at| self.earlier[at].1),
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

    /// Takes a row out and says where it was.
    fn remove(&mut self, row: RowId) -> Option<P> {
        if let Some((place, _)) = self.newest.filter(|(_, newest)| *newest == row) {
            self.newest = self.earlier.pop();
            return Some(place);
        }
        let at = self.earlier.iter().position(|(_, r)| *r == row)?;
        Some(self.earlier.remove(at).0)
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
    index: Index<RunId>,
    runs: Vec<Run<P>>,
    free_runs: Vec<RunId>,
    /// Every run once, under a part of the retention that its first place was in: it is looked at when that has
    /// expired, and is listed again or goes.
    expiring: BTreeMap<Timestamp, Vec<RunId>>,
    by_place: Option<BTreeSet<(P, RowId)>>,
    rows: Rows<RunId, Placed<P, VS::Value>>,
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
            index: Index::new(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            expiring: BTreeMap::new(),
            by_place: None,
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

    #[inline]
    fn find_run(&self, hash: Hash, key: &[u8]) -> Option<RunId> {
        self.index.find(hash, |run| *self.runs[run as usize].key == *key)
    }

    fn run(&self, key: &[u8]) -> Option<&Run<P>> {
        self.find_run(self.index.hash(key), key).map(|run| &self.runs[run as usize])
    }

    fn find_or_insert(&mut self, key: &[u8], place: P) -> RowId {
        let hash = self.index.hash(key);
        let id = match self.find_run(hash, key) {
            Some(id) => id,
            None => self.insert_run(hash, key, place),
        };
        let run = &mut self.runs[id as usize];
        if let Some(row) = run.find(place) {
            return row;
        }
        let row = self.rows.insert(id, Placed { place, entry: Entry::EMPTY });
        run.insert(place, row);
        if let Some(by_place) = &mut self.by_place {
            by_place.insert((place, row));
        }
        row
    }

    fn insert_run(&mut self, hash: Hash, key: &[u8], place: P) -> RunId {
        let run = Run { key: key.into(), newest: None, earlier: Vec::new() };
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
        self.index.insert(hash, id);
        self.expiring.entry(Self::part(self.retention, place.time())).or_default().push(id);
        id
    }

    /// Time in parts of the retention.
    fn part(retention: Timestamp, time: Timestamp) -> Timestamp {
        time.div_euclid(retention / 16 + 1)
    }

    /// The row at a place.
    pub fn get(&self, key: &[u8], place: P) -> Option<(&VS::Value, Timestamp)> {
        let row = self.run(key)?.find(place).filter(|_| self.is_live(&place))?;
        let entry = &self.rows.content(row).entry;
        entry.value.as_ref().map(|value| (value, entry.timestamp))
    }

    /// The row at a place, to be changed in place; empty if there is none. The place must be live.
    #[inline]
    pub fn change(&mut self, key: &[u8], place: P) -> &mut Entry<VS::Value> {
        let row = self.find_or_insert(key, place);
        &mut self.rows.change(row).entry
    }

    /// Moves the newest row of a key to another place, where it is the newest still, and returns the place and the row, to be changed.
    /// `to` says where, given the row's place and the one before it. `None` if there is no such live row or `to` says so.
    #[inline]
    pub fn move_newest(
        &mut self,
        key: &[u8],
        to: impl FnOnce(P, Option<P>) -> Option<P>,
    ) -> Option<(P, &mut Entry<VS::Value>)> {
        let id = self.find_run(self.index.hash(key), key)?;
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
        if let Some(by_place) = &mut self.by_place {
            by_place.remove(&(from, row));
            by_place.insert((to, row));
        }
        self.observed = self.observed.max(to.time());
        let content = self.rows.change(row);
        content.place = to;
        Some((to, &mut content.entry))
    }

    /// The live rows of a key at places within a range, ascending.
    pub fn fetch(
        &self,
        key: &[u8],
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &VS::Value, Timestamp)> {
        let found = self.run(key).into_iter().flat_map(move |run| run.range(places.clone()));
        found.filter(|(place, _)| self.is_live(place)).filter_map(|(place, row)| {
            let entry = &self.rows.content(*row).entry;
            Some((*place, entry.value.as_ref()?, entry.timestamp))
        })
    }

    /// The live rows of all keys within a range, in the order of key bytes, then place. Looks at every key of the table.
    pub fn scan(&self, keys: (Bound<&[u8]>, Bound<&[u8]>)) -> Vec<(&[u8], P, &VS::Value)> {
        let runs = self.index.iter().map(|run| &self.runs[run as usize]);
        let mut runs: Vec<_> = runs.filter(|run| RangeBounds::<[u8]>::contains(&keys, &*run.key)).collect();
        runs.sort_by(|a, b| a.key.cmp(&b.key));
        let places = runs.into_iter().flat_map(|run| run.earlier.iter().chain(&run.newest).map(|at| (&*run.key, at)));
        let live = places.filter(|(_, (place, _))| self.is_live(place));
        live.filter_map(|(key, (place, row))| Some((key, *place, self.rows.content(*row).entry.value.as_ref()?)))
            .collect()
    }

    /// The rows of all keys at places within a range, in the order of time, key bytes, place; whether they are still
    /// live or not, since what closes is emitted before it expires (semantics.md 43). The first call sorts the table.
    pub fn closing(&mut self, places: RangeInclusive<P>) -> Vec<(P, KeyBytes, VS::Value, Timestamp)> {
        if places.start() > places.end() {
            return Vec::new();
        }
        let runs = &self.runs;
        let by_place = Self::sorted(&mut self.by_place, runs);
        let (from, to) = places.into_inner();
        let mut found: Vec<_> = by_place
            .range((from, RowId::MIN)..=(to, RowId::MAX))
            .filter_map(|(place, row)| {
                let entry = &self.rows.content(*row).entry;
                let key = &runs[*self.rows.identity(*row) as usize].key;
                Some((*place, key.clone(), entry.value.clone()?, entry.timestamp))
            })
            .collect();
        found.sort_by(|a, b| (a.0.time(), &a.1, a.0).cmp(&(b.0.time(), &b.1, b.0)));
        found
    }

    /// The first place from one on at which a key has a row. The first call sorts the table.
    pub fn first_from(&mut self, from: P) -> Option<P> {
        let by_place = Self::sorted(&mut self.by_place, &self.runs);
        let mut places = by_place.range((from, RowId::MIN)..);
        places.find(|(_, row)| self.rows.content(*row).is_there()).map(|(place, _)| *place)
    }

    fn sorted<'a>(by_place: &'a mut Option<BTreeSet<(P, RowId)>>, runs: &[Run<P>]) -> &'a BTreeSet<(P, RowId)> {
        by_place
            .get_or_insert_with(|| runs.iter().flat_map(|run| run.earlier.iter().chain(&run.newest)).copied().collect())
    }

    fn forget(run: &mut Run<P>, by_place: &mut Option<BTreeSet<(P, RowId)>>, row: RowId) {
        let place = run.remove(row);
        if let (Some(by_place), Some(place)) = (by_place, place) {
            by_place.remove(&(place, row));
        }
    }

    /// Removes rows that had expired at the last commit and that nothing has changed since.
    fn expire(&mut self) {
        let before = self.committed_observed.saturating_sub(self.retention);
        let later = self.expiring.split_off(&Self::part(self.retention, before.saturating_add(1)));
        let due: Vec<_> = std::mem::replace(&mut self.expiring, later).into_values().flatten().collect();
        for (at, id) in due.iter().copied().enumerate() {
            if at % KEYS_AHEAD == 0 {
                let runs = due[at..].iter().take(KEYS_AHEAD).map(|id| &self.runs[*id as usize]);
                runs.flat_map(|run| run.earlier.iter().chain(&run.newest)).for_each(|(_, row)| self.rows.touch(*row));
            }
            let run = &mut self.runs[id as usize];
            let (rows, by_place) = (&mut self.rows, &mut self.by_place);
            let mut goes = |&(place, row): &(P, RowId)| {
                let goes = place.time() <= before && rows.free(row);
                if let Some(by_place) = by_place.as_mut().filter(|_| goes) {
                    by_place.remove(&(place, row));
                }
                goes
            };
            run.earlier.retain(|at| !goes(at));
            if run.newest.as_ref().is_some_and(goes) {
                run.newest = run.earlier.pop();
            }
            match run.first() {
                Some(first) => {
                    self.expiring.entry(Self::part(self.retention, first.time())).or_default().push(id);
                }
                None => {
                    self.index.remove(self.index.hash(&run.key), id);
                    self.free_runs.push(id);
                }
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
        let read_run = |run: &RunId| {
            black_box(runs[*run as usize].newest);
        };
        self.rows.for_each_change(read_run, |rows, id, was| {
            let run = &runs[*rows.identity(id) as usize];
            key.clear();
            key.extend_from_slice(&run.key);
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
            write_row(name, serde, scratch, key, entry, changelog)
        })?;
        self.rows.flushed();
        self.flushed_observed = self.observed;
        Ok(())
    }

    fn committed(&mut self) {
        let (runs, by_place) = (&mut self.runs, &mut self.by_place);
        self.rows.committed(|row, run| Self::forget(&mut runs[*run as usize], by_place, row));
        self.committed_observed = self.flushed_observed;
        self.expire();
    }

    fn rollback(&mut self) {
        let (runs, by_place) = (&mut self.runs, &mut self.by_place);
        self.rows.rollback(|row, run, content| {
            let run = &mut runs[*run as usize];
            Self::forget(run, by_place, row);
            if content.is_there() {
                run.insert(content.place, row);
                if let Some(by_place) = by_place {
                    by_place.insert((content.place, row));
                }
            }
        });
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
        if entry.value.is_some() {
            let row = self.find_or_insert(key, place);
            self.rows.parts(row).1.entry = entry;
        } else if let Some(row) = self.run(key).and_then(|run| run.find(place)) {
            let run = *self.rows.identity(row);
            Self::forget(&mut self.runs[run as usize], &mut self.by_place, row);
            self.rows.free(row);
        }
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 72)
    }

    fn is_large(&self) -> bool {
        self.rows.is_large()
    }

    fn touch(&self, keys: &[&[u8]]) {
        let runs = self.index.guess(keys).map(|run| run.map(|run| &self.runs[run as usize]));
        for (_, row) in runs.map(|run| run.and_then(|run| run.newest)).into_iter().flatten() {
            self.rows.touch(row);
        }
        for run in runs.into_iter().flatten() {
            black_box(run.earlier.last().copied());
        }
    }
}
