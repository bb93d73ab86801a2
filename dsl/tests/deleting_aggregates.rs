//! Folds that delete their row: `None` is a tombstone for the window, group or session, and the next record starts over.

use millstream_core::Result;
use millstream_dsl::{MIN, SessionWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed, kv};

/// Window's start and end, and its sum.
type Told = Vec<(i64, i64, Option<i64>)>;

fn told(driver: &TopologyTestDriver, topic: &str) -> Result<Told> {
    let rows = driver.output::<Windowed<String>, Option<i64>>(topic)?.read();
    Ok(rows.into_iter().map(|(key, sum)| (key.window.start, key.window.end, sum)).collect())
}

/// A sum that is gone when it is 0.
fn open(sum: i64) -> Option<i64> {
    Some(sum).filter(|sum| *sum != 0)
}

#[test]
fn what_a_session_deletes_is_the_session_as_it_has_grown() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = SessionWindows::of(MIN).grace(10 * MIN);
    let sessions = b.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    sessions.reduce_or_delete("reduced", |sum, n| open(sum + n)).to_stream().to("reduced-out");
    let merge = |_: &String, a: i64, b: i64| open(a + b);
    sessions.aggregate_or_delete("folded", || 0, |_, n, sum| open(sum + n), merge).to_stream().to("folded-out");
    let add = |_: &String, n: i64, sum: i64| sum.checked_add(n).map(open).ok_or("too much");
    sessions.try_aggregate_or_delete("tried", || 0, add, move |key, a, b| add(key, b, a)).to_stream().to("tried-out");
    let try_add = |sum: i64, n: i64| sum.checked_add(n).map(open).ok_or("too much");
    sessions.try_reduce_or_delete("tried-too", try_add).to_stream().to("tried-too-out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    driver.fail_commits(Some(3));
    let input = driver.input::<String, i64>("in")?;
    for (time, n) in [(0, 5), (10_000, -5), (20_000, 3), (200_000, -3), (110_000, 4), (75_000, 1)] {
        input.pipe_at(time, "a", n);
        driver.restart()?;
    }
    let wanted: Told = vec![
        (0, 0, Some(5)),
        // It grows to 10,000 and is gone.
        (0, 0, None),
        (0, 10_000, None),
        // The next record starts over.
        (20_000, 20_000, Some(3)),
        (200_000, 200_000, Some(-3)),
        // Within a minute of nothing.
        (110_000, 110_000, Some(4)),
        // Between two: both go, and one comes.
        (20_000, 20_000, None),
        (110_000, 110_000, None),
        (20_000, 110_000, Some(8)),
    ];
    for topic in ["reduced-out", "folded-out", "tried-out", "tried-too-out"] {
        assert_eq!(told(&driver, topic)?, wanted, "{topic}");
    }
    Ok(())
}

/// What is merged may be nothing too: it is as if the sessions so far had not been.
#[test]
fn sessions_that_merge_to_nothing_leave_the_record_alone() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = SessionWindows::of(MIN).grace(10 * MIN);
    let sessions = b.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    sessions.reduce_or_delete("reduced", |sum, n| open(sum + n)).to_stream().to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, i64>("in")?;
    for (time, n) in [(0, 5), (100_000, -5), (50_000, 7)] {
        input.pipe_at(time, "a", n);
    }
    assert_eq!(told(&driver, "out")?[2..], [(0, 0, None), (100_000, 100_000, None), (0, 100_000, Some(7))]);
    Ok(())
}

#[test]
fn a_window_whose_fold_deletes_its_row_starts_over() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN));
    windows.aggregate_or_delete("updated", || 10, |_, n, sum| open(sum + n)).to_stream().to("updated-out");
    let closing = windows.emit_on_close();
    closing.aggregate_or_delete("closed", || 10, |_, n, sum| open(sum + n)).to_stream().to("closed-out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, i64>("in")?;
    for (time, n) in [(0, 5), (1, -15), (60_000, 1), (60_001, -11), (60_002, 2), (120_000, 1)] {
        input.pipe_at(time, "a", n);
        driver.restart()?;
    }
    let (first, second, third) = ((0, 60_000), (60_000, 120_000), (120_000, 180_000));
    let row = |(start, end): (i64, i64), sum| (start, end, sum);
    let updates =
        [(first, Some(15)), (first, None), (second, Some(11)), (second, None), (second, Some(12)), (third, Some(11))];
    assert_eq!(told(&driver, "updated-out")?, updates.map(|(window, sum)| row(window, sum)));
    // A window without a row has no result.
    assert_eq!(told(&driver, "closed-out")?, [row(second, Some(12))]);
    Ok(())
}

/// As an adder or subtractor of Kafka Streams that returns null.
#[test]
fn a_group_of_a_table_whose_row_is_deleted_starts_over() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.table::<String, i64>("in", "rows").group_by("g", |key, n| (key[..1].to_owned(), n));
    grouped.reduce_or_delete("reduced", |sum, n| open(sum + n), |sum, n| open(sum - n)).to_stream().to("reduced-out");
    let (add, subtract) = (|_: &String, n, sum: i64| open(sum + n), |_: &String, n, sum: i64| open(sum - n));
    grouped.aggregate_or_delete("folded", || 0, add, subtract).to_stream().to("folded-out");
    let add = |_: &String, n, sum: i64| Ok::<_, String>(open(sum + n));
    let subtract = |_: &String, n, sum: i64| Ok::<_, String>(open(sum - n));
    grouped.try_aggregate_or_delete("tried", || 0, add, subtract).to_stream().to("tried-out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, Option<i64>>("in")?;
    for (key, n) in [("a1", Some(5)), ("a2", Some(-5)), ("a1", Some(7)), ("a1", Some(3)), ("a1", None), ("a2", None)] {
        input.pipe(key, n);
        driver.restart()?;
    }
    // 5; 5 - 5; 7, as the 5 is subtracted from nothing; 7 - 7 + 3; 3 - 3; nothing.
    let wanted = [Some(5), None, Some(7), Some(3), None, None].map(|sum| kv("a", sum));
    for topic in ["reduced-out", "folded-out", "tried-out"] {
        assert_eq!(driver.output::<String, Option<i64>>(topic)?.read(), wanted, "{topic}");
    }
    Ok(())
}

#[test]
fn the_first_stream_of_a_cogroup_and_a_merger_delete_too() -> Result<()> {
    let b = StreamsBuilder::new();
    let numbers = b.stream::<String, i64>("in").group_by_key();
    numbers.cogroup_or_delete(|_, n, sum: i64| open(sum + n)).aggregate("sums", || 0).to_stream().to("sums-out");
    let sessions = numbers.cogroup(|_, n, sum: &mut i64| *sum += n);
    let sessions = sessions.in_sessions(SessionWindows::of(MIN).grace(10 * MIN));
    sessions.aggregate_or_delete("merged", || 0, |_, a, b| open(a + b)).to_stream().to("merged-out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, i64>("in")?;
    for (time, n) in [(0, 5), (100_000, -5), (50_000, 7)] {
        input.pipe_at(time, "a", n);
    }
    assert_eq!(driver.output::<String, Option<i64>>("sums-out")?.read(), [Some(5), None, Some(7)].map(|n| kv("a", n)));
    assert_eq!(told(&driver, "merged-out")?[2..], [(0, 0, None), (100_000, 100_000, None), (0, 100_000, Some(7))]);
    Ok(())
}
