//! Queries on key-value stores: a key, a range of keys, keys with a prefix.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use millstream_core::{Data, QueryError, QueryStores, Result, StoreQuery};

use crate::keys::Keys;
use crate::queries::answer::{QueryRows, StoreRows, ValueAndTimestamp, rows, value_of};
use crate::queries::request::{Query, Types};

const KEY_VALUE: &[&str] = &["key-value"];

/// The row of one key in a key-value store.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, KeyQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().count("counts");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// input.pipe_at(60_000, "a", 5);
/// let row = t.query(in_store("counts", KeyQuery::<String, i64>::with_key("a".to_owned())))?.value();
/// assert_eq!(row.map(|row| (row.value, row.timestamp)), Some((1, 60_000)));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KeyQuery<K, V> {
    key: K,
    types: Types<K, V>,
}

impl<K: Data, V: Data> KeyQuery<K, V> {
    /// The row of this key.
    pub fn with_key(key: K) -> Self {
        KeyQuery { key, types: PhantomData }
    }
}

impl<K: Data, V: Data> Query for KeyQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = Option<ValueAndTimestamp<V>>;
    const KINDS: &'static [&'static str] = KEY_VALUE;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        Ok(StoreQuery::key(Keys::new(store).encode(&self.key)?.clone()))
    }

    fn answer<S: QueryStores>(mut rows: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        let serde = V::Serde::default();
        rows.next(|store, row| value_of(&serde, store, &row))
    }
}

/// The rows of a range of keys in a key-value store, in the order of their serialised bytes.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, RangeQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().count("counts");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// ["a", "b", "c"].into_iter().for_each(|key| input.pipe(key, 5));
/// let from_b = RangeQuery::<String, i64>::with_range("b".to_owned()..).descending();
/// let keys: Result<Vec<_>, _> = t.query(in_store("counts", from_b))?.rows().map(|row| row.map(|(key, _)| key)).collect();
/// assert_eq!(keys?, ["c", "b"]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RangeQuery<K, V> {
    keys: (Bound<K>, Bound<K>),
    descending: bool,
    types: Types<K, V>,
}

impl<K: Data, V: Data> RangeQuery<K, V> {
    /// The rows of these keys; `..` is all.
    pub fn with_range(keys: impl RangeBounds<K>) -> Self {
        let keys = (keys.start_bound().cloned(), keys.end_bound().cloned());
        RangeQuery { keys, descending: false, types: PhantomData }
    }

    /// The last key first.
    #[must_use]
    pub fn descending(self) -> Self {
        RangeQuery { descending: true, ..self }
    }
}

impl<K: Data, V: Data> Query for RangeQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = QueryRows<S, (K, ValueAndTimestamp<V>)>;
    const KINDS: &'static [&'static str] = KEY_VALUE;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        let keys = Keys::new(store).range(self.keys.clone())?;
        Ok(StoreQuery { descending: self.descending, ..StoreQuery::range(keys) })
    }

    fn answer<S: QueryStores>(found: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        Ok(rows::<S, K, V, _, _>(found, |key| Some((key, ())), |key, (), value| (key, value)))
    }
}

/// The rows of a key-value store whose serialised keys begin with a serialised prefix.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, PrefixQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().count("counts");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// ["de-1", "de-2", "fr-1"].into_iter().for_each(|key| input.pipe(key, 5));
/// let german = PrefixQuery::<String, String, i64>::with_prefix("de-".to_owned());
/// assert_eq!(t.query(in_store("counts", german))?.rows().count(), 2);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Clone)]
pub struct PrefixQuery<P, K, V> {
    prefix: P,
    types: Types<K, V>,
}

impl<P: fmt::Debug, K, V> fmt::Debug for PrefixQuery<P, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixQuery").field("prefix", &self.prefix).finish()
    }
}

impl<P: Data, K: Data, V: Data> PrefixQuery<P, K, V> {
    /// The rows of keys that begin with this.
    pub fn with_prefix(prefix: P) -> Self {
        PrefixQuery { prefix, types: PhantomData }
    }
}

impl<P: Data, K: Data, V: Data> Query for PrefixQuery<P, K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = QueryRows<S, (K, ValueAndTimestamp<V>)>;
    const KINDS: &'static [&'static str] = KEY_VALUE;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        Ok(StoreQuery::range(Keys::<P>::new(store).prefix(&self.prefix)?))
    }

    fn answer<S: QueryStores>(found: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        Ok(rows::<S, K, V, _, _>(found, |key| Some((key, ())), |key, (), value| (key, value)))
    }
}
