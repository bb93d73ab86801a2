//! Tumbling, hopping and sliding windows (semantics.md 35, 37, 38, 42, 45).

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Data, Error, Result};

use super::fixed_windows::FixedWindows;
use super::lent::Lent;
use super::spec::WindowSpec;
use super::table::WindowedTable;
use crate::aggregates::grouped::GroupedStream;
use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::late::LateStream;
use crate::windows::{EmitStrategy, Windowed};

/// A grouped stream in windows that the times of its records tell.
pub struct TimeWindowedStream<K, V> {
    grouped: GroupedStream<K, V>,
    late: Option<Arc<LateStream<Windowed<K>, V>>>,
    pub(crate) spec: WindowSpec<FixedWindows>,
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

    /// Gives the records that come too late for a window to `use_it`, as a stream: with each of the windows that they have missed
    /// as their key; of sliding windows, with that which ends with the record. They are counted as dropped all the same. Given
    /// twice, both have them.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Window, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN)).on_late(|late| late.to("too-late")).count("counts");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let late = t.output::<Windowed<String>, i64>("too-late")?;
    /// [(0, 1), (240_000, 2), (5, 3)].into_iter().for_each(|(time, n)| input.pipe_at(time, "a", n));
    /// let window = Window { start: 0, end: 60_000 };
    /// assert_eq!(late.read(), [(Windowed { key: "a".to_owned(), window }, 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn on_late(mut self, use_it: impl FnOnce(KStream<Windowed<K>, V>)) -> Self {
        use_it(self.late.get_or_insert_with(|| LateStream::of(self.grouped.stream())).stream());
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
        if !self.spec.windows.leaves_nulls_out() {
            self.grouped.builder().warn_of_nulls::<V>(store);
        }
        self.fold_lent(store, |_, _, n| sure(Some(n.unwrap_or(0) + 1)))
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

    /// As [`TimeWindowedStream::reduce`], with a function that may fail: `processing.exception.handler` decides then. A
    /// record that is left out is in none of its windows.
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
        self.fold_lent(store, move |key, value, sum| f(key, value.take(), sum))
    }

    fn fold_lent<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        f: impl Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
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
