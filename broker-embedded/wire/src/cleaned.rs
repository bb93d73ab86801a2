//! A batch as compaction leaves it: some records are gone; offsets, producer and sequence numbers are what they were.

use bytes::Bytes;

use crate::batch::RecordBatch;
use crate::builder::BatchBuilder;
use crate::error::BatchError;
use crate::header::TimestampType;
use crate::records::RecordView;

impl RecordBatch {
    /// The batch with those records that `keep` says. It covers the same offsets, also when none are left.
    ///
    /// A batch that has no delete horizon yet gets `delete_horizon`.
    ///
    /// # Errors
    /// When a record cannot be read, or the codec is not in this build.
    pub fn retain(
        &self,
        delete_horizon: Option<i64>,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Result<RecordBatch, BatchError> {
        let mut header = *self.header();
        if let Some(horizon) = delete_horizon.filter(|_| header.delete_horizon().is_none()) {
            header = header.with_delete_horizon(horizon);
        }
        let mut kept = BatchBuilder::based_on(header.base_timestamp, self.bytes().len());
        let mut records = self.records()?;
        while let Some(record) = records.next() {
            let record = record?;
            if keep(&record) {
                let [key, value] = [record.key, record.value].map(|field| field.map(|f| f.as_slice()));
                kept.push_at((record.offset - header.base_offset) as i32, record.timestamp, key, value, record.headers);
            }
        }
        header.count = kept.count();
        if kept.is_empty() {
            header = header.emptied();
        } else if header.timestamp_type() == TimestampType::Create {
            header.max_timestamp = kept.max_timestamp();
        }
        let mut bytes = Bytes::from(kept.finish(header)?);
        RecordBatch::split_from(&mut bytes)?.ok_or(BatchError::Count { count: 0, last_offset_delta: 0 })
    }
}
