//! Deliberate defects, one of which a process may switch on: the crash harness must find each. Compiled with feature `plant`
//! alone, which no program has.

use std::sync::atomic::{AtomicU8, Ordering};

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Plant {
    /// A producer of an earlier epoch may go on, and no sequence number is looked at.
    SkipFence = 1,
    /// A batch is acknowledged before it is synced.
    AckEarly,
    /// A store's position is not written with its rows, but at once.
    ForgetOffsetRow,
    /// Deletions are not written to changelogs.
    DropTombstone,
    /// Input positions are not part of every transaction, so that a restart applies some input again.
    DoubleApply,
    /// Recovery takes a batch that is cut off as whole.
    TornBatch,
}

static SET: AtomicU8 = AtomicU8::new(0);

impl Plant {
    /// All of them.
    pub const ALL: [Plant; 6] = [
        Plant::SkipFence,
        Plant::AckEarly,
        Plant::ForgetOffsetRow,
        Plant::DropTombstone,
        Plant::DoubleApply,
        Plant::TornBatch,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Plant::SkipFence => "skip-fence",
            Plant::AckEarly => "ack-early",
            Plant::ForgetOffsetRow => "forget-offset-row",
            Plant::DropTombstone => "drop-tombstone",
            Plant::DoubleApply => "double-apply",
            Plant::TornBatch => "torn-batch",
        }
    }

    /// Switches it on in this process.
    pub fn set(self) {
        SET.store(self as u8, Ordering::SeqCst);
    }

    /// Whether it is switched on.
    pub fn is_set(self) -> bool {
        SET.load(Ordering::Relaxed) == self as u8
    }
}
