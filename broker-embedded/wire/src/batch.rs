//! A whole batch as received or stored.

use bytes::Bytes;

use crate::compression::Compression;
use crate::error::BatchError;
use crate::header::{BatchHeader, CRC_START, HEADER_LEN, TimestampType};
use crate::headers::check_section;
use crate::records::Records;

/// What reading a batch may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the records after decompression.
    pub decompressed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { decompressed: 64 << 20 }
    }
}

/// What a strict look at a batch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// Whether any record has no key: a compacted topic refuses it.
    pub null_key: bool,
    /// The largest time of a record.
    pub max_timestamp: i64,
}

/// A whole batch; its header has been read, its bytes are shared.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Splits the first batch off `bytes`; `None` if not all of it is there yet.
    ///
    /// # Errors
    /// When what is there cannot be the start of a batch; `bytes` is left as it was.
    pub fn split_from(bytes: &mut Bytes) -> Result<Option<RecordBatch>, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = BatchHeader::parse(head)?;
        if bytes.len() < header.batch_len() {
            return Ok(None);
        }
        Ok(Some(RecordBatch { header, bytes: bytes.split_to(header.batch_len()) }))
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch's bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&self.bytes[CRC_START..]);
        if computed == self.header.crc { Ok(()) } else { Err(BatchError::Crc { declared: self.header.crc, computed }) }
    }

    /// The records, decompressed within the default limits if need be.
    ///
    /// # Errors
    /// When they cannot be decompressed.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.records_within(&Limits::default())
    }

    /// The records, decompressed within limits if need be.
    ///
    /// # Errors
    /// When they cannot be decompressed, or not within the limits.
    pub fn records_within(&self, limits: &Limits) -> Result<Records, BatchError> {
        let h = &self.header;
        let append_time = (h.timestamp_type() == TimestampType::LogAppend).then_some(h.max_timestamp);
        let (bytes, start) = match h.compression()? {
            Compression::None => (self.bytes.clone(), HEADER_LEN),
            codec => (Bytes::from(codec.decompress(&self.bytes[HEADER_LEN..], limits.decompressed)?), 0),
        };
        Ok(Records::new(bytes, start, h.count, h.base_offset, h.base_timestamp, h.next_offset(), append_time))
    }

    /// Looks at everything, as for a batch from an unknown producer: checksum, dense offsets, every record's fields and
    /// headers, nothing behind the last.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self, limits: &Limits) -> Result<RecordFacts, BatchError> {
        self.verify_crc()?;
        let h = self.header;
        if h.count == 0 || h.count - 1 != h.last_offset_delta {
            return Err(BatchError::Count { count: h.count, last_offset_delta: h.last_offset_delta });
        }
        let mut records = self.records_within(limits)?;
        let mut facts = RecordFacts { null_key: false, max_timestamp: i64::MIN };
        let mut index = 0;
        while let Some(record) = records.next() {
            let record = record?;
            if record.offset != h.base_offset + i64::from(index) {
                return Err(BatchError::Record { index, problem: "its offset does not follow the one before" });
            }
            if !record.headers.is_empty() && !check_section(record.headers) {
                return Err(BatchError::Record { index, problem: "its headers do not fit" });
            }
            facts.null_key |= record.key.is_none();
            facts.max_timestamp = facts.max_timestamp.max(record.timestamp);
            index += 1;
        }
        match records.trailing() {
            0 => Ok(facts),
            bytes => Err(BatchError::Trailing { bytes }),
        }
    }
}

/// Sets base offset and leader epoch of a batch in place; the checksum does not cover them.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn patch_offset(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}
