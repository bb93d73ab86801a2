//! What a topic holds, as a reader of committed records sees it.

use std::sync::Arc;

use millstream_broker::Broker;
use millstream_core::{Admin, Consumer, ConsumerOptions, Isolation, Log, LogError, Offset, Records, TopicPartition};

use crate::reference::Row;

/// Calls `take` for every batch of a partition from its start, with what was read before; returns the position behind.
pub(super) fn batches(broker: &Broker, partition: &TopicPartition) -> Result<Vec<Records>, LogError> {
    let mut consumer = consumer(broker, partition)?;
    let mut batches = Vec::new();
    loop {
        let fetch = consumer.fetch(0, 1 << 20)?;
        if fetch.batches.is_empty() {
            return Ok(batches);
        }
        batches.extend(fetch.batches);
    }
}

fn consumer(broker: &Broker, partition: &TopicPartition) -> Result<Box<dyn Consumer>, LogError> {
    let isolation = Isolation::ReadCommitted;
    let options = ConsumerOptions { client_id: "checks".into(), group: "".into(), isolation };
    let mut consumer = broker.consumer(&options, Arc::default())?;
    consumer.assign(&[(partition.clone(), broker.start_offset(partition)?)])?;
    Ok(consumer)
}

/// The records of a partition as text, with their offsets.
pub(super) fn rows(broker: &Broker, partition: &TopicPartition) -> Result<Vec<(Offset, Row)>, LogError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut rows = Vec::new();
    for mut batch in batches(broker, partition)? {
        while let Some(record) = batch.next() {
            let problem =
                |e: &dyn std::fmt::Display| LogError::Corrupt { place: partition.to_string(), problem: e.to_string() };
            let record = record.map_err(|e| problem(&e))?;
            let key = record.key.map(|k| text(k.as_slice()));
            let value = record.value.map(|v| text(v.as_slice()));
            rows.push((record.offset, Row { key, value, time: record.timestamp, headers: Vec::new() }));
        }
    }
    Ok(rows)
}
