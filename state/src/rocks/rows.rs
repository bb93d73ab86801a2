//! Reading the rows of one store.

use std::cell::{Cell, RefCell};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use millstream_core::{ChangelogRecord, DiskRows, Result, RowOrder, Timestamp};
use rocksdb::ReadOptions;

use super::database::Database;
use super::row::{END, ROW, decode_row};

/// The rows of a store, as they were written last.
pub(super) struct RocksRows {
    database: Arc<Database>,
    family: usize,
    /// The key on disk of a row that is asked for.
    key: RefCell<Vec<u8>>,
    /// Reads a row, and leaves its block in the cache.
    keeping: ReadOptions,
    /// Reads a row, and a block of it that is not in the cache for this once.
    passing: ReadOptions,
    /// Rows that were asked for.
    asked: Cell<u32>,
}

impl RocksRows {
    pub(super) fn new(database: Arc<Database>, family: usize) -> Self {
        let (keeping, mut passing) = (ReadOptions::default(), ReadOptions::default());
        passing.fill_cache(false);
        RocksRows { database, family, key: RefCell::default(), keeping, passing, asked: Cell::default() }
    }

    /// Of so many blocks that a row is read from, the cache takes one. Tables keep the rows that are asked for again; taking in a block
    /// and another one out for every row took a fifth of the time, and those that are asked for often come to be there all the same.
    const KEPT_OF: u32 = 8;

    fn options(&self) -> &ReadOptions {
        self.asked.set(self.asked.get().wrapping_add(1));
        if self.asked.get().is_multiple_of(Self::KEPT_OF) { &self.keeping } else { &self.passing }
    }

    fn order(&self) -> RowOrder {
        self.database.families[self.family].order
    }
}

impl DiskRows for RocksRows {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        let mut disk_key = self.key.borrow_mut();
        disk_key.clear();
        disk_key.push(ROW);
        self.order().disk_key(key, 0, &mut disk_key);
        let handle = self.database.handle(self.family)?;
        let bytes = self.database.db.get_pinned_cf_opt(&handle, &*disk_key, self.options());
        let Some(bytes) = bytes.map_err(|e| self.database.error("cannot be read", &e))? else { return Ok(false) };
        match decode_row(key, &bytes) {
            Some(row) => found(row).map(|()| true),
            None => Err(self.database.damage("a row that is too short")),
        }
    }

    fn is_empty(&self) -> Result<bool> {
        self.database.has_rows(self.family).map(|has_rows| !has_rows)
    }

    fn approximate_len(&self) -> usize {
        let handle = self.database.handle(self.family).ok();
        let guess = handle.and_then(|handle| {
            self.database.db.property_int_value_cf(&handle, rocksdb::properties::ESTIMATE_NUM_KEYS).ok().flatten()
        });
        guess.unwrap_or(0) as usize
    }

    fn latest(&self) -> Option<Timestamp> {
        self.database.latest(self.family)
    }

    fn look_up(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.read(range, false, descending, row)
    }

    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.read(range, true, descending, row)
    }
}

impl RocksRows {
    fn read(
        &self,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        many: bool,
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let with_prefix = |key: &[u8]| [&[ROW], key].concat();
        let mut options = ReadOptions::default();
        if many {
            // Nobody asks for most of them again.
            options.set_readahead_size(2 << 20);
            options.fill_cache(false);
        }
        options.set_iterate_lower_bound(match from {
            Bound::Included(key) => with_prefix(key),
            // The least key behind it.
            Bound::Excluded(key) => [with_prefix(key), vec![0]].concat(),
            Bound::Unbounded => vec![ROW],
        });
        options.set_iterate_upper_bound(match to {
            Bound::Included(key) => [with_prefix(key), vec![0]].concat(),
            Bound::Excluded(key) => with_prefix(key),
            Bound::Unbounded => END.to_vec(),
        });
        let handle = self.database.handle(self.family)?;
        let mut rows = self.database.db.raw_iterator_cf_opt(&handle, options);
        if descending {
            rows.seek_to_last()
        } else {
            rows.seek_to_first()
        }
        let mut changelog_key = Vec::new();
        while let Some((key, value)) = rows.item() {
            changelog_key.clear();
            self.order().changelog_key(&key[1..], &mut changelog_key);
            let Some(found) = decode_row(&changelog_key, value) else {
                return Err(self.database.damage("a row that is too short"));
            };
            if row(found)?.is_break() {
                break;
            }
            if descending { rows.prev() } else { rows.next() }
        }
        rows.status().map_err(|e| self.database.error("cannot be read", &e))
    }
}
