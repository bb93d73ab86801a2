//! How far something has come in the partitions it reads.

use std::collections::BTreeMap;
use std::fmt;

use crate::log::{Offset, TopicPartition};

/// Up to where in its input an answer stands: per partition the offset of the first record that is not in it.
///
/// ```
/// use millstream_core::Position;
/// let position = Position::new().with("orders", 0, 7).with("orders", 1, 3);
/// assert_eq!(position.get("orders", 1), Some(3));
/// assert_eq!(position.to_string(), "orders-0@7 orders-1@3");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position(BTreeMap<TopicPartition, Offset>);

impl Position {
    /// Of no partition.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a partition up to an offset, exclusive.
    #[must_use]
    pub fn with(mut self, topic: &str, partition: i32, offset: Offset) -> Self {
        self.0.insert(TopicPartition::new(topic, partition), offset);
        self
    }

    /// The offset of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.0.get(&TopicPartition::new(topic, partition)).copied()
    }

    /// Partitions with their offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.0.iter().map(|(partition, offset)| (partition, *offset))
    }

    /// Goes to where another one is, in the partitions where that is further.
    pub fn merge(&mut self, other: &Position) {
        for (partition, offset) in other.iter() {
            let mine = self.0.entry(partition.clone()).or_insert(offset);
            *mine = offset.max(*mine);
        }
    }

    /// Whether, being that of a task of this partition, or of all (`None`), it is at a bound. What the bound says of other partitions
    /// is for other tasks; a topic that the task does not read is never reached (Kafka Streams' `StoreQueryUtils.isPermitted`).
    pub(crate) fn has_reached(&self, bound: &Position, partition: Option<i32>) -> bool {
        let mut own = bound.iter().filter(|(of, _)| partition.is_none_or(|partition| of.partition == partition));
        own.all(|(partition, offset)| self.0.get(partition).is_some_and(|reached| *reached >= offset))
    }
}

impl FromIterator<(TopicPartition, Offset)> for Position {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, Offset)>>(offsets: I) -> Self {
        Position(offsets.into_iter().collect())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (partition, offset)) in self.iter().enumerate() {
            write!(f, "{}{partition}@{offset}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}
