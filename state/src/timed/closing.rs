//! What closes, in the order in which it is emitted.

use std::hint::black_box;
use std::ops::RangeInclusive;

use millstream_core::{KEYS_AHEAD, Serde, Timestamp};

use super::{Place, Placed, Run, RunId, TimedTable};
use crate::closes::Closes;
use crate::index::Index;
use crate::key_order;
use crate::rows::{Content as _, RowId, Rows};

/// How many rows that close are read at once.
const CLOSED_AT_ONCE: usize = 16 * KEYS_AHEAD;

/// Rows that close, on their way out.
#[derive(Default)]
pub struct Closing {
    rows: Vec<RowId>,
    next: usize,
}

/// Reads rows and their runs, for the processor's cache: all at once, so that it waits for memory once.
fn read<P: Place, V: Clone>(rows: &Rows<RunId, Placed<P, V>>, runs: &[Run<P>], ids: &[RowId]) {
    ids.iter().for_each(|row| rows.touch(*row));
    ids.iter().for_each(|row| {
        black_box(runs[*rows.identity(*row) as usize].newest);
    });
}

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone,
{
    /// The rows of all keys at times within a range, in the order of time, key bytes, place; whether they are still
    /// live or not, since what closes is emitted before it expires (semantics.md 43). The first call looks at the whole table.
    pub fn closing(&mut self, times: RangeInclusive<Timestamp>) -> Closing {
        let closes = Self::listed(&mut self.closes, &self.index, &self.runs);
        let (mut from, to) = times.into_inner();
        let (mut closing, mut bucket) = (Closing::default(), Vec::new());
        while from <= to
            && let Some((time, rows)) = closes.take(from..=to)
        {
            from = time.saturating_add(1);
            bucket.clear();
            for ahead in rows.chunks(KEYS_AHEAD) {
                read(&self.rows, &self.runs, ahead);
                for row in ahead.iter().copied() {
                    let (content, key) = (self.rows.content(row), &self.runs[*self.rows.identity(row) as usize].key);
                    if content.place.time() >= time {
                        closes.list(content.place.time(), row);
                    }
                    if content.is_there() && content.place.time() == time {
                        bucket.push((closes.keys.number(key), row));
                    }
                }
            }
            let place = |row| (&*self.runs[*self.rows.identity(row) as usize].key, self.rows.content(row).place);
            key_order::sort(&mut bucket, place);
            bucket.dedup();
            closing.rows.extend(bucket.iter().map(|(_, row)| *row));
        }
        closing
    }

    /// The first time from one on at which there is a row. The first call looks at the whole table.
    pub fn first_from(&mut self, from: Timestamp) -> Option<Timestamp> {
        let closes = Self::listed(&mut self.closes, &self.index, &self.runs);
        let mut first: Option<Timestamp> = None;
        for (bucket, rows) in closes.from(from) {
            if first.is_some_and(|first| first <= bucket) {
                break;
            }
            // A row that has moved on is in the bucket where it was.
            let there = rows.iter().map(|row| self.rows.content(*row)).filter(|content| content.is_there());
            let times = there.map(|content| content.place.time()).filter(|time| *time >= from);
            first = first.into_iter().chain(times).min();
        }
        first
    }

    fn listed<'a>(closes: &'a mut Option<Closes>, index: &Index<RunId>, runs: &[Run<P>]) -> &'a mut Closes {
        closes.get_or_insert_with(|| {
            let mut closes = Closes::new();
            for run in index.iter().map(|run| &runs[run as usize]) {
                closes.keys.add(&run.key);
                run.places().for_each(|(place, row)| closes.list(place.time(), *row));
            }
            closes
        })
    }

    /// Gives the next of the closing rows to `f`: key, place, value, time. `false` if there are no more.
    pub fn closed(&self, closing: &mut Closing, mut f: impl FnMut(&[u8], P, &VS::Value, Timestamp)) -> bool {
        let rest = &closing.rows[closing.next..];
        let rows = &rest[..rest.len().min(CLOSED_AT_ONCE)];
        closing.next += rows.len();
        for ahead in rows.chunks(KEYS_AHEAD) {
            read(&self.rows, &self.runs, ahead);
            for row in ahead.iter().copied() {
                let Placed { place, entry } = self.rows.content(row);
                if let Some(value) = &entry.value {
                    f(&self.runs[*self.rows.identity(row) as usize].key, *place, value, entry.timestamp);
                }
            }
        }
        !rows.is_empty()
    }
}
