//! Rules of docs/semantics.md that no trace of Kafka Streams shows: what is refused, what is named how, and where we differ.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{
    Encoded, ExceptionHandler, Half, Headers, MemoryLog, OffsetReset, Plan, Record, Result, RuntimeConfig, Serde,
    SerdeContext, StringSerde, TopicSpec,
};
use millstream_dsl::{
    BufferConfig, Clock, Consumed, HOUR, Joined, KTable, MIN, Out, Processor, Repartitioned, SessionWindows,
    SlidingWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, Window, Windowed, WindowedSerde, event_time, kv,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The topics that a program would create.
fn topics(b: &StreamsBuilder) -> Result<BTreeMap<String, TopicSpec>> {
    let plan = Plan::new(&b.build()?, &RuntimeConfig::embedded("app"), &*MemoryLog::new())?;
    Ok(plan.create.into_iter().map(|topic| (topic.name.clone(), topic)).collect())
}

/// Why a program is refused.
fn problem(b: &StreamsBuilder) -> String {
    topics(b).err().map(|error| error.to_string()).unwrap_or_default()
}

/// Starts, ends and values of windows.
fn windows(t: &TopologyTestDriver, topic: &str) -> Result<Vec<(i64, i64, Option<i64>)>> {
    let rows = t.output::<Windowed<String>, Option<i64>>(topic)?.read().into_iter();
    Ok(rows.map(|(key, value)| (key.window.start, key.window.end, value)).collect())
}

/// Rule 5.
#[test]
fn an_empty_input_holds_a_task_up_for_as_long_as_it_is_told_to() -> Result<()> {
    let b = StreamsBuilder::new();
    let rows = b.table::<String, i64>("rows", "rows");
    b.stream::<String, i64>("in").join_table("sums", &rows, |n, row| n + row).to("out");
    let config = RuntimeConfig { max_task_idle: Some(1_000), ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let (rows, input) = (t.input::<String, i64>("rows")?, t.input::<String, i64>("in")?);
    let out = t.output::<String, i64>("out")?;
    rows.enqueue(Record::new("a".into(), 1, 0))?;
    input.pipe_at(1, "a", 10);
    input.pipe_at(2, "a", 20);
    assert_eq!(out.read(), [], "the row could still change");
    t.advance(ms(1_000))?;
    assert_eq!((out.read(), t.counters().enforced_processing > 0), (vec![kv("a", 11), kv("a", 21)], true));
    Ok(())
}

/// Rule 6: the default time of a record is the log's, which must not be negative.
#[test]
fn a_negative_time_is_left_to_the_deserialization_handler() -> Result<()> {
    let run = |undecodable| -> Result<(Vec<i64>, u64)> {
        let b = StreamsBuilder::new();
        b.stream::<String, i64>("in").to("out");
        let config = RuntimeConfig { undecodable, ..RuntimeConfig::embedded("test") };
        let t = TopologyTestDriver::with_config(b.build()?, config)?;
        let input = t.input::<String, i64>("in")?;
        input.try_pipe(Record::new("a".into(), 1, -1))?;
        input.pipe_at(0, "a", 2);
        let out = t.output::<String, i64>("out")?.read().into_iter().map(|(_, n)| n).collect();
        Ok((out, t.counters().dropped_records))
    };
    let error = run(ExceptionHandler::Fail).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("the record has the negative time -1"), "{error}");
    assert_eq!(run(ExceptionHandler::Skip)?, (vec![2], 1));
    Ok(())
}

struct Pass;

impl Processor for Pass {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        out.forward(record)
    }
}

/// Rules 8 and 9.
#[test]
fn a_processor_repartitions_nothing_and_names_are_those_that_were_given() -> Result<()> {
    let b = StreamsBuilder::new();
    let rekeyed = b.stream::<String, i64>("in").select_key(|key, _| key.clone());
    rekeyed.process("pass", |_| Pass).to("out");
    assert_eq!(topics(&b)?.into_keys().collect::<Vec<_>>(), ["in", "out"]);
    rekeyed.group_by_key().count("counts");
    rekeyed.group_by("by-key", |key, _| key.clone()).count("others");
    rekeyed.to_table("rows");
    let made: Vec<String> = topics(&b)?.into_keys().filter(|name| name.starts_with("app-")).collect();
    let names = ["by-key-repartition", "counts-changelog", "counts-repartition", "others-changelog"];
    let wanted: Vec<String> =
        names.iter().chain(&["rows-changelog", "rows-repartition"]).map(|n| format!("app-{n}")).collect();
    assert_eq!(made, wanted);
    Ok(())
}

/// Rule 11.
#[test]
fn internal_topics_keep_what_their_stores_need() -> Result<()> {
    let b = StreamsBuilder::new();
    let (left, right) = (b.stream::<String, i64>("left"), b.stream::<String, i64>("right"));
    let grouped = left.group_by_key();
    grouped.count("rows");
    grouped.windowed_by(TimeWindows::of(MIN).grace(MIN)).count("windows");
    grouped.windowed_by(SessionWindows::of(MIN)).count("sessions");
    right.to_versioned_table("versions", HOUR);
    left.left_join("joined", &right, millstream_dsl::JoinWindows::of(MIN), |l, _| *l).repartition("passed").to("out");
    let topics = topics(&b)?;
    let config = |topic: &str| -> String {
        let configs = topics[&format!("app-{topic}")].configs.iter();
        configs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    let a_day_after = |what: u64| what + 86_400_000;
    assert_eq!(config("rows-changelog"), "cleanup.policy=compact");
    let kept = a_day_after(120_000);
    assert_eq!(config("windows-changelog"), format!("cleanup.policy=compact,delete retention.ms={}", kept));
    // One gap and a millisecond more than gap and grace: see rule 41.
    let kept = a_day_after(120_001);
    assert_eq!(config("sessions-changelog"), format!("cleanup.policy=compact,delete retention.ms={}", kept));
    let kept = a_day_after(3_600_000);
    assert_eq!(config("versions-changelog"), format!("cleanup.policy=compact min.compaction.lag.ms={}", kept));
    let kept = a_day_after(120_000);
    assert_eq!(config("joined-left-changelog"), format!("cleanup.policy=delete retention.ms={}", kept));
    assert_eq!(config("joined-held-changelog"), "cleanup.policy=compact");
    assert_eq!(config("passed-repartition"), "cleanup.policy=delete retention.ms=-1 segment.bytes=52428800");
    Ok(())
}

/// Rules 12 and 13.
#[test]
fn a_repartition_topic_is_as_large_as_the_largest_source_or_as_what_it_is_joined_with() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("three", 3).topic("five", 5).topic("four", 4);
    let (three, five) = (b.stream::<String, i64>("three"), b.stream::<String, i64>("five"));
    let both = three.merge(&five).repartition("first").select_key(|key, _| key.clone());
    both.group_by_key().count("counted");
    let rows = b.table::<String, i64>("four", "rows");
    both.join_table("joined", &rows, |n, row| n + row).to("out");
    let found = topics(&b)?;
    let partitions = |topic: &str| found[&format!("app-{topic}-repartition")].partitions;
    assert_eq!((partitions("first"), partitions("counted"), partitions("joined")), (5, 5, 4));
    three
        .repartition(Repartitioned::named("fixed").number_of_partitions(2))
        .join_table("misfit", &rows, |n, row| n + row)
        .to("other");
    let text = problem(&b);
    assert!(text.contains("join `misfit`") && text.contains("`app-fixed-repartition` 2"), "{text}");
    Ok(())
}

/// Rule 12: what comes back over a repartition topic is as large as what goes out over another one, which is as large as what
/// comes back.
#[test]
fn a_repartition_topic_that_depends_on_itself_must_be_given_a_size() -> Result<()> {
    let there_and_back = |fixed: Option<i32>| {
        let b = StreamsBuilder::new();
        b.topic("in", 3);
        let all = b.stream::<String, i64>("in");
        let there =
            all.repartition(fixed.map_or("there".into(), |n| Repartitioned::named("there").number_of_partitions(n)));
        let back = there.select_key(|key, _| key.clone()).repartition("back");
        all.merge(&back).to("out");
        b
    };
    let text = problem(&there_and_back(None));
    for part in [
        "`app-there-repartition` cannot be found: it depends on itself",
        ".repartition(Repartitioned::named(name).number_of_partitions(n))",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(topics(&there_and_back(Some(2)))?["app-back-repartition"].partitions, 2);
    Ok(())
}

/// Rule 15: Kafka Streams, too, takes two streams for one if their topics are the same, and refuses the rest; but it does so
/// whatever their types are.
#[test]
fn a_topic_is_read_by_one_source() -> Result<()> {
    let with = |second: fn(&StreamsBuilder)| {
        let b = StreamsBuilder::new();
        b.stream::<String, i64>(["a", "b"]).to("out");
        second(&b);
        b
    };
    let shared = with(|b| b.stream::<String, i64>(["b", "a"]).map_values(|n| n + 1).to("other")).build()?;
    assert_eq!(shared.sources().len(), 1);
    let t = TopologyTestDriver::new(shared)?;
    t.input::<String, i64>("b")?.pipe("k", 5);
    let read = |topic| t.output::<String, i64>(topic).map(|out| out.read());
    assert_eq!((read("out")?, read("other")?), (vec![kv("k", 5)], vec![kv("k", 6)]));

    let refused = |second| problem(&with(second));
    let others: [fn(&StreamsBuilder); 3] = [
        |b| b.stream::<String, String>(["a", "b"]).to("other"),
        |b| b.stream_with(["a", "b"], Consumed::of::<String, i64>().reset(OffsetReset::Latest)).to("other"),
        |b| b.stream_with(["a", "b"], Consumed::of::<String, i64>().timestamps(event_time(|_, n| *n))).to("other"),
    ];
    for second in others {
        let text = refused(second);
        assert!(text.contains("topic `a` is read by two sources") && text.contains("use the stream twice"), "{text}");
    }
    let text = refused(|b| b.stream::<String, i64>("b").to("other"));
    assert!(text.contains("topic `b` is in two sources with different topics"), "{text}");
    let text = refused(|b| drop(b.table::<String, i64>("b", "rows")));
    assert!(text.contains("topic `b` is in two sources with different topics"), "{text}");
    Ok(())
}

/// Rule 16.
#[test]
fn branches_without_names_have_numbers() {
    let b = StreamsBuilder::new();
    let split = b.stream::<String, i64>("in").split("s-");
    let branches = split.branch("x", |_, n| *n > 9).branch("", |_, n| *n > 5).default_branch("");
    assert_eq!(branches.into_keys().collect::<Vec<_>>(), ["s-0", "s-2", "s-x"]);
}

/// Rules 28 and 32.
#[test]
fn a_history_is_not_suppressed_and_a_grace_needs_one() {
    let b = StreamsBuilder::new();
    let versioned = b.versioned_table::<String, i64>("versions", "versions", HOUR);
    versioned.suppress_for("calm", MIN, BufferConfig::unbounded());
    let rows = b.table::<String, i64>("rows", "rows");
    b.stream::<String, i64>("in").join_table(Joined::named("joined").grace(MIN), &rows, |n, row| n + row).to("out");
    let text = problem(&b);
    assert!(text.contains("`calm` suppresses changes of a versioned table"), "{text}");
    assert!(text.contains("join `joined` has a grace, and its table no history"), "{text}");
}

/// Rule 29.
#[test]
fn a_deletion_of_what_was_never_there_is_passed_on() -> Result<()> {
    let b = StreamsBuilder::new();
    b.table::<String, i64>("in", "rows").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, Option<i64>>("in")?.pipe("a", None);
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), [kv("a", None)]);
    Ok(())
}

/// Rule 35: Kafka Streams calls the reducer with a null. Here the type has none, so the window stays as it is, and is passed
/// on again; a session grows by the record.
#[test]
fn a_null_in_a_window_is_reduced_to_what_was_there() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, Option<i64>>("in").group_by_key();
    grouped.windowed_by(TimeWindows::of(MIN)).reduce("time", |a, b| a + b).to_stream().to("time");
    grouped.windowed_by(SessionWindows::of(MIN)).reduce("session", |a, b| a + b).to_stream().to("session");
    grouped.windowed_by(SlidingWindows::of(MIN)).reduce("sliding", |a, b| a + b).to_stream().to("sliding");
    let sum = |_: &String, n: i64, sum: &mut i64| *sum += n;
    let cogroup = grouped.cogroup(sum).windowed_by(TimeWindows::of(MIN));
    cogroup.aggregate("cogroup", || 0).to_stream().to("cogroup");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, Option<i64>>("in")?;
    input.pipe_at(60_000, "a", 7);
    input.pipe_at(60_001, "a", None);
    assert_eq!(windows(&t, "time")?, [(60_000, 120_000, Some(7)), (60_000, 120_000, Some(7))]);
    let sessions = [(60_000, 60_000, Some(7)), (60_000, 60_000, None), (60_000, 60_001, Some(7))];
    assert_eq!(windows(&t, "session")?, sessions);
    assert_eq!(windows(&t, "sliding")?, [(0, 60_000, Some(7))]);
    assert_eq!(windows(&t, "cogroup")?, [(60_000, 120_000, Some(7))]);
    // By the sliding windows and by the cogroup.
    assert_eq!(t.counters().dropped_records, 2);
    Ok(())
}

/// Rules 41 to 43: Kafka Streams' stores in memory forget the sessions, and its stores on disk may forget any window, before
/// they have been emitted.
#[test]
fn a_jump_of_many_retentions_loses_no_window() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, i64>("in").group_by_key();
    grouped.windowed_by(TimeWindows::of(ms(10))).emit_on_close().count("time").to_stream().to("time");
    grouped.windowed_by(SessionWindows::of(ms(10))).emit_on_close().count("session").to_stream().to("session");
    grouped.windowed_by(SlidingWindows::of(ms(10))).emit_on_close().count("sliding").to_stream().to("sliding");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    input.pipe_at(20, "a", 1);
    input.pipe_at(1_000_000, "b", 1);
    assert_eq!(windows(&t, "time")?, [(20, 30, Some(1))]);
    assert_eq!(windows(&t, "session")?, [(20, 20, Some(1))]);
    assert_eq!(windows(&t, "sliding")?, [(10, 20, Some(1))]);
    Ok(())
}

/// Rule 44.
#[test]
fn a_retention_that_is_too_short_is_refused() {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, i64>("in").group_by_key();
    grouped.windowed_by(TimeWindows::of(ms(10)).grace(ms(5))).retention(ms(14)).count("time");
    grouped.windowed_by(SlidingWindows::of(ms(10)).grace(ms(5))).retention(ms(24)).count("sliding");
    grouped.windowed_by(SessionWindows::of(ms(10)).grace(ms(5))).retention(ms(14)).count("session");
    let text = problem(&b);
    for (store, least) in [("time", 15), ("sliding", 25), ("session", 15)] {
        assert!(text.contains(&format!("`{store}` keeps")) && text.contains(&format!("at least {least} ms")), "{text}");
    }
    grouped.windowed_by(TimeWindows::of(ms(10)).grace(ms(5))).retention(ms(15)).count("enough");
    assert!(!problem(&b).contains("`enough`"));
}

/// Rule 46: a table that was never windowed has no such method.
#[test]
fn only_results_of_windows_wait_until_they_close() {
    let b = StreamsBuilder::new();
    let rows: KTable<Windowed<String>, i64> = b.table("in", "rows");
    rows.suppress_until_closed("final", BufferConfig::unbounded());
    let counts = b.stream::<String, i64>("other").group_by_key().windowed_by(TimeWindows::of(MIN)).count("counts");
    counts.suppress_until_closed("early", BufferConfig::max_records(9).emit_early_when_full());
    let text = problem(&b);
    assert!(text.contains("`final` waits for windows to close, and the table is not of windows"), "{text}");
    assert!(text.contains("`early` waits for windows to close, and may emit them early"), "{text}");
}

/// Rule 46: the grace is looked for up the graph, as Kafka Streams does, over all that windows pass on the way.
#[test]
fn windows_close_by_the_largest_grace_above() -> Result<()> {
    let b = StreamsBuilder::new();
    let counted = |topic: &str, grace: u64| {
        let windows = TimeWindows::of(ms(10)).grace(ms(grace));
        let counts =
            b.stream::<String, i64>(topic).group_by_key().windowed_by(windows).count(&format!("{topic}-counts"));
        counts.to_stream().flat_map_values(|n| n)
    };
    let [left, right] = [counted("left", 5), counted("right", 20)];
    let final_rows = |rows: &KTable<Windowed<String>, i64>, name: &str| {
        rows.suppress_until_closed(name, BufferConfig::unbounded()).to_stream().to(name);
    };
    let again = left.filter(|_, n| *n > 0).map_values(|n| n * 10).to_table("again");
    final_rows(&again.filter(|_, n| *n > 0), "one");
    final_rows(&left.select_key(|w, _| w.clone()).merge(&right).to_table("both"), "merged");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("left")?;
    let mut closed = Vec::new();
    for time in [0, 9, 14, 15, 29, 30] {
        input.pipe_at(time, "a", 1);
        closed.push((windows(&t, "one")?, windows(&t, "merged")?));
    }
    let wanted = [
        (vec![], vec![]),
        (vec![], vec![]),
        (vec![], vec![]),
        (vec![(0, 10, Some(20))], vec![]),
        (vec![(10, 20, Some(20))], vec![]),
        (vec![], vec![(0, 10, Some(2))]),
    ];
    assert_eq!(closed, wanted);
    Ok(())
}

/// Rule 46: what has a way up without windows has no grace, as in Kafka Streams; what a program says of its keys is none.
#[test]
fn windows_that_nothing_above_has_made_do_not_close() {
    let b = StreamsBuilder::new();
    let waits = |rows: &KTable<Windowed<String>, i64>, name: &str| {
        rows.suppress_until_closed(name, BufferConfig::unbounded());
    };
    let window = Window { start: 0, end: 10 };
    let input = b.stream::<String, i64>("in");
    let own = input.select_key(move |key, _| Windowed { key: key.clone(), window });
    waits(&own.to_table("own"), "by-hand");
    let counts = input.group_by_key().windowed_by(TimeWindows::of(MIN)).count("counts");
    let counts = counts.to_stream().flat_map_values(|n| n);
    waits(&counts.merge(&b.stream("windows")).to_table("both"), "merged");
    waits(&counts.merge(&counts.filter(|_, n| *n > 1)).to_table("twice"), "all-windows");
    let text = problem(&b);
    for (name, topic) in [("by-hand", "in"), ("merged", "windows")] {
        let wanted = format!(
            "`{name}` waits for windows to close, and the table is not of windows that close: on the way up to `{topic}` nothing aggregates in \
             them\n  help: suppress what comes of windowed aggregations alone"
        );
        assert!(text.contains(&wanted), "{text}");
    }
    assert!(!text.contains("`all-windows`"), "{text}");
}

/// Rules 48 and 49.
#[test]
fn a_suppression_without_a_limit_passes_on_and_a_strict_one_fails_when_it_is_full() -> Result<()> {
    let b = StreamsBuilder::new();
    let at_once = b.table::<String, i64>("in", "rows").suppress_for("at-once", ms(0), BufferConfig::unbounded());
    at_once.to_stream().to("out");
    b.table::<String, i64>("many", "many").suppress_for("few", MIN, BufferConfig::max_records(1));
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    [(5, 1), (3, 2)].into_iter().for_each(|(time, n)| input.pipe_at(time, "a", n));
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), [kv("a", 1), kv("a", 2)]);
    let many = t.input::<String, i64>("many")?;
    many.pipe("a", 1);
    many.pipe("a", 2);
    let error = many.try_pipe(Record::new("b".into(), 1, 0)).err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(
        error,
        "suppression `few` is full in task 1_0 at many-0@2: 2 rows wait, 1 may\n  help: raise the bound of its BufferConfig, or say \
         .emit_early_when_full(); no exception handler is asked about it"
    );

    // The bound on rows was named, which nobody had set.
    let b = StreamsBuilder::new();
    b.table::<String, i64>("in", "rows").suppress_for("short", MIN, BufferConfig::max_bytes(10));
    let t = TopologyTestDriver::new(b.build()?)?;
    let full = t.input::<String, i64>("in")?.try_pipe(Record::new("a".into(), 1, 0));
    let error = full.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.starts_with("suppression `short` is full in task 0_0 at in-0@0: "), "{error}");
    assert!(error.contains(" bytes wait, 10 may\n"), "{error}");
    Ok(())
}

/// Rule 50.
#[test]
fn who_looks_into_a_suppressed_table_sees_what_it_has_passed_on() -> Result<()> {
    let b = StreamsBuilder::new();
    let calm = b.table::<String, i64>("rows", "rows").suppress_for("calm", MIN, BufferConfig::unbounded());
    b.stream::<String, i64>("in").left_join_table("seen", &calm, |_, row| row.copied()).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (rows, input) = (t.input::<String, i64>("rows")?, t.input::<String, i64>("in")?);
    for (time, n) in [(0, 1), (59_999, 2), (60_000, 3), (60_001, 4)] {
        rows.pipe_at(time, "a", n);
        input.pipe_at(time, "a", 0);
    }
    // The third change ends the first wait and is passed on itself; the fourth waits.
    let seen = [None, None, Some(3), Some(3)];
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), seen.map(|row| kv("a", row)));
    Ok(())
}

/// Rule 56.
#[test]
fn an_answer_for_a_row_that_has_changed_since_is_dropped_and_counted() -> Result<()> {
    let b = StreamsBuilder::new();
    let (left, right) = (b.table::<String, String>("left", "left"), b.table::<String, String>("right", "right"));
    let joined = left.join_on("joined", &right, |row| Some(row[..1].to_owned()), |row, of| format!("{row}+{of}"));
    joined.to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("right")?.pipe_at(0, "x", "X");
    let left = t.input::<String, String>("left")?;
    // Both are stored before the first one's answer is back.
    left.enqueue(Record::new("p".into(), "x1".into(), 1))?;
    left.enqueue(Record::new("p".into(), "x2".into(), 2))?;
    t.run()?;
    assert_eq!(t.output::<String, Option<String>>("out")?.read(), [kv("p", Some("x2+X".to_owned()))]);
    assert_eq!(t.counters().dropped_records, 1);
    Ok(())
}

/// Says when it is called, and whether there is a record then.
struct Tick;

impl Processor for Tick {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, _: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        assert!(out.source().is_some());
        Ok(())
    }
}

/// Rules 59 and 60: in Kafka Streams a timer of stream time fires anew with the first record after a restart.
#[test]
fn what_is_due_is_known_after_a_restart_and_a_timer_has_no_record() -> Result<()> {
    let b = StreamsBuilder::new();
    let ticks = b.stream::<String, i64>("in").process("tick", |setup| {
        setup.every(ms(10), Clock::Stream, |_, now, out| {
            assert!(out.source().is_none());
            out.forward(Record::new("tick".to_owned(), now, now))
        });
        Tick
    });
    ticks.to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    for time in [3, 9, 10, 47, 48] {
        input.pipe_at(time, "a", 0);
        t.restart()?;
    }
    input.pipe_at(50, "a", 0);
    let times: Vec<i64> = t.output::<String, i64>("out")?.read().into_iter().map(|(_, time)| time).collect();
    assert_eq!(times, [3, 10, 47, 50]);
    Ok(())
}

/// Rule 63.
#[test]
fn rows_on_changelogs_have_kafkas_bytes_and_windowed_keys_of_topics_always_those_of_sessions() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, i64>("in").group_by_key();
    grouped.windowed_by(TimeWindows::of(ms(10))).count("time").to_stream().to("out");
    grouped.windowed_by(SessionWindows::of(ms(10))).count("session");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, i64>("in")?.pipe_at(23, "a", 0);
    let first = |topic: &str| -> Result<(Vec<u8>, Vec<u8>)> {
        let record = t.output::<Vec<u8>, Vec<u8>>(topic)?.read_records().swap_remove(0);
        Ok((record.key, record.value))
    };
    let key = |times: &[i64], rest: &[u8]| {
        let times = times.iter().flat_map(|time| time.to_be_bytes());
        b"a".iter().copied().chain(times).chain(rest.iter().copied()).collect::<Vec<u8>>()
    };
    let one = 1_i64.to_be_bytes().to_vec();
    assert_eq!(first("test-time-changelog")?, (key(&[20], &[0; 4]), one.clone()), "start, number");
    assert_eq!(first("test-session-changelog")?, (key(&[23, 23], &[]), one), "end, start");
    let out = t.output::<Windowed<String>, Option<i64>>("out")?.read();
    assert_eq!(out.len(), 1);
    let mut bytes = Vec::new();
    let (serde, mut headers) = (WindowedSerde(StringSerde), Headers::new());
    let cx = SerdeContext { topic: "out", half: Half::Key };
    let encoded = serde.serialize(&out[0].0, cx, &mut headers, &mut bytes).map_err(millstream_core::Error::user)?;
    assert_eq!((encoded, bytes), (Encoded::Bytes, key(&[30, 20], &[])), "end, start");
    Ok(())
}

/// Rules 3 and 42: where every window is passed on once, the inputs of a cogroup go by one time. What the input that is behind
/// has for windows that the other has closed is late, and counted; no window comes twice.
#[test]
fn a_cogroup_on_close_goes_by_one_time() -> Result<()> {
    for retention in [ms(10), ms(100_000)] {
        let b = StreamsBuilder::new();
        let [x, y] = ["x", "y"].map(|topic| b.stream::<String, i64>(topic).group_by_key());
        let sum = x.cogroup(|_, n, sum: &mut i64| *sum += n).cogroup(&y, |_, n, sum| *sum += n);
        let windows_of_ten = sum.windowed_by(TimeWindows::of(ms(10))).retention(retention).emit_on_close();
        windows_of_ten.aggregate("sums", || 0).to_stream().to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (x, y) = (t.input::<String, i64>("x")?, t.input::<String, i64>("y")?);
        [0, 100].into_iter().for_each(|time| x.pipe_at(time, "k", 1));
        [1, 5, 9, 49, 100].into_iter().for_each(|time| y.pipe_at(time, "k", 10));
        x.pipe_at(300, "k", 1);
        y.pipe_at(300, "k", 1);
        assert_eq!(windows(&t, "out")?, [(0, 10, Some(1)), (100, 110, Some(11))], "{retention:?}");
        assert_eq!(t.counters().late_records, 4, "{retention:?}");
    }
    Ok(())
}
