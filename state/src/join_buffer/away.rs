//! Rows of a join's buffer that are on disk alone.
//!
//! Rows leave memory in the order in which they came. Of every key it is known up to which time its rows have left, and of all
//! keys together up to which time rows lay on disk at the start: who asks for later ones does not read the disk.

use std::ops::{Bound, ControlFlow, RangeInclusive};
use std::sync::Arc;

use millstream_core::{ChangelogRecord, DiskRows, NO_TIME, Result, RowOrder, StateBudget, Timestamp};

use super::{Number, split};
use crate::index::{Hash, Index};
use crate::share::Share;

/// Which rows are on disk alone.
pub(super) struct Away {
    rows: Box<dyn DiskRows>,
    order: RowOrder,
    pub(super) share: Share,
    /// Up to this time rows of any key may be there: those of before the start.
    unknown: Timestamp,
    /// The latest time of a key's rows that have left.
    left: Index<Timestamp>,
    /// With so many of them, those are forgotten that have expired.
    sweep_at: usize,
}

/// So many keys are not looked through.
const FEW: usize = 1024;

impl Away {
    pub(super) fn new(rows: Box<dyn DiskRows>, order: RowOrder, budget: &Arc<StateBudget>) -> Self {
        let share = Share::new(budget);
        Away { rows, order, share, unknown: NO_TIME, left: Index::default(), sweep_at: FEW }
    }

    /// The rows on disk are complete. Returns the largest time of those that were ever there.
    pub(super) fn restored(&mut self) -> Option<Timestamp> {
        let latest = self.rows.latest();
        self.unknown = latest.unwrap_or(NO_TIME);
        latest
    }

    /// Up to which time there may be rows of any key.
    pub(super) fn unknown(&self) -> Timestamp {
        self.unknown
    }

    /// Up to which time there may be rows of a key.
    #[inline]
    pub(super) fn up_to(&self, hash: Hash) -> Timestamp {
        self.left.find(hash, |_| true).map_or(self.unknown, |left| left.max(self.unknown))
    }

    /// A row has left memory; what is not later than `oldest` has expired for good.
    pub(super) fn add(&mut self, hash: Hash, time: Timestamp, oldest: Timestamp) {
        if let Some(latest) = self.left.find_mut(hash, |_| true) {
            *latest = time.max(*latest);
            return;
        }
        self.left.insert(hash, time);
        if self.left.len() > self.sweep_at {
            self.left.retain(|latest| latest > oldest);
            self.sweep_at = FEW.max(2 * self.left.len());
        }
    }

    /// As [`Share::too_many`], with the bytes that it takes to know which keys have left.
    pub(super) fn too_many(&mut self, rows: usize, place: usize) -> usize {
        self.share.too_many(rows, place, self.left.len() * Index::<Timestamp>::ENTRY_BYTES)
    }

    /// Gives the rows of a key with times within a range to `row`, by time, then number, whether they are in memory too or not.
    pub(super) fn for_each(
        &self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
        row: &mut dyn FnMut(Timestamp, Number, ChangelogRecord<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = *times.end();
        for part in self.order.parts(times) {
            let bounds = |behind| self.order.key_in_part(*part.start(), key, behind);
            let (Some(mut from), Some(to)) = (bounds(false), bounds(true)) else { continue };
            from.extend(part.start().to_be_bytes());
            self.rows.look_up((Bound::Included(&from), Bound::Excluded(&to)), false, &mut |record| {
                let Some((_, time, number)) = split(record.key) else { return Ok(ControlFlow::Continue(())) };
                if time > end {
                    return Ok(ControlFlow::Break(()));
                }
                row(time, number, record)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    }
}
