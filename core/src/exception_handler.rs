//! What becomes of a record that cannot be decoded, processed or written: a handler is told of it and answers.
//!
//! ```text
//!   source, operator or sink fails ─► the record's other paths go on ─► the record is done: handler ─► left out, or the task fails
//! ```
//!
//! The words of the settings are handlers that are ready-made. Who asks is [`crate::TaskContext`].

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::dead_letter::DeadLetter;
use crate::error::panic_message;
use crate::error_handler_context::ErrorHandlerContext;

/// What happens to a record that cannot be decoded, processed or written: `deserialization.exception.handler`,
/// `processing.exception.handler`, `production.exception.handler` (KIP-1033, KIP-1034).
///
/// An error ends the path of its record below the operator that returned it: what the record had done before stays, as in
/// Kafka Streams. A panic may have left anything behind; so the unit of work is rolled back, and the record is left out as
/// if it had never been there, time included. A panic in a timer or at a commit always fails the task.
///
/// Global tables and stores ask too: the deserialization handler always, the processing handler if
/// `processing.exception.handler.global.enabled` says so (KIP-1270). What they leave out is counted by every thread that reads
/// it, and at every start; dead letters are not written for it. Nothing is rolled back there: rows that a record had put before
/// it failed stay, after a panic too.
///
/// About a dead letter that is too large to be written the production handler is asked, as about any record that is: with
/// `continue` alone the letter is left out, and counted; what is written to a dead-letter topic then is without its value, and
/// its headers say where the record is. What it writes instead must fit.
///
/// What may pass by itself (KIP-1065: a log that times out, a full disk) is never asked about: the thread goes back to its
/// last commit and tries again until it has passed. What is asked about stays: the same bytes, the same record, the same
/// size; only a topic that a record has named may come to be, see [`HandlerResponse::Retry`].
///
/// ```
/// use millstream_core::{ExceptionHandler, HandlerResponse, RuntimeConfig};
///
/// let by_topic = ExceptionHandler::new(|context| match context.source {
///     Some((partition, _)) if *partition.topic == *"payments" => HandlerResponse::Fail,
///     _ => HandlerResponse::ContinueWith(vec![context.dead_letter("letters")]),
/// });
/// let config = RuntimeConfig { processing: by_topic, ..RuntimeConfig::embedded("app") };
/// # let _ = config;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ExceptionHandler {
    /// The task fails at once and says which record it was.
    #[default]
    Fail,
    /// The record's path ends there, and it is counted as dropped.
    Skip,
    /// As `Skip`, and the source record goes to this topic, with its raw bytes and headers that say why, in the same commit.
    DeadLetter(String),
    /// A function of the program decides, see [`ExceptionHandler::new`].
    Function(HandlerFunction),
}

impl ExceptionHandler {
    /// Lets a function decide. It is called once per failure, on the stream thread, when all other paths of the record are
    /// done; whatever the record did is rolled back if it answers [`HandlerResponse::Fail`]. After a rollback it may be
    /// called for the same record again. A function that panics fails the task.
    pub fn new(f: impl Fn(&ErrorHandlerContext<'_>) -> HandlerResponse + Send + Sync + 'static) -> Self {
        ExceptionHandler::Function(HandlerFunction(Arc::new(f)))
    }

    /// The answer, or what the function said when it panicked.
    pub(crate) fn answer(&self, context: &ErrorHandlerContext<'_>) -> Result<HandlerResponse, String> {
        Ok(match self {
            ExceptionHandler::Fail => HandlerResponse::Fail,
            ExceptionHandler::Skip => HandlerResponse::Continue,
            ExceptionHandler::DeadLetter(topic) => HandlerResponse::ContinueWith(vec![context.dead_letter(topic)]),
            ExceptionHandler::Function(HandlerFunction(f)) => catch_unwind(AssertUnwindSafe(|| f(context)))
                .map_err(|panic| format!("the exception handler panicked: {}", panic_message(panic.as_ref())))?,
        })
    }
}

/// The function of [`ExceptionHandler::new`].
#[derive(Clone)]
pub struct HandlerFunction(Arc<dyn Fn(&ErrorHandlerContext<'_>) -> HandlerResponse + Send + Sync>);

impl fmt::Debug for HandlerFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

/// The same function, not one that does the same.
impl PartialEq for HandlerFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a handler wants done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HandlerResponse {
    /// The task fails, and goes back to its last commit. It writes no dead letter, as that would be written again by every
    /// start: the record is in its topic still, at the offset that the error names.
    Fail,
    /// The record's path ends where it failed, and it is counted as dropped.
    Continue,
    /// As `Continue`, and these records are written in the same commit.
    ContinueWith(Vec<DeadLetter>),
    /// For a record whose topic, named by `to_dynamic`, does not exist: the thread goes back to its last commit and tries
    /// again until the topic is there. Nothing else that a handler is asked about may pass, so it is `Fail` there, as in
    /// Kafka Streams.
    Retry,
}
