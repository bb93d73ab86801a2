//! Typed keys as the bytes that identify rows.

use std::cell::{RefCell, RefMut};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::BytesMut;
use millstream_core::{
    Data, Encoded, Error, Half, Headers, Payload, Result, Serde, SerdeContext, StateError, unencodable,
};

/// A range of encoded keys.
pub(crate) type ByteRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The end of all bytes that begin so; there is none behind the largest bytes alone.
pub(crate) fn behind(mut prefix: Vec<u8>) -> Bound<Vec<u8>> {
    while prefix.pop_if(|last| *last == u8::MAX).is_some() {}
    match prefix.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(prefix)
        }
        None => Bound::Unbounded,
    }
}

/// Encodes and decodes the keys of one store in one task, without allocating for each.
pub(crate) struct Keys<K: Data> {
    store: Arc<str>,
    serde: K::Serde,
    bytes: RefCell<Vec<u8>>,
    /// Where keys that are read back come to lie.
    piece: RefCell<BytesMut>,
}

const PIECE: usize = 8 << 10;

/// A key of so many bytes shares nothing: most types hold them themselves.
const SHORT: usize = 24;

impl<K: Data> Keys<K> {
    /// `store` is for messages.
    pub(crate) fn new(store: &Arc<str>) -> Self {
        Keys { store: store.clone(), serde: K::Serde::default(), bytes: RefCell::default(), piece: RefCell::default() }
    }

    /// A key's bytes, until the next call. The key is not null.
    #[inline]
    pub(crate) fn encode(&self, key: &K) -> Result<RefMut<'_, Vec<u8>>> {
        self.encode_behind(&[], key)
    }

    /// A prefix and a key's bytes, until the next call.
    #[inline]
    pub(crate) fn encode_behind(&self, prefix: &[u8], key: &K) -> Result<RefMut<'_, Vec<u8>>> {
        let mut bytes = self.bytes.borrow_mut();
        bytes.clear();
        bytes.extend_from_slice(prefix);
        let cx = SerdeContext { topic: &self.store, half: Half::Key };
        let encoded = self
            .serde
            .serialize(key, cx, &mut Headers::new(), &mut bytes)
            .map_err(|e| unencodable(&self.store, Half::Key, e))?;
        debug_assert_eq!(encoded, Encoded::Bytes, "a row's key is not null");
        Ok(bytes)
    }

    /// How many bytes of an encoded key are the record's: in a windowed key the inner one's.
    #[inline]
    pub(crate) fn record_key(&self, encoded: &[u8]) -> usize {
        self.serde.partition_bytes(encoded).len()
    }

    /// The key that was encoded. Long ones that are read back share pieces of memory, some hundreds each.
    pub(crate) fn decode(&self, key: &[u8]) -> Result<K> {
        if key.len() <= SHORT {
            return self.read(Payload::from(key));
        }
        let mut piece = self.piece.borrow_mut();
        if piece.capacity() < key.len() {
            piece.reserve(key.len().max(PIECE));
        }
        piece.extend_from_slice(key);
        let owner = piece.split().freeze();
        drop(piece);
        self.read(Payload::from(&owner))
    }

    #[inline]
    fn read(&self, key: Payload<'_>) -> Result<K> {
        let cx = SerdeContext { topic: &self.store, half: Half::Key };
        self.serde.deserialize(Some(key), cx, &Headers::new()).map_err(|e| {
            let problem = format!("a key cannot be read back: {e}");
            Error::State(Box::new(StateError { store: self.store.to_string(), problem }))
        })
    }

    /// The bytes of all keys that begin with the bytes of this one.
    pub(crate) fn prefix(&self, prefix: &K) -> Result<ByteRange> {
        let from = self.encode(prefix)?.clone();
        let to = behind(from.clone());
        Ok((Bound::Included(from), to))
    }

    /// A range of keys as a range of bytes.
    pub(crate) fn range(&self, keys: impl RangeBounds<K>) -> Result<ByteRange> {
        let bound = |bound: Bound<&K>| -> Result<Bound<Vec<u8>>> {
            Ok(match bound {
                Bound::Included(key) => Bound::Included(self.encode(key)?.clone()),
                Bound::Excluded(key) => Bound::Excluded(self.encode(key)?.clone()),
                Bound::Unbounded => Bound::Unbounded,
            })
        };
        Ok((bound(keys.start_bound())?, bound(keys.end_bound())?))
    }
}
