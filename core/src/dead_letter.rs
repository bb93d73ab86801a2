//! Dead letters: records that an exception handler writes in the commit that leaves the failed one out, and what is said of
//! that one, in Kafka Streams' headers (semantics.md 68).

use std::error::Error as StdError;

use crate::error::Error;
use crate::error_handler_context::ErrorHandlerContext;
use crate::headers::Headers;
use crate::time::Timestamp;

/// A record that an exception handler writes, see [`crate::HandlerResponse::ContinueWith`];
/// [`ErrorHandlerContext::dead_letter`] makes the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its topic, which must be there: `.topic(name, partitions)` of a program names one.
    pub topic: String,
    /// Its partition; `None` places it as a sink would, by its key.
    pub partition: Option<i32>,
    /// Its key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970 UTC; what is negative is written as 0.
    pub timestamp: Timestamp,
    /// Its headers.
    pub headers: Headers,
}

impl ErrorHandlerContext<'_> {
    /// The source record as it came, for a dead-letter topic, with Kafka Streams' six headers that say why. Without its value
    /// where one of these was too large: the headers say where the record is.
    pub fn dead_letter(&self, topic: &str) -> DeadLetter {
        DeadLetter {
            topic: topic.to_owned(),
            partition: None,
            key: self.raw_key.map(<[u8]>::to_vec),
            value: self.raw_value.filter(|_| !self.error.is_of_letter()).map(<[u8]>::to_vec),
            timestamp: self.timestamp,
            headers: DeadLetter::headers(self),
        }
    }
}

impl DeadLetter {
    /// The source record's headers, then the six that say why.
    fn headers(context: &ErrorHandlerContext<'_>) -> Headers {
        let mut headers = context.headers.clone();
        let mut note = |name: &str, text: Option<&str>| {
            headers.add(&format!("__streams.errors.{name}"), text.map(str::as_bytes));
        };
        let (exception, message, stacktrace) = reason(context);
        let (topic, partition, offset) =
            context.source.map_or((None, -1, -1), |(p, offset)| (Some(p.topic.as_ref()), p.partition, offset));
        note("exception", Some(&exception));
        note("message", Some(&message));
        note("stacktrace", Some(&stacktrace));
        note("topic", topic);
        note("partition", Some(&partition.to_string()));
        note("offset", Some(&offset.to_string()));
        headers
    }
}

/// The kind of error, what it says, and where Java prints its stack: the operator, and what lies behind the error.
pub(crate) fn reason(context: &ErrorHandlerContext<'_>) -> (String, String, String) {
    let ErrorHandlerContext { node, task, error, .. } = context;
    match error {
        Error::Undecodable(error) => ("SerdeError".into(), error.source.to_string(), String::new()),
        Error::Panicked(error) => ("panic".into(), error.message.clone(), format!("at task {task}")),
        Error::Processing(failure) | Error::Production(failure) => {
            let source: &dyn StdError = failure.source.as_ref();
            let mut stacktrace = format!("at {node} (task {task})");
            let mut cause = source.source();
            while let Some(error) = cause {
                stacktrace += &format!("\ncaused by: {error}");
                cause = error.source();
            }
            (format!("{source:?}"), source.to_string(), stacktrace)
        }
        other => (format!("{other:?}"), other.to_string(), format!("at {node} (task {task})")),
    }
}
