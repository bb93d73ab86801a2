//! The typed DSL of Millstream: streams, tables and their operators, compiled to a `core::Topology`.
//!
//! What it is not: it knows no consumers, offsets or brokers. An operator is one file: a method that describes itself
//! to the graph and subscribes a supplier, and the node that runs.

mod aggregates;
mod builder;
mod consumed;
mod durations;
mod failure;
mod framed;
mod joins;
mod json;
mod keyed_stores;
mod keys;
mod kstream;
mod ktable;
mod late;
mod materialized;
mod named;
mod once;
mod operators;
mod optimization;
mod processor;
mod queries;
mod row_serde;
mod stored;
mod tables;
mod test_driver;
mod windows;

pub use aggregates::{
    CogroupedStream, FixedWindows, GroupedStream, SessionCogroup, SessionWindowedStream, TimeWindowedStream,
    WindowedCogroup, WindowsOf,
};
pub use builder::{IntoTopics, StreamsBuilder, pattern};
pub use consumed::{Consumed, EventTime, Partitioner, Produced, event_time};
pub use failure::BoxError;
pub use joins::{GlobalKTable, Joined, StreamJoined, TableJoined};
pub use json::Json;
pub use kstream::{DefaultConsumed, KStream};
pub use ktable::{KTable, LookUp};
pub use materialized::Materialized;
pub use millstream_core as core;
pub use millstream_state::{Put, Version, conformance};
pub use operators::{Branches, RecordContext, Repartitioned, Split};
pub use optimization::Optimization;
pub use processor::{
    AnyKey, Children, Clock, CustomStore, FixedKey, FixedKeyRecord, KeyValueIterator, KeyValueStore, Kind, Out,
    Processor, ProcessorStore, SessionStore, Setup, StoreHandle, Stores, Timer, ValueOut, ValueProcessor, ValueSetup,
    VersionedStore, WindowStore,
};
pub use queries::{
    InteractiveQueries, KeyQuery, MultiVersionedKeyQuery, PrefixQuery, Query, QueryResult, QueryRows, RangeQuery,
    SessionQuery, StateQueryRequest, StateQueryResult, ValueAndTimestamp, VersionedKeyQuery, WindowKeyQuery,
    WindowRangeQuery, in_store,
};
pub use row_serde::RowSerde;
pub use tables::{BufferConfig, GroupedTable};
pub use test_driver::{TestInput, TestOutput, TopologyTestDriver, kv};
pub use windows::{
    DAY, HOUR, JoinWindows, MIN, SECOND, SessionWindows, SlidingWindows, TimeWindowedSerde, TimeWindows,
    UnlimitedWindows, Window, Windowed, WindowedSerde,
};
