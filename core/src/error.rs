//! Errors of the runtime, and what a caller may do about them.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;

use crate::log::{LogError, Offset, TopicPartition};
use crate::serde::{Half, SerdeError};
use crate::task_id::TaskId;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a topology cannot be built, started or run on. One word in size: it is returned per record.
///
/// Its `Debug` is its text: that is what a `main` that returns it prints.
#[non_exhaustive]
pub enum Error {
    /// The topology or its surroundings do not fit together; lists every problem at once.
    Build(Box<Vec<String>>),
    /// Settings are wrong; lists every problem at once.
    Config(Box<Vec<String>>),
    /// The log failed.
    Log(Box<LogError>),
    /// A record could not be decoded, and the handler says fail.
    Undecodable(Box<Undecodable>),
    /// A key or value could not be encoded for a topic or a store.
    Unencodable(Box<Unencodable>),
    /// State could not be read back.
    State(Box<StateError>),
    /// State on disk is not what was written: it is rebuilt from the changelog.
    Damaged(Box<StateError>),
    /// A disk for state is full. What it did not take is in the changelogs: the tasks are restored when there is space.
    NoSpace(Box<StateError>),
    /// A closure or processor failed, and the handler says fail.
    Processing(Box<NodeFailure>),
    /// A record could not be written to its topic, and the handler says fail.
    Production(Box<NodeFailure>),
    /// A record is larger than `max.request.size`, or `max.message.bytes` of its topic.
    TooLarge(Box<TooLarge>),
    /// A buffer that was told to stop the program when it is full is full. No handler is asked: the task goes back to its last
    /// commit.
    Full(Box<BufferFull>),
    /// A closure or processor panicked.
    Panicked(Box<Panicked>),
    /// An error of the program's own.
    User(Box<Box<dyn StdError + Send + Sync>>),
}

impl Error {
    /// An error of the program's own.
    pub fn user(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error::User(Box::new(error.into()))
    }

    /// Whether trying again may help without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Log(e) => e.is_retriable(),
            Error::Production(e) => e.retry,
            Error::NoSpace(_) => true,
            _ => false,
        }
    }

    /// Whether another member has taken the tasks over.
    pub fn is_task_migrated(&self) -> bool {
        matches!(self, Error::Log(e) if e.is_task_migrated())
    }

    /// Whether the task's state is unusable and must be rebuilt from its changelog.
    pub fn is_task_corrupted(&self) -> bool {
        matches!(self, Error::State(_) | Error::Damaged(_))
    }

    /// Whether a start that reads again what was not committed may go on: it looks for the record at fault, rebuilds what is damaged,
    /// or has a transaction of its own.
    pub(crate) fn is_for_next_start(&self) -> bool {
        match self {
            Error::Unencodable(_) | Error::TooLarge(_) | Error::Processing(_) | Error::Damaged(_) => true,
            Error::Log(e) => matches!(**e, LogError::TimedOut { .. } | LogError::Forgotten { .. }),
            _ => false,
        }
    }

    /// The operator that failed, if it is an operator's failure.
    pub(crate) fn node(&self) -> Option<&str> {
        match self {
            Error::Processing(failure) | Error::Production(failure) => Some(&failure.node),
            _ => None,
        }
    }

    /// Whether it is about a dead letter, of the record that it names.
    pub(crate) fn is_of_letter(&self) -> bool {
        let Error::Production(failure) = self else { return false };
        matches!(failure.source.downcast_ref(), Some(Error::TooLarge(large)) if large.letter.is_some())
    }

    /// What a handler wants tried again; only a topic that is not there may come to be.
    pub(crate) fn tried_again(mut self) -> Self {
        if let Error::Production(failure) = &mut self {
            let source = failure.source.downcast_ref::<Error>();
            failure.retry = matches!(source, Some(Error::Log(error)) if matches!(**error, LogError::UnknownTopic(_)));
        }
        self
    }

    /// Whether nothing but a change of program, data or settings helps.
    pub fn is_fatal(&self) -> bool {
        !self.is_retriable() && !self.is_task_migrated() && !self.is_task_corrupted()
    }
}

/// A record that a source could not decode.
#[derive(Debug, Clone)]
pub struct Undecodable {
    /// Where the record is.
    pub partition: TopicPartition,
    /// Where in the partition.
    pub offset: Offset,
    /// Key or value.
    pub half: Half,
    /// The first bytes; `None` for null.
    pub first_bytes: Option<Vec<u8>>,
    /// What the serde, or the timestamp extractor, said.
    pub source: SerdeError,
}

/// What an operator failed on: an error that a closure or processor of the program returned, or a record that a sink could
/// not write.
#[derive(Debug)]
pub struct NodeFailure {
    /// The operator, as [`crate::Topology::describe`] names it.
    pub node: String,
    /// Its task.
    pub task: TaskId,
    /// The source record that was being processed; `None` in a punctuation.
    pub record: Option<(TopicPartition, Offset)>,
    /// What was returned, or was wrong with the record.
    pub source: Box<dyn StdError + Send + Sync>,
    /// A production handler wants it to be tried again.
    pub retry: bool,
}

/// A record that is larger than `max.request.size`, or `max.message.bytes` of its topic.
#[derive(Debug, Clone)]
pub struct TooLarge {
    /// Where it was to go.
    pub partition: TopicPartition,
    /// Its size in a batch of its own, in bytes.
    pub bytes: usize,
    /// How large it may be.
    pub limit: usize,
    /// What says so.
    pub setting: &'static str,
    /// Of a dead letter: why the record is left out that it is of.
    pub letter: Option<String>,
}

/// A suppression that holds more than it may.
#[derive(Debug, Clone)]
pub struct BufferFull {
    /// The suppression.
    pub name: String,
    /// Its task.
    pub task: TaskId,
    /// The source record that was being processed; `None` in a punctuation or a commit.
    pub record: Option<(TopicPartition, Offset)>,
    /// How much waits.
    pub waits: usize,
    /// How much may.
    pub may: usize,
    /// Of what: `rows` or `bytes`.
    pub what: &'static str,
}

/// A panic in a task.
#[derive(Debug, Clone)]
pub struct Panicked {
    /// The task.
    pub task: TaskId,
    /// The source record that was being processed; `None` in a punctuation, in a commit, or if it was something that had waited.
    pub record: Option<(TopicPartition, Offset)>,
    /// What the panic said.
    pub message: String,
    /// Whether the processing handler is asked about it: about a record of a task, and of a global store if it is asked about
    /// those, but not about a timer, a commit or what has waited.
    pub handled: bool,
}

/// A value that a serde refused.
#[derive(Debug, Clone)]
pub struct Unencodable {
    /// The topic or store it was for.
    pub topic: String,
    /// Key or value.
    pub half: Half,
    /// What the serde said.
    pub source: SerdeError,
}

/// State that could not be read back.
#[derive(Debug, Clone)]
pub struct StateError {
    /// The store.
    pub store: String,
    /// What is wrong.
    pub problem: String,
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        Error::Log(Box::new(error))
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What a panic has said.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

fn node_failure(f: &mut fmt::Formatter<'_>, failure: &NodeFailure, handler: &str) -> fmt::Result {
    write!(f, "{} failed in ", failure.node)?;
    place(f, failure.task, failure.record.as_ref())?;
    write!(
        f,
        ": {}\n  help: set {handler}.exception.handler to `continue` to leave such records out, and errors.dead.letter.queue.topic.name to keep them",
        failure.source
    )
}

/// `task 0_1 at orders-1@17`, or the task alone.
fn place(f: &mut fmt::Formatter<'_>, task: TaskId, record: Option<&(TopicPartition, Offset)>) -> fmt::Result {
    match record {
        Some((partition, offset)) => write!(f, "task {task} at {partition}@{offset}"),
        None => write!(f, "task {task}"),
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Half::Key => "key",
            Half::Value => "value",
        })
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, problems: &[String]) -> fmt::Result {
    match problems {
        [one] => write!(f, "{what}: {one}"),
        many => {
            write!(f, "{what}, {} problems:", many.len())?;
            many.iter().try_for_each(|p| write!(f, "\n- {p}"))
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Build(problems) => list(f, "the topology cannot run", problems),
            Error::Config(problems) => list(f, "the settings are wrong", problems),
            Error::Log(error) => error.fmt(f),
            Error::Undecodable(e) => {
                write!(f, "cannot decode the {} of {}@{}: {}", e.half, e.partition, e.offset, e.source)?;
                if let Some(bytes) = &e.first_bytes {
                    write!(f, "\n  first {} bytes:", bytes.len())?;
                    bytes.iter().try_for_each(|b| write!(f, " {b:02x}"))?;
                }
                write!(
                    f,
                    "\n  help: set deserialization.exception.handler to `continue` to leave such records out, and errors.dead.letter.queue.topic.name to keep them"
                )
            }
            Error::Unencodable(e) => write!(f, "cannot encode a {} for `{}`: {}", e.half, e.topic, e.source),
            Error::State(e) | Error::Damaged(e) | Error::NoSpace(e) => write!(f, "store `{}`: {}", e.store, e.problem),
            Error::Processing(e) => node_failure(f, e, "processing"),
            Error::Production(e) => node_failure(f, e, "production"),
            Error::TooLarge(e) => {
                f.write_str(if e.letter.is_some() { "its dead letter" } else { "a record" })?;
                write!(f, " of {} bytes for {} is larger than {}={}", e.bytes, e.partition, e.setting, e.limit)?;
                e.letter.iter().try_for_each(|why| write!(f, "; it is left out because of: {why}"))?;
                f.write_str("\n  help: raise max.request.size, or max.message.bytes of the topic, whichever is less")
            }
            Error::Panicked(e) => {
                place(f, e.task, e.record.as_ref())?;
                let help = if e.handled {
                    ", from a `try_` operator or a processor; or set processing.exception.handler to `continue` to leave such records out"
                } else {
                    ": of a panic in a timer, at a commit, or on what has waited (a window that closes, a suppressed row) no handler is asked, in a global store only with processing.exception.handler.global.enabled"
                };
                write!(f, " panicked: {}\n  help: where data can cause it, return an error instead{help}", e.message)
            }
            Error::Full(e) => {
                write!(f, "suppression `{}` is full in ", e.name)?;
                place(f, e.task, e.record.as_ref())?;
                write!(
                    f,
                    ": {} {} wait, {} may\n  help: raise the bound of its BufferConfig, or say .emit_early_when_full(); no exception handler is asked about it",
                    e.waits, e.what, e.may
                )
            }
            Error::User(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Log(e) => Some(e.as_ref()),
            Error::Undecodable(e) => Some(&e.source),
            Error::Unencodable(e) => Some(&e.source),
            Error::Processing(e) | Error::Production(e) => Some(e.source.as_ref()),
            Error::User(e) => Some(e.as_ref().as_ref()),
            _ => None,
        }
    }
}
