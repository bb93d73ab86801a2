//! Stores for processors: a typed handle in the program, a typed store in the task.

use std::cell::{Cell, RefCell, RefMut};
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    Data, Half, Headers, Payload, Result, Serde, SerdeContext, StateError, StoreId, StoreInstance, Timestamp,
    unencodable,
};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::StreamsBuilder;
use crate::stored::Stored;

/// A store of the program: a number with types. Given to [`crate::Setup::store`] it becomes the store of a task.
pub struct StoreHandle<K, V> {
    pub(crate) id: StoreId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for StoreHandle<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for StoreHandle<K, V> {}

impl StreamsBuilder {
    /// A key-value store for processors, with a changelog.
    pub fn store<K: Data<NonNull = K>, V: Data<NonNull = V>>(&self, name: &str) -> StoreHandle<K, V> {
        StoreHandle { id: Stored::<K, V>::add(self, name), types: PhantomData }
    }
}

/// A key-value store in its task. Changes take effect at once here, and in the changelog with the next commit.
pub struct KeyValueStore<K: Data, V: Data> {
    table: Rc<RefCell<KeyValueTable<V::Serde>>>,
    name: Arc<str>,
    serde: K::Serde,
    key: RefCell<Vec<u8>>,
    /// The time of the record, or punctuation, being processed: rows get it.
    now: Rc<Cell<Timestamp>>,
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KeyValueStore<K, V> {
    pub(crate) fn new(instance: &StoreInstance, name: &str, now: Rc<Cell<Timestamp>>) -> Self {
        KeyValueStore {
            table: instance.typed(),
            name: name.into(),
            serde: K::Serde::default(),
            key: RefCell::default(),
            now,
        }
    }

    fn encode(&self, key: &K) -> Result<RefMut<'_, Vec<u8>>> {
        let mut bytes = self.key.borrow_mut();
        bytes.clear();
        let cx = SerdeContext { topic: &self.name, half: Half::Key };
        let _bytes = self
            .serde
            .serialize(key, cx, &mut Headers::new(), &mut bytes)
            .map_err(|e| unencodable(&self.name, Half::Key, e))?;
        Ok(bytes)
    }

    fn decode(&self, key: &[u8]) -> Result<K> {
        let owner = bytes::Bytes::copy_from_slice(key);
        let cx = SerdeContext { topic: &self.name, half: Half::Key };
        self.serde.deserialize(Some(Payload::from(&owner)), cx, &Headers::new()).map_err(|e| {
            millstream_core::Error::State(Box::new(StateError {
                store: self.name.to_string(),
                problem: format!("a key cannot be read back: {e}"),
            }))
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When the key cannot be encoded; so for all methods here.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let key = self.encode(key)?;
        Ok(self.table.borrow().get(&key).map(|(value, _)| value.clone()))
    }

    /// Sets the value of a key; `None` deletes it. Returns the value before.
    pub fn put(&self, key: &K, value: Option<V>) -> Result<Option<V>> {
        let key = self.encode(key)?;
        Ok(self.table.borrow_mut().put(&key, value, self.now.get()).map(|(value, _)| value))
    }

    /// Deletes a key and returns its value.
    pub fn delete(&self, key: &K) -> Result<Option<V>> {
        self.put(key, None)
    }

    /// Sets the value of a key that has none. Returns the value that was there, if any.
    pub fn put_if_absent(&self, key: &K, value: V) -> Result<Option<V>> {
        match self.get(key)? {
            Some(found) => Ok(Some(found)),
            None => self.put(key, Some(value)),
        }
    }

    /// Changes the value of a key in place with one look-up; `None` in and out is no value.
    pub fn update<R>(&self, key: &K, f: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        let key = self.encode(key)?;
        let mut table = self.table.borrow_mut();
        let entry: &mut Entry<V> = table.change(&key);
        entry.timestamp = self.now.get();
        Ok(f(&mut entry.value))
    }

    /// The rows of a range of keys, as the store is now, in the order of their serialised keys. Later changes do not
    /// show in what was returned.
    pub fn range(&self, keys: impl RangeBounds<K>) -> Result<Vec<(K, V)>> {
        let bound = |bound: Bound<&K>| -> Result<Bound<Vec<u8>>> {
            Ok(match bound {
                Bound::Included(key) => Bound::Included(self.encode(key)?.clone()),
                Bound::Excluded(key) => Bound::Excluded(self.encode(key)?.clone()),
                Bound::Unbounded => Bound::Unbounded,
            })
        };
        let (from, to) = (bound(keys.start_bound())?, bound(keys.end_bound())?);
        let mut table = self.table.borrow_mut();
        let rows = table.range(from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        rows.map(|(key, value, _)| Ok((self.decode(key)?, value.clone()))).collect()
    }

    /// All rows, as [`KeyValueStore::range`] gives them.
    pub fn all(&self) -> Result<Vec<(K, V)>> {
        self.range(..)
    }
}
