//! Positions of consumer groups: records of `__consumer_offsets` in Kafka's format, and their latest state in memory.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_core::{CommittedOffset, GroupOffsets, Timestamp, TopicPartition};
use millstream_wire::{BatchBuilder, Records};

use crate::fields::{Fields, put_compact_string, put_string};
use crate::topics::Topics;

/// So many deletions go into one batch.
const TOMBSTONES: usize = 1_000;

/// A group and a partition.
type Key = (String, TopicPartition);

/// A committed position. It is one of the topic that there was when it was committed, not of its name: what is made anew
/// under that has none.
#[derive(Debug, Clone, PartialEq)]
struct Position {
    committed: CommittedOffset,
    /// `None`: there was no such topic.
    topic: Option<u64>,
}

/// Positions that a group commits.
#[derive(Debug, Clone)]
pub(crate) struct Positions {
    group: Arc<str>,
    positions: Vec<(TopicPartition, Position)>,
}

impl Positions {
    /// Those of the topics that there are now.
    pub(crate) fn of(offsets: &GroupOffsets, topics: &Topics) -> Self {
        let position = |(partition, committed): &(TopicPartition, CommittedOffset)| {
            (partition.clone(), Position { committed: committed.clone(), topic: topics.id_of(partition) })
        };
        Positions { group: offsets.group.clone(), positions: offsets.offsets.iter().map(position).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The batch that commits them.
    pub(crate) fn batch(&self, now: Timestamp) -> BatchBuilder {
        let mut batch = BatchBuilder::with_capacity(self.positions.len() * 256);
        for (partition, position) in &self.positions {
            let value = encode_value(position, now);
            batch.push(now, Some(&encode_key(&self.group, partition)), Some(&value), &[]);
        }
        batch
    }
}

/// Latest committed positions.
#[derive(Default)]
pub(crate) struct Groups(HashMap<Key, Position>);

impl Groups {
    pub(crate) fn get(&self, group: &str, partition: &TopicPartition, topics: &Topics) -> Option<CommittedOffset> {
        let position = self.0.get(&(group.to_owned(), partition.clone()))?;
        (position.topic == topics.id_of(partition)).then(|| position.committed.clone())
    }

    pub(crate) fn apply(&mut self, positions: &Positions) {
        for (partition, position) in &positions.positions {
            self.0.insert((positions.group.to_string(), partition.clone()), position.clone());
        }
    }

    /// Groups that have committed, with their positions.
    pub(crate) fn all(&self, topics: &Topics) -> impl Iterator<Item = (&Key, &CommittedOffset)> {
        let current = self.0.iter().filter(|(key, position)| position.topic == topics.id_of(&key.1));
        current.map(|(key, position)| (key, &position.committed))
    }

    /// Takes up records read from the topic; what is not an offset (group metadata, a newer version) is passed over.
    pub(crate) fn load(&mut self, mut records: Records, topics: &Topics) {
        while let Some(Ok(record)) = records.next() {
            let Some((group, partition)) = record.key.and_then(|key| decode_key(key.as_slice())) else { continue };
            match record.value.map(|value| decode_value(value.as_slice(), || topics.id_of(&partition))) {
                Some(Some(position)) => drop(self.0.insert((group, partition), position)),
                Some(None) => {}
                None => drop(self.0.remove(&(group, partition))),
            }
        }
    }

    /// Forgets the positions of topics that are not there any more, and returns the batches that delete them.
    pub(crate) fn forget_deleted(&mut self, topics: &Topics, now: Timestamp) -> Vec<BatchBuilder> {
        let gone =
            |key: &Key, position: &mut Position| position.topic.is_some() && position.topic != topics.id_of(&key.1);
        let mut gone: Vec<Key> = self.0.extract_if(|key, position| gone(key, position)).map(|(key, _)| key).collect();
        gone.sort();
        let tombstones = |keys: &[Key]| {
            let mut batch = BatchBuilder::new();
            keys.iter().for_each(|(group, partition)| batch.push(now, Some(&encode_key(group, partition)), None, &[]));
            batch
        };
        gone.chunks(TOMBSTONES).map(tombstones).collect()
    }
}

fn encode_key(group: &str, partition: &TopicPartition) -> Vec<u8> {
    let mut key = 1i16.to_be_bytes().to_vec();
    put_string(&mut key, group);
    put_string(&mut key, &partition.topic);
    key.extend(partition.partition.to_be_bytes());
    key
}

/// Version 4 has the topic's id, as a field that need not be there.
fn encode_value(position: &Position, now: Timestamp) -> Vec<u8> {
    let mut value = 4i16.to_be_bytes().to_vec();
    value.extend(position.committed.offset.to_be_bytes());
    value.extend((-1i32).to_be_bytes());
    put_compact_string(&mut value, &position.committed.metadata);
    value.extend(now.to_be_bytes());
    match position.topic {
        Some(topic) => {
            value.extend([1, TOPIC_TAG, size_of::<u128>() as u8]);
            value.extend(u128::from(topic).to_be_bytes());
        }
        None => value.push(0),
    }
    value
}

const TOPIC_TAG: u8 = 0;

fn decode_key(bytes: &[u8]) -> Option<(String, TopicPartition)> {
    let mut fields = Fields(bytes);
    if !(0..=1).contains(&fields.i16()?) {
        return None;
    }
    let (group, topic) = (fields.string()?, fields.string()?);
    Some((group, TopicPartition::new(topic, fields.i32()?)))
}

/// What was written before version 4 does not say which topic it is of: it is taken for the one that is there.
fn decode_value(bytes: &[u8], present: impl FnOnce() -> Option<u64>) -> Option<Position> {
    let mut fields = Fields(bytes);
    let version = fields.i16()?;
    let offset = fields.i64()?;
    if version >= 3 {
        fields.i32()?;
    }
    if version < 4 {
        let committed = CommittedOffset { offset, metadata: fields.string()? };
        return Some(Position { committed, topic: present() });
    }
    let committed = CommittedOffset { offset, metadata: fields.compact_string()? };
    fields.i64()?;
    let mut topic = None;
    for _ in 0..fields.unsigned()? {
        let (tag, size) = (fields.unsigned()?, fields.unsigned()?);
        let field = fields.bytes(size)?;
        if tag == usize::from(TOPIC_TAG) {
            topic = u64::try_from(u128::from_be_bytes(field.try_into().ok()?)).ok();
        }
    }
    Some(Position { committed, topic })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_there_and_back() {
        for metadata in ["", "AgAA", &"m".repeat(32_000)] {
            for topic in [None, Some(1), Some(u64::MAX)] {
                let position = Position { committed: CommittedOffset { offset: 17, metadata: metadata.into() }, topic };
                assert_eq!(decode_value(&encode_value(&position, 5), || panic!("it says so")), Some(position));
            }
        }
    }

    #[test]
    fn a_position_of_version_3_is_one_of_the_topic_that_is_there() {
        let mut value = 3i16.to_be_bytes().to_vec();
        value.extend(17i64.to_be_bytes());
        value.extend((-1i32).to_be_bytes());
        put_string(&mut value, "AgAA");
        value.extend(5i64.to_be_bytes());
        let committed = CommittedOffset { offset: 17, metadata: "AgAA".into() };
        assert_eq!(decode_value(&value, || Some(3)), Some(Position { committed, topic: Some(3) }));
    }
}
