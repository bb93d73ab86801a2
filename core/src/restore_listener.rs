//! Who is told how the restore of stores goes.

use crate::log::{Offset, TopicPartition};

/// Is told how stores are restored, as Kafka Streams' `StateRestoreListener`: each store of each partition by itself, on the stream
/// thread that restores it, so that none of this may take long. A store that misses nothing is not restored.
pub trait StateRestoreListener: Send + Sync {
    /// A store of a partition will be restored from its changelog, from one offset up to another.
    fn on_restore_start(&self, changelog: &TopicPartition, store: &str, starting: Offset, ending: Offset) {
        let _not_listened_to = (changelog, store, starting, ending);
    }

    /// So many records more are restored; what is below `batch_end` is there.
    fn on_batch_restored(&self, changelog: &TopicPartition, store: &str, batch_end: Offset, restored: u64) {
        let _not_listened_to = (changelog, store, batch_end, restored);
    }

    /// The store is restored, with so many records in all.
    fn on_restore_end(&self, changelog: &TopicPartition, store: &str, restored: u64) {
        let _not_listened_to = (changelog, store, restored);
    }

    /// The restore has been given up after so many records: the thread ends, or begins anew.
    fn on_restore_suspended(&self, changelog: &TopicPartition, store: &str, restored: u64) {
        let _not_listened_to = (changelog, store, restored);
    }
}
