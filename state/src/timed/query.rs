//! Answers to queries, in parts.

use millstream_core::{ChangelogWriter, Isolation, Result, Serde, StoreQuery};

use super::{Place, Placed, RunId, TimedTable};
use crate::key_value::{UNDO_PER_ROW, write_value};
use crate::rows::Content as _;
use crate::sorted_keys::SortedKeys;

/// What a run has given to an answer.
struct Given<P> {
    rows: usize,
    /// The last one, if there are more.
    rest_after: Option<P>,
}

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone,
{
    /// Sorts the keys, at most so many at a time; `true` when they are.
    fn sort(&mut self, most: usize) -> bool {
        let (runs, index) = (&self.runs, &self.index);
        self.sorted.get_or_insert_with(SortedKeys::new).sort(runs.len(), most, |place| {
            let (id, key) = (place as RunId, &runs[place].key);
            index.contains(index.hash(key), id).then_some((key, id))
        })
    }

    /// Gives the rows of a run that a query means, those behind a place of it, at most so many: the last place that was
    /// looked at if there are more.
    fn give(
        &mut self,
        run: RunId,
        query: &StoreQuery,
        after: Option<P>,
        isolation: Isolation,
        most: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Given<P>> {
        let committed = isolation == Isolation::ReadCommitted;
        let observed = if committed { self.committed_observed } else { self.observed };
        let oldest = observed.saturating_sub(self.retention);
        let content = |row| if committed { self.rows.committed_content(row) } else { self.rows.content(row) };
        let run = &self.runs[run as usize];
        // A committed row may have been somewhere else, but among those that were committed with it the order is the same.
        let places = run.places().map(|(_, row)| content(*row));
        let is_asked = |content: &&Placed<P, VS::Value>| {
            let place = content.place;
            let is_left = after.is_none_or(|after| if query.descending { place < after } else { place > after });
            content.is_there() && place.time() > oldest && is_left && place.is_at(&query.times)
        };
        let mut asked: Vec<_> = places.filter(is_asked).collect();
        if query.descending {
            asked.reverse();
        }
        let (name, serde, scratch, key) = (&self.name, &self.serde, &mut self.scratch, &mut self.key_scratch);
        for (at, Placed { place, entry }) in asked.iter().enumerate() {
            key.clear();
            key.extend_from_slice(&run.key);
            place.encode(key);
            write_value(name, serde, scratch, key, entry.value.as_ref(), entry.timestamp, answer)?;
            if at + 1 == most || answer.is_full() {
                return Ok(Given { rows: at + 1, rest_after: Some(*place).filter(|_| at + 1 < asked.len()) });
            }
        }
        Ok(Given { rows: asked.len(), rest_after: None })
    }

    /// A part of an answer ([`millstream_core::StateStore::query`]).
    pub(super) fn answer(
        &mut self,
        query: &StoreQuery,
        isolation: Isolation,
        rows: usize,
        answer: &mut ChangelogWriter,
    ) -> Result<Option<StoreQuery>> {
        if isolation == Isolation::ReadCommitted && !self.rows.look_up_undo(UNDO_PER_ROW * rows) {
            return Ok(Some(query.clone()));
        }
        let after = query.after.as_deref().and_then(P::decode);
        let end = if query.descending { P::FIRST } else { P::LAST };
        let runs: Vec<RunId> = match query.single_key() {
            Some(key) => self.find_run(self.index.hash(key), key).into_iter().collect(),
            None if !self.sort(rows) => return Ok(Some(query.clone())),
            None => {
                let is_again = after.is_some_and(|(_, place)| place != end);
                let Some(range) = query.keys_left(after.map(|(key, _)| key), is_again) else { return Ok(None) };
                let runs = self.sorted.iter().flat_map(|sorted| sorted.range(range)).map(|(_, run)| run);
                // One more than there is time for: whether that is all.
                if query.descending { runs.rev().take(rows + 1).collect() } else { runs.take(rows + 1).collect() }
            }
        };
        let mut given = 0;
        for (at, run) in runs.iter().enumerate() {
            let key = self.runs[*run as usize].key.clone();
            let last = |place: Option<P>| {
                let mut last = key.to_vec();
                place.unwrap_or(end).encode(&mut last);
                query.after(&last)
            };
            let behind = after.filter(|(after, _)| **after == *key).map(|(_, place)| place);
            let done = self.give(*run, query, behind, isolation, rows - given, answer)?;
            given += done.rows;
            if done.rest_after.is_some() {
                return Ok(Some(last(done.rest_after)));
            }
            if at + 1 < runs.len() && (at + 1 == rows || given == rows || answer.is_full()) {
                return Ok(Some(last(None)));
            }
        }
        Ok(None)
    }
}
