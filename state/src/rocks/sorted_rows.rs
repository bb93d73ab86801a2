//! Rows on their way to a database, in the order of their keys.

use std::hint::black_box;

use super::row::ROW;

/// Rows in one buffer, to be written in the order of their keys: that is twice as fast as any other.
#[derive(Default)]
pub(super) struct SortedRows {
    pub(super) bytes: Vec<u8>,
    rows: Vec<RowAt>,
    order: Vec<Place>,
    open: (usize, usize),
}

/// A row's place in the order: few bytes, since they are moved a lot.
#[derive(Clone, Copy)]
struct Place {
    /// What the key begins with behind what all keys begin with: most comparisons then need no look at the buffer.
    head: u64,
    row: u32,
}

/// Where a row lies in the buffer.
struct RowAt {
    key: usize,
    value: usize,
    end: usize,
    has_value: bool,
}

impl SortedRows {
    /// Rows that are read before the first of them is given.
    const AHEAD: usize = 32;

    /// Makes room for rows of so many bytes.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    pub(super) fn begin_key(&mut self) {
        self.open.0 = self.bytes.len();
        self.bytes.push(ROW);
    }

    pub(super) fn begin_value(&mut self) {
        self.open.1 = self.bytes.len();
    }

    pub(super) fn end(&mut self, has_value: bool) {
        let (key, value) = self.open;
        self.rows.push(RowAt { key, value, end: self.bytes.len(), has_value });
    }

    /// By key, rows of one key as they came.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |row: &RowAt| &bytes[row.key..row.value];
        let Some(first) = self.rows.first().map(key) else { return };
        let shared = self.rows.iter().fold(first.len(), |shared, row| {
            let same = first[..shared].iter().zip(key(row)).take_while(|(a, b)| a == b);
            same.count()
        });
        self.order.clear();
        self.order.extend(self.rows.iter().zip(0..).map(|(found, row)| {
            let rest = &bytes[found.key + shared..found.value];
            let mut head = [0; size_of::<u64>()];
            let len = rest.len().min(head.len());
            head[..len].copy_from_slice(&rest[..len]);
            Place { head: u64::from_be_bytes(head), row }
        }));
        self.order.sort_unstable_by_key(|place| place.head);
        // Keys that begin alike, and one that ends, which is padded like one that goes on with zeros.
        let whole = |place: &Place| key(&self.rows[place.row as usize]);
        for same in self.order.chunk_by_mut(|a, b| a.head == b.head).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|a, b| whole(a).cmp(whole(b)).then(a.row.cmp(&b.row)));
        }
    }

    /// Gives the last row of every key, by key.
    pub(super) fn drain_last(&mut self, row: impl FnMut(&[u8], Option<&[u8]>)) {
        self.drain_if(row, |at, next| at != next);
    }

    /// Gives the rows by key, those of one key as they came.
    pub(super) fn drain(&mut self, row: impl FnMut(&[u8], Option<&[u8]>)) {
        self.drain_if(row, |_, _| true);
    }

    /// Gives the rows by key that are wanted; that is decided with their key and the next row's.
    fn drain_if(&mut self, mut row: impl FnMut(&[u8], Option<&[u8]>), wanted: impl Fn(&[u8], &[u8]) -> bool) {
        self.sort();
        let (bytes, rows) = (&self.bytes, &self.rows);
        let key = |place: &Place| {
            let RowAt { key, value, .. } = rows[place.row as usize];
            &bytes[key..value]
        };
        for (part, places) in self.order.chunks(Self::AHEAD).enumerate() {
            // Memory fetches rows that are asked for in a row at once, but those that are written one after the other.
            for place in places {
                black_box(rows[place.row as usize].has_value);
            }
            for place in places {
                let found = &rows[place.row as usize];
                (found.key..found.end).step_by(64).for_each(|at| {
                    black_box(bytes[at]);
                });
            }
            for (at, place) in places.iter().enumerate() {
                let next = self.order.get(part * Self::AHEAD + at + 1).filter(|next| next.head == place.head);
                if next.is_none_or(|next| wanted(key(place), key(next))) {
                    let found = &rows[place.row as usize];
                    row(key(place), found.has_value.then_some(&bytes[found.value..found.end]));
                }
            }
        }
        self.rows.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Short keys, one the beginning of another, zeros, a shared beginning longer than any head.
        #[test]
        fn rows_come_by_key_and_those_of_a_key_as_they_came(
            shared in 0..20usize,
            keys in vec((vec(0..3u8, 0..20), any::<bool>()), 0..60),
        ) {
            let keys: Vec<_> = keys.iter().map(|(key, there)| ([&vec![7; shared], key.as_slice()].concat(), *there)).collect();
            let fill = || {
                let mut rows = SortedRows::default();
                for (number, (key, there)) in keys.iter().enumerate() {
                    rows.begin_key();
                    rows.bytes.extend(key);
                    rows.begin_value();
                    rows.bytes.extend(number.to_be_bytes());
                    rows.end(*there);
                }
                rows
            };
            let rows = keys.iter().enumerate().map(|(number, (key, there))| {
                ([&[ROW], key.as_slice()].concat(), there.then(|| number.to_be_bytes().to_vec()))
            });
            let mut wanted: Vec<_> = rows.collect();
            wanted.sort_by(|a, b| a.0.cmp(&b.0));
            let mut all = Vec::new();
            fill().drain(|key, value| all.push((key.to_vec(), value.map(<[u8]>::to_vec))));
            prop_assert_eq!(&all, &wanted);
            let mut last = Vec::new();
            fill().drain_last(|key, value| last.push((key.to_vec(), value.map(<[u8]>::to_vec))));
            let is_last = |at: usize| wanted.get(at + 1).is_none_or(|next| next.0 != wanted[at].0);
            let wanted: Vec<_> = (0..wanted.len()).filter(|at| is_last(*at)).map(|at| wanted[at].clone()).collect();
            prop_assert_eq!(last, wanted);
        }
    }
}
