//! Memory for bytes that come and go together: copies share pieces of it, and a piece goes with the last of them.
//!
//! Not for rows that live as long as they like: one of them would keep a whole piece.

use bytes::{Bytes, BytesMut};

/// What copies share; a longer one has memory of its own.
const PIECE: usize = 64 << 10;

/// The piece that is being filled.
#[derive(Default)]
pub(crate) struct Arena(BytesMut);

impl Arena {
    #[inline]
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.0.capacity() < bytes.len() {
            if bytes.len() > PIECE / 8 {
                return Bytes::copy_from_slice(bytes);
            }
            self.0 = BytesMut::with_capacity(PIECE);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}
