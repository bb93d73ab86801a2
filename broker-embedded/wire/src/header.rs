//! The 61 bytes in front of every batch (Kafka's format 2).
//!
//! ```text
//!   0 base offset i64 │ 8 length i32 │ 12 leader epoch i32 │ 16 magic i8 │ 17 crc u32 ║ 21 attributes i16 │
//!   23 last offset delta i32 │ 27 base time i64 │ 35 max time i64 │ 43 producer id i64 │ 51 epoch i16 │
//!   53 base sequence i32 │ 57 count i32 │ 61 records …            (the checksum covers everything behind ║)
//! ```

use crate::compression::Compression;
use crate::error::BatchError;

/// Bytes of a batch header.
pub const HEADER_LEN: usize = 61;
/// The format that is read and written.
pub const MAGIC: i8 = 2;
/// Where the checksum's cover starts.
pub(crate) const CRC_START: usize = 21;
/// Bytes before the part that the length field counts.
pub(crate) const LENGTH_START: usize = 12;

const TIMESTAMP_TYPE: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

/// What the time of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    Create,
    /// The log's at the append: the batch's maximum stands for every record.
    LogAppend,
}

/// A batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes behind this field.
    pub length: i32,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads a header and checks what can be checked without the records.
    ///
    /// # Errors
    /// [`BatchError::Magic`], [`BatchError::Length`] or [`BatchError::Count`].
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BatchError> {
        let magic = bytes[16] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            length: i32::from_be_bytes(field(bytes, 8)),
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            count: i32::from_be_bytes(field(bytes, 57)),
        };
        if header.length < (HEADER_LEN - LENGTH_START) as i32 {
            return Err(BatchError::Length { declared: header.length, at_most: i32::MAX as usize });
        }
        if header.count < 0 || header.last_offset_delta < 0 || header.count - 1 > header.last_offset_delta {
            return Err(BatchError::Count { count: header.count, last_offset_delta: header.last_offset_delta });
        }
        Ok(header)
    }

    /// Writes the header; `crc` as it is in the struct.
    pub(crate) fn write(&self, out: &mut [u8]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16] = MAGIC as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.count.to_be_bytes());
    }

    /// Attribute bits of a new batch.
    pub(crate) fn attributes(compression: Compression, transactional: bool, control: bool) -> i16 {
        compression.id() | if transactional { TRANSACTIONAL } else { 0 } | if control { CONTROL } else { 0 }
    }

    /// Bytes of the whole batch.
    pub fn batch_len(&self) -> usize {
        LENGTH_START + self.length as usize
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker and not data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// From when on compaction may drop the batch's tombstones, or the marker it is: it has met them, and set this. It is
    /// where the base time is otherwise; times of records are distances from it all the same.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The header of the same batch with a delete horizon.
    pub(crate) fn with_delete_horizon(self, horizon: i64) -> Self {
        BatchHeader { attributes: self.attributes | DELETE_HORIZON, base_timestamp: horizon, ..self }
    }

    /// The header of the same batch without records.
    pub(crate) fn emptied(self) -> Self {
        // Nothing is left to be compressed or dropped.
        let attributes = self.attributes & (TIMESTAMP_TYPE | TRANSACTIONAL | CONTROL);
        BatchHeader { attributes, base_timestamp: self.max_timestamp, count: 0, ..self }
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::Unsupported`] for a number that stands for no codec.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_id(self.attributes & 7)
    }

    /// Whose time the records have.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }
}
