//! A run that ends with its input: group by group of sub-topologies, in the order of flow (DESIGN 3.17), in rounds. A
//! group is read to its ends until nothing new comes of it; then its input is ended, and again until nothing comes. What others write
//! meanwhile is for the next run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::log::{Isolation, Offset, TopicPartition};
use crate::thread::StreamThread;
use crate::thread_context::ThreadContext;
use crate::time::Clock;

/// How far the run is; `None` while none was asked for.
#[derive(Default)]
pub(crate) struct BoundedRun(Mutex<Option<Progress>>);

/// Where partitions end.
pub(crate) type Ends = HashMap<TopicPartition, Offset>;

struct Progress {
    round: usize,
    group: usize,
    /// The group's input is ended: windows close.
    ended: bool,
    ends: Ends,
    /// Where the topics that the program does not write ended at the beginning: nothing behind is taken.
    given: Arc<Ends>,
    /// Where groups that are done have read to.
    done: Ends,
    /// Threads that have not finished this round.
    left: usize,
    threads: usize,
}

impl BoundedRun {
    /// What is in the input topics now is the last that so many threads process. Asked for again, it is as it was the first time.
    pub(crate) fn begin(&self, context: &ThreadContext, threads: usize) -> Result<()> {
        if self.is_asked_for() {
            return Ok(());
        }
        let mut given = Arc::default();
        for group in 0..context.plan.order.len() {
            group_ends(context, group, &mut given)?;
        }
        let ends = group_ends(context, 0, &mut given)?;
        let (done, left) = (Ends::new(), threads);
        *self.progress() = Some(Progress { round: 0, group: 0, ended: false, ends, given, done, left, threads });
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
        let order = &context.plan.order;
        let (group, ended) = match self.progress().as_ref() {
            None => return Ok(false),
            Some(run) => match order.get(run.group) {
                None => return Ok(true),
                Some(group) if run.round == *round && group.iter().all(|s| thread.has_consumed(*s, &run.ends)) => {
                    (group, run.ended)
                }
                Some(_) => return Ok(false),
            },
        };
        if !thread.commit_now(clock.now())? {
            return Ok(false);
        }
        if ended {
            group.iter().try_for_each(|s| thread.end_input(*s))?;
            if !thread.commit_now(clock.now())? {
                return Ok(false);
            }
        }
        *round += 1;
        let mut run = self.progress();
        let Some(run) = run.as_mut() else { return Ok(false) };
        run.left -= 1;
        if run.left == 0 {
            run.left = run.threads;
            run.round += 1;
            let ends = group_ends(context, run.group, &mut run.given)?;
            if ends == run.ends {
                if run.ended {
                    run.done.extend(ends);
                    // Should the log not answer, this round is done once more.
                    let next = run.group + 1;
                    run.group = if next == order.len() { run.left_over(context)?.unwrap_or(next) } else { next };
                }
                run.ended = !run.ended;
            }
            run.ends = group_ends(context, run.group, &mut run.given)?;
        }
        Ok(run.group >= order.len())
    }
}

impl Progress {
    /// The first group to which something has come since it was done: by a topic that records or handlers name.
    fn left_over(&mut self, context: &ThreadContext) -> Result<Option<usize>> {
        for group in 0..context.plan.order.len() {
            let ends = group_ends(context, group, &mut self.given)?;
            if ends.iter().any(|(partition, end)| self.done.get(partition).is_none_or(|done| done < end)) {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }
}

/// The end offsets of the input partitions of a group of sub-topologies: of topics that the program writes as they are now, of others as
/// they were when they were first asked for.
fn group_ends(context: &ThreadContext, group: usize, given: &mut Arc<Ends>) -> Result<Ends> {
    let Some(group) = context.plan.order.get(group) else { return Ok(Ends::new()) };
    let mut ends = Ends::new();
    for (partition, _) in
        context.plan.tasks.iter().filter(|t| group.contains(&t.id.sub_topology)).flat_map(|t| &t.inputs)
    {
        let end = match given.get(partition) {
            Some(end) => *end,
            None => context.log.admin().end_offset(partition, Isolation::ReadCommitted)?,
        };
        if !given.contains_key(partition) && !context.topology.may_write(&context.config, &partition.topic) {
            Arc::make_mut(given).insert(partition.clone(), end);
        }
        ends.insert(partition.clone(), end);
    }
    Ok(ends)
}
