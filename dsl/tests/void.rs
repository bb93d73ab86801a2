//! A half of a record that is always null, Kafka's `Serdes.Void`, is an `Option<Infallible>`.

use std::convert::Infallible;

use millstream_core::{Result, Text};
use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};

#[test]
fn a_topic_without_keys_is_read_and_written() -> Result<()> {
    let b = StreamsBuilder::new();
    let lines = b.stream::<Option<Infallible>, Text>("lines").filter(|_, line| !line.is_empty());
    lines.to("lines-without-empty-ones");
    lines.group_by("by-line", |_, line| line.clone()).count("counts").to_stream().to("counts");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<Option<Infallible>, Text>("lines")?;
    ["a", "", "a"].into_iter().for_each(|line| input.pipe(None, line));
    let out = t.output::<Option<Infallible>, Text>("lines-without-empty-ones")?;
    assert_eq!(out.read(), [(None, Text::from("a")), (None, Text::from("a"))]);
    assert_eq!(t.output::<Text, Option<i64>>("counts")?.read(), [kv("a", 1), kv("a", 2)]);
    Ok(())
}

/// As in Java, where null keys are no keys to group by.
#[test]
fn what_is_grouped_by_it_is_left_out_and_counted() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Option<Infallible>, i64>("in").group_by_key().count("counts").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<Option<Infallible>, i64>("in")?.pipe(None, 5);
    assert_eq!(t.output::<Infallible, Option<i64>>("out")?.read(), []);
    assert_eq!(t.counters().dropped_records, 1);
    Ok(())
}
