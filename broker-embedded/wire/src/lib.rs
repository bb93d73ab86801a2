//! Kafka's bytes: record batches of format 2, built and read in place.
//!
//! What it is not: no sockets, no files, no clock; it knows nothing of topics or tasks. Everything that is read is
//! bounded by what was received: no length in the bytes decides an allocation.

mod batch;
mod builder;
mod cleaned;
mod compression;
pub mod control;
mod error;
mod header;
mod headers;
mod records;
mod varint;

pub use batch::{Limits, RecordBatch, RecordFacts, patch_offset};
pub use builder::{BatchBuilder, ProducerStamp, SealOptions};
pub use compression::Compression;
pub use error::BatchError;
pub use header::{BatchHeader, HEADER_LEN, MAGIC, TimestampType};
pub use headers::{iter_headers, push_header};
pub use records::{Payload, RecordView, Records};
