//! When a process is killed.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// When a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long after it was started: the log is being recovered.
    Recovery(Duration),
    /// So long after the log was opened: state is being restored.
    Restore(Duration),
    /// So long after the application began to run.
    Running(Duration),
    /// So long after a commit began, the n-th.
    Commit(u64, Duration),
    /// In the n-th write to a file of the log, of which so many percent are written, or when a file gets its name. The write hangs
    /// for a while before: other threads go on.
    Write(u64, u64, Duration),
    /// So long after a second instance of the application has taken over from the first.
    Takeover(Duration),
}

/// Names of the moments, for counting.
pub(crate) const MOMENTS: [&str; 6] = ["recovery", "restore", "running", "commit", "write", "takeover"];

impl Moment {
    /// One of them.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut ms = |most: u64| Duration::from_micros(dice.below(most * 1000));
        let (short, medium, long) = (ms(15), ms(40), ms(400));
        match dice.below(10) {
            0 => Moment::Recovery(short),
            1 => Moment::Restore(medium),
            2 | 3 => Moment::Running(long),
            4 | 5 => Moment::Commit(1 + dice.below(12), short / 10),
            6..=8 => {
                // Small numbers are in the recovery.
                let most = dice.one_of(&[20, 200, 2000]);
                let hangs = if dice.below(2) == 0 { Duration::ZERO } else { medium };
                Moment::Write(1 + dice.below(most), dice.below(101), hangs)
            }
            _ => Moment::Takeover(long),
        }
    }

    /// Its index in [`MOMENTS`].
    pub(crate) fn index(self) -> usize {
        match self {
            Moment::Recovery(_) => 0,
            Moment::Restore(_) => 1,
            Moment::Running(_) => 2,
            Moment::Commit(..) => 3,
            Moment::Write(..) => 4,
            Moment::Takeover(_) => 5,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Recovery(after) => write!(f, "{after:?} after its start"),
            Moment::Restore(after) => write!(f, "{after:?} after the log was open"),
            Moment::Running(after) => write!(f, "{after:?} after the application ran"),
            Moment::Commit(number, after) => write!(f, "{after:?} after commit {number} began"),
            Moment::Write(number, percent, hangs) => {
                write!(f, "in write {number}, after {percent} % of it, which hangs for {hangs:?}")
            }
            Moment::Takeover(after) => write!(f, "{after:?} after a takeover"),
        }
    }
}
