//! Windows without an end: one per key, for which nothing is late, and which nothing can wait for.

use std::time::Duration;

use millstream_core::{Error, LATEST_TIME, Result};
use millstream_dsl::{
    BufferConfig, GroupedStream, InteractiveQueries, StreamsBuilder, TestOutput, TopologyTestDriver, UnlimitedWindows,
    WindowKeyQuery, Windowed, in_store,
};

/// Every change: key, start, end, value.
fn changes(out: &TestOutput<Windowed<String>, Option<i64>>) -> Vec<(String, i64, i64, Option<i64>)> {
    out.read().into_iter().map(|(key, n)| (key.key, key.window.start, key.window.end, n)).collect()
}

/// What `build` says of a program.
fn problem(program: impl FnOnce(GroupedStream<String, i64>)) -> String {
    let b = StreamsBuilder::new();
    program(b.stream::<String, i64>("in").group_by_key());
    match b.build() {
        Err(Error::Build(problems)) => problems.join("\n"),
        other => panic!("{:?}", other.map(drop)),
    }
}

#[test]
fn they_go_on_to_the_end_of_time() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = b.stream::<String, i64>("in").group_by_key().windowed_by(UnlimitedWindows::of().start_on(10));
    windows.aggregate("sums", || 0, |_, n, sum| *sum += n).to_stream().to("out");
    windows.on_late(|late| late.to("late")).count("counts");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output("out")?);
    for (time, n) in [(9, 1), (10, 2), (LATEST_TIME, 3), (10, 4), (9, 5)] {
        input.pipe_at(time, "a", n);
    }
    let a = |sum| ("a".to_owned(), 10, i64::MAX, Some(sum));
    assert_eq!(changes(&out), [a(2), a(5), a(9)]);
    assert_eq!((t.output::<Windowed<String>, i64>("late")?.read(), t.counters().dropped_records), (vec![], 0));
    t.restart()?;
    input.pipe_at(11, "a", 6);
    input.pipe_at(11, "b", 7);
    assert_eq!(changes(&out), [a(15), ("b".to_owned(), 10, i64::MAX, Some(7))]);
    let counted = WindowKeyQuery::<String, i64>::with_key("a".to_owned(), 0..=i64::MAX);
    let counted: Result<Vec<_>, _> = t.query(in_store("counts", counted))?.rows().collect();
    assert_eq!(
        counted?.into_iter().map(|(start, n)| (start, n.value, n.timestamp)).collect::<Vec<_>>(),
        [(10, 4, LATEST_TIME)]
    );
    Ok(())
}

/// A function that fails leaves the window as it was, and a row that is deleted begins anew.
#[test]
fn they_fold_as_other_windows_do() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = b.stream::<String, Option<i64>>("in").group_by_key().windowed_by(UnlimitedWindows::of());
    windows.reduce_or_delete("open", |sum, n| Some(sum + n).filter(|sum| *sum != 0)).to_stream().to("open");
    windows.count("counts").to_stream().to("counts");
    let returned = b.stream::<String, i64>("returned").group_by_key();
    let owned = b.stream::<String, i64>("bought").group_by_key().cogroup(|_, n, owned| *owned += n);
    let owned = owned.cogroup(&returned, |_, n, owned| *owned -= n).windowed_by(UnlimitedWindows::of());
    owned.aggregate("owned", || 0).to_stream().to("owned");
    let t = TopologyTestDriver::new(b.build()?)?;
    let values = |topic: &str| -> Result<Vec<Option<i64>>> {
        Ok(t.output::<Windowed<String>, Option<i64>>(topic)?.read().into_iter().map(|(_, n)| n).collect())
    };
    let input = t.input::<String, Option<i64>>("in")?;
    [Some(5), None, Some(-5), Some(3)].into_iter().for_each(|n| input.pipe("a", n));
    assert_eq!(values("open")?, [Some(5), Some(5), None, Some(3)]);
    assert_eq!(values("counts")?, [Some(1), Some(2), Some(3), Some(4)]);
    t.input::<String, i64>("bought")?.pipe_at(1_000_000, "a", 5);
    t.input::<String, i64>("returned")?.pipe_at(0, "a", 3);
    assert_eq!(values("owned")?, [Some(5), Some(2)]);
    Ok(())
}

/// Kafka Streams refuses the first and the last; there, suppressed ones wait for ever.
#[test]
fn what_waits_for_their_end_is_refused() {
    let windows = UnlimitedWindows::of;
    assert_eq!(
        problem(|g| drop(g.windowed_by(windows()).emit_on_close().count("s"))),
        "`s`: unlimited windows that are emitted on close, and never close\n  help: without emit_on_close"
    );
    assert_eq!(
        problem(|g| drop(g.windowed_by(windows()).count("s").suppress_until_closed("w", BufferConfig::unbounded()))),
        "`w` waits for windows to close, and the table is not of windows that close: on the way up to `in` nothing aggregates in them\n  help: suppress what comes of windowed aggregations alone"
    );
    assert_eq!(
        problem(|g| drop(g.windowed_by(windows()).retention(Duration::from_secs(1)).count("s"))),
        "`s`: unlimited windows that are kept for a time, and never end\n  help: without retention"
    );
    assert_eq!(
        problem(|g| drop(g.windowed_by(windows().start_on(-1)).count("s"))),
        "`s`: unlimited windows that start on -1 ms\n  help: 0, which is 1970, or later"
    );
}
