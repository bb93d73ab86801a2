//! The Processor API: a step written by hand, with stores and punctuation.

mod custom_store;
mod global_store;
mod key_value_iterator;
mod kind;
mod node;
mod out;
mod read_only_store;
mod session_store;
mod setup;
mod step;
mod store;
mod timer;
mod values;
mod versioned_store;
mod window_store;

pub use custom_store::CustomStore;
pub use key_value_iterator::KeyValueIterator;
pub use kind::Kind;
pub use node::Children;
pub use out::Out;
pub use session_store::SessionStore;
pub use setup::{Setup, Stores};
pub use step::{AnyKey, Processor};
pub use store::{KeyValueStore, ProcessorStore, StoreHandle};
pub use timer::{Clock, Timer};
pub use values::{FixedKey, FixedKeyRecord, ValueOut, ValueProcessor, ValueSetup};
pub use versioned_store::VersionedStore;
pub use window_store::WindowStore;
