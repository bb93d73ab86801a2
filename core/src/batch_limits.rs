//! How large the batches of a topic may be.

use crate::error::TooLarge;
use crate::log::TopicPartition;

/// What a batch of one record has besides key, value and headers, at most: its own header, lengths, time and offset.
const OVERHEAD: usize = 61 + 21;

/// Bytes of a batch of one record, at most.
#[inline]
pub(crate) fn batch_of_one(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) -> usize {
    key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers.len() + OVERHEAD
}

/// How large the batches of a topic are, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    /// A batch that is as large is closed. So is one that a record as large comes to, before it: twice of it is written.
    pub(crate) batch: usize,
    /// Of a record in a batch of its own.
    record: usize,
    /// The setting that says so.
    setting: &'static str,
}

impl BatchLimits {
    /// Of a topic that takes batches of `max_message_bytes`, if that is known.
    pub(crate) fn new(batch: usize, max_request_bytes: usize, max_message_bytes: Option<usize>) -> Self {
        let batch = max_message_bytes.map_or(batch, |bytes| batch.min(bytes / 2));
        let request = (max_request_bytes, "max.request.size");
        let message = max_message_bytes.map(|bytes| (bytes, "max.message.bytes of the topic"));
        let (record, setting) = message.filter(|message| message.0 < request.0).unwrap_or(request);
        BatchLimits { batch, record, setting }
    }

    /// Of batches that go to no topic.
    pub(crate) fn none(batch: usize) -> Self {
        BatchLimits::new(batch, usize::MAX, None)
    }

    /// Whether a record of so many bytes has to have a batch of its own, or is not taken at all.
    #[inline]
    pub(crate) fn stands_out(&self, bytes: usize) -> bool {
        bytes > self.batch.min(self.record)
    }

    /// Whether a batch of so many bytes is taken.
    #[inline]
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.record
    }

    /// Why a record of so many bytes is not taken; `None` if it is.
    pub(crate) fn too_large(&self, bytes: usize, partition: impl FnOnce() -> TopicPartition) -> Option<TooLarge> {
        let BatchLimits { record: limit, setting, .. } = *self;
        (!self.takes(bytes)).then(|| TooLarge { partition: partition(), bytes, limit, setting, letter: None })
    }
}
