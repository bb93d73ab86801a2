//! The pipeline: three questions about the flights.

use millstream::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::{Airline, Flight, Plane};

/// (a) per carrier and day: flights, and the delays of their departures in minutes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Departures.
    pub flights: i64,
    /// Minutes of delay in all.
    pub delay: i64,
    /// Minutes of the longest delay.
    pub max_delay: i64,
}

/// (c) what an aircraft did until it rested for a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tour {
    /// Departures from New York.
    pub legs: i64,
    /// Miles flown.
    pub miles: i64,
    /// Who built it, if known.
    pub manufacturer: Option<String>,
}

/// A departure with what is known of the aircraft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leg {
    miles: i64,
    manufacturer: Option<String>,
}

millstream::json!(Day, Tour, Leg);

impl Day {
    /// Adds the flights of another day.
    pub fn add(&mut self, other: &Day) {
        self.max_delay = if self.flights == 0 { other.max_delay } else { self.max_delay.max(other.max_delay) };
        self.flights += other.flights;
        self.delay += other.delay;
    }

    /// Minutes of delay per flight.
    pub fn mean(&self) -> f64 {
        self.delay as f64 / self.flights as f64
    }
}

/// Partitions of the topics `flights` and `planes`.
pub const PARTITIONS: i32 = 4;

/// The program.
///
/// # Errors
/// Never in practice: the program fits together.
pub fn topology() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("flights", PARTITIONS).topic("planes", PARTITIONS).topic("airlines", 1);
    let airlines = b.global_table::<String, Airline>("airlines", "airlines");
    let planes = b.table::<String, Plane>("planes", "planes");
    let departures = b.stream::<String, Flight>("flights").filter(|_, f| f.dep_delay.is_some());

    departures
        .join_global(
            &airlines,
            |_, f| Some(f.carrier.clone()),
            |f, airline| (airline.name.clone(), f.dep_delay.unwrap_or(0)),
        )
        .map(|_, (name, delay)| (name, delay))
        .group_by("by-carrier", |name, _| name.clone())
        .windowed_by(TimeWindows::of(DAY).grace(DAY))
        .aggregate("carrier-days", Day::default, |_, delay, day| {
            day.add(&Day { flights: 1, delay, max_delay: delay });
        })
        .to_stream()
        .to("carrier-days");

    departures
        .map_values(|f| format!("{} {}", f.origin, f.dest))
        .group_by("by-route", |_, route| route.clone())
        .windowed_by(TimeWindows::of(3 * HOUR).advance_by(HOUR).grace(DAY))
        .count("route-hours")
        .to_stream()
        .to("route-hours");

    departures
        .filter(|_, f| f.tailnum.is_some())
        .left_join_table("with-plane", &planes, |f, plane| Leg {
            miles: f.distance,
            manufacturer: plane.map(|p| p.manufacturer.clone()),
        })
        .group_by_key()
        .windowed_by(SessionWindows::of(DAY).grace(DAY))
        .aggregate(
            "aircraft-sessions",
            Tour::default,
            |_, leg, tour| {
                tour.legs += 1;
                tour.miles += leg.miles;
                tour.manufacturer = leg.manufacturer;
            },
            |_, a, b| Tour {
                legs: a.legs + b.legs,
                miles: a.miles + b.miles,
                manufacturer: b.manufacturer.or(a.manufacturer),
            },
        )
        .to_stream()
        .to("aircraft-sessions");
    b.build()
}
