//! Rebuilding stores from their changelogs when tasks start, batch by batch between steps.
//!
//! Runs to the end offset that it read at its start, over markers and compacted gaps (DESIGN 3.7).

use std::sync::Arc;

use crate::error::{Error, Result, StateError};
use crate::headers::Headers;
use crate::log::{Consumer, Isolation, LogError, Offset, TopicPartition};
use crate::rebuilt_from::{Row, RowOf};
use crate::store::ChangelogRecord;
use crate::task::Task;
use crate::thread::{ThreadContext, consumer_options};
use crate::wakeup::Wakeup;

/// The restore of a thread's tasks.
pub(crate) struct Restore {
    consumer: Box<dyn Consumer>,
    changelogs: Vec<Changelog>,
}

struct Changelog {
    task: usize,
    store: usize,
    end: Offset,
    done: bool,
    /// How the records of a topic become rows, if it stands for the changelog.
    row: Option<RowOf>,
}

impl Restore {
    const BYTES_PER_STEP: usize = 4 << 20;

    pub(crate) fn new(shared: &ThreadContext, name: &str, tasks: &[Task], wakeup: Arc<Wakeup>) -> Result<Self> {
        let mut options = consumer_options(shared, &format!("{name}-restore"));
        options.isolation = Isolation::ReadCommitted;
        let mut consumer = shared.log.consumer(&options, wakeup)?;
        let mut changelogs = Vec::new();
        let mut assignment: Vec<(TopicPartition, Offset)> = Vec::new();
        let admin = shared.log.admin();
        for (task, t) in tasks.iter().enumerate() {
            for (store, (_, _, changelog)) in t.stores.iter().enumerate() {
                let Some(changelog) = changelog else { continue };
                let start = admin.start_offset(changelog)?;
                let end = admin.end_offset(changelog, Isolation::ReadCommitted)?;
                changelogs.push(Changelog { task, store, end, done: start >= end, row: None });
                assignment.push((changelog.clone(), start));
            }
        }
        for (task, t) in tasks.iter().enumerate() {
            for (store, (id, _, _)) in t.stores.iter().enumerate() {
                let Some(from) = &shared.topology.stores()[id.0].rebuilt_from else { continue };
                let mut inputs = t.inputs.iter().map(|i| &i.partition);
                let Some(input) = inputs.find(|p| *p.topic == *from.topic) else { continue };
                // Not to the topic's end: what was not processed yet is not a row yet.
                let committed = admin.committed(&shared.config.application_id, std::slice::from_ref(input))?;
                let Some(committed) = committed.into_iter().flatten().next() else { continue };
                let (start, end) = (admin.start_offset(input)?, committed.offset);
                changelogs.push(Changelog { task, store, end, done: start >= end, row: Some(from.row.clone()) });
                assignment.push((input.clone(), start));
            }
        }
        consumer.assign(&assignment)?;
        Ok(Restore { consumer, changelogs })
    }

    /// Reads on; `true` when all is restored.
    pub(crate) fn step(&mut self, tasks: &mut [Task]) -> Result<bool> {
        for (slot, changelog) in self.changelogs.iter_mut().enumerate().filter(|(_, c)| !c.done) {
            let task = &mut tasks[changelog.task];
            let fetch = self.consumer.fetch(slot, Self::BYTES_PER_STEP)?;
            let mut restored = 0;
            for mut batch in fetch.batches {
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
                    if let Some(row) = &changelog.row {
                        let made = row(view.key, view.value, &Headers::from_section(view.headers))?;
                        if let Some(Row { key, value, headers }) = made.filter(|_| view.timestamp >= 0) {
                            state.restore(ChangelogRecord {
                                key: &key,
                                value: value.as_deref(),
                                timestamp: view.timestamp,
                                headers: headers.section(),
                                offset: view.offset,
                            })?;
                            restored += 1;
                        }
                        continue;
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
            changelog.done = fetch.position >= changelog.end;
        }
        Ok(self.changelogs.iter().all(|c| c.done))
    }
}
