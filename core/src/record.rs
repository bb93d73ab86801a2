//! A typed record, and where it came from.

use crate::headers::Headers;
use crate::time::Timestamp;

/// What flows between operators. A null key or value is `None` in an `Option` type.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time, milliseconds since 1970 UTC.
    pub timestamp: Timestamp,
    /// Headers; every operator keeps them.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    #[inline]
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Record { key, value, timestamp, headers: Headers::new() }
    }

    /// The same record with another key.
    #[inline]
    pub fn with_key<K2>(self, key: K2) -> Record<K2, V> {
        Record { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another value.
    #[inline]
    pub fn with_value<V2>(self, value: V2) -> Record<K, V2> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record at another time.
    #[inline]
    pub fn with_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = timestamp;
        self
    }
}

/// The change of a table's row: `None` is "no row". `old` is filled only when something downstream asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<V> {
    /// The row before, if old values are sent on this edge.
    pub old: Option<V>,
    /// The row now; `None` deletes.
    pub new: Option<V>,
}
