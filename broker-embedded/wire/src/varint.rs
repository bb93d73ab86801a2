//! Zigzag varints, as in a record: 1 byte for what most records hold.

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
}
