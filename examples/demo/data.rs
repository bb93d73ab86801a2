//! The data: flights, airlines and aircraft, as packaged in `examples/data` (nycflights13, CC0).

use std::collections::HashMap;
use std::io::Read;

use flate2::read::GzDecoder;
use millstream::prelude::*;
use serde::{Deserialize, Serialize};

const FLIGHTS: &[u8] = include_bytes!("../data/flights.csv.gz");
const PLANES: &[u8] = include_bytes!("../data/planes.csv.gz");
const AIRLINES: &str = include_str!("../data/airlines.csv");

/// A scheduled departure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Two letters.
    pub carrier: String,
    /// Aircraft, if known.
    pub tailnum: Option<String>,
    /// Airport in New York.
    pub origin: String,
    /// Where to.
    pub dest: String,
    /// Miles.
    pub distance: i64,
    /// Scheduled departure, milliseconds since 1970 UTC.
    pub scheduled: Timestamp,
    /// Minutes of delay; none if the flight was cancelled.
    pub dep_delay: Option<i64>,
}

/// An airline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Airline {
    /// Its name.
    pub name: String,
}

/// An aircraft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plane {
    /// Who built it.
    pub manufacturer: String,
}

millstream::json!(Flight, Airline, Plane);

impl Flight {
    /// When it departed, or should have.
    pub fn departure(&self) -> Timestamp {
        self.scheduled + self.dep_delay.unwrap_or(0) * 60_000
    }

    /// The key of its record: the aircraft, or the carrier if that is not known.
    pub fn key(&self) -> &str {
        self.tailnum.as_deref().unwrap_or(&self.carrier)
    }
}

/// A table of named columns.
struct Csv {
    columns: HashMap<String, usize>,
    rows: Vec<Vec<String>>,
}

impl Csv {
    fn parse(text: &str) -> Csv {
        let mut lines = text.lines();
        let split = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let columns =
            lines.next().map(split).unwrap_or_default().into_iter().enumerate().map(|(i, n)| (n, i)).collect();
        Csv { columns, rows: lines.map(split).collect() }
    }

    /// A field of a row; `NA` is none.
    fn field<'a>(&self, row: &'a [String], column: &str) -> Option<&'a str> {
        row.get(*self.columns.get(column)?).map(String::as_str).filter(|v| *v != "NA")
    }
}

fn unpack(bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).map_err(Error::user)?;
    Ok(text)
}

/// All flights, in order of scheduled departure, then of the file.
///
/// # Errors
/// When the packaged file is damaged.
pub fn flights() -> Result<Vec<Flight>> {
    let csv = Csv::parse(&unpack(FLIGHTS)?);
    let read = |row: &Vec<String>| {
        let number = |column| csv.field(row, column).and_then(|v| v.parse::<i64>().ok());
        Some(Flight {
            carrier: csv.field(row, "carrier")?.to_owned(),
            tailnum: csv.field(row, "tailnum").map(str::to_owned),
            origin: csv.field(row, "origin")?.to_owned(),
            dest: csv.field(row, "dest")?.to_owned(),
            distance: number("distance")?,
            scheduled: utc_millis(csv.field(row, "time_hour")?)? + number("minute")? * 60_000,
            dep_delay: number("dep_time").and(number("dep_delay")),
        })
    };
    let flights: Option<Vec<Flight>> = csv.rows.iter().map(read).collect();
    let mut flights = flights.ok_or_else(|| Error::user("a row of flights.csv cannot be read"))?;
    flights.sort_by_key(|f| f.scheduled);
    Ok(flights)
}

/// Airlines by their two letters.
pub fn airlines() -> Vec<(String, Airline)> {
    let csv = Csv::parse(AIRLINES);
    let read = |row: &Vec<String>| {
        Some((csv.field(row, "carrier")?.to_owned(), Airline { name: csv.field(row, "name")?.to_owned() }))
    };
    csv.rows.iter().filter_map(read).collect()
}

/// Aircraft by tail number.
///
/// # Errors
/// When the packaged file is damaged.
pub fn planes() -> Result<Vec<(String, Plane)>> {
    let csv = Csv::parse(&unpack(PLANES)?);
    let read = |row: &Vec<String>| {
        let plane = Plane { manufacturer: csv.field(row, "manufacturer")?.to_owned() };
        Some((csv.field(row, "tailnum")?.to_owned(), plane))
    };
    Ok(csv.rows.iter().filter_map(read).collect())
}

/// Milliseconds of a time such as `2013-01-01T10:00:00Z`.
fn utc_millis(text: &str) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days since 1970 in the Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469;
    Some(((days * 24 + number(11..13)?) * 60 + number(14..16)?) * 60_000 + number(17..19)? * 1000)
}

#[cfg(test)]
mod tests {
    use super::utc_millis;

    #[test]
    fn reads_times() {
        assert_eq!(utc_millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(utc_millis("2013-01-01T10:00:00Z"), Some(1_357_034_400_000));
        assert_eq!(utc_millis("2012-02-29T00:00:01Z"), Some(1_330_473_601_000));
    }
}
