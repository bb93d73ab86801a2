//! Joins of streams: what the traces of Kafka Streams do not show.

use std::time::Duration;

use millstream_core::Result;
use millstream_dsl::{JoinWindows, StreamsBuilder, TopologyTestDriver};

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
