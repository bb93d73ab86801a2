//! Window stores for processors: a value per key and window.

use std::cell::Cell;
use std::ops::{RangeBounds, RangeInclusive};
use std::rc::Rc;
use std::time::Duration;

use millstream_core::{Data, Result, StoreFormat, Timestamp};
use millstream_state::WindowStart;

use crate::aggregates::TimedStore;
use crate::builder::StreamsBuilder;
use crate::durations::Least;
use crate::processor::store::{ProcessorStore, StoreHandle, TaskStore};
use crate::queries::ValueAndTimestamp;

impl StreamsBuilder {
    /// A store for processors with a value per key and time, kept for `retention` behind the newest, with a changelog.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, Out, Processor, StreamsBuilder, TopologyTestDriver, WindowStore, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Step { rows: WindowStore<String, i64> }
    /// # impl Processor for Step {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.step(&r.key, r.value, r.timestamp)?;
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let rows = b.window_store::<String, i64>("recent", HOUR);
    /// b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
    /// // In the processor:
    /// impl Step {
    ///     fn step(&self, key: &String, n: i64, time: i64) -> Result<i64> {
    ///         self.rows.put(key, Some(n), time)?;
    ///         // The sum of the last ten seconds.
    ///         Ok(self.rows.fetch(key, time - 9_999..=time)?.iter().map(|(_, n)| n).sum())
    ///     }
    /// }
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe_at(0, "a", 100);
    /// input.pipe_at(5_000, "a", 5);
    /// input.pipe_at(12_000, "a", 7);
    /// assert_eq!(out.read(), [kv("a", 100), kv("a", 105), kv("a", 12)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn window_store<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        name: &str,
        retention: Duration,
    ) -> StoreHandle<WindowStore<K, V>> {
        let format = StoreFormat::of::<K::Serde, V::Serde>("window");
        let retention = self.millis(&format!("`{name}`"), "a retention", retention, Least::Millisecond);
        StoreHandle::new(TimedStore::<WindowStart, K, V>::add(self, name, retention, 1, format))
    }
}

/// A window store in its task. A window is named by the time at which it starts; how long it is, is the program's.
///
/// What is older than the retention behind the newest time that was put is not there, and not taken.
///
/// ```
/// # use millstream_dsl::{MIN, Out, Processor, StreamsBuilder, TopologyTestDriver, WindowStore};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Step { rows: WindowStore<String, i64> }
/// # impl Processor for Step {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
/// #         let (rows, a, b) = (&self.rows, "a".to_owned(), "b".to_owned());
/// // In a processor that was given `rows`:
/// assert!(rows.put(&a, Some(5), 70_000)? && rows.put(&b, Some(7), 80_000)?);
/// assert!(!rows.put(&a, Some(1), 20_000)?); // a minute behind 80,000: not taken
/// assert_eq!((rows.get(&a, 70_000)?, rows.get(&a, 70_001)?), (Some(5), None));
/// assert_eq!(rows.fetch(&a, 60_000..=90_000)?, [(70_000, 5)]);
/// assert!(rows.put_at(&a, Some(6), 75_000, 4)?); // the others have the time of the record
/// assert_eq!(rows.get_with_timestamp(&a, 75_000)?.map(|row| (row.value, row.timestamp)), Some((6, 4)));
/// let backwards: Vec<_> = rows.fetch_with_timestamps(&a, 60_000..=90_000)?.into_iter().rev().collect();
/// assert_eq!(backwards.iter().map(|(time, row)| (*time, row.timestamp)).collect::<Vec<_>>(), [(75_000, 4), (70_000, 9)]);
/// rows.put(&a, None, 75_000)?;
/// assert_eq!(rows.fetch_keys(b.clone().., 0..90_000)?, [(b.clone(), 80_000, 7)]);
/// assert_eq!(rows.all()?, [(a.clone(), 70_000, 5), (b.clone(), 80_000, 7)]);
/// #         out.forward(r)
/// #     }
/// # }
/// # let b = StreamsBuilder::new();
/// # let rows = b.window_store::<String, i64>("rows", MIN);
/// # b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe_at(9, "a", 5);
/// # assert_eq!(t.output::<String, i64>("out")?.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct WindowStore<K: Data, V: Data> {
    rows: TimedStore<WindowStart, K, V>,
    /// The time of what is being processed: rows get it.
    now: Rc<Cell<Timestamp>>,
}

impl<K: Data, V: Data> ProcessorStore for WindowStore<K, V> {
    fn open(TaskStore { instance, name, now, .. }: TaskStore) -> Self {
        WindowStore { rows: TimedStore::of(instance.typed(), &name), now }
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> WindowStore<K, V> {
    /// Puts the value of a key and time; `None` deletes it. `false`: the time is older than the retention.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn put(&self, key: &K, value: Option<V>, time: Timestamp) -> Result<bool> {
        self.put_at(key, value, time, self.now.get())
    }

    /// As [`WindowStore::put`], with a time of the row's own besides that of its window.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn put_at(&self, key: &K, value: Option<V>, time: Timestamp, row_time: Timestamp) -> Result<bool> {
        self.rows.put(key, WindowStart(time), value, row_time)
    }

    /// The value of a key and time.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn get(&self, key: &K, time: Timestamp) -> Result<Option<V>> {
        Ok(self.get_with_timestamp(key, time)?.map(|row| row.value))
    }

    /// The value of a key and time, and the row's own time: that of the record, or timer, that wrote it.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn get_with_timestamp(&self, key: &K, time: Timestamp) -> Result<Option<ValueAndTimestamp<V>>> {
        let row = self.rows.get(key, WindowStart(time))?;
        Ok(row.map(|(value, timestamp)| ValueAndTimestamp { value, timestamp }))
    }

    /// The values of a key within a range of times, ascending.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn fetch(&self, key: &K, times: RangeInclusive<Timestamp>) -> Result<Vec<(Timestamp, V)>> {
        Ok(self.fetch_with_timestamps(key, times)?.into_iter().map(|(time, row)| (time, row.value)).collect())
    }

    /// As [`WindowStore::fetch`], with the rows' own times.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn fetch_with_timestamps(
        &self,
        key: &K,
        times: RangeInclusive<Timestamp>,
    ) -> Result<Vec<(Timestamp, ValueAndTimestamp<V>)>> {
        let rows = self.rows.fetch(key, WindowStart(*times.start())..=WindowStart(*times.end()))?;
        let row = |(place, value, timestamp): (WindowStart, V, _)| (place.0, ValueAndTimestamp { value, timestamp });
        Ok(rows.into_iter().map(row).collect())
    }

    /// The values of a range of keys within a range of times, in the order of the serialised keys, then times.
    ///
    /// # Errors
    /// When a key cannot be encoded or read back.
    pub fn fetch_keys(
        &self,
        keys: impl RangeBounds<K>,
        times: impl RangeBounds<Timestamp>,
    ) -> Result<Vec<(K, Timestamp, V)>> {
        let found = self.rows.scan(keys, |place| times.contains(&place.0))?;
        Ok(found.into_iter().map(|(key, place, value)| (key, place.0, value)).collect())
    }

    /// All values, as [`WindowStore::fetch_keys`] gives them.
    ///
    /// # Errors
    /// When a key cannot be encoded or read back.
    pub fn all(&self) -> Result<Vec<(K, Timestamp, V)>> {
        self.fetch_keys(.., ..)
    }
}
