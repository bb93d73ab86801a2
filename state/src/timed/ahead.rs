//! The runs of the keys that come next: they are found once, when they are read ahead, and not again when their records come.

use millstream_core::KEYS_AHEAD;

use super::RunId;

/// Runs in the order in which their keys come, as far as they are known. A guess: whoever asks compares the keys.
#[derive(Default)]
pub(super) struct Ahead {
    runs: [Option<RunId>; KEYS_AHEAD],
    next: usize,
}

impl Ahead {
    /// Takes the runs of the keys that come next.
    pub(super) fn set(&mut self, runs: [Option<RunId>; KEYS_AHEAD]) {
        *self = Ahead { runs, next: 0 };
    }

    /// The run of the next key.
    #[inline]
    pub(super) fn expected(&self) -> Option<RunId> {
        self.runs.get(self.next).copied().flatten()
    }

    /// The next key has come.
    #[inline]
    pub(super) fn pass(&mut self) {
        self.next += 1;
    }

    /// The key of this run has come: others before it were not asked for.
    #[inline]
    pub(super) fn pass_to(&mut self, run: RunId) {
        let rest = self.runs.get(self.next..).unwrap_or_default();
        self.next += rest.iter().position(|other| *other == Some(run)).map_or(0, |at| at + 1);
    }

    /// A run is gone.
    pub(super) fn forget(&mut self) {
        self.next = KEYS_AHEAD;
    }
}
