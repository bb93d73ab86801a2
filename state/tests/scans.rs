//! Scans of key-value tables against plain maps: with or without a disk, whatever is changed, committed and evicted while they
//! are open, each gives the rows as they were when it was opened, in order, and leaves on disk what is there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    ChangelogRecord, ChangelogWriter, DiskRows, KeyRange, NumberSerde, Result, StateBudget, StateStore, Timestamp,
    is_empty_range,
};
use millstream_state::{KeyValueTable, Scan};
use proptest::prelude::*;

type Table = KeyValueTable<NumberSerde<i64>>;

/// Values and times by key.
type RowsByKey = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// A scan under way, and the rows that it must give.
type Open = (Scan<i64>, std::vec::IntoIter<(u8, i64, i64)>);

/// Rows as a disk has them: value and time.
#[derive(Clone, Default)]
struct Disk {
    rows: Rc<RefCell<RowsByKey>>,
    looked: Rc<Cell<usize>>,
}

fn record<'a>(key: &'a [u8], (value, timestamp): &'a (Vec<u8>, i64)) -> ChangelogRecord<'a> {
    ChangelogRecord { key, value: Some(value), timestamp: *timestamp, headers: &[], offset: -1 }
}

impl DiskRows for Disk {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        self.rows.borrow().get(key).map_or(Ok(false), |row| found(record(key, row)).map(|()| true))
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.rows.borrow().is_empty())
    }

    fn approximate_len(&self) -> usize {
        self.rows.borrow().len()
    }

    fn latest(&self) -> Option<Timestamp> {
        None
    }

    fn scan(
        &self,
        range: KeyRange<'_>,
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        assert!(!is_empty_range(range));
        let rows = self.rows.borrow();
        let mut rows = rows.range::<[u8], _>(range);
        while let Some((key, found)) = if descending { rows.next_back() } else { rows.next() } {
            self.looked.set(self.looked.get() + 1);
            if row(record(key, found))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A table, its disk, and what its last flush has for that.
struct World {
    table: Table,
    disk: Option<Disk>,
    flushed: Option<ChangelogWriter>,
}

impl World {
    /// Nothing stays in memory that is on disk, if there is one.
    fn new(with_disk: bool) -> Self {
        let mut table = Table::new("t", NumberSerde::default(), true).larger_than_memory();
        let disk = with_disk.then(Disk::default);
        if let Some(disk) = &disk {
            assert!(table.attach(Box::new(disk.clone()), &Arc::new(StateBudget::new(0))));
        }
        World { table, disk, flushed: None }
    }

    fn flush(&mut self) {
        if self.flushed.is_none() {
            let mut writer = ChangelogWriter::default();
            self.table.flush(&mut writer).expect("numbers can be written");
            self.flushed = Some(writer);
        }
    }

    fn committed(&mut self) {
        let Some(writer) = self.flushed.take() else { return };
        self.table.committed();
        let Some(disk) = &self.disk else { return };
        for batch in writer.into_batches() {
            let mut records = batch.into_records(0);
            while let Some(record) = records.next() {
                let record = record.expect("a whole record");
                let key = record.key.expect("a key").as_slice().to_vec();
                match record.value {
                    Some(value) => {
                        disk.rows.borrow_mut().insert(key, (value.as_slice().to_vec(), record.timestamp));
                    }
                    None => drop(disk.rows.borrow_mut().remove(&key)),
                }
            }
        }
        self.table.written();
    }

    fn next(&mut self, scan: &mut Scan<i64>) -> Option<(u8, i64, i64)> {
        self.table.next_row(scan).expect("a row").map(|(key, value, time)| (key[0], value, time))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Option<i64>),
    Flush,
    Committed,
    Open {
        from: u8,
        to: u8,
        descending: bool,
    },
    /// Takes so many rows of each open scan.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (any::<u8>(), proptest::option::weighted(0.7, 0..100i64)).prop_map(|(k, v)| Step::Put(k, v)),
        2 => Just(Step::Flush),
        2 => Just(Step::Committed),
        2 => (any::<u8>(), any::<u8>(), any::<bool>())
            .prop_map(|(from, to, descending)| Step::Open { from, to, descending }),
        4 => (1..40usize).prop_map(Step::Take),
    ];
    proptest::collection::vec(step, 0..400)
}

/// Rows by key: value and time.
type Map = BTreeMap<u8, (i64, i64)>;

/// The rows of a map in a range, in order.
fn rows_of(map: &Map, from: u8, to: u8, descending: bool) -> Vec<(u8, i64, i64)> {
    let within = map.iter().filter(|(key, _)| (from..=to).contains(*key));
    let mut rows: Vec<_> = within.map(|(key, (value, time))| (*key, *value, *time)).collect();
    if descending {
        rows.reverse();
    }
    rows
}

fn check(with_disk: bool, steps: Vec<Step>) {
    let mut world = World::new(with_disk);
    let mut map = Map::new();
    // Rows are many, so that scans have several parts.
    for key in 0..=u8::MAX {
        world.table.put(&[key], Some(i64::from(key)), 0).expect("a row");
        map.insert(key, (i64::from(key), 0));
    }
    let mut open: Vec<Open> = Vec::new();
    for (time, step) in (1i64..).zip(steps) {
        match step {
            Step::Put(key, value) => {
                world.table.put(&[key], value, time).expect("a row");
                match value {
                    Some(value) => map.insert(key, (value, time)),
                    None => map.remove(&key),
                };
            }
            Step::Flush => world.flush(),
            Step::Committed => world.committed(),
            Step::Open { from, to, descending } => {
                let mut scan = world.table.open_scan((Bound::Included(vec![from]), Bound::Included(vec![to])));
                if descending {
                    scan.turn_round();
                }
                open.push((scan, rows_of(&map, from, to, descending).into_iter()));
            }
            Step::Take(rows) => open.retain_mut(|(scan, wanted)| {
                (0..rows).all(|_| {
                    let (found, wanted) = (world.next(scan), wanted.next());
                    assert_eq!(found, wanted);
                    found.is_some()
                })
            }),
        }
        // The rows as they are now come from a visit.
        let mut found = Vec::new();
        let visited = world.table.scan((Bound::Unbounded, Bound::Unbounded), time % 2 == 0, &mut |key, value, time| {
            found.push((key[0], *value, time));
            Ok(ControlFlow::Continue(()))
        });
        visited.expect("rows");
        assert_eq!(found, rows_of(&map, 0, u8::MAX, time % 2 == 0));
    }
    for (mut scan, wanted) in open {
        for wanted in wanted {
            assert_eq!(world.next(&mut scan), Some(wanted));
        }
        assert_eq!(world.next(&mut scan), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rows_are_as_they_were_when_a_scan_was_opened(steps in steps()) {
        check(false, steps);
    }

    #[test]
    fn rows_on_disk_are_too(steps in steps()) {
        check(true, steps);
    }
}

/// A table of so many rows, all of them on disk alone.
fn on_disk(rows: u16) -> (World, Disk) {
    let mut world = World::new(true);
    for key in 0..rows {
        world.table.put(&key.to_be_bytes(), Some(i64::from(key)), 7).expect("a row");
    }
    world.flush();
    world.committed();
    let disk = world.disk.clone().expect("a disk");
    assert_eq!(disk.rows.borrow().len(), usize::from(rows));
    (world, disk)
}

#[test]
fn a_scan_reads_what_is_asked_for_and_brings_nothing_into_memory() {
    let (mut world, disk) = on_disk(10_000);
    assert_eq!(world.table.approximate_len(), 10_000);
    disk.looked.set(0);
    let mut scan = world.table.open_scan((Bound::Included(5_000u16.to_be_bytes().to_vec()), Bound::Unbounded));
    assert_eq!(world.table.next_row(&mut scan).expect("a row"), Some((5_000u16.to_be_bytes().to_vec(), 5_000, 7)));
    assert!(disk.looked.get() <= 256, "{} rows were looked at for one", disk.looked.get());
    let mut rest = 0;
    while world.table.next_row(&mut scan).expect("a row").is_some() {
        rest += 1;
    }
    assert_eq!(rest, 4_999);
    // Without the disk's, those in memory are counted.
    disk.rows.borrow_mut().clear();
    assert_eq!(world.table.approximate_len(), 0);
}

#[test]
fn a_range_that_ends_before_it_begins_has_no_rows() {
    for with_disk in [false, true] {
        let mut world = World::new(with_disk);
        world.table.put(b"k", Some(1), 0).expect("a row");
        world.flush();
        world.committed();
        let (from, to) = (Bound::Included(b"z".to_vec()), Bound::Excluded(b"a".to_vec()));
        let mut scan = world.table.open_scan((from, to));
        assert_eq!(world.next(&mut scan), None);
        let range = (Bound::Excluded(b"k".as_slice()), Bound::Excluded(b"k".as_slice()));
        let visited = world.table.scan(range, false, &mut |_, _, _| panic!("no row is between a key and itself"));
        visited.expect("no rows");
    }
}
