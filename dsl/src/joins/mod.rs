//! Joins, one per file.

mod foreign_key;
mod grace_join;
mod held;
mod join_rows;
mod join_side;
mod joined;
mod self_join;
mod stream_global;
mod stream_joined;
mod stream_stream;
mod stream_table;
mod table_joined;
mod with_key;

pub use joined::Joined;
pub use stream_global::GlobalKTable;
pub use stream_joined::StreamJoined;
pub use table_joined::TableJoined;
