//! A record on which the program panics is left out, where the processing handler says `continue`, as if it had never been
//! there: nothing that it had done before the panic stays.

use std::time::Duration;

use millstream_core::{ExceptionHandler, Record, Result, RuntimeConfig, Topology};
use millstream_dsl::{Consumed, StreamsBuilder, TimeWindows, TopologyTestDriver, kv};

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
