//! What a read-committed reader sees of a log after the last process has ended.

use std::path::Path;
use std::sync::Arc;

use millstream_broker::Broker;
use millstream_core::{
    Admin as _, ConsumerOptions, Error, Isolation, Log as _, OsFiles, Result, TopicPartition, Wakeup,
};

use crate::setup::{APPLICATION, Setup};
use crate::workload::{BALANCES, CHANGES, LEGS, LISTS, PARTITIONS, TABLE, TRANSFERS};

/// A record.
#[derive(Debug, Clone)]
pub(crate) struct Dumped {
    /// Where it stands.
    pub(crate) topic: Arc<str>,
    /// Where it stands.
    pub(crate) partition: i32,
    /// Where it stands.
    pub(crate) offset: i64,
    /// Its key, if it is text.
    pub(crate) key: Option<String>,
    /// Its value.
    pub(crate) value: Option<Vec<u8>>,
}

/// The topic that restores a store.
pub(crate) fn changelog(store: &str) -> String {
    format!("{APPLICATION}-{store}-changelog")
}

/// Reads all topics of the workload, and the changelogs.
///
/// # Errors
/// When the log cannot be opened or read.
pub(crate) fn dump(setup: &Setup, folder: &Path) -> Result<Vec<Dumped>> {
    let broker = Broker::open(setup.broker(folder, Arc::new(OsFiles)))?;
    let options = ConsumerOptions { client_id: "dump".into(), group: "".into(), isolation: Isolation::ReadCommitted };
    let mut consumer = broker.consumer(&options, Arc::new(Wakeup::default()))?;
    let mut dumped = Vec::new();
    let changelogs = ["accounts", "elements", "rows"].map(changelog);
    let topics = [TRANSFERS, CHANGES, LEGS, BALANCES, LISTS, TABLE].into_iter().chain(changelogs.iter().map(|c| &**c));
    for topic in topics {
        let topic: Arc<str> = topic.into();
        for partition in 0..PARTITIONS {
            let place = TopicPartition::new(topic.clone(), partition);
            consumer.assign(&[(place.clone(), broker.start_offset(&place)?)])?;
            loop {
                let fetch = consumer.fetch(0, 1 << 20)?;
                for mut batch in fetch.batches {
                    while let Some(record) = batch.next() {
                        let record = record.map_err(|e| Error::user(format!("{place}: {e}")))?;
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        dumped.push(Dumped {
                            topic: topic.clone(),
                            partition,
                            offset: record.offset,
                            key: record.key.map(|k| text(k.as_slice())),
                            value: record.value.map(|v| v.as_slice().to_vec()),
                        });
                    }
                }
                if fetch.position >= fetch.end {
                    break;
                }
            }
        }
    }
    broker.close()?;
    Ok(dumped)
}
