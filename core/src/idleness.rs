//! Idleness: how time goes on in a task while a source that has declared it is silent (Flink's `withIdleness`, KIP-424).
//!
//! Stream time is the largest timestamp seen, so without records nothing that waits for time is ever let go. A source with
//! idleness, of which every partition in a task has been silent for so long, counts as if records without content kept
//! coming: its time is its largest timestamp and what the wall clock has gone on since the last record. So a record is late
//! only if it had been so among steady traffic too. This time reaches the nodes below the source, and none beside it.
//!
//! Time moves only when it lets something go, so a silent program commits nothing; and it is committed then, so a rollback
//! or a restart does not take it back.
//!
//! Silence counts only as far as it is proven. A topic of the user's is silent up to a fetch that finds nothing. A
//! repartition topic is silent up to when everything that its writers had found was passed on and committed, which they say
//! by [`crate::TimeAlignment`]; it inherits idleness if every source behind it has some. They say so for each of their sources:
//! two tasks of a foreign-key join write to each other, and each waits for what the other had from elsewhere alone.

use std::collections::BTreeSet;

use crate::alignment::TimeAlignment;
use crate::context::{TaskContext, TimeSlot};
use crate::input::Input;
use crate::time::{NO_TIME, Timestamp};
use crate::topology::Topology;
use crate::topology_index::NodeId;

/// A source of a task that has idleness.
#[derive(Debug, Clone)]
pub struct IdlePlan {
    /// Which of the task's sources.
    pub source: usize,
    /// The source's node.
    pub node: NodeId,
    /// After how long a silence time goes on, in milliseconds of the wall clock.
    pub after: Timestamp,
    /// The tasks that write what it reads, as indices into the plan's, each with a source of its whose records come that way;
    /// none for the user's topics.
    pub writers: Vec<(usize, usize)>,
}

/// An idle source in its task.
pub(crate) struct IdleSource {
    pub(crate) plan: IdlePlan,
    /// When it brought a record last, on the wall clock.
    since: TimeSlot,
    /// How far its time has gone without records.
    reached: TimeSlot,
    /// Up to when, on the wall clock, nothing more has come than what was processed.
    proven: Timestamp,
    /// Up to when all that was there has been passed on: in the commit under way, and in the last one.
    passing_on: Timestamp,
    passed_on: Timestamp,
}

impl IdleSource {
    pub(crate) fn new(plan: IdlePlan, since: TimeSlot, reached: TimeSlot) -> Self {
        IdleSource { plan, since, reached, proven: NO_TIME, passing_on: NO_TIME, passed_on: NO_TIME }
    }

    /// Records are about to be looked for: what those who write them have said before, the look finds.
    pub(crate) fn look(&mut self, wall: Timestamp, alignment: &TimeAlignment) {
        let writers = self.plan.writers.iter().map(|(task, source)| alignment.passed_on(*task, *source));
        self.proven = writers.fold(wall, Timestamp::min);
    }

    /// Up to when, on the wall clock, its silence is proven, if the look has found nothing.
    pub(crate) fn proven(&self) -> Timestamp {
        self.proven
    }

    /// What was found is passed on with the commit that begins, if it is all processed.
    pub(crate) fn passing_on(&mut self, all: bool) {
        self.passing_on = if all { self.proven } else { NO_TIME };
    }

    /// That commit has taken effect, or there was nothing to commit.
    pub(crate) fn has_passed_on(&mut self) {
        self.passed_on = self.passing_on;
    }

    /// Up to when, on the wall clock, all that was there has been passed on and committed.
    pub(crate) fn passed_on(&self) -> Option<Timestamp> {
        Some(self.passed_on).filter(|wall| *wall != NO_TIME)
    }

    /// Records have been taken.
    pub(crate) fn delivered(&self, cx: &mut TaskContext) {
        let wall = cx.wall_time();
        cx.advance_time(self.since, wall);
    }

    /// How far time has gone without records, as committed.
    pub(crate) fn reached(&self, cx: &TaskContext) -> Timestamp {
        cx.time(self.reached)
    }

    /// Time goes on to `time`.
    pub(crate) fn reach(&self, cx: &mut TaskContext, time: Timestamp) {
        cx.advance_time(self.reached, time);
    }

    /// The source's time at `wall`, if it has been silent for long enough then.
    pub(crate) fn time_at(&self, wall: Timestamp, inputs: &[Input], cx: &TaskContext) -> Option<Timestamp> {
        let silent = wall.saturating_sub(cx.time(self.since));
        self.largest(inputs, cx).filter(|_| silent >= self.plan.after).map(|largest| largest.saturating_add(silent))
    }

    /// When, on the wall clock, its time comes to `time`.
    pub(crate) fn wall_at(&self, time: Timestamp, inputs: &[Input], cx: &TaskContext) -> Option<Timestamp> {
        let left = time.saturating_sub(self.largest(inputs, cx)?);
        Some(cx.time(self.since).saturating_add(left.max(self.plan.after)))
    }

    /// Its largest timestamp; `None` before it has brought a record.
    fn largest(&self, inputs: &[Input], cx: &TaskContext) -> Option<Timestamp> {
        let times = inputs.iter().filter(|input| input.source == self.plan.source).map(|input| input.time);
        times.max().filter(|largest| *largest != NO_TIME && cx.time(self.since) != NO_TIME)
    }

    /// A source that had no idleness when it brought its last record begins to be silent now.
    pub(crate) fn begin(&self, cx: &mut TaskContext) {
        if cx.time(self.since) == NO_TIME && self.proven > NO_TIME {
            cx.set_time(self.since, self.proven);
        }
    }
}

impl Topology {
    /// After how long a silence the time of each source goes on without it, in milliseconds; `None` for never.
    pub fn idleness(&self) -> Vec<Option<Timestamp>> {
        let own = self.sources().iter().map(|source| {
            source.idleness.map(|after| Timestamp::try_from(after.as_millis()).unwrap_or(Timestamp::MAX))
        });
        let mut found: Vec<Option<Timestamp>> = own.collect();
        let behind: Vec<Vec<usize>> = self.repartitions().iter().map(|way| self.sources_above(way.sink)).collect();
        // Every round comes one repartition topic further.
        loop {
            let before = found.clone();
            for (way, behind) in self.repartitions().iter().zip(&behind) {
                let Some(source) = self.sources().iter().position(|source| source.node == way.source) else { continue };
                let behind = behind.iter().map(|source| found[*source]);
                found[source] = behind.reduce(|longest, after| Some(longest?.max(after?))).flatten();
            }
            if found == before {
                return found;
            }
        }
    }

    /// The sources from which records reach a node.
    pub(crate) fn sources_above(&self, node: NodeId) -> Vec<usize> {
        let above = self.above(node);
        let sources = self.sources().iter().enumerate();
        sources.filter(|(_, source)| above.contains(&source.node)).map(|(index, _)| index).collect()
    }

    /// The sub-topology that a sink is in.
    pub(crate) fn writer(&self, sink: NodeId) -> Option<usize> {
        self.sub_topologies().iter().position(|sub| sub.nodes.contains(&sink))
    }

    /// The nodes from which records reach a node, and itself.
    fn above(&self, node: NodeId) -> BTreeSet<NodeId> {
        let mut above = BTreeSet::new();
        let mut next = vec![node];
        while let Some(node) = next.pop() {
            if above.insert(node) {
                next.extend(&self.nodes()[node.0].inputs);
            }
        }
        above
    }

    /// Whether records of one node reach another.
    pub(crate) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        self.above(to).contains(&from)
    }
}
