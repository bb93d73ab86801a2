//! Unlimited windows (semantics.md 37): one for each key, from a time on, and without an end.

use std::collections::BTreeMap;

use millstream_core::END_OF_TIME;

use crate::reference::fold::Fold;
use crate::reference::program::CLOCK;
use crate::reference::row::{Row, Windowed};

pub(crate) struct UnlimitedWindows {
    start: i64,
    fold: Fold,
    /// By key.
    rows: BTreeMap<String, (String, i64)>,
}

impl UnlimitedWindows {
    pub(crate) fn new(start: i64, fold: Fold) -> Self {
        UnlimitedWindows { start, fold, rows: BTreeMap::new() }
    }

    pub(crate) fn process(&mut self, topic: &str, row: &Row) -> Vec<Row<Windowed>> {
        let Some(key) = row.key.clone().filter(|_| topic != CLOCK && row.time >= self.start) else { return Vec::new() };
        let stored = self.rows.remove(&key);
        let time = stored.as_ref().map_or(row.time, |(_, time)| row.time.max(*time));
        let new = (self.fold.step)(stored.as_ref().map(|(sum, _)| sum.as_str()), row.value.as_deref());
        if let Some(new) = &new {
            self.rows.insert(key.clone(), (new.clone(), time));
        }
        vec![row.with_key(Windowed { key, start: self.start, end: END_OF_TIME }).with(new, time)]
    }
}
