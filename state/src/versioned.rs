//! Rows with a history: per key every value with the time from which on it was valid (KIP-889, semantics.md 64).
//!
//! The changelog gets every value that was put, in order, with its time, and behind one that is out of order the latest once more. With a disk, rows that are there too leave memory with
//! all of their history when the process's budget is used up, and come back so when they are asked for.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, RangeInclusive};
use std::sync::Arc;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, Error, Expired, Isolation, Result, RowOrder, Serde, StateBudget,
    StateStore, StoreQuery, Timestamp,
};

use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_row, write_value};
use crate::own_bytes::own;
use crate::rows::{Entry, RowId, Rows};
use crate::rows_on_disk::RowsOnDisk;

/// A value and the times within which it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version<V> {
    /// The value.
    pub value: V,
    /// From this time on.
    pub timestamp: Timestamp,
    /// Up to this time, exclusive; `None`: still.
    pub valid_to: Option<Timestamp>,
}

/// What became of a value that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is the latest.
    Latest,
    /// It is out of order: valid up to this time, when a later value follows.
    UpTo(Timestamp),
    /// It is older than the history, and was not taken.
    TooOld,
}

/// The values of a key by time, ascending; `None` is a deletion.
type Versions<V> = [(Timestamp, Option<V>)];
type History<V> = Vec<(Timestamp, Option<V>)>;

/// Takes out the versions that ended before `oldest`, if that is where the history of the last commit begins: nobody asks for
/// them, whatever happens next. What follows them is older too, so it was committed.
fn take_ended<V>(versions: &mut History<V>, oldest: Timestamp) {
    let ended = versions.partition_point(|(from, _)| *from < oldest).saturating_sub(1);
    drop(versions.drain(..ended));
}

/// The values that were valid at some of the times, ascending. The latest one is answered for at any time, what was before it
/// within the history.
fn valid_at<V>(
    versions: &Versions<V>,
    times: RangeInclusive<Timestamp>,
    history: Timestamp,
) -> impl DoubleEndedIterator<Item = Version<&V>> {
    let (first, last) = times.into_inner();
    versions.iter().enumerate().filter_map(move |(at, (from, value))| {
        let valid_to = versions.get(at + 1).map(|(next, _)| *next);
        let is_asked = *from <= last && valid_to.is_none_or(|to| to > first.max(history) && last >= history);
        Some(Version { value: value.as_ref().filter(|_| is_asked)?, timestamp: *from, valid_to })
    })
}

type VersionRows<VS> = Rows<KeyBytes, Entry<History<<VS as Serde>::Value>>>;

/// Rows with their history, by key.
pub struct VersionedTable<VS: Serde> {
    name: String,
    serde: VS,
    history: Timestamp,
    /// The largest time that was put; at the last commit; at the flush that is under way.
    observed: Timestamp,
    committed_observed: Timestamp,
    flushed_observed: Timestamp,
    index: Index<RowId>,
    rows: VersionRows<VS>,
    /// What was put since the last flush.
    puts: Vec<(KeyBytes, Entry<VS::Value>)>,
    /// Rows that end with a deletion, by its time: they go when it is older than the history.
    deleted: BTreeMap<Timestamp, Vec<RowId>>,
    /// Rows came from the changelog since the last commit: some may have versions that nobody asks for.
    restored: bool,
    disk: Option<RowsOnDisk>,
    scratch: Vec<u8>,
}

impl<VS: Serde> VersionedTable<VS>
where
    VS::Value: Clone,
{
    /// An empty table that answers for the last `history` milliseconds, and takes values no older.
    pub fn new(name: &str, serde: VS, history: Timestamp) -> Self {
        VersionedTable {
            name: name.to_owned(),
            serde,
            history,
            observed: -1,
            committed_observed: -1,
            flushed_observed: -1,
            index: Index::default(),
            rows: Rows::new(true),
            puts: Vec::new(),
            deleted: BTreeMap::new(),
            restored: false,
            disk: None,
            scratch: Vec::new(),
        }
    }

    /// What a version takes in memory beside its encoded bytes, as many of these.
    const VERSION_BYTES: usize = size_of::<(Timestamp, Option<VS::Value>)>() / 2;

    fn find(&self, hash: Hash, key: &[u8]) -> Option<RowId> {
        self.index.find(hash, |id| **self.rows.identity(id) == *key)
    }

    /// The row of a key.
    fn row(&mut self, key: &[u8]) -> Result<Option<RowId>> {
        let hash = self.index.hash(key);
        match self.find(hash, key) {
            Some(id) => Ok(Some(id)),
            None => self.read_row(hash, key),
        }
    }

    /// Brings a row back from disk that is not in memory.
    fn read_row(&mut self, hash: Hash, key: &[u8]) -> Result<Option<RowId>> {
        let mut versions = self.look_up(key)?;
        take_ended(&mut versions, self.committed_observed.saturating_sub(self.history));
        let Some((timestamp, last)) = versions.last() else { return Ok(None) };
        let (timestamp, is_deleted) = (*timestamp, last.is_none());
        let id = self.rows.insert(key.into(), Entry { value: Some(versions), timestamp });
        self.index.insert(hash, id);
        if is_deleted {
            self.deleted.entry(timestamp).or_default().push(id);
        }
        Ok(Some(id))
    }

    /// The versions on disk of a key that is not in memory.
    fn look_up(&mut self, key: &[u8]) -> Result<History<VS::Value>> {
        let (name, serde, mut versions, mut bytes) = (&self.name, &self.serde, Vec::new(), 0);
        let Some(disk) = &mut self.disk else { return Ok(versions) };
        let Some(rows) = disk.unless_complete()? else { return Ok(versions) };
        let [from, to] = RowOrder::versions_of(key);
        rows.look_up((Bound::Included(&from), Bound::Included(&to)), false, &mut |record| {
            bytes += key.len() + record.value.map_or(0, <[u8]>::len) + Self::VERSION_BYTES;
            versions.push((record.timestamp, decode(name, serde, record)?.value));
            Ok(ControlFlow::Continue(()))
        })?;
        if bytes > 0 {
            disk.share.saw(bytes);
        }
        Ok(versions)
    }

    fn versions(&mut self, key: &[u8]) -> Result<&Versions<VS::Value>> {
        let Some(id) = self.row(key)? else { return Ok(&[]) };
        Ok(self.rows.read(id).value.as_deref().unwrap_or_default())
    }

    /// The latest value.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Version<&VS::Value>>> {
        let last = self.versions(key)?.last();
        Ok(last.and_then(|(timestamp, value)| {
            Some(Version { value: value.as_ref()?, timestamp: *timestamp, valid_to: None })
        }))
    }

    /// The value that was valid at a time. Before the history there is none, but the latest one if it is that old.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn get_as_of(&mut self, key: &[u8], time: Timestamp) -> Result<Option<Version<&VS::Value>>> {
        let oldest = self.observed.saturating_sub(self.history);
        let versions = self.versions(key)?;
        let Some(at) = versions.partition_point(|(from, _)| *from <= time).checked_sub(1) else { return Ok(None) };
        let valid_to = versions.get(at + 1).map(|(from, _)| *from);
        if valid_to.is_some() && time < oldest {
            return Ok(None);
        }
        let (timestamp, value) = &versions[at];
        Ok(value.as_ref().map(|value| Version { value, timestamp: *timestamp, valid_to }))
    }

    /// The values that were valid at some of the times, ascending. Before the history there is none, but the latest one if it
    /// is that old.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    pub fn get_between(
        &mut self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
    ) -> Result<impl DoubleEndedIterator<Item = Version<&VS::Value>>> {
        let oldest = self.observed.saturating_sub(self.history);
        Ok(valid_at(self.versions(key)?, times, oldest))
    }

    /// Puts a value, or a deletion, that is valid from `time` on.
    ///
    /// # Errors
    /// When the key's history cannot be read from disk.
    pub fn put(&mut self, key: &[u8], time: Timestamp, value: Option<VS::Value>) -> Result<Put> {
        if time < self.observed.saturating_sub(self.history) {
            return Ok(Put::TooOld);
        }
        let id = self.row(key)?;
        self.puts.push((key.into(), Entry { value: value.clone(), timestamp: time }));
        let (put, id) = self.insert(id, key, time, value, |rows, id| rows.change(id));
        // Compaction leaves the last that was written of a key: that has to be its latest value.
        if let Put::UpTo(_) = put
            && let Some((timestamp, value)) = self.rows.content(id).value.as_deref().and_then(<[_]>::last)
        {
            self.puts.push((key.into(), Entry { value: value.clone(), timestamp: *timestamp }));
        }
        Ok(put)
    }

    /// `found` is the key's row, if there is one; `change` says whether it is changed with or without a trace. Gives the row.
    fn insert(
        &mut self,
        found: Option<RowId>,
        key: &[u8],
        time: Timestamp,
        value: Option<VS::Value>,
        change: impl FnOnce(&mut VersionRows<VS>, RowId) -> &mut Entry<History<VS::Value>>,
    ) -> (Put, RowId) {
        self.observed = self.observed.max(time);
        let id = found.unwrap_or_else(|| {
            let id = self.rows.insert(key.into(), Entry::EMPTY);
            self.index.insert(self.index.hash(key), id);
            id
        });
        let entry = change(&mut self.rows, id);
        let versions = entry.value.get_or_insert_default();
        let oldest = self.committed_observed.saturating_sub(self.history);
        take_ended(versions, oldest);
        let at = versions.partition_point(|(from, _)| *from < time);
        match versions.get_mut(at) {
            Some(version) if version.0 == time => version.1 = value,
            _ => versions.insert(at, (time, value)),
        }
        let next = versions.get(at + 1).map(|(from, _)| *from);
        let (last, is_deleted) = versions.last().map_or((time, true), |(from, value)| (*from, value.is_none()));
        entry.timestamp = last;
        if is_deleted {
            self.deleted.entry(last).or_default().push(id);
        }
        (next.map_or(Put::Latest, Put::UpTo), id)
    }

    /// Takes out of every row what ended before the history of the last commit: a row that is put is spared its own when it
    /// is, but those that were restored may never be put again.
    fn expire_versions(&mut self) {
        let oldest = self.committed_observed.saturating_sub(self.history);
        for id in self.index.iter() {
            if let Some(versions) = &mut self.rows.parts(id).1.value {
                take_ended(versions, oldest);
            }
        }
    }

    /// Removes rows that were deleted before the history of the last commit.
    fn expire(&mut self) {
        let oldest = self.committed_observed.saturating_sub(self.history);
        while let Some(first) = self.deleted.first_entry().filter(|first| *first.key() < oldest) {
            let (time, ids) = first.remove_entry();
            for id in ids {
                let versions = self.rows.content(id).value.as_deref().unwrap_or_default();
                if !versions.last().is_some_and(|(from, value)| *from <= time && value.is_none()) {
                    continue;
                }
                let hash = self.index.hash(self.rows.identity(id));
                // What the disk has until then is older than the deletion.
                if self.rows.is_written(id) && self.rows.free(id) {
                    self.index.remove(hash, id);
                } else {
                    // It changes just now: the next commit looks again.
                    self.deleted.entry(oldest).or_default().push(id);
                }
            }
        }
    }
}

impl<VS: Serde> StateStore for VersionedTable<VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        let mut bytes = 0;
        for (key, entry) in &mut self.puts {
            write_row(&self.name, &self.serde, &mut self.scratch, key, entry, changelog)?;
            bytes += key.len() + self.scratch.len();
        }
        let each = Self::VERSION_BYTES + bytes / self.puts.len().max(1);
        self.puts.clear();
        // Rows let go of memory that they share with the batches they came in.
        let (serde, disk) = (&self.serde, &mut self.disk);
        self.rows.for_each_change(
            |_| {},
            |rows, id, _| {
                let versions = rows.parts(id).1.value.as_deref_mut().unwrap_or_default();
                disk.iter_mut().for_each(|disk| disk.share.saw(versions.len() * each));
                let values = versions.iter_mut().flat_map(|(_, value)| value);
                values.for_each(|value| serde.detach(value, &mut own));
                Ok::<(), millstream_core::Error>(())
            },
        )?;
        self.rows.flushed();
        self.flushed_observed = self.observed;
        Ok(())
    }

    fn committed(&mut self) {
        let index = &mut self.index;
        self.rows.committed(|id, key| {
            index.remove(index.hash(key), id);
        });
        self.committed_observed = self.flushed_observed;
        if std::mem::take(&mut self.restored) {
            self.expire_versions();
        }
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
        let (index, has_disk) = (&mut self.index, self.disk.is_some());
        self.rows.rollback(|id, key, entry| {
            if entry.value.is_none() && !has_disk {
                index.remove(index.hash(key), id);
            }
        });
        self.puts.clear();
        self.observed = self.committed_observed;
        self.flushed_observed = self.committed_observed;
        self.deleted.clear();
        for id in self.index.iter() {
            if let Some((time, None)) = self.rows.content(id).value.as_ref().and_then(|versions| versions.last()) {
                self.deleted.entry(*time).or_default().push(id);
            }
        }
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let entry = decode(&self.name, &self.serde, record)?;
        let id = self.find(self.index.hash(record.key), record.key);
        // There is nothing to go back to: what was restored is committed.
        self.insert(id, record.key, entry.timestamp, entry.value, |rows, id| rows.parts(id).1);
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        self.restored = true;
        Ok(())
    }

    fn attach(&mut self, rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> bool {
        self.rows.attach();
        self.disk = Some(RowsOnDisk::new(rows, budget));
        true
    }

    fn restored(&mut self) {
        if let Some(latest) = self.disk.as_ref().and_then(RowsOnDisk::latest) {
            (self.observed, self.committed_observed, self.flushed_observed) = (latest, latest, latest);
        }
    }

    fn written(&mut self) {
        let index = &mut self.index;
        self.rows.written(|id, key| {
            index.remove(index.hash(key), id);
        });
        if let Some(disk) = &mut self.disk {
            disk.evict(index, &mut self.rows, |index, id, key| {
                index.remove(index.hash(key), id);
            });
        }
    }

    fn expired(&mut self) -> Expired {
        Expired::Before(self.committed_observed.saturating_sub(self.history))
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Versions
    }

    fn query(
        &mut self,
        query: &StoreQuery,
        isolation: Isolation,
        _rows: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        let Some(key) = query.single_key() else {
            return Err(Error::user("a versioned store is asked for one key at a time"));
        };
        let found = self.find(self.index.hash(key), key);
        // What is on disk alone stays there: it was committed.
        let away = if found.is_none() { self.look_up(key)? } else { Vec::new() };
        let seen = self.rows.seen(isolation, found.into_iter());
        let in_memory = found.and_then(|id| seen.content(id).value.as_deref());
        let versions = in_memory.unwrap_or(&away);
        let observed = if isolation == Isolation::ReadCommitted { self.committed_observed } else { self.observed };
        let history = observed.saturating_sub(self.history);
        let mut asked: Vec<_> = valid_at(versions, query.times.clone(), history).collect();
        if query.descending {
            asked.reverse();
        }
        let (name, serde, scratch) = (&self.name, &self.serde, &mut self.scratch);
        for Version { value, timestamp, valid_to } in asked {
            let valid_to = valid_to.unwrap_or(Timestamp::MAX).to_be_bytes();
            write_value(name, serde, scratch, &valid_to, Some(value), timestamp, answer)?;
        }
        Ok(None)
    }

    fn dirty_bytes(&self) -> usize {
        self.puts.len() * (size_of::<VS::Value>() + 48)
    }
}
