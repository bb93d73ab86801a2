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
//! Settings come from `app.properties`, the environment and flags; `--help` lists them.
//!
//! # Where to look
//!
//! | for | there is |
//! |---|---|
//! | a program | [`StreamsBuilder`](dsl::StreamsBuilder), [`Topology`](core::Topology), [`prelude`] |
//! | streams | [`KStream`](dsl::KStream): `filter`, `map`, `flat_map`, `split`, `merge`, `to`, joins with streams, tables and global tables |
//! | grouping | [`GroupedStream`](dsl::GroupedStream): `count`, `reduce`, `aggregate`, `windowed_by`, `cogroup` |
//! | windows | [`TimeWindows`](dsl::TimeWindows), [`SlidingWindows`](dsl::SlidingWindows), [`SessionWindows`](dsl::SessionWindows), [`UnlimitedWindows`](dsl::UnlimitedWindows), [`JoinWindows`](dsl::JoinWindows) |
//! | tables | [`KTable`](dsl::KTable): `filter`, `map_values`, `group_by`, `join`, `join_on` a foreign key, `suppress_for`, `to_stream`; [`GlobalKTable`](dsl::GlobalKTable) |
//! | a step by hand | [`Processor`](dsl::Processor), [`ValueProcessor`](dsl::ValueProcessor), with [`KeyValueStore`](dsl::KeyValueStore), [`WindowStore`](dsl::WindowStore), [`SessionStore`](dsl::SessionStore), [`VersionedStore`](dsl::VersionedStore) and timers ([`Setup`](dsl::Setup)) |
//! | topics | [`Consumed`](dsl::Consumed), [`Produced`](dsl::Produced), [`json!`], [`Serde`](core::Serde) |
//! | tests | [`TopologyTestDriver`](dsl::TopologyTestDriver) |
//! | running | [`run`], [`run_with`], [`Streams`](core::Streams), [`Settings`](core::Settings), [`embedded_log`], [`raise_open_files`] |
//!
//! Every function of [`dsl`] is in an example that runs: one of its own, or that of its type. In the repository: `examples`, ten programs from easy to hard;
//! `docs/coming-from-kafka-streams.md`, every operator and setting of Java beside ours; `docs/semantics.md`, what exactly each
//! operator does.

mod console;
mod open_files;
mod restoring;
mod run;

pub use millstream_broker as broker;
pub use millstream_core as core;
pub use millstream_dsl as dsl;
pub use millstream_dsl::{conformance, json};
pub use open_files::raise_open_files;
pub use run::{embedded_log, run, run_with};

/// What a pipeline needs, also one with a serde or event time of its own:
///
/// ```
/// use millstream::prelude::*;
///
/// /// The time of the header `time`, or that in the log if there is none.
/// #[derive(Clone)]
/// struct OfHeader;
///
/// impl<K, V> TimestampExtractor<K, V> for OfHeader {
///     fn extract(&self, record: &Record<K, V>, _partition_time: Timestamp) -> Extracted {
///         let time = record.headers.last("time").and_then(|bytes| Some(Timestamp::from_be_bytes(bytes.try_into().ok()?)));
///         Extracted::Time(time.unwrap_or(record.timestamp))
///     }
/// }
///
/// /// Numbers as text.
/// #[derive(Clone)]
/// struct Decimal;
///
/// impl Serde for Decimal {
///     type Value = i64;
///
///     fn serialize(
///         &self,
///         n: &i64,
///         _: SerdeContext<'_>,
///         _: &mut Headers,
///         out: &mut Vec<u8>,
///     ) -> Result<Encoded, SerdeError> {
///         out.extend(n.to_string().bytes());
///         Ok(Encoded::Bytes)
///     }
///
///     fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<i64, SerdeError> {
///         let bytes = bytes.ok_or_else(SerdeError::null::<i64>)?;
///         let text = std::str::from_utf8(bytes.as_slice()).map_err(|e| SerdeError::invalid(e.to_string()))?;
///         text.parse().map_err(|_| SerdeError::invalid(format!("`{text}` is no number")))
///     }
/// }
///
/// let b = StreamsBuilder::new();
/// b.stream_with("in", Consumed::with(Decimal, Decimal).timestamps(OfHeader)).to("out");
/// b.build()?;
/// # Ok::<(), Error>(())
/// ```
pub mod prelude {
    pub use millstream_core::{
        Change, Data, DeadLetter, Encoded, Error, ErrorHandlerContext, ExceptionHandler, Extracted,
        FailOnInvalidTimestamp, HandlerResponse, Headers, LogAndSkipOnInvalidTimestamp, OffsetReset, Payload, Record,
        Result, Serde, SerdeContext, SerdeError, Settings, Streams, Text, Timestamp, TimestampExtractor, Topology,
        UsePartitionTimeOnInvalidTimestamp, WallclockTimestampExtractor,
    };
    pub use millstream_dsl::{
        BufferConfig, Clock, Consumed, DAY, FixedKeyRecord, GlobalKTable, GroupedStream, GroupedTable, HOUR,
        JoinWindows, Joined, Json, KStream, KTable, KeyValueStore, MIN, Materialized, Optimization, Out, Processor,
        Produced, RecordContext, Repartitioned, SECOND, SessionStore, SessionWindows, Setup, SlidingWindows,
        StoreHandle, StreamJoined, StreamsBuilder, TableJoined, TimeWindows, Timer, TopologyTestDriver,
        UnlimitedWindows, ValueOut, ValueProcessor, ValueSetup, VersionedStore, Window, WindowStore, Windowed,
        event_time, kv, pattern,
    };
}

/// The Rust of the page for those who come from Kafka Streams runs with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/coming-from-kafka-streams.md")]
mod coming_from_kafka_streams {}
