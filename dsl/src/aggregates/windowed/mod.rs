//! Windowed aggregations: one node for windows of a fixed size, one for sessions, one store each.

mod aggregate;
mod close;
mod fixed_windows;
mod session;
mod slide;
mod spec;
mod store;
mod table;
mod time;

pub use fixed_windows::FixedWindows;
pub(crate) use session::SessionTableBuilder;
pub use session::SessionWindowedStream;
pub(crate) use spec::WindowSpec;
pub(crate) use store::TimedStore;
pub(crate) use table::WindowedTable;
pub use time::TimeWindowedStream;
