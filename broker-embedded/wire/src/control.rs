//! Markers: the control batches that end a transaction in a partition.

use crate::batch::RecordBatch;
use crate::builder::{BatchBuilder, ProducerStamp, SealOptions};
use crate::error::BatchError;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Its records are to be skipped.
    Abort,
    /// Its records count.
    Commit,
}

/// The batch with which a producer's transaction ends.
///
/// # Errors
/// Never in practice: markers are not compressed.
pub fn encode(
    marker: Marker,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Result<Vec<u8>, BatchError> {
    let kind: i16 = match marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut batch = BatchBuilder::with_capacity(128);
    batch.push(timestamp, Some(&key), Some(&value), &[]);
    let producer = Some(ProducerStamp { id: producer_id, epoch: producer_epoch, base_sequence: -1 });
    batch.seal(&SealOptions { producer, transactional: true, control: true, ..SealOptions::default() })
}

/// What a control batch says.
///
/// # Errors
/// When it is no marker that is known.
pub fn decode(batch: &RecordBatch) -> Result<Marker, BatchError> {
    let unknown = BatchError::Record { index: 0, problem: "not a marker" };
    let mut records = batch.records()?;
    let record = records.next().ok_or(unknown.clone())??;
    match record.key.map(|key| key.as_slice()) {
        Some([0, _, 0, 0]) => Ok(Marker::Abort),
        Some([0, _, 0, 1]) => Ok(Marker::Commit),
        _ => Err(unknown),
    }
}
