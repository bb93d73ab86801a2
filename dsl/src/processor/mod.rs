//! The Processor API: a step written by hand, with stores and punctuation.

mod node;
mod session_store;
mod store;
mod values;
mod versioned_store;
mod window_store;

pub use node::{Clock, Out, Processor, Setup};
pub use session_store::SessionStore;
pub use store::{KeyValueStore, ProcessorStore, StoreHandle};
pub use values::{FixedKeyRecord, ValueOut, ValueProcessor, ValueSetup};
pub use versioned_store::VersionedStore;
pub use window_store::WindowStore;
