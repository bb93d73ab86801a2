//! What Kafka Streams does and one might not want has an option here, or a warning; without it the traces of Kafka Streams
//! hold (semantics.md 4.10).

use std::time::Duration;

use millstream_core::Result;
use millstream_dsl::{
    BufferConfig, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed, kv,
};

const GAP: Duration = Duration::from_millis(5);

/// Rule 47: two final results of one session, or one.
#[test]
fn a_session_with_a_strict_end_has_one_final_result() -> Result<()> {
    let finals = |windows: SessionWindows| -> Result<Vec<(i64, i64, Option<i64>)>> {
        let b = StreamsBuilder::new();
        let counts = b.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("counts");
        counts.suppress_until_closed("final", BufferConfig::unbounded()).to_stream().to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (input, out) = (t.input::<String, i64>("in")?, t.output::<Windowed<String>, Option<i64>>("out")?);
        for (time, key) in [(0, "a"), (5, "b"), (3, "a"), (8, "b"), (9, "b"), (20, "b")] {
            input.pipe_at(time, key, 1);
        }
        let of_a = out.read().into_iter().filter(|(key, _)| key.key == "a");
        Ok(of_a.map(|(key, n)| (key.window.start, key.window.end, n)).collect())
    };
    assert_eq!(finals(SessionWindows::of(GAP))?, [(0, 0, Some(1)), (0, 3, Some(2))]);
    assert_eq!(finals(SessionWindows::of(GAP).strict_end())?, [(0, 3, Some(2))]);
    Ok(())
}

/// Rule 31: a delete on the side whose partner is there repeats the deletion of the result.
#[test]
fn a_join_of_tables_without_needless_deletions_deletes_once() -> Result<()> {
    let deletions = |spare: bool| -> Result<Vec<(String, Option<i64>)>> {
        let b = StreamsBuilder::new();
        let (left, right) = (b.table::<String, i64>("left", "left"), b.table::<String, i64>("right", "right"));
        let sum = left.join(&right, |l, r| l + r);
        let sum = if spare { sum.without_needless_deletions() } else { sum };
        sum.to_stream().to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (left, right) = (t.input::<String, Option<i64>>("left")?, t.input::<String, Option<i64>>("right")?);
        left.pipe("k", 1);
        right.pipe("k", None);
        right.pipe("k", 2);
        right.pipe("k", None);
        right.pipe("k", None);
        Ok(t.output::<String, Option<i64>>("out")?.read())
    };
    assert_eq!(deletions(true)?, [kv("k", Some(3)), kv("k", None)]);
    assert_eq!(deletions(false)?.iter().filter(|(_, n)| n.is_none()).count(), 3);
    Ok(())
}

/// Rule 35: whether null counts depends on the kind of window.
#[test]
fn a_count_of_nulls_is_a_warning_and_not_an_error() -> Result<()> {
    let b = StreamsBuilder::new();
    let nullable = b.stream::<String, Option<i64>>("in").group_by_key();
    nullable.count("plain");
    nullable.windowed_by(TimeWindows::of(GAP)).count("tumbling");
    nullable.windowed_by(SlidingWindows::of(GAP)).count("sliding");
    nullable.windowed_by(SessionWindows::of(GAP)).count("visits");
    b.stream::<String, i64>("other").group_by_key().windowed_by(TimeWindows::of(GAP)).count("never-null");
    let topology = b.build()?;
    let warned: Vec<&str> = topology.warnings().iter().filter_map(|warning| warning.split('`').nth(1)).collect();
    assert_eq!(warned, ["tumbling", "visits"]);
    Ok(())
}
