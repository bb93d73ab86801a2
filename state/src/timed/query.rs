//! Answers to queries, in parts: rows in memory and rows on disk alone, by key, then place.

use std::ops::{Bound, ControlFlow};

use millstream_core::{ChangelogWriter, Isolation, Result, RowOrder, Serde, StateStore, StoreQuery, Timestamp};

use super::{Place, Placed, RunId, TimedTable};
use crate::key_bytes::KeyBytes;
use crate::key_value::{OwnedRow, write_value};
use crate::rows::{Content as _, RowId, Seen};
use crate::sorted_keys::SortedKeys;

/// What a key has given to an answer.
struct Given<P> {
    rows: usize,
    /// The last one, if there are more.
    rest_after: Option<P>,
}

/// The rows of a key.
struct Found<P> {
    key: KeyBytes,
    run: Option<RunId>,
    /// Those on disk alone.
    away: Vec<(P, OwnedRow)>,
}

/// A query, and what it sees.
struct Asked<'a, P, V> {
    query: &'a StoreQuery,
    seen: Seen<'a, RunId, Placed<P, V>>,
    /// Rows up to here have expired.
    oldest: Timestamp,
}

/// A row of a key.
enum Row<'a, P, V> {
    InMemory(&'a Placed<P, V>),
    Away(P, &'a OwnedRow),
}

impl<P: Place, V> Row<'_, P, V> {
    fn place(&self) -> P {
        match self {
            Row::InMemory(content) => content.place,
            Row::Away(place, _) => *place,
        }
    }
}

/// A range of keys.
type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone + 'static,
{
    /// Sorts the keys, at most so many at a time; `true` when they are.
    fn sort(&mut self, most: usize) -> bool {
        let (runs, index) = (&self.runs, &self.index);
        self.sorted.get_or_insert_with(SortedKeys::new).sort(runs.len(), most, |place| {
            let (id, key) = (place as RunId, &runs[place].key);
            index.contains(index.hash(key), id).then_some((key, id))
        })
    }

    /// Gives the rows of a key that a query means, those behind a place of it, at most so many: the last place that was
    /// looked at if there are more.
    fn give(
        &self,
        found: &Found<P>,
        asked: &Asked<'_, P, VS::Value>,
        after: Option<P>,
        most: usize,
        (key, value): &mut (Vec<u8>, Vec<u8>),
        answer: &mut ChangelogWriter,
    ) -> Result<Given<P>> {
        let Asked { query, seen, oldest } = asked;
        // A committed row may have been somewhere else, but among those that were committed with it the order is the same.
        let in_memory = self.places(found).map(|(_, row)| seen.content(*row));
        let in_memory = in_memory.filter(|content| content.is_there()).map(Row::InMemory);
        let is_asked = |row: &Row<'_, P, VS::Value>| {
            let place = row.place();
            let is_left = after.is_none_or(|after| if query.descending { place < after } else { place > after });
            place.time() > *oldest && is_left && place.is_at(&query.times)
        };
        let mut rows: Vec<_> = in_memory.filter(is_asked).collect();
        rows.extend(found.away.iter().map(|(place, row)| Row::Away(*place, row)).filter(is_asked));
        if !found.away.is_empty() {
            rows.sort_by_key(Row::place);
        }
        if query.descending {
            rows.reverse();
        }
        for (at, row) in rows.iter().enumerate() {
            match row {
                Row::InMemory(Placed { place, entry }) => {
                    key.clear();
                    key.extend_from_slice(&found.key);
                    place.encode(key);
                    write_value(&self.name, &self.serde, value, key, entry.value.as_ref(), entry.timestamp, answer)?;
                }
                Row::Away(_, row) => answer.copy(row.record()),
            }
            if at + 1 == most || answer.is_full() {
                return Ok(Given { rows: at + 1, rest_after: Some(row.place()).filter(|_| at + 1 < rows.len()) });
            }
        }
        Ok(Given { rows: rows.len(), rest_after: None })
    }

    /// A part of an answer ([`millstream_core::StateStore::query`]).
    pub(super) fn answer(
        &mut self,
        query: &StoreQuery,
        isolation: Isolation,
        rows: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        let after = query.after.as_deref().and_then(P::decode);
        let last_place = if query.descending { P::FIRST } else { P::LAST };
        let (mut keys, mut end) = match query.single_key() {
            Some(key) => (vec![self.find_key(key, query, after.map(|(_, place)| place), rows)?], None),
            None if !self.sort(rows) => return Ok(Some(query.clone())),
            None => {
                let is_again = after.is_some_and(|(_, place)| place != last_place);
                let Some(range) = query.keys_left(after.map(|(key, _)| key), is_again) else { return Ok(None) };
                self.find_keys(range, query, rows)?
            }
        };
        let last = |key: &[u8], place: Option<P>| {
            let mut last = key.to_vec();
            place.unwrap_or(last_place).encode(&mut last);
            query.after(&last)
        };
        // Nothing is looked at of the keys behind those that have as many rows as are given.
        let mut there = 0;
        let enough = keys.iter().position(|found| {
            there += self.places(found).filter(|(place, _)| place.is_at(&query.times)).count();
            there >= rows
        });
        if let Some(enough) = enough.filter(|enough| enough + 1 < keys.len()) {
            keys.truncate(enough + 1);
            end = keys.last().map(|found| found.key.clone());
        }
        let seen = self.rows.seen(isolation, keys.iter().flat_map(|found| self.places(found)).map(|(_, row)| *row));
        let observed = if isolation == Isolation::ReadCommitted { self.committed_observed } else { self.observed };
        let asked = Asked { query, seen, oldest: observed.saturating_sub(self.retention) };
        let (mut given, mut scratch) = (0, Default::default());
        for (at, found) in keys.iter().enumerate() {
            let behind = after.filter(|(after, _)| **after == *found.key).map(|(_, place)| place);
            let done = self.give(found, &asked, behind, rows - given, &mut scratch, answer)?;
            given += done.rows;
            if done.rest_after.is_some() {
                return Ok(Some(last(&found.key, done.rest_after)));
            }
            if at + 1 < keys.len() && (at + 1 == rows || given == rows || answer.is_full()) {
                return Ok(Some(last(&found.key, None)));
            }
        }
        Ok(end.map(|end| last(&end, None)))
    }

    /// The rows of a key in memory.
    fn places(&self, found: &Found<P>) -> impl Iterator<Item = &(P, RowId)> {
        found.run.into_iter().flat_map(|run| self.runs[run as usize].places())
    }

    /// The rows of a key, behind a place; of those on disk alone little more than so many.
    fn find_key(&self, key: &[u8], query: &StoreQuery, after: Option<P>, rows: usize) -> Result<Found<P>> {
        let (mut from, mut to) = (*query.times.start(), Timestamp::MAX);
        if let Some(after) = after {
            *if query.descending { &mut to } else { &mut from } = after.time();
        }
        let mut away = Vec::new();
        self.for_each_away(key, from..=to, &mut |place, record| {
            let is_left = after.is_none_or(|after| query.descending || place > after);
            if is_left && place.is_at(&query.times) {
                away.push((place, OwnedRow::of(record)));
            }
            let is_enough = !query.descending && away.len() > rows;
            Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(Found { key: key.into(), run: self.find_run(self.index.hash(key), key), away })
    }

    /// The keys of a range in the order of a query, about so many, and the last of them if there are more.
    fn find_keys(
        &self,
        range: KeyRange<'_>,
        query: &StoreQuery,
        rows: usize,
    ) -> Result<(Vec<Found<P>>, Option<KeyBytes>)> {
        let runs = self.sorted.iter().flat_map(|sorted| sorted.range(range));
        let in_memory = |(key, run): (&KeyBytes, RunId)| Found { key: key.clone(), run: Some(run), away: Vec::new() };
        let mut keys: Vec<Found<P>> = match query.descending {
            true => runs.rev().take(rows).map(in_memory).collect(),
            false => runs.take(rows).map(in_memory).collect(),
        };
        let mut ends: Vec<KeyBytes> = keys.get(rows.wrapping_sub(1)).map(|last| last.key.clone()).into_iter().collect();
        let parts: Vec<_> = self.parts(*query.times.start()..=Timestamp::MAX).collect();
        let most = rows / parts.len().max(1) + 1;
        for part in parts {
            ends.extend(self.find_away(range, *part.start(), query, most, &mut keys)?);
        }
        let is_before = |a: &KeyBytes, b: &KeyBytes| if query.descending { a > b } else { a < b };
        let end = ends.into_iter().reduce(|a, b| if is_before(&a, &b) { a } else { b });
        keys.retain(|found| end.as_ref().is_none_or(|end| !is_before(end, &found.key)));
        keys.sort_by(|a, b| if query.descending { b.key.cmp(&a.key) } else { a.key.cmp(&b.key) });
        keys.dedup_by(|next, found| {
            let is_same = next.key == found.key;
            if is_same {
                found.run = found.run.or(next.run);
                found.away.append(&mut next.away);
            }
            is_same
        });
        Ok((keys, end))
    }

    /// Finds the keys of a range that have rows on disk alone in the part of a time. Returns the last that is complete if, after so
    /// many rows, there are more.
    fn find_away(
        &self,
        range: KeyRange<'_>,
        time: Timestamp,
        query: &StoreQuery,
        most: usize,
        keys: &mut Vec<Found<P>>,
    ) -> Result<Option<KeyBytes>> {
        let Some(disk) = &self.disk else { return Ok(None) };
        let Some((from, to)) = disk_range(self.row_order(), time, self.part_end(time), range) else { return Ok(None) };
        let (mut looked, mut key, mut end) = (0, KeyBytes::EMPTY, None);
        disk.rows.look_up((Bound::Included(&from), Bound::Excluded(&to)), query.descending, &mut |record| {
            let Some((found, place)) = P::decode(record.key) else { return Ok(ControlFlow::Continue(())) };
            if looked >= most && *key != *found {
                end = Some(std::mem::replace(&mut key, KeyBytes::EMPTY));
                return Ok(ControlFlow::Break(()));
            }
            looked += 1;
            if looked == 1 || *key != *found {
                key.set(found);
            }
            if self.is_away(found, place) && place.is_at(&query.times) {
                let row = (place, OwnedRow::of(record));
                match keys.last_mut().filter(|last| last.run.is_none() && *last.key == *found) {
                    Some(last) => last.away.push(row),
                    None => keys.push(Found { key: found.into(), run: None, away: vec![row] }),
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(end)
    }
}

/// The keys on disk of a range of keys in the part of a time, that ends before another.
fn disk_range(
    order: RowOrder,
    time: Timestamp,
    end: Timestamp,
    (from, to): KeyRange<'_>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let from = match from {
        Bound::Included(key) => order.key_in_part(time, key, false),
        Bound::Excluded(key) => order.key_in_part(time, key, true),
        Bound::Unbounded => order.part_of(time),
    };
    let to = match to {
        Bound::Included(key) => order.key_in_part(time, key, true),
        Bound::Excluded(key) => order.key_in_part(time, key, false),
        Bound::Unbounded => order.part_of(end),
    };
    from.zip(to).filter(|(from, to)| from < to)
}
