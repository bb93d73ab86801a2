//! Versioned stores for processors (KIP-889).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Data, Result, StoreInstance, Timestamp};
use millstream_state::{Put, Version};

use crate::builder::StreamsBuilder;
use crate::processor::store::{ProcessorStore, StoreHandle};
use crate::tables::VersionedRows;

impl StreamsBuilder {
    /// A store for processors that keeps the values of the last `history` by time, with a changelog.
    pub fn versioned_store<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        name: &str,
        history: Duration,
    ) -> StoreHandle<VersionedStore<K, V>> {
        StoreHandle::new(VersionedRows::<K, V>::add(self, name, history))
    }
}

/// A versioned store in its task.
pub struct VersionedStore<K: Data, V: Data> {
    rows: VersionedRows<K, V>,
}

impl<K: Data, V: Data> ProcessorStore for VersionedStore<K, V> {
    fn open(instance: &StoreInstance, name: &Arc<str>, _: Rc<Cell<Timestamp>>) -> Self {
        VersionedStore { rows: VersionedRows::open(instance.typed(), name) }
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> VersionedStore<K, V> {
    /// Puts a value, or with `None` a deletion, that is valid from `time` on.
    ///
    /// # Errors
    /// When the key cannot be encoded; so for all methods here.
    pub fn put(&self, key: &K, value: Option<V>, time: Timestamp) -> Result<Put> {
        let key = self.rows.keys.encode(key)?;
        Ok(self.rows.table.borrow_mut().put(&key, time, value))
    }

    /// Deletes a key from `time` on, and returns what was valid then. A time older than the history deletes nothing.
    pub fn delete(&self, key: &K, time: Timestamp) -> Result<Option<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        let mut table = self.rows.table.borrow_mut();
        let found = table.get_as_of(&key, time).map(owned);
        Ok(if table.put(&key, time, None) == Put::TooOld { None } else { found })
    }

    /// The latest value.
    pub fn get(&self, key: &K) -> Result<Option<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        Ok(self.rows.table.borrow().get(&key).map(owned))
    }

    /// The value that was valid at a time. Before the history there is none, but the latest one if it is that old.
    pub fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<Version<V>>> {
        let key = self.rows.keys.encode(key)?;
        Ok(self.rows.table.borrow().get_as_of(&key, time).map(owned))
    }
}

fn owned<V: Clone>(version: Version<&V>) -> Version<V> {
    Version { value: version.value.clone(), timestamp: version.timestamp, valid_to: version.valid_to }
}
