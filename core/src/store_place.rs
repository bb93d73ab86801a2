//! Where the rows of a store lie: where all do, or where the program says for it alone (KIP-591).

use std::sync::Arc;

use crate::config::RuntimeConfig;
use crate::disk::StateDisk;

/// Where the rows of a store lie.
#[derive(Debug, Clone, Default)]
pub enum StorePlace {
    /// Where `default.dsl.store` says.
    #[default]
    AsAll,
    /// All in memory.
    InMemory,
    /// On the application's disk.
    OnDisk,
    /// On a disk of the program's.
    On(Arc<dyn StateDisk>),
}

impl StorePlace {
    /// The disk with the rows; `None`: they are in memory.
    pub(crate) fn disk<'a>(&'a self, config: &'a RuntimeConfig) -> Option<&'a Arc<dyn StateDisk>> {
        match self {
            StorePlace::AsAll => config.disk.as_ref().filter(|_| !config.in_memory),
            StorePlace::InMemory => None,
            StorePlace::OnDisk => config.disk.as_ref(),
            StorePlace::On(disk) => Some(disk),
        }
    }
}

impl RuntimeConfig {
    /// All disks that stores in these places may lie on, each once.
    pub(crate) fn disks<'a>(&'a self, places: impl Iterator<Item = &'a StorePlace>) -> Vec<&'a Arc<dyn StateDisk>> {
        let mut disks: Vec<&Arc<dyn StateDisk>> = self.disk.iter().collect();
        for place in places {
            if let StorePlace::On(disk) = place
                && !disks.iter().any(|known| Arc::ptr_eq(known, disk))
            {
                disks.push(disk);
            }
        }
        disks
    }
}
