//! The runtime's settings, typed. Their names, sources and defaults as text are in [`crate::Settings`].

use std::sync::Arc;
use std::time::Duration;

use crate::disk::StateDisk;
use crate::exception_handler::ExceptionHandler;
use crate::offset_reset::OffsetReset;
use crate::time::Timestamp;

/// `processing.guarantee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessingGuarantee {
    /// Outputs are visible at once; after a crash some may come twice.
    AtLeastOnce,
    /// Outputs, state and positions become visible together, at the commit.
    ExactlyOnceV2,
}

/// `topology.compatibility`: what a start does about state that an incompatible program has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// It names every difference and ends.
    Refuse,
    /// It takes the state as it is, and writes down what it is from now on.
    Ignore,
}

/// Settings of a running application.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// `application.id`: names the consumer group, the internal topics and the state.
    pub application_id: Arc<str>,
    /// `num.stream.threads`.
    pub threads: usize,
    /// `processing.guarantee`.
    pub guarantee: ProcessingGuarantee,
    /// `commit.interval.ms`.
    pub commit_interval: Duration,
    /// `statestore.uncommitted.max.bytes`: a commit is due when half of it waits in changed rows.
    pub uncommitted_bytes: usize,
    /// Where state lies that outgrows memory; `None`: all of it is in memory, and is restored from changelogs at a start.
    pub disk: Option<Arc<dyn StateDisk>>,
    /// `default.dsl.store` is `in_memory`: on the disk are only those stores of which the program says so.
    pub in_memory: bool,
    /// `max.task.idle.ms`; `None` is -1, never wait for an empty input partition.
    pub max_task_idle: Option<Timestamp>,
    /// `max.task.skew.ms`: how much event time a task may run ahead of another; `None` is -1, no bound.
    pub max_task_skew: Option<Timestamp>,
    /// `max.poll.records`: records between two looks at commits, punctuation and new input.
    pub poll_records: usize,
    /// `max.partition.fetch.bytes`.
    pub fetch_bytes: usize,
    /// `batch.size`: an output batch of this size is sent.
    pub batch_bytes: usize,
    /// `max.request.size`: a larger record is not written; `production.exception.handler` decides then.
    pub max_request_bytes: usize,
    /// `deserialization.exception.handler`, and `errors.dead.letter.queue.topic.name`.
    pub undecodable: ExceptionHandler,
    /// `processing.exception.handler`, and `errors.dead.letter.queue.topic.name`.
    pub processing: ExceptionHandler,
    /// `processing.exception.handler.global.enabled`: whether that handler is asked about global tables and stores too.
    pub processing_global: bool,
    /// `production.exception.handler`, and `errors.dead.letter.queue.topic.name`.
    pub production: ExceptionHandler,
    /// `metadata.max.age.ms`: how often topics are looked for that a pattern matches.
    pub metadata_max_age: Duration,
    /// `auto.offset.reset`, for sources that do not say.
    pub offset_reset: OffsetReset,
    /// `topology.compatibility`.
    pub compatibility: Compatibility,
    /// `num.partitions` of user topics that are missing, if they may be created; `None` makes them an error.
    pub create_topics: Option<i32>,
}

impl RuntimeConfig {
    /// The defaults on an embedded log; on a cluster `guarantee`, `commit_interval` and `create_topics` differ.
    pub fn embedded(application_id: &str) -> Self {
        RuntimeConfig {
            application_id: application_id.into(),
            threads: 1,
            guarantee: ProcessingGuarantee::ExactlyOnceV2,
            commit_interval: Duration::from_millis(100),
            uncommitted_bytes: 64 << 20,
            disk: None,
            in_memory: false,
            max_task_idle: Some(0),
            max_task_skew: Some(3_600_000),
            poll_records: 10_000,
            fetch_bytes: 1 << 20,
            batch_bytes: 64 << 10,
            max_request_bytes: 1 << 20,
            undecodable: ExceptionHandler::Fail,
            processing: ExceptionHandler::Fail,
            processing_global: false,
            production: ExceptionHandler::Fail,
            metadata_max_age: Duration::from_secs(300),
            offset_reset: OffsetReset::Earliest,
            compatibility: Compatibility::Refuse,
            create_topics: Some(1),
        }
    }

    /// The defaults on a cluster, which are Kafka Streams'.
    pub fn cluster(application_id: &str) -> Self {
        RuntimeConfig {
            guarantee: ProcessingGuarantee::AtLeastOnce,
            commit_interval: Duration::from_secs(30),
            create_topics: None,
            ..Self::embedded(application_id)
        }
    }
}
