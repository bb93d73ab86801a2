//! `group_by_key`, `group_by`: a stream whose equal keys are in one task.

use millstream_core::Data;

use crate::aggregates::windowed::{SessionWindowedStream, TimeWindowedStream};
use crate::failure::BoxError;
use crate::kstream::KStream;
use crate::windows::{SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows};

/// A stream grouped by key, to be aggregated. Records without a key are left out and counted.
pub struct GroupedStream<K, V> {
    stream: KStream<K, V>,
}

impl<K, V> Clone for GroupedStream<K, V> {
    fn clone(&self) -> Self {
        GroupedStream { stream: self.stream.clone() }
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Groups by the key that the records have. If it may have changed, the aggregation repartitions over a topic
    /// named after its store.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn group_by_key(&self) -> GroupedStream<K::NonNull, V> {
        GroupedStream { stream: self.without_null_keys() }
    }

    /// Groups by another key, over the topic `<application.id>-<name>-repartition`.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").group_by("by-town", |_, town| town.clone()).count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("ann", "Oslo");
    /// input.pipe("bob", "Oslo");
    /// assert_eq!(out.read(), [kv("Oslo", 1), kv("Oslo", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn group_by<K2: Data>(
        &self,
        name: &str,
        f: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> GroupedStream<K2::NonNull, V> {
        GroupedStream { stream: self.select_key(f).without_null_keys().repartition(name) }
    }

    /// As [`KStream::group_by`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let ages = b.stream::<String, String>("in");
    /// let decade = |age: &String| age.parse::<i64>().map(|n| n / 10 * 10);
    /// ages.try_group_by("by-decade", move |_, age| decade(age)).count("per-decade").to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<i64, Option<i64>>("out")?;
    /// ["31", "old", "38"].into_iter().for_each(|age| input.pipe("a", age));
    /// assert_eq!(out.read(), [kv(30, 1), kv(30, 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_group_by<K2: Data, E: Into<BoxError>>(
        &self,
        name: &str,
        f: impl Fn(&K, &V) -> Result<K2, E> + Send + Sync + 'static,
    ) -> GroupedStream<K2::NonNull, V> {
        GroupedStream { stream: self.try_select_key(f).without_null_keys().repartition(name) }
    }
}

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    pub(crate) fn builder(&self) -> &crate::builder::StreamsBuilder {
        &self.stream.builder
    }

    /// The stream as it is grouped.
    pub(crate) fn stream(&self) -> &KStream<K, V> {
        &self.stream
    }

    /// The stream in front of an aggregation that keeps `store`.
    pub(crate) fn stream_for(&self, store: &str) -> KStream<K, V> {
        self.stream.repartitioned(store)
    }
}

/// A kind of windows, and what a stream grouped in them is.
pub trait WindowsOf<K, V> {
    /// The windowed stream.
    type Windowed;
    /// Puts a grouped stream into these windows.
    fn windowed(self, grouped: &GroupedStream<K, V>) -> Self::Windowed;
}

impl<K: Data<NonNull = K>, V: Data> WindowsOf<K, V> for TimeWindows {
    type Windowed = TimeWindowedStream<K, V>;
    fn windowed(self, grouped: &GroupedStream<K, V>) -> Self::Windowed {
        grouped.in_fixed_windows(self.into())
    }
}
impl<K: Data<NonNull = K>, V: Data> WindowsOf<K, V> for SlidingWindows {
    type Windowed = TimeWindowedStream<K, V>;
    fn windowed(self, grouped: &GroupedStream<K, V>) -> Self::Windowed {
        grouped.in_fixed_windows(self.into())
    }
}
impl<K: Data<NonNull = K>, V: Data> WindowsOf<K, V> for UnlimitedWindows {
    type Windowed = TimeWindowedStream<K, V>;
    fn windowed(self, grouped: &GroupedStream<K, V>) -> Self::Windowed {
        grouped.in_fixed_windows(self.into())
    }
}
impl<K: Data<NonNull = K>, V: Data> WindowsOf<K, V> for SessionWindows {
    type Windowed = SessionWindowedStream<K, V>;
    fn windowed(self, grouped: &GroupedStream<K, V>) -> Self::Windowed {
        grouped.in_sessions(self)
    }
}

impl<K: Data<NonNull = K>, V: Data> GroupedStream<K, V> {
    /// Groups by windows besides the key: [`TimeWindows`], [`SlidingWindows`], [`SessionWindows`] or [`UnlimitedWindows`].
    ///
    /// ```
    /// # use millstream_dsl::{MIN, SECOND, StreamsBuilder, TimeWindows, TopologyTestDriver, Window, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN).grace(5 * SECOND)).count("per-minute").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(61_000, "a", 5);
    /// let minute = Windowed { key: "a".to_owned(), window: Window { start: 60_000, end: 120_000 } };
    /// assert_eq!(out.read(), [(minute, Some(1))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn windowed_by<W: WindowsOf<K, V>>(&self, windows: W) -> W::Windowed {
        windows.windowed(self)
    }
}
