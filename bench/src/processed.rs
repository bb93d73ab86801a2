//! Waiting for a program.

use std::time::Duration;

use millstream_core::{Result, State, Streams};

/// Waits until so many records are processed, and returns how many are.
pub(crate) fn processed(streams: &mut Streams, records: u64) -> Result<u64> {
    loop {
        let processed = streams.counters().process;
        if processed >= records {
            return Ok(processed);
        }
        if streams.state() == State::Error {
            streams.join()?;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
