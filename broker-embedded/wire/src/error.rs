//! Why a batch cannot be used.

use std::fmt;
use std::sync::Arc;

/// Why a batch, or a record in it, cannot be used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BatchError {
    /// The format byte is not 2: older formats are not read.
    Magic(i8),
    /// The length in the header cannot be that of a batch.
    Length {
        /// What the header says follows its first 12 bytes.
        declared: i32,
        /// What may be there at most.
        at_most: usize,
    },
    /// The checksum over attributes and records does not fit the bytes.
    Crc {
        /// What the header says.
        declared: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Count and last offset delta in the header disagree, or are negative.
    Count {
        /// Number of records by the header.
        count: i32,
        /// Offset delta of the last record by the header.
        last_offset_delta: i32,
    },
    /// A record's fields do not fit into its bytes.
    Record {
        /// Which record, from 0.
        index: i32,
        /// What is wrong.
        problem: &'static str,
    },
    /// Bytes follow the last record.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The codec is unknown, or left out of this build.
    Unsupported {
        /// Its name or number.
        codec: String,
    },
    /// The compressed bytes are damaged.
    Compressed {
        /// The codec's name.
        codec: &'static str,
        /// Its error.
        source: Arc<std::io::Error>,
    },
    /// Decompressed, the batch is larger than allowed.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Magic(magic) => write!(f, "batch format {magic}, only format 2 is read"),
            BatchError::Length { declared, at_most } => {
                write!(f, "batch length {declared}, possible are 49 to {at_most}")
            }
            BatchError::Crc { declared, computed } => {
                write!(f, "checksum {computed:08x} where the batch says {declared:08x}")
            }
            BatchError::Count { count, last_offset_delta } => {
                write!(f, "{count} records with last offset delta {last_offset_delta}")
            }
            BatchError::Record { index, problem } => write!(f, "record {index} of the batch: {problem}"),
            BatchError::Trailing { bytes } => write!(f, "{bytes} bytes follow the last record"),
            BatchError::Unsupported { codec } => write!(
                f,
                "compression {codec} is not supported by this build\n  help: enable the feature `{codec}`, or produce with none, gzip, snappy, lz4 or zstd"
            ),
            BatchError::Compressed { codec, source } => write!(f, "damaged {codec} data: {source}"),
            BatchError::TooLarge { limit } => write!(f, "more than {limit} bytes after decompression"),
        }
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BatchError::Compressed { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
