//! Zigzag varints, as in a record: 1 byte for what most records hold.

/// Varints one behind the other, put together in a register: two bytes of each at most, eight of all.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    bytes: u64,
    bits: u32,
    /// Bits that had no room.
    lost: u64,
}

impl Packed {
    /// Bytes that are copied, so that it is known how many.
    pub(crate) const BYTES: usize = 8;
    pub(crate) const EMPTY: Self = Packed { bytes: 0, bits: 0, lost: 0 };

    /// With another one behind them.
    #[inline(always)]
    pub(crate) fn and(self, value: i64) -> Self {
        let zigzag = ((value << 1) ^ (value >> 63)) as u64;
        if zigzag < 0x80 {
            self.and_all(Packed { bytes: zigzag, bits: 8, lost: 0 })
        } else {
            let bytes = zigzag & 0x7f | 0x80 | zigzag >> 7 << 8;
            self.and_all(Packed { bytes, bits: 16, lost: zigzag >> 14 })
        }
    }

    /// With others behind them.
    #[inline(always)]
    pub(crate) fn and_all(self, others: Self) -> Self {
        Packed {
            bytes: self.bytes | others.bytes.wrapping_shl(self.bits),
            bits: self.bits + others.bits,
            lost: self.lost | others.lost,
        }
    }

    /// Whether all are there.
    #[inline(always)]
    pub(crate) fn fits(self) -> bool {
        self.bits <= u64::BITS && self.lost == 0
    }

    /// How many bytes they take.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.bits as usize / 8
    }

    /// Their bytes, and zeros.
    #[inline(always)]
    pub(crate) fn bytes(self) -> [u8; Self::BYTES] {
        self.bytes.to_le_bytes()
    }
}

/// Writes a varint into `out` at `at` and returns where it ends. `out` must have 10 bytes left.
#[inline]
pub(crate) fn put(out: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    if rest < 0x80 {
        out[at] = rest as u8;
        return at + 1;
    }
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// Appends a varint.
#[inline]
pub(crate) fn push(out: &mut Vec<u8>, value: i64) {
    let mut bytes = [0; 10];
    let end = put(&mut bytes, 0, value);
    out.extend_from_slice(&bytes[..end]);
}

/// Bytes a varint takes.
#[inline]
pub(crate) fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

/// Reads a varint at `at` and moves past it; `None` if it is cut off or longer than 10 bytes.
#[inline(always)]
pub(crate) fn take(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(unzigzag(u64::from(first)));
    }
    let second = *bytes.get(*at + 1)?;
    if second < 0x80 {
        *at += 2;
        return Some(unzigzag(u64::from(first & 0x7f) | u64::from(second) << 7));
    }
    let third = *bytes.get(*at + 2)?;
    if third < 0x80 {
        *at += 3;
        return Some(unzigzag(u64::from(first & 0x7f) | u64::from(second & 0x7f) << 7 | u64::from(third) << 14));
    }
    take_long(bytes, at)
}

#[inline(never)]
fn take_long(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for (i, byte) in bytes.get(*at..)?.iter().take(10).enumerate() {
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if i == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * i);
        if byte & 0x80 == 0 {
            *at += i + 1;
            return Some(unzigzag(value));
        }
    }
    None
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_goes_there_and_back() {
        for shift in 0..64 {
            for value in
                [1i64 << shift, (1i64 << shift).wrapping_sub(1), -(1i64 << shift.min(62)), i64::MIN, i64::MAX, 0, -1]
            {
                let mut bytes = Vec::new();
                push(&mut bytes, value);
                assert_eq!(bytes.len(), len(value), "{value}");
                let packed = Packed::EMPTY.and(0).and(value).and(1);
                assert_eq!(packed.fits(), bytes.len() <= 2, "{value}");
                if packed.fits() {
                    let expected = [&[0], bytes.as_slice(), &[2]].concat();
                    assert_eq!(packed.bytes()[..packed.len()], expected, "{value}");
                }
                let mut at = 0;
                assert_eq!(take(&bytes, &mut at), Some(value));
                assert_eq!(at, bytes.len());
                for cut in 0..bytes.len() {
                    assert_eq!(take(&bytes[..cut], &mut 0), None);
                }
            }
        }
        assert_eq!(take(&[0xff; 11], &mut 0), None);
    }

    /// The ninth byte must not come to lie over the first.
    #[test]
    fn eight_bytes_are_packed_and_not_nine() {
        let eight = (0..4).fold(Packed::EMPTY, |packed, _| packed.and(1_000));
        assert!(eight.fits() && eight.bytes() == [0xd0, 0x0f].repeat(4)[..]);
        assert!(!eight.and(0).fits() && !Packed::EMPTY.and(0).and_all(eight).fits());
    }
}
