//! A source table: the newest row by offset, not by time (semantics.md 28, 29).

use std::collections::BTreeMap;

use crate::reference::row::Row;

#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<String, (String, i64)>,
}

/// A row on its way, and what it replaces.
pub(crate) struct Change {
    pub(crate) row: Row<String>,
    pub(crate) old: Option<String>,
}

impl Table {
    /// Takes a record; null keys are dropped.
    pub(crate) fn process(&mut self, row: &Row) -> Option<Change> {
        let row = row.with_key(row.key.clone()?);
        let old = match &row.value {
            Some(value) => self.rows.insert(row.key.clone(), (value.clone(), row.time)),
            None => self.rows.remove(&row.key),
        };
        Some(Change { row, old: old.map(|(value, _)| value) })
    }

    /// A row's value and time.
    pub(crate) fn get(&self, key: &str) -> Option<(&str, i64)> {
        self.rows.get(key).map(|(value, time)| (value.as_str(), *time))
    }

    /// Loses a row without a word.
    pub(crate) fn forget(&mut self, key: &str) {
        self.rows.remove(key);
    }

    /// All rows, in order of their keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().map(|(key, (value, _))| (key.as_str(), value.as_str()))
    }
}
