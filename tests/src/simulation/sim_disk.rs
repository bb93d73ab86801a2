//! The disk for state of a simulated machine: rows in memory that fall behind, are lost from some write on in a crash, fail
//! and are damaged, as those of RocksDB are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::{
    ChangelogRecord, DiskPosition, DiskRows, Error, Expired, Family, FamilyWrite, Records, Result, RowOrder,
    StateBudget, StateDisk, StateError, TaskDisk, Timestamp, is_empty_range,
};

use super::dice::Dice;

/// What happens to the writes and reads of a disk; each so many times in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mishaps {
    /// A write is not done yet when its task asks.
    pub late: u64,
    /// A family is flushed after a write: a crash leaves it no further behind.
    pub flushed: u64,
    /// A write fails: the disk is broken, or full.
    pub failed: u64,
    /// A read finds damage.
    pub damaged: u64,
}

/// A disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    disk: Arc<Mutex<Disk>>,
    budget: Arc<StateBudget>,
    dice: Dice,
}

struct Disk {
    tasks: BTreeMap<String, BTreeMap<String, Stored>>,
    open: BTreeSet<String>,
    /// Tasks whose rows are not what was written.
    damaged: BTreeSet<String>,
    mishaps: Mishaps,
    /// Processes that have used it: what an earlier one left open can do nothing.
    process: u64,
}

/// The rows of a store, and how far behind they may fall.
struct Stored {
    order: RowOrder,
    now: Content,
    flushed: Content,
    unflushed: Vec<Change>,
}

/// Rows by key on disk, and their position.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Content {
    pub(super) rows: BTreeMap<Vec<u8>, Row>,
    pub(super) position: Option<DiskPosition>,
    /// Rows below this key have expired.
    pub(super) expired: Vec<u8>,
    /// The largest time of all rows so far, if they lie by time.
    pub(super) latest: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    timestamp: Timestamp,
    headers: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// What a write does to a family.
#[derive(Clone)]
struct Change {
    order: RowOrder,
    batches: Vec<Records>,
    position: DiskPosition,
    expired: Expired,
}

impl Content {
    /// Takes up rows as a changelog has them.
    pub(super) fn apply(&mut self, order: RowOrder, batches: &[Records]) {
        for records in batches {
            let mut records = records.clone();
            while let Some(record) = records.next() {
                let record = record.expect("rows as they were sent");
                let (changelog_key, mut key) = (record.key.expect("rows have keys"), Vec::new());
                order.disk_key(changelog_key.as_slice(), record.timestamp, &mut key);
                self.latest = self.latest.max(order.time_of(changelog_key.as_slice(), record.timestamp));
                let value = record.value.map(|value| value.as_slice().to_vec());
                if value.is_some() || order == RowOrder::Versions {
                    let row = Row { timestamp: record.timestamp, headers: record.headers.to_vec(), value };
                    self.rows.insert(key, row);
                } else {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// Lets rows go that have expired.
    fn expire(&mut self, order: RowOrder, expired: Expired) {
        let Expired::Before(time) = expired else { return };
        if let Some(end) = order.part_of(time) {
            self.rows = self.rows.split_off(&end);
            self.expired = self.expired.clone().max(end);
        } else if order == RowOrder::Versions {
            let rows = || self.rows.iter().map(|(key, row)| (&key[..key.len() - size_of::<Timestamp>()], row));
            let next = rows().skip(1).map(|(key, row)| Some((key, row.timestamp))).chain([None]);
            let is_kept =
                |((key, row), next): ((&[u8], &Row), _)| !RowOrder::has_ended(SimRows::record(key, row), next, time);
            let kept: Vec<_> = rows().zip(next).map(is_kept).collect();
            let mut kept = kept.into_iter();
            self.rows.retain(|_, _| kept.next().is_some_and(|kept| kept));
        }
    }

    fn change(&mut self, change: &Change) {
        self.apply(change.order, &change.batches);
        self.expire(change.order, change.expired);
        self.position = Some(change.position);
    }

    /// The rows that have not expired.
    pub(super) fn kept(&self, expired: &[u8]) -> Vec<(&Vec<u8>, &Row)> {
        self.rows.range::<[u8], _>((Bound::Included(expired), Bound::Unbounded)).collect()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk, for stores that share a budget of so many bytes.
    pub fn new(dice: Dice, mishaps: Mishaps, budget: usize) -> Self {
        let disk =
            Disk { tasks: BTreeMap::new(), open: BTreeSet::new(), damaged: BTreeSet::new(), mishaps, process: 0 };
        SimDisk { disk: Arc::new(Mutex::new(disk)), budget: Arc::new(StateBudget::new(budget)), dice }
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.disk().mishaps = Mishaps::default();
    }

    /// All rows are gone.
    pub(super) fn forget(&self) {
        let mut disk = self.disk();
        disk.tasks.clear();
        disk.damaged.clear();
    }

    /// The process is killed, or the power is cut: every family falls back to a write since its last flush, or to that.
    /// Returns the disk as the next process finds it.
    pub fn crash(self) -> Self {
        let mut disk = self.disk();
        disk.process += 1;
        disk.open.clear();
        for stored in disk.tasks.values_mut().flat_map(BTreeMap::values_mut) {
            let kept = self.dice.below(stored.unflushed.len() as u64 + 1) as usize;
            for change in stored.unflushed.drain(..).take(kept) {
                stored.flushed.change(&change);
            }
            stored.now = stored.flushed.clone();
        }
        drop(disk);
        self
    }

    /// The rows of every family: task, store, order, content. Not those of damaged tasks.
    pub(super) fn contents(&self) -> Vec<(String, String, RowOrder, Content)> {
        let disk = self.disk();
        let tasks = disk.tasks.iter().filter(|(task, _)| !disk.damaged.contains(*task));
        let families =
            tasks.flat_map(|(task, families)| families.iter().map(move |(name, stored)| (task, name, stored)));
        families.map(|(task, name, s)| (task.clone(), name.clone(), s.order, s.now.clone())).collect()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(task: &str, problem: &str) -> StateError {
    StateError { store: task.to_owned(), problem: problem.to_owned() }
}

impl StateDisk for SimDisk {
    fn open(&self, task: &str, families: Vec<Family>) -> Result<Box<dyn TaskDisk>> {
        let mut disk = self.disk();
        if !disk.open.insert(task.to_owned()) {
            return Err(Error::State(Box::new(error(task, "cannot be opened: its lock is held"))));
        }
        if disk.damaged.remove(task) {
            disk.tasks.remove(task);
        }
        let process = disk.process;
        let stored = disk.tasks.entry(task.to_owned()).or_default();
        stored.retain(|name, stored| families.iter().any(|f| f.name == *name && f.order == stored.order));
        let mut positions = Vec::new();
        for family in &families {
            let stored = stored.entry(family.name.clone()).or_insert_with(|| Stored {
                order: family.order,
                now: Content::default(),
                flushed: Content::default(),
                unflushed: Vec::new(),
            });
            positions.push(stored.now.position);
        }
        drop(disk);
        let (disk, task) = (self.clone(), task.to_owned());
        Ok(Box::new(SimTask {
            disk,
            task,
            families,
            positions,
            process,
            queue: VecDeque::new(),
            done: 0,
            failed: None,
        }))
    }

    fn clean_up(&self) -> Result<()> {
        let mut disk = self.disk();
        if let Some(task) = disk.open.first() {
            return Err(Error::State(Box::new(error(task, "cannot be removed: its lock is held"))));
        }
        disk.tasks.clear();
        Ok(())
    }

    fn budget(&self) -> &Arc<StateBudget> {
        &self.budget
    }
}

struct SimTask {
    disk: SimDisk,
    task: String,
    families: Vec<Family>,
    positions: Vec<Option<DiskPosition>>,
    process: u64,
    queue: VecDeque<Vec<FamilyWrite>>,
    done: u64,
    failed: Option<Kind>,
}

/// What kind of error a failed write is.
type Kind = fn(Box<StateError>) -> Error;

impl SimTask {
    /// Writes that wait before the task waits too.
    const MUCH: usize = 4;

    fn write_one(&mut self) {
        let Some(writes) = self.queue.pop_front() else { return };
        let mut disk = self.disk.disk();
        if disk.process != self.process {
            return;
        }
        let mishaps = disk.mishaps;
        if self.disk.dice.per_mille(mishaps.failed) {
            self.failed = Some(self.disk.dice.pick(&[Error::State as Kind, Error::NoSpace]));
            return;
        }
        let Some(stored) = disk.tasks.get_mut(&self.task) else { return };
        for write in writes {
            let family = &self.families[write.family];
            let Some(stored) = stored.get_mut(&family.name) else { continue };
            let FamilyWrite { batches, position, expired, .. } = write;
            let change = Change { order: family.order, batches, position, expired };
            stored.now.change(&change);
            stored.unflushed.push(change);
            if self.disk.dice.per_mille(mishaps.flushed) {
                stored.unflushed.clear();
                stored.flushed = stored.now.clone();
            }
        }
        self.done += 1;
    }

    fn write_all(&mut self) -> Result<()> {
        while !self.queue.is_empty() && self.failed.is_none() {
            self.write_one();
        }
        self.outcome()
    }

    fn outcome(&self) -> Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind(Box::new(error(&self.task, "cannot be written")))))
    }
}

impl TaskDisk for SimTask {
    fn position(&self, family: usize) -> Option<DiskPosition> {
        self.positions[family]
    }

    fn rows(&self, family: usize) -> Box<dyn DiskRows> {
        let (disk, task, process) = (self.disk.clone(), self.task.clone(), self.process);
        Box::new(SimRows { disk, task, family: self.families[family].clone(), process })
    }

    fn clear(&mut self, family: usize) -> Result<()> {
        self.positions[family] = None;
        let mut disk = self.disk.disk();
        let stored = disk.tasks.get_mut(&self.task).and_then(|stored| stored.get_mut(&self.families[family].name));
        if let Some(stored) = stored {
            (stored.now, stored.flushed) = (Content::default(), Content::default());
            stored.unflushed.clear();
        }
        Ok(())
    }

    fn write(&mut self, writes: Vec<FamilyWrite>) {
        self.queue.push_back(writes);
    }

    fn written(&mut self) -> Result<u64> {
        let late = self.disk.disk().mishaps.late;
        while !self.queue.is_empty() && self.failed.is_none() && !self.disk.dice.per_mille(late) {
            self.write_one();
        }
        self.outcome().map(|()| self.done)
    }

    fn is_behind(&self) -> bool {
        self.queue.len() > Self::MUCH
    }

    fn close(&mut self) -> Result<()> {
        self.write_all()?;
        let mut disk = self.disk.disk();
        for stored in disk.tasks.get_mut(&self.task).into_iter().flat_map(BTreeMap::values_mut) {
            stored.unflushed.clear();
            stored.flushed = stored.now.clone();
        }
        Ok(())
    }
}

impl Drop for SimTask {
    fn drop(&mut self) {
        let _failed = self.write_all();
        let mut disk = self.disk.disk();
        if disk.process == self.process {
            disk.open.remove(&self.task);
        }
    }
}

struct SimRows {
    disk: SimDisk,
    task: String,
    family: Family,
    process: u64,
}

impl SimRows {
    /// The rows now. What is done with them may ask for rows again.
    fn rows<R>(&self, read: impl FnOnce(&BTreeMap<Vec<u8>, Row>) -> R) -> Result<R> {
        let mut disk = self.disk.disk();
        let is_damaged = disk.process == self.process && self.disk.dice.per_mille(disk.mishaps.damaged);
        if is_damaged {
            disk.damaged.insert(self.task.clone());
        }
        let stored = disk.tasks.get(&self.task).and_then(|stored| stored.get(&self.family.name));
        let stored = stored.filter(|_| disk.process == self.process && !disk.damaged.contains(&self.task));
        let stored = stored.ok_or_else(|| Error::Damaged(Box::new(error(&self.task, "is damaged"))))?;
        Ok(read(&stored.now.rows))
    }

    fn record<'a>(key: &'a [u8], row: &'a Row) -> ChangelogRecord<'a> {
        ChangelogRecord {
            key,
            value: row.value.as_deref(),
            timestamp: row.timestamp,
            headers: &row.headers,
            offset: -1,
        }
    }
}

impl DiskRows for SimRows {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        let mut disk_key = Vec::new();
        self.family.order.disk_key(key, 0, &mut disk_key);
        let Some(row) = self.rows(|rows| rows.get(&disk_key).cloned())? else { return Ok(false) };
        found(Self::record(key, &row)).map(|()| true)
    }

    fn is_empty(&self) -> Result<bool> {
        self.rows(BTreeMap::is_empty)
    }

    fn approximate_len(&self) -> usize {
        self.rows(BTreeMap::len).unwrap_or(0)
    }

    fn latest(&self) -> Option<Timestamp> {
        // It is in memory as long as the rows are open: asking for it finds no damage, or windows that are there would count as none.
        self.disk.disk().tasks.get(&self.task)?.get(&self.family.name)?.now.latest
    }

    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if is_empty_range(range) {
            return Ok(());
        }
        let mut found = self.rows(|rows| {
            rows.range::<[u8], _>(range).map(|(key, row)| (key.clone(), row.clone())).collect::<Vec<_>>()
        })?;
        if descending {
            found.reverse();
        }
        let mut changelog_key = Vec::new();
        for (key, found) in &found {
            changelog_key.clear();
            self.family.order.changelog_key(key, &mut changelog_key);
            if row(Self::record(&changelog_key, found))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
