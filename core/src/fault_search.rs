//! Which record makes a row that its store cannot write: that shows at the commit, so fewer and fewer records are committed together,
//! until one that is committed alone fails.

use crate::log::Offset;

/// The records of a task since its last commit, and how many of those that come next may be committed together.
#[derive(Default)]
pub(crate) struct FaultSearch {
    /// Records processed since the last commit.
    uncommitted: usize,
    /// The input and offset of the last of them.
    last: (usize, Offset),
    /// One of so many that come next is at fault: no more than `most` of them are committed together.
    doubtful: usize,
    most: usize,
}

/// What a failed commit says about the record at fault.
pub(crate) enum Suspects {
    /// There was none in it.
    None,
    /// The record at this offset of an input.
    One(usize, Offset),
    /// Several, fewer of which are committed together from now on.
    Several,
}

impl FaultSearch {
    /// How many of so many records may be processed now.
    pub(crate) fn at_most(&self, records: usize) -> usize {
        if self.doubtful > 0 { self.most.saturating_sub(self.uncommitted).max(1).min(records) } else { records }
    }

    /// Whether what was processed is to be committed before anything else is processed.
    pub(crate) fn wants_commit(&self) -> bool {
        self.doubtful > 0 && self.uncommitted >= self.most
    }

    /// So many records of an input were processed, up to this offset.
    pub(crate) fn processed(&mut self, records: usize, input: usize, offset: Offset) {
        (self.uncommitted, self.last) = (self.uncommitted + records, (input, offset));
    }

    /// So many records were left out, and make no row.
    pub(crate) fn passed_over(&mut self, records: usize) {
        self.doubtful = self.doubtful.saturating_sub(records);
    }

    /// The stores have written all that was processed.
    pub(crate) fn written(&mut self) {
        self.passed_over(self.uncommitted);
        self.uncommitted = 0;
    }

    /// What was processed is undone.
    pub(crate) fn rolled_back(&mut self) {
        self.uncommitted = 0;
    }

    /// A store could not write what was processed.
    pub(crate) fn failed(&mut self) -> Suspects {
        match std::mem::take(&mut self.uncommitted) {
            0 => Suspects::None,
            1 => Suspects::One(self.last.0, self.last.1),
            records => {
                (self.doubtful, self.most) = (self.doubtful.max(records), records / 2);
                Suspects::Several
            }
        }
    }

    /// The record at fault is found, and is left out: there may be another behind it.
    pub(crate) fn found(&mut self) {
        self.most = self.doubtful.div_ceil(2);
    }
}
