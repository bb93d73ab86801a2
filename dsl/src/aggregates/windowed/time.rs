//! Tumbling, hopping and sliding windows (semantics.md 35, 37, 38, 42, 45).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Change, Data, Downstream, Error, Forward, Headers, Lifecycle, NodeId, Port, Record, Result, StoreFormat, StoreId,
    TaskContext, Timestamp,
};
use millstream_state::{Entry, KeyRows, WindowStart};

use crate::aggregates::grouped::GroupedStream;
use crate::aggregates::windowed::close::WindowClock;
use crate::aggregates::windowed::store::{TimedStore, WindowedRows};
use crate::builder::StreamsBuilder;
use crate::durations::{FirstBad, Least};
use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, Rows};
use crate::late::{Late, LateStream, keep, pass_on, too_late};
use crate::windows::{EmitStrategy, SlidingWindows, TimeWindows, Window, Windowed};

/// Windows of a fixed size.
#[derive(Debug, Clone, Copy)]
pub enum FixedWindows {
    /// At multiples.
    Time(TimeWindows),
    /// With the records.
    Sliding(SlidingWindows),
}

impl From<TimeWindows> for FixedWindows {
    fn from(windows: TimeWindows) -> Self {
        FixedWindows::Time(windows)
    }
}
impl From<SlidingWindows> for FixedWindows {
    fn from(windows: SlidingWindows) -> Self {
        FixedWindows::Sliding(windows)
    }
}

impl FixedWindows {
    fn size(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.size,
            FixedWindows::Sliding(w) => w.difference,
        }
    }

    pub(crate) fn grace(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.grace,
            FixedWindows::Sliding(w) => w.grace,
        }
    }

    /// The least retention that may be asked for (semantics.md 44).
    pub(crate) fn retention(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.size + w.grace,
            FixedWindows::Sliding(w) => 2 * w.difference + w.grace,
        }
    }

    /// For how much longer rows are needed. A record that is only just not late opens the right window of the record
    /// before it, which it knows by a window that begins `2 * difference + grace + 1` before stream time.
    fn needed_beyond(&self) -> Timestamp {
        match self {
            FixedWindows::Time(_) => 0,
            FixedWindows::Sliding(_) => 2,
        }
    }

    /// How many windows a record is in, as far as that is known.
    fn at_once(&self) -> usize {
        match self {
            FixedWindows::Time(w) => (w.size / w.advance.max(1)).clamp(1, 64) as usize,
            FixedWindows::Sliding(_) => 1,
        }
    }

    fn format<KS, VS>(&self) -> StoreFormat {
        match self {
            FixedWindows::Time(w) => {
                let format = StoreFormat::of::<KS, VS>("window");
                format.with("window.size.ms", w.size).with("window.advance.ms", w.advance)
            }
            FixedWindows::Sliding(w) => {
                StoreFormat::of::<KS, VS>("sliding-window").with("window.difference.ms", w.difference)
            }
        }
    }

    fn window(&self, start: Timestamp) -> Window {
        Window { start, end: start + self.size() }
    }

    /// Starts of the windows that close between two close times: time windows when their end is reached, sliding ones,
    /// whose end is inclusive, when it is passed.
    fn closing(&self, last: Option<Timestamp>, close_time: Timestamp) -> RangeInclusive<Timestamp> {
        self.first_open(last)..=close_time - self.closes_behind()
    }

    /// The start of the first window that is open behind a close time.
    fn first_open(&self, last: Option<Timestamp>) -> Timestamp {
        last.map_or(0, |last| (last - self.closes_behind() + 1).max(0))
    }

    /// How far behind the start of a window the close time is that closes it.
    fn closes_behind(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.size,
            FixedWindows::Sliding(w) => w.difference + 1,
        }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            FixedWindows::Time(w) => w.problem(),
            FixedWindows::Sliding(w) => w.bad.get().map(|bad| bad.to_string()),
        }
    }
}

/// A grouped stream in windows of a fixed size.
pub struct TimeWindowedStream<K, V> {
    grouped: GroupedStream<K, V>,
    late: Option<Arc<LateStream<K, V>>>,
    pub(crate) spec: WindowSpec<FixedWindows>,
}

/// Windows, how long they are kept, and when they are passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowSpec<W> {
    pub(crate) windows: W,
    pub(crate) retention: Option<Timestamp>,
    pub(crate) emit: EmitStrategy,
    bad: FirstBad,
}

impl<W> WindowSpec<W> {
    pub(crate) fn new(windows: W) -> Self {
        WindowSpec { windows, retention: None, emit: EmitStrategy::OnUpdate, bad: FirstBad::default() }
    }

    pub(crate) fn keep_for(&mut self, retention: Duration) {
        self.retention = Some(self.bad.millis("a retention", retention, Least::Millisecond));
    }

    /// For how long windows are kept that need at least so many milliseconds; `of` says what needs them. What is wrong with
    /// the windows themselves comes first.
    pub(crate) fn kept(
        &self,
        builder: &StreamsBuilder,
        store: &str,
        windows: Option<String>,
        (what, of): (&str, &str),
        least: Timestamp,
    ) -> Timestamp {
        let retention = self.retention.unwrap_or(least);
        let short = || format!("keeps {what} for {retention} ms\n  help: {of} need at least {least} ms");
        let problem = windows.or_else(|| self.bad.get().map(|bad| bad.to_string()));
        if let Some(problem) = problem.or_else(|| (retention < least).then(short)) {
            let colon = if problem.starts_with("keeps") { "" } else { ":" };
            builder.problem(format!("`{store}`{colon} {problem}"));
        }
        retention
    }
}

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    pub(crate) fn in_fixed_windows(&self, windows: FixedWindows) -> TimeWindowedStream<K, V> {
        TimeWindowedStream { grouped: self.clone(), late: None, spec: WindowSpec::new(windows) }
    }
}

impl<K: Data<NonNull = K>, V: Data> TimeWindowedStream<K, V> {
    /// Keeps windows readable for so long behind the newest, by their starts: at least size and grace, which is the default;
    /// for sliding windows twice the difference, and grace. Less is an error of [`crate::StreamsBuilder::build`].
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, MIN, SECOND, TimeWindows, StreamsBuilder};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN)).retention(HOUR).count("long");
    /// assert!(b.build().is_ok());
    /// clicks.windowed_by(TimeWindows::of(MIN)).retention(SECOND).count("short");
    /// assert!(b.build().is_err());
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn retention(mut self, retention: Duration) -> Self {
        self.spec.keep_for(retention);
        self
    }

    /// Passes every window on once, when its grace is over.
    /// A run that ends with its input closes what is open with it.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN)).emit_on_close().count("per-minute").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "a", 5);
    /// input.pipe_at(59_999, "a", 5);
    /// assert_eq!(out.read(), []);
    /// input.pipe_at(60_000, "b", 5);
    /// assert_eq!(out.read()[0].1, Some(2));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn emit_on_close(mut self) -> Self {
        self.spec.emit = EmitStrategy::OnWindowClose;
        self
    }

    /// Gives the records that come too late for a window to `use_it`, as a stream: each once, as it came, however many of
    /// its windows are over. They are counted as dropped all the same.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN)).on_late(|late| late.to("too-late")).count("counts");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let late = t.output::<String, i64>("too-late")?;
    /// [(0, 1), (240_000, 2), (5, 3)].into_iter().for_each(|(time, n)| input.pipe_at(time, "a", n));
    /// assert_eq!(late.read(), [("a".to_owned(), 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn on_late(mut self, use_it: impl FnOnce(KStream<K, V>)) -> Self {
        self.late = Some(LateStream::of(self.grouped.stream(), use_it));
        self
    }

    /// Records per key and window. Null values count, except in sliding windows.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SECOND, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN).advance_by(30 * SECOND)).count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(40_000, "a", 5); // in the windows from 0 and from 30 seconds
    /// let starts: Vec<i64> = out.read().iter().map(|(key, _)| key.window.start).collect();
    /// assert_eq!(starts, [0, 30_000]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn count(&self, store: &str) -> KTable<Windowed<K>, i64> {
        // Sliding windows leave null values out.
        if matches!(self.spec.windows, FixedWindows::Time(_)) {
            self.grouped.builder().warn_of_nulls::<V>(store);
        }
        self.fold(store, |_, _, n| sure(Some(n.unwrap_or(0) + 1)))
    }

    /// Folds the values of a key and window into one of their own type. A null value leaves the window as it was, which is
    /// passed on again; sliding windows leave it out and count it.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let readings = b.stream::<String, i64>("in").group_by_key();
    /// readings.windowed_by(TimeWindows::of(MIN)).reduce("warmest", i64::max).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// for (time, degrees) in [(0, 18), (30_000, 21), (60_000, 17)] {
    ///     input.pipe_at(time, "roof", degrees);
    /// }
    /// let warmest: Vec<Option<i64>> = out.read().into_iter().map(|(_, degrees)| degrees).collect();
    /// assert_eq!(warmest, [Some(18), Some(21), Some(17)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> V::NonNull + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.reduce_or_delete(store, move |sum, value| Some(f(sum, value)))
    }

    /// As `reduce`; `None` deletes the window's row, and the next record starts over.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// amounts.reduce_or_delete("open", |sum, n| Some(sum + n).filter(|sum| *sum != 0)).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [5, -5, 3].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(5), None, Some(3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce_or_delete(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Option<V::NonNull> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.fold(store, move |_, value: V, sum| match (sum, value.into_non_null()) {
            (Some(sum), Some(value)) => sure(f(sum, value)),
            (None, value) => Ok(value),
            (sum, None) => Ok(sum),
        })
    }

    /// As [`TimeWindowedStream::reduce`], with a function that may fail: `processing.exception.handler` decides then. The
    /// window's row stays as it was, and the record does not go into further windows.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// amounts.try_reduce("sums", |sum, n| sum.checked_add(n).ok_or("too much")).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [i64::MAX, 1, -1].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(i64::MAX), Some(i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce<E: Into<BoxError>>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<V::NonNull, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.try_reduce_or_delete(store, move |sum, value| f(sum, value).map(Some))
    }

    /// As [`TimeWindowedStream::try_reduce`]; `None` deletes the window's row.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// let add = |sum: i64, n: i64| sum.checked_add(n).ok_or("too much");
    /// amounts
    ///     .try_reduce_or_delete("sums", move |sum, n| add(sum, n).map(|sum| Some(sum).filter(|sum| *sum != 0)))
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [i64::MAX, 1, -i64::MAX].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(i64::MAX), None]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce_or_delete<E: Into<BoxError>>(
        &self,
        store: &str,
        f: impl Fn(V::NonNull, V::NonNull) -> Result<Option<V::NonNull>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V::NonNull> {
        self.fold(store, move |_, value: V, sum| match (sum, value.into_non_null()) {
            (Some(sum), Some(value)) => f(sum, value).map_err(Error::user),
            (None, value) => Ok(value),
            (sum, None) => Ok(sum),
        })
    }

    /// Folds the values of a key and window into a value of another type, in place. Null values come as they are,
    /// except in sliding windows, which leave them out.
    ///
    /// ```
    /// # use millstream_dsl::{HOUR, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let paid = b.stream::<String, i64>("in").group_by_key();
    /// paid.windowed_by(TimeWindows::of(HOUR)).aggregate("revenue", || 0, |_, n, sum| *sum += n).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "shop", 5);
    /// input.pipe_at(1, "shop", 7);
    /// assert_eq!(out.read()[1].1, Some(12));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.fold(store, move |key, value, sum| {
            let mut sum = sum.unwrap_or_else(&init);
            f(key, value, &mut sum);
            sure(Some(sum))
        })
    }

    /// As [`TimeWindowedStream::aggregate`], with a function that takes and returns the value; `None` deletes the window's row,
    /// and the next record starts over (semantics.md 45).
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// let add = |_: &String, n: i64, sum: i64| Some(sum + n).filter(|sum| *sum != 0);
    /// amounts.aggregate_or_delete("open", || 0, add).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [5, -5, 3].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(5), None, Some(3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate_or_delete<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.fold(store, move |key, value, sum| sure(f(key, value, sum.unwrap_or_else(&init))))
    }

    /// As [`TimeWindowedStream::try_aggregate`]; `None` deletes the window's row.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let texts = b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// // A 0 deletes the row.
    /// let add = |_: &String, text: String, sum: i64| text.parse::<i64>().map(|n| (n != 0).then_some(sum + n));
    /// texts.try_aggregate_or_delete("sums", || 0, add).to_stream().to("out");
    /// # let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// # let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// ["1", "one", "0"].into_iter().for_each(|text| input.pipe_at(0, "a", text));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(1), None]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate_or_delete<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.fold(store, move |key, value, sum| f(key, value, sum.unwrap_or_else(&init)).map_err(Error::user))
    }

    /// Folds with a function that may fail, and takes and returns the value; as [`TimeWindowedStream::try_reduce`].
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let amounts = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// let add = |_: &String, n: i64, sum: i64| sum.checked_add(n).ok_or("too much");
    /// amounts.try_aggregate("sums", || 0, add).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// [i64::MAX, 1, -1].into_iter().for_each(|n| input.pipe_at(0, "a", n));
    /// let sums: Vec<Option<i64>> = out.read().into_iter().map(|(_, sum)| sum).collect();
    /// assert_eq!(sums, [Some(i64::MAX), Some(i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Result<A, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.try_aggregate_or_delete(store, init, move |key, value, sum| f(key, value, sum).map(Some))
    }

    fn fold<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        f: impl Fn(&K, V, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let stream = self.grouped.stream_for(store);
        let result = WindowedTable::add(&stream.builder, store, self.spec);
        let node = stream.builder.node("KSTREAM-AGGREGATE", &[stream.node], &[result.id]);
        if let Some(late) = &self.late {
            late.follow(&stream, node);
        }
        result.subscribe(node, &stream, self.late.clone(), f);
        result.into_table(node, stream.sources.clone(), stream.builder)
    }
}

/// The result of a windowed aggregation under construction: its store and port, that several inputs may share.
pub(crate) struct WindowedTable<K, A> {
    pub(crate) id: StoreId,
    port: Port<Record<Windowed<K>, Change<A>>>,
    old_values: OldValues,
    pub(crate) store: Arc<str>,
    spec: WindowSpec<FixedWindows>,
    inputs: Cell<usize>,
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> WindowedTable<K, A> {
    pub(crate) fn add(builder: &StreamsBuilder, store: &str, spec: WindowSpec<FixedWindows>) -> Self {
        let least = spec.windows.retention();
        let problem = spec.windows.problem();
        let retention = spec.kept(builder, store, problem, ("windows", "size and grace"), least);
        let format = spec.windows.format::<K::Serde, A::Serde>();
        let (kept, at_once) = (retention + spec.windows.needed_beyond(), spec.windows.at_once());
        let id = TimedStore::<WindowStart, K, A>::add(builder, store, kept, at_once, format);
        WindowedTable {
            id,
            port: builder.port(),
            old_values: OldValues::stored(),
            store: store.into(),
            spec,
            inputs: Cell::new(0),
        }
    }

    /// Hangs a fold on an input.
    pub(crate) fn subscribe<V: Data, E: Failure + 'static>(
        &self,
        node: NodeId,
        stream: &KStream<K, V>,
        late: Option<Arc<LateStream<K, V>>>,
        f: impl Fn(&K, V, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) {
        let (id, out, wanted, store) = (self.id, self.port.clone(), self.old_values.clone(), self.store.clone());
        let (f, spec, id_of_node) = (Arc::new(f), self.spec, node);
        let input = self.inputs.replace(self.inputs.get() + 1);
        let clock = WindowClock::name(&store, input, spec.emit);
        stream.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            let node = WindowAggregate {
                node,
                rows: TimedStore::open(task, id, &store),
                clock: WindowClock::new(task, &clock),
                f: f.clone(),
                spec,
                send_old: wanted.wanted(),
                late: late.as_ref().map(|late| late.open(task)),
                found: None,
                down,
            };
            let node = Rc::new(RefCell::new(node));
            task.lifecycle(id_of_node, node.clone());
            Box::new(SharedAggregate(node))
        });
    }

    pub(crate) fn into_table(
        self,
        node: NodeId,
        sources: Arc<BTreeSet<NodeId>>,
        builder: StreamsBuilder,
    ) -> KTable<Windowed<K>, A> {
        let nature = Nature { grace: Some(self.spec.windows.grace()), history: None };
        let (id, store) = (self.id, self.store);
        let rows: Rows<Windowed<K>, A> = Arc::new(move |task| {
            let store = TimedStore::<WindowStart, K, A>::open(task, id, &store);
            Box::new(WindowedRows { store, place: |w: Window| WindowStart(w.start), types: PhantomData })
        });
        KTable { builder, node, port: self.port, sources, stores: vec![id], rows, old_values: self.old_values, nature }
    }
}

struct WindowAggregate<K: Data, V, A: Data, F> {
    node: NodeId,
    rows: TimedStore<WindowStart, K, A>,
    clock: WindowClock,
    f: Arc<F>,
    spec: WindowSpec<FixedWindows>,
    send_old: bool,
    late: Option<Late<K, V>>,
    /// The rows of the key of the record under way.
    found: Option<KeyRows>,
    down: Downstream<Record<Windowed<K>, Change<A>>>,
}

struct SharedAggregate<N>(Rc<RefCell<N>>);

impl<K, V, A, E, F> Forward<Record<K, V>> for SharedAggregate<WindowAggregate<K, V, A, F>>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
{
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let node = &mut *self.0.borrow_mut();
        let kept = keep(&node.late, &record);
        node.process(cx, record).or_else(|error| cx.failed(node.node, error))?;
        pass_on(cx, &mut node.late, kept)
    }
}

impl<K, V, A, E, F> WindowAggregate<K, V, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
{
    fn process(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        if matches!(self.spec.windows, FixedWindows::Sliding(_)) && record.value.as_non_null().is_none() {
            // It does not even move the operator's time.
            cx.drop_record();
            return Ok(());
        }
        let now = self.clock.observe(cx, record.timestamp);
        let close_time = now - self.spec.windows.grace();
        self.found = None;
        match self.spec.windows {
            FixedWindows::Time(windows) => {
                let Record { key, value, timestamp, headers } = record;
                let record = Record { key, value: (), timestamp, headers };
                // The last window takes the value, the others copies.
                let (mut value, mut starts) = (Some(value), windows.starts(timestamp).peekable());
                while let Some(start) = starts.next() {
                    let value = if starts.peek().is_some() { value.clone() } else { value.take() };
                    match value.filter(|_| start + windows.size > close_time) {
                        Some(value) => self.update(cx, &record, value, start, None)?,
                        None => too_late(cx, &mut self.late),
                    }
                }
                return self.emit_closed(cx, close_time, &record.headers);
            }
            FixedWindows::Sliding(windows) => {
                if record.timestamp + windows.difference < close_time {
                    too_late(cx, &mut self.late);
                    return Ok(());
                }
                if record.timestamp < windows.difference {
                    self.slide_early(cx, &record, windows.difference, close_time)?;
                } else {
                    self.slide(cx, &record, windows.difference, close_time)?;
                }
            }
        }
        self.emit_closed(cx, close_time, &record.headers)
    }

    /// One fold step on a window's row: on what is stored, or on `from` for a new window that starts with the content
    /// of another.
    fn update<W>(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, W>,
        value: V,
        start: Timestamp,
        from: Option<Option<(A, Timestamp)>>,
    ) -> Result<()> {
        let (f, send_old, timestamp) = (&self.f, self.send_old, record.timestamp);
        let rows = match self.found {
            Some(rows) => rows,
            None => *self.found.insert(self.rows.rows_of(&record.key, WindowStart(start))?),
        };
        let changed = self.rows.change_at(rows, WindowStart(start), |entry: &mut Entry<A>| {
            // What fails leaves the row as it was.
            let kept = if E::POSSIBLE { entry.value.clone() } else { None };
            let (stored, time) = match from {
                None => (entry.value.take(), entry.timestamp),
                Some(None) => (None, timestamp),
                Some(Some((value, time))) => (Some(value), time),
            };
            let old = if send_old { stored.clone() } else { None };
            let time = if stored.is_some() { timestamp.max(time) } else { timestamp };
            let new = f(&record.key, value, stored).inspect_err(|_| entry.value = kept)?;
            *entry = Entry { value: new.clone(), timestamp: time };
            Ok((Change { old, new }, time))
        })?;
        let (change, timestamp) = changed.map_err(E::into)?;
        self.pass_on(cx, &record.key, start, change, timestamp, record.headers.clone())
    }

    fn pass_on(
        &mut self,
        cx: &mut TaskContext,
        key: &K,
        start: Timestamp,
        change: Change<A>,
        timestamp: Timestamp,
        headers: Headers,
    ) -> Result<()> {
        if self.spec.emit == EmitStrategy::OnWindowClose {
            return Ok(());
        }
        let key = Windowed { key: key.clone(), window: self.spec.windows.window(start) };
        self.down.forward(cx, Record { key, value: change, timestamp, headers })
    }

    /// A fold step on a sliding window that is still open; `from` as in `update`.
    fn slide_into(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        start: Timestamp,
        from: Option<Option<(A, Timestamp)>>,
        close_time: Timestamp,
    ) -> Result<()> {
        if start + self.spec.windows.size() >= close_time {
            self.update(cx, record, record.value.clone(), start, from)
        } else {
            too_late(cx, &mut self.late);
            Ok(())
        }
    }

    /// A record at `t` is in every window that starts in [t - difference, t]. It may open three: its own left window
    /// [t - difference, t], its own right window from t + 1, and the right window of the record before it.
    fn slide(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        difference: Timestamp,
        close_time: Timestamp,
    ) -> Result<()> {
        let time = record.timestamp;
        let (mut left, mut right) = (None::<(A, Timestamp)>, None::<(A, Timestamp)>);
        let (mut has_left, mut has_right) = (false, false);
        let mut previous = None;
        let mut starts = BTreeSet::new();
        let range = WindowStart((time - 2 * difference).max(0))..=WindowStart(time + 1);
        for (WindowStart(start), value, newest) in self.rows.fetch(&record.key, range)?.into_iter().rev() {
            starts.insert(start);
            let end = start + difference;
            if start == time + 1 {
                has_right = true;
            } else if end > time {
                right.get_or_insert((value, newest));
                self.slide_into(cx, record, start, None, close_time)?;
            } else if end == time {
                has_left = true;
                self.slide_into(cx, record, start, None, close_time)?;
                if newest >= time {
                    return Ok(());
                }
                previous = Some(newest);
            } else {
                left = Some((value, newest));
                previous = Some(newest);
                break;
            }
        }
        if let Some(previous) = previous {
            self.open_right_of_previous(cx, record, previous + 1, difference, &starts, close_time)?;
        }
        if !has_left {
            let shares = previous.is_some_and(|previous| time - difference <= previous);
            let from = left.filter(|_| shares).map(|(value, _)| (value, time));
            self.slide_into(cx, record, time - difference, Some(from), close_time)?;
        }
        if !has_right {
            self.open_right(cx, record, right)?;
        }
        Ok(())
    }

    /// Records before `difference` share one window [0, difference] instead of left windows of their own.
    fn slide_early(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        difference: Timestamp,
        close_time: Timestamp,
    ) -> Result<()> {
        let time = record.timestamp;
        let (mut combined, mut right) = (None::<(A, Timestamp)>, None::<(A, Timestamp)>);
        let mut has_right = false;
        let mut previous = None;
        let mut starts = BTreeSet::new();
        for (WindowStart(start), value, newest) in
            self.rows.fetch(&record.key, WindowStart(0)..=WindowStart(time + 1))?
        {
            starts.insert(start);
            if start == 0 {
                combined = Some((value, newest));
                previous = (newest < time).then_some(newest);
            } else if start <= time {
                right = Some((value, newest));
                self.slide_into(cx, record, start, None, close_time)?;
            } else {
                has_right = true;
            }
        }
        if !has_right {
            let right = right.or_else(|| combined.clone());
            self.open_right(cx, record, right)?;
        }
        if let Some(previous) = previous {
            self.open_right_of_previous(cx, record, previous + 1, difference, &starts, close_time)?;
        }
        let from = combined.is_none().then_some(None);
        self.slide_into(cx, record, 0, from, close_time)
    }

    /// The right window of the present record holds what comes after it: the content of the window it was found in.
    fn open_right(&mut self, cx: &mut TaskContext, record: &Record<K, V>, from: Option<(A, Timestamp)>) -> Result<()> {
        let Some((value, newest)) = from.filter(|(_, newest)| *newest > record.timestamp) else { return Ok(()) };
        let start = record.timestamp + 1;
        let entry = Entry { value: Some(value.clone()), timestamp: newest };
        self.rows.change(&record.key, WindowStart(start), |row| *row = entry)?;
        let change = Change { old: None, new: Some(value) };
        self.pass_on(cx, &record.key, start, change, newest, record.headers.clone())
    }

    fn open_right_of_previous(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        start: Timestamp,
        difference: Timestamp,
        starts: &BTreeSet<Timestamp>,
        close_time: Timestamp,
    ) -> Result<()> {
        if starts.contains(&start) || start + difference < record.timestamp {
            return Ok(());
        }
        self.slide_into(cx, record, start, Some(None), close_time)
    }

    fn emit_closed(&mut self, cx: &mut TaskContext, close_time: Timestamp, headers: &Headers) -> Result<()> {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Ok(());
        }
        let Some(last) = self.clock.close(cx, close_time) else { return Ok(()) };
        let mut closing = self.rows.closing(self.spec.windows.closing(last, close_time))?;
        while let Some(rows) = self.rows.closed(&mut closing)? {
            for (WindowStart(start), key, value, timestamp) in rows {
                let key = Windowed { key, window: self.spec.windows.window(start) };
                let value = Change { old: None, new: Some(value) };
                self.down.forward(cx, Record { key, value, timestamp, headers: headers.clone() })?;
            }
        }
        Ok(())
    }
}

impl<K, V, A, E, F> Lifecycle for WindowAggregate<K, V, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
{
    fn due(&self, cx: &TaskContext) -> Timestamp {
        if self.spec.emit != EmitStrategy::OnWindowClose {
            return Timestamp::MAX;
        }
        let windows = &self.spec.windows;
        let open = windows.first_open(self.clock.closed(cx));
        // What cannot be read now is due: then it is read again, and the failure told.
        let first = self.rows.first_from(open).unwrap_or(Some(open));
        first.map_or(Timestamp::MAX, |start| start + windows.closes_behind() + windows.grace())
    }

    fn on_time(&mut self, cx: &mut TaskContext, time: Timestamp) -> Result<()> {
        let now = self.clock.observe(cx, time);
        self.emit_closed(cx, now - self.spec.windows.grace(), &Headers::new())
    }

    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        self.emit_closed(cx, Timestamp::MAX / 2, &Headers::new())
    }
}
