//! Rows on disk alone: their keys by time, so that it is known which is the next to leave. What waits under them stays on disk.

use std::collections::BTreeMap;

use millstream_core::Timestamp;

use crate::key_bytes::KeyBytes;

/// Keys by time. Some may be of rows that are back in memory, or gone, or there twice: who takes one looks.
#[derive(Default)]
pub(super) struct Away {
    times: BTreeMap<Timestamp, Keys>,
    len: usize,
}

#[derive(Default)]
struct Keys {
    /// The first is last when they are sorted.
    keys: Vec<KeyBytes>,
    is_sorted: bool,
}

impl Away {
    pub(super) fn add(&mut self, time: Timestamp, key: &[u8]) {
        let at = self.times.entry(time).or_default();
        at.keys.push(key.into());
        at.is_sorted = false;
        self.len += 1;
    }

    /// About how many bytes that takes.
    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<KeyBytes>()
    }

    pub(super) fn has_some_at(&self, time: Timestamp) -> bool {
        self.times.contains_key(&time)
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.times.first_key_value().map(|(time, _)| *time)
    }

    /// The first key at a time.
    pub(super) fn first_at(&mut self, time: Timestamp) -> Option<&[u8]> {
        let at = self.times.get_mut(&time)?;
        if !at.is_sorted {
            at.keys.sort_unstable_by(|a, b| b.cmp(a));
            at.is_sorted = true;
        }
        at.keys.last().map(|key| &**key)
    }

    /// Takes out the first key at a time.
    pub(super) fn take_first_at(&mut self, time: Timestamp) -> Option<KeyBytes> {
        self.first_at(time)?;
        let at = self.times.get_mut(&time)?;
        let first = at.keys.pop();
        if at.keys.is_empty() {
            self.times.remove(&time);
        }
        self.len -= usize::from(first.is_some());
        first
    }
}
