//! Rows by key and place in time: windows by their start, sessions by their bounds.
//!
//! Per key, a short run of places in ascending order; over all keys, buckets by time as soon as somebody has asked
//! what closes. A row older than the retention is invisible at once, whatever is still held (semantics.md 26); it is
//! removed some time after the commit that passed it over has taken effect, so that a rollback finds it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use millstream_core::{
    ChangelogRecord, ChangelogWriter, Expired, Isolation, KEYS_AHEAD, Result, RowOrder, Serde, StateError, StateStore,
    StoreQuery, Timestamp,
};

use crate::closes::Closes;
use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::key_order;
use crate::key_value::{UNDO_PER_ROW, decode, write_row, write_value};
use crate::rows::{Content, Entry, RowId, Rows};
use crate::sorted_keys::SortedKeys;

/// What places a row in time, besides its key.
pub trait Place: Copy + Ord + std::fmt::Debug + 'static {
    /// The time by which the row expires: it is visible while this is within the retention.
    fn time(&self) -> Timestamp;
    /// Appends the place to the key bytes, as Kafka's changelog has it (semantics.md 63).
    fn encode(&self, key: &mut Vec<u8>);
    /// Whether it is within a range of times, as a query means it: a window that starts at one of them, a session that is
    /// in progress at one.
    fn is_at(&self, times: &RangeInclusive<Timestamp>) -> bool;
    /// Where that time begins in a changelog key, in bytes from its end.
    const TIME_BEFORE_END: usize;
    /// Before all others.
    const FIRST: Self;
    /// Behind all others.
    const LAST: Self;
    /// Splits a changelog key.
    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)>;
}

/// A window: identified by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowStart(pub Timestamp);

impl Place for WindowStart {
    const TIME_BEFORE_END: usize = 12;
    const FIRST: Self = WindowStart(Timestamp::MIN);
    const LAST: Self = WindowStart(Timestamp::MAX);

    fn time(&self) -> Timestamp {
        self.0
    }

    fn is_at(&self, times: &RangeInclusive<Timestamp>) -> bool {
        times.contains(&self.0)
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
    const TIME_BEFORE_END: usize = 16;
    const FIRST: Self = SessionBounds { end: Timestamp::MIN, start: Timestamp::MIN };
    const LAST: Self = SessionBounds { end: Timestamp::MAX, start: Timestamp::MAX };

    fn time(&self) -> Timestamp {
        self.end
    }

    fn is_at(&self, times: &RangeInclusive<Timestamp>) -> bool {
        self.end >= *times.start() && self.start <= *times.end()
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
    expiring: BTreeMap<Timestamp, Vec<RunId>>,
    closes: Option<Closes>,
    /// For queries that ask for ranges of keys.
    sorted: Option<SortedKeys<RunId>>,
    rows: Rows<RunId, Placed<P, VS::Value>>,
    scratch: Vec<u8>,
    key_scratch: Vec<u8>,
}

/// How many rows that close are read at once.
const CLOSED_AT_ONCE: usize = 16 * KEYS_AHEAD;

/// Rows that close, on their way out.
#[derive(Default)]
pub struct Closing {
    rows: Vec<RowId>,
    next: usize,
}

/// Reads rows and their runs, for the processor's cache: all at once, so that it waits for memory once.
fn read<P: Place, V: Clone>(rows: &Rows<RunId, Placed<P, V>>, runs: &[Run<P>], ids: &[RowId]) {
    ids.iter().for_each(|row| rows.touch(*row));
    ids.iter().for_each(|row| {
        black_box(runs[*rows.identity(*row) as usize].newest);
    });
}

/// What a run has given to an answer.
struct Given<P> {
    rows: usize,
    /// The last one, if there are more.
    rest_after: Option<P>,
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
            at_once: 1,
            observed: -1,
            committed_observed: -1,
            flushed_observed: -1,
            index: Index::new(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            expiring: BTreeMap::new(),
            closes: None,
            sorted: None,
            rows: Rows::new(true),
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
        let hash = self.index.hash(key);
        match self.find_run(hash, key) {
            Some(run) => KeyRows(run),
            None => KeyRows(self.insert_run(hash, key, place)),
        }
    }

    #[inline]
    fn find_or_insert(&mut self, KeyRows(id): KeyRows, place: P) -> RowId {
        let run = &mut self.runs[id as usize];
        if let Some(row) = run.find(place) {
            return row;
        }
        let row = self.rows.insert(id, Placed { place, entry: Entry::EMPTY });
        run.insert(place, row);
        if let Some(closes) = &mut self.closes {
            closes.list(place.time(), row);
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
        if let Some(closes) = &mut self.closes {
            closes.keys.add(key);
        }
        if let Some(sorted) = &mut self.sorted {
            sorted.insert(key.into(), id);
        }
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
        let rows = self.rows_of(key, place);
        self.change_at(rows, place)
    }

    /// The same among the rows of a key.
    #[inline]
    pub fn change_at(&mut self, rows: KeyRows, place: P) -> &mut Entry<VS::Value> {
        let row = self.find_or_insert(rows, place);
        &mut self.rows.change(row).entry
    }

    /// Moves the newest row of a key to another place, where it is the newest still, and returns the place and the row, to be changed.
    /// `to` says where, given the row's place and the one before it. `None` if there is no such live row or `to` says so.
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

    /// The live rows of a key at places within a range, ascending.
    pub fn fetch(
        &self,
        key: &[u8],
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &VS::Value, Timestamp)> {
        self.fetch_in(self.run(key), places)
    }

    /// The same among the rows of a key.
    pub fn fetch_at(
        &self,
        KeyRows(id): KeyRows,
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &VS::Value, Timestamp)> {
        self.fetch_in(Some(&self.runs[id as usize]), places)
    }

    fn fetch_in<'a>(
        &'a self,
        run: Option<&'a Run<P>>,
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &'a VS::Value, Timestamp)> {
        let found = run.into_iter().flat_map(move |run| run.range(places.clone()));
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
        let places = runs.into_iter().flat_map(|run| run.places().map(|at| (&*run.key, at)));
        let live = places.filter(|(_, (place, _))| self.is_live(place));
        live.filter_map(|(key, (place, row))| Some((key, *place, self.rows.content(*row).entry.value.as_ref()?)))
            .collect()
    }

    /// Sorts the keys, at most so many at a time; `true` when they are.
    fn sort(&mut self, most: usize) -> bool {
        let (runs, index) = (&self.runs, &self.index);
        self.sorted.get_or_insert_with(SortedKeys::new).sort(runs.len(), most, |place| {
            let (id, key) = (place as RunId, &runs[place].key);
            index.contains(index.hash(key), id).then_some((key, id))
        })
    }

    /// Gives the rows of a run that a query means, those behind a place of it, at most so many: the last place that was
    /// looked at if there are more.
    fn give(
        &mut self,
        run: RunId,
        query: &StoreQuery,
        after: Option<P>,
        isolation: Isolation,
        most: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Given<P>> {
        let committed = isolation == Isolation::ReadCommitted;
        let observed = if committed { self.committed_observed } else { self.observed };
        let oldest = observed.saturating_sub(self.retention);
        let content = |row| if committed { self.rows.committed_content(row) } else { self.rows.content(row) };
        let run = &self.runs[run as usize];
        // A committed row may have been somewhere else, but among those that were committed with it the order is the same.
        let places = run.places().map(|(_, row)| content(*row));
        let is_asked = |content: &&Placed<P, VS::Value>| {
            let place = content.place;
            let is_left = after.is_none_or(|after| if query.descending { place < after } else { place > after });
            content.is_there() && place.time() > oldest && is_left && place.is_at(&query.times)
        };
        let mut asked: Vec<_> = places.filter(is_asked).collect();
        if query.descending {
            asked.reverse();
        }
        let (name, serde, scratch, key) = (&self.name, &self.serde, &mut self.scratch, &mut self.key_scratch);
        for (at, Placed { place, entry }) in asked.iter().enumerate() {
            key.clear();
            key.extend_from_slice(&run.key);
            place.encode(key);
            write_value(name, serde, scratch, key, entry.value.as_ref(), entry.timestamp, answer)?;
            if at + 1 == most || answer.is_full() {
                return Ok(Given { rows: at + 1, rest_after: Some(*place).filter(|_| at + 1 < asked.len()) });
            }
        }
        Ok(Given { rows: asked.len(), rest_after: None })
    }

    /// The rows of all keys at times within a range, in the order of time, key bytes, place; whether they are still
    /// live or not, since what closes is emitted before it expires (semantics.md 43). The first call looks at the whole table.
    pub fn closing(&mut self, times: RangeInclusive<Timestamp>) -> Closing {
        let closes = Self::listed(&mut self.closes, &self.index, &self.runs);
        let (mut from, to) = times.into_inner();
        let (mut closing, mut bucket) = (Closing::default(), Vec::new());
        while from <= to
            && let Some((time, rows)) = closes.take(from..=to)
        {
            from = time.saturating_add(1);
            bucket.clear();
            for ahead in rows.chunks(KEYS_AHEAD) {
                read(&self.rows, &self.runs, ahead);
                for row in ahead.iter().copied() {
                    let (content, key) = (self.rows.content(row), &self.runs[*self.rows.identity(row) as usize].key);
                    if content.place.time() >= time {
                        closes.list(content.place.time(), row);
                    }
                    if content.is_there() && content.place.time() == time {
                        bucket.push((closes.keys.number(key), row));
                    }
                }
            }
            let place = |row| (&*self.runs[*self.rows.identity(row) as usize].key, self.rows.content(row).place);
            key_order::sort(&mut bucket, place);
            bucket.dedup();
            closing.rows.extend(bucket.iter().map(|(_, row)| *row));
        }
        closing
    }

    /// The first time from one on at which there is a row. The first call looks at the whole table.
    pub fn first_from(&mut self, from: Timestamp) -> Option<Timestamp> {
        let closes = Self::listed(&mut self.closes, &self.index, &self.runs);
        let mut first: Option<Timestamp> = None;
        for (bucket, rows) in closes.from(from) {
            if first.is_some_and(|first| first <= bucket) {
                break;
            }
            // A row that has moved on is in the bucket where it was.
            let there = rows.iter().map(|row| self.rows.content(*row)).filter(|content| content.is_there());
            let times = there.map(|content| content.place.time()).filter(|time| *time >= from);
            first = first.into_iter().chain(times).min();
        }
        first
    }

    fn listed<'a>(closes: &'a mut Option<Closes>, index: &Index<RunId>, runs: &[Run<P>]) -> &'a mut Closes {
        closes.get_or_insert_with(|| {
            let mut closes = Closes::new();
            for run in index.iter().map(|run| &runs[run as usize]) {
                closes.keys.add(&run.key);
                run.places().for_each(|(place, row)| closes.list(place.time(), *row));
            }
            closes
        })
    }

    /// Gives the next of the closing rows to `f`: key, place, value, time. `false` if there are no more.
    pub fn closed(&self, closing: &mut Closing, mut f: impl FnMut(&[u8], P, &VS::Value, Timestamp)) -> bool {
        let rest = &closing.rows[closing.next..];
        let rows = &rest[..rest.len().min(CLOSED_AT_ONCE)];
        closing.next += rows.len();
        for ahead in rows.chunks(KEYS_AHEAD) {
            read(&self.rows, &self.runs, ahead);
            for row in ahead.iter().copied() {
                let Placed { place, entry } = self.rows.content(row);
                if let Some(value) = &entry.value {
                    f(&self.runs[*self.rows.identity(row) as usize].key, *place, value, entry.timestamp);
                }
            }
        }
        !rows.is_empty()
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
                runs.flat_map(Run::places).for_each(|(_, row)| self.rows.touch(*row));
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
                    self.expiring.entry(Self::part(self.retention, first.time())).or_default().push(id);
                }
                None => {
                    if let Some(sorted) = &mut self.sorted {
                        sorted.remove(&run.key);
                    }
                    self.index.remove(self.index.hash(&run.key), id);
                    self.free_runs.push(id);
                }
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
        let runs = &mut self.runs;
        self.rows.committed(|row, run| {
            runs[*run as usize].remove(row);
        });
        self.committed_observed = self.flushed_observed;
        self.expire();
    }

    fn rollback(&mut self) {
        let (runs, closes) = (&mut self.runs, &mut self.closes);
        self.rows.rollback(|row, run, content| {
            let run = &mut runs[*run as usize];
            run.remove(row);
            if content.is_there() {
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
            return Err(millstream_core::Error::State(Box::new(StateError { store: self.name.clone(), problem })));
        };
        self.observe(place.time());
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        let entry = decode(&self.name, &self.serde, record)?;
        if entry.value.is_some() {
            let rows = self.rows_of(key, place);
            let row = self.find_or_insert(rows, place);
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

    fn expired(&mut self) -> Expired {
        Expired::Before(self.committed_observed.saturating_sub(self.retention).saturating_add(1))
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
        if isolation == Isolation::ReadCommitted && !self.rows.look_up_undo(UNDO_PER_ROW * rows) {
            return Ok(Some(query.clone()));
        }
        let after = query.after.as_deref().and_then(P::decode);
        let end = if query.descending { P::FIRST } else { P::LAST };
        let runs: Vec<RunId> = match query.single_key() {
            Some(key) => self.find_run(self.index.hash(key), key).into_iter().collect(),
            None if !self.sort(rows) => return Ok(Some(query.clone())),
            None => {
                let is_again = after.is_some_and(|(_, place)| place != end);
                let Some(range) = query.keys_left(after.map(|(key, _)| key), is_again) else { return Ok(None) };
                let runs = self.sorted.iter().flat_map(|sorted| sorted.range(range)).map(|(_, run)| run);
                // One more than there is time for: whether that is all.
                if query.descending { runs.rev().take(rows + 1).collect() } else { runs.take(rows + 1).collect() }
            }
        };
        let mut given = 0;
        for (at, run) in runs.iter().enumerate() {
            let key = self.runs[*run as usize].key.clone();
            let last = |place: Option<P>| {
                let mut last = key.to_vec();
                place.unwrap_or(end).encode(&mut last);
                query.after(&last)
            };
            let behind = after.filter(|(after, _)| **after == *key).map(|(_, place)| place);
            let done = self.give(*run, query, behind, isolation, rows - given, answer)?;
            given += done.rows;
            if done.rest_after.is_some() {
                return Ok(Some(last(done.rest_after)));
            }
            if at + 1 < runs.len() && (at + 1 == rows || given == rows || answer.is_full()) {
                return Ok(Some(last(None)));
            }
        }
        Ok(None)
    }

    fn is_large(&self) -> bool {
        self.rows.is_large()
    }

    fn touch(&self, keys: &[&[u8]]) {
        let runs = self.index.guess(keys).map(|run| run.map(|run| &self.runs[run as usize]));
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
