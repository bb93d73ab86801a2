//! The Processor API: a step written by hand, with stores and punctuation.

mod custom_store;
mod global_store;
mod node;
mod read_only_store;
mod session_store;
mod store;
mod values;
mod versioned_store;
mod window_store;

pub use custom_store::CustomStore;
pub use node::{Children, Clock, Out, Processor, Setup, Timer};
pub(crate) use node::{stores_in, stores_of};
pub use session_store::SessionStore;
pub use store::{KeyValueStore, ProcessorStore, StoreHandle};
pub use values::{FixedKeyRecord, ValueOut, ValueProcessor, ValueSetup};
pub use versioned_store::VersionedStore;
pub use window_store::WindowStore;
