//! A store without a changelog of its own: its rows are in the topic that it is read from.

use std::sync::Arc;

use crate::headers::Headers;
use crate::serde::Payload;

/// The user's topic that a store is rebuilt from, up to the committed position, and how.
#[derive(Clone)]
pub struct RebuiltFrom {
    /// The topic.
    pub topic: String,
    /// The row that a record is. The bytes may differ: the topic's keys need not be written as the store writes them.
    pub row: RowOf,
}

/// The row of a record's key, value and headers; `None` for a record that makes none: without a key, not to be decoded, or that the
/// store cannot write. It was left out when it was processed, or it would not be behind the committed position; so was one on which
/// this panics.
pub type RowOf = Arc<dyn Fn(Option<Payload<'_>>, Option<Payload<'_>>, &Headers) -> Option<Row> + Send + Sync>;

/// A row as a changelog would have it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` for a deletion.
    pub value: Option<Vec<u8>>,
    /// Headers that its value needs to be read.
    pub headers: Headers,
}
