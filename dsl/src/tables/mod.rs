//! Operators of tables, one per file.

mod emit_on_commit;
mod filter;
mod group_by;
mod join;
mod map_values;
mod own_store;
mod pending;
mod source;
mod suppress;
mod to_stream;
mod transform_values;
mod versioned;

pub(crate) use versioned::VersionedRows;

pub use group_by::GroupedTable;
pub use suppress::BufferConfig;
