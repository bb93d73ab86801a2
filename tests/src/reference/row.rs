//! A record, as the interpreter sees it: everything is text.

/// Names and values, in order.
pub type Headers = Vec<(String, String)>;

/// A record of a stream, or a row of a table on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<K = Option<String>> {
    /// Its key.
    pub key: K,
    /// Its value.
    pub value: Option<String>,
    /// Its time.
    pub time: i64,
    /// Its headers.
    pub headers: Headers,
}

impl<K> Row<K> {
    /// The same record with another key.
    pub(crate) fn with_key<L>(&self, key: L) -> Row<L> {
        Row { key, value: self.value.clone(), time: self.time, headers: self.headers.clone() }
    }

    /// The same record with another value and time.
    pub(crate) fn with(&self, value: Option<String>, time: i64) -> Self
    where
        K: Clone,
    {
        Row { key: self.key.clone(), value, time, headers: self.headers.clone() }
    }
}

/// A key in a window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Windowed {
    pub(crate) key: String,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Row<Windowed> {
    /// With the key as text: `k[start,end]`.
    pub(crate) fn shown(self) -> Row<String> {
        let text = format!("{}[{},{}]", self.key.key, self.key.start, self.key.end);
        self.with_key(text)
    }
}

/// A text, or `null`.
pub(crate) fn shown(text: Option<&str>) -> &str {
    text.unwrap_or("null")
}

/// The two sides of a joined record.
pub(crate) fn plus(left: Option<&str>, right: Option<&str>) -> Option<String> {
    Some(format!("{}+{}", shown(left), shown(right)))
}

/// The first character.
pub(crate) fn first(text: &str) -> String {
    text.chars().take(1).collect()
}
