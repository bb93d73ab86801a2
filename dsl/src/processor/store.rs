//! Stores for processors: a typed handle in the program, a typed store in the task.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Result, StoreId, StoreInstance, Timestamp};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::StreamsBuilder;
use crate::keys::Keys;
use crate::stored::Stored;

/// A store of the program, for processors: given to [`crate::Setup::store`] it becomes the store of a task.
pub struct StoreHandle<S> {
    pub(crate) id: StoreId,
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
        StoreHandle { id, store: PhantomData }
    }
}

/// What a [`StoreHandle`] becomes in a task.
pub trait ProcessorStore: Sized {
    /// The store, given its name and the time of what is being processed.
    fn open(instance: &StoreInstance, name: &Arc<str>, now: Rc<Cell<Timestamp>>) -> Self;
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
/// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver};
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
/// assert_eq!(rows.all()?, [(a.clone(), 8), (b.clone(), 9)]);
/// assert_eq!(rows.range(b.clone()..)?, [(b.clone(), 9)]);
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
    table: Rc<RefCell<KeyValueTable<V::Serde>>>,
    keys: Keys<K>,
    /// The time of the record, or punctuation, being processed: rows get it.
    now: Rc<Cell<Timestamp>>,
}

impl<K: Data, V: Data> ProcessorStore for KeyValueStore<K, V> {
    fn open(instance: &StoreInstance, name: &Arc<str>, now: Rc<Cell<Timestamp>>) -> Self {
        KeyValueStore { table: instance.typed(), keys: Keys::new(name), now }
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
    /// When the key cannot be encoded.
    pub fn put(&self, key: &K, value: Option<V>) -> Result<Option<V>> {
        let key = self.keys.encode(key)?;
        Ok(self.table.borrow_mut().put(&key, value, self.now.get())?.map(|(value, _)| value))
    }

    /// Deletes a key and returns its value.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn delete(&self, key: &K) -> Result<Option<V>> {
        self.put(key, None)
    }

    /// Sets the value of a key that has none. Returns the value that was there, if any.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn put_if_absent(&self, key: &K, value: V) -> Result<Option<V>> {
        match self.get(key)? {
            Some(found) => Ok(Some(found)),
            None => self.put(key, Some(value)),
        }
    }

    /// Changes the value of a key in place with one look-up; `None` in and out is no value.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn update<R>(&self, key: &K, f: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        let entry: &mut Entry<V> = table.change(&key)?;
        entry.timestamp = self.now.get();
        Ok(f(&mut entry.value))
    }

    /// The rows of a range of keys, as the store is now, in the order of their serialised keys. Later changes do not
    /// show in what was returned.
    ///
    /// # Errors
    /// When a key cannot be encoded or read back.
    pub fn range(&self, keys: impl RangeBounds<K>) -> Result<Vec<(K, V)>> {
        let (from, to) = self.keys.range(keys)?;
        let mut table = self.table.borrow_mut();
        let rows = table.range(from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))?;
        rows.map(|(key, value, _)| Ok((self.keys.decode(key)?, value.clone()))).collect()
    }

    /// All rows, as [`KeyValueStore::range`] gives them.
    ///
    /// # Errors
    /// When a key cannot be encoded or read back.
    pub fn all(&self) -> Result<Vec<(K, V)>> {
        self.range(..)
    }
}
