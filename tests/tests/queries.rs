//! An application's stores are asked while it runs, from other threads: what a query sees, what it waits for, and that it has
//! an answer or an error whatever its stream thread does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_core::{
    Isolation, Position, Queries, QueryError, Result, RuntimeConfig, State, StateRestoreListener, Streams,
    TopicPartition, Topology, Uncaught,
};
use millstream_dsl::{InteractiveQueries, KeyQuery, RangeQuery, StreamsBuilder, in_store, pattern};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::embedded::Embedded;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Counts texts by key.
fn counts() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 2);
    b.stream::<String, String>("in").group_by_key().count("counts").to_stream().to("out");
    b.build()
}

fn started(topology: Topology, config: RuntimeConfig) -> Result<(Embedded, Streams)> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 2)?;
    embedded.create("out", 2)?;
    let mut streams = embedded.streams(topology, config)?;
    streams.start()?;
    Ok((embedded, streams))
}

fn key(key: &str) -> KeyQuery<String, i64> {
    KeyQuery::with_key(key.to_owned())
}

/// `read your own write`: the answer has what was written before the query.
fn behind(records: [i64; 2]) -> Position {
    Position::new().with("in", 0, records[0]).with("in", 1, records[1])
}

fn count(
    streams: &impl InteractiveQueries,
    of: &str,
    isolation: Isolation,
    bound: Position,
) -> Result<Option<i64>, QueryError> {
    let request = in_store("counts", key(of)).with_isolation(isolation).with_position_bound(bound).waiting(LONG);
    Ok(streams.query(request)?.value().map(|row| row.value))
}

/// A thread that waits for input would answer with the next record, or never.
#[test]
fn an_idle_thread_answers() -> Result<()> {
    for threads in [1, 2] {
        let (embedded, streams) = started(counts()?, RuntimeConfig { threads, ..RuntimeConfig::embedded("app") })?;
        embedded.write("in", 0, &[(1, Some("a"), "x"), (2, Some("a"), "x"), (3, Some("b"), "x")])?;
        embedded.write("in", 1, &[(1, Some("c"), "x")])?;
        assert_eq!(count(&streams, "a", Isolation::ReadUncommitted, behind([3, 1]))?, Some(2));
        // By now nothing comes any more.
        for _ in 0..100 {
            assert_eq!(count(&streams, "c", Isolation::ReadUncommitted, Position::new())?, Some(1));
        }
        assert_eq!(count(&streams, "d", Isolation::ReadUncommitted, Position::new())?, None);
    }
    Ok(())
}

/// What an abort may take back must not be seen, and neither must its absence: an old row shows while a new one waits.
#[test]
fn committed_hides_what_is_not() -> Result<()> {
    let (embedded, streams) = started(counts()?, RuntimeConfig::embedded("app"))?;
    let committed = |bound| count(&streams, "a", Isolation::ReadCommitted, bound);
    let latest = |bound| count(&streams, "a", Isolation::ReadUncommitted, bound);
    embedded.write("in", 0, &[(1, Some("a"), "x")])?;
    assert_eq!((latest(behind([1, 0]))?, committed(Position::new())?), (Some(1), None));
    // The clock stands still: a commit comes when it moves.
    embedded.clock.advance(Duration::from_millis(100));
    assert_eq!(committed(behind([1, 0]))?, Some(1));
    embedded.write("in", 0, &[(2, Some("a"), "x"), (3, Some("a"), "x")])?;
    assert_eq!((latest(behind([3, 0]))?, committed(Position::new())?), (Some(3), Some(1)));
    embedded.clock.advance(Duration::from_millis(100));
    assert_eq!(committed(behind([3, 0]))?, Some(3));
    Ok(())
}

/// A program with a pattern anywhere told every typo to ask again.
#[test]
fn a_bound_in_what_a_pattern_may_come_to_read_is_waited_for_and_no_other() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in-0", 1)?;
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    b.stream::<String, String>(pattern("in-.*")?).group_by_key().count("counts").to_stream().to("out");
    let mut streams = embedded.streams(b.build()?, RuntimeConfig::embedded("app"))?;
    streams.start()?;
    let told = |topic: &str| {
        let request = in_store("counts", key("a")).with_position_bound(Position::new().with(topic, 0, 1));
        streams.query(request).map(drop).expect_err("an error")
    };
    while matches!(told("in-1"), QueryError::Restoring) {}
    assert!(matches!(told("in-1"), QueryError::NotUpToBound { .. }));
    assert!(matches!(told("im-1"), QueryError::UnknownTopic { .. }));
    Ok(())
}

/// A bound that is not reached is told with how far the store is, at once or when the caller's patience is over.
#[test]
fn a_bound_is_kept() -> Result<()> {
    let (embedded, streams) = started(counts()?, RuntimeConfig::embedded("app"))?;
    embedded.write("in", 0, &[(1, Some("a"), "x")])?;
    assert_eq!(count(&streams, "a", Isolation::ReadUncommitted, behind([1, 0]))?, Some(1));
    let request = || {
        let request = in_store("counts", key("a")).with_isolation(Isolation::ReadUncommitted);
        request.with_position_bound(behind([2, 0]))
    };
    for wait in [Duration::ZERO, Duration::from_millis(1)] {
        match streams.query(request().waiting(wait)) {
            Err(error @ QueryError::NotUpToBound { .. }) => assert_eq!(
                (error.to_string(), error.is_retriable()),
                ("partition 0 has come to in-0@1 and not to the query's bound\n  help: ask again, or let the query wait".to_owned(), true)
            ),
            other => panic!("{other:?}"),
        }
    }
    // A bound in what another partition reads says nothing here.
    let elsewhere = in_store("counts", key("a")).with_partitions([0]).with_isolation(Isolation::ReadUncommitted);
    assert!(streams.query(elsewhere.with_position_bound(Position::new().with("in", 1, 99))).is_ok());
    // One in a topic that is not read is never reached: a name that is spelt wrong is no "whatever is there", and nothing to wait for.
    let misspelt = request().with_position_bound(Position::new().with("im", 0, 0));
    let error = streams.query(misspelt.waiting(LONG)).map(drop).expect_err("an error");
    assert_eq!(
        (error.to_string(), error.is_retriable()),
        (
            "the query's bound is in `im`, and the task of `counts` does not read it\n  help: it reads in".to_owned(),
            false
        )
    );
    // Somebody who waits is told when it comes.
    let queries = streams.queries();
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || count(&queries, "a", Isolation::ReadUncommitted, behind([2, 0])));
        embedded.write("in", 0, &[(2, Some("a"), "x")])?;
        assert_eq!(waits.join().expect("it does not panic")?, Some(2));
        Ok(())
    })
}

/// Rows that have left memory for the disk are found there, and those that have changed since are not.
#[test]
fn rows_on_disk_are_found() -> Result<()> {
    let folder = tempfile::tempdir().map_err(millstream_core::Error::user)?;
    let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
    let disk = Arc::new(RocksDisk::new(folder.path(), options)?);
    let (embedded, streams) = started(counts()?, RuntimeConfig { disk: Some(disk), ..RuntimeConfig::embedded("app") })?;
    let keys: Vec<String> = (0..2_500).map(|n| format!("key-{n:04}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (1, Some(key.as_str()), "x")).collect();
    embedded.write("in", 0, &records)?;
    count(&streams, "", Isolation::ReadUncommitted, behind([2_500, 0]))?;
    embedded.clock.advance(Duration::from_millis(100));
    count(&streams, "", Isolation::ReadCommitted, behind([2_500, 0]))?;
    // Two rows change, one is new; none of that is committed.
    embedded.write("in", 0, &[(2, Some("key-0000"), "x"), (2, Some("key-1500"), "x"), (2, Some("key-0000+"), "x")])?;
    count(&streams, "", Isolation::ReadUncommitted, behind([2_503, 0]))?;
    let all = |isolation, query: RangeQuery<String, i64>| -> Result<Vec<(String, i64)>> {
        let found = streams.query(in_store("counts", query).with_isolation(isolation))?;
        Ok(found.rows().map(|row| row.map(|(key, row)| (key, row.value))).collect::<Result<_, _>>()?)
    };
    let mut wanted: Vec<(String, i64)> = keys.iter().map(|key| (key.clone(), 1)).collect();
    assert_eq!(all(Isolation::ReadCommitted, RangeQuery::with_range(..))?, wanted);
    (wanted[0].1, wanted[1_500].1) = (2, 2);
    wanted.insert(1, ("key-0000+".to_owned(), 1));
    assert_eq!(all(Isolation::ReadUncommitted, RangeQuery::with_range(..))?, wanted);
    wanted.reverse();
    assert_eq!(all(Isolation::ReadUncommitted, RangeQuery::with_range(..).descending())?, wanted);
    let some = RangeQuery::with_range("key-1499".to_owned().."key-1502".to_owned());
    let wanted = [("key-1499", 1), ("key-1500", 2), ("key-1501", 1)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(all(Isolation::ReadUncommitted, some)?, wanted);
    for (key, latest, committed) in
        [("key-0000", Some(2), Some(1)), ("key-0007", Some(1), Some(1)), ("key-0000+", Some(1), None)]
    {
        assert_eq!(count(&streams, key, Isolation::ReadUncommitted, Position::new())?, latest, "{key}");
        assert_eq!(count(&streams, key, Isolation::ReadCommitted, Position::new())?, committed, "{key}");
    }
    Ok(())
}

/// Nobody waits for a thread that is not there: before the start, after the end, and when it ends meanwhile.
#[test]
fn no_thread_no_answer() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 2)?;
    embedded.create("out", 2)?;
    let mut streams = embedded.streams(counts()?, RuntimeConfig::embedded("app"))?;
    let queries = streams.queries();
    let asked = || count(&queries, "a", Isolation::ReadUncommitted, behind([1, 0]));
    assert!(matches!(asked(), Err(QueryError::NotRunning(State::Created))));
    streams.start()?;
    std::thread::scope(|scope| {
        let waits = scope.spawn(asked);
        // It is asked before it is stopped, or not: there is no answer in either case.
        let _counters = streams.close()?;
        assert!(matches!(waits.join(), Ok(Err(QueryError::NotRunning(_) | QueryError::Stopped))));
        assert!(matches!(asked(), Err(QueryError::NotRunning(State::NotRunning))));
        Ok(())
    })
}

/// A query that a stream thread has asked, or a listener, waited for that thread for ever, and `close` with it.
#[test]
fn the_applications_own_threads_have_an_error_at_once() -> Result<()> {
    type Ask = Arc<dyn Fn(&'static str) + Send + Sync>;
    struct Restored(Ask);
    impl StateRestoreListener for Restored {
        fn on_restore_end(&self, _: &TopicPartition, _: &str, _: u64) {
            (self.0)("restore listener");
        }
    }
    for threads in [1, 2] {
        let embedded = Embedded::in_memory()?;
        embedded.create("in", 2)?;
        embedded.write("in", 0, &[(1, Some("a"), "x")])?;
        embedded.streams(counts()?, RuntimeConfig::embedded("app"))?.run_to_end()?;
        let (queries, (tell, told)) = (Arc::new(OnceLock::<Queries>::new()), channel());
        let to_ask = queries.clone();
        let ask: Ask = Arc::new(move |who| {
            let Some(queries) = to_ask.get() else { return };
            let answer = count(queries, "a", Isolation::ReadUncommitted, Position::new());
            assert!(matches!(answer, Err(QueryError::OwnThread)), "{who}: {answer:?}");
            tell.send(who).expect("somebody listens");
        });
        let b = StreamsBuilder::new();
        b.topic("in", 2);
        let in_closure = ask.clone();
        let texts = b.stream::<String, String>("in").try_map_values(move |text| {
            in_closure("closure");
            if text == "boom" { Err(text) } else { Ok(text) }
        });
        texts.group_by_key().count("counts").to_stream().to("out");
        let config = RuntimeConfig { threads, ..RuntimeConfig::embedded("app") };
        let mut streams = embedded.streams(b.build()?, config)?;
        assert!(queries.set(streams.queries()).is_ok());
        let in_listener = ask.clone();
        streams.on_state_change(move |_, _| in_listener("state listener"));
        streams.on_restore(Restored(ask.clone()));
        streams.on_uncaught(move |_| {
            ask("error handler");
            Uncaught::StopClient
        });
        streams.start()?;
        // This thread, which has called the listener, may ask again.
        assert_eq!(count(&streams, "a", Isolation::ReadUncommitted, behind([1, 0]))?, Some(1));
        embedded.write("in", 0, &[(1, Some("a"), "boom")])?;
        assert!(streams.join().is_err());
        let who: BTreeSet<_> = told.try_iter().collect();
        assert_eq!(who, BTreeSet::from(["closure", "error handler", "restore listener", "state listener"]));
    }
    Ok(())
}

/// What a thread was asked when it failed was lost with it: the caller was told that it had ended, while another took its place.
#[test]
fn whoever_waits_for_a_failed_thread_is_answered_by_the_next() -> Result<()> {
    let fails = Arc::new(AtomicBool::new(false));
    let b = StreamsBuilder::new();
    b.topic("in", 2);
    let in_closure = fails.clone();
    let texts = b
        .stream::<String, String>("in")
        .try_map_values(move |text| if in_closure.swap(false, Ordering::Relaxed) { Err(text) } else { Ok(text) });
    texts.group_by_key().count("counts").to_stream().to("out");
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 2)?;
    embedded.create("out", 2)?;
    let mut streams = embedded.streams(b.build()?, RuntimeConfig::embedded("app"))?;
    streams.on_uncaught(|_| Uncaught::ReplaceThread);
    streams.start()?;
    for n in 1..=20 {
        let queries = streams.queries();
        std::thread::scope(|scope| -> Result<()> {
            let waits = scope.spawn(move || count(&queries, "a", Isolation::ReadUncommitted, behind([n, 0])));
            // Until the thread has the query of the other, most likely.
            for _ in 0..100 {
                count(&streams, "a", Isolation::ReadUncommitted, Position::new())?;
            }
            fails.store(true, Ordering::Relaxed);
            embedded.write("in", 0, &[(1, Some("a"), "x")])?;
            assert_eq!(waits.join().expect("it does not panic")?, Some(n));
            Ok(())
        })?;
        assert!(!fails.load(Ordering::Relaxed));
    }
    Ok(())
}
