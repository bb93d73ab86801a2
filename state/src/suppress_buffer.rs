//! Changes of rows that wait until they may be passed on, in the order of a time (semantics.md 46 to 50).

use std::cell::RefCell;
use std::collections::BTreeMap;

use millstream_core::{ChangelogRecord, ChangelogWriter, KEYS_AHEAD, Result, Serde, StateStore, Timestamp};

use crate::index::Index;
use crate::key_bytes;
use crate::key_order::{self, KeyOrder};
use crate::key_value::{decode, write_row};
use crate::rows::{Entry, RowId, Rows};

/// Keys with a window behind them are longer than others.
type KeyBytes = key_bytes::KeyBytes<46>;

type Waiting<V> = Rows<KeyBytes, Entry<V>>;

/// Waiting values by key, and by time then key. A key's time is that of its first value.
pub struct SuppressBuffer<VS: Serde> {
    name: String,
    serde: VS,
    index: Index<RowId>,
    /// The rows that have a value; `None` until somebody asks after a restore or a rollback.
    order: Option<Order>,
    rows: Waiting<VS::Value>,
    waiting: usize,
    /// What came last behind a record's key in the key of its row, and with it behind the keys that come next: a guess.
    tail: Vec<u8>,
    scratch: Vec<u8>,
    key_scratch: RefCell<Vec<u8>>,
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
            index: Index::new(),
            order: None,
            rows: Rows::new(true),
            waiting: 0,
            tail: Vec::new(),
            scratch: Vec::new(),
            key_scratch: RefCell::default(),
        }
    }

    fn find(&self, key: &[u8]) -> Option<RowId> {
        self.index.find(self.index.hash(key), |id| **self.rows.identity(id) == *key)
    }

    fn find_or_insert(&mut self, key: &[u8]) -> RowId {
        let hash = self.index.hash(key);
        if let Some(id) = self.index.find(hash, |id| **self.rows.identity(id) == *key) {
            return id;
        }
        let id = self.rows.insert(key.into(), Entry::EMPTY);
        self.index.insert(hash, id);
        id
    }

    /// The value that waits under a key.
    pub fn get(&self, key: &[u8]) -> Option<&VS::Value> {
        self.rows.content(self.find(key)?).value.as_ref()
    }

    /// Lets a value wait, in place of the one that waits under its key: `f` is given that one. Only a first value takes the
    /// place that `time` gives. The key begins with `record_key` bytes by which its records come.
    pub fn put(
        &mut self,
        key: &[u8],
        record_key: usize,
        time: Timestamp,
        f: impl FnOnce(Option<VS::Value>) -> VS::Value,
    ) {
        let tail = &key[record_key..];
        if self.tail != tail {
            self.tail.clear();
            self.tail.extend_from_slice(tail);
        }
        self.order();
        let id = self.find_or_insert(key);
        let entry = self.rows.change(id);
        let waiting = entry.value.take();
        let is_first = waiting.is_none();
        entry.value = Some(f(waiting));
        if is_first {
            entry.timestamp = time;
            self.waiting += 1;
            if let Some(order) = &mut self.order {
                order.insert(time, key, id);
            }
        }
    }

    /// The order of what waits, sorted anew where it was lost: rows that had left are back after a rollback, and others gone.
    fn order(&mut self) -> &mut Order {
        let (index, rows) = (&self.index, &self.rows);
        self.order.get_or_insert_with(|| {
            let mut order = Order::default();
            for id in index.iter().filter(|id| rows.content(*id).value.is_some()) {
                order.insert(rows.content(id).timestamp, rows.identity(id), id);
            }
            order
        })
    }

    /// The time of the first value.
    pub fn first(&mut self) -> Option<Timestamp> {
        self.order().buckets.first_key_value().map(|(time, _)| *time)
    }

    /// Takes out the first value, with its key.
    pub fn take_first(&mut self) -> Option<(&[u8], VS::Value)> {
        self.order();
        let id = self.order.as_mut()?.take_first(&self.rows)?;
        let value = self.rows.change(id).value.take()?;
        self.waiting -= 1;
        Some((self.rows.identity(id), value))
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// All values that wait, in no order.
    pub fn values(&self) -> impl Iterator<Item = (&[u8], &VS::Value)> {
        self.index.iter().filter_map(|id| Some((&**self.rows.identity(id), self.rows.content(id).value.as_ref()?)))
    }
}

/// Rows by time, then key: a bucket per time, that is sorted when its turn comes.
#[derive(Default)]
struct Order {
    buckets: BTreeMap<Timestamp, Bucket>,
    keys: KeyOrder,
}

#[derive(Default)]
struct Bucket {
    /// The first is last when they leave.
    rows: Vec<RowId>,
    leaves: bool,
    /// What came when rows were leaving.
    came: BTreeMap<KeyBytes, RowId>,
}

impl Order {
    fn insert(&mut self, time: Timestamp, key: &[u8], id: RowId) {
        self.keys.add(key);
        let bucket = self.buckets.entry(time).or_default();
        if bucket.leaves {
            bucket.came.insert(key.into(), id);
        } else {
            bucket.rows.push(id);
        }
    }

    fn take_first<V: Clone>(&mut self, rows: &Waiting<V>) -> Option<RowId> {
        let mut first = self.buckets.first_entry()?;
        let bucket = first.get_mut();
        if !bucket.leaves {
            bucket.leaves = true;
            let mut keys = Vec::with_capacity(bucket.rows.len());
            for ahead in bucket.rows.chunks(KEYS_AHEAD) {
                ahead.iter().for_each(|id| rows.touch(*id));
                keys.extend(ahead.iter().map(|id| (self.keys.number(rows.identity(*id)), *id)));
            }
            key_order::sort(&mut keys, |id| &**rows.identity(id));
            bucket.rows.clear();
            bucket.rows.extend(keys.iter().rev().map(|(_, id)| *id));
        }
        let key = |id: &RowId| rows.identity(*id);
        let came_first = match (bucket.rows.last(), bucket.came.first_key_value()) {
            (Some(id), Some((came, _))) => came < key(id),
            (sorted, _) => sorted.is_none(),
        };
        let id = if came_first { bucket.came.pop_first().map(|(_, id)| id) } else { bucket.rows.pop() };
        if bucket.rows.len().is_multiple_of(KEYS_AHEAD) {
            bucket.rows.iter().rev().take(KEYS_AHEAD).for_each(|id| rows.touch(*id));
        }
        if bucket.rows.is_empty() && bucket.came.is_empty() {
            first.remove();
        }
        id
    }
}

impl<VS: Serde> StateStore for SuppressBuffer<VS>
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
        let index = &mut self.index;
        self.rows.committed(|id, key| {
            index.remove(index.hash(key), id);
        });
    }

    fn rollback(&mut self) {
        let index = &mut self.index;
        self.rows.rollback(|id, key, entry| {
            if entry.value.is_none() {
                index.remove(index.hash(key), id);
            }
        });
        let rows = &self.rows;
        self.waiting = self.index.iter().filter(|id| rows.content(*id).value.is_some()).count();
        self.order = None;
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let entry: Entry<VS::Value> = decode(&self.name, &self.serde, record)?;
        let id = self.find_or_insert(record.key);
        self.order = None;
        let waits = usize::from(entry.value.is_some());
        let content = self.rows.parts(id).1;
        self.waiting = self.waiting + waits - usize::from(content.value.is_some());
        *content = entry;
        if waits == 0 {
            self.index.remove(self.index.hash(record.key), id);
            self.rows.free(id);
        }
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.rows.changed() * (size_of::<VS::Value>() + 64)
    }

    fn is_large(&self) -> bool {
        self.rows.is_large()
    }

    fn touch(&self, keys: &[&[u8]]) {
        let key_scratch = &mut *self.key_scratch.borrow_mut();
        let mut found = [None; KEYS_AHEAD];
        for (found, key) in found.iter_mut().zip(keys) {
            key_scratch.clear();
            key_scratch.extend_from_slice(key);
            key_scratch.extend_from_slice(&self.tail);
            *found = self.index.find(self.index.hash(key_scratch), |_| true);
        }
        found.into_iter().flatten().for_each(|id| self.rows.touch(id));
    }
}
