//! A windowed store in its task, addressed by typed keys.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{RangeBounds, RangeInclusive};
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Result, StateStore as _, StoreFormat, StoreId, TaskBuilder, Timestamp};
use millstream_state::{Closing, Entry, KeyRows, Place, TimedTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::keys::Keys;
use crate::ktable::LookUp;
use crate::windows::{Window, Windowed};

/// Rows that close: place, key, value, time.
pub(crate) type Closed<P, K, V> = Vec<(P, K, V, Timestamp)>;

pub(crate) struct TimedStore<P: Place, K: Data, V: Data> {
    table: Rc<RefCell<TimedTable<P, V::Serde>>>,
    keys: Keys<K>,
}

impl<P: Place, K: Data, V: Data> TimedStore<P, K, V> {
    /// Adds the store; rows are kept for `retention` ms, its changelog a day longer (semantics.md 11). A record mostly changes
    /// `at_once` rows.
    pub(crate) fn add(
        builder: &StreamsBuilder,
        name: &str,
        retention: Timestamp,
        at_once: usize,
        format: StoreFormat,
    ) -> StoreId {
        let configs = [
            ("cleanup.policy", "compact,delete".to_owned()),
            ("retention.ms", retention.saturating_add(86_400_000).to_string()),
        ];
        let make = move |name: &str| {
            let table = TimedTable::<P, V::Serde>::new(name, V::Serde::default(), retention);
            table.changing_at_once(at_once).larger_than_memory()
        };
        builder.store_named(NewStore::new(name, format, configs, make))
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
        if live && (value.is_some() || table.get(&key, place)?.is_some()) {
            *table.change(&key, place)? = Entry { value, timestamp };
        }
        Ok(live)
    }

    /// The largest time that the store has seen: a retention behind it nothing is there any more.
    #[inline]
    pub(crate) fn observed(&self) -> Timestamp {
        self.table.borrow().observed()
    }

    /// Whether a row at a place would not have expired.
    pub(crate) fn is_live(&self, place: P) -> bool {
        self.table.borrow().is_live(&place)
    }

    /// The row at a place.
    pub(crate) fn get(&self, key: &K, place: P) -> Result<Option<(V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        Ok(table.get(&key, place)?.map(|(value, time)| (value.clone(), time)))
    }

    /// The rows of a range of keys for which `is` meant, in the order of their key bytes, then places.
    pub(crate) fn scan(&self, keys: impl RangeBounds<K>, is: impl Fn(&P) -> bool) -> Result<Vec<(K, P, V)>> {
        let (from, to) = self.keys.range(keys)?;
        let table = self.table.borrow();
        let rows = table.scan((from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)), is)?;
        rows.into_iter().map(|(key, place, value)| Ok((self.keys.decode(&key)?, place, value))).collect()
    }

    /// The rows of a key, of which that at `place` is about to be changed.
    #[inline]
    pub(crate) fn rows_of(&self, key: &K, place: P) -> Result<KeyRows> {
        let key = self.keys.encode(key)?;
        Ok(self.table.borrow_mut().rows_of(&key, place))
    }

    /// The same, with all of the key's rows from a place on in memory.
    #[inline]
    pub(crate) fn rows_from(&self, key: &K, place: P, from: P) -> Result<KeyRows> {
        let key = self.keys.encode(key)?;
        self.table.borrow_mut().rows_from(&key, place, from)
    }

    /// Changes the row at a place; the store's time moves with it. An input of a cogroup that is far behind another one
    /// finds expired rows empty, whether they are still held or not.
    #[inline]
    pub(crate) fn change_at<R>(&self, rows: KeyRows, place: P, f: impl FnOnce(&mut Entry<V>) -> R) -> Result<R> {
        let mut table = self.table.borrow_mut();
        table.observe(place.time());
        let live = table.is_live(&place);
        let entry = table.change_at(rows, place)?;
        if !live {
            entry.value = None;
        }
        Ok(f(entry))
    }

    /// Changes the newest of a key's rows and its place ([`TimedTable::move_newest`]); the store's time moves with it.
    #[inline]
    pub(crate) fn move_newest<R>(
        &self,
        rows: KeyRows,
        to: impl FnOnce(P, Option<P>) -> Option<P>,
        f: impl FnOnce(P, &mut Entry<V>) -> R,
    ) -> Option<R> {
        self.table.borrow_mut().move_newest(rows, to).map(|(place, entry)| f(place, entry))
    }

    /// The rows of a key at places within a range, ascending, among the rows of the key, that are in memory from there on.
    pub(crate) fn fetch_at(&self, rows: KeyRows, places: RangeInclusive<P>) -> Vec<(P, V, Timestamp)> {
        let table = self.table.borrow();
        table.fetch_at(rows, places).map(|(place, value, time)| (place, value.clone(), time)).collect()
    }

    /// The rows of a key at places within a range, ascending.
    pub(crate) fn fetch(&self, key: &K, places: RangeInclusive<P>) -> Result<Vec<(P, V, Timestamp)>> {
        let key = self.keys.encode(key)?;
        let mut table = self.table.borrow_mut();
        Ok(table.fetch(&key, places)?.map(|(place, value, time)| (place, value.clone(), time)).collect())
    }

    /// The first time from one on at which a key has a row.
    pub(crate) fn first_from(&self, time: Timestamp) -> Result<Option<Timestamp>> {
        self.table.borrow_mut().first_from(time)
    }

    /// The rows of all keys at times within a range, in the order in which they are emitted.
    pub(crate) fn closing(&self, times: RangeInclusive<Timestamp>) -> Result<Closing<P>> {
        self.table.borrow_mut().closing(times)
    }

    /// The next of the closing rows; `None` if there are no more.
    pub(crate) fn closed(&self, closing: &mut Closing<P>) -> Result<Option<Closed<P, K, V>>> {
        let mut rows = Vec::new();
        let more = self.table.borrow().closed(closing, |key, place, value, time| {
            rows.push(self.keys.decode(key).map(|key| (place, key, value.clone(), time)));
        })?;
        if more { rows.into_iter().collect::<Result<_>>().map(Some) } else { Ok(None) }
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
