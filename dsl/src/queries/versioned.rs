//! Queries on versioned stores: what a key was at a time, and within a range of times (KIP-960, KIP-968).

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_core::{Data, QueryError, QueryStores, Result, StoreQuery, Timestamp};
use millstream_state::Version;

use crate::keys::Keys;
use crate::queries::answer::{QueryRows, Row, StoreRows, key_of, value_of};
use crate::queries::request::{Query, Types};

const VERSIONED: &[&str] = &["versioned"];

/// The latest value of a key, or what was valid at a time. Before the history there is none, but the latest one if it is that
/// old.
///
/// ```
/// # use millstream_dsl::{HOUR, InteractiveQueries, StreamsBuilder, TopologyTestDriver, VersionedKeyQuery, in_store};
/// # let b = StreamsBuilder::new();
/// b.versioned_table::<String, i64>("in", "prices", HOUR);
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// [(10, 5), (20, 7)].into_iter().for_each(|(time, price)| input.pipe_at(time, "hat", price));
/// let hat = VersionedKeyQuery::<String, i64>::with_key("hat".to_owned());
/// assert_eq!(t.query(in_store("prices", hat.clone()))?.value().map(|row| row.value), Some(7));
/// let before = t.query(in_store("prices", hat.as_of(19)))?.value();
/// assert_eq!(before.map(|row| (row.value, row.timestamp, row.valid_to)), Some((5, 10, Some(20))));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct VersionedKeyQuery<K, V> {
    key: K,
    as_of: Timestamp,
    types: Types<K, V>,
}

impl<K: Data, V: Data> VersionedKeyQuery<K, V> {
    /// The latest value of this key.
    pub fn with_key(key: K) -> Self {
        VersionedKeyQuery { key, as_of: Timestamp::MAX, types: PhantomData }
    }

    /// What was valid at this time instead.
    #[must_use]
    pub fn as_of(self, time: Timestamp) -> Self {
        VersionedKeyQuery { as_of: time, ..self }
    }
}

impl<K: Data, V: Data> Query for VersionedKeyQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = Option<Version<V>>;
    const KINDS: &'static [&'static str] = VERSIONED;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        let key = StoreQuery::key(Keys::new(store).encode(&self.key)?.clone());
        Ok(StoreQuery { times: self.as_of..=self.as_of, ..key })
    }

    fn answer<S: QueryStores>(mut rows: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        let serde = V::Serde::default();
        rows.next(|store, row| version_of(&serde, store, &row))
    }
}

/// The values of a key that were valid at some time within a range, in the order of time.
///
/// ```
/// # use millstream_dsl::{HOUR, InteractiveQueries, MultiVersionedKeyQuery, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.versioned_table::<String, i64>("in", "prices", HOUR);
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// [(10, 5), (20, 7), (30, 8)].into_iter().for_each(|(time, price)| input.pipe_at(time, "hat", price));
/// let until_20 = MultiVersionedKeyQuery::<String, i64>::with_key("hat".to_owned()).with_times(15..=20).descending();
/// let rows: Result<Vec<_>, _> = t.query(in_store("prices", until_20))?.rows().collect();
/// assert_eq!(rows?.iter().map(|row| row.value).collect::<Vec<_>>(), [7, 5]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MultiVersionedKeyQuery<K, V> {
    key: K,
    times: RangeInclusive<Timestamp>,
    descending: bool,
    types: Types<K, V>,
}

impl<K: Data, V: Data> MultiVersionedKeyQuery<K, V> {
    /// All values of this key within the history.
    pub fn with_key(key: K) -> Self {
        let times = Timestamp::MIN..=Timestamp::MAX;
        MultiVersionedKeyQuery { key, times, descending: false, types: PhantomData }
    }

    /// Only those that were valid at one of these times.
    #[must_use]
    pub fn with_times(self, times: RangeInclusive<Timestamp>) -> Self {
        MultiVersionedKeyQuery { times, ..self }
    }

    /// The latest first.
    #[must_use]
    pub fn descending(self) -> Self {
        MultiVersionedKeyQuery { descending: true, ..self }
    }
}

impl<K: Data, V: Data> Query for MultiVersionedKeyQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = QueryRows<S, Version<V>>;
    const KINDS: &'static [&'static str] = VERSIONED;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        let key = StoreQuery::key(Keys::new(store).encode(&self.key)?.clone());
        Ok(StoreQuery { times: self.times.clone(), descending: self.descending, ..key })
    }

    fn answer<S: QueryStores>(found: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        let serde = V::Serde::default();
        Ok(QueryRows::new(found, move |store, row| version_of(&serde, store, &row)))
    }
}

/// The version in a row: its key is the time up to which it is valid.
fn version_of<V: Data>(serde: &V::Serde, store: &str, row: &Row<'_>) -> Result<Version<V>> {
    let valid_to = key_of(row).first_chunk().copied().map(Timestamp::from_be_bytes);
    let value = value_of(serde, store, row)?;
    Ok(Version {
        value: value.value,
        timestamp: value.timestamp,
        valid_to: valid_to.filter(|to| *to != Timestamp::MAX),
    })
}
