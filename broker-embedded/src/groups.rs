//! Positions of consumer groups: records of `__consumer_offsets` in Kafka's format, and their latest state in memory.

use std::collections::HashMap;

use millstream_core::{CommittedOffset, GroupOffsets, Timestamp, TopicPartition};
use millstream_wire::{BatchBuilder, Records};

use crate::fields::{Fields, put_string};

/// Latest committed positions.
#[derive(Default)]
pub(crate) struct Groups(HashMap<(String, TopicPartition), CommittedOffset>);

impl Groups {
    pub(crate) fn get(&self, group: &str, partition: &TopicPartition) -> Option<CommittedOffset> {
        self.0.get(&(group.to_owned(), partition.clone())).cloned()
    }

    pub(crate) fn apply(&mut self, offsets: &GroupOffsets) {
        for (partition, offset) in &offsets.offsets {
            self.0.insert((offsets.group.to_string(), partition.clone()), offset.clone());
        }
    }

    /// Groups that have committed, with their positions.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&(String, TopicPartition), &CommittedOffset)> {
        self.0.iter()
    }

    /// Takes up records read from the topic; what is not an offset (group metadata, a newer version) is passed over.
    pub(crate) fn load(&mut self, mut records: Records) {
        while let Some(Ok(record)) = records.next() {
            let Some((group, partition)) = record.key.and_then(|key| decode_key(key.as_slice())) else { continue };
            match record.value.map(|value| decode_value(value.as_slice())) {
                Some(Some(offset)) => drop(self.0.insert((group, partition), offset)),
                Some(None) => {}
                None => drop(self.0.remove(&(group, partition))),
            }
        }
    }
}

/// The batch that commits a group's positions.
pub(crate) fn batch(offsets: &GroupOffsets, now: Timestamp) -> BatchBuilder {
    let mut batch = BatchBuilder::with_capacity(offsets.offsets.len() * 256);
    for (partition, offset) in &offsets.offsets {
        let mut key = 1i16.to_be_bytes().to_vec();
        put_string(&mut key, &offsets.group);
        put_string(&mut key, &partition.topic);
        key.extend(partition.partition.to_be_bytes());
        let mut value = 3i16.to_be_bytes().to_vec();
        value.extend(offset.offset.to_be_bytes());
        value.extend((-1i32).to_be_bytes());
        put_string(&mut value, &offset.metadata);
        value.extend(now.to_be_bytes());
        batch.push(now, Some(&key), Some(&value), &[]);
    }
    batch
}

fn decode_key(bytes: &[u8]) -> Option<(String, TopicPartition)> {
    let mut fields = Fields(bytes);
    if !(0..=1).contains(&fields.i16()?) {
        return None;
    }
    let (group, topic) = (fields.string()?, fields.string()?);
    Some((group, TopicPartition::new(topic, fields.i32()?)))
}

fn decode_value(bytes: &[u8]) -> Option<CommittedOffset> {
    let mut fields = Fields(bytes);
    let version = fields.i16()?;
    let offset = fields.i64()?;
    if version >= 3 {
        fields.i32()?;
    }
    Some(CommittedOffset { offset, metadata: fields.string()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_there_and_back() {
        let offset = CommittedOffset { offset: 17, metadata: "AgAA".into() };
        let offsets =
            GroupOffsets { group: "app".into(), offsets: vec![(TopicPartition::new("in", 3), offset.clone())] };
        let mut groups = Groups::default();
        groups.load(batch(&offsets, 5).into_records(0));
        assert_eq!(groups.get("app", &TopicPartition::new("in", 3)), Some(offset));
        assert_eq!(groups.get("app", &TopicPartition::new("in", 2)), None);
    }
}
