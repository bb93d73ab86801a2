//! Changes of rows that wait until they may be passed on, in the order of a time (semantics.md 46 to 50).
//!
//! With a disk, rows that are there too leave memory when the process's budget is used up, the first to be passed on first:
//! those that come last are changed most. Their keys stay, by time; what waits under them comes back when it is asked for.

mod away;
mod order;

use std::cell::RefCell;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, KEYS_AHEAD, Result, Serde, StateBudget, StateStore, Timestamp,
};

use crate::index::{Hash, Index};
use crate::key_bytes;
use crate::key_value::{decode, flush_rows};
use crate::rows::{Entry, RowId, Rows};
use crate::rows_on_disk::RowsOnDisk;
use away::Away;
use order::Order;

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
    disk: Option<RowsOnDisk>,
    /// The rows on disk alone; `None` until somebody asks for the first.
    away: Option<Away>,
    /// Rows may leave memory.
    may_leave: bool,
    /// A key always has the same time.
    times_in_keys: bool,
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
            index: Index::default(),
            order: None,
            rows: Rows::new(true),
            disk: None,
            away: Some(Away::default()),
            may_leave: false,
            times_in_keys: false,
            waiting: 0,
            tail: Vec::new(),
            scratch: Vec::new(),
            key_scratch: RefCell::default(),
        }
    }

    /// Lets rows leave memory that are on disk, if there is one.
    #[must_use]
    pub fn larger_than_memory(self) -> Self {
        SuppressBuffer { may_leave: true, ..self }
    }

    /// Expects that a key always comes with the same time: no other row of it is looked for.
    #[must_use]
    pub fn with_times_in_keys(self) -> Self {
        SuppressBuffer { times_in_keys: true, ..self }
    }

    fn find(&self, hash: Hash, key: &[u8]) -> Option<RowId> {
        self.index.find(hash, |id| **self.rows.identity(id) == *key)
    }

    fn insert(&mut self, hash: Hash, key: &[u8]) -> RowId {
        let id = self.rows.insert(key.into(), Entry::EMPTY);
        self.index.insert(hash, id);
        id
    }

    /// The value that waits under a key.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<&VS::Value>> {
        let hash = self.index.hash(key);
        let id = match self.find(hash, key) {
            Some(id) => Some(id),
            None => self.read_row(hash, key)?,
        };
        Ok(id.and_then(|id| self.rows.read(id).value.as_ref()))
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
        let (id, time) = (self.insert(hash, key), entry.timestamp);
        *self.rows.parts(id).1 = entry;
        if let Some(order) = &mut self.order {
            order.insert(time, key, id);
        }
        Ok(Some(id))
    }

    /// The rows on disk alone. The first call looks at all rows on disk.
    fn away(&mut self) -> Result<&mut Away> {
        if self.away.is_none() {
            let mut away = Away::default();
            if let Some(rows) = self.disk.as_ref().and_then(RowsOnDisk::away) {
                rows.scan((Bound::Unbounded, Bound::Unbounded), false, &mut |record| {
                    if self.find(self.index.hash(record.key), record.key).is_none() {
                        away.add(record.timestamp, record.key);
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
            }
            self.away = Some(away);
        }
        Ok(self.away.get_or_insert_default())
    }

    /// Brings back the first row at a time that is on disk alone, if it is still there.
    #[cold]
    fn bring_back(&mut self, time: Timestamp) -> Result<()> {
        let Some(key) = self.away()?.take_first_at(time) else { return Ok(()) };
        let hash = self.index.hash(&key);
        if self.find(hash, &key).is_none() {
            self.read_row(hash, &key)?;
        }
        Ok(())
    }

    /// Lets rows leave that the budget has no room for: the first, unless they were changed lately.
    fn evict(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let place = self.rows.row_bytes() + Index::<RowId>::ENTRY_BYTES;
        let keys = |away: &Option<Away>| away.as_ref().map_or(0, Away::bytes);
        let mut too_many = disk.too_many(self.rows.len(), place, keys(&self.away));
        if too_many == 0 {
            return;
        }
        self.order();
        let (Some(order), Some(disk)) = (&mut self.order, &mut self.disk) else { return };
        let (index, rows, away) = (&mut self.index, &mut self.rows, &mut self.away);
        // Once around takes from all rows that they were changed.
        for _ in 0..2 {
            order.evict(|time, id| {
                let leaves = too_many > 0 && rows.leave(id);
                if leaves {
                    let key = rows.identity(id);
                    index.remove(index.hash(key), id);
                    away.iter_mut().for_each(|away| away.add(time, key));
                    disk.has_left();
                    too_many -= 1;
                }
                leaves
            });
        }
        disk.too_many(self.rows.len(), place, keys(&self.away));
    }

    /// Lets a value wait, in place of the one that waits under its key: `f` is given that one. Only a first value takes the
    /// place that `time` gives. The key begins with `record_key` bytes by which its records come.
    ///
    /// # Errors
    /// When the one that waits cannot be read from disk.
    pub fn put(
        &mut self,
        key: &[u8],
        record_key: usize,
        time: Timestamp,
        f: impl FnOnce(Option<VS::Value>) -> VS::Value,
    ) -> Result<()> {
        let tail = &key[record_key..];
        if self.tail != tail {
            self.tail.clear();
            self.tail.extend_from_slice(tail);
        }
        self.order();
        let hash = self.index.hash(key);
        let id = match self.find(hash, key) {
            Some(id) => id,
            None => {
                let is_looked_up = self.may_be_away(time)?;
                let found = if is_looked_up { self.read_row(hash, key)? } else { None };
                found.unwrap_or_else(|| self.insert(hash, key))
            }
        };
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
        Ok(())
    }

    /// Whether a row that came with a time may be on disk alone.
    fn may_be_away(&mut self, time: Timestamp) -> Result<bool> {
        Ok(self.disk.is_some() && (!self.times_in_keys || self.away()?.has_some_at(time)))
    }

    /// The order of what waits in memory, sorted anew where it was lost: rows that had left are back after a rollback, and others gone.
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
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn first(&mut self) -> Result<Option<Timestamp>> {
        loop {
            let first = self.order().first();
            let Some(away) = self.away()?.first() else { return Ok(first) };
            if first.is_some_and(|first| first <= away) {
                return Ok(first);
            }
            self.bring_back(away)?;
        }
    }

    /// Takes out the first value, with its key.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn take_first(&mut self) -> Result<Option<(&[u8], VS::Value)>> {
        while let Some(time) = self.first()? {
            let (Some(order), Some(away)) = (&mut self.order, &mut self.away) else { break };
            let Some(first) = order.first_row(&self.rows) else { break };
            if away.first_at(time).is_none_or(|away| away >= &**self.rows.identity(first)) {
                break;
            }
            self.bring_back(time)?;
        }
        let id = self.order.as_mut().and_then(|order| order.take_first(&self.rows));
        let value = id.and_then(|id| self.rows.change(id).value.take().map(|value| (id, value)));
        let Some((id, value)) = value else { return Ok(None) };
        self.waiting = self.waiting.saturating_sub(1);
        Ok(Some((self.rows.identity(id), value)))
    }

    /// How many values wait; of a buffer that is [larger than memory](Self::larger_than_memory) nobody knows.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits, as far as it is known how many do.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// All values that wait in memory, in no order.
    pub fn values(&self) -> impl Iterator<Item = (&[u8], &VS::Value)> {
        self.index.iter().filter_map(|id| Some((&**self.rows.identity(id), self.rows.content(id).value.as_ref()?)))
    }
}

impl<VS: Serde> StateStore for SuppressBuffer<VS>
where
    VS::Value: Clone + 'static,
{
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        let (rows, disk) = (&mut self.rows, &mut self.disk);
        flush_rows(&self.name, &self.serde, &mut self.scratch, rows, disk.as_mut(), changelog)
    }

    fn committed(&mut self) {
        let index = &mut self.index;
        self.rows.committed(|id, key| {
            index.remove(index.hash(key), id);
        });
    }

    fn rollback(&mut self) {
        let (index, has_disk) = (&mut self.index, self.disk.is_some());
        self.rows.rollback(|id, key, entry| {
            if entry.value.is_none() && !has_disk {
                index.remove(index.hash(key), id);
            }
        });
        let rows = &self.rows;
        self.waiting = self.index.iter().filter(|id| rows.content(*id).value.is_some()).count();
        self.order = None;
    }

    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let entry: Entry<VS::Value> = decode(&self.name, &self.serde, record)?;
        let hash = self.index.hash(record.key);
        let id = self.find(hash, record.key).unwrap_or_else(|| self.insert(hash, record.key));
        self.order = None;
        let waits = usize::from(entry.value.is_some());
        let content = self.rows.parts(id).1;
        self.waiting = self.waiting + waits - usize::from(content.value.is_some());
        *content = entry;
        if waits == 0 {
            self.index.remove(hash, id);
            self.rows.free(id);
        }
        Ok(())
    }

    fn attach(&mut self, rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> bool {
        if self.may_leave {
            self.rows.attach();
            (self.disk, self.away) = (Some(RowsOnDisk::new(rows, budget)), None);
        }
        self.may_leave
    }

    fn written(&mut self) {
        let index = &mut self.index;
        self.rows.written(|id, key| {
            index.remove(index.hash(key), id);
        });
        self.evict();
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
