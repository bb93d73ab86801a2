//! The keys of a table in their order, for those who ask for ranges: sorted when somebody first does, in parts if need be.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::key_bytes::KeyBytes;

/// Numbers in the order of their keys.
pub(crate) struct SortedKeys<I> {
    keys: BTreeMap<KeyBytes, I>,
    /// Up to where the table's slots have been looked at. What is inserted meanwhile is told.
    slots: usize,
}

impl<I: Copy> SortedKeys<I> {
    pub(crate) fn new() -> Self {
        SortedKeys { keys: BTreeMap::new(), slots: 0 }
    }

    pub(crate) fn insert(&mut self, key: KeyBytes, id: I) {
        self.keys.insert(key, id);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    /// Takes up at most so many of the table's slots; `true` when all of them are. `slot` says what is in one.
    pub(crate) fn sort<'a>(
        &mut self,
        len: usize,
        most: usize,
        slot: impl Fn(usize) -> Option<(&'a KeyBytes, I)>,
    ) -> bool {
        let end = len.min(self.slots.saturating_add(most));
        let found = (self.slots..end).filter_map(slot);
        self.keys.extend(found.map(|(key, id)| (key.clone(), id)));
        self.slots = self.slots.max(end);
        self.slots >= len
    }

    /// The keys of a range that is not inverted.
    pub(crate) fn range(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> impl DoubleEndedIterator<Item = (&KeyBytes, I)> {
        self.keys.range::<[u8], _>(range).map(|(key, id)| (key, *id))
    }
}
