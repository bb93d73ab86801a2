//! Topics and offsets: the runtime's admin port.

use std::collections::BTreeMap;

use millstream_core::{Admin, CommittedOffset, Isolation, LogError, Offset, Timestamp, TopicPartition, TopicSpec};

use crate::broker::Broker;
use crate::fetch;

impl Admin for Broker {
    fn topics(&self) -> Result<Vec<String>, LogError> {
        Ok(self.topics().names())
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, LogError> {
        Ok(self.topics().partition_count(topic))
    }

    fn topic_id(&self, topic: &str) -> Result<Option<u128>, LogError> {
        Ok(self.topics().partition(&TopicPartition::new(topic, 0)).ok().map(|p| u128::from(p.topic_id)))
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.storage().check_open()?;
        self.topics().create(spec)
    }

    fn topic_configs(&self, topic: &str) -> Result<BTreeMap<String, String>, LogError> {
        Ok(self.topics().config(topic).unwrap_or_default())
    }

    fn max_message_bytes(&self, topic: &str) -> Result<Option<usize>, LogError> {
        let partition = self.topics().partition(&TopicPartition::new(topic, 0)).ok();
        Ok(partition.map(|partition| partition.config().max_message_bytes))
    }

    fn alter_configs(&self, topic: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        self.storage().check_open()?;
        self.topics().alter(topic, configs)
    }

    fn start_offset(&self, partition: &TopicPartition) -> Result<Offset, LogError> {
        Ok(self.topics().partition(partition)?.start())
    }

    fn end_offset(&self, partition: &TopicPartition, isolation: Isolation) -> Result<Offset, LogError> {
        Ok(self.topics().partition(partition)?.end(isolation))
    }

    fn offset_for_time(&self, id: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        let partition = self.topics().partition(id)?;
        let mut offset = partition.offset_before_time(time);
        loop {
            let found = fetch::fetch(&partition, offset, 1 << 20, Isolation::ReadUncommitted)?;
            for mut batch in found.batches {
                while let Some(Ok(record)) = batch.next() {
                    if record.timestamp >= time {
                        return Ok(record.offset);
                    }
                }
            }
            if found.position == offset {
                return Ok(offset);
            }
            offset = found.position;
        }
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        let groups = self.groups();
        Ok(partitions.iter().map(|p| groups.get(group, p, self.topics())).collect())
    }

    fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        let storage = self.storage();
        storage.check_open()?;
        let partition = self.topics().foreign_partition(partition)?;
        // A deletion is for good at once. Who has seen to it that these records are needed no more, by a commit say, has that lost by a
        // kill before it is kept.
        storage.wait(storage.position())?;
        partition.delete_before(before)
    }
}
