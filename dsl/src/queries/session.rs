//! Queries on session stores: the sessions of a key, or of a range of keys.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::Arc;

use millstream_core::{Data, QueryError, QueryStores, Result, StoreQuery, Timestamp};
use millstream_state::{Place, SessionBounds};

use crate::keys::Keys;
use crate::queries::answer::{QueryRows, StoreRows, ValueAndTimestamp, rows};
use crate::queries::request::{Query, Types};
use crate::windows::{Window, Windowed};

/// Sessions, in the order of serialised keys, then of their ends.
///
/// ```
/// # use millstream_dsl::{InteractiveQueries, MIN, SessionQuery, SessionWindows, StreamsBuilder, TopologyTestDriver, in_store};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(MIN)).count("visits");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// [0, 30_000, 100_000].into_iter().for_each(|time| input.pipe_at(time, "a", 5));
/// let visits = SessionQuery::<String, i64>::with_key("a".to_owned());
/// let rows: Result<Vec<_>, _> = t.query(in_store("visits", visits.clone()))?.rows().collect();
/// let of = |rows: &[(millstream_dsl::Windowed<String>, millstream_dsl::ValueAndTimestamp<i64>)]| {
///     rows.iter().map(|(key, n)| (key.window.start, key.window.end, n.value)).collect::<Vec<_>>()
/// };
/// assert_eq!(of(&rows?), [(0, 30_000, 2), (100_000, 100_000, 1)]);
/// // Only those in progress at some time of a minute.
/// let second = t.query(in_store("visits", visits.with_times(60_000..=119_999)))?.rows().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(of(&second), [(100_000, 100_000, 1)]);
/// // Of all keys, the last one's newest first.
/// let all = SessionQuery::<String, i64>::with_keys(..).descending();
/// let newest = t.query(in_store("visits", all))?.rows().take(1).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(of(&newest), [(100_000, 100_000, 1)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SessionQuery<K, V> {
    keys: (Bound<K>, Bound<K>),
    times: RangeInclusive<Timestamp>,
    descending: bool,
    types: Types<K, V>,
}

impl<K: Data, V: Data> SessionQuery<K, V> {
    /// The sessions of this key.
    pub fn with_key(key: K) -> Self {
        Self::with_keys(key.clone()..=key)
    }

    /// The sessions of these keys; `..` is all.
    pub fn with_keys(keys: impl RangeBounds<K>) -> Self {
        let keys = (keys.start_bound().cloned(), keys.end_bound().cloned());
        SessionQuery { keys, times: Timestamp::MIN..=Timestamp::MAX, descending: false, types: PhantomData }
    }

    /// Only those that end at the first of these times or later and start at the last or earlier.
    #[must_use]
    pub fn with_times(self, times: RangeInclusive<Timestamp>) -> Self {
        SessionQuery { times, ..self }
    }

    /// The last key first, and its newest session.
    #[must_use]
    pub fn descending(self) -> Self {
        SessionQuery { descending: true, ..self }
    }
}

impl<K: Data, V: Data> Query for SessionQuery<K, V> {
    type Key = K;
    type Value = V;
    type Answer<S: QueryStores> = QueryRows<S, (Windowed<K>, ValueAndTimestamp<V>)>;
    const KINDS: &'static [&'static str] = &["session"];

    fn encode(&self, store: &Arc<str>) -> Result<StoreQuery> {
        let keys = StoreQuery::range(Keys::new(store).range(self.keys.clone())?);
        Ok(StoreQuery { times: self.times.clone(), descending: self.descending, ..keys })
    }

    fn answer<S: QueryStores>(found: StoreRows<S>) -> Result<Self::Answer<S>, QueryError> {
        Ok(rows::<S, K, V, _, _>(found, SessionBounds::decode, |key, SessionBounds { start, end }, value| {
            (Windowed { key, window: Window { start, end } }, value)
        }))
    }
}
