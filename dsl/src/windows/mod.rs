//! Windows: which stretches of event time a record belongs to, and the key of a windowed result.

mod definitions;
mod time_windowed_serde;
mod windowed_key;

pub use definitions::{JoinWindows, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows};
pub use time_windowed_serde::TimeWindowedSerde;
pub use windowed_key::{Window, Windowed, WindowedSerde};

use std::time::Duration;

/// A second.
pub const SECOND: Duration = Duration::from_secs(1);
/// A minute.
pub const MIN: Duration = Duration::from_secs(60);
/// An hour.
pub const HOUR: Duration = Duration::from_secs(3600);
/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// When a windowed result is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmitStrategy {
    /// Every change of a window.
    OnUpdate,
    /// Every window once, when its grace is over.
    OnWindowClose,
}
