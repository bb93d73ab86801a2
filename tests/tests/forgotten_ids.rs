//! A program that was silent for so long that the log has forgotten its producers goes on. Kafka Streams' bugs KAFKA-9231 and KAFKA-16699:
//! an unknown producer id ended the thread.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Result, RuntimeConfig};
use millstream_dsl::StreamsBuilder;
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;

#[test]
fn a_silent_program_goes_on() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    b.stream::<String, String>("in").group_by("by-value", |_, v| v.clone()).count("counts").to_stream().to("out");
    let mut program = ByHand::new(embedded, b.build()?, RuntimeConfig::embedded("app"))?;
    let day = Duration::from_secs(24 * 3600);
    // A partition forgets its producers after a day, the log its transactional ids after seven.
    for (time, silence) in [(0, day), (1, 2 * day), (2, 8 * day), (3, 30 * day), (4, Duration::ZERO)] {
        program.embedded.write("in", 0, &[(time, Some("k"), "a"), (time, Some("k"), "b")])?;
        program.run()?;
        program.embedded.clock.advance(silence);
        program.embedded.log.tick()?;
    }
    let mut counts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (value, count) in program.embedded.read::<String, i64>("out")?.concat() {
        counts.entry(value).or_default().push(count);
    }
    let all: Vec<i64> = (1..=5).collect();
    assert_eq!(counts, [("a".to_owned(), all.clone()), ("b".to_owned(), all)].into());
    Ok(())
}
