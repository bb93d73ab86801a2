//! What Kafka Streams does with the six workloads: the figures that ours are divided by.
//!
//! Measured with Apache Kafka and Kafka Streams 4.3.1 (released artefacts, JDK 17), one broker (KRaft, 1 GiB heap) and the
//! application on one 2-core virtual machine: RocksDB stores, no compression, tuned in its favour (record cache 256 MiB, commit
//! interval 10 s at least once, `max.poll.records` 10,000, linger 20 ms, batches of 256 KiB), the first fifth of the input not
//! counted. Where a range was measured, its best end stands here: the least memory, the most records.

/// One row of its table.
pub(crate) struct Measured {
    /// At least once, 1 thread: thousand records per second.
    pub(crate) one_thread: f64,
    /// CPU microseconds per record of application and broker together.
    pub(crate) cpu: f64,
    /// At least once, 2 threads.
    pub(crate) two_threads: f64,
    /// Exactly once every 100 ms, 2 threads: thousand records per second, CPU microseconds per record.
    pub(crate) exactly_once: (f64, f64),
    /// Peak memory of the application alone, in MiB.
    pub(crate) memory: f64,
}

pub(crate) const STATELESS: Measured = Measured {
    one_thread: 396.0,
    cpu: 3.5 + 0.4,
    two_threads: 372.0,
    exactly_once: (280.0, 5.4),
    memory: 0.8 * 1024.0,
};
pub(crate) const COUNT: Measured = Measured {
    one_thread: 205.0,
    cpu: 8.1 + 0.3,
    two_threads: 143.0,
    exactly_once: (111.0, 15.6),
    memory: 1.3 * 1024.0,
};
pub(crate) const TUMBLING: Measured = Measured {
    one_thread: 155.0,
    cpu: 9.1 + 0.2,
    two_threads: 149.0,
    exactly_once: (88.0, 19.9),
    memory: 1.5 * 1024.0,
};
pub(crate) const WORD_COUNT: Measured =
    Measured { one_thread: 48.0, cpu: 28.9 + 1.8, two_threads: 58.0, exactly_once: (29.0, 58.0), memory: 1.2 * 1024.0 };
pub(crate) const TABLE_JOIN: Measured = Measured {
    one_thread: 224.0,
    cpu: 6.5 + 0.5,
    two_threads: 180.0,
    exactly_once: (152.0, 10.9),
    memory: 0.9 * 1024.0,
};
pub(crate) const STREAM_JOIN: Measured =
    Measured { one_thread: 60.0, cpu: 21.1 + 1.2, two_threads: 76.0, exactly_once: (85.0, 20.2), memory: 0.6 * 1024.0 };

/// Restore of a changelog with 900,000 small records: thousand records per second.
pub(crate) const RESTORE: f64 = 390.0;
