//! What a store is asked from outside, as bytes: interactive queries, part by part (DESIGN 3.13).
//!
//! ```text
//!   caller: Ask { query } ─► the task's thread, between polls ─► Part { rows, what is left of the query } ─► caller, who asks on
//! ```
//!
//! The cursor lies with the caller: a thread keeps nothing of a query that it has answered, however large the rest is, and
//! a caller that goes away costs nothing. Types and serdes are the DSL's, which is what a program calls.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeInclusive};

use millstream_wire::Records;

use crate::client_state::State;
use crate::error::Error;
use crate::log::{Isolation, Offset, TopicPartition};
use crate::thread::ThreadContext;
use crate::time::Timestamp;
use crate::topology::StoreId;

/// Which rows of a store are asked for. Every kind of store takes from it what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreQuery {
    /// The keys, without the place in time that windows and sessions have.
    pub keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Windows that start at one of these times, sessions and versions that are valid at one of them.
    pub times: RangeInclusive<Timestamp>,
    /// The last one first.
    pub descending: bool,
    /// The key in the changelog of the last row that was given.
    pub after: Option<Vec<u8>>,
}

/// A range of key bytes.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Whether no key can be in a range, since it ends before it begins; maps panic at such a one.
pub fn is_empty_range(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

impl StoreQuery {
    /// The rows of one key.
    pub fn key(key: Vec<u8>) -> Self {
        Self::range((Bound::Included(key.clone()), Bound::Included(key)))
    }

    /// The rows of a range of keys.
    pub fn range(keys: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Self {
        StoreQuery { keys, times: Timestamp::MIN..=Timestamp::MAX, descending: false, after: None }
    }

    /// The key, if it asks for one alone.
    pub fn single_key(&self) -> Option<&[u8]> {
        match &self.keys {
            (Bound::Included(from), Bound::Included(to)) if from == to => Some(from),
            _ => None,
        }
    }

    /// The keys that are left when rows of this one have been given; `None` if there are none. `again`: the key itself has
    /// more rows.
    pub fn keys_left<'a>(&'a self, given: Option<&'a [u8]>, again: bool) -> Option<KeyRange<'a>> {
        let (mut from, mut to) = (self.keys.0.as_ref().map(Vec::as_slice), self.keys.1.as_ref().map(Vec::as_slice));
        if let Some(given) = given {
            let bound = if again { Bound::Included(given) } else { Bound::Excluded(given) };
            *if self.descending { &mut to } else { &mut from } = bound;
        }
        (!is_empty_range((from, to))).then_some((from, to))
    }

    /// What is left when the row with this key in the changelog has been given.
    #[must_use]
    pub fn after(&self, changelog_key: &[u8]) -> Self {
        StoreQuery { after: Some(changelog_key.to_vec()), ..self.clone() }
    }
}

/// Up to where in its input an answer stands: per partition the offset of the first record that is not in it.
///
/// ```
/// use millstream_core::Position;
/// let position = Position::new().with("orders", 0, 7).with("orders", 1, 3);
/// assert_eq!(position.get("orders", 1), Some(3));
/// assert_eq!(position.to_string(), "orders-0@7 orders-1@3");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position(BTreeMap<TopicPartition, Offset>);

impl Position {
    /// Of no partition.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a partition up to an offset, exclusive.
    #[must_use]
    pub fn with(mut self, topic: &str, partition: i32, offset: Offset) -> Self {
        self.0.insert(TopicPartition::new(topic, partition), offset);
        self
    }

    /// The offset of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.0.get(&TopicPartition::new(topic, partition)).copied()
    }

    /// Partitions with their offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.0.iter().map(|(partition, offset)| (partition, *offset))
    }

    /// Goes to where another one is, in the partitions where that is further.
    pub fn merge(&mut self, other: &Position) {
        for (partition, offset) in other.iter() {
            let mine = self.0.entry(partition.clone()).or_insert(offset);
            *mine = offset.max(*mine);
        }
    }

    /// Whether it is at a bound, in the partitions that both have: a task is not asked for what it does not read.
    pub(crate) fn has_reached(&self, bound: &Position) -> bool {
        bound.iter().all(|(partition, offset)| self.0.get(partition).is_none_or(|reached| *reached >= offset))
    }
}

impl FromIterator<(TopicPartition, Offset)> for Position {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, Offset)>>(offsets: I) -> Self {
        Position(offsets.into_iter().collect())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (partition, offset)) in self.iter().enumerate() {
            write!(f, "{}{partition}@{offset}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// What a task is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The store.
    pub store: StoreId,
    /// The store's partition.
    pub partition: i32,
    /// Its rows.
    pub query: StoreQuery,
    /// Whether rows show that no commit has made permanent yet.
    pub isolation: Isolation,
    /// How far the task must have come.
    pub bound: Position,
}

/// A part of an answer.
#[derive(Debug)]
pub struct Part {
    /// Rows, as the store's changelog has them. There may be none although more is left.
    pub rows: Vec<Records>,
    /// What is left to ask.
    pub rest: Option<StoreQuery>,
    /// How far the task had come.
    pub position: Position,
}

/// Something that has the stores of an application and answers for them.
pub trait QueryStores: Clone {
    /// The program and its tasks.
    fn context(&self) -> Cow<'_, ThreadContext>;

    /// Asks a task, and waits for its answer. A task that is not at the bound yet, or is being restored, is waited for so long.
    ///
    /// # Errors
    /// [`QueryError`], for whatever stands in the way.
    fn ask(&self, ask: Ask, wait: std::time::Duration) -> Result<Part, QueryError>;
}

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
    /// The store's thread is not processing: it is being restored. Trying again later helps.
    Restoring,
    /// The task has not come as far as the query wants. Trying again later helps.
    NotUpToBound {
        /// The store's partition.
        partition: i32,
        /// How far it has come.
        position: Position,
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
            QueryError::Restoring => {
                write!(f, "the store is being restored\n  help: ask again, or let the query wait")
            }
            QueryError::NotUpToBound { partition, position } => write!(
                f,
                "partition {partition} has come to {position} and not to the query's bound\n  help: ask again, or let the query wait"
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
