//! Stores that the program implements itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{StateStore, StoreFormat, StoreInstance, Timestamp};

use crate::builder::{NewStore, StreamsBuilder};
use crate::processor::store::{ProcessorStore, StoreHandle};

impl StreamsBuilder {
    /// A store of the program's own, made anew for every task, with a changelog of this configuration (Kafka's topic
    /// configuration keys). `millstream_state::conformance` checks whether it does what the runtime asks of a store.
    pub fn custom_store<T: StateStore>(
        &self,
        name: &str,
        changelog: BTreeMap<String, String>,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> StoreHandle<CustomStore<T>> {
        let format = StoreFormat::of::<(), T>("custom");
        StoreHandle::new(self.store_named(NewStore::new(name, format, changelog, move |_| make())))
    }
}

/// A store of the program's own in its task.
pub struct CustomStore<T>(Rc<RefCell<T>>);

impl<T: StateStore> ProcessorStore for CustomStore<T> {
    fn open(instance: &StoreInstance, _: &Arc<str>, _: Rc<Cell<Timestamp>>) -> Self {
        CustomStore(instance.typed())
    }
}

impl<T> CustomStore<T> {
    /// Reads it.
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.0.borrow())
    }

    /// Changes it.
    pub fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}
