//! The programs a newcomer meets first type-check and run as the design shows them.

use std::time::Duration;

use millstream_core::{Record, Result, Topology};
use millstream_dsl::{Clock, KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, json, kv};

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Click {
    page: String,
}
json!(Click);

fn word_count() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("lines")
        .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .group_by("by-word", |_, word| word.clone())
        .count("counts")
        .to_stream()
        .to("word-counts");
    b.build()
}

#[test]
fn counts_words() -> Result<()> {
    let t = TopologyTestDriver::new(word_count()?)?;
    let lines = t.input::<Option<String>, String>("lines")?;
    let counts = t.output::<String, i64>("word-counts")?;
    lines.pipe(None, "a b a");
    assert_eq!(counts.read(), [kv("a", 1), kv("b", 1), kv("a", 2)]);
    Ok(())
}

#[test]
fn wrong_types_are_named() -> Result<()> {
    let t = TopologyTestDriver::new(word_count()?)?;
    let error = t.input::<i64, String>("lines").err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("String") && error.contains("i64"), "{error}");
    Ok(())
}

struct Throttle {
    seen: KeyValueStore<String, i64>,
}
impl Processor for Throttle {
    type KIn = String;
    type VIn = Click;
    type KOut = String;
    type VOut = i64;
    fn process(&mut self, r: Record<String, Click>, out: &mut Out<'_, String, i64>) -> Result<()> {
        let n = self.seen.update(&r.key, |n| {
            let n = n.get_or_insert(0);
            *n += 1;
            *n
        })?;
        if n <= 2 { out.forward(r.with_value(n)) } else { Ok(()) }
    }
}
impl Throttle {
    fn flush(&mut self, _: i64, _: &mut Out<'_, String, i64>) -> Result<()> {
        for row in self.seen.all() {
            self.seen.delete(&row?.0)?;
        }
        Ok(())
    }
}

#[test]
fn throttles_until_the_clock_says_otherwise() -> Result<()> {
    let b = StreamsBuilder::new();
    let seen = b.store::<String, i64>("seen");
    b.stream::<String, Click>("clicks")
        .process("throttle", move |s| {
            s.every(Duration::from_secs(600), Clock::Wall, Throttle::flush);
            Throttle { seen: s.store(seen) }
        })
        .to("clicks-passed");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (clicks, passed) = (t.input::<String, Click>("clicks")?, t.output::<String, i64>("clicks-passed")?);
    let click = || Click { page: "/".into() };
    (0..4).for_each(|_| clicks.pipe("ann", click()));
    assert_eq!(passed.read(), [kv("ann", 1), kv("ann", 2)]);
    t.advance(Duration::from_secs(600))?;
    clicks.pipe("ann", click());
    assert_eq!(passed.read(), [kv("ann", 1)]);
    Ok(())
}

/// What the README shows is what the program draws.
#[test]
fn the_readme_shows_the_word_count() -> Result<()> {
    let readme = include_str!("../../README.md");
    let shown = readme.split_once("```mermaid\n").and_then(|(_, rest)| rest.split_once("```")).map(|(chart, _)| chart);
    assert_eq!(shown, Some(word_count()?.mermaid().as_str()));
    Ok(())
}

#[test]
fn a_topology_describes_itself_as_kafka_streams_does() -> Result<()> {
    let text = word_count()?.describe();
    let wanted = "\
Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [lines])
      --> KSTREAM-FLATMAPVALUES-0000000001
    Processor: KSTREAM-FLATMAPVALUES-0000000001 (stores: [])
      --> KSTREAM-KEY-SELECT-0000000002
      <-- KSTREAM-SOURCE-0000000000
    Processor: KSTREAM-KEY-SELECT-0000000002 (stores: [])
      --> KSTREAM-FILTER-0000000003
      <-- KSTREAM-FLATMAPVALUES-0000000001
    Processor: KSTREAM-FILTER-0000000003 (stores: [])
      --> KSTREAM-SINK-0000000004
      <-- KSTREAM-KEY-SELECT-0000000002
    Sink: KSTREAM-SINK-0000000004 (topic: by-word-repartition)
      <-- KSTREAM-FILTER-0000000003

   Sub-topology: 1
    Source: KSTREAM-SOURCE-0000000005 (topics: [by-word-repartition])
      --> KSTREAM-AGGREGATE-0000000006
    Processor: KSTREAM-AGGREGATE-0000000006 (stores: [counts])
      --> KTABLE-TOSTREAM-0000000007
      <-- KSTREAM-SOURCE-0000000005
    Processor: KTABLE-TOSTREAM-0000000007 (stores: [])
      --> KSTREAM-SINK-0000000008
      <-- KSTREAM-AGGREGATE-0000000006
    Sink: KSTREAM-SINK-0000000008 (topic: word-counts)
      <-- KTABLE-TOSTREAM-0000000007

";
    assert_eq!(text, wanted);
    Ok(())
}

#[test]
fn on_commit_a_row_is_passed_on_once() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").group_by_key().count("counts").emit_on_commit().to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<String, i64>("out")?);
    for key in ["a", "b", "a", "a"] {
        input.enqueue(Record::new(key.into(), "x".into(), 0))?;
    }
    t.run()?;
    assert_eq!(out.read(), [kv("a", 3), kv("b", 1)]);
    Ok(())
}

#[test]
fn every_problem_of_a_program_is_listed_at_once() {
    let b = StreamsBuilder::new();
    let stream = b.stream::<String, String>("in");
    stream.group_by_key().count("same");
    stream.group_by_key().count("same");
    b.stream::<String, String>(["in", "other"]).to_table("bad name");
    let text = b.build().err().map(|e| e.to_string()).unwrap_or_default();
    for part in ["3 problems", "`same` is used", "`bad name` cannot name", "topic `in` is in two sources"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn partitions_that_do_not_fit_are_refused_before_any_topic_exists() {
    let b = StreamsBuilder::new();
    b.topic("orders", 6).topic("customers", 4);
    let customers = b.table::<String, String>("customers", "customers");
    b.stream::<String, String>("orders").join_table("joined", &customers, |o, c| format!("{o}{c}")).to("out");
    let built = b.build().and_then(|topology| TopologyTestDriver::new(topology).map(drop));
    let text = built.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text.contains("not co-partitioned") && text.contains("`orders` 6") && text.contains("help:"), "{text}");
}
