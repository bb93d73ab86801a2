//! The state of an application, and which one may follow which.

/// The state of an application, as in Kafka Streams.
///
/// ```text
///      ┌──────────────┬───────────┐
///   Created ─► Rebalancing ◄► Running ─► PendingShutdown ─► NotRunning
///                   └─────────────┴─────────────┴─► PendingError ─► Error
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Created,
    /// Tasks are being restored: at the start, in a thread that replaces one that has failed, or because threads or topics have
    /// come or gone.
    Rebalancing,
    /// All tasks process.
    Running,
    /// Threads are ending in order.
    PendingShutdown,
    /// All threads have ended in order.
    NotRunning,
    /// A thread has failed, the others are ending.
    PendingError,
    /// All threads have ended after a failure.
    Error,
}

impl State {
    /// Whether threads are ending, or have ended.
    pub fn has_started_or_finished_shutting_down(self) -> bool {
        match self {
            State::Created | State::Rebalancing | State::Running => false,
            State::PendingShutdown | State::NotRunning | State::PendingError | State::Error => true,
        }
    }

    /// The arrows above; threads that are late may ask for others.
    pub(crate) fn may_become(self, next: State) -> bool {
        match next {
            State::Created => false,
            State::Rebalancing => matches!(self, State::Created | State::Running),
            State::Running => self == State::Rebalancing,
            State::PendingShutdown => matches!(self, State::Created | State::Rebalancing | State::Running),
            State::NotRunning => self == State::PendingShutdown,
            State::PendingError => matches!(self, State::Rebalancing | State::Running | State::PendingShutdown),
            State::Error => self == State::PendingError,
        }
    }
}
