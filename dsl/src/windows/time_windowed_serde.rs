//! `TimeWindowedSerde`: the keys of time windows as Kafka Streams writes them to topics.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::{Encoded, Headers, Payload, Serde, SerdeContext, SerdeError, Timestamp};

use super::windowed_key::{Window, Windowed, serialize_inner, too_short};

/// Key bytes, start: Kafka's format of the keys of time windows, for topics that programs in Java read or write. Their
/// size is in no byte, so that every reader has to know it, as of Java's `WindowedSerdes.timeWindowedSerdeFrom`. The
/// default, [`crate::WindowedSerde`], has both ends. The record is placed by the inner key (semantics.md 17).
///
/// ```
/// # use millstream_dsl::{Consumed, MIN, Produced, StreamsBuilder, TimeWindowedSerde, TimeWindows, TopologyTestDriver};
/// # use millstream_dsl::{Window, Windowed};
/// # use millstream_dsl::core::{Nullable, NumberSerde, StringSerde};
/// # let b = StreamsBuilder::new();
/// // In Java: WindowedSerdes.timeWindowedSerdeFrom(String.class, Duration.ofMinutes(1).toMillis()) and Serdes.Long().
/// let (minutes, counts) = (TimeWindowedSerde::new(StringSerde, MIN), NumberSerde::<i64>::default());
/// let clicks = b.stream::<String, i64>("clicks").group_by_key().windowed_by(TimeWindows::of(MIN));
/// let written = Produced::with(minutes.clone(), Nullable(counts.clone()));
/// clicks.count("counts").to_stream().to_with("per-minute", written);
/// b.stream_with("per-minute", Consumed::with(minutes, counts)).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let clicks = t.input::<String, i64>("clicks")?;
/// # let out = t.output::<Windowed<String>, i64>("out")?;
/// clicks.pipe_at(60_000, "ann", 5);
/// let ann = Windowed { key: "ann".to_owned(), window: Window { start: 60_000, end: 120_000 } };
/// assert_eq!(out.read(), [(ann, 1)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TimeWindowedSerde<S> {
    inner: S,
    /// In milliseconds; nothing if it was less than one.
    size: Timestamp,
}

impl<S: Serde> TimeWindowedSerde<S> {
    /// Windows of a size in whole milliseconds, around keys that `inner` writes: the size of [`crate::TimeWindows`], the
    /// difference of [`crate::SlidingWindows`], [`Duration::MAX`] for [`crate::UnlimitedWindows`]. With less than a
    /// millisecond no key can be read or written.
    ///
    /// A window of another size cannot be written: its end would be lost, and a reader would make up another. Java writes
    /// its start.
    pub fn new(inner: S, size: Duration) -> Self {
        TimeWindowedSerde { inner, size: Timestamp::try_from(size.as_millis()).unwrap_or(Timestamp::MAX) }
    }

    /// The window that begins then. One that would end behind all times ends with them, as in Java.
    fn window(&self, start: Timestamp) -> Result<Window, SerdeError> {
        match (self.size, start) {
            (..=0, _) => Err(SerdeError::invalid(
                "time windows of less than 1 ms\n  help: give TimeWindowedSerde the size of the windows",
            )),
            (_, ..=-1) => Err(SerdeError::invalid(format!("a time window that starts at {start} ms, before 1970"))),
            (size, _) => Ok(Window { start, end: start.saturating_add(size) }),
        }
    }
}

impl<S: Serde> Serde for TimeWindowedSerde<S> {
    type Value = Windowed<S::Value>;

    fn serialize(
        &self,
        value: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        let Window { start, end } = value.window;
        if self.window(start)?.end != end {
            return Err(SerdeError::invalid(format!(
                "the window {start}/{end} is not of {} ms, and a key of time windows says its start alone\n  help: give \
                 TimeWindowedSerde the size of the windows; sessions take WindowedSerde, Kafka's format of theirs",
                self.size
            )));
        }
        serialize_inner(&self.inner, &value.key, cx, headers, out)?;
        out.extend_from_slice(&start.to_be_bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let owner = bytes.ok_or_else(SerdeError::null::<Windowed<()>>)?.to_bytes();
        let (key, start) = owner.split_last_chunk::<8>().ok_or_else(too_short)?;
        let (key, window) = (owner.slice(..key.len()), self.window(Timestamp::from_be_bytes(*start))?);
        Ok(Windowed { key: self.inner.deserialize(Some(Payload::from(&key)), cx, headers)?, window })
    }

    fn detach(&self, value: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        self.inner.detach(&mut value.key, copy);
    }

    fn touch(&self, value: &Self::Value) {
        self.inner.touch(&value.key);
    }

    fn partition_bytes<'a>(&self, encoded: &'a [u8]) -> &'a [u8] {
        &encoded[..encoded.len().saturating_sub(8)]
    }

    fn partition_serde() -> String {
        S::partition_serde()
    }
}
