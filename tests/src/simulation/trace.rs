//! What happens in a simulation, line by line: to be compared with another run of the same seed, and to be read.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A log of events. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: Option<Vec<String>>,
    count: u64,
    sum: u64,
    violation: Option<String>,
}

impl Trace {
    /// One that keeps its lines; others keep only a sum over them.
    pub fn kept() -> Self {
        Trace(Arc::new(Mutex::new(Lines { kept: Some(Vec::new()), ..Lines::default() })))
    }

    /// Something has happened.
    pub fn say(&self, what: fmt::Arguments<'_>) {
        let mut lines = self.lines();
        let line = what.to_string();
        lines.count += 1;
        lines.sum = sum_of(line.as_bytes(), lines.sum);
        if let Some(kept) = &mut lines.kept {
            kept.push(line);
        }
    }

    /// Something has happened that must not; the first counts.
    pub fn violation(&self, what: String) {
        self.say(format_args!("VIOLATION {what}"));
        self.lines().violation.get_or_insert(what);
    }

    /// The first thing that must not have happened.
    pub fn violated(&self) -> Option<String> {
        self.lines().violation.clone()
    }

    /// Number of lines, and a sum over them.
    pub fn sum(&self) -> (u64, u64) {
        let lines = self.lines();
        (lines.count, lines.sum)
    }

    /// All lines, if they are kept.
    pub fn text(&self) -> Vec<String> {
        self.lines().kept.clone().unwrap_or_default()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sum of bytes that goes on from another (FNV-1a).
pub(super) fn sum_of(bytes: &[u8], from: u64) -> u64 {
    bytes.iter().fold(from ^ 0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
