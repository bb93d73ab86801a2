//! What exactly once costs: throughput with a transaction every 100 ms as a part of throughput at least once.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Log, ProcessingGuarantee, Result, RuntimeConfig, Streams, SystemClock, Text};
use millstream_dsl::StreamsBuilder;

use crate::cpu::ProcessMeter;
use crate::log::{Input, PARTITIONS, create};
use crate::processed::processed;
use crate::table::Row;

const KEYS: u64 = 100_000;
const ROUNDS: usize = 5;

/// Counts all input: CPU and wall time per record in nanoseconds.
fn count(input: &Input, id: &str, guarantee: ProcessingGuarantee, interval: Duration) -> Result<(f64, f64)> {
    let out = format!("out-{id}");
    create(&input.log, &out)?;
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic(&out, PARTITIONS);
    b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to(&out);
    let config = RuntimeConfig { guarantee, commit_interval: interval, ..RuntimeConfig::embedded(id) };
    let clock = Arc::new(SystemClock::default());
    let mut streams = Streams::new(b.build()?, config, Arc::new(input.log.clone()) as Arc<dyn Log>, clock)?;
    let meter = ProcessMeter::start();
    streams.start()?;
    processed(&mut streams, input.records)?;
    streams.close()?;
    let (cpu, wall) = meter.stop();
    let per_record = |time: Duration| time.as_nanos() as f64 / input.records as f64;
    Ok((per_record(cpu), per_record(wall)))
}

/// Rounds of all kinds, one after the other, so that what else the machine does meets all of them; the median of each counts.
pub(crate) fn cost(records: u64) -> Result<Vec<Row>> {
    let input = Input::new(records, KEYS)?;
    let (once, often) = (ProcessingGuarantee::ExactlyOnceV2, ProcessingGuarantee::AtLeastOnce);
    let kinds = [(once, 100), (often, 100), (often, 10_000)];
    let mut seen: [Vec<(f64, f64)>; 3] = Default::default();
    for round in 0..ROUNDS {
        for (kind, (guarantee, ms)) in kinds.into_iter().enumerate() {
            let id = format!("cost-{kind}-{round}");
            seen[kind].push(count(&input, &id, guarantee, Duration::from_millis(ms))?);
        }
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let [exactly, same, seldom] = seen.map(|kind| {
        (median(kind.iter().map(|(cpu, _)| *cpu).collect()), median(kind.iter().map(|(_, wall)| *wall).collect()))
    });
    let row = |name: &str, figure: f64, unit: &'static str, wall: f64, bound| Row {
        name: name.into(),
        keys: KEYS,
        records,
        figure,
        unit: unit.into(),
        wall,
        bound,
    };
    let percent = |of: (f64, f64)| (exactly.0 / of.0 - 1.0) * 100.0;
    let goal = Some((10.0, false));
    Ok(vec![
        row("count, exactly once 100 ms", exactly.0, "ns CPU/record", exactly.1, None),
        row("count, at least once 100 ms", same.0, "ns CPU/record", same.1, None),
        row("count, at least once 10 s", seldom.0, "ns CPU/record", seldom.1, None),
        row("exactly once over at least once, 100 ms both", percent(same), "% more CPU", 0.0, goal),
        row("exactly once 100 ms over at least once 10 s", percent(seldom), "% more CPU", 0.0, goal),
    ])
}
