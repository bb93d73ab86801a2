//! The global stores of a thread: read from their topics, whole before the first record and ahead of the tasks afterwards.
//!
//! They are no task's: nothing of them is committed or rolled back, and a new thread reads them again. So what a handler leaves out
//! there is left out in every thread and at every start, and dead letters are not written for it. After a panic a thread goes on
//! behind the record, with nodes that are made anew.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::collector::Collector;
use crate::error::Result;
use crate::handlers::Handlers;
use crate::input::Input;
use crate::log::{Consumer, LogError, Offset, TopicPartition};
use crate::restore_listener::StateRestoreListener;
use crate::store::StoreInstance;
use crate::task::Task;
use crate::thread_context::ThreadContext;
use crate::time::Timestamp;
use crate::topology::Topology;
use crate::topology_index::StoreId;
use crate::wakeup::Wakeup;

/// The global stores of a thread and who fills them.
pub(super) struct Globals {
    pub(super) task: Task,
    consumer: Box<dyn Consumer>,
    /// Per input, what a start has still to read.
    restores: Vec<Option<GlobalRestore>>,
    /// The stores have been begun: a later start of the tasks finds them as they are.
    begun: bool,
}

/// A partition that is read for the first time, up to where it ended then.
struct GlobalRestore {
    store: String,
    end: Offset,
    restored: u64,
}

impl Globals {
    /// `None` if the program has none.
    pub(super) fn new(
        shared: &ThreadContext,
        name: &str,
        wakeup: &Arc<Wakeup>,
        collector: Collector,
    ) -> Result<Option<Self>> {
        if shared.plan.globals.sources.is_empty() {
            return Ok(None);
        }
        let task = Task::new(
            &shared.plan.globals,
            shared.topology.clone(),
            shared.config.application_id.clone(),
            collector,
            Rc::default(),
        );
        let options = shared.consumer_options(&format!("{name}-global"));
        let consumer = shared.log.consumer(&options, wakeup.clone())?;
        Ok(Some(Globals { task, consumer, restores: Vec::new(), begun: false }))
    }

    /// The stores, for the tasks that read them.
    pub(super) fn stores(&self) -> HashMap<StoreId, StoreInstance> {
        self.task.stores.iter().map(|(id, store, _)| (*id, store.clone())).collect()
    }

    /// Begins at the first record of every topic, once: what a program reads of its rows when it writes them must not be there already.
    pub(super) fn start(
        &mut self,
        shared: &ThreadContext,
        wall: Timestamp,
        listener: Option<&Arc<dyn StateRestoreListener>>,
    ) -> Result<()> {
        if self.begun {
            return Ok(());
        }
        let (task, admin) = (&mut self.task, shared.log.admin());
        let starts: Result<Vec<Offset>, LogError> =
            task.inputs.iter().map(|input| admin.start_offset(&input.partition)).collect();
        let starts = starts?;
        let assignment: Vec<(TopicPartition, Offset)> =
            task.inputs.iter().map(|input| input.partition.clone()).zip(starts.iter().copied()).collect();
        self.consumer.assign(&assignment)?;
        self.restores.clear();
        let isolation = shared.consumer_options("").isolation;
        for (input, (partition, start)) in task.inputs.iter().zip(&assignment) {
            let end = admin.end_offset(partition, isolation)?;
            let source = shared.plan.globals.sources[input.source];
            let store = store_of(&shared.topology, source).filter(|_| *start < end);
            if let (Some(store), Some(listener)) = (&store, listener) {
                listener.on_restore_start(partition, store, *start, end);
            }
            self.restores.push(store.map(|store| GlobalRestore { store, end, restored: 0 }));
        }
        let positions: Vec<_> = starts.iter().map(|start| (*start, None)).collect();
        task.start(shared.log.admin(), Vec::new(), &positions, Handlers::of_globals(&shared.config), wall)?;
        self.begun = true;
        Ok(())
    }

    /// Applies all there is.
    pub(super) fn read(
        &mut self,
        shared: &ThreadContext,
        wall: Timestamp,
        listener: Option<&Arc<dyn StateRestoreListener>>,
    ) -> Result<()> {
        loop {
            let (mut any, mut came, mut failed) = (false, Vec::new(), None);
            for slot in 0..self.task.inputs.len() {
                let fetch = match self.consumer.fetch(slot, shared.config.fetch_bytes) {
                    Ok(fetch) => fetch,
                    // Retention has passed the position: as a start would that begins now.
                    Err(LogError::OutOfRange { offset, start, .. }) if offset < start => {
                        self.consumer.seek(slot, start);
                        self.task.jump(slot, start);
                        any = true;
                        continue;
                    }
                    // Not before what has come from the others is applied.
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                any |= !fetch.batches.is_empty();
                if self.restores[slot].is_some() {
                    let records: i32 = fetch.batches.iter().map(|batch| batch.remaining().max(0)).sum();
                    came.push((slot, records as u64));
                }
                self.task.inputs[slot].take(fetch);
            }
            self.task.cx().wall = wall;
            while any && self.process(&mut came)? {}
            came.into_iter().for_each(|(slot, records)| self.restored(slot, records, listener));
            if let Some(error) = failed {
                return Err(error.into());
            }
            if !any {
                return Ok(());
            }
        }
    }

    /// Applies what is queued; `false` if nothing is. What comes behind a record on which the program panicked is read again, and
    /// has not `came`.
    fn process(&mut self, came: &mut [(usize, u64)]) -> Result<bool> {
        match self.task.process(Timestamp::MAX, usize::MAX) {
            Err(_) if self.task.goes_on() => {
                let (slot, records) = self.task.read_again()?;
                self.consumer.seek(slot, self.task.inputs[slot].consumed);
                let came = came.iter_mut().filter(|(at, _)| *at == slot);
                came.for_each(|(_, came)| *came = came.saturating_sub(records as u64));
                Ok(true)
            }
            processed => Ok(processed? > 0),
        }
    }

    /// So many records of a partition are in their store that was still to be read.
    fn restored(&mut self, slot: usize, records: u64, listener: Option<&Arc<dyn StateRestoreListener>>) {
        let Some(restore) = &mut self.restores[slot] else { return };
        restore.restored += records;
        let Input { partition, position, .. } = &self.task.inputs[slot];
        if let Some(listener) = listener.filter(|_| records > 0) {
            listener.on_batch_restored(partition, &restore.store, (*position).min(restore.end), records);
        }
        if *position >= restore.end {
            if let Some(listener) = listener {
                listener.on_restore_end(partition, &restore.store, restore.restored);
            }
            self.restores[slot] = None;
        }
    }
}

/// The store that a global source fills.
fn store_of(topology: &Topology, source: usize) -> Option<String> {
    let nodes = topology.global_nodes(source).into_iter().flat_map(|node| &topology.nodes()[node.0].stores);
    let mut stores = nodes.map(|store| &topology.stores()[store.0]).filter(|store| store.global);
    stores.next().map(|store| store.name.clone())
}
