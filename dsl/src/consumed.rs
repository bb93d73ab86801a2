//! `Consumed` and `Produced`: how a topic is read and written.

use std::marker::PhantomData;
use std::time::Duration;

use millstream_core::{Data, FailOnInvalidTimestamp, Nullable, OffsetReset, PlacedBy, Serde};

use crate::failure::BoxError;

/// How a source reads: serdes, event time, where it starts.
///
/// ```
/// # use millstream_dsl::{Consumed, StreamsBuilder, TopologyTestDriver, event_time, kv};
/// # use millstream_dsl::core::{OffsetReset, StringSerde};
/// # let b = StreamsBuilder::new();
/// // The default serdes, by types or as they are; event time from the value; a start for new applications.
/// let consumed = Consumed::of::<String, i64>().timestamps(event_time(|_, n| *n)).reset(OffsetReset::Latest);
/// b.stream_with("in", consumed).to("out");
/// b.stream_with("texts", Consumed::with(StringSerde, StringSerde)).to("out-too");
/// b.stream_with::<StringSerde, StringSerde, _>("more", Consumed::new()).to("out-as-well");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// input.pipe("a", 5);
/// assert_eq!(out.read_records()[0].timestamp, 5);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Consumed<KS, VS, X = FailOnInvalidTimestamp> {
    pub(crate) key: KS,
    pub(crate) value: VS,
    pub(crate) extractor: X,
    pub(crate) reset: Option<OffsetReset>,
    pub(crate) idleness: Option<Duration>,
}

impl<KS: Serde + Default, VS: Serde + Default> Default for Consumed<KS, VS> {
    fn default() -> Self {
        Self::with(KS::default(), VS::default())
    }
}

impl<KS: Serde + Default, VS: Serde + Default> Consumed<KS, VS> {
    /// Default serdes, the record's own time.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Consumed<(), ()> {
    /// The default serdes of two types: `Consumed::of::<String, Order>()`.
    pub fn of<K: Data, V: Data>() -> Consumed<K::Serde, V::Serde> {
        Consumed::new()
    }
}

impl<KS, VS> Consumed<KS, VS> {
    /// These serdes.
    pub fn with(key: KS, value: VS) -> Self {
        Consumed { key, value, extractor: FailOnInvalidTimestamp, reset: None, idleness: None }
    }
}

impl<KS, VS, X> Consumed<KS, VS, X> {
    /// Event time by a [`millstream_core::TimestampExtractor`]: [`event_time`], one of Kafka Streams' that core has, or one of yours.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{LogAndSkipOnInvalidTimestamp, Record, WallclockTimestampExtractor};
    /// # let b = StreamsBuilder::new();
    /// // A record without a time is left out, where the default, `FailOnInvalidTimestamp`, stops.
    /// let consumed = Consumed::of::<String, i64>().timestamps(LogAndSkipOnInvalidTimestamp);
    /// b.stream_with("in", consumed).to("out");
    /// b.stream_with("others", Consumed::of::<String, i64>().timestamps(WallclockTimestampExtractor)).to("now");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// [-1, 0].into_iter().try_for_each(|time| input.try_pipe(Record::new("a".to_owned(), 5, time)))?;
    /// assert_eq!((out.read(), t.counters().dropped_records), (vec![kv("a", 5)], 1));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn timestamps<X2>(self, extractor: X2) -> Consumed<KS, VS, X2> {
        let Consumed { key, value, reset, idleness, .. } = self;
        Consumed { key, value, extractor, reset, idleness }
    }

    /// Where to start without a committed position.
    pub fn reset(mut self, reset: OffsetReset) -> Self {
        self.reset = Some(reset);
        self
    }

    /// For a topic of a table, where null is a value.
    pub(crate) fn nullable(self) -> Consumed<Nullable<KS>, Nullable<VS>, X> {
        let Consumed { key, value, extractor, reset, idleness } = self;
        Consumed { key: Nullable(key), value: Nullable(value), extractor, reset, idleness }
    }

    /// Lets time go on when the source has been silent for so long: when every partition of it that a task reads has been
    /// read to its end and has brought nothing for so much wall-clock time. Without it, as in Kafka Streams, what waits for
    /// stream time (windows to close, suppressed rows, left and outer joins, timers) waits for the next record (KIP-424;
    /// Flink's `withIdleness`).
    ///
    /// Time goes on as if records without content kept coming: from the source's largest timestamp, with the wall clock
    /// since its last record. So a record that comes later is late only if it had been late among steady traffic. Time
    /// moves when it lets something go, for what is below this source, and until then not; it survives restarts. Repartition topics have the
    /// longest idleness of the sources behind them if all of these have one, and are silent only when everything before
    /// them is passed on.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, MIN, SECOND, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream_with("clicks", Consumed::of::<String, i64>().idleness(5 * SECOND)).group_by_key();
    /// clicks.windowed_by(TimeWindows::of(MIN)).emit_on_close().count("per-minute").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let clicks = t.input::<String, i64>("clicks")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// clicks.pipe_at(30_000, "a", 5);
    /// t.advance(29 * SECOND)?;
    /// assert_eq!(out.read(), []);
    /// t.advance(SECOND)?; // the minute is over, and nobody has clicked
    /// assert_eq!(out.read()[0].1, Some(1));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn idleness(mut self, after: Duration) -> Self {
        self.idleness = Some(after);
        self
    }
}

/// Event time by a function of key and value, in milliseconds since 1970 UTC; a negative time drops the record and counts it.
///
/// ```
/// # use millstream_dsl::{Consumed, StreamsBuilder, TopologyTestDriver, event_time};
/// # let b = StreamsBuilder::new();
/// let seconds = event_time(|_: &String, n: &i64| n * 1_000);
/// b.stream_with("in", Consumed::of::<String, i64>().timestamps(seconds)).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// [5, -1].into_iter().for_each(|n| input.pipe("a", n));
/// let times: Vec<i64> = out.read_records().iter().map(|record| record.timestamp).collect();
/// assert_eq!((times, t.counters().dropped_records), (vec![5_000], 1));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub fn event_time<K, V, F: Fn(&K, &V) -> millstream_core::Timestamp>(f: F) -> EventTime<K, V, F> {
    EventTime { f: std::sync::Arc::new(f), types: PhantomData }
}

/// See [`event_time`].
pub struct EventTime<K, V, F> {
    f: std::sync::Arc<F>,
    types: PhantomData<fn(&K, &V)>,
}

impl<K, V, F> Clone for EventTime<K, V, F> {
    fn clone(&self) -> Self {
        EventTime { f: self.f.clone(), types: PhantomData }
    }
}

impl<K: 'static, V: 'static, F> millstream_core::TimestampExtractor<K, V> for EventTime<K, V, F>
where
    F: Fn(&K, &V) -> millstream_core::Timestamp + Send + Sync + 'static,
{
    fn extract(
        &self,
        record: &millstream_core::Record<K, V>,
        _: millstream_core::Timestamp,
    ) -> millstream_core::Extracted {
        match (self.f)(&record.key, &record.value) {
            time if time >= 0 => millstream_core::Extracted::Time(time),
            _ => millstream_core::Extracted::Drop,
        }
    }
}

/// How a sink writes: serdes and partitioner.
///
/// ```
/// # use millstream_dsl::{Produced, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::StringSerde;
/// # let b = StreamsBuilder::new();
/// b.topic("out", 4);
/// let produced = Produced::of::<String, i64>().partitioner(|_, n, partitions| Some(vec![*n as i32 % partitions]));
/// b.stream::<String, i64>("in").to_with("out", produced);
/// b.stream::<String, String>("texts").to_with("out-too", Produced::with(StringSerde, StringSerde));
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// [3, 1].into_iter().for_each(|n| input.pipe("a", n));
/// assert_eq!(out.read(), [kv("a", 1), kv("a", 3)]); // partition 1, then partition 3
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct Produced<KS: Serde, VS: Serde> {
    pub(crate) key: KS,
    pub(crate) value: VS,
    pub(crate) partitioner: Option<Partitioner<KS::Value, VS::Value>>,
    /// Which partitioner that is.
    pub(crate) placed_by: Option<PlacedBy>,
}

impl<KS: Serde, VS: Serde> Clone for Produced<KS, VS> {
    fn clone(&self) -> Self {
        let (partitioner, placed_by) = (self.partitioner.clone(), self.placed_by.clone());
        Produced { key: self.key.clone(), value: self.value.clone(), partitioner, placed_by }
    }
}

/// Chooses partitions of a record: given key, value and the number of partitions. None is the default partitioner; an
/// empty list drops the record and counts it; several send a copy to each.
pub type Partitioner<K, V> =
    std::sync::Arc<dyn Fn(&K, &V, i32) -> millstream_core::Result<Option<Vec<i32>>> + Send + Sync>;

impl<KS: Serde, VS: Serde> Produced<KS, VS> {
    /// These serdes, the default partitioner.
    pub fn with(key: KS, value: VS) -> Self {
        Produced { key, value, partitioner: None, placed_by: None }
    }

    /// Partitions by a function of key, value and the number of partitions.
    pub fn partitioner<F>(mut self, partitioner: F) -> Self
    where
        F: Fn(&KS::Value, &VS::Value, i32) -> Option<Vec<i32>> + Send + Sync + 'static,
    {
        self.placed_by = Some(PlacedBy::function::<F>());
        self.partitioner =
            Some(std::sync::Arc::new(move |key, value, partitions| Ok(partitioner(key, value, partitions))));
        self
    }

    /// As [`Produced::partitioner`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{Produced, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.topic("out", 4);
    /// let by_number = |_: &String, n: &String, partitions: i32| n.parse::<i32>().map(|n| Some(vec![n % partitions]));
    /// b.stream::<String, String>("in").to_with("out", Produced::of::<String, String>().try_partitioner(by_number));
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", "1".to_owned()), kv("a", "3".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_partitioner<F, E: Into<BoxError>>(mut self, partitioner: F) -> Self
    where
        F: Fn(&KS::Value, &VS::Value, i32) -> Result<Option<Vec<i32>>, E> + Send + Sync + 'static,
    {
        self.placed_by = Some(PlacedBy::function::<F>());
        self.partitioner = Some(std::sync::Arc::new(move |key, value, partitions| {
            partitioner(key, value, partitions).map_err(millstream_core::Error::user)
        }));
        self
    }
}

impl Produced<millstream_core::StringSerde, millstream_core::StringSerde> {
    /// The default serdes of two types: `Produced::of::<String, Order>()`.
    pub fn of<K: Data, V: Data>() -> Produced<K::Serde, V::Serde> {
        Produced::with(K::Serde::default(), V::Serde::default())
    }
}
