//! Topics and offsets of a cluster.

use std::collections::BTreeMap;

use millstream_core::{Admin, CommittedOffset, Isolation, LogError, Offset, Timestamp, TopicPartition, TopicSpec};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};

use crate::client::{TIMEOUT, group_client};
use crate::error::failed;

pub(crate) struct ClusterAdmin {
    config: ClientConfig,
    client: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
}

impl ClusterAdmin {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, LogError> {
        let admin = config.create().map_err(|e| failed("connecting", &e))?;
        Ok(ClusterAdmin { config: config.clone(), client: group_client(config, "")?, admin })
    }

    fn watermarks(&self, partition: &TopicPartition) -> Result<(Offset, Offset), LogError> {
        let found = self.client.fetch_watermarks(&partition.topic, partition.partition, TIMEOUT);
        found.map_err(|e| failed(&format!("asking for the ends of {partition}"), &e))
    }

    /// A topic's configuration, its defaults among it.
    fn described(&self, topic: &str, doing: &str) -> Result<Vec<ConfigEntry>, LogError> {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let found =
            futures_executor::block_on(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
        let found = found.map_err(|e| failed(doing, &e))?.into_iter().next().transpose();
        let refused = |code| LogError::Other { message: format!("{doing}: {code}"), retriable: false };
        Ok(found.map_err(refused)?.map(|resource| resource.entries).unwrap_or_default())
    }
}

impl Admin for ClusterAdmin {
    fn topics(&self) -> Result<Vec<String>, LogError> {
        let metadata = self.client.fetch_metadata(None, TIMEOUT).map_err(|e| failed("asking for topics", &e))?;
        let mut names: Vec<String> = metadata.topics().iter().map(|t| t.name().to_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, LogError> {
        // The list of all topics, because asking for one may create it.
        let metadata = self.client.fetch_metadata(None, TIMEOUT).map_err(|e| failed("asking for topics", &e))?;
        Ok(metadata.topics().iter().find(|t| t.name() == topic).map(|t| t.partitions().len() as i32))
    }

    fn topic_id(&self, _topic: &str) -> Result<Option<u128>, LogError> {
        // librdkafka's metadata has no topic ids.
        Ok(None)
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let mut topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(-1));
        for (key, value) in &spec.configs {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let doing = format!("creating topic {}", spec.name);
        let created =
            futures_executor::block_on(self.admin.create_topics([&topic], &options)).map_err(|e| failed(&doing, &e))?;
        match created.into_iter().next() {
            Some(Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists))) => {
                Err(LogError::TopicExists(spec.name.clone()))
            }
            Some(Err((_, code))) => Err(LogError::Other { message: format!("{doing}: {code}"), retriable: false }),
            _ => Ok(()),
        }
    }

    fn topic_configs(&self, topic: &str) -> Result<BTreeMap<String, String>, LogError> {
        let entries = self.described(topic, &format!("asking for the configuration of topic {topic}"))?.into_iter();
        Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    fn max_message_bytes(&self, _topic: &str) -> Result<Option<usize>, LogError> {
        // librdkafka forms batches of records by its own settings.
        Ok(None)
    }

    fn alter_configs(&self, topic: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let doing = format!("altering the configuration of topic {topic}");
        let refused = |code| LogError::Other { message: format!("{doing}: {code}"), retriable: false };
        let resource = ResourceSpecifier::Topic(topic);
        // The request replaces what was set before, so all of that goes with it.
        let entries = self.described(topic, &doing)?.into_iter();
        let set = entries.filter(|entry| entry.source == ConfigSource::DynamicTopic);
        let mut all: BTreeMap<String, String> = set.filter_map(|entry| Some((entry.name, entry.value?))).collect();
        all.extend(configs.clone());
        let alter = all.iter().fold(AlterConfig::new(resource), |alter, (key, value)| alter.set(key, value));
        let altered = futures_executor::block_on(self.admin.alter_configs([&alter], &options));
        match altered.map_err(|e| failed(&doing, &e))?.into_iter().next() {
            Some(Err((_, code))) => Err(refused(code)),
            _ => Ok(()),
        }
    }

    fn start_offset(&self, partition: &TopicPartition) -> Result<Offset, LogError> {
        self.watermarks(partition).map(|(low, _)| low)
    }

    fn end_offset(&self, partition: &TopicPartition, _: Isolation) -> Result<Offset, LogError> {
        self.watermarks(partition).map(|(_, high)| high)
    }

    fn offset_for_time(&self, partition: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        let mut asked = TopicPartitionList::new();
        let doing = format!("asking for the offset of a time in {partition}");
        asked
            .add_partition_offset(&partition.topic, partition.partition, KafkaOffset::Offset(time))
            .map_err(|e| failed(&doing, &e))?;
        let found = self.client.offsets_for_times(asked, TIMEOUT).map_err(|e| failed(&doing, &e))?;
        match found.elements().first().map(|e| e.offset()) {
            Some(KafkaOffset::Offset(offset)) => Ok(offset),
            _ => self.end_offset(partition, Isolation::ReadCommitted),
        }
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        let client = group_client(&self.config, group)?;
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(&partition.topic, partition.partition);
        }
        let found =
            client.committed_offsets(asked, TIMEOUT).map_err(|e| failed("asking for committed positions", &e))?;
        let position = |p: &TopicPartition| {
            let found = found.find_partition(&p.topic, p.partition)?;
            match found.offset() {
                KafkaOffset::Offset(offset) => Some(CommittedOffset { offset, metadata: found.metadata().to_owned() }),
                _ => None,
            }
        };
        Ok(partitions.iter().map(position).collect())
    }

    fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        let mut asked = TopicPartitionList::new();
        let doing = format!("deleting records of {partition}");
        asked
            .add_partition_offset(&partition.topic, partition.partition, KafkaOffset::Offset(before))
            .map_err(|e| failed(&doing, &e))?;
        futures_executor::block_on(self.admin.delete_records(&asked, &AdminOptions::new()))
            .map(drop)
            .map_err(|e| failed(&doing, &e))
    }
}
