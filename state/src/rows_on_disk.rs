//! The rows on disk of a table that finds them by key: whether there may be one that is not in memory, and how many of those in
//! memory leave.

use std::sync::Arc;

use millstream_core::{DiskRows, Result, StateBudget, Timestamp};

use crate::index::Index;
use crate::rows::{Content, RowId, Rows};
use crate::share::Share;

/// The rows on disk of a table.
pub(crate) struct RowsOnDisk {
    rows: Box<dyn DiskRows>,
    pub(crate) share: Share,
    /// Every row is in memory: a key that is not there has none.
    is_complete: Option<bool>,
}

impl RowsOnDisk {
    pub(crate) fn new(rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> Self {
        RowsOnDisk { rows, share: Share::new(budget), is_complete: None }
    }

    /// The rows, to look up a key in that is not in memory; `None` if there is none of it.
    pub(crate) fn unless_complete(&mut self) -> Result<Option<&dyn DiskRows>> {
        let is_complete = match self.is_complete {
            Some(is_complete) => is_complete,
            None => *self.is_complete.insert(self.rows.is_empty()?),
        };
        Ok((!is_complete).then_some(self.rows.as_ref()))
    }

    /// The rows, if some of them may not be in memory.
    pub(crate) fn away(&self) -> Option<&dyn DiskRows> {
        (self.is_complete != Some(true)).then_some(self.rows.as_ref())
    }

    /// The largest time of the rows that were ever written.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.rows.latest()
    }

    /// As [`Share::too_many`].
    pub(crate) fn too_many(&mut self, rows: usize, place: usize, besides: usize) -> usize {
        self.share.too_many(rows, place, besides)
    }

    /// A row has left memory.
    pub(crate) fn has_left(&mut self) {
        self.is_complete = Some(false);
    }

    /// Lets rows leave that the budget has no room for; `forget` takes them out of the index and others.
    pub(crate) fn evict<I, C: Content>(
        &mut self,
        index: &mut Index<RowId>,
        rows: &mut Rows<I, C>,
        mut forget: impl FnMut(&mut Index<RowId>, RowId, &I),
    ) {
        let place = rows.row_bytes() + Index::<RowId>::ENTRY_BYTES;
        let too_many = self.too_many(index.len(), place, 0);
        if too_many == 0 {
            return;
        }
        if rows.evict(too_many, |id, key| forget(index, id, key)) > 0 {
            self.has_left();
        }
        self.too_many(index.len(), place, 0);
    }
}
