//! Rows in memory by time, then key.

use std::collections::BTreeMap;

use millstream_core::{KEYS_AHEAD, Timestamp};

use super::{KeyBytes, Waiting};
use crate::key_order::{self, KeyOrder};
use crate::rows::RowId;

/// Rows by time, then key: a bucket per time, that is sorted when its turn comes.
#[derive(Default)]
pub(super) struct Order {
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
    pub(super) fn insert(&mut self, time: Timestamp, key: &[u8], id: RowId) {
        self.keys.add(key);
        let bucket = self.buckets.entry(time).or_default();
        if bucket.leaves {
            bucket.came.insert(key.into(), id);
        } else {
            bucket.rows.push(id);
        }
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.buckets.first_key_value().map(|(time, _)| *time)
    }

    /// The first row, which leaves next.
    pub(super) fn first_row<V: Clone>(&mut self, rows: &Waiting<V>) -> Option<RowId> {
        let bucket = self.buckets.first_entry()?.into_mut();
        bucket.sort(&self.keys, rows);
        bucket.first(rows).map(|(id, _)| id)
    }

    pub(super) fn take_first<V: Clone>(&mut self, rows: &Waiting<V>) -> Option<RowId> {
        let mut first = self.buckets.first_entry()?;
        let bucket = first.get_mut();
        bucket.sort(&self.keys, rows);
        let (id, came) = bucket.first(rows)?;
        if came {
            bucket.came.pop_first();
        } else {
            bucket.rows.pop();
        }
        if bucket.rows.len().is_multiple_of(KEYS_AHEAD) {
            bucket.rows.iter().rev().take(KEYS_AHEAD).for_each(|id| rows.touch(*id));
        }
        if bucket.rows.is_empty() && bucket.came.is_empty() {
            first.remove();
        }
        Some(id)
    }

    /// Takes out rows of which `leaves` says that they leave memory, the first of all first. Not those whose time has come.
    pub(super) fn evict(&mut self, mut leaves: impl FnMut(Timestamp, RowId) -> bool) {
        self.buckets.retain(|time, bucket| {
            if bucket.leaves {
                return true;
            }
            bucket.rows.retain(|id| !leaves(*time, *id));
            !bucket.rows.is_empty()
        });
    }
}

impl Bucket {
    fn sort<V: Clone>(&mut self, order: &KeyOrder, rows: &Waiting<V>) {
        if self.leaves {
            return;
        }
        self.leaves = true;
        let mut keys = Vec::with_capacity(self.rows.len());
        for ahead in self.rows.chunks(KEYS_AHEAD) {
            ahead.iter().for_each(|id| rows.touch(*id));
            keys.extend(ahead.iter().map(|id| (order.number(rows.identity(*id)), *id)));
        }
        key_order::sort(&mut keys, |id| &**rows.identity(id));
        self.rows.clear();
        self.rows.extend(keys.iter().rev().map(|(_, id)| *id));
    }

    /// The first row of a sorted bucket, and whether it came when rows were leaving.
    fn first<V: Clone>(&self, rows: &Waiting<V>) -> Option<(RowId, bool)> {
        match (self.rows.last(), self.came.first_key_value()) {
            (Some(id), Some((came, first))) if came < rows.identity(*id) => Some((*first, true)),
            (None, Some((_, first))) => Some((*first, true)),
            (sorted, _) => sorted.map(|id| (*id, false)),
        }
    }
}
