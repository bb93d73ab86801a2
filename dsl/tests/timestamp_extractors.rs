//! Kafka Streams' timestamp extractors, by its names: what becomes of a record without a time.

use millstream_core::{
    ExceptionHandler, LogAndSkipOnInvalidTimestamp, Record, Result, RuntimeConfig, TimestampExtractor,
    UsePartitionTimeOnInvalidTimestamp, WallclockTimestampExtractor,
};
use millstream_dsl::{Consumed, MIN, SECOND, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};

/// A program that reads `in` by an extractor.
fn driver(x: impl TimestampExtractor<String, i64>, undecodable: ExceptionHandler) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    b.stream_with("in", Consumed::of::<String, i64>().timestamps(x)).to("out");
    TopologyTestDriver::with_config(b.build()?, RuntimeConfig { undecodable, ..RuntimeConfig::embedded("test") })
}

/// Pipes a record of each time, and returns the times that come out.
fn times(t: &TopologyTestDriver, times: &[i64]) -> Result<Vec<i64>> {
    let input = t.input::<String, i64>("in")?;
    times.iter().try_for_each(|time| input.try_pipe(Record::new("a".into(), 1, *time)))?;
    Ok(t.output::<String, i64>("out")?.read_records().into_iter().map(|record| record.timestamp).collect())
}

#[test]
fn a_record_without_a_time_is_left_out_and_counted() -> Result<()> {
    let t = driver(LogAndSkipOnInvalidTimestamp, ExceptionHandler::Fail)?;
    assert_eq!(times(&t, &[7, -1, 5, -7])?, [7, 5]);
    assert_eq!(t.counters().dropped_records, 2);
    t.restart()?;
    assert_eq!(times(&t, &[9])?, [9]);
    Ok(())
}

#[test]
fn a_record_without_a_time_has_the_largest_of_its_partition() -> Result<()> {
    let t = driver(UsePartitionTimeOnInvalidTimestamp, ExceptionHandler::Fail)?;
    assert_eq!(times(&t, &[7, 5, -1, 9, -7])?, [7, 5, 7, 9, 9]);
    t.restart()?;
    assert_eq!(times(&t, &[-1, 3])?, [9, 3]);
    Ok(())
}

/// Kafka Streams fails then, whatever handlers say.
#[test]
fn a_partition_whose_first_record_has_no_time_is_for_the_handler() -> Result<()> {
    let t = driver(UsePartitionTimeOnInvalidTimestamp, ExceptionHandler::Fail)?;
    let error = times(&t, &[-5]).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        error.contains("the record has the negative time -5, and none before it in its partition has a time"),
        "{error}"
    );
    let t = driver(UsePartitionTimeOnInvalidTimestamp, ExceptionHandler::Skip)?;
    assert_eq!(times(&t, &[-5, 3, -5])?, [3, 3]);
    assert_eq!(t.counters().dropped_records, 1);
    Ok(())
}

#[test]
fn the_wall_clock_is_that_of_the_driver() -> Result<()> {
    let t = driver(WallclockTimestampExtractor, ExceptionHandler::Fail)?;
    assert_eq!(times(&t, &[7, -1])?, [0, 0]);
    t.advance(5 * SECOND)?;
    assert_eq!(times(&t, &[i64::MAX, 0])?, [5_000, 5_000]);
    Ok(())
}

/// With two inputs, heads are compared: by the wall clock the one goes on with, and the log's time the other.
#[test]
fn windows_follow_the_wall_clock() -> Result<()> {
    let b = StreamsBuilder::new();
    let consumed = Consumed::of::<String, i64>().timestamps(WallclockTimestampExtractor);
    let both = b.stream_with("in", consumed).merge(&b.stream("other"));
    both.group_by_key().windowed_by(TimeWindows::of(MIN)).emit_on_close().count("n").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, other) = (t.input::<String, i64>("in")?, t.input::<String, i64>("other")?);
    let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    t.advance(30 * SECOND)?;
    input.enqueue(Record::new("a".into(), 1, 900_000))?;
    other.enqueue(Record::new("a".into(), 1, 29_000))?;
    other.enqueue(Record::new("a".into(), 1, 31_000))?;
    t.run()?;
    assert_eq!(out.read(), []);
    t.advance(MIN)?;
    input.pipe_at(0, "a", 1);
    let closed: Vec<_> = out.read().into_iter().map(|(key, n)| (key.window.start, n)).collect();
    assert_eq!(closed, [(0, Some(3))]);
    Ok(())
}
