//! What an update costs as a table grows: it waits for memory more often, and for nothing else.

use std::sync::Arc;

use millstream_core::{Log, Result, RuntimeConfig, Streams, SystemClock, Text};
use millstream_dsl::StreamsBuilder;

use super::large_state::{Keys, fill};
use crate::cpu::Meter;
use crate::log::{PARTITIONS, create, open};
use crate::memory::peak_megabytes;
use crate::processed::processed;
use crate::table::Row;

const UPDATES: u64 = 4_000_000;

/// At 10^4 keys, ten times as many, and so on.
pub(crate) fn per_update(most: u64) -> Result<Vec<Row>> {
    let sizes: Vec<u64> = [10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|keys| *keys <= most).collect();
    let mut rows = Vec::new();
    for keys in sizes {
        let (log, _dir) = open()?;
        create(&log, "out")?;
        fill(&log, keys, UPDATES, Keys::Uniform)?;
        let b = StreamsBuilder::new();
        b.topic("in", PARTITIONS).topic("out", PARTITIONS);
        b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to("out");
        let config = RuntimeConfig::embedded("growth");
        let clock = Arc::new(SystemClock::default());
        let mut streams = Streams::new(b.build()?, config, Arc::new(log) as Arc<dyn Log>, clock)?;
        streams.start()?;
        let filled = processed(&mut streams, keys)?;
        let meter = Meter::start();
        let updated = processed(&mut streams, keys + UPDATES)? - filled;
        let (cpu, wall) = meter.stop();
        streams.close()?;
        rows.push(Row {
            name: format!("update of a table of {keys} keys, {:.0} MiB at most", peak_megabytes()),
            keys,
            records: updated,
            figure: cpu / updated as f64,
            unit: "ns CPU/update".into(),
            wall: wall / updated as f64,
            bound: None,
        });
    }
    if let [first, .., last] = rows.as_slice() {
        let exponent = (last.figure / first.figure).ln() / (last.keys as f64 / first.keys as f64).ln();
        rows.push(Row {
            name: "cost against keys, as a power".into(),
            figure: exponent,
            unit: "exponent".into(),
            bound: Some((0.12, false)),
            ..Row::default()
        });
    }
    Ok(rows)
}
