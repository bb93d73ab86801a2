//! The rows of a table that have changed since the last commit, each with its first old value and its last new one.

use std::hint::black_box;

use bytes::Bytes;
use millstream_core::{Change, Data, Record, Serde};
use millstream_state::{Hash, Index, KeyBytes};

/// So many changes are looked up at once: the processor then waits for memory once, not for each.
const AT_ONCE: usize = 32;

/// Nothing of it outlives a commit: a rollback builds it anew, empty.
pub(super) struct Pending<K, V> {
    index: Index<u32>,
    /// In the order of their first change.
    rows: Vec<Row<K, V>>,
    /// Changes that have not been looked up, and the bytes of their keys, one behind the other.
    coming: Vec<Coming<K, V>>,
    keys: Vec<u8>,
}

struct Row<K, V> {
    /// Long enough for a short key and its window.
    key: KeyBytes<38>,
    /// `None`: passed on just now.
    record: Option<Record<K, Change<V>>>,
}

struct Coming<K, V> {
    hash: Hash,
    /// Where the bytes of its key end.
    key_end: usize,
    record: Record<K, Change<V>>,
}

fn detach<T: Data>(value: &mut T) {
    T::Serde::default().detach(value, &mut Bytes::copy_from_slice);
}

impl<K: Data, V: Data> Pending<K, V> {
    pub(super) fn new() -> Self {
        Pending { index: Index::default(), rows: Vec::new(), coming: Vec::new(), keys: Vec::new() }
    }

    /// A row has changed.
    #[inline]
    pub(super) fn change(&mut self, key: &[u8], record: Record<K, Change<V>>) {
        self.keys.extend_from_slice(key);
        self.coming.push(Coming { hash: self.index.hash(key), key_end: self.keys.len(), record });
        if self.coming.len() == AT_ONCE {
            self.look_up();
        }
    }

    /// Puts the changes that have come into their rows.
    fn look_up(&mut self) {
        let mut places = [None; AT_ONCE];
        for (place, coming) in places.iter_mut().zip(&self.coming) {
            *place = self.index.find(coming.hash, |_| true);
        }
        for place in places.into_iter().flatten() {
            let row = &self.rows[place as usize];
            black_box((row.key.first(), row.record.as_ref().map(|record| record.timestamp)));
        }
        let mut key_begin = 0;
        for Coming { hash, key_end, mut record } in self.coming.drain(..) {
            let key = &self.keys[std::mem::replace(&mut key_begin, key_end)..key_end];
            // A row that waits must not keep the batch in memory that it came in.
            record.value.new.iter_mut().for_each(|new| detach::<V>(new));
            let rows = &mut self.rows;
            match self.index.find(hash, |place| *rows[place as usize].key == *key) {
                Some(place) => {
                    if let Some(row) = &mut rows[place as usize].record {
                        row.value.new = record.value.new;
                        (row.timestamp, row.headers) = (record.timestamp, record.headers);
                    }
                }
                None => {
                    self.index.insert(hash, rows.len() as u32);
                    detach::<K>(&mut record.key);
                    record.value.old.iter_mut().for_each(|old| detach::<V>(old));
                    rows.push(Row { key: key.into(), record: Some(record) });
                }
            }
        }
        self.keys.clear();
    }

    /// A row that waits.
    pub(super) fn row(&mut self, key: &[u8]) -> Option<&Record<K, Change<V>>> {
        self.look_up();
        let place = self.index.find(self.index.hash(key), |place| *self.rows[place as usize].key == *key)?;
        self.rows[place as usize].record.as_ref()
    }

    /// How many rows wait.
    pub(super) fn len(&mut self) -> usize {
        self.look_up();
        self.rows.len()
    }

    /// Takes a row, to be passed on.
    pub(super) fn take(&mut self, place: usize) -> Option<Record<K, Change<V>>> {
        self.rows[place].record.take()
    }

    /// All were passed on.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.rows.clear();
    }
}
