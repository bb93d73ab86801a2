//! The records of one side of a stream-stream join, by key and time; several of one key and time are all kept.
//!
//! Rows are only added, and forgotten when they are older than the retention: the changelog gets each once and is never
//! compacted (semantics.md 11). A row older than the retention is invisible at once (26) and removed when the commit
//! that passed it over has taken effect, so that a rollback finds it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, Error, Result, RowOrder, Serde, StateError, StateStore, Timestamp,
};

use crate::index::Index;
use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_row};
use crate::rows::Entry;

/// Index of a run.
type RunId = u32;

/// A record kept: its number tells it from others of its time.
struct Kept<V> {
    number: u32,
    entry: Entry<V>,
}

/// Records by time, then as they came. Most keys have one, which needs no list.
struct Records<V> {
    newest: Option<Kept<V>>,
    earlier: VecDeque<Kept<V>>,
}

impl<V> Records<V> {
    const EMPTY: Self = Records { newest: None, earlier: VecDeque::new() };

    fn insert(&mut self, kept: Kept<V>) {
        let time = kept.entry.timestamp;
        match &self.newest {
            Some(newest) if time < newest.entry.timestamp => {
                let at = self.earlier.partition_point(|r| r.entry.timestamp <= time);
                self.earlier.insert(at, kept);
            }
            _ => self.earlier.extend(self.newest.replace(kept)),
        }
    }

    /// From a time on.
    fn from(&self, time: Timestamp) -> impl Iterator<Item = &Kept<V>> {
        let first = self.earlier.partition_point(|r| r.entry.timestamp < time);
        let newest = self.newest.iter().filter(move |r| r.entry.timestamp >= time);
        self.earlier.range(first..).chain(newest)
    }

    fn remove(&mut self, time: Timestamp, number: u32) {
        let is = |r: &Kept<V>| r.entry.timestamp == time && r.number == number;
        if self.newest.as_ref().is_some_and(is) {
            self.newest = self.earlier.pop_back();
        } else if let Some(at) = self.earlier.iter().position(is) {
            self.earlier.remove(at);
        }
    }

    /// Removes those up to a time.
    fn remove_up_to(&mut self, time: Timestamp) {
        let live = self.earlier.partition_point(|r| r.entry.timestamp <= time);
        self.earlier.drain(..live);
        self.newest.take_if(|r| r.entry.timestamp <= time);
    }
}

/// The records of one key.
struct Run<V> {
    key: KeyBytes,
    records: Records<V>,
    /// The bucket that last got a record of this run.
    bucket: Timestamp,
}

/// Names a record: its run, time and number.
type Place = (RunId, Timestamp, u32);

/// Records by key and time.
pub struct JoinBuffer<VS: Serde> {
    name: String,
    serde: VS,
    retention: Timestamp,
    /// The largest time that the buffer has seen; at the last commit; at the flush that is under way.
    observed: Timestamp,
    committed_observed: Timestamp,
    flushed_observed: Timestamp,
    index: Index<RunId>,
    runs: Vec<Run<VS::Value>>,
    free_runs: Vec<RunId>,
    /// Runs that got records, by time divided by the width: what expires, expires a bucket at a time.
    buckets: BTreeMap<Timestamp, Vec<RunId>>,
    width: Timestamp,
    next_number: u32,
    added: Vec<Place>,
    flushed: Vec<Place>,
    /// The changelog of what was added: a row never changes, so it is written when it comes.
    changelog: ChangelogWriter,
    scratch: Vec<u8>,
    key_scratch: Vec<u8>,
}

impl<VS: Serde> JoinBuffer<VS>
where
    VS::Value: Clone,
{
    /// An empty buffer that keeps records for `retention` milliseconds behind the largest time it has seen.
    pub fn new(name: &str, serde: VS, retention: Timestamp) -> Self {
        JoinBuffer {
            name: name.to_owned(),
            serde,
            retention,
            observed: -1,
            committed_observed: -1,
            flushed_observed: -1,
            index: Index::new(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            buckets: BTreeMap::new(),
            width: (retention / 4).max(1),
            next_number: 0,
            added: Vec::new(),
            flushed: Vec::new(),
            changelog: ChangelogWriter::default(),
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
    pub fn put(&mut self, key: &[u8], time: Timestamp, value: VS::Value) -> Result<bool> {
        self.observe(time);
        if !self.is_live(time) {
            return Ok(false);
        }
        let number = self.next_number;
        let mut entry = Entry { value: Some(value), timestamp: time };
        let place = &mut self.key_scratch;
        place.clear();
        place.extend_from_slice(key);
        place.extend(time.to_be_bytes());
        place.extend(number.to_be_bytes());
        write_row(&self.name, &self.serde, &mut self.scratch, place, &mut entry, &mut self.changelog)?;
        let run = self.insert(key, number, entry);
        self.next_number = number.wrapping_add(1);
        self.added.push((run, time, number));
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
        let records = self.find_run(key).map(|run| &self.runs[run as usize].records);
        records.into_iter().flat_map(move |records| {
            let kept = records.from(from).take_while(move |r| r.entry.timestamp <= to);
            kept.filter_map(|r| Some((r.entry.timestamp, r.entry.value.as_ref()?)))
        })
    }

    fn find_run(&self, key: &[u8]) -> Option<RunId> {
        self.index.find(self.index.hash(key), |run| *self.runs[run as usize].key == *key)
    }

    fn insert(&mut self, key: &[u8], number: u32, entry: Entry<VS::Value>) -> RunId {
        let id = match self.find_run(key) {
            Some(run) => run,
            None => self.insert_run(key),
        };
        let time = entry.timestamp;
        let run = &mut self.runs[id as usize];
        run.records.insert(Kept { number, entry });
        let bucket = time / self.width;
        if run.bucket != bucket {
            run.bucket = bucket;
            self.buckets.entry(bucket).or_default().push(id);
        }
        id
    }

    fn insert_run(&mut self, key: &[u8]) -> RunId {
        let run = Run { key: key.into(), records: Records::EMPTY, bucket: -1 };
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
        self.index.insert(self.index.hash(key), id);
        id
    }

    fn free_if_empty(&mut self, id: RunId) {
        let run = &self.runs[id as usize];
        if run.records.newest.is_none() && self.index.remove(self.index.hash(&run.key), id) {
            self.free_runs.push(id);
        }
    }

    /// Removes the buckets that had expired as a whole at the last commit.
    fn expire(&mut self) {
        let before = self.committed_observed.saturating_sub(self.retention);
        while let Some(bucket) = self.buckets.first_entry().filter(|b| (b.key() + 1) * self.width - 1 <= before) {
            for run in bucket.remove() {
                self.runs[run as usize].records.remove_up_to(before);
                self.free_if_empty(run);
            }
        }
    }
}

impl<VS: Serde> StateStore for JoinBuffer<VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        *changelog = std::mem::take(&mut self.changelog);
        debug_assert!(self.flushed.is_empty(), "one commit is under way at most");
        std::mem::swap(&mut self.added, &mut self.flushed);
        self.flushed_observed = self.observed;
        Ok(())
    }

    fn committed(&mut self) {
        self.flushed.clear();
        self.committed_observed = self.flushed_observed;
        self.expire();
    }

    fn rollback(&mut self) {
        self.changelog = ChangelogWriter::default();
        let mut added = std::mem::take(&mut self.added);
        added.append(&mut self.flushed);
        for (run, time, number) in added {
            self.runs[run as usize].records.remove(time, number);
            self.free_if_empty(run);
        }
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
        if self.is_live(entry.timestamp) {
            let number = u32::from_be_bytes(*number);
            self.insert(key, number, entry);
            // They need not come as they were written.
            self.next_number = self.next_number.max(number.wrapping_add(1));
        }
        Ok(())
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Time { before_end: 12, part: self.width }
    }

    fn expired_before(&self) -> Option<Timestamp> {
        Some(self.committed_observed.saturating_sub(self.retention) + 1)
    }

    fn dirty_bytes(&self) -> usize {
        self.added.len() * (size_of::<VS::Value>() + 48)
    }

    fn is_large(&self) -> bool {
        self.runs.len() > 8192
    }

    fn touch(&self, keys: &[&[u8]]) {
        let runs = self.index.guess(keys);
        for run in runs.into_iter().flatten() {
            std::hint::black_box(self.runs[run as usize].records.newest.is_some());
        }
    }
}
