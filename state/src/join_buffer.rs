//! The records of one side of a stream-stream join, by key and time; several of one key and time are all kept.
//!
//! Rows are only added, and forgotten when they are older than the retention: the changelog gets each once and is never
//! compacted (semantics.md 11). A row older than the retention is invisible at once (26) and removed when the commit
//! that passed it over has taken effect, so that a rollback finds it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use millstream_core::{ChangelogRecord, ChangelogWriter, Error, Result, Serde, StateError, StateStore, Timestamp};

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

/// The records of one key, by time, then number.
struct Run<V> {
    key: KeyBytes,
    records: VecDeque<Kept<V>>,
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
            scratch: Vec::new(),
            key_scratch: Vec::new(),
        }
    }

    /// Moves the buffer's time forward.
    #[inline]
    pub fn observe(&mut self, time: Timestamp) {
        self.observed = self.observed.max(time);
    }

    /// Keeps a record. `false`: it is older than the retention, and is not kept.
    #[inline]
    pub fn put(&mut self, key: &[u8], time: Timestamp, value: VS::Value) -> bool {
        self.observe(time);
        if !self.is_live(time) {
            return false;
        }
        let number = self.next_number;
        let run = self.insert(key, number, Entry { value: Some(value), timestamp: time });
        self.added.push((run, time, number));
        true
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
            let first = records.partition_point(|r| r.entry.timestamp < from);
            let kept = records.range(first..).take_while(move |r| r.entry.timestamp <= to);
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
        self.next_number = number.wrapping_add(1);
        let time = entry.timestamp;
        let run = &mut self.runs[id as usize];
        let at = run.records.partition_point(|r| r.entry.timestamp <= time);
        run.records.insert(at, Kept { number, entry });
        let bucket = time / self.width;
        if run.bucket != bucket {
            run.bucket = bucket;
            self.buckets.entry(bucket).or_default().push(id);
        }
        id
    }

    fn insert_run(&mut self, key: &[u8]) -> RunId {
        let run = Run { key: key.into(), records: VecDeque::new(), bucket: -1 };
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

    /// Where a record is in its run.
    fn find((run, time, number): Place, runs: &[Run<VS::Value>]) -> Option<usize> {
        let records = &runs[run as usize].records;
        let first = records.partition_point(|r| r.entry.timestamp < time);
        let same_time = records.range(first..).take_while(|r| r.entry.timestamp == time);
        same_time.enumerate().find(|(_, r)| r.number == number).map(|(i, _)| first + i)
    }

    fn free_if_empty(&mut self, id: RunId) {
        let run = &self.runs[id as usize];
        if run.records.is_empty() && self.index.remove(self.index.hash(&run.key), id) {
            self.free_runs.push(id);
        }
    }

    /// Removes the buckets that had expired as a whole at the last commit.
    fn expire(&mut self) {
        let before = self.committed_observed.saturating_sub(self.retention);
        while let Some(bucket) = self.buckets.first_entry().filter(|b| (b.key() + 1) * self.width - 1 <= before) {
            for run in bucket.remove() {
                let records = &mut self.runs[run as usize].records;
                let live = records.partition_point(|r| r.entry.timestamp <= before);
                records.drain(..live);
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
        for place in &self.added {
            // What has expired meanwhile needs no log.
            let Some(at) = Self::find(*place, &self.runs) else { continue };
            let run = &mut self.runs[place.0 as usize];
            let key = &mut self.key_scratch;
            key.clear();
            key.extend_from_slice(&run.key);
            key.extend(place.1.to_be_bytes());
            key.extend(place.2.to_be_bytes());
            let entry = &mut run.records[at].entry;
            write_row(&self.name, &self.serde, &mut self.scratch, key, entry, changelog)?;
        }
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
        let mut added = std::mem::take(&mut self.added);
        added.append(&mut self.flushed);
        for place in added {
            if let Some(at) = Self::find(place, &self.runs) {
                self.runs[place.0 as usize].records.remove(at);
                self.free_if_empty(place.0);
            }
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
            self.insert(key, u32::from_be_bytes(*number), entry);
        }
        Ok(())
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
            std::hint::black_box(self.runs[run as usize].records.len());
        }
    }
}
