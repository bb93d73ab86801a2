//! Joins of streams: what the traces of Kafka Streams do not show.

use std::time::Duration;

use millstream_core::Result;
use millstream_dsl::{JoinWindows, KStream, StreamJoined, StreamsBuilder, TopologyTestDriver};

fn joined(windows: JoinWindows, with_itself: bool) -> Result<(Vec<String>, u64)> {
    let b = StreamsBuilder::new();
    let left = b.stream::<String, String>("left");
    let right = if with_itself { left.clone() } else { b.stream("right") };
    left.join("joined", &right, windows, |l, r| format!("{l}{r}")).to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let left = driver.input::<String, String>("left")?;
    let right = driver.input::<String, String>(if with_itself { "left" } else { "right" })?;
    right.pipe_at(95, "k", "r");
    left.pipe_at(110, "k", "now");
    left.pipe_at(96, "k", "old"); // its window ended at 106, and its grace at 108
    let out = driver.output::<String, String>("out")?.read().into_iter().map(|(_, v)| v).collect();
    Ok((out, driver.counters().late_records))
}

#[test]
fn a_late_record_joins_what_is_kept_unless_it_is_to_be_dropped() -> Result<()> {
    let windows = JoinWindows::of(Duration::from_millis(10)).grace(Duration::from_millis(2));
    assert_eq!(joined(windows, false)?, (vec!["oldr".to_owned()], 0));
    assert_eq!(joined(windows.drop_late(), false)?, (vec![], 1));
    let (own, late) = joined(windows.drop_late(), true)?;
    assert_eq!((own, late), (vec!["rr".to_owned(), "nownow".to_owned()], 1));
    Ok(())
}

/// Rules 23 and 26: what is kept is a millisecond short of what can join, and of no time at all it is nothing.
#[test]
fn windows_of_no_time_join_equal_times_if_they_are_exact() -> Result<()> {
    let pairs = |windows: JoinWindows, with_itself: bool| -> Result<(Vec<String>, usize)> {
        let b = StreamsBuilder::new();
        let left = b.stream::<String, String>("left");
        let right = if with_itself { left.clone() } else { b.stream("right") };
        left.join("joined", &right, windows, |l, r| format!("{l}{r}")).to("out");
        let topology = b.build()?;
        let warnings = topology.warnings().iter().filter(|warning| warning.contains("join `joined`")).count();
        let driver = TopologyTestDriver::new(topology)?;
        let left = driver.input::<String, String>("left")?;
        let right = driver.input::<String, String>(if with_itself { "left" } else { "right" })?;
        [(5, "1"), (6, "2")].into_iter().for_each(|(time, value)| left.pipe_at(time, "k", value));
        [(6, "3"), (7, "4")].into_iter().for_each(|(time, value)| right.pipe_at(time, "k", value));
        let out = driver.output::<String, String>("out")?.read().into_iter().map(|(_, v)| v).collect();
        Ok((out, warnings))
    };
    let none = JoinWindows::of(Duration::ZERO);
    assert_eq!(pairs(none, false)?, (vec![], 1));
    assert_eq!(pairs(none, true)?, (vec![], 1));
    let text = |pairs: &[&str]| pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>();
    assert_eq!(pairs(none.exact(), false)?, (text(&["23"]), 0));
    assert_eq!(pairs(none.exact(), true)?, (text(&["11", "22", "32", "23", "33", "44"]), 0));
    // In windows of some length the last millisecond of what is kept shows only where a record is out of order.
    let one = JoinWindows::of(Duration::ZERO).after(Duration::from_millis(1));
    assert_eq!(pairs(one, false)?, (text(&["23", "24"]), 0));
    Ok(())
}

/// Rule 23: in Kafka Streams a look at waiting records remembers where it ended, not what it has left.
#[test]
fn records_without_a_partner_leave_as_soon_as_they_can_if_windows_are_exact() -> Result<()> {
    let alone = |windows: JoinWindows, last: i64| -> Result<Vec<i64>> {
        let b = StreamsBuilder::new();
        let (left, right) = (b.stream::<String, i64>("left"), b.stream::<String, i64>("right"));
        left.outer_join("joined", &right, windows, |l, _| l.copied().unwrap_or_default()).to("out");
        let driver = TopologyTestDriver::new(b.build()?)?;
        let left = driver.input::<String, i64>("left")?;
        [0, 8, 9, 11, last].into_iter().for_each(|time| left.pipe_at(time, "k", time));
        Ok(driver.output::<String, i64>("out")?.read().into_iter().map(|(_, time)| time).collect())
    };
    let windows = JoinWindows::of(Duration::from_millis(10));
    assert_eq!(alone(windows, 19)?, [0]);
    assert_eq!(alone(windows, 20)?, [0, 8, 9]);
    assert_eq!(alone(windows.exact(), 19)?, [0, 8]);
    assert_eq!(alone(windows.exact(), 20)?, [0, 8, 9]);
    Ok(())
}

/// Rule 25: it left without a partner as soon as it came, though one could come for five seconds, and then joined it too.
#[test]
fn exact_windows_let_what_is_out_of_order_wait_for_its_grace() -> Result<()> {
    let windows = JoinWindows::of(Duration::from_millis(10)).grace(Duration::from_secs(5));
    for (windows, alone_too) in [(windows, true), (windows.exact(), false), (windows.exact().drop_late(), false)] {
        for payments_first in [false, true] {
            let b = StreamsBuilder::new();
            let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
            orders.outer_join("paid", &payments, windows, |o, p| format!("{o:?} {p:?}")).to("out");
            let t = TopologyTestDriver::new(b.build()?)?;
            let (orders, payments) = (t.input::<String, String>("orders")?, t.input::<String, String>("payments")?);
            orders.pipe_at(100, "other", "o");
            let mut sides = [(&orders, 50, "o"), (&payments, 55, "p")];
            if payments_first {
                sides.reverse();
            }
            sides.into_iter().for_each(|(side, time, value)| side.pipe_at(time, "k", value));
            let out = t.output::<String, String>("out")?;
            let pair = "Some(\"o\") Some(\"p\")".to_owned();
            let alone = if payments_first { "None Some(\"p\")" } else { "Some(\"o\") None" }.to_owned();
            let found: Vec<_> = out.read().into_iter().map(|(_, v)| v).collect();
            assert_eq!(found, if alone_too { vec![alone, pair] } else { vec![pair] });
            // One that finds no partner leaves when its grace has passed, and not before.
            orders.pipe_at(40, "k", "alone");
            let waits = usize::from(!alone_too);
            assert_eq!(out.read().len(), 1 - waits);
            orders.pipe_at(5_050, "other", "o");
            orders.pipe_at(5_051, "other", "o");
            let left = out.read().into_iter().filter(|(key, _)| key == "k");
            assert_eq!(left.count(), waits);
        }
    }
    Ok(())
}

/// Rule 25: what is counted as late, each side's apart; a stream that is joined with itself has it twice.
#[test]
fn late_records_are_streams_of_the_program() -> Result<()> {
    type Texts = KStream<Option<String>, Option<String>>;
    let late = |windows: JoinWindows, with_itself: bool| -> Result<([Vec<String>; 2], u64)> {
        let b = StreamsBuilder::new();
        let left = b.stream::<Option<String>, Option<String>>("left");
        // Over a repartition topic.
        let right = if with_itself {
            left.clone()
        } else {
            b.stream("right").select_key(|key: &Option<String>, _| key.clone())
        };
        let joined = StreamJoined::with(windows)
            .on_late_left(|late: Texts| late.to("late-left"))
            .on_late_right(|late: Texts| late.map_values(|v| v).to("late-right"));
        left.join("joined", &right, joined, |l, r| format!("{l}{r}")).to("out");
        let driver = TopologyTestDriver::new(b.build()?)?;
        for (topic, time, value) in
            [("right", 95, "r"), ("left", 110, "now"), ("left", 96, "old"), ("right", 70, "older")]
        {
            let topic = if with_itself { "left" } else { topic };
            driver.input::<Option<String>, Option<String>>(topic)?.pipe_at(time, Some("k".into()), Some(value.into()));
        }
        let out = |topic: &str| -> Result<Vec<String>> {
            let late = driver.output::<Option<String>, Option<String>>(topic)?.read();
            Ok(late.into_iter().filter_map(|(_, value)| value).collect())
        };
        Ok(([out("late-left")?, out("late-right")?], driver.counters().late_records))
    };
    let text = |left: &[&str], right: &[&str]| [left, right].map(|side| side.iter().map(|v| (*v).to_owned()).collect());
    let windows = JoinWindows::of(Duration::from_millis(10)).grace(Duration::from_millis(2));
    assert_eq!(late(windows.drop_late(), false)?, (text(&["old"], &["older"]), 2));
    assert_eq!(late(windows.drop_late(), true)?, (text(&["old", "older"], &["old", "older"]), 2));
    // Too old to be kept, a retention of 22 ms behind the newest of its side.
    assert_eq!(late(windows, false)?, (text(&[], &["older"]), 1));
    assert_eq!(late(windows, true)?, (text(&["older"], &["older"]), 1));
    Ok(())
}
