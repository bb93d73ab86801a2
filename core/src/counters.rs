//! What a task counts. Names are Kafka Streams' metric names; plain integers, read between polls.

use std::ops::AddAssign;

/// Totals since the task was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// `process-total`: records taken for processing.
    pub process: u64,
    /// `dropped-records-total`: records skipped by a source or an operator, late ones included. What is done again after a
    /// rollback is counted again.
    pub dropped_records: u64,
    /// Of those, the ones that came after their window had closed.
    pub late_records: u64,
    /// `enforced-processing-total`: times a task went on although an input partition was empty.
    pub enforced_processing: u64,
    /// `punctuate-total`: punctuations fired.
    pub punctuate: u64,
    /// `commit-total`: commits that took effect.
    pub commit: u64,
    /// Commits that failed and were rolled back.
    pub rollback: u64,
    /// `restore-total`: changelog records restored.
    pub restore: u64,
    /// Records written to the dead-letter topic.
    pub dead_letter: u64,
    /// Dead letters that were too large to be written: `production.exception.handler` left them out, or wrote others.
    pub large_dead_letter: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.process += other.process;
        self.dropped_records += other.dropped_records;
        self.late_records += other.late_records;
        self.enforced_processing += other.enforced_processing;
        self.punctuate += other.punctuate;
        self.commit += other.commit;
        self.rollback += other.rollback;
        self.restore += other.restore;
        self.dead_letter += other.dead_letter;
        self.large_dead_letter += other.large_dead_letter;
    }
}
