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
    /// The topic's full name.
    pub fn resolve(&self, application_id: &str) -> String {
        match self {
            TopicName::User(name) => name.clone(),
            TopicName::Repartition(name) => format!("{application_id}-{name}-repartition"),
            TopicName::Changelog(name) => format!("{application_id}-{name}-changelog"),
        }
    }
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
