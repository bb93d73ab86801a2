//! What a round runs with, drawn from its seed: so parent and worker know it alike.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{BrokerOptions, Durability};
use millstream_core::{Files, Result, RuntimeConfig, SystemClock};
use millstream_state::{RocksDisk, RocksOptions};

use crate::dice::Dice;

/// The application's id.
pub(crate) const APPLICATION: &str = "crash";

/// What a round runs with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Acknowledged means synced.
    pub(crate) synced: bool,
    /// State is on disk, with little room for it in memory.
    pub(crate) rocksdb: bool,
    /// `num.stream.threads`.
    pub(crate) threads: usize,
    /// `commit.interval.ms`.
    pub(crate) commit_ms: u64,
    /// `log.segment.bytes`.
    pub(crate) segment_bytes: u64,
    /// Bytes between two checkpoints of the log.
    pub(crate) checkpoint_bytes: u64,
    /// `batch.size`.
    pub(crate) batch_bytes: usize,
    /// `max.poll.records`.
    pub(crate) poll_records: usize,
    /// How often the process is killed.
    pub(crate) kills: u64,
}

impl Setup {
    /// What a seed says.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, &[3]);
        Setup {
            synced: dice.below(2) == 0,
            rocksdb: dice.below(2) == 0,
            threads: dice.one_of(&[1, 2]),
            commit_ms: dice.one_of(&[3, 20, 100]),
            segment_bytes: dice.one_of(&[64 << 10, 1 << 20, 1 << 30]),
            checkpoint_bytes: dice.one_of(&[256 << 10, 2 << 20, 256 << 20]),
            batch_bytes: dice.one_of(&[1, 4 << 10, 64 << 10]),
            poll_records: dice.one_of(&[10, 100, 10_000]),
            kills: 3 + dice.below(4),
        }
    }

    /// The log in a folder, over these files.
    pub(crate) fn broker(&self, folder: &Path, files: Arc<dyn Files>) -> BrokerOptions {
        let mut options = BrokerOptions::new(folder.join("log"), Arc::new(SystemClock::default()));
        options.durability = if self.synced { Durability::Disk } else { Durability::Os };
        options.segment_bytes = self.segment_bytes;
        options.checkpoint_bytes = self.checkpoint_bytes;
        // Little, so that readers go to the files.
        options.tail_bytes = 32 << 10;
        // So often that lives are ended in the middle of both.
        options.cleaner_backoff = Duration::from_millis(20);
        options.retention_check_interval = Duration::from_millis(50);
        options.files = files;
        options
    }

    /// The settings of the application, whose state is under `state`.
    ///
    /// # Errors
    /// When that folder cannot be used.
    pub(crate) fn config(&self, state: &Path) -> Result<RuntimeConfig> {
        let mut config = RuntimeConfig::embedded(APPLICATION);
        config.threads = self.threads;
        config.commit_interval = Duration::from_millis(self.commit_ms);
        config.batch_bytes = self.batch_bytes;
        config.poll_records = self.poll_records;
        if self.rocksdb {
            let small = RocksOptions { rows: 16 << 10, blocks: 1 << 20, unflushed: 256 << 10, background: true };
            config.disk = Some(Arc::new(RocksDisk::new(state, small)?));
        }
        Ok(config)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "durability {}, state in {}, {} thread(s), commits every {} ms, segments of {}, checkpoints every {}, batches of {}, polls of {}",
            if self.synced { "disk" } else { "os" },
            if self.rocksdb { "rocksdb" } else { "memory" },
            self.threads,
            self.commit_ms,
            self.segment_bytes,
            self.checkpoint_bytes,
            self.batch_bytes,
            self.poll_records,
        )
    }
}
