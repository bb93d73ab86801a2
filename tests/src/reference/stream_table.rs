//! A stream joined with a table: the stream's records trigger, the table only answers (semantics.md 32).

use crate::reference::row::{Row, plus};
use crate::reference::table::Table;

pub(crate) struct StreamTable {
    left: bool,
    table: Table,
}

impl StreamTable {
    pub(crate) fn new(left: bool) -> Self {
        StreamTable { left, table: Table::default() }
    }

    pub(crate) fn table(&mut self, row: &Row) {
        self.table.process(row);
    }

    pub(crate) fn stream(&self, row: &Row) -> Vec<Row> {
        let Some(value) = &row.value else { return Vec::new() };
        let found = row.key.as_ref().and_then(|key| self.table.get(key)).map(|(value, _)| value);
        if found.is_none() && !self.left {
            return Vec::new();
        }
        vec![row.with(plus(Some(value), found), row.time)]
    }
}
