//! Windows that a record's time tells: where they begin, when they close, how long their rows are needed.

use std::ops::RangeInclusive;

use millstream_core::{END_OF_TIME, StoreFormat, Timestamp};

use super::close::CloseSpan;
use crate::windows::{SlidingWindows, TimeWindows, UnlimitedWindows, Window};

/// Windows of a fixed size, or of none.
#[derive(Debug, Clone, Copy)]
pub enum FixedWindows {
    /// At multiples.
    Time(TimeWindows),
    /// With the records.
    Sliding(SlidingWindows),
    /// Without an end.
    Unlimited(UnlimitedWindows),
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

impl From<UnlimitedWindows> for FixedWindows {
    fn from(windows: UnlimitedWindows) -> Self {
        FixedWindows::Unlimited(windows)
    }
}

impl FixedWindows {
    pub(crate) fn grace(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.grace,
            FixedWindows::Sliding(w) => w.grace,
            FixedWindows::Unlimited(_) => 0,
        }
    }

    /// The least retention that may be asked for (semantics.md 44).
    pub(crate) fn retention(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.size + w.grace,
            FixedWindows::Sliding(w) => 2 * w.difference + w.grace,
            FixedWindows::Unlimited(_) => END_OF_TIME,
        }
    }

    /// For how much longer rows are needed. A record that is only just not late opens the right window of the record
    /// before it, which it knows by a window that begins `2 * difference + grace + 1` before stream time.
    pub(super) fn needed_beyond(&self) -> Timestamp {
        match self {
            FixedWindows::Time(_) | FixedWindows::Unlimited(_) => 0,
            FixedWindows::Sliding(_) => 2,
        }
    }

    /// How many windows a record is in, as far as that is known.
    pub(super) fn at_once(&self) -> usize {
        match self {
            FixedWindows::Time(w) => (w.size / w.advance.max(1)).clamp(1, 64) as usize,
            FixedWindows::Sliding(_) | FixedWindows::Unlimited(_) => 1,
        }
    }

    pub(super) fn format<KS, VS>(&self) -> StoreFormat {
        match self {
            FixedWindows::Time(w) => {
                let format = StoreFormat::of::<KS, VS>("window");
                format.with("window.size.ms", w.size).with("window.advance.ms", w.advance)
            }
            FixedWindows::Sliding(w) => {
                StoreFormat::of::<KS, VS>("sliding-window").with("window.difference.ms", w.difference)
            }
            FixedWindows::Unlimited(w) => {
                StoreFormat::of::<KS, VS>("unlimited-window").with("window.start.ms", w.start)
            }
        }
    }

    pub(super) fn window(&self, start: Timestamp) -> Window {
        let end = match self {
            FixedWindows::Time(w) => start + w.size,
            FixedWindows::Sliding(w) => start + w.difference,
            FixedWindows::Unlimited(_) => END_OF_TIME,
        };
        Window { start, end }
    }

    /// Whether null values do not even reach them (semantics.md 35).
    pub(super) fn leaves_nulls_out(&self) -> bool {
        matches!(self, FixedWindows::Sliding(_))
    }

    /// Whether a record is late for one of its windows at least, which is the first of them.
    #[inline]
    pub(super) fn is_late(&self, time: Timestamp, close_time: Timestamp) -> bool {
        match self {
            FixedWindows::Time(w) => w.starts(time).next().is_some_and(|first| first + w.size <= close_time),
            // The window that ends with it, or the one that all early ones share.
            FixedWindows::Sliding(w) => time.max(w.difference) < close_time,
            FixedWindows::Unlimited(_) => false,
        }
    }

    /// The windows of a late record that are over: of sliding ones, that which ends with it.
    pub(super) fn missed(&self, time: Timestamp, close_time: Timestamp) -> Vec<Window> {
        match self {
            FixedWindows::Time(w) => {
                let windows = w.starts(time).map(|start| Window { start, end: start + w.size });
                windows.filter(|window| window.end <= close_time).collect()
            }
            FixedWindows::Sliding(w) => {
                let end = time.max(w.difference);
                vec![Window { start: end - w.difference, end }]
            }
            // They never end.
            FixedWindows::Unlimited(_) => Vec::new(),
        }
    }

    /// Starts of the windows that close: time windows when their end is reached, sliding ones,
    /// whose end is inclusive, when it is passed.
    pub(super) fn closing(&self, span: CloseSpan) -> RangeInclusive<Timestamp> {
        self.first_open(span.after).max(span.begun_after + 1)..=span.up_to - self.closes_behind()
    }

    /// The start of the first window that is open behind a close time.
    pub(super) fn first_open(&self, last: Option<Timestamp>) -> Timestamp {
        last.map_or(0, |last| (last - self.closes_behind() + 1).max(0))
    }

    /// How far behind the start of a window the close time is that closes it.
    pub(super) fn closes_behind(&self) -> Timestamp {
        match self {
            FixedWindows::Time(w) => w.size,
            FixedWindows::Sliding(w) => w.difference + 1,
            FixedWindows::Unlimited(_) => END_OF_TIME,
        }
    }

    /// Whether they ever close.
    pub(super) fn close(&self) -> bool {
        !matches!(self, FixedWindows::Unlimited(_))
    }

    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            FixedWindows::Time(w) => w.problem(),
            FixedWindows::Sliding(w) => w.bad.get().map(|bad| bad.to_string()),
            FixedWindows::Unlimited(w) => w.problem(),
        }
    }
}
