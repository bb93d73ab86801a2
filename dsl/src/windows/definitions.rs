//! The kinds of windows.

use std::time::Duration;

use millstream_core::Timestamp;

use crate::durations::{FirstBad, Least};

/// Windows of a fixed size at fixed multiples: tumbling, or hopping if they advance by less than their size. The start
/// is inclusive, the end exclusive, aligned to 1970 UTC. Durations count in whole milliseconds, here and everywhere; what is not nothing and
/// shorter than one, or longer than 36 million years, is an error of [`crate::StreamsBuilder::build`].
///
/// ```
/// # use millstream_dsl::{MIN, SECOND, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
/// # let b = StreamsBuilder::new();
/// let clicks = b.stream::<String, i64>("in").group_by_key();
/// // A minute each, one every half a minute, open for five seconds more.
/// let windows = TimeWindows::of(MIN).advance_by(30 * SECOND).grace(5 * SECOND);
/// clicks.windowed_by(windows).count("counts").to_stream().to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
/// [40_000, 64_999, 59_999, 65_000, 59_999].into_iter().for_each(|time| input.pipe_at(time, "a", 5));
/// let of_first = out.read().into_iter().filter(|(key, _)| key.window.start == 0).map(|(_, n)| n);
/// assert_eq!(of_first.collect::<Vec<_>>(), [Some(1), Some(2)]); // the last one came too late for it
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    pub(crate) size: Timestamp,
    pub(crate) advance: Timestamp,
    pub(crate) grace: Timestamp,
    pub(crate) bad: FirstBad,
}

impl TimeWindows {
    /// Tumbling windows of a size, without grace. A size below a millisecond is an error of
    /// [`crate::StreamsBuilder::build`].
    pub fn of(size: Duration) -> Self {
        let mut bad = FirstBad::default();
        let size = bad.millis("windows", size, Least::Millisecond);
        TimeWindows { size, advance: size, grace: 0, bad }
    }

    /// A window begins every `advance`: at least a millisecond, at most the size, or it is an error of
    /// [`crate::StreamsBuilder::build`].
    pub fn advance_by(mut self, advance: Duration) -> Self {
        self.advance = self.bad.millis("an advance", advance, Least::Millisecond);
        self
    }

    /// How long after its end a window still takes records.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = self.bad.millis("a grace", grace, Least::Zero);
        self
    }

    pub(crate) fn problem(&self) -> Option<String> {
        let too_far = || {
            format!("windows of {} ms that advance by {} ms\n  help: no more than the size", self.size, self.advance)
        };
        let bad = self.bad.get().map(|bad| bad.to_string());
        bad.or_else(|| (self.advance > self.size).then(too_far))
    }

    /// Starts of the windows that hold a time, ascending (semantics.md 37).
    #[inline]
    pub(crate) fn starts(&self, time: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let first = (time - self.size + self.advance).max(0) / self.advance * self.advance;
        let advance = self.advance;
        (0..).map(move |i| first + i * advance).take_while(move |start| *start <= time)
    }
}

/// Windows that slide with the records: one for every set of records at most `difference` apart. Both ends inclusive.
///
/// ```
/// # use millstream_dsl::{SECOND, SlidingWindows, StreamsBuilder, TopologyTestDriver, Windowed};
/// # let b = StreamsBuilder::new();
/// let clicks = b.stream::<String, i64>("in").group_by_key();
/// clicks.windowed_by(SlidingWindows::of(10 * SECOND).grace(SECOND)).count("counts").to_stream().to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
/// [20_000, 25_000].into_iter().for_each(|time| input.pipe_at(time, "a", 5));
/// let counts: Vec<_> = out.read().into_iter().map(|(key, n)| (key.window.start, key.window.end, n)).collect();
/// // What ended with the first click, what began after it, what ended with the second.
/// assert_eq!(counts, [(10_000, 20_000, Some(1)), (20_001, 30_001, Some(1)), (15_000, 25_000, Some(2))]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    pub(crate) difference: Timestamp,
    pub(crate) grace: Timestamp,
    pub(crate) bad: FirstBad,
}

impl SlidingWindows {
    /// Windows of records at most `difference` apart, without grace.
    pub fn of(difference: Duration) -> Self {
        let mut bad = FirstBad::default();
        SlidingWindows { difference: bad.millis("a difference", difference, Least::Zero), grace: 0, bad }
    }

    /// How long after its end a window still takes records.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = self.bad.millis("a grace", grace, Least::Zero);
        self
    }
}

/// One window per key, without an end: from 1970, or a later start, to the end of time. It never closes, so nothing is late for it, it
/// has no grace, and it is kept for good; what asks to wait for its close is an error of [`crate::StreamsBuilder::build`]. Records before
/// its start are passed over.
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, UnlimitedWindows, Window, Windowed};
/// # let b = StreamsBuilder::new();
/// let clicks = b.stream::<String, i64>("in").group_by_key();
/// clicks.windowed_by(UnlimitedWindows::of().start_on(60_000)).count("since").to_stream().to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
/// [59_999, 86_400_000, 60_000].into_iter().for_each(|time| input.pipe_at(time, "ann", 5));
/// let ann = || Windowed { key: "ann".to_owned(), window: Window { start: 60_000, end: i64::MAX } };
/// assert_eq!(out.read(), [(ann(), Some(1)), (ann(), Some(2))]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnlimitedWindows {
    pub(crate) start: Timestamp,
}

impl UnlimitedWindows {
    /// Windows that begin in 1970.
    pub fn of() -> Self {
        UnlimitedWindows { start: 0 }
    }

    /// They begin at `start`, in milliseconds since 1970 UTC. A negative one is an error of [`crate::StreamsBuilder::build`].
    pub fn start_on(self, start: Timestamp) -> Self {
        UnlimitedWindows { start }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        let start = self.start;
        (start < 0).then(|| format!("unlimited windows that start on {start} ms\n  help: 0, which is 1970, or later"))
    }
}

/// Sessions: records of a key that follow each other within `gap`. Both ends inclusive.
///
/// ```
/// # use millstream_dsl::{MIN, SECOND, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
/// # let b = StreamsBuilder::new();
/// let clicks = b.stream::<String, i64>("in").group_by_key();
/// let windows = SessionWindows::of(MIN).grace(5 * SECOND);
/// clicks.windowed_by(windows).count("visits").to_stream().to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
/// [0, 60_000, 120_001].into_iter().for_each(|time| input.pipe_at(time, "a", 5));
/// let visits = out.read().into_iter().filter_map(|(key, n)| Some((key.window.start, key.window.end, n?)));
/// assert_eq!(visits.collect::<Vec<_>>(), [(0, 0, 1), (0, 60_000, 2), (120_001, 120_001, 1)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    pub(crate) gap: Timestamp,
    pub(crate) grace: Timestamp,
    pub(crate) strict_end: bool,
    pub(crate) bad: FirstBad,
}

impl SessionWindows {
    /// Sessions that end after `gap` without a record, without grace. A gap below a millisecond is an error of
    /// [`crate::StreamsBuilder::build`].
    pub fn of(gap: Duration) -> Self {
        let mut bad = FirstBad::default();
        SessionWindows { gap: bad.millis("a gap", gap, Least::Millisecond), grace: 0, strict_end: false, bad }
    }

    /// How long after its end, and the gap, a session still takes records.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = self.bad.millis("a grace", grace, Least::Zero);
        self
    }

    /// Makes a session final once its end is more than gap and grace ago: it is passed on once, by `suppress_until_closed` one
    /// millisecond later than without, and no record merges it any more. One that comes near it begins a session of its own, or joins
    /// another one that is open; one that would make that reach over a closed session is late. Without it, as in Kafka Streams, a
    /// record that is just not late may merge a closed session, which is then passed on a second time, grown (semantics.md 47). The
    /// inputs of a cogroup go by one time.
    ///
    /// ```
    /// # use millstream_dsl::{BufferConfig, MIN, SessionWindows, StreamsBuilder, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let clicks = b.stream::<String, i64>("in").group_by_key();
    /// let visits = clicks.windowed_by(SessionWindows::of(MIN).strict_end()).count("visits");
    /// visits.suppress_until_closed("final", BufferConfig::unbounded()).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// for (time, key) in [(0, "ann"), (60_000, "bob"), (30_000, "ann"), (90_001, "bob"), (31_000, "ann"), (200_000, "bob")] {
    ///     input.pipe_at(time, key, 5);
    /// }
    /// let of_ann = out.read().into_iter().filter(|(key, _)| key.key == "ann").map(|(key, n)| (key.window.end, n));
    /// // Both of her first clicks, and no session of the first alone before. The third came when that had closed.
    /// assert_eq!(of_ann.collect::<Vec<_>>(), [(30_000, Some(2)), (31_000, Some(1))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn strict_end(mut self) -> Self {
        self.strict_end = true;
        self
    }

    /// The first end of sessions that a record may still change, behind a close time.
    #[inline]
    pub(crate) fn open_from(&self, close_time: Timestamp) -> Timestamp {
        if self.strict_end { close_time } else { Timestamp::MIN }
    }

    /// How far behind the end of a session time is when it is passed on as final.
    pub(crate) fn closes_behind(&self) -> Timestamp {
        self.gap + self.grace + Timestamp::from(self.strict_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_at_multiples_and_hold_their_time() {
        let ms = Duration::from_millis;
        let starts = |w: TimeWindows, t| w.starts(t).collect::<Vec<_>>();
        assert_eq!(starts(TimeWindows::of(ms(10)), 9), [0]);
        assert_eq!(starts(TimeWindows::of(ms(10)), 10), [10]);
        assert_eq!(starts(TimeWindows::of(ms(10)).advance_by(ms(4)), 3), [0]);
        assert_eq!(starts(TimeWindows::of(ms(10)).advance_by(ms(4)), 13), [4, 8, 12]);
    }
}

/// Which records of two streams join: the right one's time is within `before` and `after` of the left one's, both ends
/// inclusive.
///
/// ```
/// # use millstream_dsl::{JoinWindows, MIN, SECOND, StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
/// // Paid up to a second before the order and ten minutes after it; a minute is waited for what is late.
/// let windows = JoinWindows::of(10 * MIN).before(SECOND).grace(MIN).drop_late();
/// orders.join("paid", &payments, windows, |order, how| format!("{order}, {how}")).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let orders = t.input::<String, String>("orders")?;
/// # let payments = t.input::<String, String>("payments")?;
/// # let out = t.output::<String, String>("out")?;
/// orders.pipe_at(10_000, "o1", "hat");
/// [(8_999, "a coin"), (9_000, "a note"), (610_000, "a card")].into_iter().for_each(|(time, how)| payments.pipe_at(time, "o1", how));
/// assert_eq!(out.read(), [kv("o1", "hat, a note"), kv("o1", "hat, a card")]);
/// assert_eq!(JoinWindows::of(MIN).after(SECOND), JoinWindows::of(SECOND).before(MIN));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    pub(crate) before: Timestamp,
    pub(crate) after: Timestamp,
    pub(crate) grace: Timestamp,
    pub(crate) drop_late: bool,
    pub(crate) exact: bool,
    pub(crate) bad: FirstBad,
}

impl JoinWindows {
    /// Records at most `difference` apart, without grace. Of 0 ms and without grace they join nothing, as in Kafka Streams,
    /// unless they are [`exact`](JoinWindows::exact); `build` warns.
    pub fn of(difference: Duration) -> Self {
        let mut bad = FirstBad::default();
        let difference = bad.millis("a difference", difference, Least::Zero);
        JoinWindows { before: difference, after: difference, grace: 0, drop_late: false, exact: false, bad }
    }

    /// How much earlier than the left record the right one may be.
    pub fn before(mut self, before: Duration) -> Self {
        self.before = self.bad.millis("a difference", before, Least::Zero);
        self
    }

    /// How much later than the left record the right one may be.
    pub fn after(mut self, after: Duration) -> Self {
        self.after = self.bad.millis("a difference", after, Least::Zero);
        self
    }

    /// How long after its window a record without a partner still waits for one. As in Kafka Streams, one that is out of order, and
    /// whose window is over when it comes, does not, unless the windows are [`exact`](JoinWindows::exact).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = self.bad.millis("a grace", grace, Least::Zero);
        self
    }

    /// Leaves out records whose window, with its grace, is over when they come, and counts them as late. Without it, as in
    /// Kafka Streams, they still meet what is kept of the other stream (semantics.md 25, KAFKA-16123).
    pub fn drop_late(mut self) -> Self {
        self.drop_late = true;
        self
    }

    /// Windows to the millisecond, where Kafka Streams has less (semantics.md 23, 25, 26). A record is kept as long as one that is
    /// not late can join it, and no millisecond less. A record without a partner leaves with the first one that brings time
    /// beyond its window and grace; without this it may leave with a later one, or stay, when it is among the last.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use millstream_dsl::{JoinWindows, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (asked, answered) = (b.stream::<String, String>("asked"), b.stream::<String, String>("answered"));
    /// let at_once = JoinWindows::of(Duration::ZERO).exact();
    /// asked.left_join("dialogue", &answered, at_once, |q, a| format!("{q} {a:?}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let asked = t.input::<String, String>("asked")?;
    /// # let answered = t.input::<String, String>("answered")?;
    /// # let out = t.output::<String, String>("out")?;
    /// asked.pipe_at(5, "ann", "who?");
    /// answered.pipe_at(5, "ann", "me");
    /// [(6, "what?"), (7, "why?"), (8, "when?")].into_iter().for_each(|(time, q)| asked.pipe_at(time, "bob", q));
    /// assert_eq!(out.read(), [kv("ann", "who? Some(\"me\")"), kv("bob", "what? None"), kv("bob", "why? None")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Whether a record that waits for others up to `after` its time comes too late.
    #[inline]
    pub(crate) fn is_late(&self, time: Timestamp, after: Timestamp, now: Timestamp) -> bool {
        self.drop_late && time + after + self.grace < now
    }

    /// Whether a record without a partner, whose window ends then, is passed on when it comes. Kafka Streams does not wait for the
    /// grace if the record is out of order.
    #[inline]
    pub(crate) fn is_over(&self, end: Timestamp, now: Timestamp) -> bool {
        end + if self.exact { self.grace } else { 0 } < now
    }

    /// Whether a record is too old to be kept where the newest one has that time.
    pub(crate) fn is_forgotten(&self, time: Timestamp, newest: Timestamp) -> bool {
        time <= newest.saturating_sub(self.retention())
    }

    /// For how long records are kept: what is a retention old is not there any more.
    pub(crate) fn retention(&self) -> Timestamp {
        self.before + self.after + self.grace + Timestamp::from(self.exact)
    }
}
