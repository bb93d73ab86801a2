//! Rebuilding stores from their changelogs when tasks start, batch by batch between steps.
//!
//! A task whose rows are on disk reads only what is missing there. Runs to the end offset that it read at its start, over markers and compacted gaps (DESIGN 3.7).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use millstream_wire::{BatchBuilder, Records};

use crate::changelog_record::ChangelogRecord;
use crate::disk_stores::DiskStores;
use crate::error::{Error, Result, StateError};
use crate::headers::Headers;
use crate::log::{CommittedOffset, Consumer, ConsumerOptions, Isolation, LogError, Offset, Producer, TopicPartition};
use crate::rebuilt_from::{Row, RowOf};
use crate::restore_listener::StateRestoreListener;
use crate::task::Task;
use crate::thread_context::ThreadContext;
use crate::time::{LATEST_TIME, Timestamp};
use crate::wakeup::Wakeup;

/// The restore of a thread's tasks.
pub(crate) struct Restore {
    /// Reads changelogs, and reads topics that stand for one: these as the tasks do.
    consumers: [Box<dyn Consumer>; 2],
    changelogs: Vec<Changelog>,
    /// The positions that the rows belong to: what the group had of every input of every task before the ends were read.
    positions: Vec<Option<CommittedOffset>>,
    listener: Option<Arc<dyn StateRestoreListener>>,
}

struct Changelog {
    task: usize,
    store: usize,
    name: String,
    topic: TopicPartition,
    /// Among those of its consumer.
    slot: usize,
    end: Offset,
    done: bool,
    /// Records so far.
    restored: u64,
    /// How the records of a topic become rows, if it stands for the changelog.
    row: Option<RowOf>,
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to read.
    Reading,
    /// Nothing can be read before the disk, or the log, has what it was given.
    Waiting,
    /// All is restored.
    Done,
}

impl Restore {
    const BYTES_PER_STEP: usize = 4 << 20;

    /// Opens what the tasks have on disk and finds what is missing there. `positions`: what the group has of every input of every
    /// task; should it have others at the end, somebody has gone on meanwhile, and the rows are not all.
    pub(crate) fn new(
        shared: &ThreadContext,
        name: &str,
        tasks: &mut [Task],
        positions: Vec<Option<CommittedOffset>>,
        wakeup: Arc<Wakeup>,
        wall: Timestamp,
        listener: Option<Arc<dyn StateRestoreListener>>,
    ) -> Result<Self> {
        let as_tasks = shared.consumer_options(&format!("{name}-restore"));
        let committed = ConsumerOptions { isolation: Isolation::ReadCommitted, ..as_tasks.clone() };
        let mut changelogs = Vec::new();
        let mut assignments: [Vec<(TopicPartition, Offset)>; 2] = Default::default();
        let admin = shared.log.admin();
        let mut of_others = positions.as_slice();
        for (task, t) in tasks.iter_mut().enumerate() {
            let mut restored = Vec::new();
            let (of_task, rest) = of_others.split_at(t.inputs.len());
            of_others = rest;
            for (store, (id, _, changelog)) in t.stores.iter().enumerate() {
                if let Some(changelog) = changelog {
                    let end = admin.end_offset(changelog, Isolation::ReadCommitted)?;
                    restored.push((store, changelog.clone(), end, None));
                }
                let Some(from) = &shared.topology.stores()[id.0].rebuilt_from else { continue };
                let mut inputs = t.inputs.iter().map(|i| &i.partition).zip(of_task);
                let Some((input, committed)) = inputs.find(|(p, _)| *p.topic == *from.topic) else { continue };
                // Not to the topic's end: what was not processed yet is not a row yet. That may be before the position, of a log
                // that was cut. A transaction that is open before it is waited for.
                let end = admin.end_offset(input, Isolation::ReadUncommitted)?;
                let end = committed.as_ref().map_or(0, |committed| committed.offset.min(end));
                restored.push((store, input.clone(), end, Some(from.row.clone())));
            }
            for disk in shared.config.disks(shared.topology.places()) {
                let place = |store: usize| &shared.topology.stores()[t.stores[store].0.0].place;
                let is_here = |store| place(store).disk(&shared.config).is_some_and(|its| Arc::ptr_eq(its, disk));
                let here = restored.iter().filter(|(store, ..)| is_here(*store));
                let stores: Vec<_> = here.map(|(store, topic, end, _)| (*store, topic.clone(), *end)).collect();
                t.open_disk(disk.as_ref(), &stores, admin, wall)?;
            }
            for (store, topic, end, row) in restored {
                let start = admin.start_offset(&topic)?;
                let on_disk = t.disks.iter().find_map(|disk| disk.position(store));
                let start = on_disk.map_or(start, |position| position.max(start));
                let name = shared.topology.stores()[t.stores[store].0.0].name.clone();
                let assignment = &mut assignments[usize::from(row.is_some())];
                let (slot, done) = (assignment.len(), start >= end);
                assignment.push((topic.clone(), start));
                changelogs.push(Changelog { task, store, name, topic, slot, end, done, restored: 0, row });
            }
        }
        let mut consumers = [shared.log.consumer(&committed, wakeup.clone())?, shared.log.consumer(&as_tasks, wakeup)?];
        consumers.iter_mut().zip(&assignments).try_for_each(|(consumer, assignment)| consumer.assign(assignment))?;
        for Changelog { topic, name, slot, end, row, .. } in changelogs.iter().filter(|changelog| !changelog.done) {
            let start = assignments[usize::from(row.is_some())][*slot].1;
            listener.iter().for_each(|listener| listener.on_restore_start(topic, name, start, *end));
        }
        Ok(Restore { consumers, changelogs, positions, listener })
    }

    /// The positions that the rows belong to, of every input of every task.
    pub(crate) fn positions(&self) -> &[Option<CommittedOffset>] {
        &self.positions
    }

    /// Reads on.
    pub(crate) fn step(
        &mut self,
        shared: &ThreadContext,
        tasks: &mut [Task],
        producer: &dyn Producer,
        wall: Timestamp,
    ) -> Result<Progress> {
        let mut has_read = false;
        for changelog in self.changelogs.iter_mut().filter(|changelog| !changelog.done) {
            let task = &mut tasks[changelog.task];
            if task.disks.iter().any(|disk| disk.is_behind() || disk.holds_much()) {
                continue;
            }
            let consumer = &mut self.consumers[usize::from(changelog.row.is_some())];
            let fetch = match consumer.fetch(changelog.slot, Self::BYTES_PER_STEP) {
                Ok(fetch) => fetch,
                // What the store needs no more was deleted meanwhile: it goes on as a start would that begins now.
                Err(LogError::OutOfRange { offset, start, .. }) if offset < start => {
                    consumer.seek(changelog.slot, start);
                    has_read = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let (position, has_come) = (fetch.position, !fetch.batches.is_empty());
            has_read |= has_come || position >= changelog.end;
            let batches = match &changelog.row {
                Some(row) => rows_of(row, fetch.batches, changelog.end)?,
                None => fetch.batches,
            };
            for disk in &mut task.disks {
                let (is_last, up_to) = (position >= changelog.end, position.min(changelog.end));
                disk.restored(changelog.store, batches.clone(), up_to, is_last, producer, wall);
            }
            let mut restored = 0;
            for mut batch in batches {
                if task.disks.iter().any(|disk| disk.reads(changelog.store)) {
                    restored += batch.remaining() as u64;
                    continue;
                }
                let mut state = task.stores[changelog.store].1.state.borrow_mut();
                while let Some(view) = batch.next() {
                    let view = view.map_err(|e| {
                        Error::from(LogError::Corrupt {
                            place: format!("changelog of task {}", task.id()),
                            problem: e.to_string(),
                        })
                    })?;
                    if view.offset >= changelog.end {
                        break;
                    }
                    let Some(key) = view.key else {
                        let store = format!("{:?}", task.stores[changelog.store].0);
                        return Err(Error::State(Box::new(StateError {
                            store,
                            problem: "a changelog record without a key".into(),
                        })));
                    };
                    let record = ChangelogRecord {
                        key: key.as_slice(),
                        value: view.value.map(|v| v.as_slice()),
                        timestamp: view.timestamp,
                        headers: view.headers,
                        offset: view.offset,
                    };
                    state.restore(record)?;
                    restored += 1;
                }
            }
            task.cx().counters.restore += restored;
            changelog.restored += restored;
            changelog.done = position >= changelog.end;
            if let Some(listener) = &self.listener {
                let Changelog { topic, name, end, done, restored: in_all, .. } = &*changelog;
                if restored > 0 {
                    listener.on_batch_restored(topic, name, position.min(*end), restored);
                }
                if *done {
                    listener.on_restore_end(topic, name, *in_all);
                }
            }
            if has_come {
                // One after the other: the disk begins to write while the next are read.
                break;
            }
        }
        for task in tasks.iter_mut() {
            task.exchange_with_disk(shared.log.admin(), producer, wall)?;
        }
        let is_written = tasks.iter().flat_map(|task| &task.disks).all(DiskStores::is_written);
        Ok(match is_written && self.changelogs.iter().all(|c| c.done) {
            true => Progress::Done,
            false if has_read => Progress::Reading,
            false => Progress::Waiting,
        })
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        let Some(listener) = &self.listener else { return };
        for Changelog { topic, name, restored, .. } in self.changelogs.iter().filter(|changelog| !changelog.done) {
            listener.on_restore_suspended(topic, name, *restored);
        }
    }
}

/// The rows that a topic's records make, up to an offset, as a changelog would have them.
fn rows_of(row: &RowOf, batches: Vec<Records>, end: Offset) -> Result<Vec<Records>> {
    let mut rows = Vec::new();
    for mut batch in batches {
        let mut made = BatchBuilder::new();
        while let Some(view) = batch.next() {
            let view = view.map_err(|e| {
                let place = "a topic that a store is rebuilt from".to_owned();
                Error::from(LogError::Corrupt { place, problem: e.to_string() })
            })?;
            if view.offset >= end {
                break;
            }
            let make = || row(view.key, view.value, &Headers::from_section(view.headers));
            let row = catch_unwind(AssertUnwindSafe(make)).unwrap_or_default();
            if let Some(Row { key, value, headers }) = row.filter(|_| (0..=LATEST_TIME).contains(&view.timestamp)) {
                made.push(view.timestamp, Some(&key), value.as_deref(), headers.section());
            }
        }
        rows.extend((!made.is_empty()).then(|| made.into_records(0)));
    }
    Ok(rows)
}
