//! A program's changelog is compacted while it runs and between its runs: what is restored is what it had, over gaps and
//! markers; and the changelog does not grow with the work.

use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin, ConsumerOptions, Isolation, Log, ManualClock, Result, RuntimeConfig, TopicPartition, Topology,
};
use millstream_dsl::StreamsBuilder;
use millstream_tests::embedded::Embedded;

fn counts() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("in")
        .group_by("by-word", |_, word| word.clone())
        .count("counts")
        .to_stream()
        .to("out");
    b.build()
}

#[test]
fn a_count_goes_on_from_a_changelog_of_gaps() -> Result<()> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let options = BrokerOptions { segment_bytes: 2_000, ..BrokerOptions::memory(clock.clone()) };
    let embedded = Embedded { log: Broker::open(options)?, clock };
    embedded.create("in", 1)?;
    embedded.create("out", 1)?;
    for round in 1..=60i64 {
        let words: Vec<String> = (0..40).map(|n| format!("word{}", n % 8)).collect();
        let records: Vec<_> = words.iter().map(|word| (round, None, word.as_str())).collect();
        embedded.write("in", 0, &records)?;
        embedded.streams(counts()?, RuntimeConfig::embedded("app"))?.run_to_end()?;
        embedded.log.tick()?;
        let out: Vec<(String, i64)> = embedded.read("out")?.concat();
        for word in 0..8 {
            let word = format!("word{word}");
            let last = out.iter().rfind(|(key, _)| *key == word).map(|(_, count)| *count);
            assert_eq!(last, Some(round * 5), "{word} in round {round}");
        }
    }
    let topics = embedded.log.topics()?;
    let changelog = topics.iter().find(|name| name.ends_with("-changelog")).expect("a changelog");
    let options = ConsumerOptions { client_id: "rows".into(), group: "".into(), isolation: Isolation::ReadCommitted };
    let mut consumer = embedded.log.consumer(&options, Default::default())?;
    consumer.assign(&[(TopicPartition::new(changelog.as_str(), 0), 0)])?;
    let rows: i32 = consumer.fetch(0, 1 << 20)?.batches.iter().map(|batch| batch.remaining()).sum();
    assert!((8..60 * 8 / 2).contains(&rows), "{rows} rows in {changelog}");
    Ok(())
}
