//! Fields of Kafka's fixed record formats, big-endian.

/// A text behind its length.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A text behind its length as a number of seven bits a byte, one more than it is.
pub(crate) fn put_compact_string(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.len() + 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend(text.as_bytes());
}

/// Reads fields of Kafka's fixed formats; every getter is `None` past the end.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn i8(&mut self) -> Option<i8> {
        self.take().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        let len = usize::try_from(self.i16()?).ok()?;
        String::from_utf8(self.bytes(len)?.to_vec()).ok()
    }

    pub(crate) fn compact_string(&mut self) -> Option<String> {
        let len = self.unsigned()?.checked_sub(1)?;
        String::from_utf8(self.bytes(len)?.to_vec()).ok()
    }

    /// A number of seven bits a byte.
    pub(crate) fn unsigned(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (bytes, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(bytes)
    }
}
