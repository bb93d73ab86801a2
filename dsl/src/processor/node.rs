//! Processors of both kinds as nodes: records and timers reach them, and they forward what they like.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Forward, NodeId, Punctuate, Record, Result, TaskBuilder, TaskContext, Timestamp};

use crate::builder::StreamsBuilder;
use crate::durations::Least;
use crate::kstream::KStream;
use crate::processor::kind::{Kind, OutOf};
use crate::processor::out::{Out, Outputs};
use crate::processor::setup::{OnTimer, Setup, Stores};
use crate::processor::step::{AnyKey, Processor};

/// What follows a processor, and its children.
pub(crate) type WithChildren<K, V> = (KStream<K, V>, Children<K, V>);

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
        self.add_processor::<P, AnyKey>("KSTREAM-PROCESSOR", true, name, children, make)
    }

    /// Adds a processor of either kind.
    pub(crate) fn add_processor<P: 'static, X: Kind<P, KIn = K, VIn = V>>(
        &self,
        kind: &str,
        key_changed: bool,
        name: &str,
        children: &[&str],
        make: impl Fn(&mut Setup<'_, P, X>) -> P + Send + Sync + 'static,
    ) -> WithChildren<X::KOut, X::VOut> {
        let builder = &self.builder;
        let (stores, has_timers) = Stores::asked(builder, |stores| {
            let mut setup = Setup::new(stores);
            drop(make(&mut setup));
            for timer in &setup.timers {
                builder.millis(&format!("processor `{name}`"), "a timer", timer.interval, Least::Millisecond);
            }
            !setup.timers.is_empty()
        });
        if has_timers {
            builder.claim_timers(name);
        }
        let node = builder.node(kind, &[self.node], &stores);
        builder.asks(node, &stores);
        let output = || KStream {
            builder: builder.clone(),
            node,
            port: builder.port(),
            key_changed,
            sources: self.sources.clone(),
        };
        let main: KStream<X::KOut, X::VOut> = output();
        let children: Vec<_> = children.iter().map(|child| (Arc::<str>::from(*child), output())).collect();
        let ports: Vec<_> = children.iter().map(|(name, stream)| (name.clone(), stream.port.clone())).collect();
        let (out, graph, name) = (main.port.clone(), builder.clone(), Arc::<str>::from(name));
        self.port.subscribe(move |task| {
            let main = task.open(&out);
            let children = ports.iter().map(|(name, port)| (name.clone(), task.open(port))).collect();
            let down = Outputs { main, children };
            Box::new(Running::<P, X>::start(task, &graph, node, &name, down, &make))
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

/// A processor in its task.
struct Processing<P, X: Kind<P>> {
    node: NodeId,
    processor: P,
    /// What its timers call.
    calls: Vec<OnTimer<P, X>>,
    now: Rc<Cell<Timestamp>>,
    down: Outputs<X::KOut, X::VOut>,
}

/// A node that records and timers both reach. They never do so at once: a task is one thread and has no cycles.
pub(crate) struct Running<P, X: Kind<P>>(Rc<RefCell<Processing<P, X>>>);

impl<P: 'static, X: Kind<P>> Running<P, X> {
    /// Makes it for a task.
    pub(crate) fn start(
        task: &mut TaskBuilder<'_>,
        graph: &StreamsBuilder,
        node: NodeId,
        name: &str,
        down: Outputs<X::KOut, X::VOut>,
        make: &impl Fn(&mut Setup<'_, P, X>) -> P,
    ) -> Self {
        let now = Rc::new(Cell::new(0));
        let (processor, plans) = Stores::of_task(task, graph, &now, |stores| {
            let mut setup = Setup::new(stores);
            (make(&mut setup), setup.timers)
        });
        let (calls, timers): (Vec<_>, Vec<_>) =
            plans.into_iter().map(|plan| (plan.call, (plan.timer, plan.first))).unzip();
        let processing = Rc::new(RefCell::new(Processing { node, processor, calls, now, down }));
        for (token, (timer, first)) in timers.into_iter().enumerate() {
            task.schedule(&format!("{name}.{token}"), timer.0, first, processing.clone(), token);
        }
        Running(processing)
    }
}

impl<P, X: Kind<P>> Punctuate for Processing<P, X> {
    fn punctuate(&mut self, cx: &mut TaskContext, time: Timestamp, token: usize) -> Result<()> {
        self.now.set(time);
        let call = self.calls[token].clone();
        let mut out: OutOf<'_, P, X> = Out::new(cx, &mut self.down);
        let done = call(&mut self.processor, time, &mut out);
        done.or_else(|error| cx.failed(self.node, error))
    }
}

impl<P, X: Kind<P>> Forward<Record<X::KIn, X::VIn>> for Running<P, X> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<X::KIn, X::VIn>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        node.now.set(record.timestamp);
        let done = X::process(&mut node.processor, record, &mut Out::new(cx, &mut node.down));
        // A failure below has been dealt with there, and is no longer the user's own error.
        done.or_else(|error| cx.failed(node.node, error))
    }
}
