//! A disk for state some calls of which fail.

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{
    ChangelogRecord, DiskPosition, DiskRows, Error, Family, FamilyWrite, Result, StateBudget, StateDisk, StateError,
    TaskDisk, Timestamp,
};

/// What is the matter with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It has no space for what is written.
    Full,
    /// It can be neither read nor written.
    Broken,
    /// What is read is not what was written.
    Damaged,
}

impl Trouble {
    fn error(self) -> Error {
        let problem = Box::new(StateError { store: "disk".into(), problem: "a call that was told to fail".into() });
        match self {
            Trouble::Full => Error::NoSpace(problem),
            Trouble::Broken => Error::State(problem),
            Trouble::Damaged => Error::Damaged(problem),
        }
    }
}

/// Which calls fail: so many, from a number on.
#[derive(Debug, Clone, Copy)]
pub struct FailingCalls {
    /// The first; calls are counted from 0.
    pub from: u64,
    /// How many.
    pub times: u64,
    /// What they say. A full disk can be read.
    pub trouble: Trouble,
}

/// A disk, some calls of which fail.
#[derive(Debug, Clone)]
pub struct FailingDisk {
    disk: Arc<dyn StateDisk>,
    calls: Calls,
}

#[derive(Debug, Clone, Default)]
struct Calls {
    count: Arc<AtomicU64>,
    failing: Arc<Mutex<Option<FailingCalls>>>,
}

impl Calls {
    fn call(&self, writes: bool) -> Result<()> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let failing = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = failing.filter(|f| (f.from..f.from + f.times).contains(&number));
        let failing = failing.filter(|f| writes || f.trouble != Trouble::Full);
        failing.map_or(Ok(()), |failing| Err(failing.trouble.error()))
    }
}

impl FailingDisk {
    /// Around a disk; no call fails.
    pub fn new(disk: Arc<dyn StateDisk>) -> Self {
        FailingDisk { disk, calls: Calls::default() }
    }

    /// Lets calls fail, counted from now on.
    pub fn fail(&self, failing: Option<FailingCalls>) {
        self.calls.count.store(0, Ordering::Relaxed);
        *self.calls.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }

    /// Calls since the last [`FailingDisk::fail`].
    pub fn calls(&self) -> u64 {
        self.calls.count.load(Ordering::Relaxed)
    }
}

impl StateDisk for FailingDisk {
    fn open(&self, task: &str, families: Vec<Family>) -> Result<Box<dyn TaskDisk>> {
        self.calls.call(true)?;
        let task = self.disk.open(task, families)?;
        Ok(Box::new(FailingTask { task, calls: self.calls.clone(), failed: None }))
    }

    fn clean_up(&self) -> Result<()> {
        self.calls.call(true)?;
        self.disk.clean_up()
    }

    fn budget(&self) -> &Arc<StateBudget> {
        self.disk.budget()
    }
}

struct FailingTask {
    task: Box<dyn TaskDisk>,
    calls: Calls,
    /// After a write that failed there is no other.
    failed: Option<Trouble>,
}

impl FailingTask {
    fn outcome(&self) -> Result<()> {
        self.failed.map_or(Ok(()), |trouble| Err(trouble.error()))
    }
}

impl TaskDisk for FailingTask {
    fn position(&self, family: usize) -> Option<DiskPosition> {
        self.task.position(family)
    }

    fn rows(&self, family: usize) -> Box<dyn DiskRows> {
        Box::new(FailingRows { rows: self.task.rows(family), calls: self.calls.clone() })
    }

    fn clear(&mut self, family: usize) -> Result<()> {
        self.calls.call(true)?;
        self.task.clear(family)
    }

    fn write(&mut self, writes: Vec<FamilyWrite>) {
        if self.failed.is_some() {
            return;
        }
        match self.calls.call(true) {
            Ok(()) => self.task.write(writes),
            Err(error) => {
                self.failed = Some(match error {
                    Error::NoSpace(_) => Trouble::Full,
                    Error::Damaged(_) => Trouble::Damaged,
                    _ => Trouble::Broken,
                });
            }
        }
    }

    fn written(&mut self) -> Result<u64> {
        self.outcome()?;
        self.task.written()
    }

    fn is_behind(&self) -> bool {
        self.task.is_behind()
    }

    fn close(&mut self) -> Result<()> {
        self.outcome()?;
        self.calls.call(true)?;
        self.task.close()
    }
}

struct FailingRows {
    rows: Box<dyn DiskRows>,
    calls: Calls,
}

impl DiskRows for FailingRows {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        self.calls.call(false)?;
        self.rows.get(key, found)
    }

    fn is_empty(&self) -> Result<bool> {
        self.calls.call(false)?;
        self.rows.is_empty()
    }

    fn latest(&self) -> Option<Timestamp> {
        self.rows.latest()
    }

    fn approximate_len(&self) -> usize {
        self.rows.approximate_len()
    }

    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.calls.call(false)?;
        self.rows.scan(range, descending, row)
    }
}
