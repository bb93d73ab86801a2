//! A function of the program decides about records that fail: it is told all there is to know, its dead letters are written
//! in the commit that leaves the record out, and what it lets fail has done nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::{
    Error, ErrorHandlerContext, ExceptionHandler, HandlerResponse, Headers, Record, Result, RuntimeConfig, Settings,
};
use millstream_dsl::{
    Clock, FixedKeyRecord, KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, ValueOut, ValueProcessor,
    kv,
};

use HandlerResponse::{Continue, ContinueWith, Fail, Retry};

type Text = Option<String>;

fn number(text: &str) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

/// Reads texts from `in`, writes numbers to `out` and everything to `copies`; panics on `boom`.
fn driver(config: RuntimeConfig) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.topic("letters", 1).topic("others", 4);
    let texts = b.stream::<String, String>("in");
    texts.try_map_values(|v| number(&v)).to("out");
    texts.map_values(|v| if v == "boom" { panic!("{v}") } else { v }).to("copies");
    TopologyTestDriver::with_config(b.build()?, config)
}

fn processing(
    f: impl Fn(&ErrorHandlerContext<'_>) -> HandlerResponse + Send + Sync + 'static,
) -> Result<TopologyTestDriver> {
    driver(RuntimeConfig { processing: ExceptionHandler::new(f), ..RuntimeConfig::embedded("test") })
}

/// What a handler has been told, in words.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, context: &ErrorHandlerContext<'_>) {
        let text = |bytes: Option<&[u8]>| bytes.map_or("null".into(), String::from_utf8_lossy).into_owned();
        let source = context.source.map_or("a timer".into(), |(partition, offset)| format!("{partition}@{offset}"));
        let error = context.error.to_string();
        self.0.lock().expect("no panics").push(format!(
            "{} {} {source} at {} {}={} {:?}: {}",
            context.node,
            context.task,
            context.timestamp,
            text(context.raw_key),
            text(context.raw_value),
            context.headers,
            error.lines().next().unwrap_or_default()
        ));
    }

    fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panics"))
    }
}

#[test]
fn it_is_told_node_task_source_time_headers_raw_bytes_and_the_error() -> Result<()> {
    let told = Told::default();
    let tell = told.clone();
    let t = processing(move |context| {
        tell.note(context);
        let Error::Processing(_) = context.error else { return Continue };
        // What the closure returned can be asked for by its type.
        let source = std::error::Error::source(context.error).expect("a cause");
        assert!(source.downcast_ref::<std::num::ParseIntError>().is_some());
        Continue
    })?;
    let input = t.input::<String, String>("in")?;
    input.pipe("k", "1");
    assert_eq!(told.read(), [""; 0], "of what does not fail it is told nothing");
    let mut record = Record::new("k".to_owned(), "x".to_owned(), 7);
    record.headers.add("mine", Some(b"1"));
    input.try_pipe(record)?;
    input.pipe_at(8, "k", "boom");
    let failed = "KSTREAM-MAPVALUES-0000000001 0_0 in-0@1 at 7 k=x [(\"mine\", Some(\"1\"))]: \
                  KSTREAM-MAPVALUES-0000000001 failed in task 0_0 at in-0@1: invalid digit found in string";
    let panicked = "KSTREAM-SOURCE-0000000000 0_0 in-0@2 at 8 k=boom []: task 0_0 at in-0@2 panicked: boom";
    assert_eq!(told.read(), [failed, panicked]);
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 1)]);
    assert_eq!(t.output::<String, String>("copies")?.read(), [kv("k", "1"), kv("k", "x")]);
    assert_eq!(t.counters().dropped_records, 2);
    Ok(())
}

#[test]
fn what_cannot_be_decoded_is_told_with_its_bytes() -> Result<()> {
    let told = Told::default();
    let tell = told.clone();
    let b = StreamsBuilder::new();
    b.stream::<String, i64>("numbers").to("out");
    // Another way into the topic, with another type, for the test alone.
    b.stream::<String, String>("texts").map_values(String::into_bytes).to("numbers");
    let undecodable = ExceptionHandler::new(move |context| {
        tell.note(context);
        if context.raw_value == Some(b"skip") { Continue } else { Fail }
    });
    let config = RuntimeConfig { undecodable, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let texts = t.input::<String, String>("texts")?;
    let mut record = Record::new("k".to_owned(), "skip".to_owned(), 7);
    record.headers.add("mine", None);
    texts.try_pipe(record)?;
    texts.pipe("k", "\0\0\0\0\0\0\0\u{7}");
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 7)]);
    assert_eq!(
        told.read(),
        ["KSTREAM-SOURCE-0000000000 0_0 numbers-0@0 at 7 k=skip [(\"mine\", None)]: \
          cannot decode the value of numbers-0@0: 4 bytes where the type takes 8"]
    );
    let error = texts.try_pipe(Record::new("k".into(), "bad".into(), 0)).expect_err("it says fail");
    assert!(matches!(error, Error::Undecodable(_)), "{error}");
    Ok(())
}

/// The letters are its own: topic, partition, key, value, time and headers; and they are written once.
#[test]
fn its_letters_are_in_the_commit_that_leaves_the_record_out() -> Result<()> {
    let t = processing(|context| {
        let mut other = context.dead_letter("others");
        other.partition = Some(3);
        other.key = None;
        other.value = Some(b"about it".to_vec());
        other.headers = Headers::new();
        ContinueWith(vec![context.dead_letter("letters"), other])
    })?;
    t.fail_commits(Some(2));
    let input = t.input::<String, String>("in")?;
    for value in ["a", "1", "boom", "2", "c"] {
        input.enqueue(Record::new("k".into(), value.into(), 5))?;
    }
    t.run()?;
    let letters = t.output::<String, String>("letters")?.read_records();
    assert_eq!(letters.iter().map(|l| l.value.as_str()).collect::<Vec<_>>(), ["a", "boom", "c"]);
    let message = |l: &Record<String, String>| l.headers.last("__streams.errors.message").map(<[u8]>::to_vec);
    assert_eq!(message(&letters[0]), Some(b"invalid digit found in string".to_vec()));
    let others = t.output::<Text, String>("others")?.read_records();
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|o| o.key.is_none() && o.value == "about it" && o.headers.is_empty()));
    assert!(others.iter().all(|o| o.timestamp == 5));
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 1), kv("k", 2)]);
    assert_eq!(t.output::<String, String>("copies")?.read().len(), 4);
    Ok(())
}

/// Also when it is asked late: another path of the record has written by then.
#[test]
fn what_it_lets_fail_has_done_nothing_and_comes_again() -> Result<()> {
    for value in ["x", "boom"] {
        let asked = Arc::new(Mutex::new(0));
        let asks = asked.clone();
        let t = processing(move |_| {
            let mut asks = asks.lock().expect("no panics");
            *asks += 1;
            if *asks < 3 { Fail } else { Continue }
        })?;
        let input = t.input::<String, String>("in")?;
        input.pipe("k", "1");
        // Of `boom` both the number and the copy fail: the panic undoes the record, and so the answer about the number.
        let error = input.try_pipe(Record::new("k".into(), value.into(), 0)).expect_err("it says fail");
        assert!(error.is_fatal(), "{error}");
        assert!(error.to_string().contains("in-0@1"), "{error}");
        assert_eq!(t.output::<String, String>("copies")?.read(), [kv("k", "1")]);
        assert!(t.run().is_err());
        assert_eq!(t.counters().dropped_records, 0);
        t.run()?;
        input.pipe("k", "2");
        assert_eq!(t.output::<String, i64>("out")?.read(), [kv("k", 1), kv("k", 2)]);
        assert_eq!(t.counters().dropped_records, 1);
    }
    Ok(())
}

#[test]
fn a_handler_that_panics_or_writes_where_nothing_is_fails_the_task() -> Result<()> {
    let failure = |handler: fn(&ErrorHandlerContext<'_>) -> HandlerResponse, value: &str| -> Result<String> {
        let t = processing(handler)?;
        let error = t.input::<String, String>("in")?.try_pipe(Record::new("k".into(), value.into(), 0)).err();
        assert_eq!(t.output::<String, String>("copies")?.read(), []);
        Ok(error.map(|e| e.to_string()).unwrap_or_default())
    };
    for value in ["x", "boom"] {
        let text = failure(|_| panic!("what now"), value)?;
        assert!(text.starts_with("the exception handler panicked: what now\n  it was asked about: "), "{text}");
        assert!(text.contains("in-0@0"), "{text}");
    }
    assert_eq!(
        failure(|context| ContinueWith(vec![context.dead_letter("nowhere")]), "x")?,
        "an exception handler writes to topic `nowhere`, which does not exist\n  \
         help: create it, or name it with .topic(\"nowhere\", partitions) in the program"
    );
    let too_high = |context: &ErrorHandlerContext<'_>| {
        let mut letter = context.dead_letter("others");
        letter.partition = Some(4);
        ContinueWith(vec![letter])
    };
    let text = failure(too_high, "x")?;
    assert!(text.starts_with("an exception handler writes to partition 4 of topic `others`, which has 4\n"), "{text}");
    // A record that an operator fails on does not pass by itself.
    assert!(failure(|_| Retry, "x")?.contains("failed in task 0_0 at in-0@0"));
    Ok(())
}

struct Late;

impl Processor for Late {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, record: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
        out.forward(record)
    }
}

#[test]
fn a_timer_has_no_record() -> Result<()> {
    let told = Told::default();
    let tell = told.clone();
    let b = StreamsBuilder::new();
    let texts = b.topic("letters", 1).stream::<String, String>("in").process("late", |setup| {
        setup.every(Duration::from_secs(60), Clock::Wall, |_, _, _| Err(Error::user("too late")));
        Late
    });
    texts.to("out");
    let handler = ExceptionHandler::new(move |context| {
        tell.note(context);
        ContinueWith(vec![context.dead_letter("letters")])
    });
    let config = RuntimeConfig { processing: handler, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    t.advance(Duration::from_secs(60))?;
    let node = "KSTREAM-PROCESSOR-0000000001";
    assert_eq!(told.read(), [format!("{node} 0_0 a timer at -1 null=null []: {node} failed in task 0_0: too late")]);
    assert_eq!(t.output::<Text, Text>("letters")?.read(), [(None, None)]);
    Ok(())
}

/// Texts go to the topics that they name.
fn by_name(production: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.topic("there", 1).topic("letters", 1);
    b.stream::<String, String>("in").to_dynamic(|_, name, _| name.clone());
    TopologyTestDriver::with_config(b.build()?, RuntimeConfig { production, ..RuntimeConfig::embedded("test") })
}

#[test]
fn a_topic_that_is_not_there_is_for_the_production_handler() -> Result<()> {
    let t = by_name(ExceptionHandler::new(|context| match context.error {
        Error::Production(failure) if failure.source.to_string().contains("`nowhere`") => {
            ContinueWith(vec![context.dead_letter("letters")])
        }
        _ => Fail,
    }))?;
    let input = t.input::<String, String>("in")?;
    ["there", "nowhere", "there"].into_iter().for_each(|name| input.pipe("k", name));
    assert_eq!(t.output::<String, String>("there")?.read().len(), 2);
    assert_eq!(t.output::<String, String>("letters")?.read(), [kv("k", "nowhere")]);

    let error = by_name(ExceptionHandler::Fail)?
        .input::<String, String>("in")?
        .try_pipe(Record::new("k".into(), "nowhere".into(), 0))
        .expect_err("no such topic");
    assert!(
        error.to_string().starts_with(
            "KSTREAM-SINK-0000000001 failed in task 0_0 at in-0@0: no topic partition nowhere-0\n  \
             help: create topic `nowhere` first, or name its partitions in the program"
        ),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_word_that_is_read_later_replaces_a_function_and_a_function_an_earlier_word() -> Result<()> {
    let function = ExceptionHandler::new(|_| Continue);
    let read = |mut settings: Settings, flags: &[&str]| {
        settings.read_flags(flags.iter().map(|flag| (*flag).to_owned()), &[]);
        settings.config("app").map(|c| [c.undecodable, c.processing, c.production])
    };
    let all = || {
        Settings::new()
            .set("processing.exception.handler", "continue")
            .deserialization_exception_handler(function.clone())
            .processing_exception_handler(function.clone())
            .production_exception_handler(function.clone())
    };
    assert_eq!(read(all(), &[])?, [function.clone(), function.clone(), function.clone()]);
    let flags = ["--processing.exception.handler=fail", "--production.exception.handler=continue"];
    assert_eq!(read(all(), &flags)?, [function.clone(), ExceptionHandler::Fail, ExceptionHandler::Skip]);
    assert_ne!(function, ExceptionHandler::new(|_| Continue));
    Ok(())
}

/// KIP-1270: it is asked about global stores only if that is said. A dead letter cannot be written there: nothing is committed.
#[test]
fn it_is_asked_about_global_stores_if_that_is_said() -> Result<()> {
    let run = |processing_global: bool| -> Result<(Vec<String>, u64)> {
        let told = Told::default();
        let tell = told.clone();
        let b = StreamsBuilder::new();
        b.topic("letters", 1);
        let rows = b.global_store::<String, String, String, i64, _>("texts", "rows", |rows| {
            move |r: Record<Option<String>, Option<String>>| {
                let number = r.value.as_deref().map(number).transpose().map_err(Error::user)?;
                rows.put(&r.key.unwrap_or_default(), number).map(drop)
            }
        });
        b.stream::<String, String>("in").process_values("look", move |s| Look { rows: s.store(rows) }).to("out");
        let processing = ExceptionHandler::new(move |context| {
            tell.note(context);
            ContinueWith(vec![context.dead_letter("letters")])
        });
        let config = RuntimeConfig { processing, processing_global, ..RuntimeConfig::embedded("test") };
        let t = TopologyTestDriver::with_config(b.build()?, config)?;
        let texts = t.input::<String, String>("texts")?;
        for text in ["1", "one", "3"] {
            texts.try_pipe(Record::new("a".into(), text.into(), 5))?;
        }
        t.input::<String, String>("in")?.pipe("a", "?");
        assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 3)]);
        assert_eq!(t.output::<Text, Text>("letters")?.read(), []);
        Ok((told.read(), t.counters().dropped_records))
    };
    let (told, dropped) = run(true)?;
    assert_eq!((told.len(), dropped), (1, 1), "{told:?}");
    assert!(told[0].contains(" texts-0@1 at 5 a=one "), "{told:?}");
    let error = run(false).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("texts-0@1"), "{error}");
    Ok(())
}

/// Looks a key up.
struct Look {
    rows: KeyValueStore<String, i64>,
}

impl ValueProcessor for Look {
    type K = String;
    type VIn = String;
    type VOut = i64;

    fn process(&mut self, r: FixedKeyRecord<String, String>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
        let found = self.rows.get(r.key())?.unwrap_or(-1);
        out.forward(r.with_value(found))
    }
}
