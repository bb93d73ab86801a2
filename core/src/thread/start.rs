//! How a thread's tasks come to run: stores restored, positions taken up, global stores read.

use std::collections::BTreeSet;

use super::StreamThread;
use crate::error::{Error, Result};
use crate::handlers::Handlers;
use crate::input::Input;
use crate::log::{CommittedOffset, Offset, TopicPartition};
use crate::offset_metadata::OffsetMetadata;
use crate::offset_reset::OffsetReset;
use crate::restore::{Progress, Restore};
use crate::task::Task;
use crate::thread_context::ThreadContext;
use crate::time::{Now, Timestamp};
use crate::times;

/// Where an input starts whose source's policy decides; `why` it does, for the message of `none`.
pub(super) fn first_offset(
    shared: &ThreadContext,
    task: &Task,
    input: &Input,
    why: &str,
    wall: Timestamp,
) -> Result<Offset> {
    let (admin, partition) = (shared.log.admin(), &input.partition);
    let source = shared.topology.sub_topologies()[task.id().sub_topology].sources[input.source];
    let source = &shared.topology.sources()[source];
    // What the application itself has sent on is read from its first record, whatever the setting says.
    let reset = if shared.topology.repartitions().iter().any(|r| r.source == source.node) {
        OffsetReset::Earliest
    } else {
        source.reset.unwrap_or(shared.config.offset_reset)
    };
    let offset = match reset {
        OffsetReset::Earliest => admin.start_offset(partition)?,
        OffsetReset::Latest => admin.end_offset(partition, shared.consumer_options("").isolation)?,
        OffsetReset::ByDuration(age) => {
            let age = Timestamp::try_from(age.as_millis()).unwrap_or(Timestamp::MAX);
            admin.offset_for_time(partition, wall.saturating_sub(age))?
        }
        OffsetReset::None => {
            return Err(Error::Config(Box::new(vec![format!(
                "{partition} has {why} and its offset reset is `none`\n  help: set auto.offset.reset, or the source's Consumed::reset, to `earliest` or `latest`"
            )])));
        }
    };
    Ok(offset)
}

/// Gives a task the times that an earlier program has committed with inputs that are not the task's now, timers' excepted.
fn take_up_earlier_times(shared: &ThreadContext, task: &mut Task) -> Result<()> {
    let stores = task.stores.iter().map(|(id, ..)| &shared.topology.stores()[id.0].name);
    let topics: BTreeSet<&String> = stores.filter_map(|store| shared.plan.known_inputs.get(store)).flatten().collect();
    let earlier = topics.into_iter().map(|topic| TopicPartition::new(topic.as_str(), task.id().partition));
    let earlier: Vec<TopicPartition> =
        earlier.filter(|partition| task.inputs.iter().all(|input| input.partition != *partition)).collect();
    if earlier.is_empty() {
        return Ok(());
    }
    let committed = shared.log.admin().committed(&shared.config.application_id, &earlier)?;
    let metadata = committed.iter().flatten().filter_map(|committed| OffsetMetadata::decode(&committed.metadata));
    metadata.for_each(|metadata| task.take_up(metadata.times.iter().filter(|(name, _)| !times::is_due(name))));
    Ok(())
}

impl StreamThread {
    /// Takes up stores and positions: when that is done the tasks run.
    pub(super) fn start(&mut self, now: Now) -> Result<Progress> {
        if self.restore.is_none() {
            let positions = self.group_positions()?;
            let (shared, wakeup, tasks) = (&self.shared, self.wakeup.clone(), &mut self.tasks);
            let listener = self.restore_listener.clone();
            self.restore = Some(Restore::new(shared, &self.name, tasks, positions, wakeup, now.wall, listener)?);
        }
        if let Some(restore) = &mut self.restore {
            match restore.step(&self.shared, &mut self.tasks, self.producer.as_ref(), now.wall)? {
                Progress::Done => {}
                progress => return Ok(progress),
            }
        }
        if let Some(globals) = &mut self.globals {
            globals.start(&self.shared, now.wall, self.restore_listener.as_ref())?;
        }
        self.read_globals(now.wall)?;
        let found = self.group_positions()?;
        if self.restore.as_ref().is_some_and(|restore| restore.positions() != found) {
            self.rebuild();
            return Ok(Progress::Reading);
        }
        let mut found = found.into_iter();
        let mut assignment = Vec::new();
        for task in &mut self.tasks {
            let committed: Vec<_> = found.by_ref().take(task.inputs.len()).collect();
            let mut positions = Vec::new();
            for (input, committed) in task.inputs.iter().zip(&committed) {
                let metadata = committed.as_ref().and_then(|committed| OffsetMetadata::decode(&committed.metadata));
                let at = committed.as_ref().map(|committed| committed.offset);
                let begun = self.begun.get(&input.partition).filter(|begun| begun.0 == at).map(|begun| begun.1);
                let position = match begun.or(at) {
                    Some(offset) => offset,
                    None => first_offset(&self.shared, task, input, "no committed position", now.wall)?,
                };
                self.begun.insert(input.partition.clone(), (at, position));
                let position = (position, metadata);
                assignment.push((input.partition.clone(), position.0));
                positions.push(position);
            }
            take_up_earlier_times(&self.shared, task)?;
            task.start(self.shared.log.admin(), committed, &positions, Handlers::new(&self.shared.config), now.wall)?;
        }
        self.consumer.assign(&assignment)?;
        if let Some(ends) = self.stops_at.take() {
            self.stop_at(&ends);
        }
        // Not before: should anything above fail, the next try must not restore the same rows once more.
        self.restore = None;
        self.last_commit = now.ticks;
        self.running = true;
        Ok(Progress::Done)
    }

    /// What the group has of every input of every task, in the order of the consumer's slots.
    pub(super) fn group_positions(&self) -> Result<Vec<Option<CommittedOffset>>> {
        let inputs = self.tasks.iter().flat_map(|task| &task.inputs);
        let inputs: Vec<TopicPartition> = inputs.map(|input| input.partition.clone()).collect();
        Ok(self.shared.log.admin().committed(&self.shared.config.application_id, &inputs)?)
    }

    /// Applies all there is to the global stores: they are complete before the first record, and ahead afterwards.
    pub(super) fn read_globals(&mut self, wall: Timestamp) -> Result<()> {
        let Some(globals) = &mut self.globals else { return Ok(()) };
        globals.read(&self.shared, wall, self.restore_listener.as_ref())
    }
}
