//! A run that ends with its input: group by group of sub-topologies, in the order of flow (DESIGN 3.17), in rounds. A
//! group is read to its ends until nothing new comes of it; then its input is ended, and again until nothing comes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::log::{Isolation, Offset, TopicPartition};
use crate::thread::StreamThread;
use crate::thread_context::ThreadContext;
use crate::time::Clock;

/// How far the run is; `None` while none was asked for.
#[derive(Default)]
pub(crate) struct BoundedRun(Mutex<Option<Progress>>);

struct Progress {
    round: usize,
    group: usize,
    /// The group's input is ended: windows close.
    ended: bool,
    ends: HashMap<TopicPartition, Offset>,
    /// Threads that have not finished this round.
    left: usize,
    threads: usize,
}

impl BoundedRun {
    /// What is in the input topics now is the last that so many threads process.
    pub(crate) fn begin(&self, context: &ThreadContext, threads: usize) -> Result<()> {
        let ends = group_ends(context, 0)?;
        *self.progress() = Some(Progress { round: 0, group: 0, ended: false, ends, left: threads, threads });
        Ok(())
    }

    /// Whether it was asked for.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.progress().is_some()
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
            let ends = group_ends(context, run.group)?;
            if ends == run.ends {
                run.group += usize::from(run.ended);
                run.ended = !run.ended;
            }
            run.ends = group_ends(context, run.group)?;
        }
        Ok(run.group >= order.len())
    }
}

/// The end offsets of the input partitions of a group of sub-topologies.
fn group_ends(context: &ThreadContext, group: usize) -> Result<HashMap<TopicPartition, Offset>> {
    let Some(group) = context.plan.order.get(group) else { return Ok(HashMap::new()) };
    let tasks = context.plan.tasks.iter().filter(|t| group.contains(&t.id.sub_topology));
    let inputs = tasks.flat_map(|t| &t.inputs);
    inputs.map(|(p, _)| Ok((p.clone(), context.log.admin().end_offset(p, Isolation::ReadCommitted)?))).collect()
}
