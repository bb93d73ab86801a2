//! The index of a table: numbers of rows (or of runs of them) by hash of their key.
//!
//! The hash lies beside the number, so that most rows that are not meant are never looked at, and growing looks at none. What was
//! looked up ahead is remembered, until a number goes.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::KEYS_AHEAD;

use crate::ahead::Ahead;

/// Numbers by hash.
pub struct Index<I> {
    hasher: DefaultHashBuilder,
    table: HashTable<(Hash, I)>,
    ahead: RefCell<Ahead<I>>,
}

/// Hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u32);

impl Hash {
    /// The table takes its position from the low bits and its tag from the high ones.
    #[inline]
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

impl<I> Default for Index<I> {
    fn default() -> Self {
        Index { hasher: DefaultHashBuilder::default(), table: HashTable::new(), ahead: RefCell::default() }
    }
}

impl<I: Copy + Eq> Index<I> {
    /// Bytes of an entry, with the room that a table keeps free.
    pub(crate) const ENTRY_BYTES: usize = 2 * (size_of::<(Hash, I)>() + 1);

    /// The hash of a key. Another index knows it if all its hashes come from this one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        // Without its length, as `hash_one` would have it: no two keys are hashed one behind the other.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        Hash(hasher.finish() as u32)
    }

    /// The number with this hash that `is` meant.
    #[inline]
    pub fn find(&self, hash: Hash, is: impl Fn(I) -> bool) -> Option<I> {
        self.table.find(hash.spread(), |(other, id)| *other == hash && is(*id)).map(|(_, id)| *id)
    }

    /// Whether a number is there.
    pub(crate) fn contains(&self, hash: Hash, id: I) -> bool {
        self.find(hash, |other| other == id).is_some()
    }

    /// The number with this hash that `is` meant, to be replaced by another of its key.
    #[inline]
    pub(crate) fn find_mut(&mut self, hash: Hash, is: impl Fn(I) -> bool) -> Option<&mut I> {
        self.table.find_mut(hash.spread(), |(other, id)| *other == hash && is(*id)).map(|(_, id)| id)
    }

    /// The numbers that these keys most likely have: nothing else is looked at.
    pub(crate) fn guess(&self, keys: &[&[u8]]) -> [Option<I>; KEYS_AHEAD] {
        let (mut hashes, mut found) = ([Hash(0); KEYS_AHEAD], [None; KEYS_AHEAD]);
        hashes.iter_mut().zip(keys).for_each(|(hash, key)| *hash = self.hash(key));
        for (id, hash) in found.iter_mut().zip(hashes).take(keys.len()) {
            *id = self.find(hash, |_| true);
        }
        found
    }

    /// As [`Index::guess`], for keys that are then asked for in this order with [`Index::find_next`].
    pub(crate) fn look_ahead(&self, keys: &[&[u8]]) -> [Option<I>; KEYS_AHEAD] {
        let found = self.guess(keys);
        self.ahead.borrow_mut().set(found);
        found
    }

    /// The number of a key, of which `is` tells, most likely without a hash; or its hash if it has none.
    #[inline]
    pub(crate) fn find_next(&mut self, key: &[u8], is: impl Fn(I) -> bool) -> Result<I, Hash> {
        let ahead = self.ahead.get_mut();
        match ahead.expected() {
            Some(id) if is(id) => {
                ahead.pass();
                Ok(id)
            }
            expected => self.find_unexpected(key, expected.is_none(), is),
        }
    }

    /// The number of a key that was not looked for ahead, or has none.
    fn find_unexpected(&mut self, key: &[u8], may_be_new: bool, is: impl Fn(I) -> bool) -> Result<I, Hash> {
        let hash = self.hash(key);
        let found = self.find(hash, is);
        let ahead = self.ahead.get_mut();
        match found {
            Some(id) => ahead.pass_to(id),
            None if may_be_new => ahead.pass(),
            None => {}
        }
        found.ok_or(hash)
    }

    /// Adds a number under the hash of its key.
    pub fn insert(&mut self, hash: Hash, id: I) {
        self.table.insert_unique(hash.spread(), (hash, id), |(hash, _)| hash.spread());
    }

    /// Removes a number; `false` if it is not there.
    pub(crate) fn remove(&mut self, hash: Hash, id: I) -> bool {
        self.ahead.get_mut().forget();
        self.table.find_entry(hash.spread(), |(_, other)| *other == id).map(|found| found.remove()).is_ok()
    }

    /// Forgets the numbers that `stays` is not meant for.
    pub(crate) fn retain(&mut self, stays: impl Fn(I) -> bool) {
        self.ahead.get_mut().forget();
        self.table.retain(|(_, id)| stays(*id));
    }

    /// Forgets all numbers.
    pub fn clear(&mut self) {
        self.ahead.get_mut().forget();
        self.table.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// All numbers, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = I> {
        self.table.iter().map(|(_, id)| *id)
    }
}
