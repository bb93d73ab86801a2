//! Stores for processors: a typed handle in the program, a typed store in the task.

use std::cell::{Cell, RefCell, RefMut};
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Error, Result, StoreId, StoreInstance, Timestamp};
use millstream_state::{Entry, KeyValueTable, Scan};

use crate::builder::StreamsBuilder;
use crate::keys::{ByteRange, Keys};
use crate::processor::key_value_iterator::KeyValueIterator;
use crate::queries::ValueAndTimestamp;
use crate::stored::Stored;

/// A store of the program, for processors: given to [`crate::Setup::store`] it becomes the store of a task.
pub struct StoreHandle<S> {
    pub(crate) id: StoreId,
    /// Of the processor that fills the store with a topic's records.
    pub(crate) fills: bool,
    store: PhantomData<fn() -> S>,
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for StoreHandle<S> {}

impl<S> StoreHandle<S> {
    pub(crate) fn new(id: StoreId) -> Self {
        StoreHandle { id, fills: false, store: PhantomData }
    }

    /// For the processor that fills it with a topic's records.
    pub(crate) fn filling(id: StoreId) -> Self {
        StoreHandle { fills: true, ..Self::new(id) }
    }
}

/// What a [`StoreHandle`] becomes in a task.
pub trait ProcessorStore: Sized {
    /// The store.
    fn open(store: TaskStore) -> Self;
}

/// A store as its task has it, before it has a type.
pub struct TaskStore {
    pub(crate) instance: StoreInstance,
    pub(crate) name: Arc<str>,
    /// The time of what is being processed.
    pub(crate) now: Rc<Cell<Timestamp>>,
    /// The topic whose records alone fill it, for all others than the processor that does so.
    pub(crate) filled_by: Option<Arc<str>>,
}

impl StreamsBuilder {
    /// A key-value store for processors, with a changelog.
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Step { rows: KeyValueStore<String, i64> }
    /// # impl Processor for Step {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.step(&r.key, r.value, r.timestamp)?;
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let rows = b.store::<String, i64>("sums");
    /// b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
    /// // In the processor:
    /// impl Step {
    ///     fn step(&self, key: &String, n: i64, time: i64) -> Result<i64> {
    ///         let sum = self.rows.get(key)?.unwrap_or(0) + n;
    ///         self.rows.put(key, Some(sum))?;
    ///         Ok(sum.max(time))
    ///     }
    /// }
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe_at(7, "a", 5);
    /// assert_eq!(out.read(), [kv("a", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn store<K: Data<NonNull = K>, V: Data<NonNull = V>>(&self, name: &str) -> StoreHandle<KeyValueStore<K, V>> {
        StoreHandle::new(Stored::<K, V>::add(self, name))
    }
}

/// A key-value store in its task. Changes take effect at once here, and in the changelog with the next commit.
///
/// ```
/// # use millstream_dsl::{KeyValueIterator, KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Step { rows: KeyValueStore<String, i64> }
/// # impl Processor for Step {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
/// #         let (rows, a, b) = (&self.rows, "a".to_owned(), "b".to_owned());
/// // In a processor that was given `rows`:
/// assert_eq!(rows.put(&a, Some(5))?, None); // what was there before
/// assert_eq!((rows.get(&a)?, rows.get(&b)?), (Some(5), None));
/// assert_eq!(rows.put_if_absent(&a, 7)?, Some(5));
/// assert_eq!(rows.update(&a, |n| n.replace(8))?, Some(5)); // one look-up
/// rows.put(&b, Some(9))?;
/// let list = |rows: KeyValueIterator<'_, String, i64>| rows.collect::<Result<Vec<_>>>();
/// assert_eq!(list(rows.all())?, [(a.clone(), 8), (b.clone(), 9)]);
/// assert_eq!(list(rows.range(b.clone()..)?)?, [(b.clone(), 9)]);
/// rows.put_all([("ab".to_owned(), Some(1)), ("ac".to_owned(), None)])?;
/// assert_eq!(list(rows.prefix_scan(&a)?.descending())?, [("ab".to_owned(), 1), (a.clone(), 8)]);
/// rows.put_at(&b, Some(9), 4)?; // the others have the time of the record
/// assert_eq!(rows.get_with_timestamp(&b)?.map(|row| row.timestamp), Some(4));
/// assert_eq!(rows.approximate_len(), 4);
/// assert_eq!((rows.delete(&a)?, rows.get(&a)?), (Some(8), None));
/// #         out.forward(r)
/// #     }
/// # }
/// # let b = StreamsBuilder::new();
/// # let rows = b.store::<String, i64>("rows");
/// # b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe("a", 5);
/// # assert_eq!(t.output::<String, i64>("out")?.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct KeyValueStore<K: Data, V: Data> {
    name: Arc<str>,
    table: Rc<RefCell<KeyValueTable<V::Serde>>>,
    keys: Keys<K>,
    /// The time of the record, or punctuation, being processed: rows get it.
    now: Rc<Cell<Timestamp>>,
    /// The topic whose records alone fill it.
    filled_by: Option<Arc<str>>,
}

impl<K: Data, V: Data> ProcessorStore for KeyValueStore<K, V> {
    fn open(TaskStore { instance, name, now, filled_by }: TaskStore) -> Self {
        KeyValueStore { table: instance.typed(), keys: Keys::new(&name), name, now, filled_by }
    }
}

impl<K: Data, V: Data> KeyValueStore<K, V> {
    /// The table, to be changed: not what a topic alone fills, since a start knows nothing else of it.
    #[inline]
    fn to_change(&self) -> Result<RefMut<'_, KeyValueTable<V::Serde>>> {
        match &self.filled_by {
            None => Ok(self.table.borrow_mut()),
            Some(topic) => Err(self.filled(topic)),
        }
    }

    #[cold]
    fn filled(&self, topic: &str) -> Error {
        Error::user(format!(
            "store `{}` is filled by the records of topic `{topic}` alone: what a processor puts there would be gone with the next start\n  help: write it to that topic, or into another store",
            self.name
        ))
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KeyValueStore<K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let key = self.keys.encode(key)?;
        Ok(self.table.borrow_mut().get(&key)?.map(|(value, _)| value.clone()))
    }

    /// Sets the value of a key; `None` deletes it. Returns the value before.
    ///
    /// # Errors
    /// When the key cannot be encoded; in a store that a topic alone fills.
    pub fn put(&self, key: &K, value: Option<V>) -> Result<Option<V>> {
        self.put_at(key, value, self.now.get())
    }

    /// Deletes a key and returns its value.
    ///
    /// # Errors
    /// When the key cannot be encoded; in a store that a topic alone fills.
    pub fn delete(&self, key: &K) -> Result<Option<V>> {
        self.put(key, None)
    }

    /// Sets the value of a key that has none. Returns the value that was there, if any.
    ///
    /// # Errors
    /// When the key cannot be encoded; when there is none in a store that a topic alone fills.
    pub fn put_if_absent(&self, key: &K, value: V) -> Result<Option<V>> {
        match self.get(key)? {
            Some(found) => Ok(Some(found)),
            None => self.put(key, Some(value)),
        }
    }

    /// Changes the value of a key in place with one look-up; `None` in and out is no value.
    ///
    /// # Errors
    /// When the key cannot be encoded; in a store that a topic alone fills.
    pub fn update<R>(&self, key: &K, f: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        let key = self.keys.encode(key)?;
        let mut table = self.to_change()?;
        let entry: &mut Entry<V> = table.change(&key)?;
        entry.timestamp = self.now.get();
        Ok(f(&mut entry.value))
    }

    /// Sets the values of several keys; `None` deletes one.
    ///
    /// # Errors
    /// When a key cannot be encoded: those before it are set; in a store that a topic alone fills.
    pub fn put_all(&self, rows: impl IntoIterator<Item = (K, Option<V>)>) -> Result<()> {
        rows.into_iter().try_for_each(|(key, value)| self.put(&key, value).map(drop))
    }

    /// The value of a key, and the row's time: that of the record, or timer, that wrote it.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn get_with_timestamp(&self, key: &K) -> Result<Option<ValueAndTimestamp<V>>> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        Ok(table.get(&key)?.map(|(value, timestamp)| ValueAndTimestamp { value: value.clone(), timestamp }))
    }

    /// As [`KeyValueStore::put`], with a time of the row's own.
    ///
    /// # Errors
    /// When the key cannot be encoded; in a store that a topic alone fills.
    pub fn put_at(&self, key: &K, value: Option<V>, time: Timestamp) -> Result<Option<V>> {
        let key = self.keys.encode(key)?;
        Ok(self.to_change()?.put(&key, value, time)?.map(|(value, _)| value))
    }

    /// The rows of a range of keys, in the order of their serialised keys.
    ///
    /// # Errors
    /// When a key cannot be encoded.
    pub fn range(&self, keys: impl RangeBounds<K>) -> Result<KeyValueIterator<'_, K, V>> {
        Ok(self.scan(self.keys.range(keys)?))
    }

    /// The rows of keys whose serialised bytes begin with those of `prefix`, as [`KeyValueStore::range`] gives them.
    ///
    /// # Errors
    /// When the prefix cannot be encoded.
    pub fn prefix_scan<P: Data<NonNull = P>>(&self, prefix: &P) -> Result<KeyValueIterator<'_, K, V>> {
        Ok(self.scan(Keys::new(&self.name).prefix(prefix)?))
    }

    /// All rows, as [`KeyValueStore::range`] gives them.
    pub fn all(&self) -> KeyValueIterator<'_, K, V> {
        self.scan((Bound::Unbounded, Bound::Unbounded))
    }

    /// About how many rows there are: what was deleted and is not committed counts, and on disk it is a guess.
    pub fn approximate_len(&self) -> usize {
        self.table.borrow().approximate_len()
    }

    fn scan(&self, keys: ByteRange) -> KeyValueIterator<'_, K, V> {
        KeyValueIterator { store: self, scan: self.table.borrow_mut().open_scan(keys), row: |value, _| value }
    }

    pub(crate) fn next_row(&self, scan: &mut Scan<V>) -> Result<Option<(K, V, Timestamp)>> {
        let row = self.table.borrow_mut().next_row(scan)?;
        row.map(|(key, value, time)| Ok((self.keys.decode(&key)?, value, time))).transpose()
    }
}
