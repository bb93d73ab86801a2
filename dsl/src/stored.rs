//! A table's store: how operators make one, find it in their task, and look rows up by typed key.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Result, StoreFormat, StoreId, TaskBuilder, Timestamp};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::keys::Keys;
use crate::ktable::{LookUp, Rows};

/// A key-value table in its task, addressed by typed keys.
pub(crate) struct Stored<K: Data, V: Data> {
    table: Rc<RefCell<KeyValueTable<V::Serde>>>,
    keys: Keys<K>,
}

impl<K: Data, V: Data> Stored<K, V> {
    /// Adds a key-value store to the program.
    pub(crate) fn add(builder: &StreamsBuilder, name: &str) -> StoreId {
        Self::add_store(builder, name, false)
    }

    /// Adds a store that every thread fills on its own from a global topic.
    pub(crate) fn add_global(builder: &StreamsBuilder, name: &str) -> StoreId {
        Self::add_store(builder, name, true)
    }

    fn add_store(builder: &StreamsBuilder, name: &str, global: bool) -> StoreId {
        let format = StoreFormat::of::<K::Serde, V::Serde>("key-value");
        let make = move |name: &str| KeyValueTable::new(name, V::Serde::default(), !global).larger_than_memory();
        let mut store = NewStore::new(name, format, [("cleanup.policy", "compact")], make);
        if global {
            // Its topic is its changelog.
            (store.changelog, store.global) = (None, true);
        }
        builder.store_named(store)
    }

    /// The store in a task.
    pub(crate) fn open(task: &TaskBuilder<'_>, id: StoreId, name: &Arc<str>) -> Self {
        Stored { table: task.store(id), keys: Keys::new(name) }
    }

    /// A look-up of this store's rows.
    pub(crate) fn rows(id: StoreId, name: &str) -> Rows<K, V> {
        let name: Arc<str> = name.into();
        Arc::new(move |task| Box::new(Stored::<K, V>::open(task, id, &name)))
    }

    /// Changes the row of a key in place; empty if there is none.
    #[inline]
    pub(crate) fn change<R>(&self, key: &K, f: impl FnOnce(&mut Entry<V>) -> R) -> Result<R> {
        let key = self.keys.encode(key)?;
        Ok(f(self.table.borrow_mut().change(&key)?))
    }
}

impl<K: Data, V: Data> LookUp<K, V> for Stored<K, V> {
    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        Ok(table.get(&key)?.map(|(value, time)| (value.clone(), time)))
    }

    fn show_as_of(&self, key: &K, _: Timestamp, f: &mut dyn FnMut(Option<&V>)) -> Result<()> {
        let key = self.keys.encode(key)?;
        f(self.table.borrow_mut().get(&key)?.map(|(value, _)| value));
        Ok(())
    }
}
