//! Dead letters: what is said of a record that failed, in Kafka Streams' headers (semantics.md 68). The record's own bytes
//! are with the source.

use std::error::Error as StdError;

use crate::collector::SinkSlot;
use crate::error::{NodeFailure, Panicked, Undecodable};
use crate::headers::Headers;
use crate::log::{Offset, TopicPartition};

/// A failure on its way to the dead-letter topic.
pub(crate) struct DeadLetter {
    pub(crate) slot: SinkSlot,
    exception: String,
    message: String,
    stacktrace: String,
    record: Option<(TopicPartition, Offset)>,
}

impl DeadLetter {
    pub(crate) fn undecodable(slot: SinkSlot, error: Undecodable) -> Self {
        DeadLetter {
            slot,
            exception: "SerdeError".into(),
            message: error.source.to_string(),
            stacktrace: String::new(),
            record: Some((error.partition, error.offset)),
        }
    }

    pub(crate) fn failed(slot: SinkSlot, error: &NodeFailure) -> Self {
        let source: &dyn StdError = error.source.as_ref();
        // Where Java prints its stack: the operator, and what lies behind the error.
        let mut stacktrace = format!("at {} (task {})", error.node, error.task);
        let mut cause = source.source();
        while let Some(error) = cause {
            stacktrace += &format!("\ncaused by: {error}");
            cause = error.source();
        }
        DeadLetter {
            slot,
            exception: format!("{source:?}"),
            message: source.to_string(),
            stacktrace,
            record: error.record.clone(),
        }
    }

    pub(crate) fn panicked(slot: SinkSlot, error: &Panicked) -> Self {
        DeadLetter {
            slot,
            exception: "panic".into(),
            message: error.message.clone(),
            stacktrace: format!("at task {}", error.task),
            record: error.record.clone(),
        }
    }

    /// The source record's headers, then the six that say why.
    pub(crate) fn headers(&self, of_record: &Headers) -> Headers {
        let mut headers = of_record.clone();
        let mut note = |name: &str, text: Option<&str>| {
            headers.add(&format!("__streams.errors.{name}"), text.map(str::as_bytes));
        };
        let (topic, partition, offset) =
            self.record.as_ref().map_or((None, -1, -1), |(p, offset)| (Some(p.topic.as_ref()), p.partition, *offset));
        note("exception", Some(&self.exception));
        note("message", Some(&self.message));
        note("stacktrace", Some(&self.stacktrace));
        note("topic", topic);
        note("partition", Some(&partition.to_string()));
        note("offset", Some(&offset.to_string()));
        headers
    }
}
