//! Which rows were used last, for a table that keeps no more than so many.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::rows::RowId;

/// The rows of a table by their last use.
pub(super) struct Recency {
    most: usize,
    by_use: BTreeMap<u64, RowId>,
    used: HashMap<RowId, u64>,
    uses: u64,
    /// The row that was handed out last, to be read or changed: what became of it is not known yet.
    last: Option<RowId>,
}

impl Recency {
    pub(super) fn new(most: usize) -> Self {
        Recency { most, by_use: BTreeMap::new(), used: HashMap::new(), uses: 0, last: None }
    }

    /// Without what is known; `rows` come in the order of their use.
    pub(super) fn anew(&mut self, rows: impl IntoIterator<Item = RowId>) {
        *self = Recency::new(self.most);
        rows.into_iter().for_each(|row| self.note(row));
        self.last = None;
    }

    pub(super) fn note(&mut self, row: RowId) {
        self.forget(row);
        self.uses += 1;
        self.by_use.insert(self.uses, row);
        self.used.insert(row, self.uses);
        self.last = Some(row);
    }

    pub(super) fn forget(&mut self, row: RowId) {
        if let Some(used) = self.used.remove(&row) {
            self.by_use.remove(&used);
        }
        self.last = self.last.filter(|last| *last != row);
    }

    /// The row that was handed out last, once.
    pub(super) fn take_last(&mut self) -> Option<RowId> {
        self.last.take()
    }

    /// Takes the row out that was not used for longest, if there are more than may be.
    pub(super) fn take_surplus(&mut self) -> Option<RowId> {
        if self.used.len() <= self.most {
            return None;
        }
        let (_, row) = self.by_use.pop_first()?;
        self.used.remove(&row);
        Some(row)
    }
}
