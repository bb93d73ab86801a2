//! The stores of a task that have their rows on disk: what was committed is written there, and found there at a start.
//!
//! ```text
//!   flush: batches kept ─► commit done: held, with positions ─► log keeps it: given to the disk ─► written: rows may leave
//!                 └─► rollback: dropped
//! ```
//!
//! The rows of a store are its changelog's batches, so what a commit writes to the log and to the disk cannot differ.

use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};

use millstream_wire::{BatchBuilder, Records};

use crate::disk::{DiskPosition, Expired, Family, FamilyWrite, StateDisk, TaskDisk};
use crate::error::Result;
use crate::log::{Admin, Isolation, LogError, Offset, Producer, TopicPartition};
use crate::store::{StateStore, StoreInstance};
use crate::time::Timestamp;
use crate::topology_index::StoreId;

/// Kafka's default of `delete.retention.ms`, a day.
const DELETE_RETENTION: Timestamp = 24 * 3_600_000;

/// How far a position may be ahead of the clock: clocks are set back by so much while nothing is wrong.
const SKEW: Timestamp = 60_000;

/// Bytes of a restore that are written at once.
const RESTORED_AT_ONCE: usize = 64 << 20;

/// The stores of a task on disk.
pub(crate) struct DiskStores {
    disk: Box<dyn TaskDisk>,
    families: Vec<OnDisk>,
    /// Commits that are done, whether the disk was given them or not.
    commits: u64,
    /// Writes for commits that the log may yet lose. A disk that had their rows would stand for other records than those
    /// that then take their offsets.
    held: VecDeque<Held>,
    /// Writes that the disk was given.
    given: u64,
    /// Of the writes that are not done yet: their number, and the commits that they reach up to.
    waiting: VecDeque<(u64, u64)>,
    /// Commits that are on disk.
    written: u64,
}

/// A write that waits for the log.
struct Held {
    /// The commit in the log, as its producer names it.
    commit: u64,
    writes: Vec<FamilyWrite>,
    /// The commits that it reaches up to.
    commits: u64,
}

/// A store with rows on disk.
struct OnDisk {
    /// Index among the task's stores.
    store: usize,
    /// The topic that its position is in.
    topic: TopicPartition,
    /// Its identity, as in [`DiskPosition`].
    changelog: u128,
    /// It looks its rows up there; otherwise it holds all of them.
    reads: bool,
    /// Where restoring goes on; `None`: at the topic's start.
    position: Option<Offset>,
    /// Batches of the commit that is under way.
    flushed: Vec<Records>,
    /// Batches of commits that are done, for the disk.
    committed: Vec<Records>,
}

impl DiskStores {
    /// Opens the rows of a task's stores: each comes with the topic that restores it and how far that reaches. Stores that hold all
    /// of their rows get those that there are.
    pub(crate) fn open(
        disk: &dyn StateDisk,
        partition: i32,
        stores: Vec<(usize, &str, &StoreInstance, TopicPartition, Offset)>,
        admin: &dyn Admin,
        wall: Timestamp,
    ) -> Result<Option<Self>> {
        let mut known = Vec::new();
        for (store, name, instance, topic, end) in stores {
            // A log that knows no identities: a topic made anew is found out only by its end.
            let changelog =
                admin.topic_id(&topic.topic)?.unwrap_or(0) ^ u128::from(topic.partition.unsigned_abs()) << 96;
            let store =
                OnDisk { store, topic, changelog, reads: false, position: None, flushed: vec![], committed: vec![] };
            known.push((store, name, instance, end));
        }
        let Some(first) = known.iter().map(|(_, name, _, _)| *name).min() else { return Ok(None) };
        let families = known.iter().map(|(_, name, instance, _)| Family {
            name: (*name).to_owned(),
            order: instance.state.borrow().row_order(),
        });
        let families: Vec<Family> = families.collect();
        let mut task = disk.open(&format!("{first}-{partition}"), families.clone())?;
        let mut on_disk = Vec::new();
        for (family, (mut store, _, instance, end)) in known.into_iter().enumerate() {
            let found = task.position(family);
            if let Some(p) = found.filter(|p| p.changelog == store.changelog && p.offset <= end) {
                // How old one from the future is nobody knows: the clock was wrong then, or is now.
                let age = wall.saturating_sub(p.written);
                let is_young = age >= -SKEW && age < keeps_deletions(&store.topic, admin)?;
                let is_whole = p.offset == end || is_young;
                store.position = is_whole.then_some(p.offset);
            }
            if found.is_some() && store.position.is_none() {
                task.clear(family)?;
            }
            let mut state = instance.state.borrow_mut();
            store.reads = state.attach(task.rows(family), disk.budget());
            if !store.reads && store.position.is_some() {
                load(task.as_ref(), family, &mut *state)?;
            }
            on_disk.push(store);
        }
        Ok(Some(DiskStores {
            disk: task,
            families: on_disk,
            commits: 0,
            held: VecDeque::new(),
            given: 0,
            waiting: VecDeque::new(),
            written: 0,
        }))
    }

    /// Whether a store has its rows here.
    pub(crate) fn has(&self, store: usize) -> bool {
        self.family(store).is_some()
    }

    fn family(&self, store: usize) -> Option<usize> {
        self.families.iter().position(|f| f.store == store)
    }

    /// Where restoring a store goes on.
    pub(crate) fn position(&self, store: usize) -> Option<Offset> {
        self.families[self.family(store)?].position
    }

    /// Whether a store reads its rows from here, so that it is not to be handed them.
    pub(crate) fn reads(&self, store: usize) -> bool {
        self.family(store).is_some_and(|family| self.families[family].reads)
    }

    /// Writes what a restore has read for a store, up to a position; it may wait for more, unless it is the last.
    pub(crate) fn restored(
        &mut self,
        store: usize,
        batches: Vec<Records>,
        offset: Offset,
        is_last: bool,
        producer: &dyn Producer,
        wall: Timestamp,
    ) {
        let Some(family) = self.family(store) else { return };
        let on_disk = &mut self.families[family];
        on_disk.committed.extend(batches);
        // Much at once is written in one piece, which costs little of what many pieces do.
        if !is_last && on_disk.committed.iter().map(Records::bytes).sum::<usize>() < RESTORED_AT_ONCE {
            return;
        }
        let position = DiskPosition { changelog: on_disk.changelog, offset, written: wall };
        let batches = std::mem::take(&mut on_disk.committed);
        let writes = vec![FamilyWrite { family, batches, position, expired: Expired::Nothing }];
        self.held.push_back(Held { commit: producer.last_commit(), writes, commits: self.commits });
    }

    /// Whether everything that was given is on disk.
    pub(crate) fn is_written(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }

    /// Whether so much waits for the log that a restore should wait too.
    pub(crate) fn holds_much(&self) -> bool {
        self.held.len() > 8
    }

    /// Keeps a batch of a store's flush until its commit is done.
    pub(crate) fn keep(&mut self, store: usize, batch: &BatchBuilder) {
        if let Some(family) = self.family(store) {
            self.families[family].flushed.push(batch.clone().into_records(0));
        }
    }

    /// The commit is not done: nothing of it goes to the disk.
    pub(crate) fn rollback(&mut self) {
        self.families.iter_mut().for_each(|family| family.flushed.clear());
    }

    /// The commit is done.
    pub(crate) fn committed(&mut self) {
        self.families.iter_mut().for_each(|family| family.committed.append(&mut family.flushed));
        self.commits += 1;
    }

    /// Gives the disk what was committed and is kept, and tells the stores what is written. To be called before another
    /// commit begins, or positions would stand for it too. `inputs`: how far the task's input is committed.
    ///
    /// # Errors
    /// When the log cannot say how far a changelog reaches: what was committed is kept for the next call. When the disk
    /// has failed: the task must be opened anew.
    pub(crate) fn exchange(
        &mut self,
        stores: &[(StoreId, StoreInstance, Option<TopicPartition>)],
        inputs: &dyn Fn(&TopicPartition) -> Option<Offset>,
        admin: &dyn Admin,
        producer: &dyn Producer,
        wall: Timestamp,
    ) -> Result<()> {
        let held = self.held.back().map(|held| held.commits);
        if held.or(self.waiting.back().map(|(_, commits)| *commits)).unwrap_or(self.written) < self.commits {
            let writes = self.take_committed(stores, inputs, admin, wall)?;
            self.held.push_back(Held { commit: producer.last_commit(), writes, commits: self.commits });
        }
        while let Some(held) = self.held.front()
            && producer.is_kept(held.commit)?
        {
            self.held.pop_front().into_iter().for_each(|held| self.give(held.writes, held.commits));
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let done = self.disk.written()?;
        while let Some((_, commits)) = self.waiting.pop_front_if(|(write, _)| *write <= done) {
            for _ in self.written..commits {
                self.families.iter().for_each(|family| stores[family.store].1.state.borrow_mut().written());
            }
            self.written = commits;
        }
        Ok(())
    }

    /// What was committed since the last call, with the positions that it reaches up to.
    fn take_committed(
        &mut self,
        stores: &[(StoreId, StoreInstance, Option<TopicPartition>)],
        inputs: &dyn Fn(&TopicPartition) -> Option<Offset>,
        admin: &dyn Admin,
        wall: Timestamp,
    ) -> Result<Vec<FamilyWrite>> {
        let changed = self.families.iter().filter(|family| !family.committed.is_empty());
        // Nobody else writes a task's changelog: whoever does has taken over, which the log says before it is written.
        let offset = |topic| inputs(topic).map_or_else(|| admin.end_offset(topic, Isolation::ReadCommitted), Ok);
        let offsets: Vec<Offset> = changed.map(|family| offset(&family.topic)).collect::<Result<_, LogError>>()?;
        let changed = self.families.iter_mut().enumerate().filter(|(_, family)| !family.committed.is_empty());
        let writes = changed.zip(offsets).map(|((index, family), offset)| FamilyWrite {
            family: index,
            batches: std::mem::take(&mut family.committed),
            position: DiskPosition { changelog: family.changelog, offset, written: wall },
            expired: stores[family.store].1.state.borrow_mut().expired(),
        });
        Ok(writes.collect())
    }

    fn give(&mut self, writes: Vec<FamilyWrite>, commits: u64) {
        self.disk.write(writes);
        self.given += 1;
        self.waiting.push_back((self.given, commits));
    }

    /// Whether so much waits to be written that processing should wait too.
    pub(crate) fn is_behind(&self) -> bool {
        self.disk.is_behind()
    }

    /// Sees to it that the next start has nothing to read again.
    ///
    /// # Errors
    /// When the disk has failed: the next start reads more of the changelog.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.disk.close()
    }
}

/// For how long a changelog keeps deletions, in milliseconds: an older position does not know of those that are gone.
fn keeps_deletions(changelog: &TopicPartition, admin: &dyn Admin) -> Result<Timestamp> {
    let configs = admin.topic_configs(&changelog.topic)?;
    Ok(configs.get("delete.retention.ms").and_then(|ms| ms.parse().ok()).unwrap_or(DELETE_RETENTION))
}

/// Hands a store all of its rows.
fn load(disk: &dyn TaskDisk, family: usize, state: &mut dyn StateStore) -> Result<()> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    disk.rows(family).scan(all, false, &mut |record| state.restore(record).map(ControlFlow::Continue))
}
