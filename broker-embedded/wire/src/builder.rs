//! Building a batch: records are encoded once, behind room for the header, so that sealing copies nothing.

use bytes::Bytes;

use crate::compression::Compression;
use crate::error::BatchError;
use crate::header::{BatchHeader, CRC_START, HEADER_LEN, LENGTH_START};
use crate::records::Records;
use crate::varint;

/// Room for a record's length; and for what lies between that and its key: attributes, time, offset and the key's length.
const LEN: usize = 10;
const SHORT: usize = 32;

/// A batch under construction. Empty, it holds no memory.
#[derive(Debug, Clone, Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
    keyless: bool,
}

/// Who sends a batch, so that the log can tell a repeated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
}

/// How a batch is completed.
#[derive(Debug, Clone, Copy, Default)]
pub struct SealOptions {
    /// Codec of the records.
    pub compression: Compression,
    /// The producer, if it is idempotent.
    pub producer: Option<ProducerStamp>,
    /// Part of a transaction.
    pub transactional: bool,
    /// A marker.
    pub control: bool,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        BatchBuilder { bytes: Vec::with_capacity(bytes.max(HEADER_LEN)), ..Self::default() }
    }

    /// An empty batch with room for so many bytes, whose records' times are kept as distances from `base_timestamp`.
    pub(crate) fn based_on(base_timestamp: i64, bytes: usize) -> Self {
        let mut batch = Self::with_capacity(bytes);
        batch.bytes.resize(HEADER_LEN, 0);
        BatchBuilder { base_timestamp, max_timestamp: i64::MIN, ..batch }
    }

    /// Appends a record. `headers` is an encoded section; empty is no headers.
    #[inline]
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) {
        self.push_at(self.last_offset_delta + i32::from(self.count > 0), timestamp, key, value, headers);
    }

    /// Appends a record at an offset delta of its own, larger than the last: for batches with gaps.
    #[inline]
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
    ) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_LEN, 0);
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.keyless |= key.is_none();
        // Behind room for the record's length, which is known when the rest is.
        let (mut head, mut behind) = ([0; LEN + SHORT], [0; SHORT]);
        let len_of = |field: Option<&[u8]>| field.map_or(-1, |field| field.len() as i64);
        let mut end = varint::put(&mut head, LEN + 1, timestamp.wrapping_sub(self.base_timestamp));
        end = varint::put(&mut head, end, i64::from(offset_delta));
        end = varint::put(&mut head, end, len_of(key));
        let behind_len = varint::put(&mut behind, 0, len_of(value));
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let body = end - LEN + key.len() + behind_len + value.len() + headers.len().max(1);
        let start = LEN - varint::len(body as i64);
        varint::put(&mut head, start, body as i64);

        self.bytes.reserve(body + LEN + SHORT);
        if let Some(head) = head[start..].first_chunk() {
            self.push_short(head, end - start);
        }
        self.bytes.extend_from_slice(key);
        self.push_short(&behind, behind_len);
        self.bytes.extend_from_slice(value);
        if headers.is_empty() {
            self.bytes.push(0);
        } else {
            self.bytes.extend_from_slice(headers);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
    }

    /// Appends the first bytes of a few. All are copied and the rest is dropped: a copy of known size needs no call.
    #[inline(always)]
    fn push_short(&mut self, bytes: &[u8; SHORT], len: usize) {
        let end = self.bytes.len() + len;
        self.bytes.extend_from_slice(bytes);
        self.bytes.truncate(end);
    }

    /// Bytes so far, with the header.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len().max(HEADER_LEN)
    }

    /// Number of records.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Whether there are no records.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether any record has no key: a compacted topic refuses it.
    pub fn is_keyless(&self) -> bool {
        self.keyless
    }

    /// The largest time of a record.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Offset delta of the last record.
    pub fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    /// Completes the batch, at base offset 0: the log sets its own with [`crate::patch_offset`].
    ///
    /// # Errors
    /// When the codec is not in this build.
    pub fn seal(self, options: &SealOptions) -> Result<Vec<u8>, BatchError> {
        let producer = options.producer.unwrap_or(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
        let header = BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: BatchHeader::attributes(options.compression, options.transactional, options.control),
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            count: self.count,
        };
        self.finish(header)
    }

    /// Compresses the records as the header says, and puts it before them with their length and checksum.
    pub(crate) fn finish(mut self, mut header: BatchHeader) -> Result<Vec<u8>, BatchError> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_LEN, 0);
        }
        let compression = header.compression()?;
        if compression != Compression::None {
            let packed = compression.compress(&self.bytes[HEADER_LEN..])?;
            self.bytes.truncate(HEADER_LEN);
            self.bytes.extend_from_slice(&packed);
        }
        header.length = (self.bytes.len() - LENGTH_START) as i32;
        header.write(&mut self.bytes);
        header.crc = crc32c::crc32c(&self.bytes[CRC_START..]);
        header.write(&mut self.bytes);
        Ok(self.bytes)
    }

    /// The records, to be read in this process without sealing.
    pub fn into_records(self, base_offset: i64) -> Records {
        Records::new(
            Bytes::from(self.bytes),
            HEADER_LEN,
            self.count,
            base_offset,
            self.base_timestamp,
            base_offset + i64::from(self.last_offset_delta) + i64::from(self.count > 0),
            None,
        )
    }
}
