//! Sliding windows (semantics.md 38).

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use crate::reference::fold::Fold;
use crate::reference::program::CLOCK;
use crate::reference::row::{Row, Windowed};

/// A key's windows by their start: the aggregate, and the time of the newest record.
type Windows = BTreeMap<i64, (String, i64)>;

/// The windows that start within a range, ascending.
fn starting(
    windows: &Windows,
    starts: impl RangeBounds<i64>,
) -> impl DoubleEndedIterator<Item = (&i64, &(String, i64))> {
    windows.iter().filter(move |(start, _)| starts.contains(*start))
}

pub(crate) struct SlidingWindows {
    difference: i64,
    grace: i64,
    /// Each window once, when it closes, instead of every update.
    on_close: bool,
    fold: Fold,
    /// The largest time of a record with key and value.
    now: i64,
    /// Windows that end before this were emitted.
    closed: i64,
    /// By start and key: the aggregate, and the time of its newest record.
    rows: BTreeMap<(i64, String), (String, i64)>,
}

impl SlidingWindows {
    pub(crate) fn new(difference: i64, grace: i64, fold: Fold) -> Self {
        SlidingWindows { difference, grace, on_close: false, fold, now: 0, closed: 0, rows: BTreeMap::new() }
    }

    pub(crate) fn on_close(self) -> Self {
        SlidingWindows { on_close: true, ..self }
    }

    pub(crate) fn process(&mut self, topic: &str, row: &Row) -> Vec<Row<Windowed>> {
        if topic == CLOCK {
            let closed = self.close(row, row.time);
            if !closed.is_empty() {
                self.now = self.now.max(row.time);
            }
            return closed;
        }
        let (Some(key), Some(_)) = (&row.key, &row.value) else { return Vec::new() };
        self.now = self.now.max(row.time);
        let close = self.now - self.grace;
        let mut out = Vec::new();
        if row.time + self.difference >= close {
            if row.time < self.difference {
                self.early(key, row, close, &mut out);
            } else {
                self.slide(key, row, close, &mut out);
            }
        }
        if self.on_close { self.close(row, self.now) } else { out }
    }

    /// What closes now. It stays: new windows may begin with what it holds.
    fn close(&mut self, row: &Row, now: i64) -> Vec<Row<Windowed>> {
        let close = now - self.grace;
        let mut out = Vec::new();
        for ((start, key), (sum, time)) in &self.rows {
            let end = start + self.difference;
            if self.on_close && self.closed <= end && end < close {
                let window = Windowed { key: key.clone(), start: *start, end };
                out.push(row.with_key(window).with(Some(sum.clone()), *time));
            }
        }
        if !out.is_empty() {
            self.closed = close;
        }
        out
    }

    /// The windows of a key by their start.
    fn windows(&self, key: &str) -> Windows {
        self.rows.iter().filter(|((_, k), _)| k == key).map(|((start, _), row)| (*start, row.clone())).collect()
    }

    /// Puts a record into a window that is open, on top of what the window holds.
    fn add(
        &mut self,
        key: &str,
        start: i64,
        holds: Option<(String, i64)>,
        row: &Row,
        close: i64,
        out: &mut Vec<Row<Windowed>>,
    ) {
        if start + self.difference < close {
            return;
        }
        let sum = (self.fold.step)(holds.as_ref().map(|(sum, _)| sum.as_str()), row.value.as_deref());
        let time = holds.map_or(row.time, |(_, time)| time.max(row.time));
        let sum = sum.expect("the folds of sliding windows do not delete");
        self.put(key, start, sum, time, row, out);
    }

    fn put(&mut self, key: &str, start: i64, sum: String, time: i64, row: &Row, out: &mut Vec<Row<Windowed>>) {
        self.rows.insert((start, key.to_owned()), (sum.clone(), time));
        let window = Windowed { key: key.to_owned(), start, end: start + self.difference };
        out.push(row.with_key(window).with(Some(sum), time));
    }

    /// A record at `t` is in all windows that start in [t - difference, t]; then there are the windows that it opens:
    /// to the right of the record before it, its own left one, its own right one.
    fn slide(&mut self, key: &str, row: &Row, close: i64, out: &mut Vec<Row<Windowed>>) {
        let (time, difference) = (row.time, self.difference);
        let windows = self.windows(key);
        // From the latest start to the earliest.
        for (start, holds) in starting(&windows, time - difference..=time).rev() {
            self.add(key, *start, Some(holds.clone()), row, close, out);
        }
        let left = windows.get(&(time - difference));
        if left.is_some_and(|(_, newest)| *newest >= time) {
            // There was a record at this very time: its windows are this one's.
            return;
        }
        let before =
            starting(&windows, (time - 2 * difference).max(0)..time - difference).next_back().map(|(_, holds)| holds);
        if let Some((_, previous)) = before.or(left) {
            let right_of_it = previous + 1;
            if !windows.contains_key(&right_of_it) && right_of_it + difference >= time {
                self.add(key, right_of_it, None, row, close, out);
            }
        }
        if left.is_none() {
            let shared = before.filter(|(_, newest)| *newest >= time - difference);
            self.add(key, time - difference, shared.cloned(), row, close, out);
        }
        if !windows.contains_key(&(time + 1)) {
            let after = starting(&windows, time - difference + 1..=time).next_back().map(|(_, holds)| holds);
            if let Some((sum, newest)) = after.filter(|(_, newest)| *newest > time) {
                self.put(key, time + 1, sum.clone(), *newest, row, out);
            }
        }
    }

    /// All records before `difference` have one left window together, [0, difference].
    fn early(&mut self, key: &str, row: &Row, close: i64, out: &mut Vec<Row<Windowed>>) {
        let (time, difference) = (row.time, self.difference);
        let windows = self.windows(key);
        for (start, holds) in starting(&windows, 1..=time) {
            self.add(key, *start, Some(holds.clone()), row, close, out);
        }
        let all = windows.get(&0);
        if !windows.contains_key(&(time + 1)) {
            let after = starting(&windows, 1..=time).next_back().map(|(_, holds)| holds).or(all);
            if let Some((sum, newest)) = after.filter(|(_, newest)| *newest > time) {
                self.put(key, time + 1, sum.clone(), *newest, row, out);
            }
        }
        if let Some((_, previous)) = all.filter(|(_, newest)| *newest < time) {
            let right_of_it = previous + 1;
            if !windows.contains_key(&right_of_it) && right_of_it + difference >= time {
                self.add(key, right_of_it, None, row, close, out);
            }
        }
        self.add(key, 0, all.cloned(), row, close, out);
    }
}
