//! An error that no other handler took: the application asks what to do, and a thread that is replaced goes on from its
//! tasks' last commit, with nothing lost and nothing twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use millstream_core::{Result, RuntimeConfig, State, Topology, Uncaught};
use millstream_dsl::StreamsBuilder;
use millstream_tests::embedded::Embedded;

const PARTITIONS: i32 = 4;
const PER_PARTITION: usize = 1_000;

fn config(threads: usize) -> RuntimeConfig {
    // Many small units of work, so that a failure is often in the middle of one.
    RuntimeConfig {
        threads,
        poll_records: 100,
        uncommitted_bytes: 4 << 10,
        batch_bytes: 512,
        ..RuntimeConfig::embedded("app")
    }
}

fn words(partition: i32) -> Vec<String> {
    (0..PER_PARTITION).map(|n| format!("word-{}", (n * 7 + n / 13 + partition as usize * 5) % 37)).collect()
}

/// Counts words behind a change of key; `check` sees every one of them before.
fn program(check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("counts", PARTITIONS);
    b.stream::<Option<String>, String>("in")
        .try_select_key(move |_, word| check(word).map(|()| word.clone()))
        .group_by_key()
        .count("words")
        .to_stream()
        .to("counts");
    b.build()
}

fn write(embedded: &Embedded) -> Result<()> {
    for partition in 0..PARTITIONS {
        let words = words(partition);
        let records: Vec<_> = words.iter().enumerate().map(|(n, word)| (n as i64, None, word.as_str())).collect();
        embedded.write("in", partition, &records)?;
    }
    Ok(())
}

/// Every count of every word was told once and in order.
fn check(embedded: &Embedded) -> Result<()> {
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    (0..PARTITIONS).flat_map(words).for_each(|word| *wanted.entry(word).or_default() += 1);
    let mut told: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (word, count) in embedded.read::<String, i64>("counts")?.concat() {
        told.entry(word).or_default().push(count);
    }
    let all: BTreeMap<String, Vec<i64>> = wanted.into_iter().map(|(word, n)| (word, (1..=n).collect())).collect();
    assert_eq!(told, all);
    Ok(())
}

/// Errors and panics in turn, again and again, a few hundred records apart: exactly once is what comes of it.
#[test]
fn a_replaced_thread_goes_on_exactly_where_the_last_commit_was() -> Result<()> {
    for threads in [1, 2, 4] {
        let embedded = Embedded::in_memory()?;
        let read = AtomicU64::new(0);
        let topology = program(move |word| match read.fetch_add(1, Ordering::Relaxed) {
            700 | 2_100 => Err(format!("no {word}")),
            n => {
                assert!(!matches!(n, 1_400 | 2_800), "not {word}");
                Ok(())
            }
        })?;
        embedded.create("in", PARTITIONS)?;
        write(&embedded)?;
        let mut streams = embedded.streams(topology, config(threads))?;
        let failures = Arc::new(AtomicU64::new(0));
        let failed = failures.clone();
        streams.on_uncaught(move |_| {
            failed.fetch_add(1, Ordering::Relaxed);
            Uncaught::ReplaceThread
        });
        let counters = streams.run_to_end()?;
        assert_eq!(failures.load(Ordering::Relaxed), 4, "{threads} threads");
        // What was lost with a thread was processed again; the threads that failed are counted too.
        assert!(counters.process > 2 * (PARTITIONS as usize * PER_PARTITION) as u64);
        check(&embedded)?;
    }
    Ok(())
}

/// From Running to Rebalancing and back, as in Kafka Streams.
#[test]
fn a_replacement_is_a_rebalance() -> Result<()> {
    for threads in [1, 2] {
        let embedded = Embedded::in_memory()?;
        let first = AtomicU64::new(0);
        let topology = program(move |word| {
            let fails = word == "bad" && first.fetch_add(1, Ordering::Relaxed) == 0;
            if fails { Err("it was bad".into()) } else { Ok(()) }
        })?;
        let mut streams = embedded.streams(topology, config(threads))?;
        let (tell, told) = channel();
        streams.on_state_change(move |from, to| tell.send((from, to)).expect("somebody listens"));
        streams.on_uncaught(|_| Uncaught::ReplaceThread);
        streams.start()?;
        let mut heard = Vec::new();
        let mut wait_for = |wanted: State| {
            while heard.last().is_none_or(|(_, to)| *to != wanted) {
                heard.push(told.recv().expect("states come until the end"));
            }
        };
        wait_for(State::Running);
        embedded.write("in", 0, &[(0, None, "bad")])?;
        wait_for(State::Rebalancing);
        wait_for(State::Running);
        // A second start is refused as before.
        assert!(streams.start().is_err());
        streams.drain()?;
        streams.join()?;
        heard.extend(told.try_iter());
        use State::{Created, NotRunning, PendingShutdown, Rebalancing, Running};
        let wanted = [
            (Created, Rebalancing),
            (Rebalancing, Running),
            (Running, Rebalancing),
            (Rebalancing, Running),
            (Running, PendingShutdown),
            (PendingShutdown, NotRunning),
        ];
        assert_eq!(heard, wanted, "{threads} threads");
        assert_eq!(embedded.read::<String, i64>("counts")?.concat(), [("bad".to_owned(), 1)]);
    }
    Ok(())
}

/// Without an answer that says otherwise the application ends, and `join` returns the error that the handler was asked
/// about.
#[test]
fn everything_else_stops_all_threads() -> Result<()> {
    type Handler = Box<dyn Fn(&millstream_core::Stopper) -> Uncaught + Send + Sync>;
    let handlers: [Handler; 4] = [
        Box::new(|_| Uncaught::StopClient),
        Box::new(|_| Uncaught::StopApplication),
        Box::new(|_| panic!("a handler that panics has not answered")),
        // Who has been told to stop is not replaced.
        Box::new(|stopper| {
            stopper.stop();
            Uncaught::ReplaceThread
        }),
    ];
    for handler in handlers {
        let embedded = Embedded::in_memory()?;
        embedded.create("in", PARTITIONS)?;
        embedded.write("in", 2, &[(0, None, "good"), (0, None, "bad")])?;
        let topology = program(|word| if word == "bad" { Err("it was bad".into()) } else { Ok(()) })?;
        let mut streams = embedded.streams(topology, config(2))?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (asks, stopper) = (asked.clone(), streams.stopper());
        streams.on_uncaught(move |error| {
            asks.lock().expect("not poisoned").push(error.to_string());
            handler(&stopper)
        });
        streams.start()?;
        let error = streams.join().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.starts_with("KSTREAM-KEY-SELECT-0000000001 failed in task 0_2 at in-2@1: it was bad\n"),
            "{error}"
        );
        assert_eq!(*asked.lock().expect("not poisoned"), [error]);
        assert_eq!(streams.state(), State::Error);
        assert_eq!(embedded.read::<String, i64>("counts")?.concat(), []);
    }
    Ok(())
}
