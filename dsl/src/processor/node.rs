//! `process`: a processor as a node. It sees records, may hold stores and timers, and forwards what it likes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Downstream, Forward, NodeId, Offset, Punctuate, PunctuationType, Record, Result, StoreId, StoreInstance,
    TaskBuilder, TaskContext, Timestamp, TopicPartition,
};

use crate::builder::StreamsBuilder;
use crate::kstream::KStream;
use crate::processor::store::{ProcessorStore, StoreHandle};

/// A step written by hand. Made anew for every task, and after every rollback: what must last belongs in a store.
pub trait Processor: 'static {
    /// Key it takes.
    type KIn: Clone + 'static;
    /// Value it takes.
    type VIn: Clone + 'static;
    /// Key it forwards.
    type KOut: Clone + 'static;
    /// Value it forwards.
    type VOut: Clone + 'static;

    /// Takes one record.
    ///
    /// # Errors
    /// `processing.exception.handler` decides about an [`millstream_core::Error::user`]: the task fails, or the record is
    /// left out. What was forwarded, or put into stores, before the error stays then.
    fn process(
        &mut self,
        record: Record<Self::KIn, Self::VIn>,
        out: &mut Out<'_, Self::KOut, Self::VOut>,
    ) -> Result<()>;
}

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The task's stream time.
    Stream,
    /// The wall clock.
    Wall,
}

/// Where a processor forwards to, and what it may ask about the present record.
pub struct Out<'a, K, V> {
    cx: &'a mut TaskContext,
    down: &'a mut Downstream<Record<K, V>>,
}

impl<'a, K: Clone, V: Clone> Out<'a, K, V> {
    pub(crate) fn new(cx: &'a mut TaskContext, down: &'a mut Downstream<Record<K, V>>) -> Self {
        Out { cx, down }
    }

    /// Passes a record on; everything below has seen it when this returns.
    ///
    /// # Errors
    /// Whatever an operator below returns.
    pub fn forward(&mut self, record: Record<K, V>) -> Result<()> {
        self.down.forward(self.cx, record)
    }

    /// The task's stream time; -1 before the first record.
    pub fn stream_time(&self) -> Timestamp {
        self.cx.stream_time()
    }

    /// The wall clock, as read at the start of this poll.
    pub fn wall_time(&self) -> Timestamp {
        self.cx.wall_time()
    }

    /// Where the record came from; `None` in a timer.
    pub fn source(&self) -> Option<(&TopicPartition, Offset)> {
        self.cx.source()
    }

    /// Asks for a commit soon.
    pub fn request_commit(&mut self) {
        self.cx.request_commit();
    }
}

type Timer<P> =
    Rc<dyn Fn(&mut P, Timestamp, &mut Out<'_, <P as Processor>::KOut, <P as Processor>::VOut>) -> Result<()>>;

/// Given to the function that makes a processor: its stores and timers.
pub struct Setup<'a, P: Processor> {
    pub(crate) stores: &'a mut dyn FnMut(StoreId) -> (StoreInstance, String),
    pub(crate) now: Rc<Cell<Timestamp>>,
    timers: Vec<(Duration, Clock, Timer<P>)>,
}

impl<P: Processor> Setup<'_, P> {
    /// The task's own part of a store.
    pub fn store<S: ProcessorStore>(&mut self, store: StoreHandle<S>) -> S {
        let (instance, name) = (self.stores)(store.id);
        S::open(&instance, &name.into(), self.now.clone())
    }

    /// Calls `f` every `interval` with the stream time or the wall clock, as [`millstream_core::PunctuationType`] says.
    pub fn every(
        &mut self,
        interval: Duration,
        clock: Clock,
        f: impl Fn(&mut P, Timestamp, &mut Out<'_, P::KOut, P::VOut>) -> Result<()> + 'static,
    ) {
        self.timers.push((interval, clock, Rc::new(f)));
    }
}

/// Runs a processor's set-up once while the program is built, to learn which stores it asks for.
pub(crate) fn stores_of<P>(
    builder: &StreamsBuilder,
    make: impl FnOnce(&mut dyn FnMut(StoreId) -> (StoreInstance, String)) -> P,
) -> Vec<StoreId> {
    let mut asked = Vec::new();
    drop(make(&mut |id| {
        asked.push(id);
        builder.empty_store(id)
    }));
    asked
}

/// The stores of a task, by id.
pub(crate) fn stores_in<'t>(
    task: &'t TaskBuilder<'_>,
    builder: &'t StreamsBuilder,
) -> impl FnMut(StoreId) -> (StoreInstance, String) + 't {
    move |id| {
        let (empty, name) = builder.empty_store(id);
        (task.store_instance(id).cloned().unwrap_or(empty), name)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Processes every record by hand. `make` makes the processor of one task; it is also called once while the program
    /// is built, to learn its stores. The key counts as changed.
    pub fn process<P: Processor<KIn = K, VIn = V>>(
        &self,
        name: &str,
        make: impl Fn(&mut Setup<'_, P>) -> P + Send + Sync + 'static,
    ) -> KStream<P::KOut, P::VOut> {
        let stores =
            stores_of(&self.builder, |stores| make(&mut Setup { stores, now: Rc::default(), timers: Vec::new() }));
        let node = self.builder.node("KSTREAM-PROCESSOR", &[self.node], &stores);
        let port = self.builder.port();
        let (out, builder, name) = (port.clone(), self.builder.clone(), Arc::<str>::from(name));
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let now = Rc::new(Cell::new(0));
            let (processor, timers) = {
                let mut stores = stores_in(task, &builder);
                let mut setup = Setup { stores: &mut stores, now: now.clone(), timers: Vec::new() };
                (make(&mut setup), setup.timers)
            };
            let schedule: Vec<(Duration, Clock)> =
                timers.iter().map(|(interval, clock, _)| (*interval, *clock)).collect();
            let timers = timers.into_iter().map(|(_, _, f)| f).collect();
            let processing = Rc::new(RefCell::new(Processing { node, processor, timers, now, down }));
            for (token, (interval, clock)) in schedule.into_iter().enumerate() {
                let kind = match clock {
                    Clock::Stream => PunctuationType::StreamTime,
                    Clock::Wall => PunctuationType::WallClockTime,
                };
                task.schedule(&format!("{name}.{token}"), kind, interval, processing.clone(), token);
            }
            Box::new(Shared(processing))
        });
        KStream { builder: self.builder.clone(), node, port, key_changed: true, sources: self.sources.clone() }
    }
}

struct Processing<P: Processor> {
    node: NodeId,
    processor: P,
    timers: Vec<Timer<P>>,
    now: Rc<Cell<Timestamp>>,
    down: Downstream<Record<P::KOut, P::VOut>>,
}

impl<P: Processor> Punctuate for Processing<P> {
    fn punctuate(&mut self, cx: &mut TaskContext, time: Timestamp, token: usize) -> Result<()> {
        self.now.set(time);
        let timer = self.timers[token].clone();
        let done = timer(&mut self.processor, time, &mut Out::new(cx, &mut self.down));
        done.or_else(|error| cx.failed(self.node, error))
    }
}

/// A node that records and timers both reach. They never do so at once: a task is one thread and has no cycles.
pub(crate) struct Shared<N>(pub(crate) Rc<RefCell<N>>);

impl<P: Processor> Forward<Record<P::KIn, P::VIn>> for Shared<Processing<P>> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<P::KIn, P::VIn>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        node.now.set(record.timestamp);
        let done = node.processor.process(record, &mut Out::new(cx, &mut node.down));
        // A failure below has been dealt with there, and is no longer the user's own error.
        done.or_else(|error| cx.failed(node.node, error))
    }
}
