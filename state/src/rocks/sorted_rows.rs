//! Rows on their way to a database, in the order of their keys.

use std::ops::{ControlFlow, Range};

use millstream_core::{RecordView, Records, RowOrder};

use super::row::{ROW, encode_row};

/// The places of rows in the batches that they came in, by their keys on disk: to be written in that order is twice as fast as in any other,
/// and a copy of the rows would take ten times as much memory.
pub(super) struct SortedRows<'a> {
    order: RowOrder,
    batches: &'a [Records],
    places: Vec<Place>,
}

/// A row's place in the order: few bytes, since they are moved a lot.
#[derive(Clone, Copy)]
struct Place {
    /// What the key begins with behind what all keys begin with: most comparisons then need no look at the row.
    head: u64,
    batch: u32,
    at: u32,
}

impl Place {
    /// In place of a batch: a later row has the same key.
    const GONE: u32 = u32::MAX;

    /// By head, rows with the same one as they came.
    fn rank(&self) -> u128 {
        u128::from(self.head) << 64 | u128::from(self.batch) << 32 | u128::from(self.at)
    }
}

/// Why rows cannot be sorted.
pub(super) type NoRow = String;

impl<'a> SortedRows<'a> {
    /// Rows that are read before the first of them is given.
    const AHEAD: usize = 32;

    /// How far before a row's turn memory is asked for it.
    const BYTES_AHEAD: u32 = 1024;

    /// Sorts the rows of these batches. `seen` is told each of them, with its key in the changelog.
    pub(super) fn new(
        order: RowOrder,
        batches: &'a [Records],
        mut seen: impl FnMut(&[u8], &RecordView<'_>),
    ) -> Result<Self, NoRow> {
        let rows = batches.iter().map(|batch| batch.remaining() as usize).sum();
        let mut sorted = SortedRows { order, batches, places: Vec::with_capacity(rows) };
        let (mut first, mut disk_key) = (Vec::new(), Vec::new());
        for (records, batch) in batches.iter().zip(0..) {
            let mut records = records.clone();
            loop {
                let at = records.place();
                records.touch(at + Self::BYTES_AHEAD, 1);
                let Some(record) = records.next() else { break };
                let record = record.map_err(|e| e.to_string())?;
                let key = record.key.ok_or_else(|| format!("a record without a key at offset {}", record.offset))?;
                seen(key.as_slice(), &record);
                disk_key.clear();
                order.disk_key(key.as_slice(), record.timestamp, &mut disk_key);
                if sorted.places.is_empty() {
                    first.clone_from(&disk_key);
                }
                if !disk_key.starts_with(&first) {
                    let shared = shared(&first, &disk_key);
                    sorted.places.iter_mut().for_each(|place| place.head = head(&first[shared..], place.head));
                    first.truncate(shared);
                }
                sorted.places.push(Place { head: head(&disk_key[first.len()..], 0), batch, at });
            }
        }
        sorted.sort();
        Ok(sorted)
    }

    fn sort(&mut self) {
        self.places.sort_unstable_by_key(Place::rank);
        let mut alike = Vec::new();
        push_alike(&self.places, 0, &mut alike, |_| true);
        let (mut first, mut key) = (Vec::new(), Vec::new());
        while let Some(range) = alike.pop() {
            self.sort_alike(range, &mut alike, &mut first, &mut key);
        }
    }

    /// Sorts rows whose keys begin alike by what stands behind that; those whose keys are the same leave, but for the last.
    fn sort_alike(
        &mut self,
        rows: Range<usize>,
        alike: &mut Vec<Range<usize>>,
        first: &mut Vec<u8>,
        key: &mut Vec<u8>,
    ) {
        let (order, batches, from) = (self.order, self.batches, rows.start);
        let Some(rows) = self.places.get_mut(rows) else { return };
        let read = |place: &Place, key: &mut Vec<u8>| {
            key.clear();
            row_at(batches, place).into_iter().for_each(|(found, row)| order.disk_key(found, row.timestamp, key));
        };
        rows.iter().take(1).for_each(|place| read(place, first));
        for place in rows.iter() {
            read(place, key);
            first.truncate(shared(first, key));
        }
        for place in rows.iter_mut() {
            read(place, key);
            let rest = key.get(first.len()..).unwrap_or_default();
            // What ends is before what goes on with zeros.
            place.head = head(rest, 0) & !0xFF | rest.len().min(Self::GOES_ON) as u64;
        }
        rows.sort_unstable_by_key(Place::rank);
        push_alike(rows, from, alike, |head| head & 0xFF == Self::GOES_ON as u64);
        for same in rows.chunk_by_mut(|a, b| a.head == b.head && a.head & 0xFF != Self::GOES_ON as u64) {
            same.iter_mut().rev().skip(1).for_each(|place| place.batch = Place::GONE);
        }
    }

    /// In the last byte of a head, where all before belong to the key: there is more of it.
    const GOES_ON: usize = size_of::<u64>();

    /// Gives the last row of every key, by key, until it is told to stop: what lies on disk as key and value, `None` for a deletion.
    pub(super) fn write<E>(
        &self,
        mut row: impl FnMut(&[u8], Option<&[u8]>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        let bytes: usize = self.batches.iter().map(Records::bytes).sum();
        let row_bytes = bytes / self.places.len().max(1);
        let (mut disk_key, mut disk_value) = (Vec::new(), Vec::new());
        for places in self.places.chunks(Self::AHEAD) {
            // Memory fetches rows that are asked for in a row at once, but those that are written one after the other.
            for place in places {
                self.batches.get(place.batch as usize).into_iter().for_each(|batch| batch.touch(place.at, row_bytes));
            }
            for (key, found) in places.iter().filter_map(|place| row_at(self.batches, place)) {
                disk_key.clear();
                disk_key.push(ROW);
                self.order.disk_key(key, found.timestamp, &mut disk_key);
                let value = found.value.map(|value| value.as_slice());
                // A deletion is a version too.
                let is_row = value.is_some() || self.order == RowOrder::Versions;
                disk_value.clear();
                encode_row(found.timestamp, found.headers, value, &mut disk_value);
                if row(&disk_key, is_row.then_some(disk_value.as_slice()))?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The row in a place, with its key in the changelog; `None` if it is gone.
fn row_at<'a>(batches: &'a [Records], place: &Place) -> Option<(&'a [u8], RecordView<'a>)> {
    let row = batches.get(place.batch as usize)?.at(place.at)?;
    row.key.map(|key| (key.as_slice(), row))
}

/// How many bytes two keys begin with alike.
fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// What these bytes begin with, and then what another head does.
fn head(bytes: &[u8], then: u64) -> u64 {
    if let Some(head) = bytes.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; size_of::<u64>()];
    head[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(head) | then >> (8 * bytes.len())
}

/// Adds where rows have the same head, if it is one of those.
fn push_alike(places: &[Place], mut at: usize, alike: &mut Vec<Range<usize>>, wanted: impl Fn(u64) -> bool) {
    for same in places.chunk_by(|a, b| a.head == b.head) {
        if same.len() > 1 && wanted(same[0].head) {
            alike.push(at..at + same.len());
        }
        at += same.len();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use millstream_core::BatchBuilder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The rows of these keys and times, in batches of so many, as they lie on disk; their values are their numbers.
    fn write(order: RowOrder, keys: &[(Vec<u8>, i64, bool)], batch: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut batches = Vec::new();
        for (number, rows) in keys.chunks(batch).enumerate() {
            let mut built = BatchBuilder::new();
            for (row, (key, time, there)) in rows.iter().enumerate() {
                let value = (number * batch + row).to_be_bytes();
                built.push(*time, Some(key), there.then_some(value.as_slice()), &[]);
            }
            batches.push(built.into_records(0));
        }
        let mut written = Vec::new();
        let rows = SortedRows::new(order, &batches, |_, _| {}).expect("rows");
        let Ok(_) = rows.write(|key, value| {
            written.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            Ok::<_, Infallible>(ControlFlow::Continue(()))
        });
        written
    }

    proptest! {
        /// Short keys, one the beginning of another, zeros, a shared beginning longer than any head.
        #[test]
        fn rows_come_by_key_and_of_a_key_the_last(
            shared in 0..20usize,
            keys in vec((vec(0..3u8, 0..20), 0..3i64, any::<bool>()), 0..60),
            batch in 1..30usize,
            order in prop_oneof![
                Just(RowOrder::Key),
                Just(RowOrder::Versions),
                Just(RowOrder::Time { before_end: 8, part: 2 })
            ],
        ) {
            let keys: Vec<_> = keys
                .iter()
                .map(|(key, time, there)| {
                    let place = time.to_be_bytes();
                    let place: &[u8] = if matches!(order, RowOrder::Time { .. }) { &place } else { &[] };
                    ([&vec![7; shared], key.as_slice(), place].concat(), *time, *there)
                })
                .collect();
            let mut wanted = BTreeMap::new();
            for (number, (key, time, there)) in keys.iter().enumerate() {
                let mut disk_key = vec![ROW];
                order.disk_key(key, *time, &mut disk_key);
                let value = number.to_be_bytes();
                let mut row = Vec::new();
                encode_row(*time, &[], there.then_some(value.as_slice()), &mut row);
                wanted.insert(disk_key, (*there || order == RowOrder::Versions).then_some(row));
            }
            prop_assert_eq!(write(order, &keys, batch), wanted.into_iter().collect::<Vec<_>>());
        }
    }

    /// Looking at eight bytes of them at a time took as many steps, and as many looks at all of them.
    #[test]
    fn long_keys_that_are_the_same_are_soon_found_out() {
        let (long, longer) = (vec![1; 1 << 20], vec![1; (1 << 20) + 1]);
        let rows: Vec<_> = (0..16).map(|_| (long.clone(), 0, true)).chain([(longer.clone(), 0, true)]).collect();
        let written = write(RowOrder::Key, &rows, 4);
        let keys: Vec<_> = written.into_iter().map(|(key, _)| key).collect();
        assert!(keys == [[&[ROW], long.as_slice()].concat(), [&[ROW], longer.as_slice()].concat()]);
    }
}
