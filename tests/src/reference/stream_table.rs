//! A stream joined with a table: the stream's records trigger, the table only answers (semantics.md 32).

use crate::reference::row::{Row, plus};
use crate::reference::table::Table;

pub(crate) struct StreamTable {
    left: bool,
    table: Table,
    /// Records wait until stream time has passed theirs by so much, and are joined in order of time and key.
    grace: Option<i64>,
    /// The largest time of a record with key and value.
    now: i64,
    waiting: Vec<Row>,
}

impl StreamTable {
    pub(crate) fn new(left: bool, table: Table) -> Self {
        StreamTable { left, table, grace: None, now: 0, waiting: Vec::new() }
    }

    pub(crate) fn grace(self, grace: i64) -> Self {
        StreamTable { grace: Some(grace), ..self }
    }

    pub(crate) fn table(&mut self, row: &Row) {
        self.table.process(row);
    }

    pub(crate) fn stream(&mut self, row: &Row) -> Vec<Row> {
        let Some(grace) = self.grace.filter(|_| row.key.is_some() && row.value.is_some()) else {
            return self.join(row);
        };
        self.now = self.now.max(row.time);
        let passed = self.now - grace;
        if row.time < passed {
            return self.join(row);
        }
        self.waiting.push(row.clone());
        self.waiting.sort_by_key(|row| (row.time, row.key.clone()));
        let leaving = self.waiting.iter().take_while(|row| row.time <= passed).count();
        let leaving: Vec<Row> = self.waiting.drain(..leaving).collect();
        leaving.iter().flat_map(|row| self.join(row)).collect()
    }

    fn join(&self, row: &Row) -> Vec<Row> {
        let Some(value) = &row.value else { return Vec::new() };
        let found = row.key.as_ref().and_then(|key| self.table.get_as_of(key, row.time));
        if found.is_none() && !self.left {
            return Vec::new();
        }
        vec![row.with(plus(Some(value), found), row.time)]
    }
}
