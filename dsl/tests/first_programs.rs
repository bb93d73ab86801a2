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
        for (key, _) in self.seen.all()? {
            self.seen.delete(&key)?;
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
