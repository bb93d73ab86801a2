//! Serialised key bytes that identify a row: short ones in place, so that a probe touches one cache line.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Owned key bytes; ordered as bytes. Up to `INLINE` of them lie in place.
#[derive(Clone)]
pub struct KeyBytes<const INLINE: usize = 22>(Inner<INLINE>);

#[derive(Clone)]
enum Inner<const INLINE: usize> {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl<const INLINE: usize> KeyBytes<INLINE> {
    /// No bytes.
    pub(crate) const EMPTY: Self = KeyBytes(Inner::Inline { len: 0, bytes: [0; INLINE] });

    /// Takes a key's bytes to where they stay. Moving a key just made is slow: the processor cannot read what it wrote in
    /// other parts before it has left for memory.
    #[inline]
    pub(crate) fn set(&mut self, key: &[u8]) {
        match &mut self.0 {
            Inner::Inline { len, bytes } if key.len() <= INLINE => {
                bytes[..key.len()].copy_from_slice(key);
                *len = key.len() as u8;
            }
            _ => *self = key.into(),
        }
    }
}

impl<const INLINE: usize> From<&[u8]> for KeyBytes<INLINE> {
    #[inline]
    fn from(key: &[u8]) -> Self {
        if key.len() > INLINE {
            return KeyBytes(Inner::Heap(key.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..key.len()].copy_from_slice(key);
        KeyBytes(Inner::Inline { len: key.len() as u8, bytes })
    }
}

impl<const INLINE: usize> Deref for KeyBytes<INLINE> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Inner::Heap(bytes) => bytes,
        }
    }
}

impl<const INLINE: usize> Borrow<[u8]> for KeyBytes<INLINE> {
    fn borrow(&self) -> &[u8] {
        self
    }
}
impl<const INLINE: usize> PartialEq for KeyBytes<INLINE> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl<const INLINE: usize> Eq for KeyBytes<INLINE> {}
impl<const INLINE: usize> Hash for KeyBytes<INLINE> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
impl<const INLINE: usize> PartialOrd for KeyBytes<INLINE> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<const INLINE: usize> Ord for KeyBytes<INLINE> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}
impl<const INLINE: usize> fmt::Debug for KeyBytes<INLINE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}
