//! A run that ends with its input, in rounds: everything is read to its ends until nothing new comes anywhere. Then group by group of
//! sub-topologies, in the order of flow (DESIGN 3.17), the input is ended, and what comes of that is read in the same way. What others
//! write meanwhile to topics that the program has not written is for the next run.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::input::Ends;
use crate::log::Isolation;
use crate::thread::StreamThread;
use crate::thread_context::ThreadContext;
use crate::time::Clock;

/// How far the run is; `None` while none was asked for.
#[derive(Default)]
pub(crate) struct BoundedRun(Mutex<Option<Progress>>);

struct Progress {
    round: usize,
    phase: Phase,
    ends: Ends,
    /// Where the topics that the program has not written ended at the beginning: nothing behind is taken.
    given: Arc<Ends>,
    /// Topics that records or handlers have named: written besides those of its sinks.
    named: BTreeSet<Arc<str>>,
    /// Where groups that are done have read to.
    done: Ends,
    /// Threads that have not finished this round.
    left: usize,
    threads: usize,
}

/// What a round does, of groups in the order of flow.
enum Phase {
    /// Reads all groups' input: nothing has been ended, so records may go from any group to any other.
    Flow,
    /// Reads what has come to this group since.
    Read(usize),
    /// Ends this group's input: windows close.
    End(usize),
    Over,
}

impl BoundedRun {
    /// What is in the input topics now is the last that so many threads process. Asked for again, it is as it was the first time.
    pub(crate) fn begin(&self, context: &ThreadContext, threads: usize) -> Result<()> {
        if self.is_asked_for() {
            return Ok(());
        }
        let mut run = Progress {
            round: 0,
            phase: Phase::Flow,
            ends: Ends::new(),
            given: Arc::default(),
            named: BTreeSet::new(),
            done: Ends::new(),
            left: threads,
            threads,
        };
        run.ends = run.find_ends(context, run.groups(context))?;
        *self.progress() = Some(run);
        Ok(())
    }

    /// Whether it was asked for.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.progress().is_some()
    }

    /// Where inputs end for it; `None` while none was asked for.
    pub(crate) fn given(&self) -> Option<Arc<Ends>> {
        self.progress().as_ref().map(|run| run.given.clone())
    }

    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread's part of the present round when its input is consumed; `true` after the last.
    pub(crate) fn finish_round(
        &self,
        context: &ThreadContext,
        clock: &dyn Clock,
        round: &mut usize,
        thread: &mut StreamThread,
    ) -> Result<bool> {
        let (groups, ends_input) = match self.progress().as_mut() {
            None => return Ok(false),
            Some(run) => {
                run.name(thread.named_topics());
                let groups = run.groups(context);
                if groups.is_empty() {
                    return Ok(true);
                }
                let mut parts = context.plan.order[groups.clone()].iter().flatten();
                if run.round != *round || !parts.all(|part| thread.has_consumed(*part, &run.ends)) {
                    return Ok(false);
                }
                (groups, matches!(run.phase, Phase::End(_)))
            }
        };
        if !thread.commit_now(clock.now())? {
            return Ok(false);
        }
        if ends_input {
            context.plan.order[groups].iter().flatten().try_for_each(|part| thread.end_input(*part))?;
            if !thread.commit_now(clock.now())? {
                return Ok(false);
            }
        }
        *round += 1;
        let mut run = self.progress();
        let Some(run) = run.as_mut() else { return Ok(false) };
        run.name(thread.named_topics());
        run.left -= 1;
        if run.left == 0 {
            run.left = run.threads;
            run.round += 1;
            // Should the log not answer, this round is done once more.
            run.go_on(context)?;
        }
        Ok(run.groups(context).is_empty())
    }
}

impl Progress {
    /// The groups that are waited for, of those in the order of flow; none at the end.
    fn groups(&self, context: &ThreadContext) -> Range<usize> {
        match self.phase {
            Phase::Flow => 0..context.plan.order.len(),
            Phase::Read(group) | Phase::End(group) => group..group + 1,
            Phase::Over => 0..0,
        }
    }

    /// Takes topics as written from here on: they have no given end any more.
    fn name<'a>(&mut self, topics: impl Iterator<Item = &'a Arc<str>>) {
        for topic in topics {
            if self.named.insert(topic.clone()) && self.given.keys().any(|partition| partition.topic == *topic) {
                Arc::make_mut(&mut self.given).retain(|partition, _| partition.topic != *topic);
            }
        }
    }

    /// What the next round is, behind one that all threads have finished.
    fn go_on(&mut self, context: &ThreadContext) -> Result<()> {
        let ends = self.find_ends(context, self.groups(context))?;
        if ends == self.ends {
            self.phase = match self.phase {
                Phase::Flow => Phase::End(0),
                Phase::Read(group) => Phase::End(group),
                Phase::End(group) => {
                    self.done.extend(ends);
                    let next = group + 1;
                    let next = if next < context.plan.order.len() { Some(next) } else { self.left_over(context)? };
                    next.map_or(Phase::Over, Phase::Read)
                }
                Phase::Over => Phase::Over,
            };
        }
        self.ends = self.find_ends(context, self.groups(context))?;
        Ok(())
    }

    /// The first group to which something has come since it was done: by a topic that records or handlers name.
    fn left_over(&mut self, context: &ThreadContext) -> Result<Option<usize>> {
        for group in 0..context.plan.order.len() {
            let ends = self.find_ends(context, group..group + 1)?;
            if ends.iter().any(|(partition, end)| self.done.get(partition).is_none_or(|done| done < end)) {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// The end offsets of the input partitions of groups of sub-topologies: of topics that the program has written as they are now, of
    /// others as they were when they were first asked for.
    fn find_ends(&mut self, context: &ThreadContext, groups: Range<usize>) -> Result<Ends> {
        let parts: BTreeSet<usize> = context.plan.order[groups].iter().flatten().copied().collect();
        let tasks = context.plan.tasks.iter().filter(|task| parts.contains(&task.id.sub_topology));
        let mut ends = Ends::new();
        for (partition, _) in tasks.flat_map(|task| &task.inputs) {
            let given = self.given.get(partition).copied();
            let end = given.map_or_else(|| context.log.admin().end_offset(partition, Isolation::ReadCommitted), Ok)?;
            if given.is_none() && !self.is_written(context, &partition.topic) {
                Arc::make_mut(&mut self.given).insert(partition.clone(), end);
            }
            ends.insert(partition.clone(), end);
        }
        Ok(ends)
    }

    fn is_written(&self, context: &ThreadContext, topic: &Arc<str>) -> bool {
        self.named.contains(topic) || context.topology.writes(&context.config.application_id, topic)
    }
}
