//! The name of a topic, before the application is known.

use std::fmt;

/// A topic as a program names it; internal topics get the application's id in front (DESIGN 3.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicName {
    /// A topic of the user's.
    User(String),
    /// `<application.id>-<name>-repartition`.
    Repartition(String),
    /// `<application.id>-<store>-changelog`.
    Changelog(String),
}

impl TopicName {
    /// Kafka's rule for a topic's full name, for people.
    pub const RULE: &str = "1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, not `.` or `..` alone";
    /// The rule for what becomes a part of an internal topic's name, for people.
    pub const PART_RULE: &str = "1 to 200 of a-z, A-Z, 0-9, `.`, `_` and `-`, which does not come first";

    /// Whether a log takes a topic of this full name.
    pub fn is_legal(name: &str) -> bool {
        (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && has_legal_characters(name)
    }

    /// Whether this may be a part of an internal topic's name.
    pub fn is_legal_part(name: &str) -> bool {
        (1..=200).contains(&name.len()) && !name.starts_with('-') && has_legal_characters(name)
    }

    /// The topic's full name.
    pub fn resolve(&self, application_id: &str) -> String {
        match self {
            TopicName::User(name) => name.clone(),
            TopicName::Repartition(name) => format!("{application_id}-{name}-repartition"),
            TopicName::Changelog(name) => format!("{application_id}-{name}-changelog"),
        }
    }
}

fn has_legal_characters(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicName::User(name) => f.write_str(name),
            TopicName::Repartition(name) => write!(f, "{name}-repartition"),
            TopicName::Changelog(name) => write!(f, "{name}-changelog"),
        }
    }
}
