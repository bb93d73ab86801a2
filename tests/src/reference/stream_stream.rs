//! Two streams joined within a window of time (semantics.md 19 to 27).

use crate::reference::row::{Row, plus};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

/// Which sides' records come out although nothing matches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Inner,
    Left,
    Outer,
}

struct Entry {
    key: String,
    value: String,
    time: i64,
}

#[derive(Default)]
struct Store {
    entries: Vec<Entry>,
    /// The largest time of a record with a key, even of one with a null value.
    newest: i64,
}

pub(crate) struct StreamStream {
    kind: Kind,
    before: i64,
    after: i64,
    grace: i64,
    /// To the millisecond, where Kafka Streams is not.
    exact: bool,
    /// The largest time of a record of either side, whether it can be joined or not.
    now: i64,
    left: Store,
    right: Store,
    /// What nothing has matched yet.
    held: Vec<(Side, Entry)>,
    resume_at: i64,
}

fn joined(side: Side, own: &str, other: Option<&str>) -> Option<String> {
    match side {
        Side::Left => plus(Some(own), other),
        Side::Right => plus(other, Some(own)),
    }
}

impl StreamStream {
    pub(crate) fn new(kind: Kind, (before, after, grace): (i64, i64, i64), exact: bool) -> Self {
        let (left, right) = (Store::default(), Store::default());
        StreamStream { kind, before, after, grace, exact, now: 0, left, right, held: Vec::new(), resume_at: i64::MAX }
    }

    fn store(&mut self, side: Side) -> &mut Store {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    fn comes_out_alone(&self, side: Side) -> bool {
        match side {
            Side::Left => self.kind != Kind::Inner,
            Side::Right => self.kind == Kind::Outer,
        }
    }

    /// How far after its own time a side's record can find partners.
    fn reach(&self, side: Side) -> i64 {
        match side {
            Side::Left => self.after,
            Side::Right => self.before,
        }
    }

    pub(crate) fn process(&mut self, side: Side, row: &Row) -> Vec<Row> {
        self.now = self.now.max(row.time);
        let out = match (&row.key, &row.value) {
            (Some(key), Some(value)) => self.look_up(side, key, value, row),
            (None, Some(value)) if self.comes_out_alone(side) => {
                vec![row.with(joined(side, value, None), row.time)]
            }
            _ => Vec::new(),
        };
        // Looked up first, stored after.
        if let Some(key) = &row.key {
            let store = self.store(side);
            store.newest = store.newest.max(row.time);
            let value = row.value.clone();
            store.entries.extend(value.map(|value| Entry { key: key.clone(), value, time: row.time }));
        }
        out
    }

    /// Time has come so far without a record. It moves only if something can find no partner any more.
    pub(crate) fn wait(&mut self, row: &Row) -> Vec<Row> {
        let mut closes = self.held.iter().map(|(side, e)| e.time + self.reach(*side) + self.grace);
        if closes.all(|last| last >= row.time) {
            return Vec::new();
        }
        self.now = self.now.max(row.time);
        let mut out = Vec::new();
        if self.exact {
            self.emit_all_unmatched(row, &mut out);
        } else {
            self.look_at_all(row, &mut out);
        }
        out
    }

    fn look_up(&mut self, side: Side, key: &str, value: &str, row: &Row) -> Vec<Row> {
        let mut out = Vec::new();
        if row.time == self.now && self.exact {
            self.emit_all_unmatched(row, &mut out);
        } else if row.time == self.now {
            self.emit_unmatched(side, row, &mut out);
        }
        let until = row.time + self.reach(side);
        let from = row.time - self.reach(side.other());
        let kept = self.before + self.after + self.grace + i64::from(self.exact);
        let store = self.store(side.other());
        let visible = store.newest - kept + 1;
        let partners =
            store.entries.iter().filter(|e| e.key == key && from <= e.time && e.time <= until && e.time >= visible);
        let mut partners: Vec<(String, i64)> = partners.map(|e| (e.value.clone(), e.time)).collect();
        partners.sort_by_key(|(_, time)| *time);
        for (partner, time) in &partners {
            self.held.retain(|(s, e)| !(*s == side.other() && e.key == key && e.time == *time));
            out.push(row.with(joined(side, value, Some(partner)), row.time.max(*time)));
        }
        if partners.is_empty() && self.comes_out_alone(side) {
            let waits = if self.exact { self.grace } else { 0 };
            if until + waits < self.now {
                out.push(row.with(joined(side, value, None), row.time));
            } else {
                self.resume_at = self.resume_at.min(row.time);
                self.held.push((side, Entry { key: key.to_owned(), value: value.to_owned(), time: row.time }));
            }
        }
        out
    }

    /// Emits what can find no partner any more, in order of time, side (right first) and key.
    fn emit_all_unmatched(&mut self, row: &Row, out: &mut Vec<Row>) {
        self.held.sort_by_key(|(side, e)| (e.time, *side == Side::Left, e.key.clone()));
        let held = std::mem::take(&mut self.held);
        let (open, closed) =
            held.into_iter().partition(|(side, e)| e.time + self.reach(*side) + self.grace >= self.now);
        self.held = open;
        let closed: Vec<(Side, Entry)> = closed;
        out.extend(
            closed.into_iter().map(|(side, Entry { key, value, time })| {
                row.with_key(Some(key)).with(joined(side, &value, None), time)
            }),
        );
    }

    /// As Kafka Streams does it, in the same order. The scan is over when it
    /// has met what is still open on both sides; it is not begun at all where the last one, or a record since, left
    /// nothing from before the arriving side's close time. As the scan remembers where it ended and not what it left, it
    /// may come late.
    fn emit_unmatched(&mut self, arrived: Side, row: &Row, out: &mut Vec<Row>) {
        if self.resume_at >= self.now - self.reach(arrived) - self.grace {
            return;
        }
        self.look_at_all(row, out);
    }

    /// The scan.
    fn look_at_all(&mut self, row: &Row, out: &mut Vec<Row>) {
        self.resume_at = i64::MAX;
        self.held.sort_by_key(|(side, e)| (e.time, *side == Side::Left, e.key.clone()));
        let (mut left_open, mut right_open, mut over) = (false, false, false);
        for (side, e) in std::mem::take(&mut self.held) {
            if !over {
                self.resume_at = e.time;
                over = left_open && right_open;
            }
            if over || e.time + self.reach(side) + self.grace >= self.now {
                left_open |= side == Side::Left;
                right_open |= side == Side::Right;
                self.held.push((side, e));
            } else {
                out.push(row.with_key(Some(e.key)).with(joined(side, &e.value, None), e.time));
            }
        }
    }
}
