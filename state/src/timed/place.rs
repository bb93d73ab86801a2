//! Where a row stands in time, besides its key: a window by its start, a session by its bounds.

use std::ops::RangeInclusive;

use millstream_core::Timestamp;

/// What places a row in time, besides its key.
pub trait Place: Copy + Ord + std::fmt::Debug + 'static {
    /// The time by which the row expires: it is visible while this is within the retention.
    fn time(&self) -> Timestamp;
    /// Appends the place to the key bytes, as Kafka's changelog has it (semantics.md 63).
    fn encode(&self, key: &mut Vec<u8>);
    /// Whether it is within a range of times, as a query means it: a window that starts at one of them, a session that is
    /// in progress at one.
    fn is_at(&self, times: &RangeInclusive<Timestamp>) -> bool;
    /// Where that time begins in a changelog key, in bytes from its end.
    const TIME_BEFORE_END: usize;
    /// The first at a time.
    fn first_at(time: Timestamp) -> Self;
    /// The one behind it.
    #[must_use]
    fn next(self) -> Self;
    /// Before all others.
    const FIRST: Self;
    /// Behind all others.
    const LAST: Self;
    /// Splits a changelog key.
    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)>;
}

/// A window: identified by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowStart(pub Timestamp);

impl Place for WindowStart {
    const TIME_BEFORE_END: usize = 12;
    const FIRST: Self = WindowStart(Timestamp::MIN);
    const LAST: Self = WindowStart(Timestamp::MAX);

    fn time(&self) -> Timestamp {
        self.0
    }

    fn first_at(time: Timestamp) -> Self {
        WindowStart(time)
    }

    fn next(self) -> Self {
        WindowStart(self.0.saturating_add(1))
    }

    fn is_at(&self, times: &RangeInclusive<Timestamp>) -> bool {
        times.contains(&self.0)
    }

    fn encode(&self, key: &mut Vec<u8>) {
        // The sequence number behind it is for stores that keep duplicates.
        let mut place = [0; 12];
        place[..8].copy_from_slice(&self.0.to_be_bytes());
        key.extend_from_slice(&place);
    }

    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)> {
        let (key, place) = bytes.split_at_checked(bytes.len().checked_sub(12)?)?;
        let start = place.first_chunk().copied().map(Timestamp::from_be_bytes)?;
        Some((key, WindowStart(start)))
    }
}

/// A session: both ends inclusive; ordered by end, then start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionBounds {
    /// Last time in it.
    pub end: Timestamp,
    /// First time in it.
    pub start: Timestamp,
}

impl SessionBounds {
    /// Whether a record at a time belongs to the session: it is in it, or within the gap of it.
    #[inline]
    pub fn reaches(&self, time: Timestamp, gap: Timestamp) -> bool {
        self.end >= time - gap && self.start <= time + gap
    }

    /// The session that holds both.
    #[inline]
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        SessionBounds { end: self.end.max(other.end), start: self.start.min(other.start) }
    }
}

impl Place for SessionBounds {
    const TIME_BEFORE_END: usize = 16;
    const FIRST: Self = SessionBounds { end: Timestamp::MIN, start: Timestamp::MIN };
    const LAST: Self = SessionBounds { end: Timestamp::MAX, start: Timestamp::MAX };

    fn time(&self) -> Timestamp {
        self.end
    }

    fn first_at(time: Timestamp) -> Self {
        SessionBounds { end: time, start: Timestamp::MIN }
    }

    fn next(self) -> Self {
        SessionBounds { start: self.start.saturating_add(1), ..self }
    }

    fn is_at(&self, times: &RangeInclusive<Timestamp>) -> bool {
        self.end >= *times.start() && self.start <= *times.end()
    }

    fn encode(&self, key: &mut Vec<u8>) {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&self.end.to_be_bytes());
        place[8..].copy_from_slice(&self.start.to_be_bytes());
        key.extend_from_slice(&place);
    }

    fn decode(bytes: &[u8]) -> Option<(&[u8], Self)> {
        let (rest, start) = bytes.split_last_chunk()?;
        let (key, end) = rest.split_last_chunk()?;
        Some((key, SessionBounds { end: Timestamp::from_be_bytes(*end), start: Timestamp::from_be_bytes(*start) }))
    }
}
