//! Whether the wall clock may say how old something is. Retention, compaction and what forgets producers ask it: what is gone
//! does not come back when the clock does.
//!
//! ```text
//!   trusted ── jumps by more than an hour ──► doubted ── stays there for an hour, or comes back ──► trusted
//!                                                └── jumps again: the hour begins anew
//! ```
//!
//! A jump is against the clock that never goes back; how long it stays is told by that too.

use std::time::Duration;

use millstream_core::Now;

/// A larger jump is doubted, and for so long.
const HOUR: Duration = Duration::from_secs(3_600);

/// What has been seen of the wall clock, as how far it is ahead of the other, in milliseconds.
#[derive(Debug)]
pub(crate) struct ClockJumps {
    trusted: i128,
    /// Where it has jumped to, and when.
    doubted: Option<(i128, Duration)>,
}

impl ClockJumps {
    /// Trusts the clock as it is.
    pub(crate) fn new(now: Now) -> Self {
        ClockJumps { trusted: ahead(now), doubted: None }
    }

    /// Looks at the clock, and says whether to trust it.
    pub(crate) fn is_trusted(&mut self, now: Now) -> bool {
        let seen = ahead(now);
        let since = self.doubted.filter(|(doubted, _)| is_near(seen, *doubted)).map_or(now.ticks, |(_, since)| since);
        let is_trusted = is_near(seen, self.trusted) || now.ticks.saturating_sub(since) >= HOUR;
        // What drifts slowly is followed.
        (self.trusted, self.doubted) = if is_trusted { (seen, None) } else { (self.trusted, Some((seen, since))) };
        is_trusted
    }
}

fn ahead(now: Now) -> i128 {
    i128::from(now.wall) - now.ticks.as_millis() as i128
}

fn is_near(a: i128, b: i128) -> bool {
    a.abs_diff(b) <= HOUR.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is trusted at each of these minutes of the clock that never goes back, with the wall clock so many ahead.
    fn looks(minutes: &[(u64, i64)]) -> Vec<bool> {
        let at = |(minutes, ahead): (u64, i64)| Now {
            wall: (minutes as i64 + ahead) * 60_000,
            ticks: Duration::from_secs(minutes * 60),
        };
        let mut jumps = ClockJumps::new(at((0, 0)));
        minutes.iter().map(|look| jumps.is_trusted(at(*look))).collect()
    }

    #[test]
    fn a_jump_is_doubted_until_it_has_stayed_for_an_hour_or_is_back() {
        assert_eq!(looks(&[(1, 0), (1_000, 0), (90_000, 0)]), [true; 3], "time that passes is no jump");
        assert_eq!(looks(&[(1, 60), (2, 120), (3, 180)]), [true; 3], "no jump of more than an hour");
        assert_eq!(looks(&[(1, 61), (60, 61), (61, 61), (62, 61)]), [false, false, true, true]);
        assert_eq!(looks(&[(1, 43_200), (2, 5), (3, 5)]), [false, true, true], "it is back");
        assert_eq!(looks(&[(1, -61), (2, -61), (3, 0)]), [false, false, true], "backwards too");
        assert_eq!(
            looks(&[(1, 500), (59, 900), (118, 900), (119, 900)]),
            [false, false, false, true],
            "it jumps again"
        );
    }
}
