//! Rows of a key, and of ranges of keys, at places within a range.

use std::ops::{Bound, RangeBounds, RangeInclusive};

use millstream_core::{Result, Serde, Timestamp};

use super::{KeyRows, Place, Run, TimedTable};
use crate::key_bytes::KeyBytes;
use crate::key_value::decode;

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone + 'static,
{
    /// The live rows of a key at places within a range, ascending.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    pub fn fetch(
        &mut self,
        key: &[u8],
        places: RangeInclusive<P>,
    ) -> Result<impl DoubleEndedIterator<Item = (P, &VS::Value, Timestamp)>> {
        if *places.start() < self.known {
            self.read_places(key, places.clone())?;
        }
        Ok(self.fetch_in(self.run(key), places))
    }

    /// The same among the rows of a key, all of which must be in memory from the first of the places on
    /// ([`TimedTable::rows_from`]).
    pub fn fetch_at(
        &self,
        KeyRows(id): KeyRows,
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &VS::Value, Timestamp)> {
        self.fetch_in(Some(&self.runs[id as usize]), places)
    }

    fn fetch_in<'a>(
        &'a self,
        run: Option<&'a Run<P>>,
        places: RangeInclusive<P>,
    ) -> impl DoubleEndedIterator<Item = (P, &'a VS::Value, Timestamp)> {
        let found = run.into_iter().flat_map(move |run| run.range(places.clone()));
        found.filter(|(place, _)| self.is_live(place)).filter_map(|(place, row)| {
            let entry = &self.rows.content(*row).entry;
            Some((*place, entry.value.as_ref()?, entry.timestamp))
        })
    }

    /// The live rows of all keys within a range for which `is` meant, in the order of key bytes, then place. Looks at every key of
    /// the table.
    ///
    /// # Errors
    /// When they cannot be read from disk.
    pub fn scan(
        &self,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        is: impl Fn(&P) -> bool,
    ) -> Result<Vec<(KeyBytes, P, VS::Value)>> {
        let is_asked = |place: &P| self.is_live(place) && is(place);
        let runs = self.index.iter().map(|run| &self.runs[run as usize]);
        let runs = runs.filter(|run| RangeBounds::<[u8]>::contains(&keys, &*run.key));
        let places = runs.flat_map(|run| run.places().map(|at| (&run.key, at)));
        let asked = places.filter(|(_, (place, _))| is_asked(place));
        let value = |(key, (place, row)): (&KeyBytes, &(P, _))| {
            Some((key.clone(), *place, self.rows.content(*row).entry.value.clone()?))
        };
        let mut found: Vec<_> = asked.filter_map(value).collect();
        for part in self.parts(Timestamp::MIN..=Timestamp::MAX) {
            self.for_each_in_part(*part.start(), &mut |key, place, record| {
                if is_asked(&place) && RangeBounds::<[u8]>::contains(&keys, key) {
                    let value = decode(&self.name, &self.serde, record)?.value;
                    found.extend(value.map(|value| (key.into(), place, value)));
                }
                Ok(())
            })?;
        }
        found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        Ok(found)
    }
}
