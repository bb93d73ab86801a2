//! A log that tells when a commit begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, Consumer, ConsumerOptions, GroupOffsets, Log, LogError, Producer,
    ProducerOptions, TopicPartition, Wakeup,
};

/// Passes everything on.
pub(crate) struct ToldCommits {
    log: Arc<dyn Log>,
    left: Arc<AtomicU64>,
    tell: fn(),
}

impl ToldCommits {
    /// Around a log: `tell` is called when the `number`-th commit begins, from 1 on.
    pub(crate) fn new(log: Arc<dyn Log>, number: u64, tell: fn()) -> Self {
        ToldCommits { log, left: Arc::new(AtomicU64::new(number)), tell }
    }
}

impl Log for ToldCommits {
    fn admin(&self) -> &dyn Admin {
        self.log.admin()
    }

    fn consumer(&self, options: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        self.log.consumer(options, wakeup)
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        let producer = self.log.producer(options, wakeup)?;
        Ok(Box::new(Telling { producer, left: self.left.clone(), tell: self.tell }))
    }

    fn is_embedded(&self) -> bool {
        self.log.is_embedded()
    }
}

struct Telling {
    producer: Box<dyn Producer>,
    left: Arc<AtomicU64>,
    tell: fn(),
}

impl Producer for Telling {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.producer.send(to, batch)
    }

    fn has_room(&self) -> bool {
        self.producer.has_room()
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            (self.tell)();
        }
        self.producer.commit(offsets);
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
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
