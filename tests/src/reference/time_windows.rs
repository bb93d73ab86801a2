//! Tumbling and hopping windows (semantics.md 35, 37, 42, 45).

use std::collections::BTreeMap;

use crate::reference::fold::Fold;
use crate::reference::row::{Row, Windowed};

pub(crate) struct TimeWindows {
    pub(crate) size: i64,
    pub(crate) advance: i64,
    pub(crate) grace: i64,
    /// Each window once, when it closes, instead of every update.
    pub(crate) on_close: bool,
    pub(crate) fold: Fold,
    state: State,
}

#[derive(Default)]
struct State {
    /// The largest time of a record with a key.
    now: i64,
    /// By start and key.
    rows: BTreeMap<(i64, String), (String, i64)>,
}

impl TimeWindows {
    pub(crate) fn new(size: i64, advance: i64, grace: i64, fold: Fold) -> Self {
        TimeWindows { size, advance, grace, on_close: false, fold, state: State::default() }
    }

    pub(crate) fn on_close(self) -> Self {
        TimeWindows { on_close: true, ..self }
    }

    pub(crate) fn process(&mut self, row: &Row) -> Vec<Row<Windowed>> {
        let Some(key) = &row.key else { return Vec::new() };
        self.state.now = self.state.now.max(row.time);
        let close = self.state.now - self.grace;
        let mut out = Vec::new();
        for start in (row.time - self.size + 1).max(0)..=row.time {
            let end = start + self.size;
            if start % self.advance != 0 || end <= close {
                continue;
            }
            let stored = self.state.rows.remove(&(start, key.clone()));
            let time = stored.as_ref().map_or(row.time, |(_, time)| row.time.max(*time));
            let new = (self.fold.step)(stored.as_ref().map(|(sum, _)| sum.as_str()), row.value.as_deref());
            if let Some(new) = &new {
                self.state.rows.insert((start, key.clone()), (new.clone(), time));
            }
            if !self.on_close {
                out.push(row.with_key(Windowed { key: key.clone(), start, end }).with(new, time));
            }
        }
        if self.on_close {
            let (closed, open) = std::mem::take(&mut self.state.rows)
                .into_iter()
                .partition(|((start, _), _)| start + self.size <= close);
            self.state.rows = open;
            let closed: BTreeMap<(i64, String), (String, i64)> = closed;
            for ((start, key), (sum, time)) in closed {
                out.push(row.with_key(Windowed { key, start, end: start + self.size }).with(Some(sum), time));
            }
        }
        out
    }
}
