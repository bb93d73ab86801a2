//! Rows in the order of their key bytes, without reading keys at random: what tells keys apart is mostly the few bytes behind
//! what all begin with.

use crate::key_bytes::KeyBytes;

/// What all keys of a table begin with.
#[derive(Default)]
pub(crate) struct KeyOrder {
    first: Option<KeyBytes>,
    common: usize,
}

impl KeyOrder {
    /// Takes a key into account.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8]) {
        match &self.first {
            Some(first) => self.common = first[..self.common].iter().zip(key).take_while(|(a, b)| a == b).count(),
            None => {
                self.first = Some(key.into());
                self.common = key.len();
            }
        }
    }

    /// A number that orders keys as their bytes do, if it is not the same for both.
    #[inline]
    pub(crate) fn number(&self, key: &[u8]) -> u64 {
        let rest = key.get(self.common..).unwrap_or_default();
        match rest.first_chunk() {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => rest.iter().rev().fold(0, |number, byte| number >> 8 | u64::from(*byte) << 56),
        }
    }
}

/// Sorts rows that have their key's number: `key` reads the key, or what else decides, where that does not.
pub(crate) fn sort<R: Copy, K: Ord>(rows: &mut [(u64, R)], key: impl Fn(R) -> K) {
    rows.sort_unstable_by_key(|(number, _)| *number);
    for same in rows.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        same.sort_unstable_by_key(|(_, row)| key(*row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that begin alike, are short, or hold zeros must come in the order of their bytes.
    #[test]
    fn numbers_and_keys_say_the_same() {
        let keys: [&[u8]; 9] = [
            b"key-0",
            b"key-",
            b"key-0\0",
            b"key-00000001x",
            b"key-00000001y",
            b"kez",
            b"key-00000001",
            b"ke\0\0",
            b"ke",
        ];
        let mut order = KeyOrder::default();
        keys.iter().for_each(|key| order.add(key));
        let mut rows: Vec<_> = keys.iter().map(|key| (order.number(key), *key)).collect();
        sort(&mut rows, |key| key);
        let mut sorted = keys;
        sorted.sort_unstable();
        assert_eq!(rows.iter().map(|(_, key)| *key).collect::<Vec<_>>(), sorted);
    }
}
