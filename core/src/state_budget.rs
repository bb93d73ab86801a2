//! The memory that the rows of a process's stores may take, over all of them; what does not fit lies on disk.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that tables share. Each says what it takes, and learns from the sum how much of it is too much.
#[derive(Debug)]
pub struct StateBudget {
    limit: usize,
    taken: AtomicUsize,
}

impl StateBudget {
    /// So many bytes for all tables.
    pub fn new(limit: usize) -> Self {
        StateBudget { limit, taken: AtomicUsize::new(0) }
    }

    /// Bytes that all tables take.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// A table that took `before` takes `now`. Returns how much of that it may keep: its part of the limit if all together
    /// take more than that.
    pub fn take(&self, before: usize, now: usize) -> usize {
        let taken = if now >= before {
            self.taken.fetch_add(now - before, Ordering::Relaxed) + (now - before)
        } else {
            self.taken.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        };
        if taken <= self.limit {
            return now;
        }
        (now as u128 * self.limit as u128 / taken as u128) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tables_share_what_there_is_by_what_they_take() {
        let budget = StateBudget::new(100);
        assert_eq!(budget.take(0, 80), 80);
        assert_eq!(budget.take(0, 120), 60);
        assert_eq!(budget.take(120, 60), 42);
        assert_eq!(budget.take(60, 20), 20);
        assert_eq!(budget.taken(), 100);
    }
}
