//! A disk of a test: rows in a map, written when the test says so.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use millstream_core::{ChangelogRecord, ChangelogWriter, DiskRows, Expired, Result, RowOrder, Timestamp};

/// A row of a changelog: key, value, time.
pub(crate) type Row = (Vec<u8>, Option<Vec<u8>>, Timestamp);

/// Rows as a disk has them.
pub(crate) struct Disk {
    order: RowOrder,
    pub(crate) rows: BTreeMap<Vec<u8>, Row>,
    latest: Option<Timestamp>,
}

impl Disk {
    fn write(&mut self, rows: &[Row], expired: Expired) {
        for row in rows {
            let mut key = Vec::new();
            self.order.disk_key(&row.0, row.2, &mut key);
            self.latest = self.latest.max(self.order.time_of(&row.0, row.2));
            if row.1.is_some() || self.order == RowOrder::Versions {
                self.rows.insert(key, row.clone());
            } else {
                self.rows.remove(&key);
            }
        }
        let Expired::Before(time) = expired else { return };
        if let Some(end) = self.order.part_of(time) {
            self.rows = self.rows.split_off(&end);
            return;
        }
        let next: Vec<_> = self.rows.values().skip(1).map(|row| Some((row.0.clone(), row.2))).collect();
        let mut next = next.into_iter().chain([None]);
        self.rows.retain(|_, row| {
            let next = next.next().flatten();
            !RowOrder::has_ended(record(row), next.as_ref().map(|(key, time)| (key.as_slice(), *time)), time)
        });
    }
}

pub(crate) struct Rows(pub(crate) Rc<RefCell<Disk>>);

/// Commits on their way to a disk, which has them late, and of which the store is told later still.
pub(crate) struct Commits {
    pub(crate) disk: Rc<RefCell<Disk>>,
    unwritten: VecDeque<(Vec<Row>, Expired)>,
    /// How many are on the disk and the store was not told of.
    untold: usize,
}

impl Commits {
    pub(crate) fn new(order: RowOrder) -> Self {
        let disk = Rc::new(RefCell::new(Disk { order, rows: BTreeMap::new(), latest: None }));
        Commits { disk, unwritten: VecDeque::new(), untold: 0 }
    }

    /// One more is done: its rows, and what may go with it.
    pub(crate) fn add(&mut self, rows: Vec<Row>, expired: Expired) {
        self.unwritten.push_back((rows, expired));
    }

    /// The disk has one more.
    pub(crate) fn write(&mut self) {
        if let Some((rows, expired)) = self.unwritten.pop_front() {
            self.disk.borrow_mut().write(&rows, expired);
            self.untold += 1;
        }
    }

    /// Of how many the store is to be told now.
    pub(crate) fn take_untold(&mut self) -> usize {
        std::mem::take(&mut self.untold)
    }

    /// A start: what the disk does not have comes from the changelog.
    pub(crate) fn restart(&mut self) {
        self.untold = 0;
        for (rows, _) in self.unwritten.drain(..) {
            self.disk.borrow_mut().write(&rows, Expired::Nothing);
        }
    }
}

impl DiskRows for Rows {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        let (disk, mut disk_key) = (self.0.borrow(), Vec::new());
        disk.order.disk_key(key, 0, &mut disk_key);
        disk.rows.get(&disk_key).map_or(Ok(false), |row| found(record(row)).map(|()| true))
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.0.borrow().rows.is_empty())
    }

    fn approximate_len(&self) -> usize {
        self.0.borrow().rows.len()
    }

    fn latest(&self) -> Option<Timestamp> {
        self.0.borrow().latest
    }

    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let disk = self.0.borrow();
        let mut found: Vec<_> = disk.rows.range::<[u8], _>(range).map(|(_, row)| row).collect();
        if descending {
            found.reverse();
        }
        for found in found {
            if row(record(found))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

pub(crate) fn record(row: &Row) -> ChangelogRecord<'_> {
    ChangelogRecord { key: &row.0, value: row.1.as_deref(), timestamp: row.2, headers: &[], offset: 0 }
}

pub(crate) fn rows_of(writer: ChangelogWriter) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in writer.into_batches() {
        let mut records = batch.into_records(0);
        while let Some(Ok(record)) = records.next() {
            let value = record.value.map(|value| value.as_slice().to_vec());
            rows.push((record.key.expect("a key").as_slice().to_vec(), value, record.timestamp));
        }
    }
    rows
}
