//! Bytes that a row owns.

use bytes::Bytes;

/// Short bytes and their length. Beside them lies the count of those who share them.
struct Piece<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Piece<N> {
    fn of(bytes: &[u8]) -> Bytes {
        let mut piece = Piece { len: bytes.len() as u8, bytes: [0; N] };
        piece.bytes[..bytes.len()].copy_from_slice(bytes);
        Bytes::from_owner(piece)
    }
}

impl<const N: usize> AsRef<[u8]> for Piece<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A copy for a row that others will share: short ones in one piece of memory, where [`Bytes::copy_from_slice`] takes another one for the
/// count when they are shared first.
pub(crate) fn own(bytes: &[u8]) -> Bytes {
    match bytes.len() {
        ..=31 => Piece::<31>::of(bytes),
        32..=47 => Piece::<47>::of(bytes),
        48..=63 => Piece::<63>::of(bytes),
        64..=95 => Piece::<95>::of(bytes),
        96..=127 => Piece::<127>::of(bytes),
        128..=191 => Piece::<191>::of(bytes),
        192..=255 => Piece::<255>::of(bytes),
        _ => Bytes::copy_from_slice(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn a_copy_of_any_length_is_the_same() {
        let all: Vec<u8> = (0..600).map(|n| n as u8).collect();
        for len in 0..all.len() {
            let copy = own(&all[..len]);
            assert_eq!((&copy[..], &copy.clone()[..]), (&all[..len], &all[..len]));
        }
    }
}
