//! Threads are added and removed, and topics come that a pattern matches, while an application runs under load: nothing is lost
//! and nothing comes twice. While it is paused nothing is processed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use millstream_core::{
    ExceptionHandler, HandlerResponse, QueryError, Result, RuntimeConfig, State, Streams, Topology, Uncaught,
};
use millstream_dsl::{Clock, InteractiveQueries, KeyQuery, Out, Processor, StreamsBuilder, in_store, pattern};
use millstream_tests::embedded::Embedded;

const PARTITIONS: i32 = 4;
const PER_PARTITION: usize = 2_000;

fn config(threads: usize) -> RuntimeConfig {
    // Many small units of work, so that much is under way at any time.
    RuntimeConfig {
        threads,
        poll_records: 50,
        uncommitted_bytes: 4 << 10,
        batch_bytes: 512,
        ..RuntimeConfig::embedded("app")
    }
}

fn word(partition: i32, n: usize) -> String {
    format!("word-{}", (n * 7 + n / 13 + partition as usize * 5) % 37)
}

/// Counts words behind a change of key; `seen` is told how many it has met.
fn counts(seen: Arc<AtomicU64>) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("counts", PARTITIONS);
    b.stream::<Option<String>, String>("in")
        .peek(move |_, _| {
            seen.fetch_add(1, Ordering::Relaxed);
        })
        .select_key(|_, word| word.clone())
        .group_by_key()
        .count("words")
        .to_stream()
        .to("counts");
    b.build()
}

fn write(embedded: &Embedded) -> Result<()> {
    for partition in 0..PARTITIONS {
        let words: Vec<String> = (0..PER_PARTITION).map(|n| word(partition, n)).collect();
        let records: Vec<_> = words.iter().enumerate().map(|(n, word)| (n as i64, None, word.as_str())).collect();
        embedded.write("in", partition, &records)?;
    }
    Ok(())
}

/// Every count of every word was told once and in order.
fn check(embedded: &Embedded) -> Result<()> {
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    let all = (0..PARTITIONS).flat_map(|partition| (0..PER_PARTITION).map(move |n| word(partition, n)));
    all.for_each(|word| *wanted.entry(word).or_default() += 1);
    let mut told: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (word, count) in embedded.read::<String, i64>("counts")?.concat() {
        told.entry(word).or_default().push(count);
    }
    let all: BTreeMap<String, Vec<i64>> = wanted.into_iter().map(|(word, n)| (word, (1..=n).collect())).collect();
    assert_eq!(told, all);
    Ok(())
}

/// An application and what its listener hears.
fn listened(embedded: &Embedded, topology: Topology, config: RuntimeConfig) -> Result<(Streams, Receiver<State>)> {
    let mut streams = embedded.streams(topology, config)?;
    let (tell, told) = channel();
    streams.on_state_change(move |_, to| tell.send(to).expect("somebody listens"));
    Ok((streams, told))
}

fn wait_for(told: &Receiver<State>, wanted: State) {
    while told.recv_timeout(Duration::from_secs(60)).expect("states come") != wanted {}
}

/// Waits until something is so that threads bring about.
fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came about");
}

#[test]
fn threads_that_come_and_go_under_load_lose_and_repeat_nothing() -> Result<()> {
    for threads in [1, 3] {
        let embedded = Embedded::in_memory()?;
        let seen = Arc::new(AtomicU64::new(0));
        let (mut streams, told) = listened(&embedded, counts(seen.clone())?, config(threads))?;
        write(&embedded)?;
        streams.start()?;
        wait_for(&told, State::Running);
        assert_eq!(streams.add_stream_thread()?, format!("app-StreamThread-{}", threads + 1));
        // A second change does not wait for the first.
        streams.add_stream_thread()?;
        wait_for(&told, State::Running);
        assert_eq!(streams.remove_stream_thread()?, format!("app-StreamThread-{}", threads + 2));
        wait_for(&told, State::Running);
        for _ in 0..=threads {
            streams.remove_stream_thread()?;
        }
        let error = streams.remove_stream_thread().expect_err("none is left").to_string();
        let wanted = "a thread is removed from an application that has none\n  help: add_stream_thread() adds one, close() ends it";
        assert_eq!(error, wanted);
        wait_for(&told, State::Running);
        streams.add_stream_thread()?;
        wait_for(&told, State::Running);
        streams.drain()?;
        assert!(streams.add_stream_thread().is_err_and(|e| e.to_string().contains("ends with its input")));
        streams.join()?;
        check(&embedded)?;
        // Nothing was done twice: every rebalance has begun behind a commit.
        assert_eq!(seen.load(Ordering::Relaxed), (PARTITIONS as usize * PER_PARTITION) as u64, "{threads} threads");
        assert_eq!(streams.state(), State::NotRunning);
    }
    Ok(())
}

/// As in Kafka Streams, the last thread may go too: the application is there without any, and ends when it is told to.
#[test]
fn an_application_without_threads_runs_on_and_takes_one_again() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let (mut streams, told) = listened(&embedded, counts(Arc::default())?, config(1))?;
    streams.start()?;
    wait_for(&told, State::Running);
    streams.remove_stream_thread()?;
    wait_for(&told, State::Running);
    write(&embedded)?;
    let without = streams.drain().expect_err("no thread").to_string();
    assert!(without.contains("without threads") && without.contains("add_stream_thread()"), "{without}");
    let word = || in_store("words", KeyQuery::<String, i64>::with_key("word-1".to_owned()));
    let asked = streams.query(word());
    assert!(matches!(asked, Err(QueryError::Restoring)), "nobody has the store, and somebody may: {:?}", asked.err());
    assert_eq!((streams.state(), streams.counters().process), (State::Running, 0));
    assert_eq!(streams.add_stream_thread()?, "app-StreamThread-1");
    streams.query(word().waiting(Duration::from_secs(60)))?;
    wait_for(&told, State::Running);
    streams.drain()?;
    streams.join()?;
    check(&embedded)?;

    // Told to end, and told to end by another thread while it is waited for.
    for by_another in [false, true] {
        let (mut streams, told) = listened(&embedded, counts(Arc::default())?, config(2))?;
        streams.start()?;
        wait_for(&told, State::Running);
        (0..2).try_for_each(|_| streams.remove_stream_thread().map(drop))?;
        wait_for(&told, State::Running);
        if by_another {
            let stopper = streams.stopper();
            let other = std::thread::spawn(move || stopper.stop());
            streams.join()?;
            other.join().expect("it does not panic");
        } else {
            streams.close()?;
        }
        assert_eq!(streams.state(), State::NotRunning);
    }
    Ok(())
}

/// Errors, rebalances and failing threads at once.
#[test]
fn threads_that_fail_meanwhile_lose_and_repeat_nothing() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let read = AtomicU64::new(0);
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("counts", PARTITIONS);
    b.stream::<Option<String>, String>("in")
        .try_select_key(move |_, word| match read.fetch_add(1, Ordering::Relaxed) {
            700 | 2_100 | 3_500 | 5_000 | 7_000 | 9_000 => Err(format!("no {word}")),
            _ => Ok(word.clone()),
        })
        .group_by_key()
        .count("words")
        .to_stream()
        .to("counts");
    let processing = ExceptionHandler::new(|_| HandlerResponse::Fail);
    let (mut streams, told) = listened(&embedded, b.build()?, RuntimeConfig { processing, ..config(2) })?;
    streams.on_uncaught(|_| Uncaught::ReplaceThread);
    write(&embedded)?;
    streams.start()?;
    wait_for(&told, State::Running);
    for round in 0..6 {
        if round % 2 == 0 {
            streams.add_stream_thread()?
        } else {
            streams.remove_stream_thread()?
        };
        wait_for(&told, State::Running);
    }
    streams.drain()?;
    streams.join()?;
    check(&embedded)
}

#[test]
fn threads_are_added_to_what_runs_and_closed_with_the_rest() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let (mut streams, told) = listened(&embedded, counts(Arc::default())?, config(1))?;
    let refused = |error: millstream_core::Error, state: &str| {
        let text = error.to_string();
        let remedy = "help: while it runs; before, set num.stream.threads";
        assert!(text.ends_with(&format!("an application that is {state}\n  {remedy}")), "{text}");
    };
    refused(streams.add_stream_thread().expect_err("not started"), "Created");
    streams.start()?;
    wait_for(&told, State::Running);
    streams.add_stream_thread()?;
    streams.add_stream_thread()?;
    // In the middle of it.
    streams.close()?;
    assert_eq!(streams.state(), State::NotRunning);
    refused(streams.remove_stream_thread().expect_err("closed"), "NotRunning");
    Ok(())
}

#[test]
fn a_query_finds_its_store_wherever_it_is_now() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    // The clock stands still: with every step there is a commit all the same.
    let config = RuntimeConfig { commit_interval: Duration::ZERO, ..config(1) };
    let (mut streams, told) = listened(&embedded, counts(Arc::default())?, config)?;
    embedded.write("in", 0, &[(0, None, "hat")])?;
    streams.start()?;
    wait_for(&told, State::Running);
    let queries = streams.queries();
    let wait = Duration::from_secs(60);
    let hats = || -> i64 {
        let query = KeyQuery::<String, i64>::with_key("hat".to_owned());
        let found = queries.query(in_store("words", query).waiting(wait)).expect("an answer");
        found.value().map_or(0, |row| row.value)
    };
    until(|| hats() == 1);
    for round in 0..10 {
        if round % 2 == 0 {
            streams.add_stream_thread()?
        } else {
            streams.remove_stream_thread()?
        };
        assert_eq!(hats(), 1);
    }
    streams.close()?;
    Ok(())
}

/// The threads look when `metadata.max.age.ms` has passed.
#[test]
fn a_topic_that_comes_later_is_read_from_its_first_record_on() -> Result<()> {
    for threads in [1, 2] {
        let embedded = Embedded::in_memory()?;
        embedded.create("orders-eu", 2)?;
        let b = StreamsBuilder::new();
        b.topic("copies", 1);
        b.stream::<Option<String>, String>(pattern("orders-.*")?).to("copies");
        let age = Duration::from_secs(300);
        let (mut streams, told) = listened(&embedded, b.build()?, config(threads))?;
        let copied = || -> Result<Vec<String>> {
            let mut found: Vec<_> =
                embedded.read::<Option<String>, String>("copies")?.concat().into_iter().map(|(_, v)| v).collect();
            found.sort();
            Ok(found)
        };
        let texts = |topic: &str, n: usize| (0..n).map(|n| format!("{topic} {n:04}")).collect::<Vec<_>>();
        let write = |topic: &str, partition, texts: &[String]| {
            let records: Vec<_> = texts.iter().map(|text| (0, None, text.as_str())).collect();
            embedded.write(topic, partition, &records)
        };
        let old = texts("eu", 1_000);
        write("orders-eu", 0, &old[..500])?;
        streams.start()?;
        wait_for(&told, State::Running);
        // It has more partitions than there were tasks.
        embedded.create("orders-us", 3)?;
        let new = texts("us", 1_000);
        write("orders-us", 2, &new)?;
        write("orders-eu", 0, &old[500..])?;
        embedded.create("invoices", 1)?;
        embedded.write("invoices", 0, &[(0, None, "no order")])?;
        assert_eq!(streams.context().plan.tasks.len(), 2);
        embedded.clock.advance(age);
        wait_for(&told, State::Running);
        assert_eq!(streams.context().plan.tasks.len(), 3);
        write("orders-us", 0, &["last".to_owned()])?;
        streams.drain()?;
        streams.join()?;
        let mut wanted = [old, new, vec!["last".to_owned()]].concat();
        wanted.sort();
        assert_eq!(copied()?, wanted, "{threads} threads");
    }
    Ok(())
}

#[test]
fn topics_that_state_does_not_fit_are_an_error_that_says_so() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("orders-eu", 1)?;
    let b = StreamsBuilder::new();
    let rows = b.store::<String, i64>("rows");
    b.stream::<Option<String>, String>(pattern("orders-.*")?).process("keeps", move |setup| {
        let _rows = setup.store(rows);
        Ticking(Arc::default())
    });
    let (mut streams, told) = listened(&embedded, b.build()?, config(1))?;
    streams.start()?;
    wait_for(&told, State::Running);
    embedded.create("orders-us", 2)?;
    embedded.clock.advance(Duration::from_secs(300));
    wait_for(&told, State::Error);
    let error = streams.join().expect_err("two partitions do not fit one").to_string();
    assert!(error.contains("internal topic `app-rows-changelog` has 1 partitions"), "{error}");
    Ok(())
}

/// A topic of fewer partitions fits the changelog, and its keys would be counted apart from the others'.
#[test]
fn a_topic_that_comes_later_with_other_partitions_ends_what_keeps_rows_by_key() -> Result<()> {
    for (there, comes) in [(2, 1), (1, 2)] {
        let embedded = Embedded::in_memory()?;
        embedded.create("orders-eu", there)?;
        let program = || {
            let b = StreamsBuilder::new();
            b.stream::<String, String>(pattern("orders-.*")?).group_by_key().count("counts");
            b.build()
        };
        let (mut streams, told) = listened(&embedded, program()?, config(1))?;
        streams.start()?;
        wait_for(&told, State::Running);
        embedded.create("orders-us", comes)?;
        embedded.clock.advance(Duration::from_secs(300));
        wait_for(&told, State::Error);
        let wanted = format!(
            "the topology cannot run: store `counts` brings topics together that are not co-partitioned: `orders-eu` {there}, \
             `orders-us` {comes}\n  help: .repartition(Repartitioned::named(name).number_of_partitions(2)) before it, or give the topics equal partitions"
        );
        let again = embedded.streams(program()?, config(1)).err();
        for error in [streams.join().err(), again] {
            assert_eq!(error.map(|error| error.to_string()), Some(wanted.clone()));
        }
    }
    Ok(())
}

struct Ticking(Arc<AtomicU64>);

impl Processor for Ticking {
    type KIn = Option<String>;
    type VIn = String;
    type KOut = Option<String>;
    type VOut = String;

    fn process(
        &mut self,
        record: millstream_core::Record<Option<String>, String>,
        out: &mut Out<'_, Option<String>, String>,
    ) -> Result<()> {
        out.forward(record)
    }
}

#[test]
fn what_is_paused_commits_and_answers_and_does_nothing_else() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let ticks = Arc::new(AtomicU64::new(0));
    let count = ticks.clone();
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    let ticking = b.stream::<Option<String>, String>("in").process("tick", move |setup| {
        setup.every(Duration::from_secs(1), Clock::Wall, |ticking: &mut Ticking, _, _| {
            ticking.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        Ticking(count.clone())
    });
    ticking.to("out");
    ticking.select_key(|_, v| v.clone()).to_table("rows");
    let config = RuntimeConfig { commit_interval: Duration::ZERO, ..config(2) };
    let (mut streams, told) = listened(&embedded, b.build()?, config)?;
    // Before the start too.
    streams.pause();
    assert!(streams.is_paused());
    embedded.write("in", 0, &[(0, None, "a")])?;
    streams.start()?;
    wait_for(&told, State::Running);
    embedded.clock.advance(Duration::from_secs(10));
    let value = |word: &str| -> Option<String> {
        let query = KeyQuery::<String, String>::with_key(word.to_owned());
        streams.query(in_store("rows", query)).expect("an answer").value().map(|row| row.value.clone())
    };
    // A query is answered behind a step, and there was time for several.
    for _ in 0..5 {
        assert_eq!(value("a"), None);
    }
    assert_eq!((streams.counters().process, ticks.load(Ordering::Relaxed)), (0, 0));
    streams.resume();
    until(|| value("a").is_some());
    until(|| ticks.load(Ordering::Relaxed) == 1);
    streams.pause();
    value("a");
    let processed = streams.counters().process;
    embedded.write("in", 0, &[(0, None, "b")])?;
    for _ in 0..5 {
        assert_eq!(value("b"), None);
    }
    assert_eq!(streams.counters().process, processed);
    // What was processed is committed, and so it shows.
    until(|| embedded.read::<Option<String>, String>("out").is_ok_and(|out| out.concat().len() == 1));
    streams.close()?;
    Ok(())
}

#[test]
fn pausing_under_load_loses_and_repeats_nothing() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let seen = Arc::new(AtomicU64::new(0));
    let (mut streams, told) = listened(&embedded, counts(seen.clone())?, config(2))?;
    write(&embedded)?;
    streams.start()?;
    wait_for(&told, State::Running);
    let all = (PARTITIONS as usize * PER_PARTITION) as u64;
    for round in 0..20 {
        streams.pause();
        if round % 5 == 4 {
            // A rebalance does not wake what is paused.
            if round % 2 == 0 {
                streams.add_stream_thread()?
            } else {
                streams.remove_stream_thread()?
            };
            wait_for(&told, State::Running);
            let before = seen.load(Ordering::Relaxed);
            // A query is answered behind a step: every thread has taken several.
            for n in 0..5 {
                for partition in 0..PARTITIONS {
                    let query = KeyQuery::<String, i64>::with_key(word(partition, n));
                    streams.query(in_store("words", query)).expect("an answer");
                }
            }
            assert_eq!(seen.load(Ordering::Relaxed), before);
        }
        let before = seen.load(Ordering::Relaxed);
        streams.resume();
        until(|| seen.load(Ordering::Relaxed) > before || before == all);
    }
    streams.drain()?;
    streams.join()?;
    check(&embedded)?;
    assert_eq!(seen.load(Ordering::Relaxed), all);
    Ok(())
}

#[test]
fn state_is_not_cleaned_up_while_it_is_in_use() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let (mut streams, told) = listened(&embedded, counts(Arc::default())?, config(1))?;
    streams.clean_up()?;
    streams.start()?;
    wait_for(&told, State::Running);
    let error = streams.clean_up().expect_err("it runs").to_string();
    let wanted = "the application is Running: its state is in use\n  help: clean_up() before start() or behind close()";
    assert_eq!(error, wanted);
    streams.close()?;
    streams.clean_up()
}
