//! Joins, one per file.

mod stream_global;
mod stream_table;

pub use stream_global::GlobalKTable;
