//! Serialised key bytes that identify a row: short ones in place, so that a probe touches one cache line.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

const INLINE: usize = 22;

/// Owned key bytes; ordered as bytes.
#[derive(Clone)]
pub struct KeyBytes(Inner);

#[derive(Clone)]
enum Inner {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl KeyBytes {
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

impl From<&[u8]> for KeyBytes {
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

impl Deref for KeyBytes {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Inner::Heap(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for KeyBytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}
impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl Eq for KeyBytes {}
impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}
impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}
