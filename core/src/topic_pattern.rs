//! A regular expression over topic names: it must match the whole name, as `java.util.regex`'s `matches` does.

use std::fmt;

use regex_lite::Regex;

use crate::error::{Error, Result};

/// Every topic whose whole name matches a regular expression.
#[derive(Debug, Clone)]
pub struct TopicPattern {
    expression: String,
    whole: Regex,
}

impl TopicPattern {
    /// Reads an expression.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(expression: &str) -> Result<Self> {
        // Alone first: `a)(b` must not become right by what is put around it.
        let whole = Regex::new(expression).and_then(|_| Regex::new(&format!("^(?:{expression})$")));
        let whole = whole.map_err(|e| Error::Build(Box::new(vec![format!("topic pattern `{expression}`: {e}")])))?;
        Ok(TopicPattern { expression: expression.to_owned(), whole })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.whole.is_match(topic)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
    }
}
