//! The commit of a thread: when it is due, the order in which it is made, and its outcome.

use std::time::Duration;

use super::StreamThread;
use super::producer_options;
use crate::error::Result;
use crate::log::{CommitOutcome, CommittedOffset, GroupOffsets, LogError, TopicPartition};
use crate::task::Task;
use crate::time::Now;
use crate::topic_name::TopicName;

/// The commit that is under way, if any, with its positions.
pub(super) enum Commit {
    Idle,
    UnderWay(Vec<(TopicPartition, CommittedOffset)>),
    /// It may have been done or not: the log has to be asked.
    Unknown(Vec<(TopicPartition, CommittedOffset)>),
}

/// `repartition.purge.interval.ms`.
pub(super) const PURGE_INTERVAL: Duration = Duration::from_secs(30);

impl StreamThread {
    /// Commits now, if there is anything to commit, and waits for the outcome. `false`: everything was rolled back, and the next
    /// step goes on.
    ///
    /// # Errors
    /// When it cannot be done, and would not be the next time.
    pub fn commit_now(&mut self, now: Now) -> Result<bool> {
        self.try_commit_now(now).or_else(|error| self.recover(error, now).map(|_| false))
    }

    fn try_commit_now(&mut self, now: Now) -> Result<bool> {
        if self.broken {
            // What the last step failed on has not been undone: its producer may be no good any more.
            self.mend(now.wall)?;
            return Ok(false);
        }
        if !self.settle_blocking(now)? {
            return Ok(false);
        }
        if self.tasks.iter().any(Task::needs_commit) {
            self.exchange_with_disk(now)?;
            self.begin_commit(now)?;
            return self.settle_blocking(now);
        }
        Ok(true)
    }

    /// Whether a commit would write anything, or the outcome of one is open.
    pub fn needs_commit(&self) -> bool {
        matches!(self.commit, Commit::UnderWay(_)) || self.tasks.iter().any(Task::needs_commit)
    }

    /// Takes the outcome of the commit under way, if there is one. `false`: everything was rolled back.
    pub(super) fn settle(&mut self, now: Now) -> Result<bool> {
        if !matches!(self.commit, Commit::UnderWay(_)) {
            return Ok(true);
        }
        let Some(outcome) = self.producer.poll_commit() else { return Ok(true) };
        let Commit::UnderWay(offsets) = std::mem::replace(&mut self.commit, Commit::Idle) else { return Ok(true) };
        match outcome {
            CommitOutcome::Done => {
                self.tasks.iter_mut().for_each(Task::committed);
                self.rebuilt = 0;
                self.purge(now, &offsets)?;
            }
            CommitOutcome::Failed(error) if error.is_task_migrated() => return Err(error.into()),
            // Trying again at once would not make space.
            CommitOutcome::Failed(error @ LogError::Full { .. }) => return Err(error.into()),
            CommitOutcome::Failed(_) => {
                self.rollback(now.wall)?;
                return Ok(false);
            }
            CommitOutcome::Unknown(_) => {
                self.commit = Commit::Unknown(offsets);
                if !self.renew()? {
                    self.rollback(now.wall)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Gives what was committed to the disk, before the next commit begins.
    pub(super) fn exchange_with_disk(&mut self, now: Now) -> Result<()> {
        let (admin, producer) = (self.shared.log.admin(), self.producer.as_ref());
        self.tasks.iter_mut().try_for_each(|task| task.exchange_with_disk(admin, producer, now.wall))
    }

    /// Takes a new producer of the same id, which ends what the old one had under way, and compares what the group has with what
    /// the tasks gave it: a commit of unknown outcome was done, `true`; or all is as after the last one; or another has taken
    /// over and gone on from there, and what it has done counts, so that the tasks start anew. After an error it is to be
    /// called again: the old producer may be fenced.
    pub(super) fn renew(&mut self) -> Result<bool> {
        self.producer = self.shared.log.producer(&producer_options(&self.shared, &self.name), self.wakeup.clone())?;
        let mut done = false;
        // A start compares by itself.
        if self.running {
            let found = self.group_positions()?;
            let has = |wanted: &[(TopicPartition, CommittedOffset)]| {
                found.iter().map(Option::as_ref).eq(wanted.iter().map(|(_, offset)| Some(offset)))
            };
            done = matches!(&self.commit, Commit::Unknown(offsets) if has(offsets));
            if done {
                self.tasks.iter_mut().for_each(Task::committed);
            } else if !found.iter().eq(self.tasks.iter().flat_map(Task::kept)) {
                self.rebuild();
            }
        }
        self.commit = Commit::Idle;
        Ok(done)
    }

    /// Forgets records of repartition topics that are committed: nobody else reads them (semantics.md 11).
    pub(super) fn purge(&mut self, now: Now, committed: &[(TopicPartition, CommittedOffset)]) -> Result<()> {
        if now.ticks.saturating_sub(self.last_purge) < PURGE_INTERVAL {
            return Ok(());
        }
        self.last_purge = now.ticks;
        let names = self.shared.topology.repartitions().iter().map(|r| TopicName::Repartition(r.name.clone()));
        let names: Vec<String> = names.map(|n| n.resolve(&self.shared.config.application_id)).collect();
        for (partition, offset) in committed.iter().filter(|(p, _)| names.iter().any(|n| *n == *p.topic)) {
            self.shared.log.admin().delete_records(partition, offset.offset)?;
        }
        Ok(())
    }

    /// As [`StreamThread::settle`], when the outcome is there.
    pub(super) fn settle_blocking(&mut self, now: Now) -> Result<bool> {
        while matches!(self.commit, Commit::UnderWay(_)) {
            if !self.settle(now)? {
                return Ok(false);
            }
            if matches!(self.commit, Commit::UnderWay(_)) {
                self.wakeup.wait(Duration::from_millis(5));
            }
        }
        Ok(true)
    }

    /// Hands the batches over, unless a commit is under way.
    pub(super) fn send(&mut self) -> Result<()> {
        if !matches!(self.commit, Commit::Idle) {
            return Ok(());
        }
        self.unsent_since = None;
        let producer = &mut self.producer;
        for task in &mut self.tasks {
            task.cx().collector.take(true, |to, batch| Ok(producer.send(&to, batch)?))?;
        }
        Ok(())
    }

    /// `false`: everything was rolled back, and is to be done again.
    pub(super) fn commit_if_due(&mut self, now: Now) -> Result<bool> {
        if !matches!(self.commit, Commit::Idle) || !self.commit_is_due(now) {
            return Ok(true);
        }
        self.begin_commit(now)?;
        let is_done_or_open = self.settle(now)?;
        self.exchange_with_disk(now)?;
        Ok(is_done_or_open)
    }

    pub(super) fn commit_is_due(&self, now: Now) -> bool {
        let config = &self.shared.config;
        let due = now.ticks.saturating_sub(self.last_commit) >= config.commit_interval
            || self.span_is_full
            || self.tasks.iter().any(Task::wants_commit)
            || self.tasks.iter().map(Task::dirty_bytes).sum::<usize>() > config.uncommitted_bytes / 2;
        due && self.tasks.iter().any(Task::needs_commit)
    }

    /// The order of a commit, written once: (1) nodes forward what they held back, (2) changelogs are sent, (3) with
    /// every other batch; (4) then the offsets, which the log writes only when everything before is acknowledged.
    /// (5) The stores keep their committed rows until [`StreamThread::settle`] sees `Done`.
    pub(super) fn begin_commit(&mut self, now: Now) -> Result<()> {
        self.last_commit = now.ticks;
        (self.uncommitted_since, self.span_is_full) = (None, false);
        let mut offsets = Vec::new();
        for task in &mut self.tasks {
            task.flush_nodes()?;
        }
        self.send()?;
        let producer = &mut self.producer;
        for task in &mut self.tasks {
            task.flush_stores(|to, batch| Ok(producer.send(to, batch)?))?;
            offsets.extend(task.prepare());
        }
        #[cfg(feature = "plant")]
        if crate::Plant::DoubleApply.is_set() && now.wall % 4 != 0 {
            self.producer.commit(GroupOffsets { group: self.shared.config.application_id.clone(), offsets: vec![] });
            self.commit = Commit::UnderWay(offsets);
            return Ok(());
        }
        self.producer
            .commit(GroupOffsets { group: self.shared.config.application_id.clone(), offsets: offsets.clone() });
        self.commit = Commit::UnderWay(offsets);
        Ok(())
    }
}
