//! A record that cannot be decoded: the handler's choice, and an error that says where it is and what to do.

use millstream_core::{ExceptionHandler, Record, Result, RuntimeConfig};
use millstream_dsl::{JoinWindows, SECOND, StreamsBuilder, TopologyTestDriver, kv};

/// A driver for a program that reads numbers from topics that hold text: `good` holds eight bytes, a number.
fn driver(undecodable: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, i64>("numbers").map_values(|n| n + 1).to("out");
    // A second way into the topic, with another type, for the test alone.
    let texts = b.stream::<Option<String>, Option<String>>("texts");
    texts.map_values(|text| text.map(String::into_bytes)).to("numbers");
    TopologyTestDriver::with_config(b.build()?, RuntimeConfig { undecodable, ..RuntimeConfig::embedded("test") })
}

const GOOD: &str = "\0\0\0\0\0\0\0\u{7}";

#[test]
fn failing_names_topic_partition_offset_and_bytes_and_loses_nothing() -> Result<()> {
    let t = driver(ExceptionHandler::Fail)?;
    let (texts, out) = (t.input::<Option<String>, Option<String>>("texts")?, t.output::<Option<String>, i64>("out")?);
    texts.pipe(None, GOOD.to_owned());
    assert_eq!(out.read(), [kv(None, 8)]);
    let error =
        texts.try_pipe(Record::new(None, Some("nonsense!".into()), 0)).err().map(|e| e.to_string()).unwrap_or_default();
    for part in
        ["value of numbers-0@1", "9 bytes where the type takes 8", "6e 6f 6e", "deserialization.exception.handler"]
    {
        assert!(error.contains(part), "{error}");
    }
    Ok(())
}

#[test]
fn a_null_that_the_type_has_not_names_the_remedy() -> Result<()> {
    let t = driver(ExceptionHandler::Fail)?;
    let texts = t.input::<Option<String>, Option<String>>("texts")?;
    let error = texts.try_pipe(Record::new(None, None, 0)).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("Option<i64>"), "{error}");
    Ok(())
}

#[test]
fn skipping_goes_on_behind_the_record_and_counts_it() -> Result<()> {
    let t = driver(ExceptionHandler::Skip)?;
    let (texts, out) = (t.input::<Option<String>, Option<String>>("texts")?, t.output::<Option<String>, i64>("out")?);
    for text in ["bad", GOOD, "worse", GOOD] {
        texts.enqueue(Record::new(None, Some(text.into()), 0))?;
    }
    t.run()?;
    assert_eq!(out.read(), [kv(None, 8), kv(None, 8)]);
    assert_eq!(t.counters().dropped_records, 2);
    Ok(())
}

#[test]
fn a_dead_letter_keeps_the_bytes_and_says_why_in_its_headers() -> Result<()> {
    let t = driver(ExceptionHandler::DeadLetter("letters".into()))?;
    let texts = t.input::<Option<String>, Option<String>>("texts")?;
    let letters = t.output::<Option<String>, Option<String>>("letters")?;
    texts.pipe_at(7, Some("k".to_owned()), Some("bad".to_owned()));
    let found = letters.read_records();
    let [letter] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((letter.key.as_deref(), letter.value.as_deref(), letter.timestamp), (Some("k"), Some("bad"), 7));
    let header = |name: &str| letter.headers.last(&format!("__streams.errors.{name}")).map(String::from_utf8_lossy);
    assert_eq!(header("topic").as_deref(), Some("numbers"));
    assert_eq!((header("partition").as_deref(), header("offset").as_deref()), (Some("0"), Some("0")));
    assert_eq!(t.counters().dead_letter, 1);
    Ok(())
}

#[test]
fn a_topic_that_the_program_cannot_read_back_is_a_problem_beside_the_others() {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").to("between");
    b.stream::<String, i64>("between").to("out");
    b.stream::<String, String>("bad name").group_by_key().count("no/store");
    // As text, or as bytes, anything that is no number may be read.
    b.stream::<String, String>("other").to("text");
    b.stream::<String, millstream_core::Text>("text").to("more");
    let problems = b.build().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(problems.contains("topic `between` is written as") && problems.contains("i64"), "{problems}");
    assert!(problems.contains("`no/store` cannot name"), "{problems}");
    assert!(!problems.contains("`text`"), "{problems}");
}

/// Nodes of one program mean nothing in another: it was a panic, or a stream that led nowhere.
#[test]
fn streams_of_two_programs_do_not_come_together() {
    let (a, b) = (StreamsBuilder::new(), StreamsBuilder::new());
    let other = b.stream::<String, i64>("others");
    let table = b.table::<String, i64>("rows", "rows");
    a.stream::<String, i64>("in").merge(&other).to("out");
    a.stream::<String, i64>("in").join("both", &other, JoinWindows::of(SECOND), |l, r| l + r).to("out");
    a.stream::<String, i64>("in").join_table("row", &table, |l, r| l + r).to("out");
    a.table::<String, i64>("mine", "mine").join(&table, |l, r| l + r).to_stream().to("out");
    let grouped = a.stream::<String, i64>("in").group_by_key();
    grouped.cogroup(|_, n, sum: &mut i64| *sum += n).cogroup(&other.group_by_key(), |_, n, sum| *sum += n);
    let problems = a.build().err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(problems.matches("of two StreamsBuilders together").count(), 5, "{problems}");
    assert!(problems.contains("join `both`") && problems.contains("help: make both from one"), "{problems}");
}

/// A global table's rows are texts here; it asked no handler, and such a record ended every thread at every start.
fn global(undecodable: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.topic("letters", 1);
    let rows = b.global_table::<String, i64>("numbers", "rows");
    b.stream::<String, i64>("asked").join_global(&rows, |k, _| Some(k.clone()), |n, row| n + row).to("out");
    b.stream::<String, String>("texts").map_values(String::into_bytes).to("numbers");
    TopologyTestDriver::with_config(b.build()?, RuntimeConfig { undecodable, ..RuntimeConfig::embedded("test") })
}

#[test]
fn a_global_table_asks_too_and_has_no_dead_letters() -> Result<()> {
    for undecodable in [ExceptionHandler::Skip, ExceptionHandler::DeadLetter("letters".into())] {
        let t = global(undecodable)?;
        let (texts, asked) = (t.input::<String, String>("texts")?, t.input::<String, i64>("asked")?);
        let out = t.output::<String, i64>("out")?;
        [("a", "bad"), ("a", GOOD), ("b", "worse")].into_iter().for_each(|(key, text)| texts.pipe(key, text));
        asked.pipe("a", 1);
        assert_eq!((out.read(), t.counters().dropped_records), (vec![kv("a", 8)], 2));
        assert_eq!(t.output::<Option<String>, Option<String>>("letters")?.read(), []);
        // They are met again by whoever starts.
        t.restart()?;
        asked.pipe("a", 2);
        assert_eq!(out.read(), [kv("a", 9)]);
    }
    let t = global(ExceptionHandler::Fail)?;
    let texts = t.input::<String, String>("texts")?;
    texts.pipe("a", GOOD);
    let bad = texts.try_pipe(Record::new("a".into(), "bad".into(), 0));
    let error = bad.and_then(|()| t.run()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("value of numbers-0@1"), "{error}");
    Ok(())
}
