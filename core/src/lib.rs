//! Words, ports and runtime of Millstream.
//!
//! What it is not: it knows no broker, no disk, no DSL, and has no clock, thread or socket of its own.
//!
//! - words: [`Record`], [`Serde`], [`Topology`], [`TaskId`], time;
//! - ports: [`Log`] with [`Consumer`], [`Producer`], [`Admin`]; [`Clock`]; [`Files`]; [`StateStore`];
//! - what the DSL builds with: [`Port`], [`Forward`], [`TaskBuilder`], [`TaskContext`];
//! - the runtime: [`Plan`], [`StreamThread`].

mod alignment;
mod collector;
mod config;
mod context;
mod counters;
mod dead_letter;
mod describe;
mod error;
mod files;
mod forward;
mod headers;
mod input;
mod log;
mod memory_log;
mod nearest_word;
mod offset_metadata;
mod offset_reset;
mod partitioner;
mod plan;
mod punctuation;
mod record;
mod restore;
mod serde;
mod serdes;
mod settings;
mod sim_files;
mod source;
mod store;
mod streams;
mod task;
mod task_builder;
mod thread;
mod time;
mod topic_pattern;
mod topology;
mod wakeup;

pub use alignment::TimeAlignment;
pub use collector::{Collector, SinkSlot};
pub use config::{ProcessingGuarantee, RuntimeConfig};
pub use context::{ExceptionHandler, TaskContext, TimeSlot};
pub use counters::Counters;
pub use error::{Error, NodeFailure, Panicked, Result, StateError, TooLarge, Undecodable, Unencodable};
pub use files::{Files, LockError, OpenFile, OpenMode, OsFiles};
pub use forward::{Downstream, Forward, Port, Supplier};
pub use headers::Headers;
pub use input::Input;
pub use log::*;
pub use memory_log::MemoryLog;
pub use millstream_wire::{BatchBuilder, Records};
pub use nearest_word::nearest_word;
pub use offset_reset::{NotAnOffsetReset, OffsetReset};
pub use partitioner::{murmur2, partition_for_key};
pub use plan::{Plan, TaskPlan};
pub use punctuation::{Punctuate, PunctuationType};
pub use record::{Change, Record};
pub use serde::{Data, Encoded, Half, Nullable, Payload, Serde, SerdeContext, SerdeError};
pub use serdes::*;
pub use settings::{Bound, NotABound, Origin, SETTINGS, Settings};
pub use sim_files::{Call, Fault, SimFiles};
pub use source::{Extracted, RecordTime, RunLimit, Source, SourceNode, TimestampExtractor, unencodable};
pub use store::{ChangelogRecord, ChangelogWriter, KEYS_AHEAD, StateStore, StoreInstance};
pub use streams::{State, Stopper, Streams, Uncaught};
pub use task::{Task, TaskId};
pub use task_builder::{Lifecycle, TaskBuilder};
pub use thread::{Next, StreamThread, ThreadContext};
pub use time::*;
pub use topic_pattern::TopicPattern;
pub use topology::*;
pub use wakeup::Wakeup;
