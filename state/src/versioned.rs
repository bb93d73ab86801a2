//! Rows with a history: per key every value with the time from which on it was valid (KIP-889, semantics.md 64).
//!
//! The changelog gets every value that was put, in order, with its time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, Error, Expired, Isolation, Result, RowOrder, Serde, StateBudget,
    StateStore, StoreQuery, Timestamp,
};

use crate::index::Index;
use crate::key_bytes::KeyBytes;
use crate::key_value::{UNDO_PER_ROW, decode, write_row, write_value};
use crate::rows::{Entry, RowId, Rows};

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
type History<V> = Vec<(Timestamp, Option<V>)>;

/// Versions that went, by key and time.
type ExpiredVersions = Vec<(Box<[u8]>, Timestamp)>;

/// Takes out the versions that ended before `oldest`, if that is where the history of the last commit begins: nobody asks for
/// them, whatever happens next. What follows them is older too, so it was committed.
fn take_ended<V>(key: &[u8], versions: &mut History<V>, oldest: Timestamp, expired: Option<&mut ExpiredVersions>) {
    let ended = versions.partition_point(|(from, _)| *from < oldest).saturating_sub(1);
    let ended = versions.drain(..ended);
    if let Some(expired) = expired {
        expired.extend(ended.map(|(from, _)| (key.into(), from)));
    }
}

/// The values that were valid at some of the times, ascending. The latest one is answered for at any time, what was before it
/// within the history.
fn valid_at<V>(
    versions: &[(Timestamp, Option<V>)],
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
    /// Rows came from the changelog or the disk since the last commit: some may have versions that nobody asks for.
    restored: bool,
    /// If there is a disk: what went, and goes from there too.
    expired: Option<ExpiredVersions>,
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
            index: Index::new(),
            rows: Rows::new(true),
            puts: Vec::new(),
            deleted: BTreeMap::new(),
            restored: false,
            expired: None,
            scratch: Vec::new(),
        }
    }

    fn find(&self, key: &[u8]) -> Option<RowId> {
        self.index.find(self.index.hash(key), |id| **self.rows.identity(id) == *key)
    }

    fn versions(&self, key: &[u8]) -> &[(Timestamp, Option<VS::Value>)] {
        let row = self.find(key).and_then(|id| self.rows.content(id).value.as_ref());
        row.map(Vec::as_slice).unwrap_or_default()
    }

    /// The latest value.
    pub fn get(&self, key: &[u8]) -> Option<Version<&VS::Value>> {
        let (timestamp, value) = self.versions(key).last()?;
        Some(Version { value: value.as_ref()?, timestamp: *timestamp, valid_to: None })
    }

    /// The value that was valid at a time. Before the history there is none, but the latest one if it is that old.
    pub fn get_as_of(&self, key: &[u8], time: Timestamp) -> Option<Version<&VS::Value>> {
        let versions = self.versions(key);
        let at = versions.partition_point(|(from, _)| *from <= time).checked_sub(1)?;
        let next = versions.get(at + 1).map(|(from, _)| *from);
        if next.is_some() && time < self.observed.saturating_sub(self.history) {
            return None;
        }
        let (timestamp, value) = &versions[at];
        Some(Version { value: value.as_ref()?, timestamp: *timestamp, valid_to: next })
    }

    /// The values that were valid at some of the times, ascending. Before the history there is none, but the latest one if it
    /// is that old.
    pub fn get_between(
        &self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
    ) -> impl DoubleEndedIterator<Item = Version<&VS::Value>> {
        valid_at(self.versions(key), times, self.observed.saturating_sub(self.history))
    }

    /// Puts a value, or a deletion, that is valid from `time` on.
    pub fn put(&mut self, key: &[u8], time: Timestamp, value: Option<VS::Value>) -> Put {
        if time < self.observed.saturating_sub(self.history) {
            return Put::TooOld;
        }
        self.puts.push((key.into(), Entry { value: value.clone(), timestamp: time }));
        self.insert(key, time, value, |rows, id| rows.change(id))
    }

    /// `change` says whether the row is changed with or without a trace.
    fn insert(
        &mut self,
        key: &[u8],
        time: Timestamp,
        value: Option<VS::Value>,
        change: impl FnOnce(&mut VersionRows<VS>, RowId) -> &mut Entry<History<VS::Value>>,
    ) -> Put {
        self.observed = self.observed.max(time);
        let id = match self.find(key) {
            Some(id) => id,
            None => {
                let id = self.rows.insert(key.into(), Entry::EMPTY);
                self.index.insert(self.index.hash(key), id);
                id
            }
        };
        let entry = change(&mut self.rows, id);
        let versions = entry.value.get_or_insert_default();
        let oldest = self.committed_observed.saturating_sub(self.history);
        take_ended(key, versions, oldest, self.expired.as_mut());
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
        next.map_or(Put::Latest, Put::UpTo)
    }

    /// Takes out of every row what ended before the history of the last commit: a row that is put is spared its own when it
    /// is, but those that were restored may never be put again.
    fn expire_versions(&mut self) {
        let oldest = self.committed_observed.saturating_sub(self.history);
        for id in self.index.iter() {
            let (key, entry) = self.rows.parts(id);
            if let Some(versions) = &mut entry.value {
                take_ended(key, versions, oldest, self.expired.as_mut());
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
                let key = self.rows.identity(id);
                let hash = self.index.hash(key);
                let all = || versions.iter().map(|(from, _)| ((**key).into(), *from)).collect();
                let gone: Option<ExpiredVersions> = self.expired.as_ref().map(|_| all());
                if self.rows.free(id) {
                    self.index.remove(hash, id);
                    if let (Some(expired), Some(gone)) = (&mut self.expired, gone) {
                        expired.extend(gone);
                    }
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
        for (key, entry) in &mut self.puts {
            write_row(&self.name, &self.serde, &mut self.scratch, key, entry, changelog)?;
        }
        self.puts.clear();
        // Rows let go of memory that they share with the batches they came in.
        let serde = &self.serde;
        self.rows.for_each_change(
            |_| {},
            |rows, id, _| {
                let versions = rows.parts(id).1.value.iter_mut().flatten();
                versions
                    .flat_map(|(_, value)| value)
                    .for_each(|value| serde.detach(value, &mut Bytes::copy_from_slice));
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
        let index = &mut self.index;
        self.rows.rollback(|id, key, entry| {
            if entry.value.is_none() {
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
        // There is nothing to go back to: what was restored is committed.
        self.insert(record.key, entry.timestamp, entry.value, |rows, id| rows.parts(id).1);
        self.committed_observed = self.observed;
        self.flushed_observed = self.observed;
        self.restored = true;
        Ok(())
    }

    fn attach(&mut self, _: Box<dyn DiskRows>, _: &Arc<StateBudget>) -> bool {
        self.expired = Some(Vec::new());
        false
    }

    fn expired(&mut self) -> Expired {
        self.expired.as_mut().map_or(Expired::Nothing, |versions| Expired::Versions(std::mem::take(versions)))
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Versions
    }

    fn query(
        &mut self,
        query: &StoreQuery,
        isolation: Isolation,
        rows: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        let committed = isolation == Isolation::ReadCommitted;
        if committed && !self.rows.look_up_undo(UNDO_PER_ROW * rows) {
            return Ok(Some(query.clone()));
        }
        let Some(key) = query.single_key() else {
            return Err(Error::user("a versioned store is asked for one key at a time"));
        };
        let Some(id) = self.find(key) else { return Ok(None) };
        let entry = if committed { self.rows.committed_content(id) } else { self.rows.content(id) };
        let observed = if committed { self.committed_observed } else { self.observed };
        let versions = entry.value.as_deref().unwrap_or_default();
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
