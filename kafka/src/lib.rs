//! Millstream's log port over librdkafka, for Apache Kafka clusters.
//!
//! What it is not: no group membership and no task assignment; partitions are assigned by hand, positions are committed
//! under the group's name. Batches cross the port in Kafka's format and librdkafka in single records, so every record
//! is taken apart and put together once: the client is the floor of what a record costs here.

mod admin;
mod client;
mod consumer;
mod error;
mod log;
mod producer;

pub use log::KafkaLog;
