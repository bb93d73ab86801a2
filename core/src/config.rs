//! The runtime's settings, typed. Their names, sources and defaults as text are in [`crate::Settings`].

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::StateDisk;
use crate::error::{Error, Result};
use crate::exception_handler::ExceptionHandler;
use crate::offset_reset::OffsetReset;
use crate::time::Timestamp;
use crate::topic_name::TopicName;

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

/// Settings of a running application. What is out of bounds is an error of the start ([`Error::Config`]), as it is from a file.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// `application.id`: names the consumer group, the internal topics and the state. 1 to 200 of a-z, A-Z, 0-9, `.`, `_` and `-`,
    /// which does not come first.
    pub application_id: Arc<str>,
    /// `num.stream.threads`: at least 1; more than there are tasks are not started. 1.
    pub threads: usize,
    /// `processing.guarantee`: exactly-once on an embedded log, at-least-once on a cluster.
    pub guarantee: ProcessingGuarantee,
    /// `commit.interval.ms`: from the first record behind a commit to the next commit; 0 is after every poll. 100 ms on an
    /// embedded log, 30 s on a cluster.
    pub commit_interval: Duration,
    /// `statestore.uncommitted.max.bytes`: a commit is due when half of it waits in changed rows. Bytes, at least 1; 64 MiB.
    pub uncommitted_bytes: usize,
    /// Where state lies that outgrows memory; `None`: all of it is in memory, and is restored from changelogs at a start.
    pub disk: Option<Arc<dyn StateDisk>>,
    /// `default.dsl.store` is `in_memory`: on the disk are only those stores of which the program says so. `false`.
    pub in_memory: bool,
    /// `max.task.idle.ms`: how long an empty input partition holds a task up that has records of others, by the wall clock.
    /// Milliseconds, at least 0; `None` is -1, never. 0.
    pub max_task_idle: Option<Timestamp>,
    /// `max.task.skew.ms`: how much event time a task may run ahead of another. Milliseconds, at least 0; `None` is -1, no bound. An
    /// hour.
    pub max_task_skew: Option<Timestamp>,
    /// `max.poll.records`: records between two looks at commits, punctuation and new input. At least 1; 10,000.
    pub poll_records: usize,
    /// `max.partition.fetch.bytes`: fetched from a partition at once, or one batch if that is larger. Bytes, at least 1; 1 MiB.
    pub fetch_bytes: usize,
    /// `batch.size`: an output batch of this size is sent, or of half of its topic's `max.message.bytes`. Bytes, at least 1; 64 KiB.
    pub batch_bytes: usize,
    /// `max.request.size`: a record that is larger, or larger than its topic's `max.message.bytes`, is not written;
    /// `production.exception.handler` decides then. Bytes of a batch of its own, at least 1; 1 MiB.
    pub max_request_bytes: usize,
    /// `deserialization.exception.handler`, and `errors.dead.letter.queue.topic.name`: what becomes of records that cannot be
    /// decoded. [`ExceptionHandler::Fail`], as the next two.
    pub undecodable: ExceptionHandler,
    /// `processing.exception.handler`, and `errors.dead.letter.queue.topic.name`: of records that an operator fails on.
    pub processing: ExceptionHandler,
    /// `processing.exception.handler.global.enabled`: whether that handler is asked about global tables and stores too. `false`.
    pub processing_global: bool,
    /// `production.exception.handler`, and `errors.dead.letter.queue.topic.name`: of records that cannot be written.
    pub production: ExceptionHandler,
    /// `metadata.max.age.ms`: how often topics are looked for that a pattern matches. 5 minutes.
    pub metadata_max_age: Duration,
    /// `auto.offset.reset`: where sources start that do not say and have no position. [`OffsetReset::Earliest`].
    pub offset_reset: OffsetReset,
    /// `topology.compatibility`: what a start does about state that does not fit. [`Compatibility::Refuse`].
    pub compatibility: Compatibility,
    /// `num.partitions` of user topics that are missing, 1 to 65535; `None` makes them an error (`auto.create.topics.enable`).
    /// 1 on an embedded log, `None` on a cluster.
    pub create_topics: Option<i32>,
}

/// A number of the settings.
pub(crate) type Field = fn(&mut RuntimeConfig) -> &mut usize;

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

    /// The settings that are whole numbers of at least 1, each with its field.
    pub(crate) const COUNTS: [(&str, &str, Field); 6] = [
        ("num.stream.threads", "threads", |config| &mut config.threads),
        ("max.poll.records", "poll_records", |config| &mut config.poll_records),
        ("max.partition.fetch.bytes", "fetch_bytes", |config| &mut config.fetch_bytes),
        ("batch.size", "batch_bytes", |config| &mut config.batch_bytes),
        ("max.request.size", "max_request_bytes", |config| &mut config.max_request_bytes),
        ("statestore.uncommitted.max.bytes", "uncommitted_bytes", |config| &mut config.uncommitted_bytes),
    ];
    pub(crate) const COUNT: &str = "a whole number of at least 1";
    pub(crate) const PARTITIONS: &str = "a whole number from 1 to 65535";

    /// Whether this can be an application's id: a part of topics' names, and a folder's name.
    pub(crate) fn is_application_id(id: &str) -> bool {
        TopicName::is_legal_part(id) && TopicName::is_legal(id)
    }

    /// What was given in code is held to the same bounds as what [`crate::Settings`] read.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub(crate) fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, value: &dyn Display, field: &str, wanted: &str| {
            problems.push(format!("`{key}` is `{value}` (RuntimeConfig::{field}), wanted is {wanted}"));
        };
        if !Self::is_application_id(&self.application_id) {
            refuse("application.id", &self.application_id, "application_id", TopicName::PART_RULE);
        }
        let mut counts = self.clone();
        for (key, name, field) in Self::COUNTS {
            if *field(&mut counts) == 0 {
                refuse(key, &0, name, Self::COUNT);
            }
        }
        let bounds = [("idle", self.max_task_idle), ("skew", self.max_task_skew)];
        for (what, ms) in bounds.into_iter().filter_map(|(what, ms)| Some((what, ms.filter(|ms| *ms < 0)?))) {
            let wanted = "milliseconds, or None for -1";
            refuse(&format!("max.task.{what}.ms"), &ms, &format!("max_task_{what}"), wanted);
        }
        if let Some(partitions) = self.create_topics.filter(|partitions| !(1..=65_535).contains(partitions)) {
            refuse("num.partitions", &partitions, "create_topics", Self::PARTITIONS);
        }
        for handler in
            [("undecodable", &self.undecodable), ("processing", &self.processing), ("production", &self.production)]
        {
            if let (field, ExceptionHandler::DeadLetter(topic)) = handler
                && !TopicName::is_legal(topic)
            {
                refuse("errors.dead.letter.queue.topic.name", topic, field, TopicName::RULE);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(Box::new(problems))) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the settings refuse was taken in code, and meant nothing.
    #[test]
    fn what_is_given_in_code_has_the_bounds_of_the_settings() {
        let config = RuntimeConfig {
            threads: 0,
            poll_records: 0,
            fetch_bytes: 0,
            batch_bytes: 0,
            max_request_bytes: 0,
            uncommitted_bytes: 0,
            max_task_idle: Some(-5),
            max_task_skew: Some(-1),
            create_topics: Some(0),
            production: ExceptionHandler::DeadLetter("a b".to_owned()),
            ..RuntimeConfig::embedded("a/b")
        };
        let text = config.check().map_err(|error| error.to_string()).err().unwrap_or_default();
        let count = "wanted is a whole number of at least 1";
        let wanted = [
            "the settings are wrong, 11 problems:".to_owned(),
            format!("- `application.id` is `a/b` (RuntimeConfig::application_id), wanted is {}", TopicName::PART_RULE),
            format!("- `num.stream.threads` is `0` (RuntimeConfig::threads), {count}"),
            format!("- `max.poll.records` is `0` (RuntimeConfig::poll_records), {count}"),
            format!("- `max.partition.fetch.bytes` is `0` (RuntimeConfig::fetch_bytes), {count}"),
            format!("- `batch.size` is `0` (RuntimeConfig::batch_bytes), {count}"),
            format!("- `max.request.size` is `0` (RuntimeConfig::max_request_bytes), {count}"),
            format!("- `statestore.uncommitted.max.bytes` is `0` (RuntimeConfig::uncommitted_bytes), {count}"),
            "- `max.task.idle.ms` is `-5` (RuntimeConfig::max_task_idle), wanted is milliseconds, or None for -1"
                .to_owned(),
            "- `max.task.skew.ms` is `-1` (RuntimeConfig::max_task_skew), wanted is milliseconds, or None for -1"
                .to_owned(),
            "- `num.partitions` is `0` (RuntimeConfig::create_topics), wanted is a whole number from 1 to 65535"
                .to_owned(),
            format!(
                "- `errors.dead.letter.queue.topic.name` is `a b` (RuntimeConfig::production), wanted is {}",
                TopicName::RULE
            ),
        ];
        assert_eq!(text, wanted.join("\n"));
        assert!(RuntimeConfig::embedded("a").check().is_ok() && RuntimeConfig::cluster("a").check().is_ok());
    }
}
