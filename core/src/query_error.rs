//! Why a query has no answer.

use std::fmt;

use crate::client_state::State;
use crate::error::Error;
use crate::position::Position;

/// Why a query has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum QueryError {
    /// The program has no store of this name.
    UnknownStore {
        /// What was asked for.
        store: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// The store is of another kind or has rows of other types.
    OtherStore {
        /// The store.
        store: String,
        /// What it is.
        is: String,
        /// What it was taken for.
        asked: String,
    },
    /// The store has no such partition.
    UnknownPartition {
        /// The store.
        store: String,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// The application does not run: not yet, or not any more.
    NotRunning(State),
    /// A thread of the application asks, or a listener of its state: what would answer waits for it.
    OwnThread,
    /// The store's thread is not processing: it is being restored. Trying again later helps.
    Restoring,
    /// The task has not come as far as the query wants. Trying again later helps.
    NotUpToBound {
        /// The store's partition.
        partition: i32,
        /// How far it has come.
        position: Position,
    },
    /// The query's bound is in a topic that the store's task does not read: it is never reached.
    UnknownTopic {
        /// The store.
        store: String,
        /// What the bound names.
        topic: String,
        /// What is read.
        reads: Vec<String>,
    },
    /// The thread has ended, or has failed before it could answer.
    Stopped,
    /// A key or a row could not be encoded, read or decoded.
    Failed(Error),
}

impl QueryError {
    /// Whether trying again later may help without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            QueryError::Restoring | QueryError::NotUpToBound { .. } => true,
            QueryError::NotRunning(state) => *state == State::Created,
            QueryError::Failed(error) => error.is_retriable(),
            _ => false,
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::UnknownStore { store, nearest } => {
                write!(f, "the program has no store `{store}`")?;
                nearest.as_ref().map_or(Ok(()), |nearest| write!(f, "\n  help: there is `{nearest}`"))
            }
            QueryError::OtherStore { store, is, asked } => write!(f, "`{store}` is {is}, asked as {asked}"),
            QueryError::UnknownPartition { store, partition, partitions } => {
                write!(f, "`{store}` has no partition {partition}: there are {partitions}")
            }
            QueryError::NotRunning(State::Created) => {
                write!(f, "the application is not started\n  help: call start() before")
            }
            QueryError::NotRunning(state) => write!(f, "the application is {state:?}"),
            QueryError::OwnThread => write!(
                f,
                "a thread of the application asks, and would wait for itself\n  help: ask from another thread; a processor reads the stores that it is connected to"
            ),
            QueryError::Restoring => {
                write!(f, "the store is being restored\n  help: ask again, or let the query wait")
            }
            QueryError::NotUpToBound { partition, position } => write!(
                f,
                "partition {partition} has come to {position} and not to the query's bound\n  help: ask again, or let the query wait"
            ),
            QueryError::UnknownTopic { store, topic, reads } => write!(
                f,
                "the query's bound is in `{topic}`, and the task of `{store}` does not read it\n  help: it reads {}",
                reads.join(", ")
            ),
            QueryError::Stopped => write!(f, "the store's thread has ended"),
            QueryError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for QueryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            QueryError::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        QueryError::Failed(error)
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Failed(error) => error,
            other => Error::user(other),
        }
    }
}
