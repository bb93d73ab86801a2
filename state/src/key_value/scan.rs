//! Rows of a range of keys: those in memory and those on disk, merged part by part, so that the range need not fit into memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::rc::{Rc, Weak};

use millstream_core::{
    ChangelogRecord, ChangelogWriter, KeyRange, Result, Serde, StoreQuery, Timestamp, is_empty_range,
};

use super::{KeyValueTable, decode};
use crate::rows::{Entry, RowId};

/// Rows that are looked at in one part.
const PART: usize = 256;

/// Rows in the first part of an open scan.
const FIRST_PART: usize = 16;

/// A row that was read from disk.
pub(crate) struct OwnedRow {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
    headers: Vec<u8>,
}

impl OwnedRow {
    pub(crate) fn of(record: ChangelogRecord<'_>) -> Self {
        let (key, value) = (record.key.to_vec(), record.value.map(<[u8]>::to_vec));
        OwnedRow { key, value, timestamp: record.timestamp, headers: record.headers.to_vec() }
    }

    pub(crate) fn record(&self) -> ChangelogRecord<'_> {
        let (key, value) = (&self.key, self.value.as_deref());
        ChangelogRecord { key, value, timestamp: self.timestamp, headers: &self.headers, offset: -1 }
    }
}

/// A row of a part: in memory, or on disk alone.
pub(super) enum Found {
    InMemory(RowId),
    OnDisk(OwnedRow),
}

/// Key, value, time.
pub type ScannedRow<V> = (Vec<u8>, V, Timestamp);

/// Rows of a table as they were when the scan was opened, whatever is changed meanwhile: [`KeyValueTable::next_row`].
pub struct Scan<V> {
    open: Rc<RefCell<Open<V>>>,
    /// Rows that were read and not given yet.
    part: VecDeque<ScannedRow<V>>,
    /// How many the next part has: few at first, since many a scan wants one row.
    most: usize,
}

impl<V> Scan<V> {
    /// The last row first. For a scan that has given no row yet.
    pub fn turn_round(&mut self) {
        self.open.borrow_mut().left.iter_mut().for_each(|left| left.descending = true);
    }
}

/// What a scan has not read yet.
struct Open<V> {
    /// `None`: nothing.
    left: Option<StoreQuery>,
    /// Rows of it that were changed since, as they were.
    was: BTreeMap<Vec<u8>, Entry<V>>,
}

impl<V> Open<V> {
    fn has_ahead(&self, key: &[u8]) -> bool {
        let range = self.left.as_ref().and_then(|left| left.keys_left(left.after.as_deref(), false));
        range.is_some_and(|range| RangeBounds::<[u8]>::contains(&range, key))
    }
}

/// The scans of a table that are open.
pub(super) struct Scans<V>(Vec<Weak<RefCell<Open<V>>>>);

impl<V> Default for Scans<V> {
    fn default() -> Self {
        Scans(Vec::new())
    }
}

impl<V: Clone> Scans<V> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a row that is about to change, for the scans that have not come to it.
    #[cold]
    pub(super) fn keep(&mut self, key: &[u8], row: &Entry<V>) {
        self.0.retain(|scan| {
            let Some(open) = scan.upgrade() else { return false };
            let mut open = open.borrow_mut();
            if open.has_ahead(key) && !open.was.contains_key(key) {
                open.was.insert(key.to_vec(), row.clone());
            }
            open.left.is_some()
        });
    }

    fn open(&mut self, query: StoreQuery) -> Rc<RefCell<Open<V>>> {
        let open = Rc::new(RefCell::new(Open { left: Some(query), was: BTreeMap::new() }));
        self.0.retain(|scan| scan.strong_count() > 0);
        self.0.push(Rc::downgrade(&open));
        open
    }
}

/// What a scan calls for every row: key, value, time.
pub type Visit<'a, V> = dyn FnMut(&[u8], &V, Timestamp) -> Result<ControlFlow<()>> + 'a;

impl<VS: Serde> KeyValueTable<VS>
where
    VS::Value: Clone,
{
    /// Gives the rows with keys in a range to `row`, in the order of their key bytes or the other way round, until it says
    /// `Break`: key, value, time. The first scan of a table sorts it once. Rows that are on disk alone stay there.
    ///
    /// # Errors
    /// When rows cannot be read from disk, and those of `row`.
    pub fn scan(&mut self, range: KeyRange<'_>, descending: bool, row: &mut Visit<'_, VS::Value>) -> Result<()> {
        if is_empty_range(range) {
            return Ok(());
        }
        self.drop_surplus();
        self.sort(usize::MAX);
        if self.rows_on_disk().is_none() {
            return self.scan_memory(range, descending, row).map(drop);
        }
        let owned = |bound: Bound<&[u8]>| bound.map(<[u8]>::to_vec);
        let query = StoreQuery { descending, ..StoreQuery::range((owned(range.0), owned(range.1))) };
        self.scan_left(query, row).map(drop)
    }

    /// As [`KeyValueTable::scan`], of what is left of a query; gives what is left of it then.
    fn scan_left(&mut self, mut query: StoreQuery, row: &mut Visit<'_, VS::Value>) -> Result<Option<StoreQuery>> {
        self.sort(usize::MAX);
        while let Some(range) = query.keys_left(query.after.as_deref(), false) {
            if self.rows_on_disk().is_none() {
                let last = self.scan_memory(range, query.descending, row)?;
                return Ok(last.map(|id| query.after(self.rows.identity(id))));
            }
            let (part, end) = self.part(range, query.descending, PART)?;
            for found in part {
                let is_enough = match &found {
                    Found::InMemory(id) => self.visit(*id, row)?,
                    Found::OnDisk(on_disk) => {
                        let entry = decode(&self.name, &self.serde, on_disk.record())?;
                        match &entry.value {
                            Some(value) => row(&on_disk.key, value, entry.timestamp)?,
                            None => ControlFlow::Continue(()),
                        }
                    }
                };
                if is_enough.is_break() {
                    return Ok(Some(query.after(self.key_of(&found))));
                }
            }
            match end {
                Some(end) => query = query.after(&end),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The same if all rows are in memory; gives the row at which it was broken off.
    fn scan_memory(
        &self,
        range: KeyRange<'_>,
        descending: bool,
        row: &mut Visit<'_, VS::Value>,
    ) -> Result<Option<RowId>> {
        let mut rows = self.sorted.iter().flat_map(|sorted| sorted.range(range)).map(|(_, id)| id);
        while let Some(id) = if descending { rows.next_back() } else { rows.next() } {
            if self.visit(id, row)?.is_break() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn visit(&self, id: RowId, row: &mut Visit<'_, VS::Value>) -> Result<ControlFlow<()>> {
        let entry = self.rows.content(id);
        match &entry.value {
            Some(value) => row(self.rows.identity(id), value, entry.timestamp),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// Opens a scan of the rows with keys in a range, as they are now.
    pub fn open_scan(&mut self, (from, to): (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Scan<VS::Value> {
        self.drop_surplus();
        Scan { open: self.scans.open(StoreQuery::range((from, to))), part: VecDeque::new(), most: FIRST_PART }
    }

    /// The next row of a scan of this table: key, value, time. Behind an error there are no more.
    ///
    /// # Errors
    /// When rows cannot be read from disk.
    pub fn next_row(&mut self, scan: &mut Scan<VS::Value>) -> Result<Option<ScannedRow<VS::Value>>> {
        let open = scan.open.clone();
        let open = &mut *open.borrow_mut();
        while scan.part.is_empty()
            && let Some(left) = open.left.take()
        {
            let (part, most, descending) = (&mut scan.part, scan.most, left.descending);
            open.left = self.scan_left(left, &mut |key, value, time| {
                part.push_back((key.to_vec(), value.clone(), time));
                Ok(if part.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            scan.most = (2 * most).min(PART);
            if !open.was.is_empty() {
                part.retain(|(key, ..)| !open.was.contains_key(key));
                let was = std::mem::take(&mut open.was);
                let (ahead, passed): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    was.into_iter().partition(|(key, _)| open.has_ahead(key));
                open.was = ahead;
                part.extend(passed.into_iter().filter_map(|(key, row)| Some((key, row.value?, row.timestamp))));
                part.make_contiguous().sort_by(|a, b| if descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
            }
        }
        Ok(scan.part.pop_front())
    }

    pub(super) fn key_of<'a>(&'a self, found: &'a Found) -> &'a [u8] {
        match found {
            Found::InMemory(id) => self.rows.identity(*id),
            Found::OnDisk(row) => &row.key,
        }
    }

    /// The first rows of a range that is not empty, of which about so many are looked at, and the key up to which these are all,
    /// if there may be more.
    pub(super) fn part(
        &self,
        range: KeyRange<'_>,
        descending: bool,
        most: usize,
    ) -> Result<(Vec<Found>, Option<Vec<u8>>)> {
        let (on_disk, disk_end) = self.disk_part(range, descending, most)?;
        let (in_memory, memory_end) = self.memory_part(range, descending, most);
        // Behind the end of one part rows of it may come before the other's.
        let order = |a: &[u8], b: &[u8]| if descending { b.cmp(a) } else { a.cmp(b) };
        let end = disk_end.into_iter().chain(memory_end).reduce(|a, b| if order(&a, &b).is_lt() { a } else { b });
        let is_within = |found: &Found| end.as_ref().is_none_or(|end| order(self.key_of(found), end).is_le());
        let found = in_memory.into_iter().map(Found::InMemory).chain(on_disk.into_iter().map(Found::OnDisk));
        let mut part: Vec<Found> = found.filter(is_within).collect();
        part.sort_by(|a, b| order(self.key_of(a), self.key_of(b)));
        Ok((part, end))
    }

    /// At most so many rows of a range that are on disk alone, and the last key that was looked at if there are more.
    fn disk_part(
        &self,
        range: KeyRange<'_>,
        descending: bool,
        most: usize,
    ) -> Result<(Vec<OwnedRow>, Option<Vec<u8>>)> {
        let (mut part, mut looked, mut bytes, mut end) = (Vec::new(), 0, 0, None);
        let Some(rows) = self.rows_on_disk() else { return Ok((part, end)) };
        rows.scan(range, descending, &mut |record| {
            looked += 1;
            bytes += record.value.map_or(0, <[u8]>::len);
            let is_enough = looked == most || bytes > ChangelogWriter::BATCH_BYTES;
            if is_enough {
                end = Some(record.key.to_vec());
            }
            if self.find(self.index.hash(record.key), record.key).is_none() {
                part.push(OwnedRow::of(record));
            }
            Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok((part, end))
    }

    /// The same of those in memory.
    fn memory_part(&self, range: KeyRange<'_>, descending: bool, most: usize) -> (Vec<RowId>, Option<Vec<u8>>) {
        let rows = self.sorted.iter().flat_map(|sorted| sorted.range(range)).map(|(_, id)| id);
        let part: Vec<RowId> = if descending { rows.rev().take(most).collect() } else { rows.take(most).collect() };
        let end = part.last().filter(|_| part.len() == most).map(|id| self.rows.identity(*id).to_vec());
        (part, end)
    }
}
