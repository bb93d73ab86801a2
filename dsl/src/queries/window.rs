//! Queries on window stores: the windows of a key, or of a range of keys, by the times at which they start.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::Arc;

use millstream_core::{Data, QueryError, QueryStores, Result, StoreQuery, Timestamp};
use millstream_state::{Place, WindowStart};

use crate::keys::Keys;
use crate::queries::answer::{QueryRows, StoreRows, ValueAndTimestamp, rows};
use crate::queries::request::{Query, Types};

const WINDOW: &[&str] = &["window", "sliding-window", "unlimited-window"];

/// The windows of a key that start within a range of times, each by its start. A store keeps windows for their size and grace:
/// a longer grace keeps closed ones longer.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, WindowKeyQuery, in_store};
/// # let b = StreamsBuilder::new();
/// let minutes = TimeWindows::of(MIN).grace(5 * MIN);
/// b.stream::<String, i64>("in").group_by_key().windowed_by(minutes).count("per-minute");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// [0, 30_000, 60_000].into_iter().for_each(|time| input.pipe_at(time, "a", 5));
/// let windows = WindowKeyQuery::<String, i64>::with_key("a".to_owned(), 0..=60_000);
/// let rows: Result<Vec<_>, _> = t.query(in_store("per-minute", windows.clone()))?.rows().collect();
/// assert_eq!(rows?.iter().map(|(start, n)| (*start, n.value)).collect::<Vec<_>>(), [(0, 2), (60_000, 1)]);
/// let newest = t.query(in_store("per-minute", windows.descending()))?.rows().next().transpose()?;
/// assert_eq!(newest.map(|(start, n)| (start, n.value)), Some((60_000, 1)));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WindowKeyQuery<K, V> {
    key: K,
    starts: RangeInclusive<Timestamp>,
    descending: bool,
    types: Types<K, V>,
}

impl<K: Data, V: Data> WindowKeyQuery<K, V> {
    /// The windows of this key that start at these times.
    pub fn with_key(key: K, starts: RangeInclusive<Timestamp>) -> Self {
        WindowKeyQuery { key, starts, descending: false, types: PhantomData }
    }

    /// The newest first.
    #[must_use]
    pub fn descending(self) -> Self {
        WindowKeyQuery { descending: true, ..self }
    }
}

impl<K: Data, V: Data> Query for WindowKeyQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = QueryRows<S, (Timestamp, ValueAndTimestamp<V>)>;
    const KINDS: &'static [&'static str] = WINDOW;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        let key = StoreQuery::key(Keys::new(store).encode(&self.key)?.clone());
        Ok(StoreQuery { times: self.starts.clone(), descending: self.descending, ..key })
    }

    fn answer<S: QueryStores>(found: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        Ok(rows::<S, K, V, _, _>(found, WindowStart::decode, |_, place, value| (place.0, value)))
    }
}

/// The windows of a range of keys that start within a range of times: key, start, value, in the order of serialised keys, then
/// starts.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, WindowRangeQuery, in_store};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN)).count("per-minute");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// [(0, "a"), (60_000, "b"), (60_001, "a")].into_iter().for_each(|(time, key)| input.pipe_at(time, key, 5));
/// let second = WindowRangeQuery::<String, i64>::with_window_start_range(60_000..=60_000);
/// let of_b = second.clone().with_keys("b".to_owned()..);
/// let rows: Result<Vec<_>, _> = t.query(in_store("per-minute", of_b))?.rows().collect();
/// assert_eq!(rows?.iter().map(|(key, start, n)| (key.as_str(), *start, n.value)).collect::<Vec<_>>(), [("b", 60_000, 1)]);
/// let last = t.query(in_store("per-minute", second.descending()))?.rows().next().transpose()?;
/// assert_eq!(last.map(|(key, ..)| key), Some("b".to_owned()));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WindowRangeQuery<K, V> {
    keys: (Bound<K>, Bound<K>),
    starts: RangeInclusive<Timestamp>,
    descending: bool,
    types: Types<K, V>,
}

impl<K: Data, V: Data> WindowRangeQuery<K, V> {
    /// The windows of all keys that start at these times.
    pub fn with_window_start_range(starts: RangeInclusive<Timestamp>) -> Self {
        let keys = (Bound::Unbounded, Bound::Unbounded);
        WindowRangeQuery { keys, starts, descending: false, types: PhantomData }
    }

    /// Of these keys alone.
    #[must_use]
    pub fn with_keys(self, keys: impl RangeBounds<K>) -> Self {
        WindowRangeQuery { keys: (keys.start_bound().cloned(), keys.end_bound().cloned()), ..self }
    }

    /// The last key first, and its newest window.
    #[must_use]
    pub fn descending(self) -> Self {
        WindowRangeQuery { descending: true, ..self }
    }
}

impl<K: Data, V: Data> Query for WindowRangeQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = QueryRows<S, (K, Timestamp, ValueAndTimestamp<V>)>;
    const KINDS: &'static [&'static str] = WINDOW;

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        let keys = StoreQuery::range(Keys::new(store).range(self.keys.clone())?);
        Ok(StoreQuery { times: self.starts.clone(), descending: self.descending, ..keys })
    }

    fn answer<S: QueryStores>(found: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        Ok(rows::<S, K, V, _, _>(found, WindowStart::decode, |key, place, value| (key, place.0, value)))
    }
}
