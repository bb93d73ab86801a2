//! `emit_on_commit` changes when a table's changes are seen, and not what comes of them (semantics.md 61).

use std::collections::BTreeMap;

use millstream_core::{ExceptionHandler, Record, Result, RuntimeConfig};
use millstream_dsl::{HOUR, StreamsBuilder, TopologyTestDriver, kv};

/// The look-up saw rows that were not passed on yet, so a result that was never added was subtracted: 50 for 40.
#[test]
fn a_join_that_is_grouped_again_subtracts_what_it_has_added() -> Result<()> {
    for both in [false, true] {
        let b = StreamsBuilder::new();
        let left = b.table::<String, i64>("left", "left").emit_on_commit();
        let right = b.table::<String, i64>("right", "right");
        let right = if both { right.emit_on_commit() } else { right };
        left.join(&right, |l, r| l * r)
            .group_by("all", |_, n| ("all".to_owned(), n))
            .reduce("sum", |a, n| a + n, |a, n| a - n)
            .to_stream()
            .to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (l, r) = (t.input::<String, i64>("left")?, t.input::<String, i64>("right")?);
        let out = t.output::<String, Option<i64>>("out")?;
        r.pipe_at(0, "a", 10);
        l.pipe_at(0, "a", 1);
        assert_eq!(out.read(), [kv("all", 10)]);
        l.enqueue(Record::new("a".into(), 2, 1))?;
        r.enqueue(Record::new("a".into(), 20, 2))?;
        t.run()?;
        assert_eq!(out.read(), [kv("all", 20), kv("all", 40)]);
    }
    Ok(())
}

/// A table below looks into the one that is just being passed on.
#[test]
fn a_table_joined_with_itself_sees_each_row_once_it_is_passed_on() -> Result<()> {
    let b = StreamsBuilder::new();
    let rows = b.table::<String, i64>("in", "rows").emit_on_commit();
    let sums = rows.join(&rows.map_values(|n| n * 10), |a, b| a + b);
    sums.group_by("all", |_, n| ("all".to_owned(), n)).reduce("sum", |a, n| a + n, |a, n| a - n).to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<String, Option<i64>>("out")?);
    for (key, n) in [("a", 1), ("b", 2), ("a", 3)] {
        input.enqueue(Record::new(key.into(), n, 0))?;
    }
    t.run()?;
    let sums = out.read();
    assert_eq!(sums.first(), Some(&kv("all", 33)), "the row `a` came once, as it is");
    Ok(())
}

/// Changes are looked up some dozens at a time: a row comes once, in the place of its first change, whether its changes lie
/// close to each other or not.
#[test]
fn each_row_comes_once_in_the_order_of_first_changes() -> Result<()> {
    for keys in [1, 7, 31, 32, 33, 500] {
        let b = StreamsBuilder::new();
        b.table::<String, i64>("in", "rows").emit_on_commit().to_stream().to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (input, out) = (t.input::<String, i64>("in")?, t.output::<String, Option<i64>>("out")?);
        for commit in 0..3 {
            let (mut order, mut last) = (Vec::new(), BTreeMap::new());
            for n in 0..1_000 {
                let key = format!("a key that is too long to lie in place, {}", (n * n + commit) % keys);
                input.enqueue(Record::new(key.clone(), n, n))?;
                if last.insert(key.clone(), n).is_none() {
                    order.push(key);
                }
            }
            t.run()?;
            let rows: Vec<_> = order.iter().map(|key| kv(key, last[key])).collect();
            assert_eq!(out.read(), rows, "{keys} keys, commit {commit}");
        }
    }
    Ok(())
}

/// What was out of order was taken for the latest: ("old", 1).
#[test]
fn a_change_out_of_order_is_not_the_last() -> Result<()> {
    let b = StreamsBuilder::new();
    let rows = b.versioned_table::<String, String>("in", "rows", HOUR).emit_on_commit();
    rows.group_by("by", |k, v| (v, k.clone())).count("n").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<String, Option<i64>>("out")?);
    input.enqueue(Record::new("a".into(), "new".into(), 10))?;
    input.enqueue(Record::new("a".into(), "old".into(), 5))?;
    t.run()?;
    assert_eq!((out.read(), t.counters().dropped_records), (vec![kv("new", 1)], 1));
    Ok(())
}

/// What was said of the change under way outlived a panic on it, so that the next commit's changes were out of order too.
#[test]
fn a_panic_on_a_change_out_of_order_says_nothing_of_those_that_follow() -> Result<()> {
    let b = StreamsBuilder::new();
    let rows = b.versioned_table::<String, String>("in", "rows", HOUR);
    rows.to_stream().peek(|_, v| assert_ne!(v.as_deref(), Some("boom"))).to("seen");
    rows.emit_on_commit().group_by("by", |k, v| (v, k.clone())).count("n").to_stream().to("out");
    let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<String, Option<i64>>("out")?);
    input.pipe_at(10, "a", "new");
    input.pipe_at(5, "a", "boom");
    input.pipe_at(20, "a", "newer");
    assert_eq!(out.read(), [kv("new", 1), kv("new", 0), kv("newer", 1)]);
    Ok(())
}

/// Old values have no time: until the commit, what a join makes of a row that waits has the time of the other side alone.
#[test]
fn a_join_does_not_know_the_time_of_a_row_that_waits() -> Result<()> {
    let b = StreamsBuilder::new();
    let right = b.table::<String, i64>("right", "right").emit_on_commit();
    b.table::<String, i64>("left", "left").join(&right, |l, r| l * 10 + r).to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (left, right) = (t.input::<String, i64>("left")?, t.input::<String, i64>("right")?);
    let out = t.output::<String, i64>("out")?;
    let read = || out.read_records().into_iter().map(|r| (r.value, r.timestamp)).collect::<Vec<_>>();
    right.pipe_at(100, "a", 1);
    left.pipe_at(5, "a", 1);
    assert_eq!(read(), [(11, 100)]);
    right.enqueue(Record::new("a".to_owned(), 2, 110))?;
    left.enqueue(Record::new("a".to_owned(), 2, 120))?;
    left.enqueue(Record::new("a".to_owned(), 3, 6))?;
    t.run()?;
    // 31 is of the right row of 100.
    assert_eq!(read(), [(21, 120), (31, 6), (32, 110)]);
    Ok(())
}
