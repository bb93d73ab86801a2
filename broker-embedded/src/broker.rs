//! The broker: topics, coordinator and groups on one data directory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millstream_core::{CommittedOffset, Isolation, LogError, Offset, Timestamp, TopicPartition, TopicSpec};

use crate::checkpoint::{Checkpoint, Point};
use crate::cleanable::Cleanable;
use crate::cleaner::{self, CleanerOptions};
use crate::clock_jumps::ClockJumps;
use crate::data_dir::DataDir;
use crate::fetch;
use crate::groups::Groups;
use crate::housekeeping::{Chores, Housekeeping};
use crate::internal_topic::{OFFSETS_TOPIC, STATE_TOPIC, check_foreign};
use crate::journal::Journal;
use crate::options::{BrokerOptions, Durability};
use crate::partition::Partition;
use crate::storage::Storage;
use crate::topics::Topics;
use crate::transactions::Coordinator;

/// An embedded Kafka log. Clones share it; it is closed when the last clone is dropped, or by [`Broker::close`].
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    dir: Option<DataDir>,
    topics: Arc<Topics>,
    housekeeping: Mutex<Option<Housekeeping>>,
    // Locked before a partition, never after one; before `checkpointing` and `groups`.
    coordinator: Mutex<Coordinator>,
    /// Locked before the topics, never after them.
    groups: Arc<Mutex<Groups>>,
    /// Held for the length of a checkpoint.
    checkpointing: Mutex<()>,
    /// Held for the length of a round of compaction; before `checkpointing`.
    cleaning: Mutex<()>,
    /// Tells whether what is too old by the clock is so.
    clock: Mutex<ClockJumps>,
    /// Whether it was opened to the end. What was not may lack what the journal has, and must not say otherwise.
    opened: AtomicBool,
}

const INTERNAL_SEGMENT_BYTES: u64 = 16 << 20;

impl Broker {
    /// Opens a data directory, recovering what an unclean end has left.
    ///
    /// # Errors
    /// When the directory is in use, cannot be written, has a newer format, or holds damage that is not a torn end.
    pub fn open(options: BrokerOptions) -> Result<Broker, LogError> {
        let files = options.files.clone();
        let dir = match options.durability {
            Durability::Memory => None,
            Durability::Os | Durability::Disk => Some(DataDir::open(&*files, &options.data_dir)?),
        };
        let checkpoint =
            dir.as_ref().map_or_else(|| Ok(Checkpoint::default()), |d| Checkpoint::read(&*files, &d.path))?;
        let journal = match &dir {
            Some(dir) if options.durability == Durability::Disk => Some(Journal::new(files.clone(), &dir.path)?),
            _ => None,
        };
        let storage = Arc::new(Storage::new(files, journal, options.threads, options.checkpoint_bytes));
        let root = dir.as_ref().map(|dir| dir.path.clone());
        let topics = Arc::new(Topics::load(root, options, storage.clone(), &checkpoint)?);
        let groups = Arc::<Mutex<Groups>>::default();
        let clock = Mutex::new(ClockJumps::new(topics.now()));
        let inner = Arc::new(Inner {
            dir,
            topics: topics.clone(),
            housekeeping: Mutex::default(),
            coordinator: Mutex::new(Coordinator::new(topics.clone(), groups.clone())),
            groups,
            checkpointing: Mutex::default(),
            cleaning: Mutex::default(),
            clock,
            opened: AtomicBool::new(false),
        });
        inner.replay(&checkpoint)?;
        if topics.options.threads {
            let cleaned = Arc::downgrade(&inner);
            let clean = move || cleaned.upgrade().map(|broker| broker.clean());
            *inner.housekeeping() =
                Some(Housekeeping::start(&storage, &topics.options, clean, Arc::downgrade(&inner))?);
        }
        for topic in [OFFSETS_TOPIC, STATE_TOPIC] {
            if topics.partition_count(topic).is_none() {
                // Closed early, so that what a start reads is short.
                let segment_bytes = topics.options.segment_bytes.clamp(1024, INTERNAL_SEGMENT_BYTES);
                let configs = [("cleanup.policy", "compact".to_owned()), ("segment.bytes", segment_bytes.to_string())];
                let configs = configs.map(|(key, value)| (key.to_owned(), value)).into();
                topics.create_unchecked(&TopicSpec { name: topic.to_owned(), partitions: 1, configs })?;
            }
        }
        inner.load_state()?;
        inner.opened.store(true, Ordering::SeqCst);
        Ok(Broker { inner })
    }

    /// Writes what is only in memory and marks the directory as left in order. Later calls fail with
    /// [`LogError::Closed`].
    ///
    /// # Errors
    /// When that cannot be written; the next open then recovers.
    pub fn close(&self) -> Result<(), LogError> {
        self.inner.close()
    }

    /// Deletes what is older, or more, than topics keep, compacts what is worth it, makes a checkpoint when enough was
    /// written, aborts transactions that have reached their time-out, and forgets idle producers. Threads of the broker's
    /// own do that; without them ([`BrokerOptions::threads`]) it must be called now and then, and also syncs the journal.
    ///
    /// When the wall clock has jumped by more than an hour, nothing is deleted, compacted or forgotten until it is back, or has
    /// stayed there for an hour.
    ///
    /// # Errors
    /// When a file cannot be written, synced or removed.
    pub fn tick(&self) -> Result<(), LogError> {
        if let Some(journal) = self.storage().journal.as_ref().filter(|_| !self.topics().options.threads) {
            journal.sync()?;
        }
        self.inner.tidy()?;
        self.inner.clean()
    }

    /// Appends a batch from outside, after a look at all of it, and returns the offset of its first record when it is
    /// kept as the durability promises.
    ///
    /// # Errors
    /// [`LogError::Refused`] when anything is wrong with it; nothing has been appended then. After [`LogError::Full`] it may have
    /// been, and is kept when there is space.
    pub fn append(&self, to: &TopicPartition, batch: &[u8]) -> Result<Offset, LogError> {
        self.storage().check_open()?;
        let offset = self.topics().foreign_partition(to)?.append_checked(batch)?;
        self.storage().wait(self.storage().position())?;
        Ok(offset)
    }

    /// A topic's configuration, as it was given; `None` if there is no such topic.
    pub fn topic_config(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        self.topics().config(topic)
    }

    /// Deletes a topic, its records, and the positions that groups have in it.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`], [`LogError::InternalTopic`], or when its files cannot be removed. [`LogError::Full`] also when it is deleted, and that its
    /// positions are too is not synced yet.
    pub fn delete_topic(&self, topic: &str) -> Result<(), LogError> {
        self.storage().check_open()?;
        check_foreign(topic)?;
        // No commit is under way, with positions in a topic that goes, or in one that is made anew at once.
        let no_commit = self.coordinator();
        // Neither a checkpoint nor a compacted segment is under way to a folder that goes.
        let neither = self.inner.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = self.groups();
        self.topics().delete(topic)?;
        // After a crash before this the next start forgets them: they are of another topic than there is, or of none.
        self.inner.forget_positions(&mut groups)?;
        // Nobody else is to wait for the disk.
        drop((groups, neither, no_commit));
        self.storage().wait(self.storage().position())
    }

    /// Every group's committed positions.
    pub fn group_offsets(&self) -> Vec<(String, TopicPartition, CommittedOffset)> {
        let groups = self.groups();
        let mut all: Vec<_> = groups
            .all(self.topics())
            .map(|((group, partition), offset)| (group.clone(), partition.clone(), offset.clone()))
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.inner.topics
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.inner.topics.storage
    }

    pub(crate) fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.inner.coordinator()
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.inner.groups()
    }
}

impl Inner {
    /// Applies what the journal has beyond the checkpoint, and makes that durable before anything new is accepted.
    fn replay(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let journaled = self.storage().journal.is_some() || checkpoint.journal.is_some();
        let partitions: BTreeMap<(u64, i32), Arc<Partition>> =
            self.topics.partitions().into_iter().map(|p| ((p.topic_id, p.id.partition), p)).collect();
        Journal::read(&*self.storage().files, &dir.path, checkpoint, |entry| {
            // A topic that is not there was deleted later.
            partitions.get(&(entry.topic, entry.partition)).map_or(Ok(()), |p| p.replay(entry.batch))
        })?;
        if journaled { self.checkpoint() } else { Ok(()) }
    }

    fn load_state(&self) -> Result<(), LogError> {
        let mut coordinator = self.coordinator();
        self.read_all(STATE_TOPIC, |records| coordinator.load(records))?;
        coordinator.finish_open()?;
        drop(coordinator);
        let mut groups = self.groups();
        self.read_all(OFFSETS_TOPIC, |records| groups.load(records, &self.topics))?;
        // They count for nothing: what cannot be deleted now is at the next start.
        let _tried_again = self.forget_positions(&mut groups);
        Ok(())
    }

    /// Deletes the positions in topics that are not there any more.
    fn forget_positions(&self, groups: &mut Groups) -> Result<(), LogError> {
        let batches = groups.forget_deleted(&self.topics, self.topics.now().wall);
        batches.into_iter().try_for_each(|batch| self.topics.append_internal(OFFSETS_TOPIC, batch))
    }

    fn read_all(&self, topic: &str, mut take: impl FnMut(millstream_wire::Records)) -> Result<(), LogError> {
        let partition = self.topics.partition(&TopicPartition::new(topic, 0))?;
        let mut offset = partition.start();
        loop {
            let found = fetch::fetch(&partition, offset, 1 << 20, Isolation::ReadCommitted)?;
            found.batches.into_iter().for_each(&mut take);
            if found.position == offset {
                return Ok(());
            }
            offset = found.position;
        }
    }

    fn storage(&self) -> &Storage {
        &self.topics.storage
    }

    fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn housekeeping(&self) -> MutexGuard<'_, Option<Housekeeping>> {
        self.housekeeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends transactions that take too long, forgets producers and transactional ids that have been idle for too long, deletes
    /// what is too old, and makes a checkpoint if enough was written.
    fn tidy(&self) -> Result<(), LogError> {
        self.storage().check_open()?;
        // What fails, for lack of space perhaps, must not keep the rest from being deleted and synced.
        let mut ended = self.coordinator().end_overdue();
        if self.trusts_clock() {
            let after = self.topics.options.producer_id_expiration.as_millis() as Timestamp;
            let (now, partitions) = (self.topics.now().wall, self.topics.partitions());
            partitions.iter().for_each(|p| p.state().producers.forget_idle(now, after));
            ended = ended.and(self.coordinator().forget_unused(now));
            for partition in partitions {
                ended = ended.and(partition.retain(now));
            }
        }
        for partition in self.topics.partitions() {
            match partition.remove_deleted(|| self.checkpoint()) {
                // Deleted meanwhile as a whole.
                Err(LogError::UnknownTopic(_)) => {}
                removed => ended = ended.and(removed),
            }
        }
        if self.storage().wants_checkpoint() { ended.and(self.checkpoint()) } else { ended }
    }

    /// Whether the wall clock may say what is too old.
    fn trusts_clock(&self) -> bool {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).is_trusted(self.topics.now())
    }

    /// Compacts what is worth it, the dirtiest first. What fails does not hold up the others.
    fn clean(&self) -> Result<(), LogError> {
        // Tombstones that are too old go with it.
        if !self.trusts_clock() {
            return Ok(());
        }
        let _one_at_a_time = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        let options =
            CleanerOptions { now: self.topics.now().wall, buffer_bytes: self.topics.options.cleaner_buffer_bytes };
        let mut put_off: Vec<Arc<Partition>> = Vec::new();
        let (mut result, mut cleaned) = (Ok(()), false);
        while self.storage().failure().is_none() && !self.storage().is_closing() {
            let looked =
                self.topics.partitions().into_iter().filter(|p| !put_off.iter().any(|other| Arc::ptr_eq(p, other)));
            let found = looked.filter_map(|p| Some((cleaner::look(&p, options.now)?, p)));
            let rank = |c: &Cleanable| (c.overdue, c.dirty_ratio);
            let Some((cleanable, partition)) =
                found.max_by(|(a, _), (b, _)| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal))
            else {
                break;
            };
            // A crash replays the journal onto what the last checkpoint has synced: that must be there as it was.
            if partition.dir.is_some() && cleanable.until > partition.state().point {
                self.checkpoint()?;
            }
            match cleaner::clean(&partition, cleanable.until, &options, &self.checkpointing) {
                Ok(true) => cleaned = true,
                Ok(false) => put_off.push(partition),
                Err(error) => {
                    let is_there = self.topics.partitions().iter().any(|p| Arc::ptr_eq(p, &partition));
                    result = result.and(if is_there { Err(error) } else { Ok(()) });
                    put_off.push(partition);
                }
            }
        }
        // With the indexes of the new segments.
        if cleaned && self.storage().failure().is_none() { result.and(self.checkpoint()) } else { result }
    }

    /// Syncs all segments and starts a new journal. The order matters: the journal goes on in a new file, so that all
    /// entries of the old one are in segments; these are synced; then the new journal, so that nothing in a segment
    /// outlives what came before it elsewhere; then the checkpoint says so, and what it makes superfluous is removed.
    fn checkpoint(&self) -> Result<(), LogError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let (storage, files) = (self.storage(), &*self.storage().files);
        storage.count_from(0);
        let checkpoint = || {
            let journal = storage.journal.as_ref().map(Journal::rotate).transpose()?;
            let mut checkpoint = Checkpoint { journal, heads: true, ..Checkpoint::default() };
            let partitions = self.topics.partitions();
            for partition in &partitions {
                let point = Point { end: partition.checkpoint()?, start: partition.start() };
                checkpoint.points.insert((partition.topic_id, partition.id.partition), point);
            }
            storage.journal.as_ref().map_or(Ok(()), Journal::sync)?;
            checkpoint.write(files, &dir.path)?;
            match journal {
                Some(number) => Journal::remove_below(files, &dir.path, number)?,
                None => Journal::remove(files, &dir.path)?,
            }
            partitions.iter().try_for_each(|partition| {
                let point = checkpoint.points.get(&(partition.topic_id, partition.id.partition));
                point.map_or(Ok(()), |point| partition.checkpointed(point.end))
            })
        };
        checkpoint().inspect_err(|_| storage.count_from(self.topics.options.checkpoint_bytes))
    }

    fn close(&self) -> Result<(), LogError> {
        if !self.storage().close() {
            return Ok(());
        }
        let closed = self.end();
        // Whoever still waits for a sync: there is none any more.
        self.storage().fail(LogError::Closed);
        closed
    }

    /// Writes what is only in memory, when nothing more is taken.
    fn end(&self) -> Result<(), LogError> {
        if let Some(housekeeping) = self.housekeeping().take() {
            housekeeping.join();
        }
        if !self.opened.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.storage().failure().map_or(Ok(()), Err)?;
        if std::thread::panicking() {
            // Of its own threads perhaps, in the middle of a change: the next start reads what was written before.
            return Ok(());
        }
        self.checkpoint()?;
        // Nothing is missing from the segments: the next start needs no journal.
        let (Some(dir), Some(_)) = (&self.dir, &self.storage().journal) else { return Ok(()) };
        let files = &*self.storage().files;
        let checkpoint = Checkpoint::read(files, &dir.path)?;
        Checkpoint { journal: None, ..checkpoint }.write(files, &dir.path)?;
        Journal::remove(files, &dir.path)
    }
}

impl Chores for Weak<Inner> {
    fn plan(&self, longest: Duration) -> Option<Duration> {
        self.upgrade().map(|broker| broker.coordinator().plan(longest))
    }

    fn end_overdue(&self) -> Option<Result<(), LogError>> {
        self.upgrade().map(|broker| broker.storage().check_open().and_then(|()| broker.coordinator().end_overdue()))
    }

    fn tidy(&self) -> Option<Result<(), LogError>> {
        self.upgrade().map(|broker| Inner::tidy(&broker))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What could not be written is recovered by the next open.
        let _recovered_later = self.close();
    }
}
