//! A table's share of the memory that stands for rows which are on disk too.

use std::sync::Arc;

use millstream_core::StateBudget;

/// What a table takes of the process's budget.
pub(crate) struct Share {
    budget: Arc<StateBudget>,
    /// Bytes that the budget knows of.
    taken: usize,
    /// Bytes and number of encoded rows, of those seen lately.
    encoded: (usize, usize),
}

impl Share {
    /// What a decoded row takes for each of its encoded bytes, besides its place in the table.
    const DECODED: usize = 2;

    pub(crate) fn new(budget: &Arc<StateBudget>) -> Self {
        Share { budget: budget.clone(), taken: 0, encoded: (0, 0) }
    }

    /// A row of so many encoded bytes.
    pub(crate) fn saw(&mut self, bytes: usize) {
        if self.encoded.1 > 1 << 16 {
            self.encoded = (self.encoded.0 / 2, self.encoded.1 / 2);
        }
        self.encoded = (self.encoded.0 + bytes, self.encoded.1 + 1);
    }

    /// About how many bytes one of the rows takes, whose place in the table takes so many.
    pub(crate) fn row_bytes(&self, place: usize) -> usize {
        place + Self::DECODED * self.encoded.0 / self.encoded.1.max(1)
    }

    /// Of so many rows in memory, whose places take so many bytes each, and other bytes besides: for how many the budget has no
    /// room.
    pub(crate) fn too_many(&mut self, rows: usize, place: usize, besides: usize) -> usize {
        let row = self.row_bytes(place);
        self.take(rows * row + besides).div_ceil(row)
    }

    /// The table takes so many bytes now. Returns how many of them are too many.
    pub(crate) fn take(&mut self, bytes: usize) -> usize {
        let keep = self.budget.take(self.taken, bytes);
        self.taken = bytes;
        bytes - keep
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.take(self.taken, 0);
    }
}
