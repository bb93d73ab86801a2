//! The disk of state over RocksDB: a database per task, a family per store, without RocksDB's own log, since the changelog is
//! that (DESIGN 3.6, 3.7).
//!
//! What it is not: it knows no tables. A row is what the changelog has of it.

mod database;
mod disk;
mod error;
mod manifest;
mod row;
mod rows;
mod sorted_rows;
mod space;
mod sweep;
mod task;
mod writer;

pub use disk::{RocksDisk, RocksOptions};
