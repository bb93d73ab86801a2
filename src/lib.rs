//! Millstream: Kafka Streams for Rust, with the broker inside.
//!
//! ```
//! use millstream::prelude::*;
//!
//! fn word_count() -> Result<Topology> {
//!     let b = StreamsBuilder::new();
//!     b.stream::<Option<String>, String>("lines")
//!         .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
//!         .group_by("by-word", |_, word| word.clone())
//!         .count("counts")
//!         .to_stream()
//!         .to("word-counts");
//!     b.build()
//! }
//!
//! let t = TopologyTestDriver::new(word_count()?)?;
//! t.input::<Option<String>, String>("lines")?.pipe(None, "a b a");
//! assert_eq!(t.output::<String, i64>("word-counts")?.read(), [kv("a", 1), kv("b", 1), kv("a", 2)]);
//! # Ok::<(), Error>(())
//! ```
//!
//! [`run`] is the whole of a `main`: started plain, the program has its log in its own process, durable on local disk.

mod console;
mod run;

pub use millstream_broker as broker;
pub use millstream_core as core;
pub use millstream_dsl as dsl;
pub use millstream_dsl::json;
pub use run::{embedded_log, run, run_with};

/// What a pipeline needs.
pub mod prelude {
    pub use millstream_core::{
        Change, Data, Error, Headers, OffsetReset, Record, Result, Serde, SerdeError, Settings, Streams, Text,
        Timestamp, Topology,
    };
    pub use millstream_dsl::{
        BufferConfig, Clock, Consumed, DAY, EmitStrategy, FixedKeyRecord, GlobalKTable, GroupedStream, HOUR,
        JoinWindows, Json, KStream, KTable, KeyValueStore, MIN, Optimization, Out, Processor, Produced, SECOND,
        SessionStore, SessionWindows, Setup, SlidingWindows, StoreHandle, StreamsBuilder, TimeWindows, Timer,
        TopologyTestDriver, ValueOut, ValueProcessor, VersionedStore, Window, WindowStore, Windowed, event_time, kv,
        pattern,
    };
}

/// The Rust of the page for those who come from Kafka Streams runs with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/coming-from-kafka-streams.md")]
mod coming_from_kafka_streams {}
