//! Stores that the program implements itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use millstream_core::{StateStore, StoreFormat};

use crate::builder::{NewStore, StreamsBuilder};
use crate::processor::store::{ProcessorStore, StoreHandle, TaskStore};

impl StreamsBuilder {
    /// A store of the program's own, made anew for every task, with a changelog of this configuration (Kafka's topic
    /// configuration keys). [`crate::conformance`] checks whether it does what the runtime asks of a store.
    ///
    /// ```
    /// # use millstream_dsl::{CustomStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result, StringSerde};
    /// # use std::collections::BTreeMap;
    /// use millstream_state::KeyValueTable; // here a store of the library; yours implements `StateStore`
    ///
    /// struct Remember {
    ///     store: CustomStore<KeyValueTable<StringSerde>>,
    /// }
    /// impl Processor for Remember {
    ///     // …
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = String;
    ///     fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
    ///         let before = self.store.change(|rows| rows.put(r.key.as_bytes(), Some(r.value.clone()), r.timestamp))?;
    ///         out.forward(r.with_value(before.map_or_else(|| "nothing".to_owned(), |(value, _)| value)))
    ///     }
    /// }
    /// # let b = StreamsBuilder::new();
    /// let compacted = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    /// let store = b.custom_store("rows", compacted, || KeyValueTable::new("rows", StringSerde, true));
    /// b.stream("in").process("remember", move |s| Remember { store: s.store(store) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// input.pipe("a", "1");
    /// input.pipe("a", "2");
    /// assert_eq!(out.read(), [kv("a", "nothing"), kv("a", "1")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
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
///
/// ```
/// # use millstream_dsl::{CustomStore};
/// # use millstream_dsl::core::{Result, StringSerde};
/// # use millstream_state::KeyValueTable;
/// fn remember(store: &CustomStore<KeyValueTable<StringSerde>>, key: &str, value: String) -> Result<bool> {
///     let was_empty = store.read(|rows| rows.approximate_len() == 0);
///     let before = store.change(|rows| rows.put(key.as_bytes(), Some(value), 0))?;
///     Ok(was_empty || before.is_none())
/// }
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct CustomStore<T>(Rc<RefCell<T>>);

impl<T: StateStore> ProcessorStore for CustomStore<T> {
    fn open(TaskStore { instance, .. }: TaskStore) -> Self {
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
