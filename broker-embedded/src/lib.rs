//! Millstream's embedded Kafka log: topics on local disk in Kafka's format, with transactions and group offsets.
//!
//! What it is not: it knows no topologies and no tasks; it has one node. [`Broker`] is opened on a data directory and
//! implements the runtime's log port; a producer's batches are sealed, appended as they are, and handed to readers
//! by reference.

mod admin;
mod broker;
mod checkpoint;
mod cleanable;
mod cleaner;
mod clock_jumps;
mod completion;
mod data_dir;
mod door;
mod fetch;
mod fields;
mod groups;
mod housekeeping;
mod internal_topic;
mod journal;
mod offset_map;
mod options;
mod partition;
mod partition_files;
mod producers;
mod recovery;
mod sealed;
mod segment;
mod sieve;
mod storage;
mod swap;
mod topic_config;
mod topics;
mod torn;
mod transactional;
mod transactions;

pub use broker::Broker;
pub use options::{BrokerOptions, Durability};
