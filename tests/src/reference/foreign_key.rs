//! A table joined with another by a key in its rows (semantics.md 52 to 58), without the messages in between.

use crate::reference::row::{Row, first, plus};
use crate::reference::table::Table;

/// A left row's foreign key is its first character; it has none if it begins with `none`.
fn foreign_key(value: &str) -> Option<String> {
    (!value.starts_with("none")).then(|| first(value))
}

pub(crate) struct ForeignKey {
    /// Left rows come out without a partner.
    left_join: bool,
    left: Table,
    right: Table,
}

impl ForeignKey {
    pub(crate) fn new(left_join: bool, left: Table, right: Table) -> Self {
        ForeignKey { left_join, left, right }
    }

    pub(crate) fn left(&mut self, row: &Row) -> Vec<Row<String>> {
        let Some(change) = self.left.process_latest(row) else { return Vec::new() };
        if change.old.is_none() && change.row.value.is_none() {
            return Vec::new();
        }
        let old_key = change.old.as_deref().and_then(foreign_key);
        let new_key = change.row.value.as_deref().and_then(foreign_key);
        // Who answers: the partner that the row has now; in an inner join else the one that it leaves.
        let asked = if self.left_join { new_key.as_ref() } else { new_key.as_ref().or(old_key.as_ref()) };
        let found = asked.and_then(|key| self.right.get(key));
        let time = found.map_or(row.time, |(_, time)| row.time.max(time));
        let partner = found.filter(|_| new_key.is_some()).map(|(value, _)| value);
        let answered = self.left_join
            || match (&old_key, &new_key) {
                // New here, or still the same: only a partner is worth a word.
                (None, Some(_)) => partner.is_some(),
                (Some(old), Some(new)) => old != new || partner.is_some(),
                (Some(_), None) => true,
                (None, None) => false,
            };
        if !answered {
            return Vec::new();
        }
        let value = change.row.value.as_deref().filter(|_| partner.is_some() || self.left_join);
        vec![change.row.with(value.and_then(|value| plus(Some(value), partner)), time)]
    }

    /// A right row answers every left row that points to it, in order of their keys.
    pub(crate) fn right(&mut self, row: &Row) -> Vec<Row<String>> {
        let Some(change) = self.right.process_latest(row) else { return Vec::new() };
        let pointing = self.left.rows().filter(|(_, value)| foreign_key(value).as_ref() == Some(&change.row.key));
        pointing
            .map(|(key, value)| {
                let partner = change.row.value.as_deref();
                let joined = if partner.is_some() || self.left_join { plus(Some(value), partner) } else { None };
                row.with_key(key.to_owned()).with(joined, row.time)
            })
            .collect()
    }
}
