//! A cluster as a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Admin, Consumer, ConsumerOptions, Isolation, Log, LogError, Producer, ProducerOptions, Wakeup};
use rdkafka::ClientConfig;

use crate::admin::ClusterAdmin;
use crate::client::group_client;
use crate::consumer::ClusterConsumer;
use crate::producer::ClusterProducer;

/// An Apache Kafka cluster.
pub struct KafkaLog {
    settings: BTreeMap<String, String>,
    admin: ClusterAdmin,
}

impl KafkaLog {
    /// A cluster, with librdkafka's settings: at least `bootstrap.servers`.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn new(settings: BTreeMap<String, String>) -> Result<Self, LogError> {
        let admin = ClusterAdmin::new(&config(&settings))?;
        Ok(KafkaLog { settings, admin })
    }
}

fn config(settings: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in settings {
        config.set(key, value);
    }
    config
}

impl Log for KafkaLog {
    fn admin(&self) -> &dyn Admin {
        &self.admin
    }

    fn consumer(&self, options: &ConsumerOptions, _: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        let mut config = config(&self.settings);
        let isolation = match options.isolation {
            Isolation::ReadUncommitted => "read_uncommitted",
            Isolation::ReadCommitted => "read_committed",
        };
        config.set("client.id", &options.client_id).set("isolation.level", isolation).set("fetch.wait.max.ms", "10");
        Ok(Box::new(ClusterConsumer::new(group_client(&config, &options.group)?)))
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        let mut config = config(&self.settings);
        // Java and this project place keys by murmur2; librdkafka's own default is another hash (semantics.md 14).
        config
            .set("client.id", &options.client_id)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true");
        if let Some(id) = &options.transactional_id {
            config.set("transactional.id", id);
        }
        Ok(Box::new(ClusterProducer::new(config, options.transactional_id.is_some(), wakeup)?))
    }

    fn is_embedded(&self) -> bool {
        false
    }
}
