//! Grouping and aggregating streams.

mod cogroup;
mod grouped;
mod key_value;
mod windowed;
mod windowed_cogroup;

pub use cogroup::CogroupedStream;
pub use grouped::{GroupedStream, WindowsOf};
pub(crate) use windowed::TimedStore;
pub use windowed::{FixedWindows, SessionWindowedStream, TimeWindowedStream};
pub use windowed_cogroup::{SessionCogroup, WindowedCogroup};
