//! What closes, in the order in which it is emitted.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::{Range, RangeInclusive};

use millstream_core::{KEYS_AHEAD, Result, Serde, Timestamp};

use super::{Place, Placed, Run, RunId, TimedTable};
use crate::closes::Closes;
use crate::index::Index;
use crate::key_bytes::KeyBytes;
use crate::key_order;
use crate::rows::{Content as _, Entry, RowId, Rows};

/// How many rows that close are read at once.
const CLOSED_AT_ONCE: usize = 16 * KEYS_AHEAD;

/// Rows that close, on their way out.
pub struct Closing<P> {
    rows: Vec<RowId>,
    next: usize,
    /// Those on disk alone, each with how many of `rows` come before it.
    away: VecDeque<(usize, KeyBytes, P)>,
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
    VS::Value: Clone + 'static,
{
    /// The rows of all keys at times within a range, in the order of time, key bytes, place; whether they are still
    /// live or not, since what closes is emitted before it expires (semantics.md 43). The first call looks at the whole table; one
    /// whose times come to another part of those on disk, at that.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    pub fn closing(&mut self, times: RangeInclusive<Timestamp>) -> Result<Closing<P>> {
        let mut closing = Closing { rows: Vec::new(), next: 0, away: VecDeque::new() };
        let mut closes = self.take_closes();
        let listed = self.list_away(&mut closes, *times.start(), *times.end());
        if listed.is_ok() {
            self.take_closing(&mut closes, times, &mut closing);
        }
        self.closes = Some(closes);
        listed.map(|()| closing)
    }

    fn take_closing(&self, closes: &mut Closes<P>, times: RangeInclusive<Timestamp>, closing: &mut Closing<P>) {
        let (mut from, to) = times.into_inner();
        let mut bucket = Vec::new();
        while from <= to
            && let Some((time, mut rows)) = closes.take(from..=to)
        {
            from = time.saturating_add(1);
            bucket.clear();
            let mut moved = false;
            for ahead in rows.chunks(KEYS_AHEAD) {
                read(&self.rows, &self.runs, ahead);
                for row in ahead.iter().copied() {
                    let (content, key) = (self.rows.content(row), &self.runs[*self.rows.identity(row) as usize].key);
                    match content.place.time().cmp(&time) {
                        Ordering::Equal if content.is_there() => bucket.push((closes.keys.number(key), row)),
                        Ordering::Equal => {}
                        Ordering::Greater => {
                            closes.list(content.place.time(), row);
                            moved = true;
                        }
                        Ordering::Less => moved = true,
                    }
                }
            }
            if moved {
                rows.retain(|row| self.rows.content(*row).place.time() == time);
            }
            closes.put_back(time, rows);
            let place = |row| (&*self.runs[*self.rows.identity(row) as usize].key, self.rows.content(row).place);
            key_order::sort(&mut bucket, place);
            bucket.dedup();
            let is_away = |(key, place): &&(KeyBytes, P)| self.is_away(key, *place);
            let mut away: Vec<_> = closes.away(time).iter().filter(is_away).cloned().collect();
            away.sort_unstable();
            away.dedup();
            let mut passed = 0;
            for (key, at) in away {
                passed += bucket[passed..].iter().take_while(|(_, row)| place(*row) < (&*key, at)).count();
                closing.away.push_back((closing.rows.len() + passed, key, at));
            }
            closing.rows.extend(bucket.iter().map(|(_, row)| *row));
        }
    }

    /// The first time from one on at which there is a row. The first call looks at the whole table.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub fn first_from(&mut self, from: Timestamp) -> Result<Option<Timestamp>> {
        let mut closes = self.take_closes();
        closes.read_from(from);
        let first = self.first_in_memory(&closes, from);
        let first = self.first_away(&mut closes, from..first.unwrap_or(Timestamp::MAX)).map(|away| away.or(first));
        self.closes = Some(closes);
        first
    }

    /// The first time from one on at which there is a row in memory.
    fn first_in_memory(&self, closes: &Closes<P>, from: Timestamp) -> Option<Timestamp> {
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

    /// The first time within a range at which there is a row on disk alone.
    fn first_away(&self, closes: &mut Closes<P>, times: Range<Timestamp>) -> Result<Option<Timestamp>> {
        loop {
            // A part more, as long as there may be a row in it and none was found.
            let next = self.next_to_list(closes, times.start, times.end);
            while let Some((key, place)) = closes.first_away(times.clone()) {
                let time = place.time();
                if self.look_up(key, *place)?.is_some() {
                    return Ok(Some(time));
                }
                closes.forget_away(time);
            }
            let Some(next) = next else { return Ok(None) };
            self.list_away(closes, times.start, next)?;
        }
    }

    /// Lists the rows that are on disk alone, with times from one on, up to the part that another is in.
    fn list_away(&self, closes: &mut Closes<P>, from: Timestamp, to: Timestamp) -> Result<()> {
        while let Some(next) = self.next_to_list(closes, from, to) {
            self.for_each_in_part(next, &mut |key, place, _| {
                if place.time() >= next {
                    closes.list_away(key.into(), place);
                }
                Ok(())
            })?;
            closes.listed(self.part_end(next));
        }
        Ok(())
    }

    /// The first time from one on, up to another, at which rows that are on disk alone are not listed.
    fn next_to_list(&self, closes: &mut Closes<P>, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let from = from.max(self.kept_from());
        if self.known == P::FIRST || from > self.known.time() {
            return None;
        }
        Some(closes.next_to_list(from)).filter(|next| *next <= to.min(self.known.time()))
    }

    /// What closes, taken out; all rows that are in memory are listed.
    fn take_closes(&mut self) -> Closes<P> {
        self.closes.take().unwrap_or_else(|| {
            let mut closes = Closes::new();
            Self::list_rows(&mut closes, &self.index, &self.runs);
            closes
        })
    }

    /// Lists all rows that are in memory.
    pub(super) fn list_rows(closes: &mut Closes<P>, index: &Index<RunId>, runs: &[Run<P>]) {
        for run in index.iter().map(|run| &runs[run as usize]) {
            closes.keys.add(&run.key);
            run.places().for_each(|(place, row)| closes.list(place.time(), *row));
        }
    }

    /// Gives the next of the closing rows to `f`: key, place, value, time. `false` if there are no more.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    pub fn closed(&self, closing: &mut Closing<P>, mut f: impl FnMut(&[u8], P, &VS::Value, Timestamp)) -> Result<bool> {
        let mut left = CLOSED_AT_ONCE;
        while left > 0 {
            if let Some((_, key, place)) = closing.away.pop_front_if(|(before, ..)| *before <= closing.next) {
                if let Some(Entry { value: Some(value), timestamp }) = self.look_up(&key, place)? {
                    f(&key, place, &value, timestamp);
                }
                left -= 1;
                continue;
            }
            let until = closing.away.front().map_or(closing.rows.len(), |(before, ..)| *before);
            let ahead = &closing.rows[closing.next..until.min(closing.next + KEYS_AHEAD)];
            if ahead.is_empty() {
                break;
            }
            read(&self.rows, &self.runs, ahead);
            for row in ahead.iter().copied() {
                let Placed { place, entry } = self.rows.content(row);
                if let Some(value) = &entry.value {
                    f(&self.runs[*self.rows.identity(row) as usize].key, *place, value, entry.timestamp);
                }
            }
            closing.next += ahead.len();
            left = left.saturating_sub(ahead.len());
        }
        Ok(left < CLOSED_AT_ONCE)
    }
}
