//! Versioned stores for processors (KIP-889).

use std::ops::RangeInclusive;
use std::time::Duration;

use millstream_core::{Data, Result, Timestamp};
use millstream_state::{Put, Version};

use crate::builder::StreamsBuilder;
use crate::durations::Least;
use crate::processor::store::{ProcessorStore, StoreHandle, TaskStore};
use crate::tables::VersionedRows;

impl StreamsBuilder {
    /// A store for processors that keeps the values of the last `history` by time, with a changelog.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, Out, Processor, StreamsBuilder, TopologyTestDriver, VersionedStore, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Step { rows: VersionedStore<String, i64> }
    /// # impl Processor for Step {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.step(&r.key, r.value, r.timestamp)?;
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let rows = b.versioned_store::<String, i64>("prices", HOUR);
    /// b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
    /// // In the processor:
    /// impl Step {
    ///     fn step(&self, key: &String, n: i64, time: i64) -> Result<i64> {
    ///         self.rows.put(key, Some(n), time)?;
    ///         // What was valid at time 10.
    ///         Ok(self.rows.get_as_of(key, 10)?.map_or(0, |price| price.value))
    ///     }
    /// }
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe_at(7, "a", 5);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn versioned_store<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        name: &str,
        history: Duration,
    ) -> StoreHandle<VersionedStore<K, V>> {
        let history = self.millis(&format!("`{name}`"), "a history", history, Least::Zero);
        StoreHandle::new(VersionedRows::<K, V>::add(self, name, history))
    }
}

/// A versioned store in its task.
///
/// ```
/// # use millstream_dsl::{MIN, Out, Processor, Put, StreamsBuilder, TopologyTestDriver, VersionedStore};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Step { rows: VersionedStore<String, i64> }
/// # impl Processor for Step {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
/// #         let (rows, a, b) = (&self.rows, "a".to_owned(), "b".to_owned());
/// // In a processor that was given `rows`:
/// assert_eq!(rows.put(&a, Some(5), 10)?, Put::Latest);
/// assert_eq!(rows.put(&a, Some(7), 20)?, Put::Latest);
/// assert_eq!(rows.put(&a, Some(6), 15)?, Put::UpTo(20)); // out of order
/// assert_eq!(rows.get(&a)?.map(|row| row.value), Some(7));
/// assert_eq!(rows.get_as_of(&a, 19)?.map(|row| (row.value, row.timestamp, row.valid_to)), Some((6, 15, Some(20))));
/// let values = |times| rows.get_between(&a, times).map(|rows| rows.into_iter().map(|row| row.value).collect::<Vec<_>>());
/// assert_eq!((values(12..=18)?, values(15..=20)?, values(0..=9)?), (vec![5, 6], vec![6, 7], vec![]));
/// assert_eq!(rows.delete(&a, 30)?.map(|row| row.value), Some(7));
/// assert_eq!((rows.get(&a)?, rows.get(&b)?), (None, None));
/// #         out.forward(r)
/// #     }
/// # }
/// # let b = StreamsBuilder::new();
/// # let rows = b.versioned_store::<String, i64>("rows", MIN);
/// # b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe("a", 5);
/// # assert_eq!(t.output::<String, i64>("out")?.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct VersionedStore<K: Data, V: Data> {
    rows: VersionedRows<K, V>,
}

impl<K: Data, V: Data> ProcessorStore for VersionedStore<K, V> {
    fn open(TaskStore { instance, name, .. }: TaskStore) -> Self {
        VersionedStore { rows: VersionedRows::open(instance.typed(), &name) }
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> VersionedStore<K, V> {
    /// Puts a value, or with `None` a deletion, that is valid from `time` on.
    ///
    /// # Errors
    /// When the key cannot be encoded, or its rows cannot be read from disk.
    pub fn put(&self, key: &K, value: Option<V>, time: Timestamp) -> Result<Put> {
        let key = self.rows.keys.encode(key)?;
        self.rows.table.borrow_mut().put(&key, time, value)
    }

    /// Deletes a key from `time` on, and returns what was valid then. A time older than the history deletes nothing.
    ///
    /// # Errors
    /// When the key cannot be encoded, or its rows cannot be read from disk.
    pub fn delete(&self, key: &K, time: Timestamp) -> Result<Option<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        let mut table = self.rows.table.borrow_mut();
        let found = table.get_as_of(&key, time)?.map(owned);
        Ok(if table.put(&key, time, None)? == Put::TooOld { None } else { found })
    }

    /// The latest value.
    ///
    /// # Errors
    /// When the key cannot be encoded, or its rows cannot be read from disk.
    pub fn get(&self, key: &K) -> Result<Option<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        Ok(self.rows.table.borrow_mut().get(&key)?.map(owned))
    }

    /// The value that was valid at a time. Before the history there is none, but the latest one if it is that old.
    ///
    /// # Errors
    /// When the key cannot be encoded, or its rows cannot be read from disk.
    pub fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        Ok(self.rows.table.borrow_mut().get_as_of(&key, time)?.map(owned))
    }

    /// The values that were valid at some of the times, ascending; before the history as in [`VersionedStore::get_as_of`].
    ///
    /// # Errors
    /// When the key cannot be encoded, or its rows cannot be read from disk.
    pub fn get_between(&self, key: &K, times: RangeInclusive<Timestamp>) -> Result<Vec<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        Ok(self.rows.table.borrow_mut().get_between(&key, times)?.map(owned).collect())
    }
}

fn owned<V: Clone>(version: Version<&V>) -> Version<V> {
    Version { value: version.value.clone(), timestamp: version.timestamp, valid_to: version.valid_to }
}
