//! The answers in brief: per carrier, route and aircraft what a few rows of a table need, never all results. Fed by
//! `results`; `view` makes text of it. Times come from the records, there is no clock.

use std::collections::BTreeMap;

use millstream::prelude::Timestamp;

use crate::pipeline::{Day, Tour};

const DAY_MS: Timestamp = 24 * 3_600_000;

/// All three answers.
#[derive(Debug, Default)]
pub struct Answers {
    /// (a)
    pub carriers: Carriers,
    /// (b)
    pub routes: Routes,
    /// (c)
    pub aircraft: Aircraft,
    /// The latest time of any result.
    pub reached: Timestamp,
}

/// (a) delays by carrier.
#[derive(Debug, Default)]
pub struct Carriers(BTreeMap<String, Carrier>);

#[derive(Debug, Default)]
struct Carrier {
    /// The last days, which may still change.
    days: BTreeMap<Timestamp, Day>,
    /// The sum of all days before.
    before: Day,
}

/// (b) departures by route and three hours.
#[derive(Debug, Default)]
pub struct Routes(BTreeMap<String, Route>);

#[derive(Debug, Default)]
struct Route {
    busiest: Busy,
    /// Departures by window, of a day.
    recent: BTreeMap<Timestamp, i64>,
}

/// A window of a route.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// How many.
    pub departures: i64,
    /// The window's start.
    pub start: Timestamp,
}

/// (c) what aircraft did between two rests.
#[derive(Debug, Default)]
pub struct Aircraft(BTreeMap<String, Sessions>);

#[derive(Debug)]
struct Sessions {
    longest: Session,
    latest: Session,
}

/// A session of an aircraft.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// First departure.
    pub start: Timestamp,
    /// Last departure.
    pub end: Timestamp,
    /// What it flew.
    pub tour: Tour,
}

impl Carriers {
    /// Takes the present state of a carrier's day.
    pub fn take(&mut self, carrier: String, start: Timestamp, day: Day) {
        let Carrier { days, before } = self.0.entry(carrier).or_default();
        days.insert(start, day);
        let newest = days.last_key_value().map_or(start, |(start, _)| *start);
        // A window takes records for a day after its end: what is three days back stays as it is.
        while let Some(oldest) = days.first_entry().filter(|day| *day.key() + 3 * DAY_MS <= newest) {
            before.add(&oldest.remove());
        }
    }

    /// The last day that was over at a time (or the one under way, at the beginning), and its rows, worst mean first.
    pub fn last_day(&self, now: Timestamp) -> (Timestamp, Vec<(&str, Day)>) {
        let starts = || self.0.values().flat_map(|c| c.days.keys().copied());
        let start = starts().filter(|start| start + DAY_MS <= now).max().or_else(|| starts().max()).unwrap_or(0);
        let rows = self.0.iter().filter_map(|(name, c)| Some((name.as_str(), c.days.get(&start)?.clone())));
        (start, worst_first(rows.collect()))
    }

    /// All days together, worst mean first.
    pub fn all_days(&self) -> Vec<(&str, Day)> {
        let sum = |c: &Carrier| {
            let mut sum = c.before.clone();
            c.days.values().for_each(|day| sum.add(day));
            sum
        };
        worst_first(self.0.iter().map(|(name, c)| (name.as_str(), sum(c))).collect())
    }
}

fn worst_first(mut rows: Vec<(&str, Day)>) -> Vec<(&str, Day)> {
    rows.sort_by(|(_, a), (_, b)| b.mean().total_cmp(&a.mean()));
    rows
}

impl Routes {
    /// Takes the present count of a route's window.
    pub fn take(&mut self, route: String, start: Timestamp, departures: i64) {
        let Route { busiest, recent } = self.0.entry(route).or_default();
        // Counts only grow, so the largest ever seen is the largest at the end.
        if departures > busiest.departures {
            *busiest = Busy { departures, start };
        }
        recent.insert(start, departures);
        let newest = recent.last_key_value().map_or(start, |(start, _)| *start);
        while let Some(oldest) = recent.first_entry().filter(|window| *window.key() + DAY_MS <= newest) {
            oldest.remove();
        }
    }

    /// Each route's busiest window of those that began within a day before a time, busiest first.
    pub fn last_day(&self, now: Timestamp) -> Vec<(&str, Busy)> {
        let best = |route: &Route| {
            let recent = route.recent.iter().filter(|(start, _)| **start + DAY_MS > now);
            recent
                .map(|(start, n)| Busy { departures: *n, start: *start })
                .reduce(|a, b| if b.departures > a.departures { b } else { a })
        };
        busiest_first(self.0.iter().filter_map(|(name, route)| Some((name.as_str(), best(route)?))).collect())
    }

    /// Each route's busiest window of all, busiest first.
    pub fn all_days(&self) -> Vec<(&str, Busy)> {
        busiest_first(self.0.iter().map(|(name, route)| (name.as_str(), route.busiest)).collect())
    }
}

fn busiest_first(mut rows: Vec<(&str, Busy)>) -> Vec<(&str, Busy)> {
    rows.sort_by_key(|(_, busy)| std::cmp::Reverse(busy.departures));
    rows
}

impl Aircraft {
    /// Takes the present state of a session. That a session is gone need not be told: it went into a longer one.
    pub fn take(&mut self, tailnum: String, session: Session) {
        let Sessions { longest, latest } =
            self.0.entry(tailnum).or_insert_with(|| Sessions { longest: session.clone(), latest: session.clone() });
        if session.length() > longest.length() {
            *longest = session.clone();
        }
        if session.end >= latest.end {
            *latest = session;
        }
    }

    /// Sessions that may go on at a time, longest first.
    pub fn under_way(&self, now: Timestamp) -> Vec<(&str, &Session)> {
        let open = self.0.iter().filter(|(_, s)| s.latest.end + DAY_MS >= now);
        longest_first(open.map(|(tailnum, s)| (tailnum.as_str(), &s.latest)).collect())
    }

    /// Each aircraft's longest session, longest first.
    pub fn all_days(&self) -> Vec<(&str, &Session)> {
        longest_first(self.0.iter().map(|(tailnum, s)| (tailnum.as_str(), &s.longest)).collect())
    }
}

impl Session {
    fn length(&self) -> (i64, i64) {
        (self.tour.legs, self.tour.miles)
    }
}

fn longest_first<'a>(mut rows: Vec<(&'a str, &'a Session)>) -> Vec<(&'a str, &'a Session)> {
    rows.sort_by_key(|(_, session)| std::cmp::Reverse(session.length()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(flights: i64, delay: i64) -> Day {
        Day { flights, delay, max_delay: delay }
    }

    fn session(start: i64, end: i64, legs: i64) -> Session {
        Session { start, end, tour: Tour { legs, miles: legs * 100, manufacturer: None } }
    }

    #[test]
    fn the_last_whole_day_is_ranked_by_mean_and_all_days_are_summed() {
        let mut carriers = Carriers::default();
        carriers.take("A".into(), 0, day(1, 10));
        assert_eq!(carriers.last_day(5), (0, vec![("A", day(1, 10))]), "the day under way, as there is no other");
        for number in 0..10 {
            carriers.take("A".into(), number * DAY_MS, day(1, 1));
            carriers.take("A".into(), number * DAY_MS, day(2, 20));
            carriers.take("B".into(), number * DAY_MS, day(1, 30));
        }
        let (start, rows) = carriers.last_day(9 * DAY_MS + 5);
        assert_eq!((start / DAY_MS, rows), (8, vec![("B", day(1, 30)), ("A", day(2, 20))]));
        let sum = |flights, delay, max_delay| Day { flights, delay, max_delay };
        assert_eq!(carriers.all_days(), [("B", sum(10, 300, 30)), ("A", sum(20, 200, 20))]);
        assert!(carriers.0.values().all(|c| c.days.len() <= 3), "days that are over are not kept");
    }

    #[test]
    fn a_route_has_its_busiest_window_of_the_day_and_of_all() {
        let mut routes = Routes::default();
        let hour = |n: i64| n * 3_600_000;
        routes.take("JFK LAX".into(), hour(1), 9);
        for n in 10..100 {
            routes.take("JFK LAX".into(), hour(n), 1 + n % 2);
        }
        routes.take("EWR ORD".into(), hour(99), 1);
        let busy = |departures, n| Busy { departures, start: hour(n) };
        assert_eq!(routes.last_day(hour(99)), [("JFK LAX", busy(2, 77)), ("EWR ORD", busy(1, 99))]);
        assert_eq!(routes.last_day(hour(123)), [], "nothing began within a day before");
        assert_eq!(routes.all_days(), [("JFK LAX", busy(9, 1)), ("EWR ORD", busy(1, 99))]);
        assert_eq!(routes.0["JFK LAX"].recent.len(), 24, "windows of a day are kept");
    }

    #[test]
    fn an_aircraft_has_its_longest_session_and_the_one_under_way() {
        let mut aircraft = Aircraft::default();
        aircraft.take("N1".into(), session(0, 0, 1));
        aircraft.take("N1".into(), session(0, DAY_MS, 2));
        aircraft.take("N1".into(), session(5 * DAY_MS, 5 * DAY_MS, 1));
        aircraft.take("N2".into(), session(0, 4 * DAY_MS, 3));
        let (one, two, three) = (session(5 * DAY_MS, 5 * DAY_MS, 1), session(0, DAY_MS, 2), session(0, 4 * DAY_MS, 3));
        assert_eq!(aircraft.under_way(5 * DAY_MS), [("N2", &three), ("N1", &one)]);
        assert_eq!(aircraft.under_way(6 * DAY_MS), [("N1", &one)], "the other has rested");
        assert_eq!(aircraft.all_days(), [("N2", &three), ("N1", &two)]);
    }
}
