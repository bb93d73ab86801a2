//! A windowed store in its task, addressed by typed keys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{RangeBounds, RangeInclusive};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{Data, Result, StoreFormat, StoreId, StoreInstance, TaskBuilder, Timestamp};
use millstream_state::{Closing, Entry, Place, TimedTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::keys::Keys;
use crate::ktable::LookUp;
use crate::windows::{Window, Windowed};

pub(crate) struct TimedStore<P: Place, K: Data, V: Data> {
    table: Rc<RefCell<TimedTable<P, V::Serde>>>,
    keys: Keys<K>,
}

impl<P: Place, K: Data, V: Data> TimedStore<P, K, V> {
    /// Adds the store; rows are kept for `retention` ms, its changelog a day longer (semantics.md 11).
    pub(crate) fn add(builder: &StreamsBuilder, name: &str, retention: Timestamp, format: StoreFormat) -> StoreId {
        let configs = [
            ("cleanup.policy", "compact,delete".to_owned()),
            ("retention.ms", retention.saturating_add(86_400_000).to_string()),
        ];
        let changelog: BTreeMap<String, String> = configs.map(|(k, v)| (k.to_owned(), v)).into();
        let table = name.to_owned();
        let supplier = Arc::new(move || {
            StoreInstance::new(TimedTable::<P, V::Serde>::new(&table, V::Serde::default(), retention))
        });
        builder.store_named(NewStore {
            name: name.to_owned(),
            format,
            changelog: Some(changelog),
            supplier,
            global: false,
        })
    }

    pub(crate) fn open(task: &TaskBuilder<'_>, id: StoreId, name: &Arc<str>) -> Self {
        Self::of(task.store(id), name)
    }

    pub(crate) fn of(table: Rc<RefCell<TimedTable<P, V::Serde>>>, name: &Arc<str>) -> Self {
        TimedStore { table, keys: Keys::new(name) }
    }

    /// Puts a row, or deletes it; `false` if its place has expired.
    pub(crate) fn put(&self, key: &K, place: P, value: Option<V>, timestamp: Timestamp) -> Result<bool> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        table.observe(place.time());
        let live = table.is_live(&place);
        if live && (value.is_some() || table.get(&key, place).is_some()) {
            *table.change(&key, place) = Entry { value, timestamp };
        }
        Ok(live)
    }

    /// The row at a place.
    pub(crate) fn get(&self, key: &K, place: P) -> Result<Option<(V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        let table = self.table.borrow();
        Ok(table.get(&key, place).map(|(value, time)| (value.clone(), time)))
    }

    /// The rows of a range of keys for which `is` meant, in the order of their key bytes, then places.
    pub(crate) fn scan(&self, keys: impl RangeBounds<K>, is: impl Fn(&P) -> bool) -> Result<Vec<(K, P, V)>> {
        let (from, to) = self.keys.range(keys)?;
        let table = self.table.borrow();
        let rows = table.scan((from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)));
        let rows = rows.into_iter().filter(|(_, place, _)| is(place));
        rows.map(|(key, place, value)| Ok((self.keys.decode(key)?, place, value.clone()))).collect()
    }

    /// Changes the row at a place; the store's time moves with it. An input of a cogroup that is far behind another one
    /// finds expired rows empty, whether they are still held or not.
    #[inline]
    pub(crate) fn change<R>(&self, key: &K, place: P, f: impl FnOnce(&mut Entry<V>) -> R) -> Result<R> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        table.observe(place.time());
        let live = table.is_live(&place);
        let entry = table.change(&key, place);
        if !live {
            entry.value = None;
        }
        Ok(f(entry))
    }

    /// Changes the newest row of a key and its place ([`TimedTable::move_newest`]); the store's time moves with it.
    #[inline]
    pub(crate) fn move_newest<R>(
        &self,
        key: &K,
        to: impl FnOnce(P, Option<P>) -> Option<P>,
        f: impl FnOnce(P, &mut Entry<V>) -> R,
    ) -> Result<Option<R>> {
        let key = self.keys.encode(key)?;
        Ok(self.table.borrow_mut().move_newest(&key, to).map(|(place, entry)| f(place, entry)))
    }

    /// The rows of a key at places within a range, ascending.
    pub(crate) fn fetch(&self, key: &K, places: RangeInclusive<P>) -> Result<Vec<(P, V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        let table = self.table.borrow();
        Ok(table.fetch(&key, places).map(|(place, value, time)| (place, value.clone(), time)).collect())
    }

    /// The rows of all keys at times within a range, in the order in which they are emitted.
    pub(crate) fn closing(&self, times: RangeInclusive<Timestamp>) -> Closing {
        self.table.borrow_mut().closing(times)
    }

    /// The next of the closing rows; `None` if there are no more. Their keys share one piece of memory.
    pub(crate) fn closed(&self, closing: &mut Closing) -> Result<Option<Vec<(P, K, V, Timestamp)>>> {
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        let more = self.table.borrow().closed(closing, |key, place, value, time| {
            let begin = keys.len();
            keys.extend_from_slice(key);
            rows.push((begin..keys.len(), place, value.clone(), time));
        });
        let keys = Bytes::from(keys);
        let decode = |(key, place, value, time)| Ok((place, self.keys.decode_shared(&keys.slice(key))?, value, time));
        if more { rows.into_iter().map(decode).collect::<Result<_>>().map(Some) } else { Ok(None) }
    }
}

/// Rows of a windowed table by windowed key.
pub(crate) struct WindowedRows<P: Place, K: Data, V: Data, F> {
    pub(crate) store: TimedStore<P, K, V>,
    pub(crate) place: F,
    pub(crate) types: PhantomData<fn() -> P>,
}

impl<P: Place, K: Data, V: Data, F: Fn(Window) -> P> LookUp<Windowed<K>, V> for WindowedRows<P, K, V, F> {
    fn get(&self, key: &Windowed<K>) -> Result<Option<(V, Timestamp)>> {
        let place = (self.place)(key.window);
        self.store.get(&key.key, place)
    }
}
