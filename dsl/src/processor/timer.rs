//! A timer of a processor.

use std::rc::Rc;
use std::time::Duration;

use millstream_core::{FirstTime, Punctuation, PunctuationType, Record, Timestamp};

use crate::processor::out::Out;

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The task's stream time.
    Stream,
    /// The wall clock.
    Wall,
}

/// A timer of a processor, to be started and cancelled by it. When it is due is committed with what the processor has done: a
/// rollback finds it as it was at the last commit, running or not. So does a restart, but for what was cancelled: it begins with
/// what the setup starts, as in Kafka Streams.
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
///         assert!(!self.timer.is_running());
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
#[derive(Debug, Clone)]
pub struct Timer(pub(crate) Rc<Punctuation>);

impl Timer {
    /// One that is not started.
    pub(crate) fn new(clock: Clock, interval: Duration) -> Self {
        let kind = match clock {
            Clock::Stream => PunctuationType::StreamTime,
            Clock::Wall => PunctuationType::WallClockTime,
        };
        Timer(Rc::new(Punctuation::new(kind, interval)))
    }

    /// Starts it now, and anew if it runs. As of [`crate::Setup::every`], its first time by the wall clock is an interval from
    /// now; by stream time it is at once, behind this record, and then at multiples of the interval. To wait for an interval
    /// of stream time there is [`Timer::start_from`].
    ///
    /// ```
    /// # use millstream_dsl::{Clock, Out, Processor, SECOND, StreamsBuilder, Timer, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// /// Asks again every second, from a question until an answer.
    /// struct Insist {
    ///     again: Timer,
    /// }
    /// # impl Processor for Insist {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = i64;
    /// fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, i64>) -> Result<()> {
    ///     if r.value == "question" { self.again.start(out) } else { self.again.cancel() }
    ///     Ok(())
    /// }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// b.stream("in")
    ///     .process("insist", |setup| Insist {
    ///         again: setup.timer(SECOND, Clock::Wall, |_, now, out| out.forward(Record::new("again".into(), now, now))),
    ///     })
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// for word in ["answer", "question", "answer"] {
    ///     input.pipe("a", word);
    ///     (0..2).try_for_each(|_| t.advance(SECOND))?;
    /// }
    /// assert_eq!(out.read(), [kv("again", 3_000), kv("again", 4_000)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn start<K, V, R: Into<Record<K, V>>>(&self, out: &mut Out<'_, K, V, R>) {
        self.0.start(out.cx, FirstTime::Usual);
    }

    /// As [`Timer::start`], at `first` and every interval behind it. A first time that is past only aligns it, as of
    /// [`crate::Setup::every_from`].
    ///
    /// ```
    /// # use millstream_dsl::{Clock, KeyValueStore, Out, Processor, SECOND, StreamsBuilder, Timer, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// /// Holds every record back for ten seconds of stream time.
    /// struct Hold {
    ///     held: KeyValueStore<i64, String>,
    ///     next: Timer,
    /// }
    /// # impl Processor for Hold {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = String;
    /// fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
    ///     let due = r.timestamp + 10_000;
    ///     self.held.put(&due, Some(r.value))?;
    ///     if !self.next.is_running() {
    ///         self.next.start_from(due, out);
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// impl Hold {
    ///     fn let_go(&mut self, now: i64, out: &mut Out<'_, String, String>) -> Result<()> {
    ///         self.next.cancel();
    ///         for row in self.held.all() {
    ///             let (due, value) = row?;
    ///             if due > now {
    ///                 self.next.start_from(due, out);
    ///                 break;
    ///             }
    ///             self.held.put(&due, None)?;
    ///             out.forward(Record::new("held".to_owned(), value, due))?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # let b = StreamsBuilder::new();
    /// # let held = b.store::<i64, String>("held");
    /// b.stream("in")
    ///     .process("hold", move |setup| Hold {
    ///         next: setup.timer(10 * SECOND, Clock::Stream, Hold::let_go),
    ///         held: setup.store(held),
    ///     })
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// for (time, word) in [(0, "one"), (4_000, "two"), (12_000, "three"), (14_000, "four")] {
    ///     input.pipe_at(time, "a", word);
    /// }
    /// let held = out.read_records().into_iter().map(|r| (r.timestamp, r.value));
    /// assert_eq!(held.collect::<Vec<_>>(), [(10_000, "one".to_owned()), (14_000, "two".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn start_from<K, V, R: Into<Record<K, V>>>(&self, first: Timestamp, out: &mut Out<'_, K, V, R>) {
        self.0.start(out.cx, FirstTime::At(first));
    }

    /// It fires no more, until it is started.
    pub fn cancel(&self) {
        self.0.stop();
    }

    /// Whether it fires: it was started, and not cancelled since.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }
}
