//! Grouping and aggregating streams.

mod cogroup;
mod grouped;
mod key_value;

pub use cogroup::CogroupedStream;
pub use grouped::GroupedStream;
