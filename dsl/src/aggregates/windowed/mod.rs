//! Windowed aggregations: one node for windows of a fixed size, one for sessions, one store each.

mod close;
mod session;
mod store;
mod time;

pub(crate) use session::SessionTableBuilder;
pub use session::SessionWindowedStream;
pub(crate) use store::TimedStore;
pub use time::{FixedWindows, TimeWindowedStream};
pub(crate) use time::{WindowSpec, WindowedTable};
