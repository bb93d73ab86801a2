//! Reading records in place: a cursor over one batch, with borrowed keys and values.

use bytes::Bytes;

use crate::error::BatchError;
use crate::varint;

/// A cursor over the records of one batch. Cheap to clone: it counts a reference to the batch.
#[derive(Debug, Clone, Default)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    count: i32,
    remaining: i32,
    base_offset: i64,
    base_timestamp: i64,
    next_offset: i64,
    /// The log's append time, where it stands for the records' own.
    append_time: Option<i64>,
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Time, milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Payload<'a>>,
    /// Value, or null.
    pub value: Option<Payload<'a>>,
    /// Encoded header section; empty without headers.
    pub headers: &'a [u8],
}

/// Borrowed bytes that can be kept without a copy, by a reference to the batch they are in; or bytes that nobody shares.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    slice: &'a [u8],
    owner: Option<&'a Bytes>,
}

impl<'a> Payload<'a> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &'a [u8] {
        self.slice
    }

    /// The bytes, kept: counts a reference, copies nothing. A copy of those that nobody shares.
    #[inline]
    pub fn to_bytes(&self) -> Bytes {
        self.owner.map_or_else(|| Bytes::copy_from_slice(self.slice), |owner| owner.slice_ref(self.slice))
    }
}

impl<'a> From<&'a Bytes> for Payload<'a> {
    fn from(owner: &'a Bytes) -> Self {
        Payload { slice: owner, owner: Some(owner) }
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(slice: &'a [u8]) -> Self {
        Payload { slice, owner: None }
    }
}

impl Records {
    pub(crate) fn new(
        bytes: Bytes,
        at: usize,
        count: i32,
        base_offset: i64,
        base_timestamp: i64,
        next_offset: i64,
        append_time: Option<i64>,
    ) -> Self {
        Records { bytes, at, count, remaining: count, base_offset, base_timestamp, next_offset, append_time }
    }

    /// Records not read yet.
    #[inline]
    pub fn remaining(&self) -> i32 {
        self.remaining
    }

    /// Offset behind the batch.
    #[inline]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes of the batch.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Time of the next record; `None` at the end.
    #[inline]
    pub fn peek_timestamp(&self) -> Option<i64> {
        if self.remaining <= 0 {
            return None;
        }
        if self.append_time.is_some() {
            return self.append_time;
        }
        let mut at = self.at;
        varint::take(&self.bytes, &mut at)?;
        at += 1;
        varint::take(&self.bytes, &mut at).map(|delta| self.base_timestamp.wrapping_add(delta))
    }

    /// The next record; `None` at the end. After an error the cursor is at its end.
    ///
    /// In place, with what it calls: a view that is handed over through memory costs as much as the parsing.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "a view borrows from the cursor, which an iterator cannot say")]
    pub fn next(&mut self) -> Option<Result<RecordView<'_>, BatchError>> {
        if self.remaining <= 0 {
            return None;
        }
        let index = self.count - self.remaining;
        let bytes: &[u8] = &self.bytes;
        match parse(bytes, self.at) {
            Ok(parsed) => {
                self.remaining -= 1;
                self.at = parsed.end;
                Some(Ok(self.view(&parsed)))
            }
            Err(problem) => {
                self.remaining = 0;
                Some(Err(BatchError::Record { index, problem }))
            }
        }
    }

    #[inline(always)]
    fn view<'a>(&'a self, parsed: &Parsed<'a>) -> RecordView<'a> {
        let payload = |slice: Option<_>| slice.map(|slice| Payload { slice, owner: Some(&self.bytes) });
        RecordView {
            offset: self.base_offset + parsed.offset_delta,
            timestamp: self.append_time.unwrap_or(self.base_timestamp.wrapping_add(parsed.time_delta)),
            key: payload(parsed.key),
            value: payload(parsed.value),
            headers: parsed.headers,
        }
    }

    /// Where in its batch the next record lies, for [`Records::at`].
    #[inline]
    pub fn place(&self) -> u32 {
        self.at as u32
    }

    /// The record in a place of this batch; `None` if none can be read there. Does not move the cursor.
    #[inline(always)]
    pub fn at(&self, place: u32) -> Option<RecordView<'_>> {
        parse(&self.bytes, place as usize).ok().map(|parsed| self.view(&parsed))
    }

    /// Reads a record of about so many bytes, for the processor's cache.
    #[inline]
    pub fn touch(&self, place: u32, bytes: usize) {
        let (at, end) = (place as usize, self.bytes.len().min(place as usize + bytes));
        for at in (at..end).step_by(64).chain(end.checked_sub(1)) {
            std::hint::black_box(self.bytes[at]);
        }
    }

    /// The keys of the records that come next, as many as fit, and the offset behind them.
    pub fn peek_keys<'a, const N: usize>(&'a self, keys: &mut [&'a [u8]; N]) -> (usize, i64) {
        let (mut found, mut at, mut offset) = (0, self.at, self.next_offset);
        for _ in 0..self.remaining.clamp(0, N as i32) {
            let Ok(mut head) = parse_head(&self.bytes, at) else { break };
            let Some(key) = take_field(head.record, &mut head.at) else { break };
            (at, offset) = (head.record.len(), self.base_offset + head.offset_delta + 1);
            if let Some(key) = key {
                keys[found] = key;
                found += 1;
            }
        }
        (found, offset)
    }

    /// Leaves out the records from `offset` on: the batch ends there. One that cannot be read stays, with what follows it.
    pub fn cut(&mut self, offset: i64) {
        let (mut look, mut kept) = (self.clone(), 0);
        while self.next_offset > offset
            && let Some(record) = look.next()
        {
            let Ok(record) = record else { return };
            if record.offset >= offset {
                (self.count, self.remaining, self.next_offset) = (self.count - self.remaining + kept, kept, offset);
                return;
            }
            kept += 1;
        }
    }

    /// Passes over the records below `offset`.
    pub fn skip_to(&mut self, offset: i64) {
        while self.remaining > 0 {
            match parse(&self.bytes, self.at) {
                Ok(parsed) if self.base_offset + parsed.offset_delta < offset => {
                    self.remaining -= 1;
                    self.at = parsed.end;
                }
                // What cannot be read is reported by `next`.
                _ => break,
            }
        }
    }

    /// Bytes behind the last record read.
    pub(crate) fn trailing(&self) -> usize {
        self.bytes.len() - self.at.min(self.bytes.len())
    }
}

struct Parsed<'a> {
    offset_delta: i64,
    time_delta: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [u8],
    end: usize,
}

/// What lies before the key of a record.
struct Head<'a> {
    offset_delta: i64,
    time_delta: i64,
    /// Bytes up to the record's end, and where its key begins in them.
    record: &'a [u8],
    at: usize,
}

#[inline(always)]
fn parse_head(bytes: &[u8], mut at: usize) -> Result<Head<'_>, &'static str> {
    let len = varint::take(bytes, &mut at).ok_or("its length is cut off")?;
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| at.checked_add(len))
        .filter(|end| *end <= bytes.len())
        .ok_or("its length does not fit the batch")?;
    let record = &bytes[..end];
    // Attributes: unused.
    at += 1;
    let time_delta = varint::take(record, &mut at).ok_or("its time is cut off")?;
    let offset_delta = varint::take(record, &mut at).ok_or("its offset is cut off")?;
    if !(0..=i64::from(i32::MAX)).contains(&offset_delta) {
        return Err("its offset delta is out of range");
    }
    Ok(Head { offset_delta, time_delta, record, at })
}

#[inline(always)]
fn parse(bytes: &[u8], at: usize) -> Result<Parsed<'_>, &'static str> {
    let Head { offset_delta, time_delta, record, mut at } = parse_head(bytes, at)?;
    let key = take_field(record, &mut at).ok_or("its key does not fit")?;
    let value = take_field(record, &mut at).ok_or("its value does not fit")?;
    let headers = match record.get(at..) {
        Some([0]) => &[],
        Some([]) | None => return Err("its headers are cut off"),
        Some(section) => section,
    };
    Ok(Parsed { offset_delta, time_delta, key, value, headers, end: record.len() })
}

/// A nullable field: `None` if it does not fit.
#[inline(always)]
fn take_field<'a>(record: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    let len = varint::take(record, at)?;
    if len < 0 {
        return (len == -1).then_some(None);
    }
    let end = at.checked_add(usize::try_from(len).ok()?)?;
    let field = record.get(*at..end)?;
    *at = end;
    Some(Some(field))
}
