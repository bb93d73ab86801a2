//! A naive interpreter of Kafka Streams' operators: what they mean, said in the most obvious way (semantics.md).
//!
//! Nothing here is fast, or kept in order as it goes: every question is a scan over everything that is kept, and nothing
//! ever expires that could still matter. It is held to the golden traces, and the product is held to it with random
//! programs' input. It shares no code with the product but the function that chooses a partition.

mod catalogue;
mod fold;
mod foreign_key;
mod key_value;
mod program;
mod row;
mod runs;
mod session_windows;
mod sliding_windows;
mod stream_stream;
mod stream_table;
mod suppress;
mod table;
mod table_group;
mod table_table;
mod time_windows;
mod unlimited_windows;

pub use catalogue::known;
pub use program::Program;
pub use row::{Headers, Row};
