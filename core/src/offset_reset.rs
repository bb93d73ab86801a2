//! `auto.offset.reset`: where a source starts when it has no position, or one that the log no longer holds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where a source starts that has no committed position, or whose position retention has passed.
///
/// ```
/// use std::time::Duration;
/// use millstream_core::OffsetReset;
///
/// assert_eq!("by_duration:PT1H30M".parse(), Ok(OffsetReset::ByDuration(Duration::from_secs(5_400))));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// At the first record there is.
    #[default]
    Earliest,
    /// Behind the last.
    Latest,
    /// At the first record not older than this before now (KIP-1106).
    ByDuration(Duration),
    /// Nowhere: it is an error.
    None,
}

/// No word for an [`OffsetReset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOffsetReset;

impl fmt::Display for NotAnOffsetReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not one of earliest, latest, none, by_duration:PT1H")
    }
}

impl std::error::Error for NotAnOffsetReset {}

impl FromStr for OffsetReset {
    type Err = NotAnOffsetReset;

    /// Kafka's words.
    fn from_str(text: &str) -> Result<Self, NotAnOffsetReset> {
        match text {
            "earliest" => Ok(OffsetReset::Earliest),
            "latest" => Ok(OffsetReset::Latest),
            "none" => Ok(OffsetReset::None),
            other => {
                let duration = other.strip_prefix("by_duration:");
                let duration = duration.and_then(|text| iso_duration(&text.to_ascii_lowercase()));
                duration.map(OffsetReset::ByDuration).ok_or(NotAnOffsetReset)
            }
        }
    }
}

/// `pNdTnHnMn.nS` as `java.time.Duration` reads it, in small letters and without signs: days of 24 hours, each part at
/// most once and in this order, at least one, and at least one behind the `t`.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('p')?;
    let (days, time) = text.split_once('t').map_or((text, None), |(days, time)| (days, Some(time)));
    if time.is_some_and(str::is_empty) || (days.is_empty() && time.is_none()) {
        return None;
    }
    let mut total = Duration::ZERO;
    if !days.is_empty() {
        total = seconds(whole(days.strip_suffix('d')?)?, 86_400)?;
    }
    let mut rest = time.unwrap_or_default();
    for (unit, length) in [('h', 3_600), ('m', 60)] {
        if let Some((number, behind)) = rest.split_once(unit) {
            total = total.checked_add(seconds(whole(number)?, length)?)?;
            rest = behind;
        }
    }
    if rest.is_empty() {
        return Some(total);
    }
    let (number, fraction) = rest.strip_suffix('s').map(|s| s.split_once('.').unwrap_or((s, "0")))?;
    let digits = fraction.len().min(9) as u32;
    if fraction.len() > 9 {
        return None;
    }
    let nanos = u32::try_from(whole(fraction)?).ok()?.checked_mul(10_u32.pow(9 - digits))?;
    total.checked_add(Duration::new(whole(number)?, nanos))
}

/// Digits alone: `parse` would take a sign.
fn whole(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn seconds(number: u64, length: u64) -> Option<Duration> {
    number.checked_mul(length).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_java_reads_them() {
        let cases = [
            ("PT1H", Some(3_600_000)),
            ("pt90m", Some(5_400_000)),
            ("P2D", Some(172_800_000)),
            ("P1DT2H3M4.5S", Some(93_784_500)),
            ("PT0S", Some(0)),
            ("PT0.001S", Some(1)),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("1H", None),
            ("PT-1H", None),
            ("-PT1H", None),
            ("PT1M1H", None),
            ("PT1H1H", None),
            ("PT+1H", None),
            ("PTH", None),
            ("PT1H ", None),
            ("P99999999999999999999D", None),
        ];
        for (text, millis) in cases {
            let read = format!("by_duration:{text}").parse();
            let wanted = millis.map(|ms| OffsetReset::ByDuration(Duration::from_millis(ms))).ok_or(NotAnOffsetReset);
            assert_eq!(read, wanted, "{text}");
        }
    }
}
