//! What becomes of an application after an error that no other handler took.

/// What happens after an error that no other handler took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Uncaught {
    /// The failed thread's tasks go on in a new one, from their last commit. How often, the handler decides: what fails for a
    /// lasting reason fails again at once.
    ReplaceThread,
    /// All threads of this process end, and [`crate::Streams::join`] returns the error.
    #[default]
    StopClient,
    /// As `StopClient`: all threads of this process end. In Kafka Streams every other process of the application ends too;
    /// here an application is one process, and other processes are not told of anything.
    StopApplication,
}
