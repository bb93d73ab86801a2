//! Processors that keep the key have what the others have: timers, children, the record's context, its time and headers.

use std::time::Duration;

use millstream_core::{Headers, Record, Result};
use millstream_dsl::{
    Clock, FixedKeyRecord, KeyValueStore, RecordContext, StreamsBuilder, Timer, TopologyTestDriver, ValueOut,
    ValueProcessor,
};

/// Says where each record came from, keeps the last one, and forwards it again with every tick until it has ticked three times.
struct Observed {
    seen: KeyValueStore<String, i64>,
    last: Option<FixedKeyRecord<String, i64>>,
    ticks: i64,
    timer: Timer,
}

impl ValueProcessor for Observed {
    type K = String;
    type VIn = i64;
    type VOut = String;

    fn process(&mut self, r: FixedKeyRecord<String, i64>, out: &mut ValueOut<'_, String, String>) -> Result<()> {
        let n = self.seen.update(r.key(), |n| *n.insert(n.unwrap_or(0) + 1))?;
        let source =
            out.source().map(|(partition, offset)| format!("{}-{}@{offset}", partition.topic, partition.partition));
        let (stream, wall) = (out.stream_time(), out.wall_time());
        self.last = Some(r.clone());
        out.request_commit();
        let value = format!("{n} {} {stream} {wall}", source.as_deref().unwrap_or("nowhere"));
        let mut told = r.with_value(value);
        told.headers.add("n", Some(b"1"));
        if told.timestamp < 5 { out.forward_to("early", told) } else { out.forward(told) }
    }
}

impl Observed {
    fn tick(&mut self, now: i64, out: &mut ValueOut<'_, String, String>) -> Result<()> {
        self.ticks += 1;
        if self.ticks == 3 {
            self.timer.cancel();
        }
        let from = if out.source().is_some() { "somewhere" } else { "nowhere" };
        let Some(last) = self.last.clone() else { return Ok(()) };
        let value = format!("tick {} {from}", last.value);
        out.forward(last.with_value(value).with_timestamp(now))
    }
}

/// What was forwarded: value and time.
type Told = Vec<(String, i64)>;

/// What goes on, and what goes to the child, if records come at these times.
fn run(start: Option<i64>, clock: Clock, times: &[i64]) -> Result<(Told, Told)> {
    let b = StreamsBuilder::new();
    let seen = b.store::<String, i64>("seen");
    let (main, children) = b.stream("in").process_values_with_children("observed", &["early"], move |s| {
        let interval = Duration::from_millis(10);
        let timer = match start {
            Some(start) => s.every_from(start, interval, clock, Observed::tick),
            None => s.every(interval, clock, Observed::tick),
        };
        Observed { seen: s.store(seen), last: None, ticks: 0, timer }
    });
    main.to("out");
    children.get("early").expect("a child").to("early");
    assert!(children.get("late").is_none());
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, i64>("in")?;
    let mut wall = 0;
    for time in times {
        if clock == Clock::Wall {
            driver.advance(Duration::from_millis((time - wall) as u64))?;
            wall = *time;
        }
        input.pipe_at(*time, "k", *time);
    }
    let mut headers = Headers::new();
    headers.add("n", Some(b"1"));
    let told = |record: Record<String, String>| {
        assert_eq!(record.key, "k");
        assert_eq!(record.headers == headers, !record.value.starts_with("tick"), "{}", record.value);
        (record.value, record.timestamp)
    };
    let read = |topic| Ok::<_, millstream_core::Error>(driver.output::<String, String>(topic)?.read_records());
    Ok((read("out")?.into_iter().map(told).collect(), read("early")?.into_iter().map(told).collect()))
}

fn rows(rows: &[(&str, i64)]) -> Told {
    rows.iter().map(|(value, time)| ((*value).to_owned(), *time)).collect()
}

/// Only its time got to a row: neither the function nor its stores knew where a change came from.
#[test]
fn a_table_s_values_are_transformed_with_the_context_of_the_change() -> Result<()> {
    let b = StreamsBuilder::new();
    b.table::<String, i64>("in", "rows")
        .transform_values_with_context("told", |_| {
            |_: &String, n: Option<i64>, context: &RecordContext<'_>| {
                let by = context.headers.last("by").map(String::from_utf8_lossy).unwrap_or_default();
                let source = context.source.map(|(partition, offset)| format!("{}@{offset}", partition.topic));
                Ok(Some(format!(
                    "{n:?} by {by} at {} from {}",
                    context.timestamp,
                    source.as_deref().unwrap_or("nowhere")
                )))
            }
        })
        .to_stream()
        .to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, Option<i64>>("in")?;
    for (time, n) in [(7, Some(5)), (5, None)] {
        let mut record = Record::new("a".to_owned(), n, time);
        record.headers.add("by", Some(b"ann"));
        input.try_pipe(record)?;
    }
    let told: Vec<_> =
        t.output::<String, Option<String>>("out")?.read().into_iter().filter_map(|(_, told)| told).collect();
    assert_eq!(told, ["Some(5) by ann at 7 from in@0", "None by ann at 5 from in@1"]);
    Ok(())
}

#[test]
fn timers_fire_by_stream_time_and_forward_what_was_kept() -> Result<()> {
    let (out, early) = run(None, Clock::Stream, &[3, 12, 14, 22, 47])?;
    let told = rows(&[
        ("tick 3 nowhere", 3),
        ("2 in-0@1 12 0", 12),
        ("tick 12 nowhere", 12),
        ("3 in-0@2 14 0", 14),
        ("4 in-0@3 22 0", 22),
        ("tick 22 nowhere", 22),
        ("5 in-0@4 47 0", 47),
    ]);
    assert_eq!(out, told, "the third tick was the last");
    // What is forwarded to nobody by name reaches the children too.
    assert_eq!(early[0], ("1 in-0@0 3 0".to_owned(), 3));
    assert_eq!(early[1..], told);
    Ok(())
}

#[test]
fn timers_fire_by_the_wall_clock_from_an_anchor_on() -> Result<()> {
    let (out, _) = run(Some(25), Clock::Wall, &[3, 24, 25, 47])?;
    // The timers of a step of the clock come before the record that is piped after it.
    let told = [
        ("2 in-0@1 24 24", 24),
        ("tick 24 nowhere", 25),
        ("3 in-0@2 25 25", 25),
        ("tick 25 nowhere", 47),
        ("4 in-0@3 47 47", 47),
    ];
    assert_eq!(out, rows(&told));
    Ok(())
}

#[test]
fn what_is_due_is_known_after_a_restart() -> Result<()> {
    let b = StreamsBuilder::new();
    let seen = b.store::<String, i64>("seen");
    b.stream("in")
        .process_values("observed", move |s| {
            let timer = s.every(Duration::from_millis(10), Clock::Stream, |_, now, _| {
                Err(millstream_core::Error::user(format!("tick {now}")))
            });
            Observed { seen: s.store(seen), last: None, ticks: 0, timer }
        })
        .to("out");
    let config = millstream_core::RuntimeConfig {
        processing: millstream_core::ExceptionHandler::Skip,
        ..millstream_core::RuntimeConfig::embedded("app")
    };
    let driver = TopologyTestDriver::with_config(b.build()?, config)?;
    let input = driver.input::<String, i64>("in")?;
    input.pipe_at(12, "k", 1);
    driver.restart()?;
    // Due at 20: 19 is no reason to tick, whatever a new timer would do.
    input.pipe_at(19, "k", 1);
    let before = driver.counters().dropped_records;
    input.pipe_at(20, "k", 1);
    assert_eq!(driver.counters().dropped_records, before + 1, "a tick that fails is the handler's to decide about");
    Ok(())
}

#[test]
fn keys_are_known_to_be_what_they_were() -> Result<()> {
    let b = StreamsBuilder::new();
    let seen = b.store::<String, i64>("seen");
    let observed = move |s: &mut millstream_dsl::ValueSetup<'_, Observed>| Observed {
        seen: s.store(seen),
        last: None,
        ticks: 0,
        timer: s.timer(Duration::from_millis(10), Clock::Stream, Observed::tick),
    };
    let (main, children) = b.stream("in").process_values_with_children("observed", &["early"], observed);
    main.group_by_key().count("all").to_stream().to("out");
    children.get("early").expect("a child").group_by_key().count("early").to_stream().to("out-early");
    assert!(!b.build()?.describe().to_string().contains("repartition"));
    Ok(())
}

#[test]
fn two_processors_do_not_share_their_timers() {
    let b = StreamsBuilder::new();
    let seen = b.store::<String, i64>("seen");
    for topic in ["a", "b"] {
        b.stream(topic)
            .process_values("observed", move |s| {
                let timer = s.every(Duration::from_millis(10), Clock::Stream, Observed::tick);
                Observed { seen: s.store(seen), last: None, ticks: 0, timer }
            })
            .to("out");
    }
    let problem = b.build().map(drop).expect_err("one name").to_string();
    assert!(problem.contains("processor `observed` has the name of another, and timers"), "{problem}");
}
