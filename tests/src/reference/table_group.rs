//! A table grouped by something else than its key, and aggregated (semantics.md 34).

use std::collections::BTreeMap;

use crate::reference::row::{Row, first};
use crate::reference::table::Table;

/// What a group does with a row that comes and one that goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups {
    pub(crate) add: fn(Option<&str>, &str) -> String,
    pub(crate) subtract: fn(&str, &str) -> String,
}

fn number(text: &str) -> i64 {
    text.parse().expect("a count is a number")
}

/// Counts rows.
pub(crate) const COUNT_ROWS: Groups =
    Groups { add: |sum, _| (sum.map_or(0, number) + 1).to_string(), subtract: |sum, _| (number(sum) - 1).to_string() };

/// A protocol of additions and subtractions that begins with the first row.
pub(crate) const REDUCE_ROWS: Groups = Groups {
    add: |sum, value| sum.map_or_else(|| value.to_owned(), |sum| format!("{sum}+{value}")),
    subtract: |sum, value| format!("{sum}-{value}"),
};

/// The same, beginning with an empty text.
pub(crate) const AGGREGATE_ROWS: Groups =
    Groups { add: |sum, value| format!("{}+{value}", sum.unwrap_or_default()), subtract: REDUCE_ROWS.subtract };

/// Groups by the first character.
pub(crate) struct TableGroup {
    functions: Groups,
    table: Table,
    groups: BTreeMap<String, (String, i64)>,
}

impl TableGroup {
    pub(crate) fn new(functions: Groups, table: Table) -> Self {
        TableGroup { functions, table, groups: BTreeMap::new() }
    }

    pub(crate) fn process(&mut self, row: &Row) -> Vec<Row<String>> {
        let Some(change) = self.table.process_latest(row) else { return Vec::new() };
        let (old, new) = (change.old, change.row.value);
        match (old.as_deref().map(first), new.as_deref().map(first)) {
            (Some(from), Some(to)) if from == to => vec![self.update(&from, old.as_deref(), new.as_deref(), row)],
            (from, to) => {
                let gone = from.map(|from| self.update(&from, old.as_deref(), None, row));
                let come = to.map(|to| self.update(&to, None, new.as_deref(), row));
                gone.into_iter().chain(come).collect()
            }
        }
    }

    fn update(&mut self, group: &str, old: Option<&str>, new: Option<&str>, row: &Row) -> Row<String> {
        let stored = self.groups.remove(group);
        let time = stored.as_ref().map_or(row.time, |(_, time)| row.time.max(*time));
        let mut sum = stored.map(|(sum, _)| sum);
        if let (Some(old), Some(had)) = (old, &sum) {
            sum = Some((self.functions.subtract)(had, old));
        }
        if let Some(new) = new {
            sum = Some((self.functions.add)(sum.as_deref(), new));
        }
        if let Some(sum) = &sum {
            self.groups.insert(group.to_owned(), (sum.clone(), time));
        }
        row.with_key(group.to_owned()).with(sum, time)
    }
}
