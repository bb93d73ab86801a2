//! A table's store: how operators make one, find it in their task, and look rows up by typed key.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    Data, Half, Headers, Result, Serde, SerdeContext, StoreFormat, StoreId, StoreInstance, TaskBuilder, Timestamp,
    unencodable,
};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::ktable::{LookUp, Rows};

/// A key-value table in its task, addressed by typed keys.
pub(crate) struct Stored<K: Data, V: Data> {
    table: Rc<RefCell<KeyValueTable<V::Serde>>>,
    name: Arc<str>,
    serde: K::Serde,
    key: RefCell<Vec<u8>>,
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
        let changelog = (!global).then(|| BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]));
        let table = name.to_owned();
        let supplier = Arc::new(move || StoreInstance::new(KeyValueTable::new(&table, V::Serde::default(), !global)));
        let format = StoreFormat::of::<K::Serde, V::Serde>("key-value");
        builder.store_named(NewStore { name: name.to_owned(), format, changelog, supplier, global })
    }

    /// The store in a task.
    pub(crate) fn open(task: &TaskBuilder<'_>, id: StoreId, name: &Arc<str>) -> Self {
        Stored { table: task.store(id), name: name.clone(), serde: K::Serde::default(), key: RefCell::default() }
    }

    /// A look-up of this store's rows.
    pub(crate) fn rows(id: StoreId, name: &str) -> Rows<K, V> {
        let name: Arc<str> = name.into();
        Arc::new(move |task| Box::new(Stored::<K, V>::open(task, id, &name)))
    }

    #[inline]
    fn encode(&self, key: &K) -> Result<RefMut<'_, Vec<u8>>> {
        let mut bytes = self.key.borrow_mut();
        bytes.clear();
        let cx = SerdeContext { topic: &self.name, half: Half::Key };
        let encoded = self
            .serde
            .serialize(key, cx, &mut Headers::new(), &mut bytes)
            .map_err(|e| unencodable(&self.name, Half::Key, e))?;
        debug_assert_eq!(encoded, millstream_core::Encoded::Bytes, "a table's key is not null");
        Ok(bytes)
    }

    /// Changes the row of a key in place; empty if there is none.
    #[inline]
    pub(crate) fn change<R>(&self, key: &K, f: impl FnOnce(&mut Entry<V>) -> R) -> Result<R> {
        let key = self.encode(key)?;
        Ok(f(self.table.borrow_mut().change(&key)))
    }
}

impl<K: Data, V: Data> LookUp<K, V> for Stored<K, V> {
    fn get(&self, key: &K) -> Option<(V, Timestamp)> {
        let key = self.encode(key).ok()?;
        let table = self.table.borrow();
        table.get(&key).map(|(value, time)| (value.clone(), time))
    }
}
