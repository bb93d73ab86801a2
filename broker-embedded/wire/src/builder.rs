//! Building a batch: records are encoded once, behind room for the header, so that sealing copies nothing.

use bytes::Bytes;

use crate::compression::Compression;
use crate::error::BatchError;
use crate::header::{BatchHeader, CRC_START, HEADER_LEN, LENGTH_START};
use crate::records::Records;
use crate::varint::{self, Packed};

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
        let time_delta = timestamp.wrapping_sub(self.base_timestamp);
        let len = |field: Option<&[u8]>| field.map_or(-1, |field| field.len() as i64);
        // The attributes, of which there are none, are before the time.
        let head = Packed::EMPTY.and(0).and(time_delta).and(i64::from(offset_delta)).and(len(key));
        let value_len = Packed::EMPTY.and(len(value));
        let ([key_bytes, value_bytes], headers_len) =
            ([key, value].map(Option::unwrap_or_default), headers.len().max(1));
        let body = head.len() + key_bytes.len() + value_len.len() + value_bytes.len() + headers_len;
        let head = Packed::EMPTY.and(body as i64).and_all(head);
        if head.fits() && value_len.fits() {
            self.bytes.reserve(body + 2 * Packed::BYTES);
            self.put(head);
            self.bytes.extend_from_slice(key_bytes);
            self.put(value_len);
            self.bytes.extend_from_slice(value_bytes);
        } else {
            self.push_long(time_delta, offset_delta, [key, value], headers_len);
        }
        if headers.is_empty() {
            self.bytes.push(0);
        } else {
            self.bytes.extend_from_slice(headers);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
    }

    /// Appends numbers. To copy all bytes and let go of the last is an instruction or two; to copy as many as there are is
    /// a call.
    #[inline(always)]
    fn put(&mut self, packed: Packed) {
        let end = self.bytes.len() + packed.len();
        self.bytes.extend_from_slice(&packed.bytes());
        self.bytes.truncate(end);
    }

    /// Appends a record up to its headers, with numbers of any size.
    #[inline(never)]
    fn push_long(&mut self, time_delta: i64, offset_delta: i32, fields: [Option<&[u8]>; 2], headers: usize) {
        let len = |field: &Option<&[u8]>| field.map_or(-1, |field| field.len() as i64);
        let size = |field| varint::len(len(field)) + field.unwrap_or_default().len();
        let place = 1 + varint::len(time_delta) + varint::len(i64::from(offset_delta));
        let body = place + fields.iter().map(size).sum::<usize>() + headers;
        self.bytes.reserve(body + 10);
        varint::push(&mut self.bytes, body as i64);
        self.bytes.push(0);
        varint::push(&mut self.bytes, time_delta);
        varint::push(&mut self.bytes, i64::from(offset_delta));
        for field in &fields {
            varint::push(&mut self.bytes, len(field));
            self.bytes.extend_from_slice(field.unwrap_or_default());
        }
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
