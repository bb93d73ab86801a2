//! What a processor is made with: stores and timers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use millstream_core::{FirstTime, Result, StoreId, StoreInstance, TaskBuilder, Timestamp};

use crate::builder::StreamsBuilder;
use crate::processor::kind::{Kind, OutOf};
use crate::processor::step::AnyKey;
use crate::processor::store::{ProcessorStore, StoreHandle, TaskStore};
use crate::processor::timer::{Clock, Timer};

/// The stores of what is made for one task.
pub struct Stores<'a> {
    builder: &'a StreamsBuilder,
    open: &'a mut dyn FnMut(StoreId) -> Option<StoreInstance>,
    now: Rc<Cell<Timestamp>>,
}

impl Stores<'_> {
    /// The task's own part of a store.
    pub fn store<S: ProcessorStore>(&mut self, store: StoreHandle<S>) -> S {
        let (empty, name) = self.builder.empty_store(store.id);
        let instance = (self.open)(store.id).unwrap_or(empty);
        let filled_by = if store.fills { None } else { self.builder.filled_by(store.id) };
        let (name, filled_by) = (name.into(), filled_by.map(Into::into));
        S::open(TaskStore { instance, name, now: self.now.clone(), filled_by })
    }

    /// Lets `make` run once while the program is built, to learn which stores it asks for.
    pub(crate) fn asked<T>(builder: &StreamsBuilder, make: impl FnOnce(Stores<'_>) -> T) -> (Vec<StoreId>, T) {
        let mut asked = Vec::new();
        let mut open = |id| {
            asked.push(id);
            None
        };
        let made = make(Stores { builder, open: &mut open, now: Rc::default() });
        (asked, made)
    }

    /// Lets `make` run for a task; `now` is the time that rows are to get.
    pub(crate) fn of_task<T>(
        task: &TaskBuilder<'_>,
        builder: &StreamsBuilder,
        now: &Rc<Cell<Timestamp>>,
        make: impl FnOnce(Stores<'_>) -> T,
    ) -> T {
        let mut open = |id| task.store_instance(id).cloned();
        make(Stores { builder, open: &mut open, now: now.clone() })
    }
}

/// What a timer calls.
pub(crate) type OnTimer<P, X> = Rc<dyn Fn(&mut P, Timestamp, &mut OutOf<'_, P, X>) -> Result<()>>;

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
///         self.sum.all().try_for_each(|row| row.and_then(|(key, n)| out.forward(Record::new(key, n, now))))
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
pub struct Setup<'a, P, X: Kind<P> = AnyKey> {
    stores: Stores<'a>,
    pub(crate) timers: Vec<TimerPlan<P, X>>,
}

/// A timer that was asked for.
pub(crate) struct TimerPlan<P, X: Kind<P>> {
    pub(crate) interval: Duration,
    pub(crate) call: OnTimer<P, X>,
    pub(crate) timer: Timer,
    /// When it fires first; `None` if it is not started.
    pub(crate) first: Option<FirstTime>,
}

impl<'a, P, X: Kind<P>> Setup<'a, P, X> {
    pub(crate) fn new(stores: Stores<'a>) -> Self {
        Setup { stores, timers: Vec::new() }
    }

    /// The task's own part of a store.
    pub fn store<S: ProcessorStore>(&mut self, store: StoreHandle<S>) -> S {
        self.stores.store(store)
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
        f: impl Fn(&mut P, Timestamp, &mut OutOf<'_, P, X>) -> Result<()> + 'static,
    ) -> Timer {
        self.add(interval, clock, Rc::new(f), Some(FirstTime::Usual))
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
        f: impl Fn(&mut P, Timestamp, &mut OutOf<'_, P, X>) -> Result<()> + 'static,
    ) -> Timer {
        self.add(interval, clock, Rc::new(f), Some(FirstTime::At(start)))
    }

    /// As [`Setup::every`], but not started: [`Timer::start`] and [`Timer::start_from`] do that, called by
    /// [`crate::Processor::process`] or by a timer. Such a timer has nothing of its own but when it is due: whom it is about is in a store.
    ///
    /// ```
    /// # use millstream_dsl::{Clock, KeyValueStore, Out, Processor, SECOND, StreamsBuilder, Timer, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// /// Tells what has come, ten seconds after the last record.
    /// struct Rest {
    ///     sum: KeyValueStore<String, i64>,
    ///     rest: Timer,
    /// }
    /// # impl Processor for Rest {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    ///     self.sum.update(&r.key, |sum| *sum.get_or_insert(0) += r.value)?;
    ///     self.rest.start(out); // anew, if it was started before
    ///     Ok(())
    /// }
    /// # }
    /// impl Rest {
    ///     fn tell(&mut self, now: i64, out: &mut Out<'_, String, i64>) -> Result<()> {
    ///         self.rest.cancel(); // until the next record
    ///         self.sum.all().try_for_each(|row| row.and_then(|(key, sum)| out.forward(Record::new(key, sum, now))))
    ///     }
    /// }
    /// # let b = StreamsBuilder::new();
    /// let sum = b.store::<String, i64>("sum");
    /// b.stream("in")
    ///     .process("rest", move |setup| Rest {
    ///         rest: setup.timer(10 * SECOND, Clock::Wall, Rest::tell),
    ///         sum: setup.store(sum),
    ///     })
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// for n in [5, 7, 1] {
    ///     input.pipe("a", n);
    ///     t.advance(9 * SECOND)?;
    /// }
    /// assert_eq!(out.read(), []);
    /// t.advance(SECOND)?;
    /// t.advance(10 * SECOND)?;
    /// assert_eq!(out.read(), [kv("a", 13)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn timer(
        &mut self,
        interval: Duration,
        clock: Clock,
        f: impl Fn(&mut P, Timestamp, &mut OutOf<'_, P, X>) -> Result<()> + 'static,
    ) -> Timer {
        self.add(interval, clock, Rc::new(f), None)
    }

    fn add(&mut self, interval: Duration, clock: Clock, call: OnTimer<P, X>, first: Option<FirstTime>) -> Timer {
        let timer = Timer::new(clock, interval);
        self.timers.push(TimerPlan { interval, call, timer: timer.clone(), first });
        timer
    }
}
