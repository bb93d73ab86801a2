//! Rows that are on disk alone: which keys are known to have none, how rows come back, and how they leave.
//!
//! Time goes on and so do most records, so what leaves first is what is oldest. Of every key it is known from which place on
//! all of its rows are in memory, and of the table the same for keys that it does not have: whoever asks for a row, or for all
//! rows from a place on, reads the disk only for what lies before that.
//!
//! ```text
//!   key "a"   ── on disk, perhaps in memory ──┤known├── in memory ──►
//!   key "b"   ───── on disk, perhaps in memory ─────┤known├── in memory ──►
//!   no key    ───────────── on disk ────────────────┤known├── there is none ──►   time
//! ```

use std::ops::{Bound, ControlFlow, RangeInclusive};
use std::sync::Arc;

use millstream_core::{ChangelogRecord, DiskRows, Result, RowOrder, Serde, StateBudget, StateStore, Timestamp};

use super::{Place, Run, RunId, TimedTable};
use crate::index::Index;
use crate::key_value::decode;
use crate::rows::{Entry, RowId};
use crate::share::Share;

/// The rows on disk of a table.
pub(super) struct Disk<P> {
    pub(super) rows: Box<dyn DiskRows>,
    pub(super) share: Share,
    /// Of every run the place from which on all rows of its key are in memory; the first place of all for those behind the end.
    known: Vec<P>,
}

/// Is given rows of a part of time: key, place, row.
pub(super) type RowOfPart<'a, P> = dyn FnMut(&[u8], P, ChangelogRecord<'_>) -> Result<()> + 'a;

impl<P: Place> Disk<P> {
    pub(super) fn new(rows: Box<dyn DiskRows>, budget: &Arc<StateBudget>) -> Self {
        Disk { rows, share: Share::new(budget), known: Vec::new() }
    }

    fn known(&self, run: RunId) -> P {
        self.known.get(run as usize).copied().unwrap_or(P::FIRST)
    }

    /// Notes from which place on the rows of a run's key are in memory.
    pub(super) fn set_known(&mut self, run: RunId, known: P) {
        let at = run as usize;
        if self.known.len() <= at {
            self.known.resize(at + 1, P::FIRST);
        }
        self.known[at] = known;
    }
}

impl<P: Place, VS: Serde> TimedTable<P, VS>
where
    VS::Value: Clone + 'static,
{
    /// Before this, rows expired with the last commit: whatever is still held, nobody gets it.
    pub(super) fn kept_from(&self) -> Timestamp {
        self.committed_observed.saturating_sub(self.retention).saturating_add(1)
    }

    /// Whether a row that was found on disk stands for itself: not if it is in memory too, was deleted or has moved there, or has
    /// expired.
    pub(super) fn is_away(&self, key: &[u8], place: P) -> bool {
        if place.time() < self.kept_from() {
            return false;
        }
        match (self.find_run(self.index.hash(key), key), &self.disk) {
            (None, _) => place < self.known,
            (Some(run), Some(disk)) => place < disk.known(run) && self.runs[run as usize].find(place).is_none(),
            (Some(_), None) => false,
        }
    }

    /// The row at a place, if it is on disk alone.
    pub(super) fn look_up(&self, key: &[u8], place: P) -> Result<Option<Entry<VS::Value>>> {
        let Some(disk) = self.disk.as_ref().filter(|_| self.is_away(key, place)) else { return Ok(None) };
        let (mut changelog_key, mut found) = (key.to_vec(), None);
        place.encode(&mut changelog_key);
        disk.rows.get(&changelog_key, &mut |record| {
            found = Some(decode(&self.name, &self.serde, record)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Brings the row at a place back, if it is on disk alone.
    #[cold]
    pub(super) fn read_row(&mut self, key: &[u8], place: P) -> Result<Option<RowId>> {
        let entry = self.look_up(key, place)?;
        Ok(entry.map(|entry| self.take_back(key, place, entry)))
    }

    /// Brings back the rows of a key at places within a range that are on disk alone.
    #[cold]
    pub(super) fn read_places(&mut self, key: &[u8], places: RangeInclusive<P>) -> Result<()> {
        let (from, to) = places.clone().into_inner();
        let Some(disk) = &self.disk else { return Ok(()) };
        let run = self.find_run(self.index.hash(key), key);
        let known = run.map_or(self.known, |run| disk.known(run));
        if from >= known {
            return Ok(());
        }
        let mut found = Vec::new();
        self.for_each_away(key, from.time()..=to.time().min(known.time()), &mut |place, record| {
            if places.contains(&place) {
                found.push((place, decode(&self.name, &self.serde, record)?));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for (place, entry) in found {
            self.take_back(key, place, entry);
        }
        if let (Some(run), Some(disk)) = (run, self.disk.as_mut().filter(|_| to >= known)) {
            disk.set_known(run, from);
        }
        Ok(())
    }

    /// Gives the rows of a key that are on disk alone, with times within a range, until it is told `Break`.
    pub(super) fn for_each_away(
        &self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
        row: &mut dyn FnMut(P, ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let mut flow = ControlFlow::Continue(());
        for part in self.parts(times) {
            let bounds = |behind| self.row_order().key_in_part(*part.start(), key, behind);
            let (Some(mut from), Some(to)) = (bounds(false), bounds(true)) else { continue };
            from.extend(part.start().to_be_bytes());
            disk.rows.look_up((Bound::Included(&from), Bound::Excluded(&to)), false, &mut |record| {
                if let Some((_, place)) = P::decode(record.key)
                    && self.is_away(key, place)
                {
                    flow = row(place, record)?;
                }
                Ok(flow)
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Gives the rows of all keys that are on disk alone, in the order of parts of time, then keys; it begins in the part of a time.
    pub(super) fn for_each_in_part(&self, time: Timestamp, row: &mut RowOfPart<'_, P>) -> Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let order = self.row_order();
        let from = order.part_of(time).unwrap_or_default();
        let to = order.part_of(self.part_end(time));
        let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        disk.rows.scan((Bound::Included(&from), to), false, &mut |record| {
            if let Some((key, place)) = P::decode(record.key)
                && self.is_away(key, place)
            {
                row(key, place, record)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The times within a range, part by part, in which rows lie that are on disk alone.
    pub(super) fn parts(&self, times: RangeInclusive<Timestamp>) -> impl Iterator<Item = RangeInclusive<Timestamp>> {
        let (from, to) = times.into_inner();
        let (from, to) = (from.max(self.kept_from()), to.min(self.known.time()));
        let is_any = self.disk.is_some() && self.known > P::FIRST;
        is_any.then(|| self.row_order().parts(from..=to)).into_iter().flatten()
    }

    /// Behind the part that a time is in.
    pub(super) fn part_end(&self, time: Timestamp) -> Timestamp {
        let length = self.part_length();
        time.div_euclid(length).saturating_mul(length).saturating_add(length)
    }

    /// How much time lies together on disk.
    fn part_length(&self) -> Timestamp {
        match self.row_order() {
            RowOrder::Time { part, .. } => part,
            RowOrder::Key | RowOrder::Versions => Timestamp::MAX,
        }
    }

    /// Takes up a row that was on disk alone.
    fn take_back(&mut self, key: &[u8], place: P, entry: Entry<VS::Value>) -> RowId {
        let hash = self.index.hash(key);
        let run = match self.find_run(hash, key) {
            Some(run) => run,
            None => self.insert_run(hash, key, place),
        };
        let row = self.insert_row(run, place);
        self.rows.parts(row).1.entry = entry;
        row
    }

    /// Lets rows leave that the budget has no room for: the oldest, unless they were asked for lately.
    pub(super) fn evict(&mut self) {
        let taken = self.taken();
        let Some(disk) = &mut self.disk else { return };
        let too_much = disk.share.take(taken);
        let mut too_many = too_much.div_ceil((taken / self.rows.len().max(1)).max(1));
        if too_much == 0 {
            return;
        }
        // Once around takes from rows that they were asked for.
        for _ in 0..2 {
            let mut next = Timestamp::MIN;
            while too_many > 0
                && let Some((part, _)) = self.expiring.range(next..).next()
            {
                (next, too_many) = (*part + 1, self.evict_part(*part, too_many));
            }
        }
        if let Some(closes) = &mut self.closes
            && closes.is_mostly_stale(self.rows.len())
        {
            closes.clear();
            Self::list_rows(closes, &self.index, &self.runs);
        }
        let taken = self.taken();
        if let Some(disk) = &mut self.disk {
            disk.share.take(taken);
        }
    }

    /// About how many bytes the rows take that are in memory.
    fn taken(&self) -> usize {
        let Some(disk) = &self.disk else { return 0 };
        let row = disk.share.row_bytes(self.rows.row_bytes() + size_of::<(P, RowId)>());
        let run = size_of::<Run<P>>() + size_of::<P>() + Index::<RunId>::ENTRY_BYTES;
        self.rows.len() * row + self.index.len() * run
    }

    /// Lets so many rows leave of the runs that are listed under a part of the retention, and of its time; returns how many are left to.
    fn evict_part(&mut self, part: Timestamp, mut too_many: usize) -> usize {
        let Some(mut listed) = self.expiring.remove(&part) else { return too_many };
        let mut left = Vec::new();
        for _ in 0..listed.len() {
            if too_many == 0 {
                break;
            }
            let Some(id) = listed.pop_front() else { break };
            let (run, rows, retention) = (&mut self.runs[id as usize], &mut self.rows, self.retention);
            let mut leaves = |&(place, row): &(P, RowId)| {
                let leaves = too_many > 0 && Self::part(retention, place.time()) <= part && rows.leave(row);
                if leaves {
                    too_many -= 1;
                    left.push(place);
                }
                leaves
            };
            run.earlier.retain(|at| !leaves(at));
            if run.newest.as_ref().is_some_and(leaves) {
                run.newest = run.earlier.pop();
            }
            if let (Some(last), Some(disk)) = (left.iter().max(), &mut self.disk) {
                let known = last.next();
                disk.set_known(id, known.max(disk.known(id)));
                self.known = self.known.max(known);
            }
            for place in left.drain(..) {
                self.closes.iter_mut().for_each(|closes| closes.left(&run.key, place));
            }
            match run.first().map(|first| Self::part(retention, first.time())) {
                // Behind those that were not looked at yet.
                Some(first) if first <= part => listed.push_back(id),
                Some(first) => self.expiring.entry(first).or_default().push_back(id),
                None => self.remove_run(id),
            }
        }
        if !listed.is_empty() {
            self.expiring.entry(part).or_default().append(&mut listed);
        }
        too_many
    }
}
