//! The newest offset of every key of a range of the log, within a budget of memory.
//!
//! Keys are compared in whole: no two are ever taken for one.

use std::hash::{BuildHasher, RandomState};

use millstream_core::Offset;

/// Offsets by key.
pub(crate) struct OffsetMap {
    /// One more than the number of the entry, 0 where there is none. Half of them are free at least.
    slots: Vec<u32>,
    entries: Vec<Entry>,
    /// The entries' keys, one behind the other.
    keys: Vec<u8>,
    /// Chosen at random, so that nobody can choose keys that meet.
    hasher: RandomState,
    budget: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    offset: Offset,
    start: usize,
    len: u32,
}

impl OffsetMap {
    /// An empty map that is full when it has so many bytes.
    pub(crate) fn new(budget: usize) -> Self {
        let (slots, hasher) = (vec![0; 1024], RandomState::new());
        OffsetMap { slots, entries: Vec::new(), keys: Vec::new(), hasher, budget }
    }

    /// Whether it has reached its budget. It takes more all the same, for the rest of a batch.
    pub(crate) fn is_full(&self) -> bool {
        let entries = self.entries.capacity() * size_of::<Entry>();
        entries + self.keys.capacity() + self.slots.len() * size_of::<u32>() >= self.budget
    }

    /// The newest offset of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slot(self.hasher.hash_one(key), key);
        (self.slots[slot] as usize).checked_sub(1).map(|number| self.entries[number].offset)
    }

    /// Sets the newest offset of a key.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) {
        let hash = self.hasher.hash_one(key);
        let slot = self.slot(hash, key);
        if let Some(number) = (self.slots[slot] as usize).checked_sub(1) {
            self.entries[number].offset = offset;
            return;
        }
        let start = self.keys.len();
        grow(&mut self.keys, key.len());
        self.keys.extend_from_slice(key);
        grow(&mut self.entries, 1);
        self.entries.push(Entry { hash, offset, start, len: key.len() as u32 });
        self.slots[slot] = self.entries.len() as u32;
        if self.entries.len() * 2 > self.slots.len() {
            self.spread();
        }
    }

    /// Where a key is, or would be.
    fn slot(&self, hash: u64, key: &[u8]) -> usize {
        let mut slot = hash as usize & (self.slots.len() - 1);
        while let Some(number) = (self.slots[slot] as usize).checked_sub(1) {
            let entry = &self.entries[number];
            if entry.hash == hash && &self.keys[entry.start..entry.start + entry.len as usize] == key {
                break;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        slot
    }

    /// Doubles the slots.
    fn spread(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        for (number, entry) in self.entries.iter().enumerate() {
            let mut slot = entry.hash as usize & (self.slots.len() - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = number as u32 + 1;
        }
    }
}

/// Makes room, by a quarter at a time: doubling would leave half of the budget unused.
fn grow<T>(of: &mut Vec<T>, more: usize) {
    if of.capacity() - of.len() < more {
        of.reserve_exact(more.max(of.len() / 4).max(256));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_offset_it_was_given_last_and_the_map_says_when_it_is_full() {
        let mut map = OffsetMap::new(1 << 20);
        let mut puts = 0;
        while !map.is_full() {
            let key = (puts % 100_000i64).to_string();
            map.put(key.as_bytes(), puts);
            puts += 1;
        }
        assert!((15_000..100_000).contains(&puts), "{puts}");
        for number in 0..puts {
            map.put(number.to_string().as_bytes(), number + 7);
        }
        for number in 0..puts {
            assert_eq!(map.get(number.to_string().as_bytes()), Some(number + 7));
        }
        assert_eq!((map.get(b""), map.get(b"x")), (None, None));
    }
}
