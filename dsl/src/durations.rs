//! Durations that a program is given. They count in whole milliseconds; what cannot be counted so is kept until the program
//! is built, and is a problem there.

use std::fmt;
use std::time::Duration;

use millstream_core::Timestamp;

/// The longest that is taken, in milliseconds: 36 million years. A time and the sum of a few durations stay in 64 bits.
const LONGEST: Timestamp = Timestamp::MAX / 8;

/// The shortest that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Least {
    Zero,
    Millisecond,
}

/// A duration that is too short or too long for what it is given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadDuration {
    what: &'static str,
    given: Duration,
    least: Least,
}

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadDuration { what, given, least } = self;
        write!(f, "{what} of {given:?}\n  help: ")?;
        match (given.as_millis(), least) {
            (1.., _) => write!(f, "at most {LONGEST} ms, which is 36 million years"),
            (0, Least::Millisecond) => f.write_str("at least 1 ms"),
            (0, Least::Zero) => f.write_str("0, or at least 1 ms: durations count in whole milliseconds"),
        }
    }
}

/// Milliseconds of a duration that is given as `what`.
pub(crate) fn millis(what: &'static str, given: Duration, least: Least) -> Result<Timestamp, BadDuration> {
    let bad = BadDuration { what, given, least };
    match Timestamp::try_from(given.as_millis()) {
        Ok(0) if !given.is_zero() || least == Least::Millisecond => Err(bad),
        Ok(millis @ ..=LONGEST) => Ok(millis),
        _ => Err(bad),
    }
}

/// The first bad duration of a definition that knows no program yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FirstBad(Option<BadDuration>);

impl FirstBad {
    /// Milliseconds of a duration; a bad one is noted and stands for a millisecond.
    pub(crate) fn millis(&mut self, what: &'static str, given: Duration, least: Least) -> Timestamp {
        millis(what, given, least).unwrap_or_else(|bad| {
            self.0.get_or_insert(bad);
            1
        })
    }

    /// The one that was noted.
    pub(crate) fn get(self) -> Option<BadDuration> {
        self.0
    }
}
