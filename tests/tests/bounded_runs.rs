//! A run to the end of its input is not over before all of it is committed, whatever fails on the way.
//!
//! The last commit of a run, of windows that its end had closed, could fail and be rolled back: the run ended without them. A full disk
//! at a commit between two rounds ended the run with an error instead of holding it up. Records that waited for a partner in an
//! outer join waited on. Windows that were passed on once never were again in a later run, since the end of the first counted as
//! the time up to which they had closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_core::{
    BatchBuilder, Error, ErrorHandlerContext, ExceptionHandler, HandlerResponse, Log, ProducerOptions, Result,
    RuntimeConfig, StateDisk, Streams, TopicPartition, Topology,
};
use millstream_dsl::{
    BufferConfig, JoinWindows, KStream, KTable, MIN, SECOND, SessionWindows, SlidingWindows, StreamsBuilder,
    TimeWindows, Windowed, pattern,
};
use millstream_tests::embedded::Embedded;
use millstream_tests::failing_disk::{FailingCalls, FailingDisk, Trouble};
use millstream_tests::faults::FailingCommits;
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};

fn windows() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    let windows = b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close();
    windows.count("counts").to_stream().map(|key, n| (key.key, n)).to("out");
    b.build()
}

/// A log with some records, and what a run to their end makes of them.
fn world() -> Result<(Embedded, Vec<(String, i64)>)> {
    let embedded = Embedded::in_memory()?;
    drop(embedded.streams(windows()?, RuntimeConfig::embedded("app"))?);
    embedded.write(
        "in",
        0,
        &[(0, Some("a"), "x"), (500, Some("a"), "x"), (1_000, Some("b"), "x"), (5_000, Some("c"), "x")],
    )?;
    Ok((embedded, [("a", 2), ("b", 1), ("c", 1)].map(|(key, n)| (key.to_owned(), n)).to_vec()))
}

#[test]
fn a_last_commit_that_fails_is_done_again() -> Result<()> {
    for every in [2, 3, 4, 5] {
        let (embedded, expected) = world()?;
        let log: Arc<dyn Log> = Arc::new(FailingCommits::new(Arc::new(embedded.log.clone()), every));
        Streams::new(windows()?, RuntimeConfig::embedded("app"), log, embedded.clock.clone())?.run_to_end()?;
        assert_eq!(embedded.read::<String, i64>("out")?.concat(), expected, "every {every}th");
    }
    Ok(())
}

#[test]
fn a_full_disk_for_state_holds_it_up() -> Result<()> {
    let mut held_up = 0;
    for from in 0..8 {
        let (embedded, expected) = world()?;
        let disk = FailingDisk::new(Arc::new(SimDisk::new(Dice::new(1), Mishaps::default(), 0)));
        disk.fail(Some(FailingCalls { from, times: 1, trouble: Trouble::Full }));
        let disk = Some(Arc::new(disk) as Arc<dyn StateDisk>);
        let mut streams = embedded.streams(windows()?, RuntimeConfig { disk, ..RuntimeConfig::embedded("app") })?;
        let waits = Arc::new(AtomicUsize::new(0));
        let waited = waits.clone();
        streams.on_held_up(move |error| {
            assert!(error.is_retriable() && !error.is_fatal(), "{error}");
            waits.fetch_add(1, Ordering::Relaxed);
        });
        match streams.run_to_end() {
            // The last call is that of the end, when everything is committed.
            Err(error) => assert!(error.to_string().contains("told to fail") && error.is_retriable(), "{error}"),
            Ok(_) => held_up += waited.load(Ordering::Relaxed),
        }
        assert_eq!(embedded.read::<String, i64>("out")?.concat(), expected, "from {from}");
    }
    assert!(held_up > 0);
    Ok(())
}

/// Keys and values, as text.
type Told = Vec<(String, Option<String>)>;

/// What a program writes to `out` in each of several runs to the end of their input: text records with a time and a key.
fn runs(program: impl Fn(&StreamsBuilder), inputs: &[&[(&str, i64, &str)]]) -> Result<Vec<Told>> {
    let embedded = Embedded::in_memory()?;
    let make = || {
        let b = StreamsBuilder::new();
        b.topic("in", 1).topic("other", 1).topic("out", 1);
        program(&b);
        b.build()
    };
    let mut seen = 0;
    let mut told = Vec::new();
    for records in inputs {
        let streams = embedded.streams(make()?, RuntimeConfig::embedded("app"))?;
        for (topic, time, key) in *records {
            embedded.write(topic, 0, &[(*time, Some(*key), "x")])?;
        }
        streams.run_to_end()?;
        let out = embedded.read::<String, Option<String>>("out")?.concat();
        told.push(out[seen..].to_vec());
        seen = out.len();
    }
    Ok(told)
}

fn texts(runs: Vec<Vec<(String, Option<String>)>>) -> Vec<Vec<String>> {
    let text = |(key, value): (String, Option<String>)| format!("{key} {}", value.unwrap_or_else(|| "~".into()));
    runs.into_iter().map(|run| run.into_iter().map(text).collect()).collect()
}

#[test]
fn records_that_wait_for_a_partner_leave_with_the_end() -> Result<()> {
    for windows in [JoinWindows::of(SECOND), JoinWindows::of(SECOND).exact()] {
        let join = |b: &StreamsBuilder| {
            let (left, right) = (b.stream::<String, String>("in"), b.stream::<String, String>("other"));
            left.outer_join("j", &right, windows, |l, r| format!("{} {}", l.is_some(), r.is_some())).to("out");
        };
        let first: &[_] = &[("in", 0, "a"), ("other", 500, "b"), ("other", 600, "c"), ("in", 700, "c")];
        let told = texts(runs(join, &[first, &[], &[("in", 900, "d")]])?);
        let wanted: [&[&str]; 3] = [&["c true true", "a true false", "b false true"], &[], &["d true false"]];
        assert_eq!(told, wanted);
    }
    Ok(())
}

/// What an operator lets go at the end reaches those below while they may still do so: a node ends before those that it feeds,
/// whichever of its inputs a task was built from first.
#[test]
fn what_the_end_lets_go_is_there_for_what_ends_below() -> Result<()> {
    for flipped in [false, true] {
        let program = |b: &StreamsBuilder| {
            let other = || b.stream::<String, String>("other");
            // The sources are built in the order in which they are asked for.
            let plain = flipped.then(other);
            let counts = b.stream::<String, String>("in").group_by_key().count("n");
            let late = counts.suppress_for("s", MIN, BufferConfig::unbounded()).to_stream();
            let plain = plain.unwrap_or_else(other);
            let joined = match flipped {
                true => plain.left_join("j", &late, JoinWindows::of(SECOND), |_, n| format!("{n:?}")),
                false => late.left_join("j", &plain, JoinWindows::of(SECOND), |n, _| format!("{n}")),
            };
            let windows = joined.group_by_key().windowed_by(TimeWindows::of(MIN)).emit_on_close();
            windows.reduce("w", |a, b| a + &b).to_stream().map(|key, text| (key.key, text)).to("out");
        };
        let told = texts(runs(program, &[&[("in", 0, "a"), ("in", 1, "a"), ("other", 5, "b")]])?);
        let wanted: &[&str] = if flipped { &["b None"] } else { &["a 2"] };
        assert_eq!(told, [wanted], "{flipped}");
    }
    Ok(())
}

/// Start and value of windows that are passed on once.
fn shown(table: &KTable<Windowed<String>, i64>) {
    let row =
        |key: Windowed<String>, n: Option<i64>| (format!("{} {}", key.key, key.window.start), n.map(|n| n.to_string()));
    table.to_stream().map(row).to("out");
}

type Tumbling = fn(&StreamsBuilder);

#[test]
fn windows_that_are_passed_on_once_are_so_in_every_run() -> Result<()> {
    let programs: [(&str, Tumbling); 4] = [
        ("tumbling", |b| {
            let grouped = b.stream::<String, String>("in").group_by_key();
            shown(&grouped.windowed_by(TimeWindows::of(SECOND)).emit_on_close().count("n"));
        }),
        ("sliding", |b| {
            let grouped = b.stream::<String, String>("in").group_by_key();
            shown(&grouped.windowed_by(SlidingWindows::of(SECOND)).emit_on_close().count("n"));
        }),
        ("sessions", |b| {
            let grouped = b.stream::<String, String>("in").group_by_key();
            shown(&grouped.windowed_by(SessionWindows::of(SECOND)).emit_on_close().count("n"));
        }),
        ("cogroup", |b| {
            let grouped = ["in", "other"].map(|topic| b.stream::<String, String>(topic).group_by_key());
            let both = grouped[0].cogroup(|_, _, n: &mut i64| *n += 1).cogroup(&grouped[1], |_, _, n| *n += 1);
            shown(&both.windowed_by(TimeWindows::of(SECOND)).emit_on_close().aggregate("n", || 0));
        }),
    ];
    for (name, program) in programs {
        let run = |from: i64| [("in", from, "a"), ("in", from + 2_500, "a"), ("in", from + 5_000, "a")];
        let [first, second, third] = [run(3_000), run(13_000), run(23_000)];
        let told = runs(program, &[&first, &second, &[], &third])?;
        let counts: Vec<_> = told.iter().map(|run| run.iter().map(|(_, n)| n.as_deref()).collect::<Vec<_>>()).collect();
        assert_eq!(counts, [vec![Some("1"); 3], vec![Some("1"); 3], vec![], vec![Some("1"); 3]], "{name}");
    }
    Ok(())
}

/// A window that the end of a run has passed on goes on in the next one, and is passed on again with what comes to it.
#[test]
fn a_window_goes_on_where_the_end_of_a_run_has_passed_it_on() -> Result<()> {
    let first: &[_] = &[("in", 1_000, "a"), ("in", 1_100, "b")];
    let second: &[_] = &[("in", 1_200, "a"), ("in", 1_050, "b"), ("in", 2_500, "c")];
    let third: &[_] = &[("in", 9_000, "a")];
    let tumbling = |b: &StreamsBuilder| {
        let windows =
            b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close();
        shown(&windows.count("n"));
    };
    let wanted: [&[&str]; 3] = [&["a 1000 1", "b 1000 1"], &["a 1000 2", "b 1000 2", "c 2000 1"], &["a 9000 1"]];
    assert_eq!(texts(runs(tumbling, &[first, second, third])?), wanted);
    let sessions = |b: &StreamsBuilder| {
        let windows =
            b.stream::<String, String>("in").group_by_key().windowed_by(SessionWindows::of(SECOND)).emit_on_close();
        shown(&windows.count("n"));
    };
    let wanted: [&[&str]; 3] = [
        &["a 1000 1", "b 1100 1"],
        // What was passed on is taken back, since it was a part.
        &["a 1000 ~", "a 1000 2", "b 1100 ~", "b 1050 2", "c 2500 1"],
        &["a 9000 1"],
    ];
    assert_eq!(texts(runs(sessions, &[first, second, third])?), wanted);
    Ok(())
}

/// A table below is right across runs too: what a window was is told with what it is.
#[test]
fn what_stands_below_takes_back_what_the_end_of_a_run_had_passed_on() -> Result<()> {
    let sums = |b: &StreamsBuilder| {
        let windows =
            b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close();
        let sums =
            windows.count("n").group_by("g", |key, n| (key.key.clone(), n)).reduce("s", |a, b| a + b, |a, b| a - b);
        sums.to_stream().map(|key, n| (key, n.map(|n| n.to_string()))).to("out");
    };
    let runs = runs(sums, &[&[("in", 0, "a")], &[("in", 1, "a")], &[("in", 2, "a"), ("in", 2_000, "a")]])?;
    let last: Vec<_> = runs.iter().filter_map(|run| run.last()?.1.clone()).collect();
    assert_eq!(last, ["1", "2", "4"]);
    Ok(())
}

/// A suppression drops deletions, but not of what the end of an earlier run has passed on.
#[test]
fn what_the_end_of_a_run_has_let_go_of_a_suppression_is_deleted_when_it_merges() -> Result<()> {
    let sessions = |b: &StreamsBuilder| {
        let counts = b.stream::<String, String>("in").group_by_key().windowed_by(SessionWindows::of(SECOND)).count("n");
        shown(&counts.suppress_until_closed("final", BufferConfig::unbounded()));
    };
    let first: &[_] = &[("in", 1_000, "a"), ("in", 1_100, "b")];
    // What begins and merges within a run was never passed on.
    let second: &[_] = &[("in", 1_200, "a"), ("in", 5_000, "c"), ("in", 5_100, "c")];
    // As in Kafka Streams, what time has let go stays when a record merges it.
    let fourth: &[_] = &[("in", 20_000, "a"), ("in", 21_000, "b"), ("in", 20_500, "a")];
    let wanted: [&[&str]; 4] = [
        &["a 1000 1", "b 1100 1"],
        &["a 1000 ~", "a 1000 2", "c 5000 2"],
        &[],
        &["a 20000 1", "a 20000 2", "b 21000 1"],
    ];
    assert_eq!(texts(runs(sessions, &[first, second, &[], fourth])?), wanted);
    Ok(())
}

/// What passes over a topic of the user's is read before its windows close, whichever end the program names first; so is what comes
/// back to its first topic.
#[test]
fn what_passes_over_a_topic_of_the_users_is_not_left_behind() -> Result<()> {
    for reader_first in [false, true] {
        for by_pattern in [false, true] {
            let embedded = Embedded::in_memory()?;
            let topology = || {
                let b = StreamsBuilder::new();
                b.topic("in", 1).topic("mid", 1).topic("out", 1);
                let write = || b.stream::<String, String>("in").to("mid");
                if !reader_first {
                    write();
                }
                let mid: KStream<String, String> = if by_pattern { b.stream(pattern("m.d")?) } else { b.stream("mid") };
                let windows = mid.group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close().count("n");
                windows.to_stream().map(|key, n| (key.key, n)).to("out");
                if reader_first {
                    write();
                }
                b.build()
            };
            let config = RuntimeConfig { poll_records: 10, ..RuntimeConfig::embedded("app") };
            for number in 1..=2 {
                let streams = embedded.streams(topology()?, config.clone())?;
                let records: Vec<_> = (0..100).map(|_| (2_000 * number, Some("a"), "x")).collect();
                embedded.write("in", 0, &records)?;
                streams.run_to_end()?;
                let counts = vec![("a".to_owned(), 100); number as usize];
                assert_eq!(embedded.read::<String, i64>("out")?.concat(), counts, "{reader_first} {by_pattern}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_comes_back_is_processed_until_nothing_comes() -> Result<()> {
    type Back = fn(&StreamsBuilder, KStream<String, String>);
    let loops: [Back; 5] = [
        |_, more| more.to("in"),
        |_, more| more.to_dynamic(|_, _, _| "in".into()),
        |_, more| more.repartition("again").to("in"),
        |_, more| more.repartition("again").to_dynamic(|_, _, _| "in".into()),
        |b, more| {
            more.to("back");
            b.stream::<String, String>("back").to("in");
        },
    ];
    for (number, comes_back) in loops.into_iter().enumerate() {
        let embedded = Embedded::in_memory()?;
        let b = StreamsBuilder::new();
        b.topic("in", 1).topic("back", 1).topic("done", 1);
        let ahead = b.stream::<String, String>("in");
        ahead.filter(|_, left| left.is_empty()).to("done");
        comes_back(&b, ahead.filter(|_, left| !left.is_empty()).map_values(|left| left[1..].to_owned()));
        let streams = embedded.streams(b.build()?, RuntimeConfig::embedded("app"))?;
        embedded.write("in", 0, &[(1, Some("a"), "xxxxxxxxxxxxxxxxxxxx")])?;
        streams.run_to_end()?;
        assert_eq!(embedded.read::<String, String>("done")?.concat(), [("a".to_owned(), String::new())], "{number}");
    }
    Ok(())
}

/// Somebody else goes on writing: that is for the next run, this one ends, and a window is passed on once. Handlers and records might
/// name any topic, and name others.
#[test]
fn what_others_write_meanwhile_is_for_the_next_run() -> Result<()> {
    for (threads, dynamic) in [(1, false), (2, false), (1, true), (2, true)] {
        let embedded = Embedded::in_memory()?;
        let b = StreamsBuilder::new();
        b.topic("in", 1).topic("out", 1);
        let (log, written) = (embedded.log.clone(), Arc::new(AtomicUsize::new(0)));
        let count = written.clone();
        // One more for each, behind what is there.
        let more = move |_: &String, v: String| {
            let mut producer = log.producer(&ProducerOptions::plain("more"), Arc::default()).expect("a producer");
            let mut batch = BatchBuilder::new();
            batch.push(1, Some(b"a"), Some(b"more"), &[]);
            producer.send(&TopicPartition::new("in", 0), batch).expect("a record");
            count.fetch_add(1, Ordering::Relaxed);
            ("a".to_owned(), v)
        };
        let windows = b.stream::<String, String>("in").map(move |k, v| more(&k, v)).group_by_key();
        let windows = windows.windowed_by(TimeWindows::of(SECOND)).emit_on_close();
        let counts = windows.count("n").to_stream().map(|key, n| (key.key, n));
        if dynamic {
            counts.to_dynamic(|_, _, _| "out".into())
        } else {
            counts.to("out")
        }
        let processing = ExceptionHandler::new(|_: &ErrorHandlerContext<'_>| HandlerResponse::Continue);
        let config = RuntimeConfig { threads, poll_records: 10, processing, ..RuntimeConfig::embedded("app") };
        let streams = embedded.streams(b.build()?, config)?;
        embedded.write("in", 0, &vec![(1, Some("a"), "x"); 100])?;
        streams.run_to_end()?;
        // With those that came before it was asked where its input ends.
        let processed = written.load(Ordering::Relaxed) as i64;
        assert!(processed >= 100, "{processed}");
        assert_eq!(embedded.read::<String, i64>("out")?.concat(), [("a".to_owned(), processed)]);
    }
    Ok(())
}

/// One partition, or one of two topics, has nothing: nobody waits for it, in later runs and behind a rollback neither.
#[test]
fn an_input_that_has_nothing_holds_up_no_other() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let log: Arc<dyn Log> = Arc::new(FailingCommits::new(Arc::new(embedded.log.clone()), 3));
    for run in 0..6 {
        let b = StreamsBuilder::new();
        b.topic("in", 2).topic("other", 2).topic("out", 2);
        let (left, right) = (b.stream::<String, String>("in"), b.stream::<String, String>("other"));
        left.merge(&right).group_by_key().count("n").to_stream().to("out");
        let config = RuntimeConfig { poll_records: 10, ..RuntimeConfig::embedded("app") };
        let streams = Streams::new(b.build()?, config, log.clone(), embedded.clock.clone())?;
        let records: Vec<_> = (0..50).map(|n| (n * 3_600_000, Some("a"), "x")).collect();
        embedded.write(["in", "other"][run % 2], (run / 2 % 2) as i32, &records)?;
        streams.run_to_end()?;
        let seen: usize = embedded.read::<String, i64>("out")?.iter().map(Vec::len).sum();
        assert_eq!(seen, 50 * (run + 1));
    }
    Ok(())
}

/// Topics that records name are written before they may be read, but not where that would turn the flow: windows in front of them close
/// before those behind.
#[test]
fn windows_before_a_topic_that_records_name_close_one_behind_the_other() -> Result<()> {
    for by_name in [false, true] {
        let embedded = Embedded::in_memory()?;
        let b = StreamsBuilder::new();
        b.topic("in", 1).topic("alerts", 1);
        let windows = b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(SECOND));
        let counts = windows.emit_on_close().count("first").to_stream();
        let again = counts
            .group_by("again", |key: &Windowed<String>, _| key.key.clone())
            .windowed_by(TimeWindows::of(MIN))
            .emit_on_close();
        let again = again.count("second").to_stream().map(|key, n| (key.key, n));
        if by_name {
            again.to_dynamic(|_, _, _| "alerts".into())
        } else {
            again.to("alerts")
        }
        let config = RuntimeConfig { poll_records: 1, ..RuntimeConfig::embedded("app") };
        let streams = embedded.streams(b.build()?, config)?;
        let records: Vec<_> = (0..5).map(|n| (n * 2_000, Some("a"), "x")).collect();
        embedded.write("in", 0, &records)?;
        streams.run_to_end()?;
        assert_eq!(embedded.read::<String, i64>("alerts")?.concat(), [("a".to_owned(), 5)], "{by_name}");
    }
    Ok(())
}

/// Windows are closed when nothing flows any more: whoever of those that name topics by their records comes first, it was passed on once
/// for each of the others' rounds.
#[test]
fn windows_behind_a_topic_that_records_name_close_once() -> Result<()> {
    for reader_first in [false, true] {
        let embedded = Embedded::in_memory()?;
        let b = StreamsBuilder::new();
        b.topic("in", 1).topic("alerts", 1).topic("rest", 1).topic("report", 1);
        let read = || {
            let windows = b.stream::<String, String>("alerts").group_by_key().windowed_by(TimeWindows::of(SECOND));
            let counts = windows.emit_on_close().count("n").to_stream().map(|key, n| (key.key, n));
            counts.to_dynamic(|_, _, _| "report".into());
        };
        if reader_first {
            read();
        }
        let input = b.stream::<String, String>("in");
        input.to_dynamic(|_, v, _| if v == "odd" { "alerts".into() } else { "rest".into() });
        if !reader_first {
            read();
        }
        let config = RuntimeConfig { poll_records: 10, ..RuntimeConfig::embedded("app") };
        let streams = embedded.streams(b.build()?, config)?;
        let odd = [5, 80, 150];
        let records: Vec<_> = (0..200).map(|n| (n, Some("a"), if odd.contains(&n) { "odd" } else { "even" })).collect();
        embedded.write("in", 0, &records)?;
        streams.run_to_end()?;
        let report = embedded.read::<String, i64>("report")?.concat();
        assert_eq!(report, [("a".to_owned(), 3)], "reader first: {reader_first}");
    }
    Ok(())
}

/// A topic that others write is read up to its end of the beginning, until the program itself writes there.
#[test]
fn a_topic_has_no_given_end_any_more_when_a_letter_has_gone_there() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("letters", 1).topic("read", 1).topic("out", 1);
    b.stream::<String, String>("letters").to("read");
    let log = embedded.log.clone();
    let work = move |v: String| {
        // Others write behind the end, too.
        let mut producer = log.producer(&ProducerOptions::plain("more"), Arc::default())?;
        let mut batch = BatchBuilder::new();
        batch.push(1, Some(b"a"), Some(b"more"), &[]);
        producer.send(&TopicPartition::new("letters", 0), batch)?;
        if v == "odd" { Err(Error::user("odd")) } else { Ok(v) }
    };
    b.stream::<String, String>("in").try_map_values(work).to("out");
    let letters = |c: &ErrorHandlerContext<'_>| HandlerResponse::ContinueWith(vec![c.dead_letter("letters")]);
    let processing = ExceptionHandler::new(letters);
    let config = RuntimeConfig { poll_records: 10, processing, ..RuntimeConfig::embedded("app") };
    let streams = embedded.streams(b.build()?, config)?;
    embedded.write("letters", 0, &[(0, Some("a"), "first")])?;
    let records: Vec<_> = (0..50).map(|n| (n, Some("a"), if n == 45 { "odd" } else { "even" })).collect();
    embedded.write("in", 0, &records)?;
    streams.run_to_end()?;
    let read = embedded.read::<String, String>("read")?.concat();
    assert_eq!(read, embedded.read::<String, String>("letters")?.concat());
    assert!(read.iter().any(|(_, value)| value == "odd") && read.len() == 52, "{read:?}");
    Ok(())
}

/// An input at its end was waited for as long as `max.task.idle.ms` says.
#[test]
fn nothing_is_waited_for_at_an_input_whose_end_is_reached() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("other", 1).topic("out", 1);
    b.stream::<String, String>("in").merge(&b.stream("other")).group_by_key().count("n").to_stream().to("out");
    let config = RuntimeConfig { max_task_idle: Some(i64::MAX), ..RuntimeConfig::embedded("app") };
    let streams = embedded.streams(b.build()?, config)?;
    embedded.write("other", 0, &[(0, Some("a"), "x")])?;
    embedded.write("in", 0, &[(5, Some("a"), "x"), (6, Some("a"), "x")])?;
    streams.run_to_end()?;
    let counts: Vec<i64> = embedded.read::<String, i64>("out")?.concat().into_iter().map(|(_, n)| n).collect();
    assert_eq!(counts, [1, 2, 3]);
    Ok(())
}

/// Letters that a function of the program's sends are read too, whichever is named first.
#[test]
fn letters_to_a_topic_that_the_program_reads_are_not_left_behind() -> Result<()> {
    for reader_first in [false, true] {
        let embedded = Embedded::in_memory()?;
        let b = StreamsBuilder::new();
        b.topic("in", 1).topic("letters", 1).topic("read", 1).topic("out", 1);
        let read = || b.stream::<String, String>("letters").to("read");
        if reader_first {
            read();
        }
        let odd = |v: String| if v == "odd" { Err(Error::user("odd")) } else { Ok(v) };
        b.stream::<String, String>("in").try_map_values(odd).to("out");
        if !reader_first {
            read();
        }
        let letters = |c: &ErrorHandlerContext<'_>| HandlerResponse::ContinueWith(vec![c.dead_letter("letters")]);
        let processing = ExceptionHandler::new(letters);
        let config = RuntimeConfig { poll_records: 10, processing, ..RuntimeConfig::embedded("app") };
        let streams = embedded.streams(b.build()?, config)?;
        let records: Vec<_> = (0..200).map(|n| (n, Some("a"), if n % 2 == 0 { "odd" } else { "even" })).collect();
        embedded.write("in", 0, &records)?;
        streams.run_to_end()?;
        assert_eq!(embedded.read::<String, String>("read")?.concat().len(), 100, "{reader_first}");
    }
    Ok(())
}

#[test]
fn a_paused_application_says_that_it_has_no_end() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let streams = embedded.streams(windows()?, RuntimeConfig::embedded("app"))?;
    streams.pause();
    let said = streams.run_to_end().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("help: resume() before run_to_end()"), "{said}");
    Ok(())
}
