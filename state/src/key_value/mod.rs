//! The key-value table: one row per key, found by one probe, kept decoded.

mod recency;
mod scan;

use std::ops::Deref;
use std::sync::Arc;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, Encoded, Error, Half, Headers, Isolation, Payload, Result, Serde,
    SerdeContext, StateBudget, StateStore, StoreQuery, Timestamp, unencodable,
};

use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::own_bytes::own;
use crate::rows::{Entry, RowId, Rows};
use crate::rows_on_disk::RowsOnDisk;
use crate::sorted_keys::SortedKeys;

use recency::Recency;
pub(crate) use scan::OwnedRow;
use scan::{Found, Scans};
pub use scan::{Scan, ScannedRow, Visit};

/// Rows by serialised key.
///
/// Hashed by the key's bytes; ordered by them as soon as a scan has asked for it once. With a disk, rows that are there too
/// leave memory when the process's budget is used up, and come back when they are asked for.
pub struct KeyValueTable<VS: Serde> {
    name: String,
    serde: VS,
    index: Index<RowId>,
    sorted: Option<SortedKeys<RowId>>,
    rows: Rows<KeyBytes, Entry<VS::Value>>,
    disk: Option<RowsOnDisk>,
    /// Rows may leave memory.
    may_leave: bool,
    /// Of a table that keeps no more than so many rows.
    recency: Option<Recency>,
    scans: Scans<VS::Value>,
    scratch: Vec<u8>,
}

impl<VS: Serde> KeyValueTable<VS>
where
    VS::Value: Clone,
{
    /// An empty table. `undo` is false for stores that never roll back (global stores).
    pub fn new(name: &str, serde: VS, undo: bool) -> Self {
        KeyValueTable {
            name: name.to_owned(),
            serde,
            index: Index::default(),
            sorted: None,
            rows: Rows::new(undo),
            disk: None,
            may_leave: false,
            recency: None,
            scans: Scans::default(),
            scratch: Vec::new(),
        }
    }

    /// Lets rows leave memory that are on disk, if there is one: or for good, see [`StateStore::keep_most_recent`].
    #[must_use]
    pub fn larger_than_memory(self) -> Self {
        KeyValueTable { may_leave: true, ..self }
    }

    #[inline]
    fn find_or_insert(&mut self, key: &[u8]) -> Result<RowId> {
        match self.find_next(key) {
            Ok(id) => Ok(id),
            Err(hash) => Ok(self.read_row(hash, key)?.unwrap_or_else(|| self.insert(hash, key))),
        }
    }

    /// The row of a key that is in memory, or the key's hash.
    #[inline]
    fn find_next(&mut self, key: &[u8]) -> Result<RowId, Hash> {
        let rows = &self.rows;
        self.index.find_next(key, |id| **rows.identity(id) == *key)
    }

    #[inline]
    fn find(&self, hash: Hash, key: &[u8]) -> Option<RowId> {
        self.index.find(hash, |id| **self.rows.identity(id) == *key)
    }

    /// Brings a row back from disk that is not in memory.
    fn read_row(&mut self, hash: Hash, key: &[u8]) -> Result<Option<RowId>> {
        let Some(disk) = &mut self.disk else { return Ok(None) };
        let Some(rows) = disk.unless_complete()? else { return Ok(None) };
        let (name, serde, mut found, mut bytes) = (&self.name, &self.serde, None, 0);
        rows.get(key, &mut |record| {
            bytes = record.key.len() + record.value.map_or(0, <[u8]>::len);
            found = Some(decode(name, serde, record)?);
            Ok(())
        })?;
        let Some(entry) = found else { return Ok(None) };
        disk.share.saw(bytes);
        let id = self.insert(hash, key);
        *self.rows.parts(id).1 = entry;
        Ok(Some(id))
    }

    /// Lets rows leave that the budget has no room for.
    fn evict(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let sorted = &mut self.sorted;
        disk.evict(&mut self.index, &mut self.rows, |index, id, key| Self::forget(index, sorted, id, key));
    }

    fn insert(&mut self, hash: Hash, key: &[u8]) -> RowId {
        let key = KeyBytes::from(key);
        let id = match &mut self.sorted {
            Some(sorted) => {
                let id = self.rows.insert(key.clone(), Entry::EMPTY);
                sorted.insert(key, id);
                id
            }
            None => self.rows.insert(key, Entry::EMPTY),
        };
        self.index.insert(hash, id);
        id
    }

    /// The row of a key.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    #[inline]
    pub fn get(&mut self, key: &[u8]) -> Result<Option<(&VS::Value, Timestamp)>> {
        self.drop_surplus();
        let id = match self.find_next(key) {
            Ok(id) => id,
            Err(hash) => match self.read_row(hash, key)? {
                Some(id) => id,
                None => return Ok(None),
            },
        };
        self.recency.iter_mut().for_each(|recency| recency.note(id));
        let entry = self.rows.read(id);
        Ok(entry.value.as_ref().map(|value| (value, entry.timestamp)))
    }

    /// The row of a key, to be changed in place; empty if there is none.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    #[inline]
    pub fn change(&mut self, key: &[u8]) -> Result<&mut Entry<VS::Value>> {
        self.drop_surplus();
        let id = self.find_or_insert(key)?;
        self.recency.iter_mut().for_each(|recency| recency.note(id));
        if !self.scans.is_empty() {
            self.scans.keep(key, self.rows.content(id));
        }
        Ok(self.rows.change(id))
    }

    /// Sets or deletes a row and returns what was there.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    #[inline]
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<VS::Value>,
        timestamp: Timestamp,
    ) -> Result<Option<(VS::Value, Timestamp)>> {
        let entry = self.change(key)?;
        let old = std::mem::replace(entry, Entry { value, timestamp });
        Ok(old.value.map(|value| (value, old.timestamp)))
    }

    /// Sorts the keys, at most so many at a time; `true` when they are.
    fn sort(&mut self, most: usize) -> bool {
        let (rows, index) = (&self.rows, &self.index);
        self.sorted.get_or_insert_with(SortedKeys::new).sort(rows.slots(), most, |place| {
            let id = rows.slot(place);
            let key = rows.identity(id);
            index.contains(index.hash(key), id).then_some((key, id))
        })
    }

    /// About how many rows there are: deletions that are not committed yet are counted, and what the disk guesses.
    pub fn approximate_len(&self) -> usize {
        let on_disk = self.rows_on_disk().map_or(0, DiskRows::approximate_len);
        self.index.len().max(on_disk)
    }

    /// The rows on disk, if there are any that are not in memory.
    fn rows_on_disk(&self) -> Option<&dyn DiskRows> {
        self.disk.as_ref().and_then(RowsOnDisk::away)
    }

    /// Deletes the rows that were not used for longest, if there are more than may be, and lets go of those whose deletion is final.
    /// Called before whatever could see them.
    #[inline]
    fn drop_surplus(&mut self) {
        if self.recency.is_some() {
            self.drop_least_recent();
        }
        if self.rows.is_unfinished() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let (index, sorted, recency) = (&mut self.index, &mut self.sorted, &mut self.recency);
        self.rows.finish(|id, key| {
            Self::forget(index, sorted, id, key);
            recency.iter_mut().for_each(|recency| recency.forget(id));
        });
    }

    #[cold]
    fn drop_least_recent(&mut self) {
        let Some(recency) = &mut self.recency else { return };
        let mut now = None;
        if let Some(last) = recency.take_last() {
            let row = self.rows.content(last);
            now = Some(row.timestamp);
            if row.value.is_none() {
                recency.forget(last);
            }
        }
        while let Some(id) = recency.take_surplus() {
            if !self.scans.is_empty() {
                self.scans.keep(self.rows.identity(id), self.rows.content(id));
            }
            let row = self.rows.change(id);
            *row = Entry { value: None, timestamp: now.unwrap_or(row.timestamp) };
        }
    }

    /// After a start or a rollback rows count as used when they were written, by their times.
    fn order_by_time(&mut self) {
        let Some(recency) = &mut self.recency else { return };
        let (rows, index) = (&self.rows, &self.index);
        let mut known: Vec<RowId> = (0..rows.slots()).map(|place| rows.slot(place)).collect();
        known.retain(|id| {
            let key = rows.identity(*id);
            rows.content(*id).value.is_some() && index.contains(index.hash(key), *id)
        });
        known.sort_unstable_by_key(|id| (rows.content(*id).timestamp, &**rows.identity(*id)));
        recency.anew(known);
    }

    fn forget(index: &mut Index<RowId>, sorted: &mut Option<SortedKeys<RowId>>, id: RowId, key: &KeyBytes) {
        index.remove(index.hash(key), id);
        if let Some(sorted) = sorted {
            sorted.remove(key);
        }
    }
}

impl<VS: Serde> StateStore for KeyValueTable<VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        self.drop_surplus();
        let (rows, disk) = (&mut self.rows, &mut self.disk);
        flush_rows(&self.name, &self.serde, &mut self.scratch, rows, disk.as_mut(), changelog)
    }

    fn committed(&mut self) {
        let (index, sorted) = (&mut self.index, &mut self.sorted);
        let recency = &mut self.recency;
        self.rows.committed(|id, key| {
            Self::forget(index, sorted, id, key);
            recency.iter_mut().for_each(|recency| recency.forget(id));
        });
    }

    fn rollback(&mut self) {
        let (index, sorted, has_disk) = (&mut self.index, &mut self.sorted, self.disk.is_some());
        self.rows.rollback(|id, key, entry| {
            if entry.value.is_none() && !has_disk {
                Self::forget(index, sorted, id, key);
            }
        });
        self.order_by_time();
    }

    fn keep_most_recent(&mut self, rows: usize) -> bool {
        let is_users = std::mem::take(&mut self.may_leave);
        self.recency = is_users.then(|| Recency::new(rows));
        is_users
    }

    fn restored(&mut self) {
        self.order_by_time();
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        if self.rows.is_unfinished() {
            self.finish();
        }
        let id = self.find_or_insert(record.key)?;
        let entry = decode(&self.name, &self.serde, record)?;
        let gone = entry.value.is_none();
        *self.rows.parts(id).1 = entry;
        if gone {
            let key = self.rows.identity(id).clone();
            Self::forget(&mut self.index, &mut self.sorted, id, &key);
            self.rows.free(id);
        }
        Ok(())
    }

    fn attach(&mut self, rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> bool {
        if self.may_leave {
            self.rows.attach();
            self.disk = Some(RowsOnDisk::new(rows, budget));
        }
        self.may_leave
    }

    fn written(&mut self) {
        let (index, sorted) = (&mut self.index, &mut self.sorted);
        self.rows.written(|id, key| Self::forget(index, sorted, id, key));
        self.evict();
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 48)
    }

    fn query(
        &mut self,
        query: &StoreQuery,
        isolation: Isolation,
        rows: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        self.drop_surplus();
        if let Some(key) = query.single_key() {
            match self.find(self.index.hash(key), key) {
                Some(id) => {
                    let entry = self.rows.seen(isolation, [id].into_iter()).content(id);
                    give(&self.name, &self.serde, &mut self.scratch, key, entry, answer)?;
                }
                None => {
                    let mut copy = |row: ChangelogRecord<'_>| {
                        answer.copy(row);
                        Ok(())
                    };
                    self.rows_on_disk().map_or(Ok(false), |disk| disk.get(key, &mut copy))?;
                }
            }
            return Ok(None);
        }
        if !self.sort(rows) {
            return Ok(Some(query.clone()));
        }
        let Some(range) = query.keys_left(query.after.as_deref(), false) else { return Ok(None) };
        let (part, end) = self.part(range, query.descending, rows)?;
        let in_memory = part.iter().filter_map(|found| if let Found::InMemory(id) = found { Some(*id) } else { None });
        let seen = self.rows.seen(isolation, in_memory);
        for found in &part {
            match found {
                Found::InMemory(id) => {
                    let (key, entry) = (self.rows.identity(*id), seen.content(*id));
                    give(&self.name, &self.serde, &mut self.scratch, key, entry, answer)?;
                }
                Found::OnDisk(row) => answer.copy(row.record()),
            }
            if answer.is_full() {
                return Ok(Some(query.after(self.key_of(found))));
            }
        }
        Ok(end.map(|end| query.after(&end)))
    }

    fn is_large(&self) -> bool {
        self.rows.is_large()
    }

    fn touch(&self, keys: &[&[u8]]) {
        let ids = self.index.look_ahead(keys);
        for id in ids.into_iter().flatten() {
            self.rows.touch(id);
        }
        for id in ids.into_iter().flatten() {
            self.rows.content(id).value.iter().for_each(|value| self.serde.touch(value));
        }
    }
}

/// Gives a row, if it is there.
fn give<VS: Serde>(
    name: &str,
    serde: &VS,
    scratch: &mut Vec<u8>,
    key: &[u8],
    entry: &Entry<VS::Value>,
    answer: &mut ChangelogWriter,
) -> Result<()> {
    let Some(value) = &entry.value else { return Ok(()) };
    write_value(name, serde, scratch, key, Some(value), entry.timestamp, answer)
}

/// Writes the changed rows of a table to the changelog, and tells the disk how large they are.
pub(crate) fn flush_rows<I: Deref<Target = [u8]>, VS: Serde>(
    name: &str,
    serde: &VS,
    scratch: &mut Vec<u8>,
    rows: &mut Rows<I, Entry<VS::Value>>,
    mut disk: Option<&mut RowsOnDisk>,
    changelog: &mut ChangelogWriter,
) -> Result<()>
where
    VS::Value: Clone,
{
    rows.for_each_change(
        |_| {},
        |rows, id, _| {
            let (key, entry) = rows.parts(id);
            write_row(name, serde, scratch, key, entry, changelog)?;
            disk.iter_mut().for_each(|disk| disk.share.saw(key.len() + scratch.len()));
            Ok::<(), Error>(())
        },
    )?;
    rows.flushed();
    Ok(())
}

/// Writes a row to the changelog, and lets it go of memory that it only shares.
pub(crate) fn write_row<VS: Serde>(
    name: &str,
    serde: &VS,
    scratch: &mut Vec<u8>,
    key: &[u8],
    entry: &mut Entry<VS::Value>,
    changelog: &mut ChangelogWriter,
) -> Result<()> {
    if let Some(value) = &mut entry.value {
        serde.detach(value, &mut own);
    }
    write_value(name, serde, scratch, key, entry.value.as_ref(), entry.timestamp, changelog)
}

/// Writes a value, or a deletion, to the changelog.
pub(crate) fn write_value<VS: Serde>(
    name: &str,
    serde: &VS,
    scratch: &mut Vec<u8>,
    key: &[u8],
    value: Option<&VS::Value>,
    timestamp: Timestamp,
    changelog: &mut ChangelogWriter,
) -> Result<()> {
    scratch.clear();
    let mut headers = Headers::new();
    let encoded = match value {
        Some(value) => {
            let cx = SerdeContext { topic: name, half: Half::Value };
            serde.serialize(value, cx, &mut headers, scratch).map_err(|e| unencodable(name, Half::Value, e))?
        }
        None => Encoded::Null,
    };
    let value = (encoded == Encoded::Bytes).then_some(scratch.as_slice());
    changelog.write(key, value, timestamp.max(0), headers.section());
    Ok(())
}

/// The row that a changelog record says.
pub(crate) fn decode<VS: Serde>(name: &str, serde: &VS, record: ChangelogRecord<'_>) -> Result<Entry<VS::Value>> {
    let Some(bytes) = record.value else { return Ok(Entry { value: None, timestamp: record.timestamp }) };
    let cx = SerdeContext { topic: name, half: Half::Value };
    // What is kept of it is copied: a row must not keep the batch it was restored from in memory.
    let value = serde.deserialize(Some(Payload::from(bytes)), cx, &Headers::from_section(record.headers));
    match value {
        Ok(value) => Ok(Entry { value: Some(value), timestamp: record.timestamp }),
        Err(error) => Err(millstream_core::Error::State(Box::new(millstream_core::StateError {
            store: name.to_owned(),
            problem: format!(
                "changelog record at offset {} cannot be read as this store's value: {error}",
                record.offset
            ),
        }))),
    }
}
