//! What comes back: per partition an answer and the position up to which it stands; rows that are fetched as they are read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Ask, Data, Error, Half, Headers, Position, QueryError, QueryStores, Records, Result, Serde, SerdeContext,
    StateError, Timestamp,
};

use crate::keys::Keys;

/// The answers of the partitions that were asked.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, KeyQuery, RangeQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.topic("in", 2);
/// b.stream::<String, i64>("in").group_by_key().count("counts");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// ["a", "b", "a"].into_iter().for_each(|key| input.pipe(key, 5));
/// // A key is in one partition: `value` is what that says.
/// let found = t.query(in_store("counts", KeyQuery::<String, i64>::with_key("a".to_owned())))?;
/// assert_eq!(found.value().map(|row| row.value), Some(2));
/// // `rows` are all partitions' rows, one partition after the other.
/// let all = t.query(in_store("counts", RangeQuery::<String, i64>::with_range(..)))?;
/// assert_eq!(all.rows().count(), 2);
/// // Or each for itself, with how far it had come.
/// let all = t.query(in_store("counts", RangeQuery::<String, i64>::with_range(..)))?;
/// assert_eq!(all.position().iter().map(|(_, offset)| offset).sum::<i64>(), 3);
/// for result in all.into_partitions() {
///     let offset = result.position.get("in", result.partition);
///     assert_eq!(offset.is_some_and(|offset| offset > 0), result.answer.count() > 0);
/// }
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug)]
pub struct StateQueryResult<A> {
    pub(crate) partitions: Vec<QueryResult<A>>,
}

/// What one partition has answered.
#[derive(Debug)]
pub struct QueryResult<A> {
    /// The partition of the store.
    pub partition: i32,
    /// Up to where in its input the answer stands; of several parts, the first: the others are no older.
    pub position: Position,
    /// The answer.
    pub answer: A,
}

impl<A> StateQueryResult<A> {
    /// Up to where the answers stand, all together: as a bound it says "no older than this".
    pub fn position(&self) -> Position {
        let mut position = Position::new();
        self.partitions.iter().for_each(|result| position.merge(&result.position));
        position
    }

    /// Every partition's answer, in the order of their numbers.
    pub fn into_partitions(self) -> Vec<QueryResult<A>> {
        self.partitions
    }
}

impl<T> StateQueryResult<Option<T>> {
    /// What the first partition that has something says.
    pub fn value(self) -> Option<T> {
        self.partitions.into_iter().find_map(|result| result.answer)
    }
}

impl<S: QueryStores, T> StateQueryResult<QueryRows<S, T>> {
    /// The rows of all partitions, one partition after the other.
    pub fn rows(self) -> impl Iterator<Item = Result<T, QueryError>> {
        self.partitions.into_iter().flat_map(|result| result.answer)
    }
}

/// A value and the time of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueAndTimestamp<V> {
    /// The value.
    pub value: V,
    /// Event time of the row.
    pub timestamp: Timestamp,
}

/// Reads a row of a store.
type Decode<T> = Box<dyn Fn(&str, Row<'_>) -> Result<T>>;

/// The rows of a partition. They are fetched as they are read, a part at a time.
pub struct QueryRows<S, T> {
    rows: StoreRows<S>,
    decode: Decode<T>,
}

impl<S: QueryStores, T> QueryRows<S, T> {
    pub(crate) fn new(rows: StoreRows<S>, decode: impl Fn(&str, Row<'_>) -> Result<T> + 'static) -> Self {
        QueryRows { rows, decode: Box::new(decode) }
    }
}

impl<S: QueryStores, T> Iterator for QueryRows<S, T> {
    type Item = Result<T, QueryError>;

    /// An error is the last item.
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|store, row| (self.decode)(store, row)).transpose()
    }
}

/// A row as the store gave it.
pub(crate) type Row<'a> = millstream_core::RecordView<'a>;

/// The rows of a partition, not decoded.
pub struct StoreRows<S> {
    stores: S,
    store: Arc<str>,
    ask: Ask,
    /// How long each part is waited for.
    wait: Duration,
    part: VecDeque<Records>,
    /// The query is not at its end: `ask` has the rest.
    more: bool,
}

impl<S: QueryStores> StoreRows<S> {
    /// Asks for the first rows.
    pub(crate) fn begin(stores: S, store: &Arc<str>, ask: Ask, wait: Duration) -> Result<(Self, Position), QueryError> {
        let mut rows = StoreRows { stores, store: store.clone(), ask, wait, part: VecDeque::new(), more: true };
        let position = rows.fetch()?;
        if rows.more {
            // What comes after a rollback may be older.
            rows.ask.bound = position.clone();
        }
        Ok((rows, position))
    }

    fn fetch(&mut self) -> Result<Position, QueryError> {
        self.more = false;
        let part = self.stores.ask(self.ask.clone(), self.wait)?;
        self.part.extend(part.rows);
        if let Some(rest) = part.rest {
            (self.ask.query, self.more) = (rest, true);
        }
        Ok(part.position)
    }

    /// The next row, as `decode` says.
    pub(crate) fn next<T>(&mut self, decode: impl Fn(&str, Row<'_>) -> Result<T>) -> Result<Option<T>, QueryError> {
        loop {
            while let Some(batch) = self.part.front_mut() {
                match batch.next() {
                    Some(Ok(row)) => {
                        let decoded = decode(&self.store, row);
                        if decoded.is_err() {
                            self.end();
                        }
                        return Ok(Some(decoded?));
                    }
                    Some(Err(error)) => {
                        let problem = error.to_string();
                        self.end();
                        return Err(unreadable(&self.store, problem).into());
                    }
                    None => drop(self.part.pop_front()),
                }
            }
            if !self.more {
                return Ok(None);
            }
            self.fetch()?;
        }
    }

    /// The store's name.
    pub(crate) fn store(&self) -> &Arc<str> {
        &self.store
    }

    fn end(&mut self) {
        self.part.clear();
        self.more = false;
    }
}

fn unreadable(store: &str, problem: String) -> Error {
    Error::State(Box::new(StateError { store: store.to_owned(), problem }))
}

/// The value of a row and its time.
pub(crate) fn value_of<V: Data>(serde: &V::Serde, store: &str, row: &Row<'_>) -> Result<ValueAndTimestamp<V>> {
    let cx = SerdeContext { topic: store, half: Half::Value };
    let value = serde.deserialize(row.value, cx, &Headers::from_section(row.headers));
    let value = value.map_err(|error| unreadable(store, format!("a value cannot be read back: {error}")))?;
    Ok(ValueAndTimestamp { value, timestamp: row.timestamp })
}

/// The bytes of a row's key in the changelog.
pub(crate) fn key_of<'a>(row: &Row<'a>) -> &'a [u8] {
    row.key.map_or(&[], |key| key.as_slice())
}

/// Rows of typed keys and values: `place` splits the key in the changelog into the key and what `T` is made with.
pub(crate) fn rows<S: QueryStores, K: Data, V: Data, P: 'static, T: 'static>(
    rows: StoreRows<S>,
    place: impl Fn(&[u8]) -> Option<(&[u8], P)> + 'static,
    row: impl Fn(K, P, ValueAndTimestamp<V>) -> T + 'static,
) -> QueryRows<S, T> {
    let (keys, serde) = (Keys::<K>::new(rows.store()), V::Serde::default());
    QueryRows::new(rows, move |store, found| {
        let split = place(key_of(&found));
        let (key, place) = split.ok_or_else(|| unreadable(store, "a key is too short".to_owned()))?;
        Ok(row(keys.decode(key)?, place, value_of::<V>(&serde, store, &found)?))
    })
}
