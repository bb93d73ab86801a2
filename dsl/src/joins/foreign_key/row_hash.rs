//! The hash of a left row: by it a response can tell whether the row that asked is still the same.

use millstream_core::{Data, Half, Headers, Result, Serde, SerdeContext, unencodable};
use twox_hash::XxHash3_128;

/// In a version byte: there is no hash.
pub(super) const NO_HASH: u8 = 0x80;

/// Appends a version and a hash.
pub(super) fn put_hash(hash: Option<u128>, version: u8, out: &mut Vec<u8>) {
    out.push(if hash.is_some() { version } else { version | NO_HASH });
    out.extend(hash.iter().flat_map(|hash| hash.to_be_bytes()));
}

/// Hashes rows by their bytes.
pub(super) struct RowHash<V: Data> {
    serde: V::Serde,
    bytes: Vec<u8>,
}

impl<V: Data> Default for RowHash<V> {
    fn default() -> Self {
        RowHash { serde: V::Serde::default(), bytes: Vec::new() }
    }
}

impl<V: Data> RowHash<V> {
    /// A row's hash; none for no row.
    pub(super) fn of(&mut self, row: Option<&V>) -> Result<Option<u128>> {
        let Some(row) = row else { return Ok(None) };
        self.bytes.clear();
        let cx = SerdeContext { topic: "", half: Half::Value };
        let encoded = self.serde.serialize(row, cx, &mut Headers::new(), &mut self.bytes);
        let _bytes = encoded.map_err(|e| unencodable("a foreign-key join", Half::Value, e))?;
        Ok(Some(XxHash3_128::oneshot(&self.bytes)))
    }
}
