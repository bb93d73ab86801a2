//! Session stores for processors: a value per key and session.

use std::cell::Cell;
use std::ops::RangeBounds;
use std::rc::Rc;
use std::time::Duration;

use millstream_core::{Data, Result, StoreFormat, Timestamp};
use millstream_state::SessionBounds;

use crate::aggregates::TimedStore;
use crate::builder::StreamsBuilder;
use crate::durations::Least;
use crate::processor::store::{ProcessorStore, StoreHandle, TaskStore};
use crate::windows::{Window, Windowed};

impl StreamsBuilder {
    /// A store for processors with a value per key and session, kept for `retention` behind the newest session's end, with
    /// a changelog.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, Out, Processor, SessionStore, StreamsBuilder, TopologyTestDriver, Window, Windowed, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Step { rows: SessionStore<String, i64> }
    /// # impl Processor for Step {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.step(&r.key, r.value, r.timestamp)?;
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let rows = b.session_store::<String, i64>("visits", HOUR);
    /// b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
    /// // In the processor:
    /// impl Step {
    ///     fn step(&self, key: &String, n: i64, time: i64) -> Result<i64> {
    ///         // The visits so far that end less than a minute ago.
    ///         let near = self.rows.find(key, time - 59_999, time)?;
    ///         let visit = Windowed { key: key.clone(), window: Window { start: time, end: time } };
    ///         self.rows.put(&visit, Some(n))?;
    ///         Ok(near.len() as i64)
    ///     }
    /// }
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe_at(7, "a", 5);
    /// assert_eq!(out.read(), [kv("a", 0)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn session_store<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        name: &str,
        retention: Duration,
    ) -> StoreHandle<SessionStore<K, V>> {
        let format = StoreFormat::of::<K::Serde, V::Serde>("session");
        let retention = self.millis(&format!("`{name}`"), "a retention", retention, Least::Millisecond);
        StoreHandle::new(TimedStore::<SessionBounds, K, V>::add(self, name, retention, 1, format))
    }
}

/// A session store in its task. Both ends of a session are in it.
///
/// What ended before the retention behind the newest end that was put is not there, and not taken.
///
/// ```
/// # use millstream_dsl::{MIN, Out, Processor, SessionStore, StreamsBuilder, TopologyTestDriver, Window, Windowed};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Step { rows: SessionStore<String, i64> }
/// # impl Processor for Step {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
/// #         let (rows, a, b) = (&self.rows, "a".to_owned(), "b".to_owned());
/// // In a processor that was given `rows`:
/// let visit = Windowed { key: a.clone(), window: Window { start: 70_000, end: 75_000 } };
/// assert!(rows.put(&visit, Some(5))?);
/// assert_eq!(rows.get(&visit)?, Some(5));
/// assert_eq!(rows.fetch(&a)?, [(visit.clone(), 5)]);
/// assert_eq!(rows.find(&a, 75_000, 90_000)?.len(), 1); // ends at 75,000 or later, starts at 90,000 or earlier
/// assert_eq!(rows.find_keys(a.clone()..=b.clone(), 75_001, 90_000)?, []);
/// #         out.forward(r)
/// #     }
/// # }
/// # let b = StreamsBuilder::new();
/// # let rows = b.session_store::<String, i64>("rows", MIN);
/// # b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe("a", 5);
/// # assert_eq!(t.output::<String, i64>("out")?.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct SessionStore<K: Data, V: Data> {
    rows: TimedStore<SessionBounds, K, V>,
    /// The time of what is being processed: rows get it.
    now: Rc<Cell<Timestamp>>,
}

impl<K: Data, V: Data> ProcessorStore for SessionStore<K, V> {
    fn open(TaskStore { instance, name, now, .. }: TaskStore) -> Self {
        SessionStore { rows: TimedStore::of(instance.typed(), &name), now }
    }
}

fn bounds(window: Window) -> SessionBounds {
    SessionBounds { start: window.start, end: window.end }
}

fn session<K, V>(key: K, place: SessionBounds, value: V) -> (Windowed<K>, V) {
    (Windowed { key, window: Window { start: place.start, end: place.end } }, value)
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> SessionStore<K, V> {
    /// Puts the value of a session; `None` removes it. `false`: it ended before the retention.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn put(&self, session: &Windowed<K>, value: Option<V>) -> Result<bool> {
        self.rows.put(&session.key, bounds(session.window), value, self.now.get())
    }

    /// The value of a session.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn get(&self, session: &Windowed<K>) -> Result<Option<V>> {
        Ok(self.rows.get(&session.key, bounds(session.window))?.map(|(value, _)| value))
    }

    /// All sessions of a key, by their ends.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn fetch(&self, key: &K) -> Result<Vec<(Windowed<K>, V)>> {
        self.find(key, Timestamp::MIN, Timestamp::MAX)
    }

    /// The sessions of a key that end at `earliest_end` or later and start at `latest_start` or earlier, by their ends.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn find(&self, key: &K, earliest_end: Timestamp, latest_start: Timestamp) -> Result<Vec<(Windowed<K>, V)>> {
        let from = SessionBounds { end: earliest_end, start: Timestamp::MIN };
        let to = SessionBounds { end: Timestamp::MAX, start: Timestamp::MAX };
        let found = self.rows.fetch(key, from..=to)?.into_iter().filter(|(place, ..)| place.start <= latest_start);
        Ok(found.map(|(place, value, _)| session(key.clone(), place, value)).collect())
    }

    /// As [`SessionStore::find`] for a range of keys, in the order of the serialised keys.
    ///
    /// # Errors
    /// When a key cannot be encoded or read back.
    pub fn find_keys(
        &self,
        keys: impl RangeBounds<K>,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        let found = self.rows.scan(keys, |place| place.end >= earliest_end && place.start <= latest_start)?;
        Ok(found.into_iter().map(|(key, place, value)| session(key, place, value)).collect())
    }
}
