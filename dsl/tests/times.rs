//! Which times a record may have. One near the end of 64 bits overflowed in whatever reckoned with it: the program panicked in a
//! debug build, and in a release build windows began before they were there.

use std::time::Duration;

use millstream_core::{ExceptionHandler, LATEST_TIME, Record, Result, RuntimeConfig};
use millstream_dsl::{
    BufferConfig, Consumed, JoinWindows, KStream, Out, Processor, SessionWindows, SlidingWindows, StreamsBuilder,
    TestOutput, TimeWindows, TopologyTestDriver, Windowed, event_time,
};

/// The longest duration that is taken.
const LONGEST: Duration = Duration::from_millis(i64::MAX as u64 / 8);

fn skip() -> RuntimeConfig {
    RuntimeConfig { undecodable: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") }
}

/// Every operator that reckons with time.
fn everything(input: &KStream<String, i64>, other: &KStream<String, i64>) {
    let grouped = input.group_by_key();
    let tumbling = grouped.windowed_by(TimeWindows::of(LONGEST).grace(LONGEST));
    let sliding = grouped.windowed_by(SlidingWindows::of(LONGEST).grace(LONGEST));
    let sessions = grouped.windowed_by(SessionWindows::of(LONGEST).grace(LONGEST));
    tumbling.count("tumbling").to_stream().to("tumbling");
    sliding.count("sliding").to_stream().to("sliding");
    sessions.count("sessions").to_stream().to("sessions");
    tumbling.count("counts").suppress_until_closed("closed", BufferConfig::unbounded());
    tumbling.emit_on_close().count("tumbling-final");
    sliding.emit_on_close().count("sliding-final");
    sessions.emit_on_close().count("sessions-final");
    input.to_table("rows").suppress_for("waiting", LONGEST, BufferConfig::unbounded());
    let windows = JoinWindows::of(LONGEST).grace(LONGEST);
    input.join("inner", other, windows, |a, b| a + b);
    input.outer_join("outer", other, windows.exact(), |_, _| 0);
}

fn counts_of(out: &TestOutput<Windowed<String>, Option<i64>>) -> Vec<(i64, Option<i64>)> {
    out.read().into_iter().map(|(key, n)| (key.window.start, n)).collect()
}

#[test]
fn a_time_that_is_too_late_to_reckon_with_is_left_to_the_deserialization_handler() -> Result<()> {
    let run = |config: RuntimeConfig| -> Result<_> {
        let b = StreamsBuilder::new();
        everything(&b.stream("in"), &b.stream("other"));
        let t = TopologyTestDriver::with_config(b.build()?, config)?;
        let (input, other) = (t.input::<String, i64>("in")?, t.input::<String, i64>("other")?);
        for time in [i64::MAX, i64::MAX - 1, LATEST_TIME + 1] {
            input.try_pipe(Record::new("a".into(), 1, time))?;
            other.try_pipe(Record::new("a".into(), 1, time))?;
        }
        for time in [0, LATEST_TIME - 1, LATEST_TIME] {
            input.pipe_at(time, "a", 1);
            other.pipe_at(time, "a", 1);
        }
        Ok((counts_of(&t.output("sessions")?), counts_of(&t.output("tumbling")?).len(), t.counters().dropped_records))
    };
    let error = run(RuntimeConfig::embedded("test")).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("the record has the time 9223372036854775807, and the latest is"), "{error}");
    assert!(error.contains("help:") && error.contains("`in`") || error.contains("in-0"), "{error}");
    let (sessions, tumbling, dropped) = run(skip())?;
    let last = LATEST_TIME - 1;
    assert_eq!(sessions, [(0, Some(1)), (last, Some(1)), (last, None), (last, Some(2))]);
    assert_eq!((tumbling, dropped), (3, 6));
    Ok(())
}

#[test]
fn so_is_what_an_extractor_says() -> Result<()> {
    let b = StreamsBuilder::new();
    let consumed = Consumed::of::<String, i64>().timestamps(event_time(|_: &String, n: &i64| *n));
    b.stream_with("in", consumed).to("out");
    let t = TopologyTestDriver::with_config(b.build()?, skip())?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<String, i64>("out")?);
    [i64::MAX, LATEST_TIME + 1, -1, LATEST_TIME, 5].into_iter().for_each(|n| input.pipe("a", n));
    let times: Vec<i64> = out.read_records().into_iter().map(|record| record.timestamp).collect();
    assert_eq!((times, t.counters().dropped_records), (vec![LATEST_TIME, 5], 3));
    Ok(())
}

/// Gives every record its value as its time.
struct At;

impl Processor for At {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        out.forward(Record { timestamp: record.value, ..record })
    }
}

#[test]
fn a_processor_cannot_forward_what_no_source_takes() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream("in").process("at", |_| At).group_by_key().windowed_by(TimeWindows::of(LONGEST)).count("n");
    for (time, wanted) in
        [(i64::MAX, "the time 9223372036854775807"), (LATEST_TIME + 1, "the time"), (-1, "the time -1")]
    {
        let t = TopologyTestDriver::new(b.build()?)?;
        let input = t.input::<String, i64>("in")?;
        input.try_pipe(Record::new("a".into(), LATEST_TIME, 0))?;
        let error = input.try_pipe(Record::new("a".into(), time, 0)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(wanted) && error.contains("help:"), "{error}");
    }
    Ok(())
}

/// A join and a suppression behind it that had its name went by one time: that of the join let windows go that were open still.
#[test]
fn operators_of_one_name_have_times_of_their_own() -> Result<()> {
    let passed_on = |suppression: &str| -> Result<Vec<(i64, Option<i64>)>> {
        let b = StreamsBuilder::new();
        let (left, right) = (b.stream::<String, i64>("left"), b.stream::<String, i64>("right"));
        let second = Duration::from_secs(1);
        let paid = left.join("paid", &right, JoinWindows::of(second).grace(10 * second), |l, r| l + r);
        let counts = paid.group_by_key().windowed_by(TimeWindows::of(second)).count("c");
        counts.suppress_until_closed(suppression, BufferConfig::unbounded()).to_stream().to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (left, right) = (t.input::<String, i64>("left")?, t.input::<String, i64>("right")?);
        right.pipe_at(100, "k", 1);
        [0, 10, 20, 30].into_iter().for_each(|time| left.pipe_at(time, "k", 1));
        left.pipe_at(5_000, "other", 1);
        left.pipe_at(40, "k", 1);
        right.pipe_at(5_000, "other", 1);
        Ok(counts_of(&t.output("out")?))
    };
    assert_eq!(passed_on("final")?, [(0, Some(5))]);
    assert_eq!(passed_on("paid")?, [(0, Some(5))]);
    Ok(())
}
