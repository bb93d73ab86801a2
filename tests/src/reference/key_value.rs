//! An aggregation by key (semantics.md 35, 36).

use std::collections::BTreeMap;

use crate::reference::fold::Fold;
use crate::reference::row::Row;

pub(crate) struct KeyValue {
    fold: Fold,
    rows: BTreeMap<String, (String, i64)>,
}

impl KeyValue {
    pub(crate) fn new(fold: Fold) -> Self {
        KeyValue { fold, rows: BTreeMap::new() }
    }

    pub(crate) fn process(&mut self, row: &Row) -> Vec<Row<String>> {
        let (Some(key), Some(value)) = (&row.key, &row.value) else { return Vec::new() };
        let stored = self.rows.remove(key);
        let time = stored.as_ref().map_or(row.time, |(_, time)| row.time.max(*time));
        let new = (self.fold.step)(stored.as_ref().map(|(sum, _)| sum.as_str()), Some(value));
        if let Some(new) = &new {
            self.rows.insert(key.clone(), (new.clone(), time));
        }
        vec![row.with_key(key.clone()).with(new, time)]
    }
}
