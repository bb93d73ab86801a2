//! Sessions (semantics.md 39 to 42).

use std::collections::BTreeMap;

use crate::reference::fold::Fold;
use crate::reference::program::CLOCK;
use crate::reference::row::{Row, Windowed};

pub(crate) struct SessionWindows {
    gap: i64,
    grace: i64,
    /// Each session once, when it closes, instead of every update.
    on_close: bool,
    /// What has closed is never touched again.
    strict_end: bool,
    fold: Fold,
    /// The largest time of a record with a key, of each input; of all on close, or with a strict end (semantics.md 3).
    now: BTreeMap<String, i64>,
    /// Sessions that end before this were emitted.
    closed: i64,
    /// Sessions that ended longer before the newest are forgotten.
    kept: i64,
    /// The newest end.
    newest: i64,
    sessions: Vec<(Windowed, String)>,
}

impl SessionWindows {
    pub(crate) fn new(gap: i64, grace: i64, fold: Fold) -> Self {
        SessionWindows {
            gap,
            grace,
            on_close: false,
            strict_end: false,
            fold,
            now: BTreeMap::new(),
            closed: 0,
            kept: i64::MAX,
            newest: 0,
            sessions: Vec::new(),
        }
    }

    /// With a retention, at least gap and grace. A session stays for another gap: what ended before that can only be
    /// reached from an open session that begins as early.
    pub(crate) fn kept(self, retention: i64) -> Self {
        SessionWindows { kept: retention + self.gap, ..self }
    }

    pub(crate) fn on_close(self) -> Self {
        SessionWindows { on_close: true, ..self }
    }

    pub(crate) fn strict_end(self) -> Self {
        SessionWindows { strict_end: true, ..self }
    }

    pub(crate) fn process(&mut self, topic: &str, row: &Row) -> Vec<Row<Windowed>> {
        if topic == CLOCK {
            let closed = self.close(row, row.time);
            if !self.on_close {
                // Something below has been let go of.
                self.now.values_mut().for_each(|now| *now = row.time.max(*now));
            } else if !closed.is_empty() {
                self.observe("", row.time);
            }
            return closed;
        }
        let Some(key) = &row.key else { return Vec::new() };
        let now = self.observe(if self.on_close || self.strict_end { "" } else { topic }, row.time);
        let close = now - self.gap - self.grace;
        let is_final = |s: &Windowed| self.strict_end && s.end < close;
        let near = |s: &Windowed| {
            s.key == *key && s.end >= row.time - self.gap && s.start <= row.time + self.gap && !is_final(s)
        };
        let readable = self.newest.saturating_sub(self.kept);
        let mut absorbed: Vec<(Windowed, String)> =
            self.sessions.iter().filter(|(session, _)| near(session) && session.end >= readable).cloned().collect();
        absorbed.sort_by_key(|(session, _)| (session.end, session.start));
        let merged = Windowed {
            key: key.clone(),
            start: absorbed.iter().map(|(s, _)| s.start).fold(row.time, i64::min),
            end: absorbed.iter().map(|(s, _)| s.end).fold(row.time, i64::max),
        };
        let open_start = absorbed.iter().map(|(s, _)| s.start).min();
        // It would go back over what is final, or to where nobody knows any more what was.
        let goes_back = self.sessions.iter().any(|(s, _)| s.key == *key && is_final(s) && s.end >= merged.start)
            || self.strict_end && merged.start < readable && open_start.is_none_or(|start| merged.start < start);
        let mut out = Vec::new();
        // Of two inputs one may be so far on that what the other's records could merge is forgotten.
        if merged.end >= close.max(readable.saturating_add(self.gap)) && !goes_back {
            let so_far = absorbed
                .iter()
                .fold(None, |sum: Option<String>, (_, next)| Some((self.fold.merge)(sum.as_deref(), next)));
            self.sessions.retain(|session| !absorbed.contains(session));
            // A session that is but the record's own point in time is updated in place.
            if merged.start != merged.end {
                out.extend(absorbed.into_iter().map(|(session, _)| bare(session, None)));
            }
            self.newest = self.newest.max(merged.end);
            let sum = (self.fold.step)(so_far.as_deref(), row.value.as_deref());
            if let Some(sum) = &sum {
                self.sessions.push((merged.clone(), sum.clone()));
            }
            out.push(bare(merged, sum));
        }
        if self.on_close { self.close(row, now) } else { out }
    }

    fn observe(&mut self, input: &str, time: i64) -> i64 {
        let now = self.now.entry(input.to_owned()).or_default();
        *now = time.max(*now);
        *now
    }

    /// What closes now. It stays, and may still grow into a later session.
    fn close(&mut self, row: &Row, now: i64) -> Vec<Row<Windowed>> {
        let close = now - self.gap - self.grace;
        let closes = |session: &Windowed| self.on_close && self.closed <= session.end && session.end < close;
        let mut closing: Vec<_> = self.sessions.iter().filter(|(session, _)| closes(session)).cloned().collect();
        if !closing.is_empty() {
            self.closed = close;
        }
        closing.sort_by_key(|(session, _)| (session.end, session.key.clone(), session.start));
        let with_headers = |(s, sum)| Row { headers: row.headers.clone(), ..bare(s, Some(sum)) };
        closing.into_iter().map(with_headers).collect()
    }
}

/// A session's result has the time of its end, and no headers.
fn bare(session: Windowed, value: Option<String>) -> Row<Windowed> {
    Row { time: session.end, key: session, value, headers: Vec::new() }
}
