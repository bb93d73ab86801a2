//! State stores of Millstream: decoded tables with an undo log, their changelog encoding.
//!
//! What it is not: it knows no topics, threads or operators. A row is identified and ordered by its serialised key;
//! only values are decoded. What a table holds is written to the changelog once per changed row and commit.

mod ahead;
mod arena;
mod closes;
pub mod conformance;
mod index;
mod join_buffer;
mod key_bytes;
mod key_order;
mod key_value;
mod own_bytes;
#[cfg(feature = "rocksdb")]
mod rocks;
mod rows;
mod rows_on_disk;
mod share;
mod sorted_keys;
mod suppress_buffer;
mod timed;
mod versioned;

pub use index::{Hash, Index};
pub use join_buffer::JoinBuffer;
pub use key_bytes::KeyBytes;
pub use key_value::{KeyValueTable, Scan, ScannedRow, Visit};
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksDisk, RocksOptions};
pub use rows::Entry;
pub use suppress_buffer::SuppressBuffer;
pub use timed::{Closing, KeyRows, Place, SessionBounds, SessionTable, TimedTable, WindowStart, WindowTable};
pub use versioned::{Put, Version, VersionedTable};
