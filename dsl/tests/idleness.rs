//! A source that has declared idleness and is silent does not hold time up: windows, suppressions, joins and timers go on
//! with the wall clock. Without it they wait for the next record, as in Kafka Streams (KIP-424).

use std::time::Duration;

use millstream_core::{Record, Result, RuntimeConfig};
use millstream_dsl::{
    BufferConfig, Clock, Consumed, JoinWindows, KStream, Out, Processor, SessionWindows, SlidingWindows,
    StreamsBuilder, TestOutput, TimeWindows, TopologyTestDriver, Windowed, kv,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A source whose time goes on after 50 ms.
fn idle(b: &StreamsBuilder, topic: &str) -> KStream<String, i64> {
    b.stream_with(topic, Consumed::of::<String, i64>().idleness(ms(50)))
}

type Counts = TestOutput<Windowed<String>, Option<i64>>;

/// Key, start, end, count.
fn counts(out: &Counts) -> Vec<(String, i64, i64, Option<i64>)> {
    let row = |(key, n): (Windowed<String>, Option<i64>)| (key.key, key.window.start, key.window.end, n);
    out.read().into_iter().map(row).collect()
}

#[test]
fn windows_close_at_the_pace_of_the_wall_clock() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = TimeWindows::of(ms(100)).grace(ms(20));
    idle(&b, "in").group_by_key().windowed_by(windows).emit_on_close().count("counts").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output("out")?);
    t.advance(ms(1_000_000))?;
    input.pipe_at(30, "a", 1);
    t.advance(ms(49))?;
    input.pipe_at(30, "a", 1);
    // 30 and 89 ms since the last record: one short of the end and grace.
    t.advance(ms(89))?;
    assert_eq!(counts(&out), []);
    t.advance(ms(1))?;
    assert_eq!(counts(&out), [("a".into(), 0, 100, Some(2))]);
    t.advance(ms(1_000_000))?;
    assert_eq!(counts(&out), []);
    Ok(())
}

#[test]
fn a_record_is_late_after_an_idle_close_and_a_timely_one_is_not() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = idle(&b, "in").group_by_key().windowed_by(TimeWindows::of(ms(100)));
    grouped.on_late(|late| late.to("late")).emit_on_close().count("counts").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output("out")?);
    let late = t.output::<Windowed<String>, i64>("late")?;
    input.pipe_at(30, "a", 1);
    t.advance(ms(70))?;
    assert_eq!(counts(&out), [("a".into(), 0, 100, Some(1))]);
    input.pipe_at(99, "a", 2);
    input.pipe_at(100, "a", 3);
    let late: Vec<_> = late.read().into_iter().map(|(key, n)| (key.window.start, n)).collect();
    assert_eq!(late, [(0, 2)]);
    assert_eq!(t.counters().late_records, 1);
    t.advance(ms(100))?;
    assert_eq!(counts(&out), [("a".into(), 100, 200, Some(1))]);
    Ok(())
}

#[test]
fn nothing_goes_on_before_the_idleness_or_without_it() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = TimeWindows::of(ms(10));
    idle(&b, "in").group_by_key().windowed_by(windows).emit_on_close().count("counts").to_stream().to("out");
    let waits = b.stream::<String, i64>("other").group_by_key().windowed_by(windows).emit_on_close();
    waits.count("others").to_stream().to("out2");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output("out")?);
    let (other, out2) = (t.input::<String, i64>("other")?, t.output("out2")?);
    input.pipe_at(0, "a", 1);
    other.pipe_at(0, "a", 1);
    t.advance(ms(49))?;
    assert_eq!(counts(&out), []);
    t.advance(ms(1))?;
    assert_eq!(counts(&out), [("a".into(), 0, 10, Some(1))]);
    t.advance(ms(1_000_000))?;
    assert_eq!(counts(&out2), []);
    Ok(())
}

#[test]
fn sessions_sliding_windows_and_suppressed_windows_close() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = idle(&b, "in").group_by_key();
    grouped.windowed_by(SessionWindows::of(ms(100))).emit_on_close().count("visits").to_stream().to("sessions");
    grouped.windowed_by(SlidingWindows::of(ms(100))).emit_on_close().count("around").to_stream().to("sliding");
    let updates = grouped.windowed_by(TimeWindows::of(ms(100))).count("counts");
    updates.suppress_until_closed("final", BufferConfig::unbounded()).to_stream().to("final");
    let visits = grouped.windowed_by(SessionWindows::of(ms(100))).count("visits-2");
    visits.suppress_until_closed("final-2", BufferConfig::unbounded()).to_stream().to("final-2");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    let outs = ["sessions", "sliding", "final", "final-2"].map(|topic| t.output(topic));
    let [sessions, sliding, finals, finals_2] = outs.map(|out| out.expect("an output"));
    input.pipe_at(250, "a", 1);
    t.advance(ms(50))?;
    assert_eq!(counts(&finals), [("a".into(), 200, 300, Some(1))]);
    // A late one after the final result stays without effect.
    input.pipe_at(299, "a", 1);
    t.advance(ms(1))?;
    assert_eq!(counts(&finals), []);
    assert_eq!(counts(&sliding), [("a".into(), 150, 250, Some(1))]);
    t.advance(ms(1_000))?;
    assert_eq!(counts(&sessions), [("a".into(), 250, 299, Some(2))]);
    assert_eq!(counts(&finals_2), [("a".into(), 250, 299, Some(2))]);
    Ok(())
}

#[test]
fn an_unmatched_record_of_a_left_join_leaves() -> Result<()> {
    let b = StreamsBuilder::new();
    let (left, right) = (idle(&b, "left"), b.stream::<String, i64>("right"));
    let windows = JoinWindows::of(ms(100));
    left.left_join("join", &right, windows, |l, r| l + r.copied().unwrap_or(1_000)).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (left, right) = (t.input::<String, i64>("left")?, t.input::<String, i64>("right")?);
    let out = t.output::<String, i64>("out")?;
    left.pipe_at(10, "a", 1);
    left.pipe_at(20, "b", 2);
    t.advance(ms(90))?;
    assert_eq!(out.read(), []);
    t.advance(ms(1))?;
    assert_eq!(out.read(), [kv("a", 1_001)]);
    right.pipe_at(100, "b", 20);
    t.advance(ms(1_000_000))?;
    assert_eq!(out.read(), [kv("b", 22)]);
    Ok(())
}

/// Says the stream time every 100 ms of it.
struct Tick;

impl Processor for Tick {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;
    fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn timers_by_stream_time_fire() -> Result<()> {
    let b = StreamsBuilder::new();
    let tick = |s: &mut millstream_dsl::Setup<'_, Tick>| {
        s.every(ms(100), Clock::Stream, |_, now, out| {
            out.forward(Record::new("tick".to_owned(), out.stream_time(), now))
        });
        Tick
    };
    idle(&b, "in").process("tick", tick).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<String, i64>("out")?);
    input.pipe_at(30, "a", 1);
    assert_eq!(out.read(), [kv("tick", 30)]);
    t.advance(ms(70))?;
    t.advance(ms(230))?;
    assert_eq!(out.read(), [kv("tick", 100), kv("tick", 330)]);
    Ok(())
}

/// Counts per minute, rekeyed: the windows are behind a repartition topic.
fn rekeyed() -> Result<millstream_core::Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 2);
    let parity = idle(&b, "in").group_by("by-parity", |_, n| n % 2);
    let counts = parity.windowed_by(TimeWindows::of(ms(100))).emit_on_close().count("counts");
    // And behind a second one.
    let total = counts.to_stream().group_by("all", |_, _| 0i64).windowed_by(TimeWindows::of(ms(1_000)));
    total.emit_on_close().count("total").to_stream().map(|w, n| (w.window.start, n)).to("totals");
    b.build()
}

#[test]
fn it_reaches_windows_behind_repartition_topics() -> Result<()> {
    let t = TopologyTestDriver::new(rekeyed()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<i64, Option<i64>>("totals")?);
    for n in 0..4 {
        input.pipe_at(10 * n, format!("key {n}"), n);
    }
    t.advance(ms(100))?; // both parities leave their windows, with the times 20 and 30
    assert_eq!(out.read(), []);
    t.advance(ms(969))?;
    assert_eq!(out.read(), []);
    t.advance(ms(1))?;
    assert_eq!(out.read(), [kv(0, 2)]);
    Ok(())
}

#[test]
fn a_rollback_and_a_restart_do_not_take_it_back() -> Result<()> {
    for (fail, restart) in [(Some(2), false), (None, true), (Some(3), true)] {
        let t = TopologyTestDriver::new(rekeyed()?)?;
        let (input, out) = (t.input::<String, i64>("in")?, t.output::<i64, Option<i64>>("totals")?);
        t.fail_commits(fail);
        let again = || if restart { t.restart() } else { Ok(()) };
        for n in 0..4 {
            input.pipe_at(10 * n, format!("key {n}"), n);
            again()?;
        }
        for step in [60, 40, 500, 469] {
            t.advance(ms(step))?;
            again()?;
        }
        assert_eq!(out.read(), []);
        t.advance(ms(1))?;
        assert_eq!(out.read(), [kv(0, 2)]);
        again()?;
        // Late, and known to be so also after a restart.
        input.pipe_at(0, "key", 1);
        t.advance(ms(10_000))?;
        assert_eq!(out.read(), []);
    }
    Ok(())
}

#[test]
fn a_source_without_idleness_beside_it_keeps_its_own_time() -> Result<()> {
    let b = StreamsBuilder::new();
    let (quiet, busy) = (idle(&b, "quiet"), b.stream::<String, i64>("busy"));
    let windows = TimeWindows::of(ms(100));
    busy.group_by_key().windowed_by(windows).emit_on_close().count("counts").to_stream().to("out");
    // One task for both.
    quiet.join("join", &busy, JoinWindows::of(ms(10)), |l, r| l + r).to("joined");
    quiet.group_by_key().windowed_by(windows).emit_on_close().count("quiet-counts").to_stream().to("quiet-out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (quiet, busy) = (t.input::<String, i64>("quiet")?, t.input::<String, i64>("busy")?);
    let (out, quiet_out) = (t.output("out")?, t.output("quiet-out")?);
    quiet.pipe_at(50, "a", 1);
    busy.pipe_at(0, "a", 1);
    t.advance(ms(10_000))?;
    assert_eq!(counts(&quiet_out), [("a".into(), 0, 100, Some(1))]);
    busy.pipe_at(1, "a", 1);
    assert_eq!(t.counters().late_records, 0);
    busy.pipe_at(100, "a", 1);
    assert_eq!(counts(&out), [("a".into(), 0, 100, Some(2))]);
    Ok(())
}

/// Orders with their customers' names: what waits for time is behind a foreign-key join, whose two halves write to each other.
fn foreign(customers_are_idle: bool) -> Result<millstream_core::Topology> {
    let b = StreamsBuilder::new();
    b.topic("orders", 2);
    b.topic("customers", 3);
    let idle = Consumed::of::<i64, String>().idleness(ms(50));
    let customers = if customers_are_idle { idle } else { Consumed::of::<i64, String>() };
    let customers = b.table_with("customers", "customers", customers);
    let orders = b.table_with("orders", "orders", Consumed::of::<String, i64>().idleness(ms(50)));
    let names = orders.join_on("names", &customers, |customer| Some(*customer), |_, name| name.clone());
    names.suppress_for("held", ms(100), BufferConfig::unbounded()).to_stream().to("held");
    let windows = names.to_stream().group_by_key().windowed_by(TimeWindows::of(ms(100)));
    windows.emit_on_close().count("counts").to_stream().to("out");
    let by_name = names.to_stream().flat_map(|order, name| name.map(|name| (name, order))).group_by_key();
    by_name.windowed_by(TimeWindows::of(ms(1_000))).emit_on_close().count("by-name").to_stream().to("by-name");
    b.build()
}

#[test]
fn it_reaches_what_waits_behind_a_foreign_key_join() -> Result<()> {
    for (fail, restart) in [(None, false), (Some(2), false), (Some(3), true)] {
        let t = TopologyTestDriver::new(foreign(true)?)?;
        let (orders, customers) = (t.input::<String, i64>("orders")?, t.input::<i64, String>("customers")?);
        let (out, by_name) = (t.output("out")?, t.output("by-name")?);
        let held = t.output::<String, Option<String>>("held")?;
        t.fail_commits(fail);
        let again = || if restart { t.restart() } else { Ok(()) };
        customers.pipe_at(0, 1, "ann");
        orders.pipe_at(10, "hat", 1);
        again()?;
        t.advance(ms(89))?;
        assert_eq!((counts(&out), held.read()), (vec![], vec![]));
        t.advance(ms(1))?;
        again()?;
        assert_eq!((counts(&out), held.read()), (vec![("hat".into(), 0, 100, Some(1))], vec![]));
        t.advance(ms(10))?;
        assert_eq!(held.read(), [kv("hat", Some("ann".to_owned()))]);
        // A change of the other side comes the same way.
        customers.pipe_at(130, 1, "tom");
        t.advance(ms(70))?;
        again()?;
        assert_eq!(counts(&out), [("hat".into(), 100, 200, Some(1))]);
        t.advance(ms(799))?;
        assert_eq!(counts(&by_name), []);
        // Each in a partition of its own, which has seen its own times.
        t.advance(ms(1))?;
        assert_eq!(counts(&by_name), [("tom".into(), 0, 1_000, Some(1))]);
        t.advance(ms(20))?;
        assert_eq!(counts(&by_name), [("ann".into(), 0, 1_000, Some(1))]);
    }
    Ok(())
}

#[test]
fn a_foreign_key_join_waits_for_a_side_without_idleness() -> Result<()> {
    let t = TopologyTestDriver::new(foreign(false)?)?;
    t.input::<i64, String>("customers")?.pipe_at(0, 1, "ann");
    t.input::<String, i64>("orders")?.pipe_at(10, "hat", 1);
    t.advance(ms(1_000_000))?;
    assert_eq!(counts(&t.output("out")?), []);
    Ok(())
}

#[test]
fn what_a_silence_lets_go_of_comes_though_its_commit_fails() -> Result<()> {
    let b = StreamsBuilder::new();
    let (left, right) = (idle(&b, "left"), idle(&b, "right"));
    left.left_join("join", &right, JoinWindows::of(ms(10)), |l, r| l + r.copied().unwrap_or(1_000)).to("out");
    // The commit begins in the step that lets it go.
    let config = RuntimeConfig { uncommitted_bytes: 1, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let (left, out) = (t.input::<String, i64>("left")?, t.output::<String, i64>("out")?);
    t.fail_commits(Some(2));
    left.pipe_at(0, "a", 1);
    t.advance(ms(60))?;
    assert_eq!(out.read(), [kv("a", 1_001)]);
    Ok(())
}
