//! A record on which the program panics is left out, where the processing handler says `continue`, as if it had never been
//! there: nothing that it had done before the panic stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::{ExceptionHandler, HandlerResponse, Record, Result, RuntimeConfig, Topology};
use millstream_dsl::{
    BufferConfig, Clock, Consumed, JoinWindows, KStream, KeyValueStore, MIN, Out, Processor, SECOND, SessionWindows,
    StreamsBuilder, TimeWindows, TopologyTestDriver, event_time, kv,
};

/// Counts every record, passes it on, and then panics on 13: the panic comes after a change of state and an output.
fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let numbers = b.stream::<String, i64>("in");
    numbers.group_by_key().count("counts").to_stream().to("counts");
    numbers.map_values(|n| if n == 13 { panic!("unlucky {n}") } else { 10 * n }).to("out");
    b.build()
}

fn driver(handler: ExceptionHandler) -> Result<TopologyTestDriver> {
    TopologyTestDriver::with_config(
        program()?,
        RuntimeConfig { processing: handler, ..RuntimeConfig::embedded("test") },
    )
}

fn enqueue(t: &TopologyTestDriver, numbers: &[i64]) -> Result<()> {
    let input = t.input::<String, i64>("in")?;
    numbers.iter().try_for_each(|n| input.enqueue(Record::new("a".to_owned(), *n, *n)))
}

#[test]
fn what_it_had_done_does_not_stay() -> Result<()> {
    for fail in [None, Some(2)] {
        let t = driver(ExceptionHandler::Skip)?;
        t.fail_commits(fail);
        let (out, counts) = (t.output::<String, i64>("out")?, t.output::<String, Option<i64>>("counts")?);
        // All of them in one unit of work.
        enqueue(&t, &[1, 13, 2, 13, 13, 3])?;
        t.run()?;
        assert_eq!(out.read(), [kv("a", 10), kv("a", 20), kv("a", 30)]);
        assert_eq!(counts.read(), [kv("a", 1), kv("a", 2), kv("a", 3)]);
        enqueue(&t, &[4, 13])?;
        t.run()?;
        t.restart()?;
        enqueue(&t, &[5])?;
        t.run()?;
        assert_eq!(out.read(), [kv("a", 40), kv("a", 50)]);
        assert_eq!(counts.read(), [kv("a", 4), kv("a", 5)]);
    }
    Ok(())
}

#[test]
fn it_is_counted_and_becomes_a_dead_letter() -> Result<()> {
    let t = driver(ExceptionHandler::DeadLetter("letters".into()))?;
    let letters = t.output::<String, i64>("letters")?;
    enqueue(&t, &[1, 13, 2])?;
    t.run()?;
    let letter = letters.read_records().remove(0);
    assert_eq!((letter.key.as_str(), letter.value, letter.timestamp), ("a", 13, 13));
    let header = |name: &str| letter.headers.last(&format!("__streams.errors.{name}")).map(<[u8]>::to_vec);
    assert_eq!(header("message"), Some(b"unlucky 13".to_vec()));
    assert_eq!(header("offset"), Some(b"1".to_vec()));
    assert_eq!(letters.read(), []);
    let counters = t.counters();
    assert_eq!((counters.process, counters.dropped_records, counters.dead_letter), (3, 1, 1));
    Ok(())
}

#[test]
fn by_default_it_fails() -> Result<()> {
    let t = driver(ExceptionHandler::Fail)?;
    enqueue(&t, &[1, 13])?;
    let error = t.run().map_err(|error| error.to_string()).expect_err("a panic");
    assert!(error.contains("at in-0@1 panicked: unlucky 13") && error.contains("continue"), "{error}");
    Ok(())
}

#[test]
fn it_does_not_move_time() -> Result<()> {
    let b = StreamsBuilder::new();
    let clicks = b.stream_with("in", Consumed::of::<String, i64>());
    let windows = TimeWindows::of(Duration::from_millis(10));
    clicks
        .group_by_key()
        .windowed_by(windows)
        .emit_on_close()
        .count("counts")
        .to_stream()
        .map(|w, n| (w.key, n))
        .to("out");
    clicks.foreach(|_, n| assert_ne!(*n, 13));
    let config = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<String, Option<i64>>("out")?);
    [(0, 1), (1_000, 13), (5, 1)].into_iter().for_each(|(time, n)| input.pipe_at(time, "a", n));
    assert_eq!(out.read(), []);
    input.pipe_at(10, "a", 1);
    assert_eq!(out.read(), [kv("a", 2)]);
    Ok(())
}

/// Two sources of one task, so that heads are compared; both have their time from a function that panics on 13.
fn timed(processing: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    let time = |n: &i64| if *n == 13 { panic!("unlucky time {n}") } else { *n };
    let consumed = || Consumed::of::<String, i64>().timestamps(event_time(move |_, n| time(n)));
    let numbers = b.stream_with("in", consumed()).merge(&b.stream_with("more", consumed()));
    numbers.group_by_key().count("counts").to_stream().to("counts");
    numbers.to("out");
    TopologyTestDriver::with_config(b.build()?, RuntimeConfig { processing, ..RuntimeConfig::embedded("test") })
}

/// The function is called when a record is looked at, before its turn: the panic named no record, or the one before it, was
/// never left out, and held the partition up for good.
#[test]
fn in_event_time_it_is_left_out_too() -> Result<()> {
    for fail in [None, Some(2), Some(3)] {
        let t = timed(ExceptionHandler::DeadLetter("letters".into()))?;
        t.fail_commits(fail);
        let (out, counts) = (t.output::<String, i64>("out")?, t.output::<String, Option<i64>>("counts")?);
        enqueue(&t, &[13, 1, 13, 2, 4, 13, 13, 6])?;
        let more = t.input::<String, i64>("more")?;
        [3, 13, 5].iter().try_for_each(|n| more.enqueue(Record::new("b".to_owned(), *n, *n)))?;
        t.run()?;
        let wanted = [kv("a", 1), kv("a", 2), kv("b", 3), kv("a", 4), kv("b", 5), kv("a", 6)];
        assert_eq!(out.read(), wanted);
        let wanted = [kv("a", 1), kv("a", 2), kv("b", 1), kv("a", 3), kv("b", 2), kv("a", 4)];
        assert_eq!(counts.read(), wanted.map(|(key, n)| (key, Some(n))));
        let letters = t.output::<String, i64>("letters")?.read_records();
        let offsets = letters.iter().map(|l| {
            let header = |name: &str| l.headers.last(&format!("__streams.errors.{name}")).map(String::from_utf8_lossy);
            [header("topic"), header("offset")].map(|text| text.map(|t| t.into_owned()).unwrap_or_default()).join("@")
        });
        let mut offsets: Vec<String> = offsets.collect();
        offsets.sort_unstable();
        assert_eq!(offsets, ["in@0", "in@2", "in@5", "in@6", "more@1"]);
    }
    Ok(())
}

#[test]
fn in_event_time_it_names_its_record() -> Result<()> {
    let t = timed(ExceptionHandler::Fail)?;
    t.input::<String, i64>("more")?.enqueue(Record::new("b".to_owned(), 2, 2))?;
    enqueue(&t, &[1, 2, 13])?;
    let error = t.run().map_err(|error| error.to_string()).expect_err("a panic");
    assert!(error.contains("task 0_0 at in-0@2 panicked: unlucky time 13"), "{error}");
    Ok(())
}

struct Bell;

impl Processor for Bell {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        out.forward(record)
    }
}

/// A timer belongs to no record: `continue` does not help there, and was recommended.
#[test]
fn in_a_timer_it_fails_and_does_not_recommend_to_leave_records_out() -> Result<()> {
    let b = StreamsBuilder::new();
    let bells = b.stream::<String, i64>("in").process("bell", |setup| {
        setup.every(Duration::from_millis(10), Clock::Stream, |_, _, _| panic!("ding"));
        Bell
    });
    bells.to("out");
    let config = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let rung = t.input::<String, i64>("in")?.try_pipe(Record::new("a".into(), 1, 100));
    let error = rung.map_err(|error| error.to_string()).expect_err("a panic");
    let help = "help: where data can cause it, return an error instead: of a panic in a timer, at a commit, or on what has \
                waited (a window that closes, a suppressed row) no handler is asked, in a global store only with \
                processing.exception.handler.global.enabled";
    assert_eq!(error, format!("task 0_0 panicked: ding\n  {help}"));
    Ok(())
}

/// Each panic undid what was done behind the ones before it: of 200 records the handler was asked 5,050 times about 100.
#[test]
fn many_panics_are_asked_about_once_each() -> Result<()> {
    for fail in [None, Some(3)] {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        let t = driver(ExceptionHandler::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            HandlerResponse::Continue
        }))?;
        t.fail_commits(fail);
        let numbers: Vec<i64> = (0..200).map(|n| if n % 2 == 0 { 13 } else { 1_000 + n }).collect();
        enqueue(&t, &numbers)?;
        t.run()?;
        let wanted: Vec<_> = (0..100).map(|n| kv("a", 10 * (1_001 + 2 * n))).collect();
        assert_eq!(t.output::<String, i64>("out")?.read(), wanted);
        let (asked, dropped) = (asked.load(Ordering::Relaxed), t.counters().dropped_records);
        assert_eq!(asked, dropped);
        if fail.is_none() {
            assert_eq!(asked, 100);
        } else {
            assert!(asked < 300, "{asked} times");
        }
    }
    Ok(())
}

/// The records that let a row go were left out, one after the other, for a panic on that row.
#[test]
fn a_panic_on_what_has_waited_leaves_out_no_other_record() -> Result<()> {
    type Program = fn(&StreamsBuilder, KStream<String, i64>) -> KStream<String, i64>;
    let programs: [(&str, Program); 5] = [
        ("on close", |_, s| {
            let counts = s.group_by_key().windowed_by(TimeWindows::of(MIN)).emit_on_close().count("counts");
            counts.to_stream().map(|k, n| (k.key, n.unwrap_or_default()))
        }),
        ("sessions on close", |_, s| {
            let counts = s.group_by_key().windowed_by(SessionWindows::of(SECOND)).emit_on_close().count("counts");
            counts.to_stream().map(|k, n| (k.key, n.unwrap_or_default()))
        }),
        ("suppressed", |_, s| {
            let counts = s.group_by_key().windowed_by(TimeWindows::of(MIN)).count("counts");
            let closed = counts.suppress_until_closed("closed", BufferConfig::unbounded());
            closed.to_stream().map(|k, n| (k.key, n.unwrap_or_default()))
        }),
        ("without a partner", |b, s| {
            let windows = JoinWindows::of(SECOND);
            s.left_join("joined", &b.stream::<String, i64>("other"), windows, |l, _| *l)
        }),
        ("held back", |_, s| {
            let counts = s.group_by_key().count("counts").emit_on_commit();
            counts.to_stream().map(|k, n| (k, n.unwrap_or_default()))
        }),
    ];
    for (what, program) in programs {
        let b = StreamsBuilder::new();
        let rows = program(&b, b.stream("in"));
        rows.filter(|k, _| if k == "bad" { panic!("no {k}") } else { true }).to("out");
        b.topic("letters", 1);
        let processing = ExceptionHandler::DeadLetter("letters".into());
        let config = RuntimeConfig { processing, ..RuntimeConfig::embedded("test") };
        let t = TopologyTestDriver::with_config(b.build()?, config)?;
        let input = t.input::<String, i64>("in")?;
        let mut errors = Vec::new();
        for (minute, key) in (0..).zip(["good", "bad", "good", "good"]) {
            let piped = input.try_pipe(Record::new(key.into(), minute, minute * 60_000));
            errors.extend(piped.err().map(|error| error.to_string()));
        }
        let wanted = "task 0_0 panicked: no bad\n  help: where data can cause it, return an error instead: of a panic in a timer, at \
                      a commit, or on what has waited";
        assert!(errors.first().is_some_and(|error| error.starts_with(wanted)), "{what}: {errors:?}");
        assert_eq!(t.output::<String, i64>("letters")?.read(), [], "{what}");
        assert_eq!(t.counters().dropped_records, 0, "{what}");
    }
    Ok(())
}

/// What can panic of what is global: the time of a table's records, and the function of a store.
fn global(config: RuntimeConfig) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    let time = |n: &Option<i64>| n.inspect(|n| assert!(*n != 13, "unlucky time {n}")).unwrap_or(0);
    let timed = Consumed::of::<String, i64>().timestamps(event_time(move |_, n| time(n)));
    let rows = b.global_table_with("rows", "rows", timed);
    let sums = b.global_store::<String, i64, String, i64, _>("numbers", "sums", |sums| {
        move |r| {
            let (key, n) = (r.key.unwrap_or_default(), r.value.unwrap_or_default());
            let sum = n + sums.get(&key)?.unwrap_or(0);
            assert!(n != 13, "unlucky number {n}");
            sums.put(&key, Some(sum)).map(drop)
        }
    });
    let asked = b.stream::<String, i64>("asked");
    asked.join_global(&rows, |k, _| Some(k.clone()), |n, row| n + row).to("out");
    asked.process("sum", move |s| Sum { sums: s.store(sums) }).to("sums");
    TopologyTestDriver::with_config(b.build()?, config)
}

struct Sum {
    sums: KeyValueStore<String, i64>,
}

impl Processor for Sum {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        let sum = self.sums.get(&record.key)?.unwrap_or(0);
        out.forward(record.with_value(sum))
    }
}

/// It ended every thread at every start, whatever the handlers said.
#[test]
fn in_what_is_global_it_is_left_out_if_the_handler_is_asked() -> Result<()> {
    for processing in [ExceptionHandler::Skip, ExceptionHandler::DeadLetter("letters".into())] {
        let config = RuntimeConfig { processing, processing_global: true, ..RuntimeConfig::embedded("test") };
        let t = global(config)?;
        let [rows, numbers, asked] = ["rows", "numbers", "asked"].map(|topic| t.input::<String, i64>(topic));
        let (rows, numbers, asked) = (rows?, numbers?, asked?);
        for n in [13, 1, 13, 13, 2, 13] {
            rows.enqueue(Record::new("a".to_owned(), n, 0))?;
            numbers.enqueue(Record::new("a".to_owned(), n, 0))?;
        }
        for _ in 0..2 {
            asked.pipe("a", 100);
            assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 102)]);
            assert_eq!(t.output::<String, i64>("sums")?.read(), [kv("a", 3)]);
            assert_eq!(t.counters().dropped_records, 8);
            t.restart()?;
        }
    }
    Ok(())
}

#[test]
fn in_what_is_global_it_names_its_record_and_what_leaves_it_out() -> Result<()> {
    for topic in ["rows", "numbers"] {
        let t = global(RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") })?;
        let input = t.input::<String, i64>(topic)?;
        input.pipe("a", 1);
        let failed = input.try_pipe(Record::new("a".into(), 13, 0)).and_then(|()| t.run());
        let error = failed.map_err(|error| error.to_string()).expect_err("a panic");
        assert!(error.contains(&format!("at {topic}-0@1 panicked: unlucky ")), "{error}");
        assert!(error.contains("processing.exception.handler.global.enabled"), "{error}");
    }
    Ok(())
}
