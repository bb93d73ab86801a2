//! A pattern matches the same topics at every start, never the application's own, and fails before anything is created.

use millstream_core::{Admin, Error, Result, RuntimeConfig};
use millstream_dsl::{StreamsBuilder, pattern};
use millstream_tests::embedded::Embedded;

/// Counts of the values of all topics that match.
fn run(embedded: &Embedded, expression: &str) -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>(pattern(expression)?)
        .group_by("by-value", |_, v| v.clone())
        .count("counts")
        .to_stream()
        .to("out");
    embedded.streams(b.build()?, RuntimeConfig::embedded("app"))?.run_to_end().map(drop)
}

fn counts(embedded: &Embedded) -> Result<Vec<(String, i64)>> {
    Ok(embedded.read("out")?.concat())
}

#[test]
fn every_partition_of_every_topic_that_matches_is_read() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    for (topic, partitions) in [("orders-eu", 3), ("orders-us", 2), ("old-orders-eu", 2), ("orders", 1)] {
        embedded.create(topic, partitions)?;
        for partition in 0..partitions {
            embedded.write(topic, partition, &[(0, None, format!("{topic}-{partition}").as_str())])?;
        }
    }
    run(&embedded, "orders-.*")?;
    let mut read = counts(&embedded)?;
    read.sort();
    let wanted = ["orders-eu-0", "orders-eu-1", "orders-eu-2", "orders-us-0", "orders-us-1"];
    assert_eq!(read, wanted.map(|value| (value.to_owned(), 1)));
    Ok(())
}

/// Repartition topic and changelog are there from the first start on; read by the pattern, they would be counted too.
#[test]
fn the_topics_of_the_application_itself_are_not_matched() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("app-in", 1)?;
    for round in 1..=3 {
        embedded.write("app-in", 0, &[(0, None, "word")])?;
        run(&embedded, "app-.*")?;
        assert_eq!(counts(&embedded)?.last(), Some(&("word".to_owned(), round)));
    }
    assert_eq!(counts(&embedded)?.len(), 3);
    Ok(())
}

/// The program's output is created by the first start and would be matched by the second.
#[test]
fn a_second_start_matches_what_the_first_one_did() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("t-in", 1)?;
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>(pattern("t-.*")?)
        .filter(|_, v| !v.ends_with('!'))
        .map_values(|v| v + "!")
        .to("t-out");
    let topology = b.build()?;
    embedded.write("t-in", 0, &[(0, None, "a")])?;
    let streams = embedded.streams(topology, RuntimeConfig::embedded("app"))?;
    let inputs = |streams: &millstream_core::Streams| -> Vec<String> {
        let context = streams.context();
        context.plan.tasks.iter().flat_map(|t| &t.inputs).map(|(partition, _)| partition.to_string()).collect()
    };
    let first = inputs(&streams);
    streams.run_to_end()?;
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>(pattern("t-.*")?).to("t-out");
    let second = inputs(&embedded.streams(b.build()?, RuntimeConfig::embedded("app"))?);
    assert_eq!((first, second), (vec!["t-in-0".into(), "t-out-0".into()], vec!["t-in-0".into(), "t-out-0".into()]));
    Ok(())
}

#[test]
fn a_pattern_that_matches_nothing_fails_before_any_topic_is_created() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("order", 1)?;
    let before = embedded.log.topics()?;
    let error = run(&embedded, "orders-.*").err();
    let Some(Error::Build(problems)) = &error else { panic!("{error:?}") };
    assert!(problems[0].starts_with("no topic matches the pattern `orders-.*`\n  help: "), "{problems:?}");
    assert_eq!(embedded.log.topics()?, before);
    Ok(())
}
