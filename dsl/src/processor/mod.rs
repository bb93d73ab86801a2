//! The Processor API: a step written by hand, with stores and punctuation.

mod node;
mod store;
mod values;
mod versioned_store;

pub use node::{Clock, Out, Processor, Setup};
pub use store::{KeyValueStore, ProcessorStore, StoreHandle};
pub use values::{FixedKeyRecord, ValueOut, ValueProcessor, ValueSetup};
pub use versioned_store::VersionedStore;
