//! Programs over the input topic, run from its start to its end; every run checks its outputs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{
    Admin, Clock, Error, Isolation, Log, ProcessingGuarantee, Result, RuntimeConfig, State, Streams, SystemClock, Text,
    TopicPartition, Topology,
};
use millstream_dsl::{BufferConfig, JoinWindows, SECOND, SessionWindows, StreamsBuilder, TimeWindows};

use crate::cpu::Meter;
use crate::log::{Input, PARTITIONS, create, open, producer, read};
use crate::table::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Filter, map values, filter, map, map values.
    Stateless,
    /// The same five steps in one operator: what a node per operator costs.
    StatelessFused,
    /// Count per key, every update.
    Count,
    /// Count per key and 10 s, every update.
    Tumbling,
    /// Count per key and session of 1 s gap, every update.
    Session,
    /// A row of a table for every record.
    TableJoin,
    /// Count per key and 10 s, once when the window closes.
    TumblingFinal,
    /// Count per key and 10 s every 2 s, once when the window closes.
    HoppingFinal,
    /// Count per key and 10 s, suppressed until the window closes.
    Suppress,
    /// Two streams within half a second of each other: at a million keys ten matches for a hundred records.
    StreamJoin,
}

impl Program {
    pub(crate) const ALL: [Program; 10] = [
        Program::Stateless,
        Program::StatelessFused,
        Program::Count,
        Program::Tumbling,
        Program::Session,
        Program::TableJoin,
        Program::TumblingFinal,
        Program::HoppingFinal,
        Program::Suppress,
        Program::StreamJoin,
    ];

    fn name(self) -> &'static str {
        match self {
            Program::Stateless => "stateless, five operators",
            Program::StatelessFused => "stateless, the five in one operator",
            Program::Count => "count, every update",
            Program::Tumbling => "tumbling count 10 s, every update",
            Program::Session => "session count 1 s gap, every update",
            Program::TableJoin => "stream-table join, a row per key",
            Program::TumblingFinal => "tumbling count 10 s, on close",
            Program::HoppingFinal => "hopping count 10 s by 2 s, on close",
            Program::Suppress => "tumbling count 10 s, suppressed until closed",
            Program::StreamJoin => "stream-stream join, 1 s window",
        }
    }

    /// CPU ns per record, and at how many keys.
    fn goal(self, keys: u64) -> Option<f64> {
        match (self, keys) {
            (Program::Stateless, 100_000) => Some(250.0),
            (Program::Count | Program::Tumbling, 100_000) => Some(300.0),
            (Program::Session, 100_000) => Some(500.0),
            (Program::TableJoin, 1_000_000) => Some(400.0),
            (Program::StreamJoin, 1_000_000) => Some(600.0),
            _ => None,
        }
    }

    /// Whether every record has one result.
    fn emits_every_update(self) -> bool {
        !matches!(self, Program::TumblingFinal | Program::HoppingFinal | Program::Suppress | Program::StreamJoin)
    }

    fn topology(self, out: &str) -> Result<Topology> {
        let b = StreamsBuilder::new();
        b.topic("in", PARTITIONS).topic(out, PARTITIONS);
        let input = b.stream::<Text, Text>("in");
        match self {
            Program::Stateless => input
                .filter(|_, v| v.len() > 10)
                .map_values(|v: Text| v.share(&v[..v.len() - 1]))
                .filter(|k, _| !k.is_empty())
                .map(|k, v| (k, v))
                .map_values(|v: Text| v.share(&v[1..]))
                .to(out),
            Program::StatelessFused => input
                .flat_map(|k, v: Text| {
                    let v = (v.len() > 10).then(|| v.share(&v[..v.len() - 1])).filter(|_| !k.is_empty())?;
                    Some((k, v.share(&v[1..])))
                })
                .to(out),
            Program::Count => input.group_by_key().count("counts").to_stream().to(out),
            Program::Tumbling => {
                input.group_by_key().windowed_by(TimeWindows::of(10 * SECOND)).count("counts").to_stream().to(out);
            }
            Program::Session => {
                input.group_by_key().windowed_by(SessionWindows::of(SECOND)).count("counts").to_stream().to(out);
            }
            Program::TableJoin => {
                let table = b.table::<Text, Text>("table", "rows");
                input
                    .join_table("joined", &table, |l: &Text, r: &Text| if l.len() > 1 { r.clone() } else { l.clone() })
                    .to(out);
            }
            Program::TumblingFinal => {
                let windows = TimeWindows::of(10 * SECOND);
                input.group_by_key().windowed_by(windows).emit_on_close().count("counts").to_stream().to(out);
            }
            Program::HoppingFinal => {
                let windows = TimeWindows::of(10 * SECOND).advance_by(2 * SECOND);
                input.group_by_key().windowed_by(windows).emit_on_close().count("counts").to_stream().to(out);
            }
            Program::Suppress => {
                let counts = input.group_by_key().windowed_by(TimeWindows::of(10 * SECOND)).count("counts");
                counts.suppress_until_closed("closed", BufferConfig::unbounded()).to_stream().to(out);
            }
            Program::StreamJoin => {
                let windows = JoinWindows::of(Duration::from_millis(500));
                let right = b.topic("right", PARTITIONS).stream::<Text, Text>("right");
                let larger = |l: &Text, r: &Text| if l.len() > r.len() { l.clone() } else { r.clone() };
                input.join("joined", &right, windows, larger).to(out);
            }
        }
        b.build()
    }
}

/// Runs a program over all input.
pub(crate) fn run(input: &Input, program: Program, threads: usize) -> Result<Row> {
    let id = format!("{program:?}-{threads}-{}", Instant::now().elapsed().as_nanos() + cheap_unique());
    let out = format!("out-{id}");
    create(&input.log, &out)?;
    let config = RuntimeConfig { threads, ..RuntimeConfig::embedded(&id) };
    let clock = Arc::new(SystemClock::default());
    let mut streams =
        Streams::new(program.topology(&out)?, config, Arc::new(input.log.clone()) as Arc<dyn Log>, clock)?;
    let total = input.records
        + match program {
            Program::TableJoin => input.keys,
            Program::StreamJoin => input.records,
            _ => 0,
        };
    let meter = Meter::start();
    streams.start()?;
    while streams.counters().process < total {
        if streams.state() == State::Error {
            streams.join()?;
        }
        // Each look is counted too.
        std::thread::sleep(Duration::from_millis(2));
    }
    let (cpu, wall) = meter.stop();
    streams.close()?;
    check(input, program, &out)?;
    Ok(Row {
        name: program.name().into(),
        keys: input.keys,
        records: total,
        figure: cpu / total as f64,
        unit: "ns CPU/record".into(),
        wall: wall / total as f64,
        bound: program.goal(input.keys).filter(|_| threads == 1).map(|ns| (ns, false)),
    })
}

fn cheap_unique() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) * 1_000_000
}

/// Every input record has its output, and the last counts add up to all of them. Programs that emit less often are only
/// checked to emit at all: their results are what the tests are for.
fn check(input: &Input, program: Program, out: &str) -> Result<()> {
    let (mut records, mut last) = (0u64, std::collections::HashMap::<Vec<u8>, i64>::new());
    read(&input.log, out, |key, value| {
        records += 1;
        if program == Program::Count
            && let Ok(n) = value.try_into()
        {
            last.insert(key.to_vec(), i64::from_be_bytes(n));
        }
    })?;
    let sum: i64 = last.values().sum();
    if !program.emits_every_update() {
        let wrong = || Error::user(format!("{program:?}: no output"));
        return if records > 0 { Ok(()) } else { Err(wrong()) };
    }
    if records != input.records || (program == Program::Count && sum as u64 != input.records) {
        return Err(Error::user(format!(
            "{program:?}: {records} outputs, last counts {sum}, of {} inputs",
            input.records
        )));
    }
    Ok(())
}

/// From nothing to the first result: log, topics, threads, one record through a count.
pub(crate) fn cold_start() -> Result<Row> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let (log, _dir) = open()?;
        let clock = Arc::new(SystemClock::default());
        let mut streams = Streams::new(
            Program::Count.topology("out")?,
            RuntimeConfig::embedded("cold"),
            Arc::new(log.clone()) as Arc<dyn Log>,
            clock,
        )?;
        streams.start()?;
        let mut batch = millstream_core::BatchBuilder::new();
        batch.push(0, Some(b"key"), Some(b"value"), &[]);
        producer(&log)?.send(&TopicPartition::new("in", 0), batch)?;
        while (0..PARTITIONS)
            .all(|p| log.end_offset(&TopicPartition::new("out", p), Isolation::ReadCommitted).unwrap_or(0) == 0)
        {
            std::thread::sleep(Duration::from_micros(100));
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        streams.close()?;
    }
    times.sort_by(f64::total_cmp);
    Ok(Row {
        name: "cold start to first result, exactly once".into(),
        figure: times[2],
        unit: "ms".into(),
        bound: Some((300.0, false)),
        ..Row::default()
    })
}

/// CPU of a program that waits.
pub(crate) fn idle() -> Result<Row> {
    let (log, _dir) = open()?;
    let config = RuntimeConfig { guarantee: ProcessingGuarantee::ExactlyOnceV2, ..RuntimeConfig::embedded("idle") };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut streams = Streams::new(Program::Count.topology("out")?, config, Arc::new(log) as Arc<dyn Log>, clock)?;
    streams.start()?;
    std::thread::sleep(Duration::from_millis(300));
    let meter = Meter::start();
    std::thread::sleep(Duration::from_secs(3));
    let (cpu, wall) = meter.stop();
    streams.close()?;
    Ok(Row {
        name: "idle program".into(),
        figure: cpu / wall * 100.0,
        unit: "% of a core".into(),
        bound: Some((1.0, false)),
        ..Row::default()
    })
}
