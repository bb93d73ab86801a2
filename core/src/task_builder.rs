//! Builds the nodes of one task from a topology's suppliers, on the thread that will own them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::collector::SinkSlot;
use crate::context::{TaskContext, TimeSlot};
use crate::error::Result;
use crate::punctuation::{FirstTime, Punctuate, Punctuation, Schedule};
use crate::source::SourceNode;
use crate::store::{StateStore, StoreInstance};
use crate::time::{NO_TIME, Timestamp};
use crate::times::{self, Times};
use crate::topic_name::TopicName;
use crate::topology_index::{NodeId, StoreId};

/// A node that has work at a commit, at the end of bounded input, or when time goes on without records.
pub trait Lifecycle {
    /// Forwards what was held back until the commit.
    ///
    /// # Errors
    /// Whatever an operator below returns.
    fn on_commit(&mut self, _cx: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    /// Forwards what waits for time to pass, as if it had passed: the input has ended for good.
    ///
    /// # Errors
    /// Whatever an operator below returns.
    fn on_end(&mut self, _cx: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    /// The stream time at which something that waits here is let go; the end of time if nothing waits.
    fn due(&self, _cx: &TaskContext) -> Timestamp {
        Timestamp::MAX
    }

    /// Forwards what waits for a stream time of at most `time`: it has come without a record (`Consumed::idleness`).
    ///
    /// # Errors
    /// Whatever an operator below returns.
    fn on_time(&mut self, _cx: &mut TaskContext, _time: Timestamp) -> Result<()> {
        Ok(())
    }
}

/// The nodes of a task.
#[derive(Default)]
pub(crate) struct Program {
    pub(crate) sources: Vec<Box<dyn SourceNode>>,
    /// A node after everything above it, as nodes are numbered.
    pub(crate) lifecycles: Vec<(NodeId, Rc<RefCell<dyn Lifecycle>>)>,
    pub(crate) schedules: Vec<Schedule>,
}

/// Recipe for a source node.
pub type SourceSupplier = Arc<dyn Fn(&mut TaskBuilder<'_>) -> Box<dyn SourceNode> + Send + Sync>;

/// Passed to suppliers while a task is built.
pub struct TaskBuilder<'a> {
    cx: &'a mut TaskContext,
    application_id: &'a str,
    stores: &'a HashMap<StoreId, StoreInstance>,
    // A port opened twice by one task gives the same listeners.
    pub(crate) ports: HashMap<usize, Box<dyn Any>>,
    times: &'a mut Times,
    shared: HashMap<NodeId, Rc<dyn Any>>,
    program: Program,
    failure: Option<crate::error::Error>,
}

impl<'a> TaskBuilder<'a> {
    /// Runs the suppliers of the given sources.
    pub(crate) fn build<'s>(
        sources: impl Iterator<Item = &'s SourceSupplier>,
        application_id: &'a str,
        stores: &'a HashMap<StoreId, StoreInstance>,
        times: &'a mut Times,
        cx: &'a mut TaskContext,
    ) -> Result<Program> {
        let mut builder = TaskBuilder {
            cx,
            application_id,
            stores,
            ports: HashMap::new(),
            times,
            shared: HashMap::new(),
            program: Program::default(),
            failure: None,
        };
        for source in sources {
            let node = source(&mut builder);
            builder.program.sources.push(node);
        }
        match builder.failure {
            Some(failure) => Err(failure),
            None => {
                builder.program.lifecycles.sort_by_key(|(node, _)| *node);
                Ok(builder.program)
            }
        }
    }

    /// A store with its type.
    ///
    /// # Panics
    /// If the node is not connected to the store: the builder of the topology has refused that already.
    pub fn store<T: StateStore>(&self, id: StoreId) -> Rc<RefCell<T>> {
        self.stores.get(&id).expect("a node's stores are connected to it").typed()
    }

    /// A store as the supplier of the store made it, for stores that a user implements.
    pub fn store_instance(&self, id: StoreId) -> Option<&StoreInstance> {
        self.stores.get(&id)
    }

    /// What a node and those who look into its table have in common in this task, made when it is first asked for. It is no
    /// state: nothing of it is kept, and a rollback makes it anew.
    ///
    /// # Panics
    /// When one node has it with two types, which the DSL does not make.
    pub fn shared<T: 'static>(&mut self, node: NodeId, make: impl FnOnce() -> T) -> Rc<T> {
        let shared = self.shared.entry(node).or_insert_with(|| Rc::new(make())).clone();
        shared.downcast().unwrap_or_else(|_| panic!("what a node shares has one type"))
    }

    /// The slot of a topic that this task writes. An unknown topic fails the task when it is built.
    pub fn sink(&mut self, topic: &TopicName) -> SinkSlot {
        match self.cx.collector.slot(&topic.resolve(self.application_id)) {
            Ok(slot) => slot,
            Err(error) => {
                self.failure.get_or_insert(error);
                SinkSlot::none()
            }
        }
    }

    /// A time of the task, which only grows; `name` is unique in the topology and kept with the committed offsets.
    pub fn time(&mut self, name: &str) -> TimeSlot {
        self.times.slot(name, &mut self.cx.times)
    }

    /// As [`TaskBuilder::time`], of what waits here: it may move back.
    pub fn least_time(&mut self, name: &str) -> TimeSlot {
        self.time(&times::least(name))
    }

    /// Registers a node's work besides its records.
    pub fn lifecycle(&mut self, id: NodeId, node: Rc<RefCell<dyn Lifecycle>>) {
        self.program.lifecycles.push((id, node));
    }

    /// Schedules a punctuation. `name` is unique in the topology; when it fires next survives restarts. One that was stopped at
    /// the last commit is so after a rollback, and begins with `first` after a restart; without `first` it is to be started.
    pub fn schedule(
        &mut self,
        name: &str,
        punctuation: Rc<Punctuation>,
        first: Option<FirstTime>,
        node: Rc<RefCell<dyn Punctuate>>,
        token: usize,
    ) {
        let slot = self.times.timer(name, &punctuation, first, &mut self.cx.times);
        let schedule = Schedule { punctuation, slot, node, token };
        match (self.cx.time(slot), first) {
            (NO_TIME, None) => {}
            (NO_TIME, Some(first)) => schedule.punctuation.start(self.cx, first),
            (due, _) => schedule.resume(due),
        }
        self.program.schedules.push(schedule);
    }
}
