//! Rows on their way to a database, in the order of their keys.

use super::row::ROW;

/// Rows in one buffer, to be written in the order of their keys: that is twice as fast as any other.
#[derive(Default)]
pub(super) struct SortedRows {
    pub(super) bytes: Vec<u8>,
    /// Begin of the key, begin of the value, end; whether there is a value.
    rows: Vec<(usize, usize, usize, bool)>,
    open: (usize, usize),
}

impl SortedRows {
    pub(super) fn begin_key(&mut self) {
        self.open.0 = self.bytes.len();
        self.bytes.push(ROW);
    }

    pub(super) fn begin_value(&mut self) {
        self.open.1 = self.bytes.len();
    }

    pub(super) fn end(&mut self, has_value: bool) {
        self.rows.push((self.open.0, self.open.1, self.bytes.len(), has_value));
    }

    /// Gives the last row of every key, by key.
    pub(super) fn drain_last(&mut self, mut row: impl FnMut(&[u8], Option<&[u8]>)) {
        let bytes = &self.bytes;
        self.rows.sort_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
        let is_last = |at: usize| {
            let key = |row: &(usize, usize, usize, bool)| &bytes[row.0..row.1];
            self.rows.get(at + 1).is_none_or(|next| key(next) != key(&self.rows[at]))
        };
        for at in (0..self.rows.len()).filter(|at| is_last(*at)) {
            let (key, value, end, has_value) = self.rows[at];
            row(&bytes[key..value], has_value.then_some(&bytes[value..end]));
        }
        self.rows.clear();
        self.bytes.clear();
    }

    /// Gives the rows by key, those of one key as they came.
    pub(super) fn drain(&mut self, mut row: impl FnMut(&[u8], Option<&[u8]>)) {
        let bytes = &self.bytes;
        self.rows.sort_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
        for (key, value, end, has_value) in self.rows.drain(..) {
            row(&bytes[key..value], has_value.then_some(&bytes[value..end]));
        }
        self.bytes.clear();
    }
}
