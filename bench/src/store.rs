//! Where the state of a measured program lies.

use std::path::Path;
use std::sync::Arc;

use millstream_core::{Result, StateDisk};
use millstream_state::{RocksDisk, RocksOptions};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    RocksDb,
}

impl Store {
    pub(crate) const ALL: [Store; 2] = [Store::Memory, Store::RocksDb];

    /// The disk of a program, if it has one.
    pub(crate) fn disk(self, folder: &Path) -> Result<Option<Arc<dyn StateDisk>>> {
        Ok(match self {
            Store::Memory => None,
            Store::RocksDb => Some(Arc::new(RocksDisk::new(folder, RocksOptions::default())?)),
        })
    }
}
