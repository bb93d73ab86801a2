//! The Processor API: children, timers, stores of every kind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use millstream_core::{ChangelogRecord, ChangelogWriter, Record, Result, StateStore};
use millstream_dsl::{Clock, CustomStore, KeyValueStore, Out, Processor, StreamsBuilder, Timer, TopologyTestDriver};

fn row<V>(key: &str, value: V, time: i64) -> Record<String, V> {
    Record::new(key.into(), value, time)
}

/// Sends even numbers to one child, negative ones to another that may not be there, and all others on.
struct Sorter;

impl Processor for Sorter {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        match record.value {
            0 => out.forward(record),
            n if n < 0 => out.forward_to("negative", record),
            _ => out.forward_to("positive", record),
        }
    }
}

#[test]
fn a_processor_forwards_to_the_child_it_names_or_to_all() -> Result<()> {
    let b = StreamsBuilder::new();
    let (main, children) = b.stream("in").process_with_children("sort", &["positive"], |_| Sorter);
    main.to("main");
    children.get("positive").expect("a child").to("positive");
    assert!(children.get("negative").is_none());
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, i64>("in")?;
    input.pipe_at(0, "a", 1);
    input.pipe_at(1, "b", 0);
    let read = |topic| Ok::<_, millstream_core::Error>(driver.output::<String, i64>(topic)?.read_records());
    assert_eq!(read("main")?.iter().map(|r| r.value).collect::<Vec<_>>(), [0]);
    assert_eq!(read("positive")?.iter().map(|r| r.value).collect::<Vec<_>>(), [1, 0]);
    let error = input.try_pipe(Record::new("c".into(), -1, 2)).expect_err("no such child").to_string();
    assert!(error.contains("`negative`") && error.contains("positive") && error.contains("help:"), "{error}");
    Ok(())
}

/// Ticks until it has ticked three times.
struct Ticking {
    ticks: i64,
    timer: Timer,
}

impl Processor for Ticking {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> {
        Ok(())
    }
}

impl Ticking {
    fn tick(&mut self, time: i64, out: &mut Out<'_, String, i64>) -> Result<()> {
        self.ticks += 1;
        if self.ticks == 3 {
            self.timer.cancel();
        }
        out.forward(Record::new("tick".into(), self.ticks, time))
    }
}

fn ticks(start: Option<i64>, clock: Clock, times: &[i64]) -> Result<Vec<i64>> {
    let b = StreamsBuilder::new();
    let made = b.stream("in").process("tick", move |s| {
        let interval = Duration::from_millis(10);
        let timer = match start {
            Some(start) => s.every_from(start, interval, clock, Ticking::tick),
            None => s.every(interval, clock, Ticking::tick),
        };
        Ticking { ticks: 0, timer }
    });
    made.to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, i64>("in")?;
    let mut wall = 0;
    for time in times {
        match clock {
            Clock::Stream => input.pipe_at(*time, "k", 1),
            Clock::Wall => {
                driver.advance(Duration::from_millis((time - wall) as u64))?;
                wall = *time;
            }
        }
    }
    Ok(driver.output::<String, i64>("out")?.read_records().iter().map(|r| r.timestamp).collect())
}

#[test]
fn timers_can_be_anchored_and_cancelled() -> Result<()> {
    let times = [3, 12, 14, 22, 47, 48, 60];
    assert_eq!(ticks(None, Clock::Stream, &times)?, [3, 12, 22], "cancelled after the third");
    assert_eq!(ticks(Some(14), Clock::Stream, &times)?, [14, 47, 60]);
    assert_eq!(ticks(Some(25), Clock::Wall, &times)?, [47, 60]);
    // Wall time is 0 at the start: an anchor in the past fires at its next multiple, never at once.
    assert_eq!(ticks(Some(-15), Clock::Wall, &times)?, [12, 22, 47]);
    Ok(())
}

/// Adds to every word what the global store says of it.
struct Enrich {
    about: KeyValueStore<String, String>,
}

impl Processor for Enrich {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, record: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
        let about = self.about.get(&record.value)?.unwrap_or_else(|| "?".into());
        let value = format!("{} {about}", record.value);
        out.forward(record.with_value(value))
    }
}

#[test]
fn a_global_store_keeps_what_its_processor_makes_of_a_topic() -> Result<()> {
    let b = StreamsBuilder::new();
    // Keys and values change places, in capitals; the topic's tombstones are ignored.
    let about = b.global_store("words", "about", |store: KeyValueStore<String, String>| {
        move |record: Record<Option<String>, Option<String>>| {
            if let (Some(key), Some(value)) = (record.key, record.value) {
                store.put(&value.to_uppercase(), Some(key))?;
            }
            Ok(())
        }
    });
    b.stream("in").process("enrich", move |s| Enrich { about: s.store(about) }).to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    driver.input::<String, Option<String>>("words")?.pipe_at(0, "one", Some("uno".to_owned()));
    driver.input::<String, Option<String>>("words")?.pipe_at(1, "one", None);
    driver.input::<String, String>("in")?.pipe_at(2, "k", "UNO".to_owned());
    driver.restart()?;
    driver.input::<String, String>("in")?.pipe_at(3, "k", "DUE".to_owned());
    let out: Vec<String> =
        driver.output::<String, String>("out")?.read_records().into_iter().map(|r| r.value).collect();
    assert_eq!(out, ["UNO one", "DUE ?"]);
    Ok(())
}

/// Keeps of every key where its last record is, and when it came.
struct Where {
    rows: KeyValueStore<String, String>,
}

impl Processor for Where {
    type KIn = String;
    type VIn = Option<String>;
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(&mut self, r: Record<String, Option<String>>, out: &mut Out<'_, Infallible, Infallible>) -> Result<()> {
        if r.value.as_deref() == Some("bad") {
            return Err(millstream_core::Error::user("a bad word"));
        }
        let place = out.source().map(|(p, offset)| format!("{}-{}@{offset} {}", p.topic, p.partition, r.timestamp));
        self.rows.put(&r.key, r.value.and(place)).map(drop)
    }
}

#[test]
fn a_global_stores_processor_knows_where_records_come_from_also_when_they_are_read_again() -> Result<()> {
    let b = StreamsBuilder::new();
    let about = b.global_store_processor("words", "about", |rows| Where { rows });
    b.stream("in").process("enrich", move |s| Enrich { about: s.store(about) }).to("out");
    let topology = b.build()?;
    assert!(topology.stores().iter().all(|store| store.changelog.is_none()));
    let driver = TopologyTestDriver::new(topology)?;
    let words = driver.input::<String, Option<String>>("words")?;
    words.pipe_at(5, "uno", Some("one".to_owned()));
    words.pipe_at(6, "due", Some("two".to_owned()));
    words.pipe_at(7, "uno", None);
    words.pipe_at(8, "uno", Some("one".to_owned()));
    words.pipe_at(9, "due", None);
    let input = driver.input::<String, String>("in")?;
    for _ in 0..2 {
        ["uno", "due"].into_iter().for_each(|word| input.pipe_at(10, "k", word));
        let out: Vec<String> = driver.output::<String, String>("out")?.read().into_iter().map(|(_, v)| v).collect();
        assert_eq!(out, ["uno words-0@3 8", "due ?"]);
        // The store is empty then: what it holds next has come through the processor again.
        driver.restart()?;
    }
    let error = words.try_pipe(Record::new("tre".into(), Some("bad".into()), 11)).expect_err("a bad word").to_string();
    assert!(
        error.contains("GLOBAL-PROCESSOR") && error.contains("words-0@5") && error.contains("a bad word"),
        "{error}"
    );
    Ok(())
}

/// A store of a program's own: the largest number so far.
#[derive(Default)]
struct Largest {
    now: i64,
    flushed: Option<i64>,
    committed: i64,
}

impl StateStore for Largest {
    fn flush(&mut self, changelog: &mut ChangelogWriter) -> Result<()> {
        changelog.write(b"largest", Some(&self.now.to_be_bytes()), 0, &[]);
        self.flushed = Some(self.now);
        Ok(())
    }
    fn committed(&mut self) {
        self.committed = self.flushed.take().unwrap_or(self.committed);
    }
    fn rollback(&mut self) {
        self.flushed = None;
        self.now = self.committed;
    }
    fn restore(&mut self, record: ChangelogRecord<'_>) -> Result<()> {
        let bytes = record.value.and_then(|v| v.try_into().ok()).unwrap_or_default();
        self.now = i64::from_be_bytes(bytes);
        self.committed = self.now;
        Ok(())
    }
    fn dirty_bytes(&self) -> usize {
        8
    }
}

struct Keep {
    largest: CustomStore<Largest>,
}

impl Processor for Keep {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        self.largest.change(|store| store.now = store.now.max(record.value));
        let largest = self.largest.read(|store| store.now);
        out.forward(record.with_value(largest))
    }
}

#[test]
fn a_store_of_the_programs_own_survives_restarts_and_failed_commits() -> Result<()> {
    let b = StreamsBuilder::new();
    let largest = b.custom_store("largest", BTreeMap::new(), Largest::default);
    b.stream("in").process("keep", move |s| Keep { largest: s.store(largest) }).to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    driver.fail_commits(Some(2));
    let input = driver.input::<String, i64>("in")?;
    for n in [3, 1, 7, 2] {
        input.pipe_at(0, "k", n);
        driver.restart()?;
    }
    let out: Vec<i64> = driver.output::<String, i64>("out")?.read_records().into_iter().map(|r| r.value).collect();
    assert_eq!(out, [3, 3, 7, 7]);
    Ok(())
}

#[test]
fn transformed_tables_keep_their_rows_and_call_for_deletions_too() -> Result<()> {
    let b = StreamsBuilder::new();
    let seen = b.store::<String, i64>("seen");
    let table = b.table::<String, String>("in", "rows").transform_values("numbered", move |s| {
        let seen = s.store(seen);
        move |key: &String, value: Option<String>| {
            let n = seen.get(key)?.unwrap_or(0) + 1;
            seen.put(key, Some(n))?;
            Ok(value.map(|value| format!("{value} {n}")))
        }
    });
    table.to_stream().to("out");
    table.group_by("by-value", |_, v| (v.chars().next().map(String::from), v)).count("counts").to_stream().to("counts");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, Option<String>>("in")?;
    input.pipe_at(0, "a", Some("x".to_owned()));
    input.pipe_at(1, "a", None);
    input.pipe_at(2, "a", Some("y".to_owned()));
    let out = driver.output::<String, Option<String>>("out")?.read_records();
    assert_eq!(out, [row("a", Some("x 1".into()), 0), row("a", None, 1), row("a", Some("y 3".into()), 2)]);
    let counts = driver.output::<String, Option<i64>>("counts")?.read_records();
    assert_eq!(counts, [row("x", Some(1), 0), row("x", Some(0), 1), row("y", Some(1), 2)]);
    Ok(())
}

#[test]
fn a_read_only_store_is_its_topic_and_needs_no_changelog() -> Result<()> {
    let b = StreamsBuilder::new();
    let about = b.read_only_store::<String, String>("words", "about");
    b.stream("in").process("enrich", move |s| Enrich { about: s.store(about) }).to("out");
    let topology = b.build()?;
    assert!(topology.stores().iter().all(|store| store.changelog.is_none()));
    let driver = TopologyTestDriver::new(topology)?;
    let words = driver.input::<String, Option<String>>("words")?;
    words.pipe_at(0, "uno", Some("one".to_owned()));
    words.pipe_at(1, "due", Some("two".to_owned()));
    words.pipe_at(2, "due", None);
    driver.restart()?;
    let input = driver.input::<String, String>("in")?;
    input.pipe_at(3, "k", "uno");
    input.pipe_at(4, "k", "due");
    let out: Vec<String> = driver.output::<String, String>("out")?.read().into_iter().map(|(_, v)| v).collect();
    assert_eq!(out, ["uno one", "due ?"]);
    Ok(())
}

/// Does to a store what its key says, and tells how that went.
struct Writing(KeyValueStore<String, String>);

impl Processor for Writing {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, record: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
        let Writing(rows) = self;
        let (key, value) = ("a".to_owned(), record.value.clone());
        let done = match record.key.as_str() {
            "put" => rows.put(&key, Some(value)).map(drop),
            "put_at" => rows.put_at(&key, Some(value), 7).map(drop),
            "put_all" => rows.put_all([(key, Some(value))]),
            "put_if_absent" => rows.put_if_absent(&"b".into(), value).map(drop),
            "delete" => rows.delete(&key).map(drop),
            "update" => rows.update(&key, |row| *row = Some(value)),
            _ => Ok(()),
        };
        let told = done.err().map(|error| error.to_string());
        let row = rows.get(&"a".into())?;
        out.forward(record.with_value(format!("{told:?} {row:?}")))
    }
}

/// Kafka Streams throws an `UnsupportedOperationException` from a global store, and takes what is put into a read-only one until the
/// next start.
#[test]
fn what_a_topic_alone_fills_takes_nothing_from_a_processor() -> Result<()> {
    for global in [true, false] {
        let b = StreamsBuilder::new();
        let rows = match global {
            true => b.global_store("words", "about", |rows: KeyValueStore<String, String>| {
                move |r: Record<Option<String>, Option<String>>| rows.put(&r.key.unwrap_or_default(), r.value).map(drop)
            }),
            false => b.read_only_store("words", "about"),
        };
        b.stream("in").process("write", move |setup| Writing(setup.store(rows))).to("out");
        let driver = TopologyTestDriver::new(b.build()?)?;
        let (words, input) = (driver.input::<String, String>("words")?, driver.input::<String, String>("in")?);
        let out = driver.output::<String, String>("out")?;
        words.pipe("a", "x");
        let refused = "store `about` is filled by the records of topic `words` alone: what a processor puts there would be gone with \
                       the next start\n  help: write it to that topic, or into another store";
        for how in ["put", "put_at", "put_all", "put_if_absent", "delete", "update"] {
            input.pipe(how, "y");
            assert_eq!(out.read()[0].1, format!("{:?} {:?}", Some(refused), Some("x")));
        }
    }
    Ok(())
}
