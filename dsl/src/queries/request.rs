//! What is asked: a query on a store, of which partitions, how fresh, how final.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Ask, Data, Isolation, Position, ProcessingGuarantee, QueryError, QueryStores, Result, Serde, StoreFormat, StoreId,
    StoreQuery, Streams, ThreadContext, nearest_word, partition_for_key,
};

use crate::queries::answer::{QueryResult, StateQueryResult, StoreRows};
use crate::test_driver::{DriverStores, TopologyTestDriver};

/// A question to a store. Implemented by the queries of this crate; nobody else needs to.
pub trait Query {
    /// Key of the store's rows.
    type Key: Data;
    /// Value of the store's rows.
    type Value: Data;
    /// What a partition answers.
    type Answer<S: QueryStores>;
    /// Of which kinds of stores it can be asked.
    #[doc(hidden)]
    const KINDS: &'static [&'static str];
    /// It in bytes.
    #[doc(hidden)]
    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery>;
    /// What the rows say.
    #[doc(hidden)]
    fn answer<S: QueryStores>(rows: StoreRows<S>) -> Result<Self::Answer<S>, QueryError>;
}

/// A query on a store, with what it wants of the answer.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, KeyQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// use millstream_dsl::core::{Isolation, Position};
/// # use std::time::Duration;
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().count("counts");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// input.pipe("a", 5);
/// let request = in_store("counts", KeyQuery::<String, i64>::with_key("a".to_owned()))
///     .with_partitions([0]) // all, if it does not say
///     .with_isolation(Isolation::ReadCommitted)
///     .with_position_bound(Position::new().with("in", 0, 1)) // the first record must be in the answer,
///     .waiting(Duration::from_millis(100)); // which is waited for so long
/// let found = t.query(request)?;
/// assert_eq!(found.position().get("in", 0), Some(1));
/// assert_eq!(found.value().map(|row| row.value), Some(1));
/// // Or only where the partitioner of Kafka's clients places the key.
/// let request = in_store("counts", KeyQuery::<String, i64>::with_key("a".to_owned())).with_key_partition();
/// assert_eq!(t.query(request)?.value().map(|row| row.value), Some(1));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StateQueryRequest<Q> {
    store: String,
    query: Q,
    partitions: Option<BTreeSet<i32>>,
    key_partition: bool,
    isolation: Option<Isolation>,
    bound: Position,
    wait: Duration,
}

/// A query on the store of this name, of all its partitions.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, KeyQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().count("counts");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// input.pipe("a", 5);
/// let found = t.query(in_store("counts", KeyQuery::<String, i64>::with_key("a".to_owned())))?;
/// assert_eq!(found.value().map(|row| row.value), Some(1));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub fn in_store<Q: Query>(store: &str, query: Q) -> StateQueryRequest<Q> {
    StateQueryRequest {
        store: store.to_owned(),
        query,
        partitions: None,
        key_partition: false,
        isolation: None,
        bound: Position::new(),
        wait: Duration::ZERO,
    }
}

impl<Q: Query> StateQueryRequest<Q> {
    /// Asks these partitions of the store alone.
    #[must_use]
    pub fn with_partitions(self, partitions: impl IntoIterator<Item = i32>) -> Self {
        StateQueryRequest { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// Asks only the partition that Kafka's default partitioner places the query's key in: right where the store's input was
    /// placed by it. A query without a key asks all.
    #[must_use]
    pub fn with_key_partition(self) -> Self {
        StateQueryRequest { key_partition: true, ..self }
    }

    /// `ReadCommitted`: only what a commit has made permanent. `ReadUncommitted`: rows as they are, which an abort may take
    /// back. If it does not say, the first under exactly-once processing, else the second.
    #[must_use]
    pub fn with_isolation(self, isolation: Isolation) -> Self {
        StateQueryRequest { isolation: Some(isolation), ..self }
    }

    /// The answer must have come as far as this in the store's input; else it is [`QueryError::NotUpToBound`]. The position of an
    /// earlier answer reads no older rows than that one; the offset behind a record that was written reads what comes of it.
    /// What it says of other partitions than the store's is left aside, but a global store has all; a topic that the store's task does
    /// not read is never reached.
    #[must_use]
    pub fn with_position_bound(self, bound: Position) -> Self {
        StateQueryRequest { bound, ..self }
    }

    /// Waits so long for a store that is being restored, or has not come to the bound; for each part of an answer anew. What the
    /// store's thread is doing just then is waited for besides, however long it takes: two applications of one process whose closures ask
    /// each other wait for ever.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        StateQueryRequest { wait, ..self }
    }
}

/// What has stores that can be asked: [`Streams`], [`TopologyTestDriver`], and [`millstream_core::Queries`] for other threads.
///
/// ```no_run
/// use millstream_dsl::core::{QueryError, Streams};
/// use millstream_dsl::{InteractiveQueries, KeyQuery, RangeQuery, in_store};
///
/// fn report(streams: &Streams) -> Result<(), QueryError> {
///     let hats = streams.query(in_store("counts", KeyQuery::<String, i64>::with_key("hat".to_owned())))?;
///     println!("hats: {}", hats.value().map_or(0, |row| row.value));
///     for row in streams.query(in_store("counts", RangeQuery::<String, i64>::with_range(..)))?.rows() {
///         let (word, n) = row?;
///         println!("{word}: {} at {}", n.value, n.timestamp);
///     }
///     Ok(())
/// }
/// ```
pub trait InteractiveQueries {
    /// What carries queries to the stores.
    type Stores: QueryStores;

    /// What carries queries to the stores.
    #[doc(hidden)]
    fn stores(&self) -> Self::Stores;

    /// Asks a store, from any thread but the application's own: not in a processor, a closure of the program, or a listener.
    ///
    /// A thread answers between two polls, for at most a millisecond or 1,000 rows; of longer answers the rest is asked for as it
    /// is read. Rows are then as they were at their part: not all of one moment.
    ///
    /// # Errors
    /// [`QueryError`]: the store's name or types, the application's state, the bound, the thread that asks.
    fn query<Q: Query>(
        &self,
        request: StateQueryRequest<Q>,
    ) -> Result<StateQueryResult<Q::Answer<Self::Stores>>, QueryError> {
        ask(&self.stores(), request)
    }
}

impl InteractiveQueries for Streams {
    type Stores = millstream_core::Queries;

    fn stores(&self) -> Self::Stores {
        self.queries()
    }
}

impl InteractiveQueries for millstream_core::Queries {
    type Stores = Self;

    fn stores(&self) -> Self {
        self.clone()
    }
}

impl InteractiveQueries for TopologyTestDriver {
    type Stores = DriverStores;

    fn stores(&self) -> DriverStores {
        DriverStores::of(self)
    }
}

fn ask<S: QueryStores, Q: Query>(
    stores: &S,
    request: StateQueryRequest<Q>,
) -> Result<StateQueryResult<Q::Answer<S>>, QueryError> {
    let context = stores.context();
    let store = find::<Q>(&context, &request.store)?;
    let name: Arc<str> = request.store.as_str().into();
    let query = request.query.encode(&name)?;
    let partitions = partitions(&context, store, &request, &query)?;
    let isolation = request.isolation.unwrap_or(match context.config.guarantee {
        ProcessingGuarantee::ExactlyOnceV2 => Isolation::ReadCommitted,
        ProcessingGuarantee::AtLeastOnce => Isolation::ReadUncommitted,
    });
    let mut results = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let ask = Ask { store, partition, query: query.clone(), isolation, bound: request.bound.clone() };
        let (rows, position) = StoreRows::begin(stores.clone(), &name, ask, request.wait)?;
        results.push(QueryResult { partition, position, answer: Q::answer(rows)? });
    }
    Ok(StateQueryResult { partitions: results })
}

/// The store, if the query fits it.
fn find<Q: Query>(context: &ThreadContext, name: &str) -> Result<StoreId, QueryError> {
    let stores = context.topology.stores();
    let Some(index) = stores.iter().position(|store| store.name == name) else {
        let askable = stores.iter().filter(|store| ASKABLE.contains(&store.format.kind));
        let nearest = nearest_word(name, askable.map(|store| store.name.as_str())).map(str::to_owned);
        return Err(QueryError::UnknownStore { store: name.to_owned(), nearest });
    };
    let is = &stores[index].format;
    let kind = Q::KINDS.iter().find(|kind| **kind == is.kind).or(Q::KINDS.first()).copied().unwrap_or_default();
    let asked = StoreFormat::of::<<Q::Key as Data>::Serde, <Q::Value as Data>::Serde>(kind);
    if (is.kind, &is.key, &is.value) == (asked.kind, &asked.key, &asked.value) {
        return Ok(StoreId(index));
    }
    let text = |format: &StoreFormat| format!("a {} store of {} and {}", format.kind, format.key, format.value);
    Err(QueryError::OtherStore { store: name.to_owned(), is: text(is), asked: text(&asked) })
}

/// The kinds of stores that some query asks.
const ASKABLE: &[&str] = &["key-value", "window", "sliding-window", "unlimited-window", "session", "versioned"];

fn partitions<Q: Query>(
    context: &ThreadContext,
    store: StoreId,
    request: &StateQueryRequest<Q>,
    query: &StoreQuery,
) -> Result<Vec<i32>, QueryError> {
    let there = context.plan.store_partitions(store);
    if let Some(asked) = &request.partitions {
        return match asked.iter().find(|partition| !there.contains(partition)) {
            Some(unknown) => Err(QueryError::UnknownPartition {
                store: request.store.clone(),
                partition: *unknown,
                partitions: there.len(),
            }),
            None => Ok(asked.iter().copied().collect()),
        };
    }
    match query.single_key().filter(|_| request.key_partition) {
        Some(key) => {
            let serde = <Q::Key as Data>::Serde::default();
            Ok(vec![partition_for_key(serde.partition_bytes(key), there.len() as i32)])
        }
        None => Ok(there),
    }
}

/// Types of a query without values of them.
pub(crate) type Types<K, V> = PhantomData<fn() -> (K, V)>;
