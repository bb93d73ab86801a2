//! The Processor API: a step written by hand, with stores and punctuation.

mod node;
mod store;
mod values;

pub use node::{Clock, Out, Processor, Setup};
pub use store::{KeyValueStore, StoreHandle};
pub use values::{FixedKeyRecord, ValueOut, ValueProcessor};
