//! The key-value table: one row per key, found by one probe, kept decoded.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use millstream_core::{
    ChangelogRecord, ChangelogWriter, Encoded, Half, Headers, Payload, Result, Serde, SerdeContext, StateStore,
    Timestamp, unencodable,
};

use crate::index::{Hash, Index};
use crate::key_bytes::KeyBytes;
use crate::rows::{Entry, RowId, Rows};

/// A row of a scan: key bytes, value, time.
pub type ScanRow<'a, V> = (&'a [u8], &'a V, Timestamp);

/// Rows by serialised key.
///
/// Hashed by the key's bytes; ordered by them as soon as a scan has asked for it once.
pub struct KeyValueTable<VS: Serde> {
    name: String,
    serde: VS,
    index: Index<RowId>,
    ordered: Option<BTreeMap<KeyBytes, RowId>>,
    rows: Rows<KeyBytes, Entry<VS::Value>>,
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
            index: Index::new(),
            ordered: None,
            rows: Rows::new(undo),
            scratch: Vec::new(),
        }
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<RowId> {
        self.index.find(self.index.hash(key), |id| **self.rows.identity(id) == *key)
    }

    #[inline]
    fn find_or_insert(&mut self, key: &[u8]) -> RowId {
        let hash = self.index.hash(key);
        match self.index.find(hash, |id| **self.rows.identity(id) == *key) {
            Some(id) => id,
            None => self.insert(hash, key),
        }
    }

    fn insert(&mut self, hash: Hash, key: &[u8]) -> RowId {
        let key = KeyBytes::from(key);
        let id = match &mut self.ordered {
            Some(ordered) => {
                let id = self.rows.insert(key.clone(), Entry::EMPTY);
                ordered.insert(key, id);
                id
            }
            None => self.rows.insert(key, Entry::EMPTY),
        };
        self.index.insert(hash, id);
        id
    }

    /// The row of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<(&VS::Value, Timestamp)> {
        let entry = self.rows.content(self.find(key)?);
        entry.value.as_ref().map(|value| (value, entry.timestamp))
    }

    /// The row of a key, to be changed in place; empty if there is none.
    #[inline]
    pub fn change(&mut self, key: &[u8]) -> &mut Entry<VS::Value> {
        let id = self.find_or_insert(key);
        self.rows.change(id)
    }

    /// Sets or deletes a row and returns what was there.
    #[inline]
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<VS::Value>,
        timestamp: Timestamp,
    ) -> Option<(VS::Value, Timestamp)> {
        let entry = self.change(key);
        let old = std::mem::replace(entry, Entry { value, timestamp });
        old.value.map(|value| (value, old.timestamp))
    }

    /// Rows with keys in a range, in the order of their key bytes. The first scan of a table sorts it once.
    pub fn range(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = ScanRow<'_, VS::Value>> {
        if self.ordered.is_none() {
            self.ordered = Some(self.index.iter().map(|id| (self.rows.identity(id).clone(), id)).collect());
        }
        // An inverted range is empty; the map would panic.
        let empty = match (from, to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        let rows = &self.rows;
        let range = (!empty).then(|| self.ordered.iter().flat_map(move |ordered| ordered.range::<[u8], _>((from, to))));
        range.into_iter().flatten().filter_map(move |(key, id)| {
            let entry = rows.content(*id);
            Some((&**key, entry.value.as_ref()?, entry.timestamp))
        })
    }

    /// Number of rows, counting deletions that are not committed yet.
    pub fn approximate_len(&self) -> usize {
        self.index.len()
    }

    fn forget(index: &mut Index<RowId>, ordered: &mut Option<BTreeMap<KeyBytes, RowId>>, id: RowId, key: &KeyBytes) {
        index.remove(index.hash(key), id);
        if let Some(ordered) = ordered {
            ordered.remove(key);
        }
    }
}

impl<VS: Serde> StateStore for KeyValueTable<VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        let (name, serde, scratch) = (&self.name, &self.serde, &mut self.scratch);
        self.rows.for_each_change(
            |_| {},
            |rows, id, _| {
                let (key, entry) = rows.parts(id);
                write_row(name, serde, scratch, key, entry, changelog)
            },
        )?;
        self.rows.flushed();
        Ok(())
    }

    fn committed(&mut self) {
        let (index, ordered) = (&mut self.index, &mut self.ordered);
        self.rows.committed(|id, key| Self::forget(index, ordered, id, key));
    }

    fn rollback(&mut self) {
        let (index, ordered) = (&mut self.index, &mut self.ordered);
        self.rows.rollback(|id, key, entry| {
            if entry.value.is_none() {
                Self::forget(index, ordered, id, key);
            }
        });
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let id = self.find_or_insert(record.key);
        let entry = decode(&self.name, &self.serde, record)?;
        let gone = entry.value.is_none();
        *self.rows.parts(id).1 = entry;
        if gone {
            let key = self.rows.identity(id).clone();
            Self::forget(&mut self.index, &mut self.ordered, id, &key);
            self.rows.free(id);
        }
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 48)
    }

    fn is_large(&self) -> bool {
        self.rows.is_large()
    }

    fn touch(&self, keys: &[&[u8]]) {
        let ids = self.index.guess(keys);
        for id in ids.into_iter().flatten() {
            self.rows.touch(id);
        }
        for id in ids.into_iter().flatten() {
            self.rows.content(id).value.iter().for_each(|value| self.serde.touch(value));
        }
    }
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
        serde.detach(value, &mut Bytes::copy_from_slice);
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
    // A copy: a row must not keep the batch it was restored from in memory.
    let owner = Bytes::copy_from_slice(bytes);
    let cx = SerdeContext { topic: name, half: Half::Value };
    let value = serde.deserialize(Some(Payload::from(&owner)), cx, &Headers::from_section(record.headers));
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
