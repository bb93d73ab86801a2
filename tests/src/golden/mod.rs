//! The golden traces: what Apache Kafka Streams emits for the same input, step by step (`tests/golden/CATALOGUE.md`).

mod case;
mod replay;
mod topologies;
mod world;

pub use case::{Case, Emitted, Step, Trace};
pub use replay::{Cut, Options, Via, emit, replay};
