//! `process`: a processor as a node. It sees records, may hold stores and timers, and forwards what it likes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Downstream, Error, Forward, NodeId, Offset, Punctuate, PunctuationType, Record, Result, StoreId, StoreInstance,
    TaskBuilder, TaskContext, Timestamp, TopicPartition,
};

use crate::builder::StreamsBuilder;
use crate::durations::Least;
use crate::kstream::KStream;
use crate::processor::store::{ProcessorStore, StoreHandle};

/// A step written by hand. Made anew for every task, and after every rollback: what must last belongs in a store.
///
/// ```
/// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::{Record, Result};
/// # let b = StreamsBuilder::new();
/// struct Once {
///     seen: KeyValueStore<String, i64>,
/// }
/// impl Processor for Once {
///     type KIn = String;
///     type VIn = i64;
///     type KOut = String;
///     type VOut = i64;
///     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
///         if self.seen.put_if_absent(&r.key, r.value)?.is_some() { Ok(()) } else { out.forward(r) }
///     }
/// }
/// let seen = b.store::<String, i64>("seen");
/// b.stream::<String, i64>("in").process("once", move |s| Once { seen: s.store(seen) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// [5, 6].into_iter().for_each(|n| input.pipe("a", n));
/// assert_eq!(out.read(), [kv("a", 5)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
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
///
/// ```
/// # use millstream_dsl::{Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Step;
/// # impl Processor for Step {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
///     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
///         // What is now: the largest event time of the task, and the wall clock's.
///         let (stream, wall) = (out.stream_time(), out.wall_time());
///         let offset = out.source().map_or(-1, |(_, offset)| offset);
///         if r.value < 0 {
///             out.request_commit(); // soon, not now
///             return out.forward_to("negative", r);
///         }
///         out.forward(r.with_value(stream + wall + offset))
///     }
/// # }
/// # let b = StreamsBuilder::new();
/// # let (all, children) = b.stream("in").process_with_children("step", &["negative"], |_| Step);
/// # all.to("out");
/// # children.get("negative").expect("a child").to("negative");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe_at(7, "a", 5);
/// # t.input::<String, i64>("in")?.pipe_at(8, "a", -5);
/// # assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 7)]);
/// # assert_eq!(t.output::<String, i64>("negative")?.read(), [kv("a", 7), kv("a", -5)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct Out<'a, K, V> {
    cx: &'a mut TaskContext,
    down: &'a mut Outputs<K, V>,
}

/// A processor's outputs: what follows it, and its named children.
struct Outputs<K, V> {
    main: Downstream<Record<K, V>>,
    children: Vec<Child<K, V>>,
}

/// A child's name, and what follows it.
type Child<K, V> = (Arc<str>, Downstream<Record<K, V>>);
/// What follows a processor, and its children.
type WithChildren<K, V> = (KStream<K, V>, Children<K, V>);

impl<K: Clone, V: Clone> Out<'_, K, V> {
    /// Passes a record on, to all children too; everything below has seen it when this returns.
    ///
    /// # Errors
    /// Whatever an operator below returns.
    pub fn forward(&mut self, record: Record<K, V>) -> Result<()> {
        for (_, child) in &mut self.down.children {
            child.forward(self.cx, record.clone())?;
        }
        self.down.main.forward(self.cx, record)
    }

    /// Passes a record on to one child ([`KStream::process_with_children`]).
    ///
    /// # Errors
    /// When there is no child of this name, and whatever an operator below returns.
    pub fn forward_to(&mut self, child: &str, record: Record<K, V>) -> Result<()> {
        match self.down.children.iter_mut().find(|(name, _)| **name == *child) {
            Some((_, down)) => down.forward(self.cx, record),
            None => {
                let names: Vec<&str> = self.down.children.iter().map(|(name, _)| &**name).collect();
                Err(Error::user(format!(
                    "a processor forwards to `{child}`, and its children are {}\n  help: name it in process_with_children",
                    if names.is_empty() { "none".into() } else { names.join(", ") }
                )))
            }
        }
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

/// A timer, to be cancelled. It lasts as long as the processor; a new one has its timers again.
///
/// ```
/// # use millstream_dsl::{Clock, MIN, Out, Processor, StreamsBuilder, Timer, TopologyTestDriver};
/// # use millstream_dsl::core::{Record, Result};
/// struct Once {
///     timer: Timer,
/// }
/// # impl Processor for Once {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> { Ok(()) }
/// # }
/// impl Once {
///     fn tick(&mut self, now: i64, out: &mut Out<'_, String, i64>) -> Result<()> {
///         self.timer.cancel();
///         assert!(self.timer.is_cancelled());
///         out.forward(Record::new("tick".to_owned(), now, now))
///     }
/// }
/// # let b = StreamsBuilder::new();
/// b.stream("in").process("once", |s| Once { timer: s.every(MIN, Clock::Wall, Once::tick) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let out = t.output::<String, i64>("out")?;
/// t.advance(MIN)?;
/// t.advance(MIN)?;
/// assert_eq!(out.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Timer(Rc<Cell<bool>>);

impl Timer {
    /// It fires no more.
    pub fn cancel(&self) {
        self.0.set(true);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.get()
    }
}

/// What a timer calls.
type OnTimer<P> =
    Rc<dyn Fn(&mut P, Timestamp, &mut Out<'_, <P as Processor>::KOut, <P as Processor>::VOut>) -> Result<()>>;

/// Given to the function that makes a processor: its stores and timers.
///
/// ```
/// # use millstream_dsl::{Clock, KeyValueStore, MIN, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::{Record, Result};
/// struct Total {
///     sum: KeyValueStore<String, i64>,
/// }
/// # impl Processor for Total {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> {
/// #         self.sum.update(&r.key, |n| *n.get_or_insert(0) += r.value)
/// #     }
/// # }
/// impl Total {
///     fn tell(&mut self, now: i64, out: &mut Out<'_, String, i64>) -> Result<()> {
///         self.sum.all()?.into_iter().try_for_each(|(key, n)| out.forward(Record::new(key, n, now)))
///     }
/// }
/// # let b = StreamsBuilder::new();
/// let sum = b.store::<String, i64>("sum");
/// b.stream("in")
///     .process("total", move |setup| {
///         setup.every(MIN, Clock::Wall, Total::tell);
///         Total { sum: setup.store(sum) }
///     })
///     .to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// [5, 7].into_iter().for_each(|n| input.pipe("a", n));
/// t.advance(MIN)?;
/// assert_eq!(out.read(), [kv("a", 12)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct Setup<'a, P: Processor> {
    pub(crate) stores: &'a mut dyn FnMut(StoreId) -> (StoreInstance, String),
    pub(crate) now: Rc<Cell<Timestamp>>,
    timers: Vec<TimerPlan<P>>,
}

/// A timer that was asked for.
struct TimerPlan<P: Processor> {
    anchor: Option<Timestamp>,
    interval: Duration,
    clock: Clock,
    call: OnTimer<P>,
    timer: Timer,
}

impl<P: Processor> Setup<'_, P> {
    /// The task's own part of a store.
    pub fn store<S: ProcessorStore>(&mut self, store: StoreHandle<S>) -> S {
        let (instance, name) = (self.stores)(store.id);
        S::open(&instance, &name.into(), self.now.clone())
    }

    /// Calls `f` every `interval` with the stream time or the wall clock, as [`millstream_core::PunctuationType`] says.
    ///
    /// ```
    /// # use millstream_dsl::{Clock, MIN, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Tick;
    /// # impl Processor for Tick {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> { Ok(()) }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in")
    ///     .process("tick", |s| {
    ///         s.every(MIN, Clock::Wall, |_, now, out| out.forward(Record::new("tick".to_owned(), now, now)));
    ///         Tick
    ///     })
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// t.advance(MIN)?;
    /// assert_eq!(out.read(), [kv("tick", 60_000)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn every(
        &mut self,
        interval: Duration,
        clock: Clock,
        f: impl Fn(&mut P, Timestamp, &mut Out<'_, P::KOut, P::VOut>) -> Result<()> + 'static,
    ) -> Timer {
        self.schedule(None, interval, clock, Rc::new(f))
    }

    /// As [`Setup::every`], at `start` and every `interval` behind it (KIP-1146). A start in the past is no reason to fire at
    /// once: the first time is the next one that `start` and `interval` give.
    ///
    /// ```
    /// # use millstream_dsl::{Clock, HOUR, MIN, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Tick;
    /// # impl Processor for Tick {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> { Ok(()) }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in")
    ///     .process("tick", |s| {
    ///         // At a quarter past every hour.
    ///         let quarter = 15 * 60_000;
    ///         s.every_from(quarter, HOUR, Clock::Wall, |_, now, out| out.forward(Record::new("tick".to_owned(), now, now)));
    ///         Tick
    ///     })
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let out = t.output::<String, i64>("out")?;
    /// t.advance(15 * MIN)?;
    /// t.advance(HOUR)?;
    /// assert_eq!(out.read(), [kv("tick", 15 * 60_000), kv("tick", 75 * 60_000)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn every_from(
        &mut self,
        start: Timestamp,
        interval: Duration,
        clock: Clock,
        f: impl Fn(&mut P, Timestamp, &mut Out<'_, P::KOut, P::VOut>) -> Result<()> + 'static,
    ) -> Timer {
        self.schedule(Some(start), interval, clock, Rc::new(f))
    }

    fn schedule(&mut self, anchor: Option<Timestamp>, interval: Duration, clock: Clock, call: OnTimer<P>) -> Timer {
        let timer = Timer::default();
        self.timers.push(TimerPlan { anchor, interval, clock, call, timer: timer.clone() });
        timer
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
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Once { seen: KeyValueStore<String, i64> }
    /// # impl Processor for Once {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         if self.seen.put_if_absent(&r.key, r.value)?.is_some() { return Ok(()) }
    /// #         out.forward(r)
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let seen = b.store::<String, i64>("seen");
    /// b.stream::<String, i64>("in").process("once", move |s| Once { seen: s.store(seen) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// [5, 6].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn process<P: Processor<KIn = K, VIn = V>>(
        &self,
        name: &str,
        make: impl Fn(&mut Setup<'_, P>) -> P + Send + Sync + 'static,
    ) -> KStream<P::KOut, P::VOut> {
        self.process_with_children(name, &[], make).0
    }

    /// As [`KStream::process`], with named children besides what follows: [`Out::forward_to`] passes a record on to one of
    /// them, [`Out::forward`] to all.
    ///
    /// ```
    /// # use millstream_dsl::{Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # let b = StreamsBuilder::new();
    /// struct Sorter;
    /// impl Processor for Sorter {
    ///     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    ///     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    ///         if r.value < 0 { out.forward_to("negative", r) } else { out.forward(r) }
    ///     }
    /// }
    /// let (all, children) = b.stream("in").process_with_children("sort", &["negative"], |_| Sorter);
    /// all.to("out");
    /// children.get("negative").expect("a child").to("negative");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// # let negative = t.output::<String, i64>("negative")?;
    /// [5, -5].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// assert_eq!(negative.read(), [kv("a", 5), kv("a", -5)]); // `forward` reaches the children too
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn process_with_children<P: Processor<KIn = K, VIn = V>>(
        &self,
        name: &str,
        children: &[&str],
        make: impl Fn(&mut Setup<'_, P>) -> P + Send + Sync + 'static,
    ) -> WithChildren<P::KOut, P::VOut> {
        let builder = &self.builder;
        let stores = stores_of(builder, |stores| {
            let mut setup = Setup { stores, now: Rc::default(), timers: Vec::new() };
            let processor = make(&mut setup);
            for timer in &setup.timers {
                builder.millis(&format!("processor `{name}`"), "a timer", timer.interval, Least::Millisecond);
            }
            if !setup.timers.is_empty() {
                builder.name_timers(name);
            }
            processor
        });
        let node = builder.node("KSTREAM-PROCESSOR", &[self.node], &stores);
        let output = || KStream {
            builder: builder.clone(),
            node,
            port: builder.port(),
            key_changed: true,
            sources: self.sources.clone(),
        };
        let main: KStream<P::KOut, P::VOut> = output();
        let children: Vec<_> = children.iter().map(|child| (Arc::<str>::from(*child), output())).collect();
        let ports: Vec<_> = children.iter().map(|(name, stream)| (name.clone(), stream.port.clone())).collect();
        let (out, graph, name) = (main.port.clone(), builder.clone(), Arc::<str>::from(name));
        self.port.subscribe(move |task| {
            let main = task.open(&out);
            let children = ports.iter().map(|(name, port)| (name.clone(), task.open(port))).collect();
            let now = Rc::new(Cell::new(0));
            let (processor, plans) = {
                let mut stores = stores_in(task, &graph);
                let mut setup = Setup { stores: &mut stores, now: now.clone(), timers: Vec::new() };
                (make(&mut setup), setup.timers)
            };
            let mut timers = Vec::new();
            let mut schedule = Vec::new();
            for TimerPlan { anchor, interval, clock, call, timer } in plans {
                timers.push((call, timer));
                schedule.push((anchor, interval, clock));
            }
            let processing = Processing { node, processor, timers, now, down: Outputs { main, children } };
            let processing = Rc::new(RefCell::new(processing));
            for (token, (anchor, interval, clock)) in schedule.into_iter().enumerate() {
                let kind = match clock {
                    Clock::Stream => PunctuationType::StreamTime,
                    Clock::Wall => PunctuationType::WallClockTime,
                };
                task.schedule(&format!("{name}.{token}"), kind, anchor, interval, processing.clone(), token);
            }
            Box::new(Shared(processing))
        });
        (main, Children(children))
    }
}

/// The children of a processor, by name.
///
/// ```
/// # use millstream_dsl::{Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Pass;
/// # impl Processor for Pass {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> { out.forward_to("b", r) }
/// # }
/// # let b = StreamsBuilder::new();
/// let (_, children) = b.stream("in").process_with_children("pass", &["a", "b"], |_| Pass);
/// if let Some(stream) = children.get("b") {
///     stream.to("out");
/// }
/// assert!(children.get("c").is_none());
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe("k", 5);
/// # assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 5)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct Children<K, V>(Vec<(Arc<str>, KStream<K, V>)>);

impl<K, V> Children<K, V> {
    /// The stream of what is forwarded to a child; `None` if there is none of this name.
    pub fn get(&self, name: &str) -> Option<&KStream<K, V>> {
        self.0.iter().find(|(child, _)| **child == *name).map(|(_, stream)| stream)
    }
}

struct Processing<P: Processor> {
    node: NodeId,
    processor: P,
    timers: Vec<(OnTimer<P>, Timer)>,
    now: Rc<Cell<Timestamp>>,
    down: Outputs<P::KOut, P::VOut>,
}

impl<P: Processor> Punctuate for Processing<P> {
    fn punctuate(&mut self, cx: &mut TaskContext, time: Timestamp, token: usize) -> Result<()> {
        self.now.set(time);
        let (call, timer) = &self.timers[token];
        if timer.is_cancelled() {
            return Ok(());
        }
        let call = call.clone();
        let done = call(&mut self.processor, time, &mut Out { cx, down: &mut self.down });
        done.or_else(|error| cx.failed(self.node, error))
    }
}

/// A node that records and timers both reach. They never do so at once: a task is one thread and has no cycles.
pub(crate) struct Shared<N>(pub(crate) Rc<RefCell<N>>);

impl<P: Processor> Forward<Record<P::KIn, P::VIn>> for Shared<Processing<P>> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<P::KIn, P::VIn>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        node.now.set(record.timestamp);
        let done = node.processor.process(record, &mut Out { cx, down: &mut node.down });
        // A failure below has been dealt with there, and is no longer the user's own error.
        done.or_else(|error| cx.failed(node.node, error))
    }
}
