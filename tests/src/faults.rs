//! A log whose commits fail every so often: nothing of such a commit takes effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, Consumer, ConsumerOptions, GroupOffsets, Log, LogError, Producer,
    ProducerOptions, TopicPartition, Wakeup,
};

/// Passes everything on, but lets every `every`-th commit of all its producers fail.
pub struct FailingCommits {
    log: Arc<dyn Log>,
    every: u64,
    commits: Arc<AtomicU64>,
}

impl FailingCommits {
    /// Around a log; 0 lets all commits through.
    pub fn new(log: Arc<dyn Log>, every: u64) -> Self {
        FailingCommits { log, every, commits: Arc::default() }
    }
}

impl Log for FailingCommits {
    fn admin(&self) -> &dyn Admin {
        self.log.admin()
    }

    fn consumer(&self, options: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        self.log.consumer(options, wakeup)
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        let producer = self.log.producer(options, wakeup)?;
        Ok(Box::new(FailingProducer { producer, every: self.every, commits: self.commits.clone(), failed: false }))
    }

    fn is_embedded(&self) -> bool {
        self.log.is_embedded()
    }
}

struct FailingProducer {
    producer: Box<dyn Producer>,
    every: u64,
    commits: Arc<AtomicU64>,
    failed: bool,
}

impl Producer for FailingProducer {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.producer.send(to, batch)
    }

    fn has_room(&self) -> bool {
        self.producer.has_room()
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        self.failed = self.every > 0 && number.is_multiple_of(self.every);
        if !self.failed {
            self.producer.commit(offsets);
        }
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
        if std::mem::take(&mut self.failed) {
            let message = "a commit that was told to fail".to_owned();
            return Some(CommitOutcome::Failed(LogError::Other { message, retriable: true }));
        }
        self.producer.poll_commit()
    }

    fn last_commit(&self) -> u64 {
        self.producer.last_commit()
    }

    fn is_kept(&self, commit: u64) -> Result<bool, LogError> {
        self.producer.is_kept(commit)
    }

    fn keep(&self, commit: u64) -> Result<(), LogError> {
        self.producer.keep(commit)
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.producer.abort()
    }
}
