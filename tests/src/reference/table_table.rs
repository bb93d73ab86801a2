//! Two tables joined by key (semantics.md 31).

use crate::reference::row::{Row, plus};
use crate::reference::stream_stream::{Kind, Side};
use crate::reference::table::Table;

pub(crate) struct TableTable {
    kind: Kind,
    left: Table,
    right: Table,
}

impl TableTable {
    pub(crate) fn new(kind: Kind, left: Table, right: Table) -> Self {
        TableTable { kind, left, right }
    }

    /// A side's row is no longer there to be seen.
    pub(crate) fn forget(&mut self, side: Side, key: &str) {
        match side {
            Side::Left => self.left.forget(key),
            Side::Right => self.right.forget(key),
        }
    }

    pub(crate) fn process(&mut self, side: Side, row: &Row) -> Vec<Row<String>> {
        let (own, other) = match side {
            Side::Left => (&mut self.left, &self.right),
            Side::Right => (&mut self.right, &self.left),
        };
        let Some(change) = own.process_latest(row) else { return Vec::new() };
        let partner = other.get(&change.row.key);
        let alone = match side {
            Side::Left => self.kind != Kind::Inner,
            Side::Right => self.kind == Kind::Outer,
        };
        let partner_alone = match side {
            Side::Left => self.kind == Kind::Outer,
            Side::Right => self.kind != Kind::Inner,
        };
        if partner.is_none() && (!alone || (change.row.value.is_none() && change.old.is_none())) {
            return Vec::new();
        }
        let there = match &change.row.value {
            Some(_) => partner.is_some() || alone,
            None => partner.is_some() && partner_alone,
        };
        let time = partner.map_or(row.time, |(_, time)| row.time.max(time));
        let (mine, theirs) = (change.row.value.as_deref(), partner.map(|(value, _)| value));
        let value = match side {
            Side::Left => plus(mine, theirs),
            Side::Right => plus(theirs, mine),
        };
        vec![change.row.with(value.filter(|_| there), time)]
    }
}
