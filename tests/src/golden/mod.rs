//! The golden traces: what Apache Kafka Streams emits for the same input, step by step (`tests/golden/CATALOGUE.md`).

mod case;
mod catalogue;
mod replay;
mod topologies;
mod world;

pub use case::{Case, Emitted, Input, Step, Trace};
pub use catalogue::{Section, sections};
pub use replay::{Cut, Options, Replay, Store, Via, emit, replay};
pub use topologies::build;
