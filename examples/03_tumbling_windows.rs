//! 03: count per hour. Rentals of bicycles come in with the time at which they began, some of them late; a window takes
//! late ones until its grace is over.
//!
//! ```console
//! $ cargo run -q --bin 03_tumbling_windows
//! 09:10 north -> north 09:00-10:00: 1
//! 09:40 north -> north 09:00-10:00: 2
//! 09:55 south -> south 09:00-10:00: 1
//! 10:05 north -> north 10:00-11:00: 1
//! 09:58 north -> north 09:00-10:00: 3
//! 10:20 north -> north 10:00-11:00: 2
//! 09:59 north -> too late
//! late: 1
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use millstream::prelude::*;

fn rentals_per_hour() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("rentals")
        .group_by_key()
        .windowed_by(TimeWindows::of(HOUR).grace(15 * MIN))
        .count("rentals-per-hour")
        .to_stream()
        .to("rentals-per-hour");
    b.build()
}

fn main() -> Result<()> {
    let t = TopologyTestDriver::new(rentals_per_hour()?)?;
    let rentals = t.input::<String, String>("rentals")?;
    let per_hour = t.output::<Windowed<String>, Option<i64>>("rentals-per-hour")?;
    // In the order in which they arrive. At 10:20 the window of nine o'clock has closed.
    let arrivals = [
        ((9, 10), "north"),
        ((9, 40), "north"),
        ((9, 55), "south"),
        ((10, 5), "north"),
        ((9, 58), "north"),
        ((10, 20), "north"),
        ((9, 59), "north"),
    ];
    for ((hour, minute), station) in arrivals {
        rentals.pipe_at(at(hour, minute), station, "a bicycle");
        let results = per_hour.read();
        let shown = match results.first() {
            Some((Windowed { key, window }, Some(n))) => {
                format!("{key} {}-{}: {n}", time(window.start), time(window.end))
            }
            _ => "too late".to_owned(),
        };
        println!("{} {station} -> {shown}", time(at(hour, minute)));
    }
    println!("late: {}", t.counters().late_records);
    Ok(())
}

/// Milliseconds since midnight.
fn at(hour: i64, minute: i64) -> Timestamp {
    (hour * 60 + minute) * 60_000
}

fn time(ms: Timestamp) -> String {
    format!("{:02}:{:02}", ms / 3_600_000, ms / 60_000 % 60)
}
