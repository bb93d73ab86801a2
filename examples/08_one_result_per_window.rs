//! 08: one result per window. Updates are right for a screen; a bill or an alarm wants the last word. Here a sensor's
//! warmest reading of each hour leaves once, when the hour and its grace are over.
//!
//! ```console
//! $ cargo run -q --bin 08_one_result_per_window
//! 09:05 roof 18.0
//! 09:30 roof 21.5
//! 09:50 cellar 11.0
//! 10:02 roof 20.0
//! 09:58 roof 22.0
//! 10:10 cellar 11.5 => cellar 09:00: 11.0, roof 09:00: 22.0
//! 11:10 roof 19.0 => cellar 10:00: 11.5, roof 10:00: 20.0
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use millstream::prelude::*;

fn warmest_of_the_hour() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<String, f64>("readings")
        .group_by_key()
        .windowed_by(TimeWindows::of(HOUR).grace(10 * MIN))
        .reduce("warmest", f64::max)
        // At most so many windows wait; more would stop the program rather than lose a result.
        .suppress_until_closed("warmest-final", BufferConfig::max_records(10_000))
        .to_stream()
        .to("warmest");
    b.build()
}

fn main() -> Result<()> {
    let t = TopologyTestDriver::new(warmest_of_the_hour()?)?;
    let readings = t.input::<String, f64>("readings")?;
    let warmest = t.output::<Windowed<String>, Option<f64>>("warmest")?;
    let day = [
        ((9, 5), "roof", 18.0),
        ((9, 30), "roof", 21.5),
        ((9, 50), "cellar", 11.0),
        ((10, 2), "roof", 20.0),
        // Late, but within the grace.
        ((9, 58), "roof", 22.0),
        // Event time alone closes windows: this reading says that it is ten past ten.
        ((10, 10), "cellar", 11.5),
        ((11, 10), "roof", 19.0),
    ];
    for ((hour, minute), sensor, degrees) in day {
        readings.pipe_at((hour * 60 + minute) * 60_000, sensor, degrees);
        let finals: Vec<String> = warmest
            .read()
            .into_iter()
            .filter_map(|(at, max)| Some(format!("{} {:02}:00: {:.1}", at.key, at.window.start / 3_600_000, max?)))
            .collect();
        let came = format!("{hour:02}:{minute:02} {sensor} {degrees:.1}");
        println!("{}", if finals.is_empty() { came } else { format!("{came} => {}", finals.join(", ")) });
    }
    Ok(())
}
