//! Changes of rows that wait until they may be passed on, in the order of a time (semantics.md 46 to 50).

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{ChangelogRecord, ChangelogWriter, Result, Serde, StateStore, Timestamp};

use crate::key_bytes::KeyBytes;
use crate::key_value::{decode, write_row};
use crate::rows::{Entry, RowId, Rows};

/// Waiting values by key, and by time then key. A key's time is that of its first value.
pub struct SuppressBuffer<VS: Serde> {
    name: String,
    serde: VS,
    hasher: DefaultHashBuilder,
    index: HashTable<RowId>,
    /// The rows that have a value.
    order: BTreeMap<(Timestamp, KeyBytes), RowId>,
    rows: Rows<KeyBytes, VS::Value>,
    scratch: Vec<u8>,
}

impl<VS: Serde> SuppressBuffer<VS>
where
    VS::Value: Clone,
{
    /// An empty buffer.
    pub fn new(name: &str, serde: VS) -> Self {
        SuppressBuffer {
            name: name.to_owned(),
            serde,
            hasher: DefaultHashBuilder::default(),
            index: HashTable::new(),
            order: BTreeMap::new(),
            rows: Rows::new(true),
            scratch: Vec::new(),
        }
    }

    fn find(&self, key: &[u8]) -> Option<RowId> {
        self.index.find(self.hasher.hash_one(key), |id| **self.rows.place(*id) == *key).copied()
    }

    fn find_or_insert(&mut self, key: &[u8]) -> RowId {
        if let Some(id) = self.find(key) {
            return id;
        }
        let id = self.rows.insert(key.into());
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.index.insert_unique(hasher.hash_one(key), id, |id| hasher.hash_one(&**rows.place(*id)));
        id
    }

    /// The value that waits under a key.
    pub fn get(&self, key: &[u8]) -> Option<&VS::Value> {
        self.rows.entry(self.find(key)?).value.as_ref()
    }

    /// Lets a value wait, in place of the one that waits under its key: `f` is given that one. Only a first value takes the
    /// place that `time` gives.
    pub fn put(&mut self, key: &[u8], time: Timestamp, f: impl FnOnce(Option<VS::Value>) -> VS::Value) {
        let id = self.find_or_insert(key);
        let entry = self.rows.change(id);
        let waiting = entry.value.take();
        let is_first = waiting.is_none();
        entry.value = Some(f(waiting));
        if is_first {
            entry.timestamp = time;
            self.order.insert((time, key.into()), id);
        }
    }

    /// The time of the first value.
    pub fn first(&self) -> Option<Timestamp> {
        self.order.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes out the first value, with its key.
    pub fn take_first(&mut self) -> Option<(KeyBytes, VS::Value)> {
        let ((_, key), id) = self.order.pop_first()?;
        let value = self.rows.change(id).value.take()?;
        Some((key, value))
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All values that wait, in their order.
    pub fn values(&self) -> impl Iterator<Item = (&[u8], &VS::Value)> {
        self.order.iter().filter_map(|((_, key), id)| Some((&**key, self.rows.entry(*id).value.as_ref()?)))
    }

    fn forget(index: &mut HashTable<RowId>, hasher: &DefaultHashBuilder, id: RowId, key: &KeyBytes) {
        if let Ok(found) = index.find_entry(hasher.hash_one(&**key), |candidate| *candidate == id) {
            found.remove();
        }
    }
}

impl<VS: Serde> StateStore for SuppressBuffer<VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        let (name, serde, scratch) = (&self.name, &self.serde, &mut self.scratch);
        self.rows.for_each_change(|key, entry| write_row(name, serde, scratch, key, entry, changelog))?;
        self.rows.flushed();
        Ok(())
    }

    fn committed(&mut self) {
        let (index, hasher) = (&mut self.index, &self.hasher);
        self.rows.committed(|id, key| Self::forget(index, hasher, id, key));
    }

    fn rollback(&mut self) {
        let (index, hasher) = (&mut self.index, &self.hasher);
        self.rows.rollback(|id, key| Self::forget(index, hasher, id, key));
        // Rows that had left are back, and others gone: rare enough to sort anew.
        let rows = &self.rows;
        self.order = self
            .index
            .iter()
            .filter(|id| rows.entry(**id).value.is_some())
            .map(|id| ((rows.entry(*id).timestamp, rows.place(*id).clone()), *id))
            .collect();
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let entry: Entry<VS::Value> = decode(&self.name, &self.serde, record)?;
        let id = self.find_or_insert(record.key);
        let before = self.rows.entry(id).timestamp;
        let key = KeyBytes::from(record.key);
        self.order.remove(&(before, key.clone()));
        let (time, gone) = (entry.timestamp, entry.value.is_none());
        self.rows.load(id, entry);
        if gone {
            Self::forget(&mut self.index, &self.hasher, id, &key);
            self.rows.free(id);
        } else {
            self.order.insert((time, key), id);
        }
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 64)
    }
}
