//! An application goes through its states in one order, each told once to the listener, however it ends.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};

use millstream_core::{Result, RuntimeConfig, State, Stopper, Streams, Topology};
use millstream_dsl::{FixedKeyRecord, StreamsBuilder, ValueOut, ValueProcessor};
use millstream_tests::embedded::Embedded;

use State::{Created, Error, NotRunning, PendingError, PendingShutdown, Rebalancing, Running};

fn config(threads: usize) -> RuntimeConfig {
    RuntimeConfig { threads, ..RuntimeConfig::embedded("app") }
}

/// Copies the values of four partitions, if `check` has nothing against them.
fn program(check: impl Fn(&str) -> Result<()> + Send + Sync + 'static) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 4).topic("out", 4);
    let check: Arc<Check> = Arc::new(check);
    b.stream::<Option<String>, String>("in")
        .process_values("check", move |_| Checked { check: check.clone() })
        .to("out");
    b.build()
}

type Check = dyn Fn(&str) -> Result<()> + Send + Sync;

struct Checked {
    check: Arc<Check>,
}

impl ValueProcessor for Checked {
    type K = Option<String>;
    type VIn = String;
    type VOut = String;

    fn process(
        &mut self,
        record: FixedKeyRecord<Option<String>, String>,
        out: &mut ValueOut<'_, Option<String>, String>,
    ) -> Result<()> {
        (self.check)(&record.value)?;
        out.forward(record)
    }
}

/// An application that is not started, and what its listener hears.
fn listened(embedded: &Embedded, topology: Topology, threads: usize) -> Result<(Streams, Receiver<(State, State)>)> {
    let mut streams = embedded.streams(topology, config(threads))?;
    let (tell, told) = channel();
    streams.on_state_change(move |from, to| tell.send((from, to)).expect("somebody listens"));
    Ok((streams, told))
}

fn wait_for(told: &Receiver<(State, State)>, wanted: State) -> Vec<(State, State)> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|(_, to)| *to != wanted) {
        heard.push(told.recv().expect("states come until the end"));
    }
    heard
}

const IN_ORDER: [(State, State); 4] =
    [(Created, Rebalancing), (Rebalancing, Running), (Running, PendingShutdown), (PendingShutdown, NotRunning)];

#[test]
fn closed_it_ends_in_order() -> Result<()> {
    for threads in [1, 2, 4] {
        let embedded = Embedded::in_memory()?;
        let (mut streams, told) = listened(&embedded, program(|_| Ok(()))?, threads)?;
        assert_eq!(streams.state(), Created);
        streams.start()?;
        let mut heard = wait_for(&told, Running);
        assert_eq!(streams.state(), Running);
        streams.close()?;
        assert_eq!(streams.state(), NotRunning);
        heard.extend(told.try_iter());
        assert_eq!(heard, IN_ORDER, "{threads} threads");
        // Once more changes nothing.
        streams.close()?;
        assert_eq!((streams.state(), told.try_iter().count()), (NotRunning, 0));
    }
    Ok(())
}

#[test]
fn drained_it_ends_by_itself_with_all_its_input_processed() -> Result<()> {
    for threads in [1, 2, 4] {
        let embedded = Embedded::in_memory()?;
        let (mut streams, told) = listened(&embedded, program(|_| Ok(()))?, threads)?;
        streams.start()?;
        let mut heard = wait_for(&told, Running);
        for partition in 0..4 {
            embedded.write("in", partition, &[(0, None, "a"), (0, None, "b")])?;
        }
        streams.drain()?;
        assert_eq!(streams.join()?.process, 8);
        heard.extend(told.try_iter());
        assert_eq!(heard, IN_ORDER, "{threads} threads");
        assert_eq!(embedded.read::<Option<String>, String>("out")?.concat().len(), 8);
    }
    Ok(())
}

#[test]
fn stopped_from_within_it_commits_what_it_has_processed() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let stopper: Arc<OnceLock<Stopper>> = Arc::default();
    let within = stopper.clone();
    let topology = program(move |value| {
        if value == "stop" {
            within.get().expect("set before the start").stop();
        }
        Ok(())
    })?;
    let (mut streams, told) = listened(&embedded, topology, 1)?;
    assert!(stopper.set(streams.stopper()).is_ok());
    embedded.write("in", 0, &[(0, None, "a"), (0, None, "stop")])?;
    streams.start()?;
    streams.join()?;
    assert_eq!(wait_for(&told, NotRunning), IN_ORDER);
    let out = embedded.read::<Option<String>, String>("out")?.concat();
    assert_eq!(out, [(None, "a".to_owned()), (None, "stop".to_owned())]);
    Ok(())
}

/// Kafka Streams goes from CREATED to NOT_RUNNING too.
#[test]
fn closed_before_it_has_started_it_does_not_start_any_more() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let (mut streams, told) = listened(&embedded, program(|_| Ok(()))?, 2)?;
    streams.close()?;
    let text = streams.start().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text.starts_with("the application is NotRunning: it starts once\n  help: "), "{text}");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Created, PendingShutdown), (PendingShutdown, NotRunning)]);
    Ok(())
}

/// A second set of threads would have fenced the first.
#[test]
fn it_starts_once() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let (mut streams, told) = listened(&embedded, program(|_| Ok(()))?, 2)?;
    streams.start()?;
    let mut heard = wait_for(&told, Running);
    assert!(streams.start().err().is_some_and(|e| e.to_string().starts_with("the application is Running")));
    embedded.write("in", 1, &[(0, None, "a")])?;
    streams.drain()?;
    assert_eq!(streams.join()?.process, 1);
    heard.extend(told.try_iter());
    assert_eq!(heard, IN_ORDER);
    Ok(())
}

#[test]
fn a_failure_of_one_thread_ends_all_and_is_what_join_returns() -> Result<()> {
    for threads in [1, 2, 4] {
        let embedded = Embedded::in_memory()?;
        let topology = program(|value| match value {
            "bad" => Err(millstream_core::Error::user("it was bad")),
            _ => Ok(()),
        })?;
        let (mut streams, told) = listened(&embedded, topology, threads)?;
        streams.start()?;
        let mut heard = wait_for(&told, Running);
        embedded.write("in", 3, &[(0, None, "bad")])?;
        heard.extend(wait_for(&told, Error));
        let text = streams.join().err().map(|e| e.to_string()).unwrap_or_default();
        let wanted = "KSTREAM-PROCESSVALUES-0000000001 failed in task 0_3 at in-3@0: it was bad\n  help: ";
        assert!(text.starts_with(wanted), "{text}");
        let wanted = [(Created, Rebalancing), (Rebalancing, Running), (Running, PendingError), (PendingError, Error)];
        assert_eq!(heard, wanted, "{threads} threads");
        assert_eq!((streams.state(), told.try_iter().count()), (Error, 0));
        assert_eq!(embedded.read::<Option<String>, String>("out")?.concat(), []);
    }
    Ok(())
}

#[test]
fn a_panic_is_a_failure_with_its_message() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let (mut streams, told) = listened(&embedded, program(|value| panic!("did not expect {value}"))?, 2)?;
    embedded.write("in", 0, &[(0, None, "this")])?;
    streams.start()?;
    let heard = wait_for(&told, Error);
    let text = streams.join().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text.starts_with("task 0_0 at in-0@0 panicked: did not expect this\n  help: "), "{text}");
    assert_eq!(heard.last(), Some(&(PendingError, Error)));
    Ok(())
}

/// A position that must be there and is not: found while the tasks start.
#[test]
fn a_failure_at_the_start_goes_from_rebalancing_to_error() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let none = RuntimeConfig { offset_reset: millstream_core::OffsetReset::None, ..config(2) };
    let mut streams = embedded.streams(program(|_| Ok(()))?, none)?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    streams.on_state_change(move |from, to| hears.lock().expect("not poisoned").push((from, to)));
    streams.start()?;
    assert!(streams.join().is_err());
    let wanted = [(Created, Rebalancing), (Rebalancing, PendingError), (PendingError, Error)];
    assert_eq!(*heard.lock().expect("not poisoned"), wanted);
    Ok(())
}

/// The listener was set in silence on nothing once somebody held a stopper.
#[test]
fn a_listener_hears_whether_or_not_a_stopper_was_taken_before() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let mut streams = embedded.streams(program(|_| Ok(()))?, config(1))?;
    let stopper = streams.stopper();
    let (tell, told) = channel();
    streams.on_state_change(move |from, to| tell.send((from, to)).expect("somebody listens"));
    streams.start()?;
    let mut heard = wait_for(&told, Running);
    stopper.stop();
    streams.join()?;
    heard.extend(told.try_iter());
    assert_eq!(heard, IN_ORDER);
    Ok(())
}

/// What a thread that panicked has left open must not hold up the readers of a run that has fewer threads: its id is
/// nobody's then.
#[test]
fn a_run_with_fewer_threads_goes_on_after_a_panic() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let topology = program(|value| if value == "panic" { panic!("as told") } else { Ok(()) })?;
    embedded.create("in", 4)?;
    for partition in 0..4 {
        let last = if partition == 3 { "panic" } else { "b" };
        embedded.write("in", partition, &[(0, None, "a"), (0, None, last)])?;
    }
    // Small batches leave before the commit, so that transactions are open when the thread dies.
    let small = RuntimeConfig { batch_bytes: 1, poll_records: 1, ..config(4) };
    let mut streams = embedded.streams(topology, small)?;
    streams.start()?;
    assert!(streams.join().is_err());
    let topology = program(|_| Ok(()))?;
    embedded.streams(topology, config(1))?.run_to_end()?;
    let read = embedded.read::<Option<String>, String>("out")?;
    let values = |partition: usize| read[partition].iter().map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!(
        [values(0), values(1), values(2), values(3)],
        [vec!["a", "b"], vec!["a", "b"], vec!["a", "b"], vec!["a", "panic"]]
    );
    Ok(())
}

/// Where no task ran the panic took the thread along, and whoever waited for the end waited for ever.
#[test]
fn a_state_listener_that_panics_ends_it_whatever_it_is_told() -> Result<()> {
    for at in [Rebalancing, Running, PendingShutdown, NotRunning, PendingError, Error] {
        let embedded = Embedded::in_memory()?;
        let fails = matches!(at, PendingError | Error);
        let check = move |_: &str| if fails { Err(millstream_core::Error::user("a bad value")) } else { Ok(()) };
        let mut streams = embedded.streams(program(check)?, config(2))?;
        streams.on_state_change(move |_, to| assert!(to != at, "told to panic"));
        streams.start()?;
        embedded.write("in", 0, &[(0, None, "x")])?;
        let ended = if fails { streams.join() } else { streams.drain().and_then(|()| streams.join()) };
        let error = ended.expect_err("it fails").to_string();
        let wanted = if fails { "a bad value" } else { "the state listener panicked: told to panic" };
        assert!(error.contains(wanted), "{at:?}: {error}");
    }
    Ok(())
}
