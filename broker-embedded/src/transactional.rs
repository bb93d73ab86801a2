//! The state of one transactional id, and its record in Kafka's format (`__transaction_state`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::{Timestamp, TopicPartition};
use millstream_wire::BatchBuilder;

use crate::fields::{Fields, put_string};
use crate::groups::Positions;

pub(crate) const EMPTY: i8 = 0;
pub(crate) const PREPARE_COMMIT: i8 = 2;
pub(crate) const PREPARE_ABORT: i8 = 3;
pub(crate) const COMPLETE_COMMIT: i8 = 4;
pub(crate) const COMPLETE_ABORT: i8 = 5;

/// What the coordinator knows of one transactional id.
#[derive(Debug, Clone)]
pub(crate) struct Transactional {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// Partitions of the ongoing transaction.
    pub(crate) partitions: BTreeSet<TopicPartition>,
    pub(crate) status: i8,
    /// A commit that has been asked for and is not over.
    pub(crate) prepared: Option<Prepared>,
    pub(crate) timeout: Duration,
    /// When the ongoing transaction began, by the clock that never goes back.
    pub(crate) began: Option<Duration>,
    /// When it was last used.
    pub(crate) used: Timestamp,
    /// The epoch is nobody's: the owner of the one before took too long.
    pub(crate) timed_out: bool,
}

/// From the attempt to write the commit point on there is no way but forward: the attempt may have succeeded.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) positions: Positions,
    /// The commit point is in the log for certain.
    pub(crate) logged: bool,
}

/// A producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// The key of its record.
pub(crate) fn key(id: &str) -> Vec<u8> {
    let mut key = 0i16.to_be_bytes().to_vec();
    put_string(&mut key, id);
    key
}

/// A batch of the one record that says its state.
pub(crate) fn record(id: &str, state: &Transactional) -> BatchBuilder {
    let mut value = 0i16.to_be_bytes().to_vec();
    value.extend(state.producer_id.to_be_bytes());
    value.extend(state.epoch.to_be_bytes());
    value.extend((state.timeout.as_millis() as i32).to_be_bytes());
    value.push(state.status as u8);
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in &state.partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    value.extend((topics.len() as i32).to_be_bytes());
    for (topic, partitions) in topics {
        put_string(&mut value, topic);
        value.extend((partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|p| value.extend(p.to_be_bytes()));
    }
    value.extend(state.used.to_be_bytes());
    value.extend(state.used.to_be_bytes());
    let mut batch = BatchBuilder::with_capacity(512);
    batch.push(state.used, Some(&key(id)), Some(&value), &[]);
    batch
}

/// The id; `None` if it is no key of ours.
pub(crate) fn decode_key(key: &[u8]) -> Option<String> {
    let mut fields = Fields(key);
    if fields.i16()? == 0 { fields.string() } else { None }
}

/// The state; `None` if it cannot be read.
pub(crate) fn decode(value: &[u8]) -> Option<Transactional> {
    let mut fields = Fields(value);
    fields.i16()?;
    let (producer_id, epoch) = (fields.i64()?, fields.i16()?);
    let timeout = Duration::from_millis(u64::try_from(fields.i32()?).ok()?);
    let status = fields.i8()?;
    let mut partitions = BTreeSet::new();
    for _ in 0..fields.i32()? {
        let topic = fields.string()?;
        for _ in 0..fields.i32()? {
            partitions.insert(TopicPartition::new(topic.as_str(), fields.i32()?));
        }
    }
    let used = fields.i64()?;
    let (prepared, began, timed_out) = (None, None, false);
    Some(Transactional { producer_id, epoch, partitions, status, prepared, timeout, began, used, timed_out })
}
