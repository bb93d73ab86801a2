//! A source reads the topics that it names, all partitions of each and no other; what cannot be meant is refused.

use millstream_core::{Error, Result};
use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv, pattern};

fn text<T>(result: Result<T>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn a_list_of_topics_is_read_in_all_partitions_of_each() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("a", 1).topic("b", 2).topic("out", 1);
    b.stream::<String, String>(["a", "b"]).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (first, second) = (t.input::<String, String>("a")?, t.input::<String, String>("b")?);
    let out = t.output::<String, String>("out")?;
    first.pipe("k", "from a");
    // The first of these keys belongs to partition 0, the second to 1.
    for key in ["foobar", "abc"] {
        second.pipe(key, "from b");
    }
    assert_eq!(out.read(), [kv("k", "from a"), kv("foobar", "from b"), kv("abc", "from b")]);
    Ok(())
}

#[test]
fn a_pattern_reads_what_it_matches_as_a_whole() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("orders-eu", 2).topic("orders-us", 1).topic("old-orders-eu", 1).topic("orders-eu-2", 1).topic("eu", 1);
    // Either branch may be the one that matches the whole name: the first that matches a part of it is not enough.
    b.stream::<String, String>(pattern("orders-(e|eu|us)|eu.")?).to("out");
    for topic in ["old-orders-eu", "orders-eu-2", "eu"] {
        b.stream::<String, String>(topic).filter(|_, _| false).to("nowhere");
    }
    let t = TopologyTestDriver::new(b.build()?)?;
    let out = t.output::<String, String>("out")?;
    for topic in ["orders-eu", "old-orders-eu", "orders-us", "orders-eu-2", "eu"] {
        for key in ["foobar", "abc"] {
            t.input::<String, String>(topic)?.pipe(key, topic);
        }
    }
    let read = [kv("foobar", "orders-eu"), kv("abc", "orders-eu"), kv("foobar", "orders-us"), kv("abc", "orders-us")];
    assert_eq!(out.read(), read);
    assert!(text(t.input::<String, String>("orders-fr")).contains("the program has no source `orders-fr`"));
    Ok(())
}

#[test]
fn a_pattern_that_matches_nothing_says_so() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("order", 1);
    b.stream::<String, String>(pattern("orders-.*")?).to("out");
    let text = text(TopologyTestDriver::new(b.build()?));
    for part in ["no topic matches the pattern `orders-.*`", "help: ", ".topic(name, partitions)"] {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn a_pattern_that_cannot_be_read_is_named() {
    for wrong in ["orders-(", "a)(b", "*"] {
        assert!(text(pattern(wrong)).contains(&format!("topic pattern `{wrong}`: ")), "{wrong}");
    }
}

/// Kafka Streams: "Topic … has already been matched for another source".
#[test]
fn a_topic_is_not_read_by_a_pattern_and_again_by_another_source() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("orders-eu", 1).topic("orders-us", 1);
    b.stream::<String, String>("orders-eu").to("out");
    b.stream::<String, String>(pattern("orders-.*")?).to("out");
    b.stream::<String, String>(pattern(".*-us")?).to("out");
    let text = text(TopologyTestDriver::new(b.build()?));
    for part in [
        "2 problems",
        "topic `orders-eu` is read twice: by its name, by the pattern `orders-.*`",
        "topic `orders-us` is read twice: by the pattern `orders-.*`, by the pattern `.*-us`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn a_list_names_at_least_one_topic_and_none_twice() {
    let b = StreamsBuilder::new();
    b.stream::<String, String>([]).to("out");
    b.stream::<String, String>(["in", "in"]).to("out");
    let error = b.build().err();
    assert!(matches!(&error, Some(Error::Build(problems)) if problems.len() == 2), "{error:?}");
    let text = error.map(|e| e.to_string()).unwrap_or_default();
    for part in ["a source is given no topics", "topic `in` is named twice in one source"] {
        assert!(text.contains(part), "{text}");
    }
}

/// A pattern that is streamed twice was refused: its topics were read twice.
#[test]
fn a_pattern_that_is_streamed_twice_is_read_once() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("orders-eu", 1);
    for out in ["out", "other"] {
        b.stream::<String, String>(pattern("orders-.*")?).to(out);
    }
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("orders-eu")?.pipe("k", "v");
    for out in ["out", "other"] {
        assert_eq!(t.output::<String, String>(out)?.read(), [kv("k", "v")]);
    }
    Ok(())
}
