//! Windowed aggregations: one node for windows of a fixed size, one for sessions, one store each.

mod aggregate;
mod close;
mod fixed_windows;
mod lent;
mod session;
mod session_aggregate;
mod session_table;
mod slide;
mod spec;
mod store;
mod table;
mod time;

pub use fixed_windows::FixedWindows;
pub(crate) use lent::Lent;
pub use session::SessionWindowedStream;
pub(crate) use session_table::SessionTableBuilder;
pub(crate) use spec::WindowSpec;
pub(crate) use store::TimedStore;
pub(crate) use table::WindowedTable;
pub use time::TimeWindowedStream;
