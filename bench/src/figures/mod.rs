//! What only we promise: figures without a counterpart among Kafka Streams' workloads.

mod commit_pause;
mod exactly_once;
mod growth;
mod large_state;
mod large_windows;
mod latency;
mod restart;
mod restore;

use std::time::Duration;

use millstream_broker::Durability;
use millstream_core::{Error, ProcessingGuarantee, Result};

pub(crate) use self::large_state::{Keys, large_state};
pub(crate) use self::large_windows::{Windows, large_windows};
pub(crate) use self::latency::{Load, latency};
use crate::store::Store;
use crate::table::Row;

/// One of them, or some that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    ExactlyOnce,
    CommitPause,
    Latency,
    Restore,
    Restart,
    Growth,
    LargeState,
}

/// Keys of a table that is larger than its budget.
const LARGE: u64 = 10_000_000;

impl Figure {
    pub(crate) const ALL: [Figure; 7] = [
        Figure::ExactlyOnce,
        Figure::CommitPause,
        Figure::Latency,
        Figure::Restore,
        Figure::Restart,
        Figure::Growth,
        Figure::LargeState,
    ];

    /// On the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Figure::ExactlyOnce => "exactly-once",
            Figure::CommitPause => "commit-pause",
            Figure::Latency => "latency",
            Figure::Restore => "restore",
            Figure::Restart => "restart",
            Figure::Growth => "growth",
            Figure::LargeState => "large-state",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Figure::ExactlyOnce => "what exactly once every 100 ms costs of at-least-once throughput",
            Figure::CommitPause => "how long a stream thread pauses to commit 100,000 changed keys, and their write",
            Figure::Latency => "exactly once every 5 ms at 20,000 records/s: from due to read",
            Figure::Restore => "from a changelog to a store: seconds per GB, and small records per second",
            Figure::Restart => "after kill -9 with 1 GB of state: from the start to the first output",
            Figure::Growth => "what an update costs at 10^4 to 10^7 keys in one table",
            Figure::LargeState => "10^7 keys with memory for a tenth: updates per second, peak memory",
        }
    }

    /// Those that want a process of their own.
    pub(crate) fn parts(self) -> Vec<String> {
        let parts: &[&str] = match self {
            Figure::Latency => &["os", "disk"],
            Figure::CommitPause => &["memory", "rocksdb"],
            Figure::Restore => &["memory", "rocksdb", "small-memory", "small-rocksdb"],
            Figure::LargeState => &["uniform", "zipf"],
            Figure::ExactlyOnce | Figure::Restart | Figure::Growth => &["all"],
        };
        parts.iter().map(|part| format!("{}/{part}", self.name())).collect()
    }

    /// Measures a part.
    pub(crate) fn measure(part: &str, scale: f64) -> Result<Vec<Row>> {
        let part_of = |records: u64| ((records as f64 * scale) as u64).max(1);
        let latency = |durability, goal| {
            latency(Load {
                guarantee: ProcessingGuarantee::ExactlyOnceV2,
                commit_interval: Duration::from_millis(5),
                durability,
                goal,
                seconds: 20,
                ..Load::AT_LEAST_ONCE
            })
        };
        match part.split_once('/').unwrap_or((part, "all")) {
            ("exactly-once", _) => exactly_once::cost(part_of(8_000_000)),
            ("commit-pause", "memory") => commit_pause::pause(Store::Memory),
            ("commit-pause", "rocksdb") => commit_pause::pause(Store::RocksDb),
            ("latency", "os") => latency(Durability::Os, Some(10.0)),
            ("latency", "disk") => latency(Durability::Disk, None),
            ("restore", "memory") => restore::large(Store::Memory, part_of(restore::GIGABYTE)),
            ("restore", "rocksdb") => restore::large(Store::RocksDb, part_of(restore::GIGABYTE)),
            ("restore", "small-memory") => restore::small(Store::Memory),
            ("restore", "small-rocksdb") => restore::small(Store::RocksDb),
            ("restart", "all") => restart::after_kill(part_of(restore::GIGABYTE)),
            ("restart", life) => restart::life(life),
            ("growth", _) => growth::per_update(part_of(LARGE)),
            ("large-state", "uniform") => large_state(part_of(LARGE), part_of(1_000_000), Keys::Uniform),
            ("large-state", "zipf") => large_state(part_of(LARGE), part_of(10_000_000), Keys::Zipf),
            _ => Err(Error::user(format!("no part is called {part}"))),
        }
    }
}
