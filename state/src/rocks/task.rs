//! A task's end of its database: what it gives is written by somebody else, in order.

use std::sync::Arc;

use millstream_core::{DiskPosition, DiskRows, FamilyWrite, Result, TaskDisk};

use super::database::Database;
use super::rows::RocksRows;
use super::writer::{Pending, Writer};

/// A task's end of its database.
pub(super) struct RocksTask {
    database: Arc<Database>,
    positions: Vec<Option<DiskPosition>>,
    writer: Writer,
    pending: Arc<Pending>,
}

impl RocksTask {
    pub(super) fn new(database: Arc<Database>, positions: Vec<Option<DiskPosition>>, writer: Writer) -> Self {
        RocksTask { database, positions, writer, pending: Arc::default() }
    }
}

impl TaskDisk for RocksTask {
    fn position(&self, family: usize) -> Option<DiskPosition> {
        self.positions[family]
    }

    fn rows(&self, family: usize) -> Box<dyn DiskRows> {
        Box::new(RocksRows::new(self.database.clone(), family))
    }

    fn clear(&mut self, family: usize) -> Result<()> {
        self.positions[family] = None;
        self.database.clear(family)
    }

    fn write(&mut self, writes: Vec<FamilyWrite>) {
        self.writer.write(&self.database, &self.pending, writes);
    }

    fn written(&mut self) -> Result<u64> {
        self.pending.done()
    }

    fn is_behind(&self) -> bool {
        self.pending.is_much()
    }

    fn close(&mut self) -> Result<()> {
        self.pending.wait()?;
        self.database.flush()
    }
}

impl Drop for RocksTask {
    /// Whoever opens the folder next must find it closed.
    fn drop(&mut self) {
        let _failed = self.pending.wait();
    }
}
