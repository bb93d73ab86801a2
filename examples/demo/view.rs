//! What the demo shows, as text of at most 79 columns; `screen` puts it on the terminal. Nothing here reads a clock.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration};
use millstream::prelude::Timestamp;

use crate::answers::{Answers, Busy, Session};
use crate::pipeline::Day;

/// Rows of a table: with three tables and the lines above them the view fits into 24 lines.
const ROWS: usize = 5;

/// How far the pipeline is.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Progress {
    /// What is waited for, if that is something else than the pipeline.
    pub waiting: Option<Waiting>,
    /// Flights the pipeline is done with, in this run and before.
    pub flights: u64,
    /// Flights there are.
    pub all: u64,
    /// Flights a second.
    pub flight_rate: f64,
    /// The latest time of any result.
    pub reached: Timestamp,
    /// Records processed in this run, those between its parts included.
    pub records: u64,
    /// Such records a second.
    pub record_rate: f64,
    /// Records that came too late.
    pub late: u64,
    /// Commits.
    pub commits: u64,
}

/// What may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The tasks' state comes back from the changelogs.
    Restore {
        /// Rows so far.
        rows: u64,
    },
    /// The packaged data are read.
    Data,
    /// All flights are processed; windows close, and all is committed.
    End,
    /// All flights are processed, and somebody watches.
    CtrlC,
}

impl Progress {
    /// One line: how far, how fast, until when; or what is waited for.
    pub fn line(&self) -> String {
        let count = HumanCount;
        match self.waiting {
            Some(Waiting::Restore { rows: 0 }) => "waiting   for the state to be restored".to_owned(),
            Some(Waiting::Restore { rows }) => {
                format!("waiting   for the state to be restored, {} rows so far", count(rows))
            }
            Some(Waiting::Data) => "waiting   for the year's data to be unpacked".to_owned(),
            Some(Waiting::End) => "waiting   for the last windows to close and for the last commit".to_owned(),
            Some(Waiting::CtrlC) => {
                format!("finished  all {} flights are processed; Ctrl-C shows the results", count(self.all))
            }
            None => {
                let mut line = format!("flights   {} of {}", count(self.flights), count(self.all));
                if self.flight_rate >= 1.0 {
                    let left = self.all.saturating_sub(self.flights) as f64 / self.flight_rate;
                    let left = HumanDuration(Duration::from_secs_f64(left.ceil()));
                    _ = write!(line, "   {}/s   {left:#} left", count(self.flight_rate as u64));
                }
                if self.reached > 0 {
                    _ = write!(line, "   at {} {}", date(self.reached), hour(self.reached));
                }
                line
            }
        }
    }

    /// A second line, for those who watch.
    pub fn records(&self) -> String {
        let count = HumanCount;
        let (records, rate) = (count(self.records), count(self.record_rate as u64));
        format!("records   {records} processed   {rate}/s   {} late   {} commits", self.late, count(self.commits))
    }
}

/// What happens per second, on the average of the last seconds.
#[derive(Debug, Default)]
pub struct Pace(VecDeque<(Duration, u64)>);

impl Pace {
    /// Takes a count at a time; answers how many a second it grows.
    pub fn at(&mut self, now: Duration, count: u64) -> f64 {
        self.0.push_back((now, count));
        while self.0.len() > 2 && self.0.front().is_some_and(|(then, _)| now - *then > Duration::from_secs(5)) {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front().filter(|(then, _)| *then < now) else { return 0.0 };
        count.saturating_sub(*before) as f64 / (now - *then).as_secs_f64()
    }
}

/// The three tables of the last day; nothing as long as there are no results.
pub fn last_day(answers: &Answers) -> String {
    if answers.reached == 0 {
        return String::new();
    }
    let (day, carriers) = answers.carriers.last_day(answers.reached);
    tables(
        (&format!("carriers by mean delay, {}", date(day)), carriers),
        ("routes by departures in 3 hours, last day", answers.routes.last_day(answers.reached)),
        ("aircraft under way without a day's rest", answers.aircraft.under_way(answers.reached)),
    )
}

/// The three tables of all days there are results of.
pub fn all_days(answers: &Answers) -> String {
    tables(
        (&format!("carriers by mean delay, up to {}", date(answers.reached)), answers.carriers.all_days()),
        ("routes by departures in 3 hours", answers.routes.all_days()),
        ("aircraft longest without a day's rest", answers.aircraft.all_days()),
    )
}

fn tables(
    (carriers, days): (&str, Vec<(&str, Day)>),
    (routes, windows): (&str, Vec<(&str, Busy)>),
    (aircraft, sessions): (&str, Vec<(&str, &Session)>),
) -> String {
    let mut text = format!("{carriers:<44} {:>8} {:>11} {:>11}\n", "flights", "mean", "longest");
    for (name, day) in days.into_iter().take(ROWS) {
        let (flights, mean) = (HumanCount(day.flights as u64).to_string(), day.mean());
        _ = writeln!(text, "  {name:<42.42} {flights:>8} {mean:>7.1} min {:>7} min", day.max_delay);
    }
    _ = writeln!(text, "\n{routes:<41} {:>10}   window", "departures");
    for (route, busy) in windows.into_iter().take(ROWS) {
        let (from, to) = (busy.start, busy.start + 3 * 3_600_000);
        let window = format!("{} {}-{}", date(from), hour(from), hour(to));
        _ = writeln!(text, "  {:<39.39} {:>10}   {window}", route.replace(' ', "-"), busy.departures);
    }
    _ = writeln!(text, "\n{aircraft:<44} {:>4} {:>7} {:>10} {:>10}", "legs", "miles", "from", "to");
    for (tailnum, Session { start, end, tour }) in sessions.into_iter().take(ROWS) {
        let maker = tour.manufacturer.as_deref().unwrap_or("maker not known");
        let miles = HumanCount(tour.miles as u64).to_string();
        let (from, to) = (date(*start), date(*end));
        _ = writeln!(text, "  {tailnum:<8} {maker:<33.33} {:>4} {miles:>7} {from} {to}", tour.legs);
    }
    text
}

/// The date of a time, UTC.
fn date(millis: Timestamp) -> String {
    // The inverse of counting days with years that begin in March.
    let z = millis.div_euclid(86_400_000) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    format!("{:04}-{month:02}-{day:02}", yoe + era * 400 + i64::from(month <= 2))
}

/// The time of day of a time, UTC.
fn hour(millis: Timestamp) -> String {
    let minute = millis.div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Tour;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    /// 2013-05-12, midnight.
    const TODAY: i64 = 1_368_316_800_000;

    fn answers() -> Answers {
        let mut answers = Answers { reached: TODAY + DAY_MS + 5 * HOUR_MS, ..Answers::default() };
        for (name, day, flights, delay, max_delay) in [
            ("Delta Air Lines Inc.", -10, 1000, 1000, 13),
            ("Delta Air Lines Inc.", 0, 120, 2460, 389),
            ("Frontier Airlines Inc.", 0, 2, 90, 88),
            ("Hawaiian Airlines Inc.", 0, 1, -4, -4),
            ("United Air Lines Inc.", 1, 1, 300, 300),
        ] {
            answers.carriers.take(name.to_owned(), TODAY + day * DAY_MS, Day { flights, delay, max_delay });
        }
        for (route, hour, departures) in [("JFK LAX", -100, 9), ("JFK LAX", 22, 7), ("EWR ORD", 8, 8)] {
            answers.routes.take(route.to_owned(), TODAY + hour * HOUR_MS, departures);
        }
        for (tailnum, start, end, legs, maker) in [
            ("N713MQ", -60, -40, 58, None),
            ("N713MQ", 0, 1, 3, None),
            ("N267JB", -9, 1, 21, Some("EMBRAER-EMPRESA BRASILEIRA DE AERONAUTICA")),
        ] {
            let tour = Tour { legs, miles: legs * 500, manufacturer: maker.map(str::to_owned) };
            let session = Session { start: TODAY + start * DAY_MS, end: TODAY + end * DAY_MS, tour };
            answers.aircraft.take(tailnum.to_owned(), session);
        }
        answers
    }

    #[test]
    fn the_last_day_is_three_tables() {
        let shown = "\
carriers by mean delay, 2013-05-12            flights        mean     longest
  Frontier Airlines Inc.                            2    45.0 min      88 min
  Delta Air Lines Inc.                            120    20.5 min     389 min
  Hawaiian Airlines Inc.                            1    -4.0 min      -4 min

routes by departures in 3 hours, last day departures   window
  EWR-ORD                                          8   2013-05-12 08:00-11:00
  JFK-LAX                                          7   2013-05-12 22:00-01:00

aircraft under way without a day's rest      legs   miles       from         to
  N267JB   EMBRAER-EMPRESA BRASILEIRA DE AER   21  10,500 2013-05-03 2013-05-13
  N713MQ   maker not known                      3   1,500 2013-05-12 2013-05-13
";
        assert_eq!(last_day(&answers()), shown);
        assert_eq!(last_day(&Answers::default()), "");
    }

    #[test]
    fn all_days_are_three_tables() {
        let shown = "\
carriers by mean delay, up to 2013-05-13      flights        mean     longest
  United Air Lines Inc.                             1   300.0 min     300 min
  Frontier Airlines Inc.                            2    45.0 min      88 min
  Delta Air Lines Inc.                          1,120     3.1 min     389 min
  Hawaiian Airlines Inc.                            1    -4.0 min      -4 min

routes by departures in 3 hours           departures   window
  JFK-LAX                                          9   2013-05-07 20:00-23:00
  EWR-ORD                                          8   2013-05-12 08:00-11:00

aircraft longest without a day's rest        legs   miles       from         to
  N713MQ   maker not known                     58  29,000 2013-03-13 2013-04-02
  N267JB   EMBRAER-EMPRESA BRASILEIRA DE AER   21  10,500 2013-05-03 2013-05-13
";
        assert_eq!(all_days(&answers()), shown);
    }

    #[test]
    fn a_table_has_at_most_five_rows() {
        let mut answers = Answers::default();
        for number in 0..100 {
            answers.routes.take(format!("JFK {number}"), 0, 1);
        }
        assert_eq!(all_days(&answers).matches("JFK-").count(), 5);
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_until_when() {
        let mut progress = Progress {
            flights: 123_456,
            all: 336_776,
            flight_rate: 12_003.4,
            reached: TODAY + 14 * HOUR_MS + 5 * 60_000,
            records: 371_234,
            record_rate: 35_120.9,
            commits: 1_312,
            ..Progress::default()
        };
        assert_eq!(progress.line(), "flights   123,456 of 336,776   12,003/s   18s left   at 2013-05-12 14:05");
        assert_eq!(progress.records(), "records   371,234 processed   35,120/s   0 late   1,312 commits");
        progress.flight_rate = 0.0;
        assert_eq!(progress.line(), "flights   123,456 of 336,776   at 2013-05-12 14:05");
        progress.reached = 0;
        assert_eq!(progress.line(), "flights   123,456 of 336,776");
    }

    #[test]
    fn a_line_says_what_is_waited_for() {
        let line = |waiting| Progress { waiting: Some(waiting), all: 336_776, ..Progress::default() }.line();
        let restores = [0, 12_000].map(|rows| line(Waiting::Restore { rows }));
        assert_eq!(
            restores,
            ["waiting   for the state to be restored", "waiting   for the state to be restored, 12,000 rows so far",]
        );
        let lines = [Waiting::Data, Waiting::End, Waiting::CtrlC].map(line);
        assert_eq!(
            lines,
            [
                "waiting   for the year's data to be unpacked",
                "waiting   for the last windows to close and for the last commit",
                "finished  all 336,776 flights are processed; Ctrl-C shows the results",
            ]
        );
    }

    #[test]
    fn a_pace_is_that_of_the_last_seconds() {
        let mut pace = Pace::default();
        let rates = [(0, 1000), (1, 1100), (2, 1300), (20, 1300), (24, 2100)];
        let rates = rates.map(|(second, count)| pace.at(Duration::from_secs(second), count));
        assert_eq!(rates, [0.0, 100.0, 150.0, 0.0, 200.0]);
    }
}
