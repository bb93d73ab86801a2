//! Tumbling and hopping windows (semantics.md 35, 37, 42, 45).

use std::collections::BTreeMap;

use crate::reference::fold::Fold;
use crate::reference::program::CLOCK;
use crate::reference::row::{Row, Windowed};

pub(crate) struct TimeWindows {
    size: i64,
    advance: i64,
    grace: i64,
    /// Each window once, when it closes, instead of every update.
    on_close: bool,
    fold: Fold,
    /// Windows that begin so long before the newest are forgotten, and what comes to them is late. Only who is behind can
    /// tell: another input, or a table joined with this one.
    kept: i64,
    state: State,
}

#[derive(Default)]
struct State {
    /// The largest time of a record with a key, of each input; on close, of all (semantics.md 3).
    now: BTreeMap<String, i64>,
    /// The newest start of a window that was written.
    newest: i64,
    /// By start and key.
    rows: BTreeMap<(i64, String), (String, i64)>,
}

impl TimeWindows {
    pub(crate) fn new(size: i64, advance: i64, grace: i64, fold: Fold) -> Self {
        TimeWindows { size, advance, grace, on_close: false, fold, kept: i64::MAX, state: State::default() }
    }

    pub(crate) fn kept(self, kept: i64) -> Self {
        TimeWindows { kept, ..self }
    }

    pub(crate) fn on_close(self) -> Self {
        TimeWindows { on_close: true, ..self }
    }

    /// Whether windows with this start are still there to be seen.
    pub(crate) fn remembers(&self, start: i64) -> bool {
        start > self.state.newest.saturating_sub(self.kept)
    }

    pub(crate) fn process(&mut self, topic: &str, row: &Row) -> Vec<Row<Windowed>> {
        if topic == CLOCK {
            let closed = self.close(row, row.time);
            if !self.on_close {
                // Something below has been let go of.
                self.state.now.values_mut().for_each(|now| *now = row.time.max(*now));
            } else if !closed.is_empty() {
                self.observe("", row.time);
            }
            return closed;
        }
        let Some(key) = &row.key else { return Vec::new() };
        let now = self.observe(if self.on_close { "" } else { topic }, row.time);
        let close = now - self.grace;
        let mut out = Vec::new();
        for start in (row.time - self.size + 1).max(0)..=row.time {
            let end = start + self.size;
            if start % self.advance != 0 || end <= close || !self.remembers(start) {
                continue;
            }
            let stored = self.state.rows.remove(&(start, key.clone()));
            self.state.newest = self.state.newest.max(start);
            let time = stored.as_ref().map_or(row.time, |(_, time)| row.time.max(*time));
            let new = (self.fold.step)(stored.as_ref().map(|(sum, _)| sum.as_str()), row.value.as_deref());
            if let Some(new) = &new {
                self.state.rows.insert((start, key.clone()), (new.clone(), time));
            }
            if !self.on_close {
                out.push(row.with_key(Windowed { key: key.clone(), start, end }).with(new, time));
            }
        }
        out.extend(self.close(row, now));
        out
    }

    fn observe(&mut self, input: &str, time: i64) -> i64 {
        let now = self.state.now.entry(input.to_owned()).or_default();
        *now = time.max(*now);
        *now
    }

    /// What closes now.
    fn close(&mut self, row: &Row, now: i64) -> Vec<Row<Windowed>> {
        if !self.on_close {
            return Vec::new();
        }
        let rows = std::mem::take(&mut self.state.rows).into_iter();
        let (closed, open) = rows.partition(|((start, _), _)| start + self.size <= now - self.grace);
        self.state.rows = open;
        let closed: BTreeMap<(i64, String), (String, i64)> = closed;
        let window = |start, key| Windowed { key, start, end: start + self.size };
        let closed = closed.into_iter();
        closed.map(|((start, key), (sum, time))| row.with_key(window(start, key)).with(Some(sum), time)).collect()
    }
}
