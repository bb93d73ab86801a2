//! The stores here do what the runtime asks of a store; stores that forget a part of it are found out.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use millstream_core::{ChangelogRecord, ChangelogWriter, NumberSerde, Result, StateStore, Timestamp};
use millstream_state::conformance::{Subject, check};
use millstream_state::{KeyValueTable, SuppressBuffer, VersionedTable, WindowStart, WindowTable};

struct KeyValues;

impl Subject for KeyValues {
    type Store = KeyValueTable<NumberSerde<i64>>;

    fn make(&self) -> Self::Store {
        KeyValueTable::new("s", NumberSerde::default(), true)
    }
    fn put(&self, store: &mut Self::Store, key: u8, value: Option<u8>, time: Timestamp) {
        store.put(&[key], value.map(i64::from), time).expect("there is no disk");
    }
    fn rows(&self, store: &mut Self::Store) -> BTreeMap<u8, u8> {
        let mut rows = BTreeMap::new();
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let scanned = store.scan(everything, false, &mut |key, value, _| {
            rows.insert(key[0], *value as u8);
            Ok(ControlFlow::Continue(()))
        });
        scanned.expect("there is no disk");
        rows
    }
}

struct Windows;

impl Subject for Windows {
    type Store = WindowTable<NumberSerde<i64>>;

    fn make(&self) -> Self::Store {
        WindowTable::new("s", NumberSerde::default(), 1_000)
    }
    fn put(&self, store: &mut Self::Store, key: u8, value: Option<u8>, time: Timestamp) {
        let entry = store.change(&[key], WindowStart(7)).expect("there is no disk");
        (entry.value, entry.timestamp) = (value.map(i64::from), time);
    }
    fn rows(&self, store: &mut Self::Store) -> BTreeMap<u8, u8> {
        let rows = store.scan((Bound::Unbounded, Bound::Unbounded), |_| true).expect("there is no disk");
        rows.into_iter().map(|(key, _, value)| (key[0], value as u8)).collect()
    }
}

struct Versions;

impl Subject for Versions {
    type Store = VersionedTable<NumberSerde<i64>>;

    fn make(&self) -> Self::Store {
        VersionedTable::new("s", NumberSerde::default(), 10)
    }
    fn put(&self, store: &mut Self::Store, key: u8, value: Option<u8>, time: Timestamp) {
        store.put(&[key], time, value.map(i64::from)).expect("there is no disk");
    }
    fn rows(&self, store: &mut Self::Store) -> BTreeMap<u8, u8> {
        (0..5).filter_map(|key| Some((key, *store.get(&[key]).expect("there is no disk")?.value as u8))).collect()
    }
}

struct Waiting;

impl Subject for Waiting {
    type Store = SuppressBuffer<NumberSerde<i64>>;

    fn make(&self) -> Self::Store {
        SuppressBuffer::new("s", NumberSerde::default())
    }
    // A buffer gives its rows back in its own order only: a deletion takes out all up to the one meant, and puts the
    // others back.
    fn put(&self, store: &mut Self::Store, key: u8, value: Option<u8>, time: Timestamp) {
        if let Some(value) = value {
            return store.put(&[key], 1, time, |_| i64::from(value)).expect("there is no disk");
        }
        let mut others = Vec::new();
        while let Some((bytes, value)) = store.take_first().expect("there is no disk") {
            others.push((bytes[0], value));
        }
        others.retain(|(other, _)| *other != key);
        others
            .into_iter()
            .for_each(|(other, value)| store.put(&[other], 1, time, |_| value).expect("there is no disk"));
    }
    fn rows(&self, store: &mut Self::Store) -> BTreeMap<u8, u8> {
        assert_eq!(store.values().count(), store.len());
        store.values().map(|(key, value)| (key[0], *value as u8)).collect()
    }
}

#[test]
fn the_stores_conform() -> std::result::Result<(), String> {
    check(&KeyValues, 3_000)?;
    check(&Windows, 3_000)?;
    check(&Versions, 3_000)?;
    check(&Waiting, 3_000)
}

/// A store that forgets one thing.
struct Careless<T>(T, &'static str);

impl<T: StateStore> StateStore for Careless<T> {
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        if self.1 == "flush" { self.0.flush(&mut ChangelogWriter::default()) } else { self.0.flush(changelog) }
    }
    fn committed(&mut self) {
        self.0.committed();
    }
    fn rollback(&mut self) {
        if self.1 != "rollback" {
            self.0.rollback();
        }
    }
    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        if self.1 == "deletions" && record.value.is_none() { Ok(()) } else { self.0.restore(record) }
    }
    fn dirty_bytes(&self) -> usize {
        self.0.dirty_bytes()
    }
}

struct CarelessKeyValues(&'static str);

impl Subject for CarelessKeyValues {
    type Store = Careless<KeyValueTable<NumberSerde<i64>>>;

    fn make(&self) -> Self::Store {
        Careless(KeyValues.make(), self.0)
    }
    fn put(&self, store: &mut Self::Store, key: u8, value: Option<u8>, time: Timestamp) {
        KeyValues.put(&mut store.0, key, value, time);
    }
    fn rows(&self, store: &mut Self::Store) -> BTreeMap<u8, u8> {
        KeyValues.rows(&mut store.0)
    }
}

#[test]
fn stores_that_forget_something_are_found_out() {
    for forgotten in ["flush", "rollback", "deletions"] {
        let problem = check(&CarelessKeyValues(forgotten), 200).expect_err(forgotten);
        assert!(problem.contains("should hold"), "{problem}");
    }
    assert_eq!(check(&CarelessKeyValues("nothing"), 200), Ok(()));
}
