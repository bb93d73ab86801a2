//! 09: a step written by hand, with a store and a timer. Doors report when they open and close; a door that has stood open
//! for five minutes is reported once. No operator does this, a processor does: it remembers, and looks every minute.
//!
//! ```console
//! $ cargo run -q --bin 09_processor_and_timer
//! minute 0: front opened
//! minute 1: back opened
//! minute 3: back closed
//! minute 5: front has been open for 5 minutes
//! minute 8: front closed
//! minute 9: front opened
//! minute 14: front has been open for 5 minutes
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use millstream::prelude::*;

const PATIENCE: Timestamp = 5 * 60_000;

/// The state of a task is in its stores: they are restored after a crash, what else a processor holds is not.
struct Watch {
    open_since: KeyValueStore<String, i64>,
}

impl Processor for Watch {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, door: Record<String, String>, _: &mut Out<'_, String, String>) -> Result<()> {
        let since = (door.value == "opened").then_some(door.timestamp);
        self.open_since.put(&door.key, since)?;
        Ok(())
    }
}

impl Watch {
    fn look(&mut self, now: Timestamp, out: &mut Out<'_, String, String>) -> Result<()> {
        for row in self.open_since.all() {
            let (door, since) = row?;
            if now - since >= PATIENCE {
                self.open_since.delete(&door)?;
                let text = format!("has been open for {} minutes", (now - since) / 60_000);
                out.forward(Record::new(door, text, now))?;
            }
        }
        Ok(())
    }
}

fn watch() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let open_since = b.store::<String, i64>("open-since");
    b.stream::<String, String>("doors")
        .process("watch", move |setup| {
            setup.every(MIN, Clock::Wall, Watch::look);
            Watch { open_since: setup.store(open_since) }
        })
        .to("alarms");
    b.build()
}

fn main() -> Result<()> {
    let t = TopologyTestDriver::new(watch()?)?;
    let (doors, alarms) = (t.input::<String, String>("doors")?, t.output::<String, String>("alarms")?);
    // Minute by minute.
    let day = ["front opened", "back opened", "", "back closed", "", "", "", "", "front closed", "front opened"];
    for minute in 0..=15 {
        if let Some((door, what)) = day.get(minute).and_then(|event| event.split_once(' ')) {
            println!("minute {minute}: {door} {what}");
            doors.pipe(door, what);
        }
        alarms.read().iter().for_each(|(door, text)| println!("minute {minute}: {door} {text}"));
        t.advance(MIN)?;
    }
    Ok(())
}
