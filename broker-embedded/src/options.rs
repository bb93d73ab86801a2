//! How a broker is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Clock, Files, OsFiles};

/// What "acknowledged" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is written to disk: for tests.
    Memory,
    /// Written to the operating system: survives the end of the process, not a power cut. Kafka's own default.
    Os,
    /// Synced to disk, many commits at once: survives a power cut.
    Disk,
}

/// Options of a broker; the names in brackets are Kafka's.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Where topics are kept (`log.dirs`).
    pub data_dir: PathBuf,
    /// What "acknowledged" means.
    pub durability: Durability,
    /// Where files are.
    pub files: Arc<dyn Files>,
    /// Whether threads of the broker's own sync, checkpoint, compact and delete what is too old. Without them
    /// [`crate::Broker::tick`] does all of it: for simulations.
    pub threads: bool,
    /// After so many bytes a checkpoint syncs all segments, so that opening has less than this to read.
    pub checkpoint_bytes: u64,
    /// Record times of markers and offsets, retention.
    pub clock: Arc<dyn Clock>,
    /// `log.segment.bytes`: a segment that has reached this, or 2 GiB, is closed.
    pub segment_bytes: u64,
    /// `log.retention.ms`; `None` is forever.
    pub retention_ms: Option<i64>,
    /// `log.retention.bytes`; `None` is without bound.
    pub retention_bytes: Option<u64>,
    /// `message.max.bytes`: a larger batch is refused.
    pub max_message_bytes: usize,
    /// `log.cleaner.dedupe.buffer.size`: compaction keeps the keys that it has met in so many bytes of memory; when these are
    /// full, the rest of the partition waits for the next round.
    pub cleaner_buffer_bytes: usize,
    /// `log.cleaner.backoff.ms`: how often is looked at what is worth compacting.
    pub cleaner_backoff: Duration,
    /// `log.retention.check.interval.ms`: how often is looked at what is too old or idle, and a failed checkpoint tried again.
    pub retention_check_interval: Duration,
    /// `transaction.max.timeout.ms`: a producer that asks for more time per transaction is refused.
    pub transaction_max_timeout: Duration,
    /// `transactional.id.expiration.ms`: a transactional id that was not used for so long is forgotten.
    pub transactional_id_expiration: Duration,
    /// `producer.id.expiration.ms`: a partition forgets the sequence numbers of a producer that has sent it nothing for so
    /// long.
    pub producer_id_expiration: Duration,
    /// Bytes of the newest batches that each partition keeps in memory for its readers.
    pub tail_bytes: usize,
}

impl BrokerOptions {
    /// Kafka's defaults, at durability `os`; but retention is looked at every ten seconds.
    pub fn new(data_dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        BrokerOptions {
            data_dir: data_dir.into(),
            durability: Durability::Os,
            files: Arc::new(OsFiles),
            threads: true,
            checkpoint_bytes: 256 << 20,
            clock,
            segment_bytes: 1 << 30,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            max_message_bytes: 1 << 20,
            cleaner_buffer_bytes: 128 << 20,
            cleaner_backoff: Duration::from_secs(15),
            retention_check_interval: Duration::from_secs(10),
            transaction_max_timeout: Duration::from_secs(15 * 60),
            transactional_id_expiration: Duration::from_secs(7 * 24 * 3600),
            producer_id_expiration: Duration::from_secs(24 * 3600),
            tail_bytes: 1 << 20,
        }
    }

    /// No files.
    pub fn memory(clock: Arc<dyn Clock>) -> Self {
        BrokerOptions { durability: Durability::Memory, tail_bytes: usize::MAX, threads: false, ..Self::new("", clock) }
    }
}
