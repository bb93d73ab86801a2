//! Where a processor forwards to.

use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{
    Downstream, Error, Forward, LATEST_TIME, Offset, Record, Result, TaskContext, Timestamp, TopicPartition,
};

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
pub struct Out<'a, K, V, R = Record<K, V>> {
    pub(crate) cx: &'a mut TaskContext,
    down: &'a mut Outputs<K, V>,
    forwarded: PhantomData<fn(R)>,
}

/// A processor's outputs: what follows it, and its named children.
pub(crate) struct Outputs<K, V> {
    pub(crate) main: Downstream<Record<K, V>>,
    pub(crate) children: Vec<Child<K, V>>,
}

/// A child's name, and what follows it.
type Child<K, V> = (Arc<str>, Downstream<Record<K, V>>);

impl<'a, K: Clone, V: Clone, R: Into<Record<K, V>>> Out<'a, K, V, R> {
    pub(crate) fn new(cx: &'a mut TaskContext, down: &'a mut Outputs<K, V>) -> Self {
        Out { cx, down, forwarded: PhantomData }
    }

    /// Passes a record on, to all children too; everything below has seen it when this returns.
    ///
    /// # Errors
    /// Whatever an operator below returns, and when the record's time is none.
    pub fn forward(&mut self, record: R) -> Result<()> {
        let record = with_time(record.into())?;
        for (_, child) in &mut self.down.children {
            child.forward(self.cx, record.clone())?;
        }
        self.down.main.forward(self.cx, record)
    }

    /// Passes a record on to one child ([`crate::KStream::process_with_children`]).
    ///
    /// # Errors
    /// When there is no child of this name, whatever an operator below returns, and when the record's time is none.
    pub fn forward_to(&mut self, child: &str, record: R) -> Result<()> {
        match self.down.children.iter_mut().find(|(name, _)| **name == *child) {
            Some((_, down)) => down.forward(self.cx, with_time(record.into())?),
            None => {
                let names: Vec<&str> = self.down.children.iter().map(|(name, _)| &**name).collect();
                Err(Error::user(format!(
                    "a processor forwards to `{child}`, and its children are {}\n  help: name it where the processor is added, in its …_with_children",
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

/// A record whose time can be reckoned with.
#[inline]
fn with_time<K, V>(record: Record<K, V>) -> Result<Record<K, V>> {
    if (0..=LATEST_TIME).contains(&record.timestamp) { Ok(record) } else { Err(no_time(record.timestamp)) }
}

#[cold]
fn no_time(time: Timestamp) -> Error {
    Error::user(format!(
        "a processor forwards a record with the time {time}\n  help: give it a time from 0 to {LATEST_TIME} ms, `Out::wall_time` where there is no other"
    ))
}
