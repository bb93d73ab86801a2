//! A closure or processor that fails: the handler's choice, an error that says where it was and what to do, and letters
//! that keep the record.

use std::time::Duration;

use millstream_core::{
    Encoded, Error, ExceptionHandler, HandlerResponse, Headers, Payload, Record, Result, RuntimeConfig, Serde,
    SerdeContext, SerdeError, StringSerde,
};
use millstream_dsl::{
    BufferConfig, Clock, FixedKeyRecord, HOUR, JoinWindows, Joined, KStream, KTable, KeyValueStore, Out, Processor,
    Produced, SECOND, SessionWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, ValueOut, ValueProcessor,
    Windowed, kv,
};

type Text = Option<String>;

/// A driver for a program that reads texts from `in`.
fn driver(
    processing: ExceptionHandler,
    program: impl FnOnce(&StreamsBuilder, KStream<String, String>),
) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    program(&b, b.stream::<String, String>("in"));
    TopologyTestDriver::with_config(b.build()?, RuntimeConfig { processing, ..RuntimeConfig::embedded("test") })
}

/// What comes out to `out` when these values come in, all of one key and a second apart, and how many were dropped.
fn skipping<K, V>(
    values: &[&str],
    program: impl FnOnce(&StreamsBuilder, KStream<String, String>),
) -> Result<(Vec<V>, u64)>
where
    K: millstream_core::Data,
    V: millstream_core::Data,
{
    let t = driver(ExceptionHandler::Skip, program)?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<K, V>("out")?);
    for (second, value) in values.iter().enumerate() {
        input.pipe_at(1_000 * second as i64, "k", *value);
    }
    Ok((out.read().into_iter().map(|(_, v)| v).collect(), t.counters().dropped_records))
}

fn number(text: &str) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

/// Fails on `bad`, in words of its own.
fn good<T>(text: &str, result: T) -> Result<T, String> {
    if text == "bad" { Err("it was bad".to_owned()) } else { Ok(result) }
}

#[test]
fn failing_names_operator_task_record_cause_and_remedy_and_nothing_is_committed() -> Result<()> {
    let t = driver(ExceptionHandler::Fail, |_, s| s.try_map_values(|v| number(&v)).to("out"))?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<String, i64>("out")?);
    input.pipe("k", "7");
    let error = input.try_pipe(Record::new("k".into(), "seven".into(), 0)).err();
    assert_eq!(
        error.as_ref().map(ToString::to_string).unwrap_or_default(),
        "KSTREAM-MAPVALUES-0000000001 failed in task 0_0 at in-0@1: invalid digit found in string\n  \
         help: set processing.exception.handler to `continue` to leave such records out, and \
         errors.dead.letter.queue.topic.name to keep them"
    );
    assert!(error.is_some_and(|e| e.is_fatal()));
    assert_eq!((out.read(), t.counters().dropped_records), (vec![kv("k", 7)], 0));
    // It comes again.
    assert!(t.run().is_err());
    Ok(())
}

#[test]
fn every_stateless_operator_has_a_twin_whose_failure_ends_the_records_path() -> Result<()> {
    let values = ["1", "x", "3"];
    let numbers = |program: fn(KStream<String, String>) -> KStream<String, i64>| {
        skipping::<String, i64>(&values, move |_, s| program(s).to("out"))
    };
    assert_eq!(numbers(|s| s.try_map(|k, v| number(&v).map(|n| (k, n))))?, (vec![1, 3], 1));
    assert_eq!(numbers(|s| s.try_map_values(|v| number(&v)))?, (vec![1, 3], 1));
    assert_eq!(numbers(|s| s.try_map_values_with_key(|_, v| number(&v)))?, (vec![1, 3], 1));
    assert_eq!(
        numbers(|s| s.try_flat_map(|k, v| number(&v).map(|n| [(k.clone(), n), (k, n)])))?,
        (vec![1, 1, 3, 3], 1)
    );
    assert_eq!(numbers(|s| s.try_flat_map_values(|v| number(&v).map(|n| vec![n; n as usize])))?, (vec![1, 3, 3, 3], 1));
    let texts = |program: fn(KStream<String, String>) -> KStream<String, String>| {
        skipping::<String, String>(&values, move |_, s| program(s).to("out"))
    };
    assert_eq!(texts(|s| s.try_filter(|_, v| number(v).map(|n| n > 1)))?, (vec!["3".into()], 1));
    assert_eq!(texts(|s| s.try_filter_not(|_, v| number(v).map(|n| n > 1)))?, (vec!["1".into()], 1));
    assert_eq!(texts(|s| s.try_peek(|_, v| number(v).map(drop)))?, (vec!["1".into(), "3".into()], 1));
    assert_eq!(texts(|s| s.try_select_key(|_, v| number(v).map(|_| "key".into())))?, (vec!["1".into(), "3".into()], 1));
    let branch = texts(|s| {
        let small = s.split("").try_branch("large", |_, v| number(v).map(|n| n > 1)).default_branch("small");
        small["small"].clone()
    })?;
    assert_eq!(branch, (vec!["1".into()], 1));
    let dynamic = skipping::<String, String>(&values, |b, s| {
        b.topic("out", 1);
        s.try_to_dynamic(|_, v, _| number(v).map(|_| "out".to_owned()));
    })?;
    assert_eq!(dynamic, (vec!["1".into(), "3".into()], 1));
    Ok(())
}

/// Rule 67: what was done before the failure stays, and so do the siblings, before and after it.
#[test]
fn a_skip_ends_the_path_below_the_node_alone() -> Result<()> {
    let t = driver(ExceptionHandler::Skip, |_, s| {
        let counted = s.group_by_key().count("counts").to_stream();
        counted.to("before");
        counted.try_map_values(|n| good(if n == Some(2) { "bad" } else { "" }, n)).to("out");
        counted.to("after");
    })?;
    let input = t.input::<String, String>("in")?;
    for _ in 0..3 {
        input.pipe("k", "v");
    }
    let read = |topic| -> Result<Vec<i64>> {
        Ok(t.output::<String, Option<i64>>(topic)?.read().into_iter().filter_map(|(_, n)| n).collect())
    };
    assert_eq!((read("before")?, read("out")?, read("after")?), (vec![1, 2, 3], vec![1, 3], vec![1, 2, 3]));
    assert_eq!(t.counters().dropped_records, 1);
    Ok(())
}

#[test]
fn a_letter_has_the_raw_record_its_own_headers_first_and_six_that_say_why() -> Result<()> {
    let letters = || ExceptionHandler::DeadLetter("letters".into());
    let t = driver(letters(), |_, s| {
        // Neither another key nor another value nor another header of the way down shows in the letter.
        s.map(|k, v| (k + "!", v + "!")).try_map_values(|v| number(&v)).to("out");
    })?;
    let (input, found) = (t.input::<String, String>("in")?, t.output::<Text, Text>("letters")?);
    input.pipe_at(5, "k", "v");
    let mut record = Record::new("key".to_owned(), "value".to_owned(), 7);
    record.headers.add("mine", Some(b"1"));
    record.headers.add("__streams.errors.topic", Some(b"older"));
    input.try_pipe(record)?;
    let found = found.read_records();
    let [_, letter] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((letter.key.as_deref(), letter.value.as_deref(), letter.timestamp), (Some("key"), Some("value"), 7));
    let headers: Vec<(&str, String)> =
        letter.headers.iter().map(|(k, v)| (k, String::from_utf8_lossy(v.unwrap_or(b"null")).into_owned())).collect();
    let wanted = [
        ("mine", "1"),
        ("__streams.errors.topic", "older"),
        ("__streams.errors.exception", "ParseIntError { kind: InvalidDigit }"),
        ("__streams.errors.message", "invalid digit found in string"),
        ("__streams.errors.stacktrace", "at KSTREAM-MAPVALUES-0000000002 (task 0_0)"),
        ("__streams.errors.topic", "in"),
        ("__streams.errors.partition", "0"),
        ("__streams.errors.offset", "1"),
    ];
    assert_eq!(headers, wanted.map(|(k, v)| (k, v.to_owned())));
    assert_eq!((t.counters().dead_letter, t.counters().dropped_records), (2, 2));
    Ok(())
}

/// A letter is part of the commit that skips: a commit that fails takes it back, and it is written once.
#[test]
fn a_letter_is_written_once_however_many_commits_fail() -> Result<()> {
    let t = driver(ExceptionHandler::DeadLetter("letters".into()), |_, s| {
        s.try_map_values(|v| number(&v)).to("out");
    })?;
    t.fail_commits(Some(2));
    let input = t.input::<String, String>("in")?;
    for value in ["a", "1", "b", "2", "c"] {
        input.pipe("k", value);
    }
    let letters = t.output::<String, String>("letters")?.read();
    assert_eq!(letters.into_iter().map(|(_, v)| v).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 1), kv("k", 2)]);
    Ok(())
}

/// A panic on a later record rolls the letter back with all else; that record has a letter of its own.
#[test]
fn a_letter_of_a_record_that_is_rolled_back_is_written_when_it_is_done() -> Result<()> {
    let t = driver(ExceptionHandler::DeadLetter("letters".into()), move |_, s| {
        s.try_map_values(|v| number(&v)).to("out");
        s.foreach(|_, v| assert_ne!(v, "2"));
    })?;
    let input = t.input::<String, String>("in")?;
    for value in ["bad", "2", "3"] {
        input.enqueue(Record::new("k".into(), value.into(), 0))?;
    }
    t.run()?;
    assert_eq!(t.output::<String, String>("letters")?.read(), [kv("k", "bad"), kv("k", "2")]);
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 3)]);
    assert_eq!(t.counters().rollback, 1);
    Ok(())
}

/// Two nodes fail on one record: two letters, as from Kafka Streams.
#[test]
fn every_failure_of_a_record_has_a_letter() -> Result<()> {
    let t = driver(ExceptionHandler::DeadLetter("letters".into()), |_, s| {
        s.try_map_values(|v| number(&v)).to("out");
        s.try_filter(|_, v| good(v, true)).to("texts");
    })?;
    t.input::<String, String>("in")?.pipe("k", "bad");
    let letters = t.output::<String, String>("letters")?.read_records();
    let messages: Vec<_> = letters
        .iter()
        .map(|l: &Record<String, String>| l.headers.last("__streams.errors.message").map(String::from_utf8_lossy))
        .collect();
    assert_eq!(messages, [Some("invalid digit found in string".into()), Some("it was bad".into())]);
    Ok(())
}

/// The letter was that of the record which let the row go: it had not failed, and the one that had was in none.
#[test]
fn the_letter_of_what_has_waited_is_not_that_of_another_record() -> Result<()> {
    type Program = fn(&StreamsBuilder, KStream<String, String>) -> KStream<String, i64>;
    let programs: [(&str, Program); 4] = [
        ("on close", |_, s| {
            let s = s.group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close().reduce("last", |_, v| v);
            s.to_stream().try_map(|k, v| number(&v.unwrap_or_default()).map(|n| (k.key, n)))
        }),
        ("suppressed", |_, s| {
            let s = s.to_table("rows").suppress_for("calm", SECOND, BufferConfig::unbounded()).to_stream();
            s.try_map_values(|v| number(&v.unwrap_or_default()))
        }),
        ("without a partner", |b, s| {
            let windows = JoinWindows::of(Duration::from_millis(10));
            s.try_left_join("joined", &b.stream::<String, String>("other"), windows, |v, _| number(v))
        }),
        ("with grace", |b, s| {
            let table = b.versioned_table::<String, String>("table", "table", HOUR);
            s.try_left_join_table(Joined::named("joined").grace(SECOND), &table, |v: &String, _| number(v))
        }),
    ];
    for (what, program) in programs {
        let t = driver(ExceptionHandler::DeadLetter("letters".into()), |b, s| program(b, s).to("out"))?;
        let (input, letters) = (t.input::<String, String>("in")?, t.output::<Text, Text>("letters")?);
        input.pipe_at(0, "a", "bad");
        assert_eq!(letters.read(), [], "{what}: it waits");
        input.pipe_at(5_000, "b", "2");
        let found = letters.read_records();
        let [letter] = found.as_slice() else { panic!("{what}: {found:?}") };
        assert_eq!((&letter.key, &letter.value), (&None, &None), "{what}");
        let header = |name: &str| letter.headers.last(name).map(|v| String::from_utf8_lossy(v).into_owned());
        assert_eq!(header("__streams.errors.message").as_deref(), Some("invalid digit found in string"), "{what}");
        assert_eq!(header("__streams.errors.offset").as_deref(), Some("-1"), "{what}");
    }
    Ok(())
}

#[test]
fn an_aggregate_that_fails_leaves_the_row_as_it_was() -> Result<()> {
    let values = ["bad", "1", "bad", "3"];
    let wanted = (vec![Some("1".to_owned()), Some("13".to_owned())], 2);
    let program = |fold: fn(KStream<String, String>) -> KStream<String, Text>| {
        skipping::<String, Text>(&values, move |_, s| fold(s).to("out"))
    };
    let found = program(|s| {
        let s = s.group_by_key();
        s.try_aggregate("sum", String::new, |_, v, sum| good(&v, sum + &v)).to_stream()
    })?;
    assert_eq!(found, wanted);
    let found = program(|s| {
        let s = s.group_by_key();
        s.try_aggregate_or_delete("sum", String::new, |_, v, sum| good(&v, Some(sum + &v))).to_stream()
    })?;
    assert_eq!(found, wanted);
    let found = program(|s| {
        let s = s.group_by_key().try_cogroup(|_, v, sum: String| good(&v, Some(sum + &v)));
        s.aggregate("sum", String::new).to_stream()
    })?;
    assert_eq!(found, wanted);
    // The first value is taken as it is.
    let found = skipping::<String, Text>(&["1", "bad", "3"], |_, s| {
        s.group_by_key().try_reduce("sum", |sum, v| good(&v, sum + &v)).to_stream().to("out");
    })?;
    assert_eq!(found, (wanted.0.clone(), 1));
    Ok(())
}

/// One window of an hour, and one session.
#[test]
fn a_windowed_aggregate_that_fails_leaves_the_row_as_it_was() -> Result<()> {
    let hour = Duration::from_secs(3_600);
    let values = ["bad", "1", "bad", "3"];
    let wanted = (vec![Some("1".to_owned()), Some("13".to_owned())], 2);
    let found = skipping::<Windowed<String>, Text>(&values, |_, s| {
        let s = s.group_by_key().windowed_by(TimeWindows::of(hour));
        s.try_aggregate("sum", String::new, |_, v, sum| good(&v, sum + &v)).to_stream().to("out");
    })?;
    assert_eq!(found, wanted);
    let found = skipping::<Windowed<String>, Text>(&values, |_, s| {
        let s = s.group_by_key().windowed_by(SessionWindows::of(hour));
        let merge = |_: &String, a: String, b: String| Ok::<_, String>(a + &b);
        s.try_aggregate("sum", String::new, |_, v, sum| good(&v, sum + &v), merge).to_stream().to("out");
    })?;
    // A session that grows goes and comes.
    assert_eq!(found, (vec![Some("1".to_owned()), None, Some("13".to_owned())], 2));
    Ok(())
}

/// The first value of a window or session is taken as it is.
#[test]
fn a_windowed_reduce_that_fails_leaves_the_row_as_it_was() -> Result<()> {
    let hour = Duration::from_secs(3_600);
    let values = ["1", "bad", "3"];
    let found = skipping::<Windowed<String>, Text>(&values, |_, s| {
        let s = s.try_group_by("g", |k, _| Ok::<_, String>(k.clone())).windowed_by(TimeWindows::of(hour));
        s.try_reduce("sum", |sum, v| good(&v, sum + &v)).to_stream().to("out");
    })?;
    assert_eq!(found, (vec![Some("1".to_owned()), Some("13".to_owned())], 1));
    let found = skipping::<Windowed<String>, Text>(&values, |_, s| {
        let s = s.group_by_key().windowed_by(SessionWindows::of(hour));
        s.try_reduce("sum", |sum, v| good(&v, sum + &v)).to_stream().to("out");
    })?;
    assert_eq!(found, (vec![Some("1".to_owned()), None, Some("13".to_owned())], 1));
    Ok(())
}

/// A record is among those that it meets itself: `1` and `3` meet, whatever became of the one between them.
#[test]
fn a_self_join_keeps_what_failed() -> Result<()> {
    let found = skipping::<String, String>(&["1", "bad", "3"], |_, s| {
        let windows = JoinWindows::of(Duration::from_secs(2));
        s.try_join("j", &s, windows, |l, r| good(if l == r { l } else { "" }, format!("{l}{r}"))).to("out");
    })?;
    let wanted = ["11", "bad1", "1bad", "31", "3bad", "13", "bad3", "33"].map(str::to_owned).to_vec();
    assert_eq!(found, (wanted, 1));
    Ok(())
}

/// Keeps every value, forwards it, then fails on a bad one; its timer fails always.
struct Strict {
    seen: KeyValueStore<String, String>,
}

impl Processor for Strict {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, record: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
        self.seen.put(&record.key, Some(record.value.clone()))?;
        out.forward(record.clone())?;
        good(&record.value, ()).map_err(Error::user)
    }
}

/// A driver for `Strict`, whose output is written to `out`, and as a number to `numbers`.
fn strict(processing: ExceptionHandler) -> Result<TopologyTestDriver> {
    driver(processing, |b, s| {
        let seen = b.store::<String, String>("seen");
        let s = s.process("strict", move |setup| {
            let late = |_: &mut Strict, _, _: &mut Out<'_, String, String>| Err(Error::user("too late"));
            setup.every(Duration::from_secs(60), Clock::Wall, late);
            Strict { seen: setup.store(seen) }
        });
        s.to("out");
        s.try_map_values(|v| number(&v)).to("numbers");
    })
}

#[test]
fn a_processor_fails_by_itself_or_passes_on_what_failed_below_it() -> Result<()> {
    let t = strict(ExceptionHandler::Skip)?;
    let input = t.input::<String, String>("in")?;
    ["1", "bad", "3"].into_iter().for_each(|value| input.pipe("k", value));
    // What was forwarded before the failure stays; two nodes failed on the second record.
    assert_eq!(t.output::<String, String>("out")?.read(), [kv("k", "1"), kv("k", "bad"), kv("k", "3")]);
    assert_eq!(t.output::<String, i64>("numbers")?.read(), [kv("k", 1), kv("k", 3)]);
    assert_eq!(t.counters().dropped_records, 2);
    let seen = t.output::<String, String>("test-seen-changelog")?.read();
    assert_eq!(seen, [kv("k", "1"), kv("k", "bad"), kv("k", "3")]);

    let t = strict(ExceptionHandler::Fail)?;
    let error = t.input::<String, String>("in")?.try_pipe(Record::new("k".into(), "bad".into(), 0)).err();
    let error = error.map(|e| e.to_string()).unwrap_or_default();
    assert!(error.starts_with("KSTREAM-MAPVALUES-0000000003 failed in task 0_0 at in-0@0: invalid digit"), "{error}");
    Ok(())
}

/// Kafka Streams asks the processing handler about punctuations too; there is no source record then.
#[test]
fn a_timer_that_fails_goes_to_the_handler_and_its_letter_has_no_record() -> Result<()> {
    let error = strict(ExceptionHandler::Fail)?.advance(Duration::from_secs(60)).err().map(|e| e.to_string());
    let error = error.unwrap_or_default();
    assert!(error.starts_with("KSTREAM-PROCESSOR-0000000001 failed in task 0_0: too late\n  help: "), "{error}");

    let t = strict(ExceptionHandler::DeadLetter("letters".into()))?;
    t.advance(Duration::from_secs(60))?;
    let letters = t.output::<Text, Text>("letters")?.read_records();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((&letter.key, &letter.value), (&None, &None));
    let header = |name: &str| letter.headers.last(&format!("__streams.errors.{name}"));
    assert_eq!((header("topic"), header("partition"), header("offset")), (None, Some(&b"-1"[..]), Some(&b"-1"[..])));
    Ok(())
}

struct Checked;

impl ValueProcessor for Checked {
    type K = String;
    type VIn = String;
    type VOut = String;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, String>,
        out: &mut ValueOut<'_, String, String>,
    ) -> Result<()> {
        good(&record.value, ()).map_err(Error::user)?;
        out.forward(record)
    }
}

#[test]
fn a_value_processor_that_fails_goes_to_the_handler() -> Result<()> {
    let found =
        skipping::<String, String>(&["1", "bad", "3"], |_, s| s.process_values("check", |_| Checked).to("out"))?;
    assert_eq!(found, (vec!["1".to_owned(), "3".to_owned()], 1));
    Ok(())
}

/// The task is back at its last commit, stores included, and goes on from there.
#[test]
fn a_panic_is_an_error_that_names_task_and_record_and_the_task_is_rolled_back() -> Result<()> {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let breaks = broken.clone();
    let t = driver(ExceptionHandler::Fail, move |_, s| {
        let sum = s.group_by_key().aggregate("sum", String::new, move |_, v, sum: &mut String| {
            sum.push_str(&v);
            assert!(v != "bad" || !breaks.load(std::sync::atomic::Ordering::Relaxed), "did not expect {v}");
        });
        sum.to_stream().to("out");
    })?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<String, Text>("out")?);
    input.pipe("k", "a");
    let error = input.try_pipe(Record::new("k".into(), "bad".into(), 0)).err();
    assert_eq!(
        error.map(|e| e.to_string()).unwrap_or_default(),
        "task 0_0 at in-0@1 panicked: did not expect bad\n  \
         help: where data can cause it, return an error instead, from a `try_` operator or a processor; or set \
         processing.exception.handler to `continue` to leave such records out"
    );
    assert_eq!(out.read(), [kv("k", Some("a".to_owned()))]);
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    t.run()?;
    assert_eq!(out.read(), [kv("k", Some("abad".to_owned()))]);
    assert_eq!(t.counters().dropped_records, 0);
    Ok(())
}

/// The record that failed is there for partners to come, and so is the row that was met.
#[test]
fn joins_have_twins_and_keep_what_failed() -> Result<()> {
    type Joined = fn(&StreamsBuilder, KStream<String, String>) -> KStream<String, String>;
    fn or_none(r: Option<&String>) -> &str {
        r.map_or("none", String::as_str)
    }
    let joined = |join: Joined| -> Result<(Vec<String>, u64)> {
        let t = driver(ExceptionHandler::Skip, |b, s| join(b, s).to("out"))?;
        let (left, right) = (t.input::<String, String>("in")?, t.input::<String, String>("other")?);
        right.pipe_at(0, "k", "1");
        left.pipe_at(1, "k", "bad");
        left.pipe_at(2, "k", "b");
        right.pipe_at(3, "k", "2");
        Ok((
            t.output::<String, String>("out")?.read().into_iter().map(|(_, v)| v).collect(),
            t.counters().dropped_records,
        ))
    };
    // `bad` fails with 1; when 2 comes it is met first, and ends the path of 2.
    let windows: Joined = |b, s| {
        let other = b.stream::<String, String>("other");
        s.try_join("j", &other, JoinWindows::of(Duration::from_secs(1)), |l, r| good(l, format!("{l}{r}")))
    };
    assert_eq!(joined(windows)?, (vec!["b1".to_owned()], 2));
    let windows: Joined = |b, s| {
        let other = b.stream::<String, String>("other");
        let windows = JoinWindows::of(Duration::from_secs(1));
        s.try_left_join("j", &other, windows, |l, r| good(l, format!("{l}{}", or_none(r))))
    };
    assert_eq!(joined(windows)?, (vec!["b1".to_owned()], 2));
    let windows: Joined = |b, s| {
        let other = b.stream::<String, String>("other");
        let windows = JoinWindows::of(Duration::from_secs(1));
        s.try_outer_join("j", &other, windows, |l, r| good(or_none(l), format!("{}{}", or_none(l), or_none(r))))
    };
    assert_eq!(joined(windows)?, (vec!["b1".to_owned()], 2));
    let table: Joined = |b, s| {
        let other = b.table::<String, String>("other", "rows");
        s.try_join_table("j", &other, |l, r| good(l, format!("{l}{r}")))
    };
    assert_eq!(joined(table)?, (vec!["b1".to_owned()], 1));
    let table: Joined = |b, s| {
        let other = b.table::<String, String>("other", "rows");
        s.try_left_join_table("j", &other, |l, r| good(l, format!("{l}{}", or_none(r))))
    };
    assert_eq!(joined(table)?, (vec!["b1".to_owned()], 1));
    let global: Joined = |b, s| {
        let other = b.global_table::<String, String>("other", "rows");
        s.try_join_global(&other, |k, v| good(v, Some(k.clone())), |l, r| Ok(format!("{l}{r}")))
    };
    assert_eq!(joined(global)?, (vec!["b1".to_owned()], 1));
    let global: Joined = |b, s| {
        let other = b.global_table::<String, String>("other", "rows");
        s.try_left_join_global(&other, |k, _| Ok(Some(k.clone())), |l, r| good(l, format!("{l}{}", or_none(r))))
    };
    assert_eq!(joined(global)?, (vec!["b1".to_owned()], 1));
    Ok(())
}

/// Records that waited for a partner in vain leave the buffer together: one that fails takes none with it.
#[test]
fn a_failure_on_a_record_without_a_partner_loses_no_other() -> Result<()> {
    let t = driver(ExceptionHandler::Skip, |b, s| {
        let other = b.stream::<String, String>("other");
        let windows = JoinWindows::of(Duration::from_secs(1));
        s.try_left_join("j", &other, windows, |l, r| good(l, format!("{l}{}", r.is_some()))).to("out");
    })?;
    let left = t.input::<String, String>("in")?;
    for (time, value) in [(0, "a"), (1, "bad"), (2, "c"), (9_000, "d")] {
        left.pipe_at(time, "k", value);
    }
    assert_eq!(t.output::<String, String>("out")?.read(), [kv("k", "afalse"), kv("k", "cfalse")]);
    assert_eq!(t.counters().dropped_records, 1);
    Ok(())
}

/// Text that must not be `bad`.
#[derive(Debug, Clone, Default)]
struct Picky(StringSerde);

impl Serde for Picky {
    type Value = String;

    fn serialize(
        &self,
        value: &String,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        good(value, ()).map_err(SerdeError::invalid)?;
        self.0.serialize(value, cx, headers, out)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<String, SerdeError> {
        self.0.deserialize(bytes, cx, headers)
    }
}

/// A driver for a program that can write all values but `bad` and those of more than twelve bytes.
fn writing(production: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").to_with("out", Produced::with(StringSerde, Picky::default()));
    let config = RuntimeConfig { production, max_request_bytes: 95, ..RuntimeConfig::embedded("test") };
    TopologyTestDriver::with_config(b.build()?, config)
}

#[test]
fn a_record_that_cannot_be_written_names_sink_topic_record_and_remedy() -> Result<()> {
    let failure = |value: &str| -> Result<String> {
        let input = writing(ExceptionHandler::Fail)?.input::<String, String>("in")?;
        let error = input.try_pipe(Record::new("k".into(), value.into(), 0)).err();
        Ok(error.map(|e| e.to_string()).unwrap_or_default())
    };
    let remedy = "\n  help: set production.exception.handler to `continue` to leave such records out, and \
                  errors.dead.letter.queue.topic.name to keep them";
    let place = "KSTREAM-SINK-0000000001 failed in task 0_0 at in-0@0: ";
    assert_eq!(failure("bad")?, format!("{place}cannot encode a value for `out`: it was bad{remedy}"));
    let large = "a record of 103 bytes for out-0 is larger than max.request.size=95\n  \
                 help: raise max.request.size, or max.message.bytes of the topic, whichever is less";
    assert_eq!(failure("twenty bytes of text")?, format!("{place}{large}{remedy}"));
    Ok(())
}

#[test]
fn a_record_that_cannot_be_written_is_left_out_and_counted() -> Result<()> {
    let t = writing(ExceptionHandler::Skip)?;
    let input = t.input::<String, String>("in")?;
    ["a", "bad", "twenty bytes of text", "b"].into_iter().for_each(|value| input.pipe("k", value));
    assert_eq!(t.output::<String, String>("out")?.read(), [kv("k", "a"), kv("k", "b")]);
    assert_eq!(t.counters().dropped_records, 2);
    Ok(())
}

#[test]
fn a_record_that_cannot_be_written_leaves_a_letter() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").map_values(|v| v.repeat(200)).to("out");
    let production = ExceptionHandler::DeadLetter("letters".into());
    let config = RuntimeConfig { production, max_request_bytes: 600, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    t.input::<String, String>("in")?.pipe("k", "long");
    assert_eq!(t.output::<String, String>("out")?.read(), []);
    assert_eq!(t.output::<String, String>("letters")?.read(), [kv("k", "long")]);
    assert_eq!((t.counters().dead_letter, t.counters().dropped_records), (1, 1));
    Ok(())
}

/// A driver for a program that fails on every record, whose dead letters are larger than may be written.
fn with_large_letters(production: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").try_map_values(|v| v.parse::<i64>()).to("out");
    b.topic("letters", 1);
    let processing = ExceptionHandler::DeadLetter("letters".into());
    let config = RuntimeConfig { processing, production, max_request_bytes: 800, ..RuntimeConfig::embedded("test") };
    TopologyTestDriver::with_config(b.build()?, config)
}

/// Its task stopped, although the handlers said continue, and the error named neither the letter nor the record.
#[test]
fn a_letter_that_is_too_large_is_for_the_production_handler() -> Result<()> {
    let text = "x".repeat(600);
    let pipe =
        |t: &TopologyTestDriver| t.input::<String, String>("in")?.try_pipe(Record::new("k".into(), text.clone(), 0));
    let why = "its dead letter of 955 bytes for letters-0 is larger than max.request.size=800; it is left out because of: \
               invalid digit found in string\n  help: raise max.request.size, or max.message.bytes of the topic, whichever is less";
    let failed = format!(
        "KSTREAM-MAPVALUES-0000000001 failed in task 0_0 at in-0@0: {why}\n  help: set production.exception.handler to \
         `continue` to leave such records out, and errors.dead.letter.queue.topic.name to keep them"
    );
    let t = with_large_letters(ExceptionHandler::Fail)?;
    assert_eq!(pipe(&t).map_err(|e| e.to_string()), Err(failed.clone()));

    let t = with_large_letters(ExceptionHandler::Skip)?;
    pipe(&t)?;
    t.input::<String, String>("in")?.pipe("k", "1");
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 1)]);
    assert_eq!(t.output::<String, String>("letters")?.read(), []);
    let counted = |t: &TopologyTestDriver| {
        let counters = t.counters();
        (counters.dropped_records, counters.dead_letter, counters.large_dead_letter)
    };
    assert_eq!(counted(&t), (1, 0, 1));

    // The record is where the letter says.
    let t = with_large_letters(ExceptionHandler::DeadLetter("letters".into()))?;
    pipe(&t)?;
    let letters = t.output::<String, Option<String>>("letters")?.read_records();
    assert_eq!(letters.iter().map(|l| (l.key.as_str(), l.value.as_deref())).collect::<Vec<_>>(), [("k", None)]);
    let header = |name: &str| letters[0].headers.last(&format!("__streams.errors.{name}")).map(<[u8]>::to_vec);
    assert_eq!(header("message"), Some(why.into()));
    assert_eq!((header("topic"), header("offset")), (Some(b"in".to_vec()), Some(b"0".to_vec())));
    assert_eq!(counted(&t), (1, 1, 1));

    // What is written instead must fit, and nobody is asked for ever.
    let again = ExceptionHandler::new(|context| {
        let mut letter = context.dead_letter("letters");
        letter.value = context.raw_value.map(<[u8]>::to_vec);
        HandlerResponse::ContinueWith(vec![letter])
    });
    assert_eq!(pipe(&with_large_letters(again)?).map_err(|e| e.to_string()), Err(failed));
    Ok(())
}

/// What a table of values becomes, and how many changes were left out, when these values of one key come in beside a row
/// `r` of the key in another table.
fn table_of(
    values: &[&str],
    program: impl FnOnce(KTable<String, String>, KTable<String, String>) -> KTable<String, String>,
) -> Result<(Vec<Text>, u64)> {
    let b = StreamsBuilder::new();
    let (rows, others) = (b.table::<String, String>("in", "rows"), b.table::<String, String>("other", "others"));
    program(rows, others).to_stream().to("out");
    let processing = ExceptionHandler::Skip;
    let config = RuntimeConfig { processing, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    t.input::<String, String>("other")?.pipe("k", "r");
    let input = t.input::<String, String>("in")?;
    values.iter().for_each(|value| input.pipe("k", *value));
    let out = t.output::<String, Text>("out")?.read();
    Ok((out.into_iter().map(|(_, v)| v).collect(), t.counters().dropped_records))
}

/// A row that is left out is no row: the one before it is deleted, the next one starts anew.
#[test]
fn every_operator_of_tables_has_a_twin() -> Result<()> {
    let some = |values: &[&str], dropped: u64| {
        (values.iter().map(|v| (*v != "-").then(|| (*v).to_owned())).collect::<Vec<_>>(), dropped)
    };
    let values = ["a", "bad", "c"];
    assert_eq!(table_of(&["a", "bad"], |t, _| t.try_filter(|_, v| good(v, true)))?, some(&["a", "-"], 1));
    assert_eq!(table_of(&["bad", "no"], |t, _| t.try_filter_not(|_, v| good(v, v == "no")))?, some(&[], 1));
    assert_eq!(table_of(&values, |t, _| t.try_map_values(|v| good(&v, v.to_uppercase())))?, some(&["A", "-", "C"], 1));
    let mapped = table_of(&values, |t, _| t.try_map_values_with_key(|k, v| good(&v, format!("{k}{v}"))))?;
    assert_eq!(mapped, some(&["ka", "-", "kc"], 1));
    let joined = table_of(&values, |t, o| t.try_join(&o, |l, r| good(l, format!("{l}{r}"))))?;
    assert_eq!(joined, some(&["ar", "-", "cr"], 1));
    let joined = table_of(&values, |t, o| t.try_left_join(&o, |l, r| good(l, format!("{l}{}", r.is_some()))))?;
    assert_eq!(joined, some(&["atrue", "-", "ctrue"], 1));
    let joined = table_of(&values, |t, o| {
        t.try_outer_join(&o, |l, r| good(l.map_or("", String::as_str), format!("{}{}", l.is_some(), r.is_some())))
    })?;
    assert_eq!(joined, some(&["falsetrue", "truetrue", "-", "truetrue"], 1));
    let joined = table_of(&values, |t, o| {
        t.try_join_on("j", &o, |_| Ok::<_, String>(Some("k".to_owned())), |l, r| good(l, format!("{l}{r}")))
    })?;
    assert_eq!(joined, some(&["ar", "-", "cr"], 1));
    let joined = table_of(&values, |t, o| {
        let partner = |l: &String| good(l, Some("nobody".to_owned()));
        t.try_left_join_on("j", &o, partner, |l, r| Ok(format!("{l}{}", r.is_some())))
    })?;
    assert_eq!(joined, some(&["afalse", "-", "cfalse"], 1));
    Ok(())
}

/// A row that cannot be computed is not there for a join that looks it up: the handler has been asked about it.
#[test]
fn a_row_that_was_left_out_is_not_found() -> Result<()> {
    let joined = table_of(&["a"], |t, o| {
        let bad = o.try_map_values(|v| good(if v == "r" { "bad" } else { "" }, v));
        t.join(&bad, |l, r| format!("{l}{r}"))
    })?;
    assert_eq!(joined, (vec![], 1));
    Ok(())
}

#[test]
fn an_aggregate_of_a_table_that_fails_leaves_the_row_as_it_was() -> Result<()> {
    // `a` and `c` are added; what is bad is neither added nor, afterwards, subtracted.
    let fold = |t: KTable<String, String>| {
        let add = |_: &String, v: String, sum: String| good(&v, sum + "+" + &v);
        let subtract = |_: &String, v: String, sum: String| good(&v, sum + "-" + &v);
        t.group_by("g", |k, v| (k.clone(), v)).try_aggregate("sum", String::new, add, subtract)
    };
    let found = table_of(&["a", "bad", "c", "d"], |t, _| fold(t))?;
    assert_eq!(found, (vec![Some("+a".to_owned()), Some("+a-c+d".to_owned())], 2));
    let reduce = |t: KTable<String, String>| {
        let step = |sum: String, v: String| good(&v, sum + &v);
        t.group_by("g", |k, v| (k.clone(), v)).try_reduce("sum", step, step)
    };
    let found = table_of(&["a", "b", "bad"], |t, _| reduce(t))?;
    assert_eq!(found, (vec![Some("a".to_owned()), Some("aab".to_owned())], 1));
    let found = table_of(&["a", "bad", "c"], |t, _| {
        let pair = |k: &String, v: String| good(&v, (k.clone(), v.clone()));
        t.try_group_by("g", pair).try_reduce("sum", |_, v| Ok::<_, String>(v), |sum, _| Ok(sum))
    })?;
    assert_eq!(found, (["a", "a", "c"].map(|sum| Some(sum.to_owned())).to_vec(), 1));
    Ok(())
}
