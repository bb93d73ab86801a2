//! A source table: the newest row by offset, not by time (semantics.md 28, 29); with a history, by time (28, 64).

use std::collections::BTreeMap;

use millstream_core::partition_for_key;

use crate::reference::row::Row;

#[derive(Default)]
pub(crate) struct Table {
    /// By key, and within a key by time; without a history all rows are at one place in time.
    rows: BTreeMap<String, BTreeMap<i64, (Option<String>, i64)>>,
    /// How far behind the newest record rows are known.
    history: Option<i64>,
    /// Of how many partitions the table is.
    partitions: i32,
    /// The largest time of a record with a key, by partition.
    now: BTreeMap<i32, i64>,
}

/// A row on its way, and what it replaces.
pub(crate) struct Change {
    pub(crate) row: Row<String>,
    pub(crate) old: Option<String>,
    /// There is no later row.
    pub(crate) is_latest: bool,
}

impl Table {
    /// A table that remembers what its rows were.
    pub(crate) fn with_history(history: i64, partitions: i32) -> Self {
        Table { history: Some(history), partitions, ..Table::default() }
    }

    /// The time from which on rows are known.
    fn known_from(&self, key: &str) -> i64 {
        let now = self.now.get(&partition_for_key(key.as_bytes(), self.partitions)).copied().unwrap_or_default();
        self.history.map_or(i64::MIN, |history| now - history)
    }

    /// Takes a record; null keys and what is older than the history are dropped.
    pub(crate) fn process(&mut self, row: &Row) -> Option<Change> {
        let row = row.with_key(row.key.clone()?);
        let now = self.now.entry(partition_for_key(row.key.as_bytes(), self.partitions)).or_default();
        *now = row.time.max(*now);
        if row.time < self.known_from(&row.key) {
            return None;
        }
        let place = self.history.map_or(0, |_| row.time);
        let versions = self.rows.entry(row.key.clone()).or_default();
        let old = versions.range(..=place).next_back().and_then(|(_, (value, _))| value.clone());
        versions.insert(place, (row.value.clone(), row.time));
        let is_latest = versions.range(place + 1..).next().is_none();
        Some(Change { row, old, is_latest })
    }

    /// The same, for who only cares for the latest rows.
    pub(crate) fn process_latest(&mut self, row: &Row) -> Option<Change> {
        self.process(row).filter(|change| change.is_latest)
    }

    /// The latest row's value and time.
    pub(crate) fn get(&self, key: &str) -> Option<(&str, i64)> {
        let (_, (value, time)) = self.rows.get(key)?.last_key_value()?;
        Some((value.as_deref()?, *time))
    }

    /// The value that a row had at a time; without a history, the one that it has. Of what is older than the history only
    /// the latest rows are known.
    pub(crate) fn get_as_of(&self, key: &str, time: i64) -> Option<&str> {
        let (latest, since) = self.get(key).map_or((None, i64::MAX), |(value, since)| (Some(value), since));
        match self.history {
            None => latest,
            Some(_) if time < self.known_from(key) => latest.filter(|_| since <= time),
            Some(_) => self.rows.get(key)?.range(..=time).next_back()?.1.0.as_deref(),
        }
    }

    /// Loses a row without a word.
    pub(crate) fn forget(&mut self, key: &str) {
        self.rows.remove(key);
    }

    /// All latest rows, in order of their keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.keys().filter_map(|key| Some((key.as_str(), self.get(key)?.0)))
    }
}
