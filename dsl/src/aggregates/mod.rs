//! Grouping and aggregating streams.

mod cogroup;
mod grouped;
mod key_value;
mod windowed;

pub use cogroup::{CogroupedStream, SessionCogroup, WindowedCogroup};
pub use grouped::{GroupedStream, WindowsOf};
pub(crate) use windowed::TimedStore;
pub use windowed::{FixedWindows, SessionWindowedStream, TimeWindowedStream};
