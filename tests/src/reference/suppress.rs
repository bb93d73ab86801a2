//! Suppression: rows wait until stream time has passed their place in the queue (semantics.md 46 to 49).

use crate::reference::row::Row;

pub(crate) struct Suppress<K> {
    /// How far behind stream time a row comes out.
    wait: i64,
    /// More rows than this do not wait.
    most: usize,
    /// Deleted rows never come out.
    drop_tombstones: bool,
    /// The largest time of a row.
    now: i64,
    /// Places, and the rows' newest versions.
    held: Vec<(i64, Row<K>)>,
}

impl<K: Clone + Ord> Suppress<K> {
    /// Rows come out `wait` after their first version's time, or when there are too many.
    pub(crate) fn until_time_limit(wait: i64, most: usize) -> Self {
        Suppress { wait, most, drop_tombstones: false, now: 0, held: Vec::new() }
    }

    /// Rows come out `wait` after the end of their window.
    pub(crate) fn until_window_closes(wait: i64) -> Self {
        Suppress { wait, most: usize::MAX, drop_tombstones: true, now: 0, held: Vec::new() }
    }

    /// Takes a row for a place in the queue; the place of a row that is there already stays.
    pub(crate) fn process(&mut self, place: i64, row: Row<K>) -> Vec<Row<K>> {
        self.now = self.now.max(row.time);
        match self.held.iter_mut().find(|(_, held)| held.key == row.key) {
            Some((_, held)) => *held = row,
            None => self.held.push((place, row)),
        }
        self.let_go()
    }

    /// Whether something comes out when stream time comes to this.
    pub(crate) fn is_due(&self, time: i64) -> bool {
        self.held.iter().any(|(place, _)| place + self.wait <= time)
    }

    /// Stream time has come so far without a row.
    pub(crate) fn wait(&mut self, time: i64) -> Vec<Row<K>> {
        self.now = self.now.max(time);
        self.let_go()
    }

    fn let_go(&mut self) -> Vec<Row<K>> {
        self.held.sort_by_key(|(place, row)| (*place, row.key.clone()));
        let mut out = Vec::new();
        while self.held.first().is_some_and(|(place, _)| place + self.wait <= self.now || self.held.len() > self.most) {
            let (_, row) = self.held.remove(0);
            if row.value.is_some() || !self.drop_tombstones {
                out.push(row);
            }
        }
        out
    }
}
