//! Record headers, kept in the encoding in which they arrived.
//!
//! Most records have none: then this is a null pointer. Others share one reference-counted section, copied only
//! when a header is added, and handed to the sink as it is. Order and duplicates are kept.

use std::fmt;
use std::sync::Arc;

/// The headers of a record, in order, duplicates included.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<u8>>>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Headers(None)
    }

    /// Headers from the encoded section of a record; an empty slice is no headers.
    #[inline]
    pub fn from_section(section: &[u8]) -> Self {
        if section.is_empty() { Headers(None) } else { Headers(Some(Arc::new(section.to_vec()))) }
    }

    /// The encoded section, as `BatchBuilder::push` takes it.
    #[inline]
    pub fn section(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |s| s.as_slice())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Appends a header.
    pub fn add(&mut self, key: &str, value: Option<&[u8]>) {
        millstream_wire::push_header(Arc::make_mut(self.0.get_or_insert_default()), key, value);
    }

    /// All headers in order. What cannot be decoded ends the iteration.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        millstream_wire::iter_headers(self.section()).map_while(Result::ok)
    }

    /// The value of the last header of this key.
    pub fn last(&self, key: &str) -> Option<&[u8]> {
        self.iter().filter(|(k, _)| *k == key).last().and_then(|(_, v)| v)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(k, v)| (k, v.map(String::from_utf8_lossy)))).finish()
    }
}
