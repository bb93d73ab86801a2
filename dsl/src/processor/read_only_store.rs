//! Read-only stores: a topic's rows, kept up by the runtime, for processors to read (KIP-813).

use millstream_core::Data;

use crate::builder::StreamsBuilder;
use crate::processor::store::{KeyValueStore, StoreHandle};

impl StreamsBuilder {
    /// A store that holds the latest value of every key of a topic's partition, for processors to read; they must not write
    /// to it. The topic itself is what it is restored from: there is no changelog. Processors that read it run where the
    /// topic's partition is: their input has as many partitions, and keys in the same ones.
    pub fn read_only_store<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        topic: &str,
        store: &str,
    ) -> StoreHandle<KeyValueStore<K, V>> {
        let id = self.table::<K, V>(topic, store).stores[0];
        self.rebuild_from_topic(id);
        StoreHandle::new(id)
    }
}
