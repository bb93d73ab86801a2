//! A program that was silent for so long that the log has forgotten its producers goes on. Kafka Streams' bugs KAFKA-9231 and KAFKA-16699:
//! an unknown producer id ended the thread.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Clock, Log, OffsetReset, Producer, ProducerOptions, Result, RuntimeConfig, Topology};
use millstream_dsl::{FixedKeyRecord, KeyValueStore, StreamsBuilder, ValueOut, ValueProcessor};
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;

fn counting() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    b.stream::<String, String>("in").group_by("by-value", |_, v| v.clone()).count("counts").to_stream().to("out");
    b.build()
}

/// The newest producer's id is never forgotten: with this one the program's is not the newest.
fn another_application(embedded: &Embedded) -> Result<Box<dyn Producer>> {
    Ok(embedded.log.producer(&ProducerOptions::transactional("other", "another application"), Default::default())?)
}

fn pass(embedded: &Embedded, days: u32) -> Result<()> {
    embedded.clock.advance(days * Duration::from_secs(24 * 3600));
    Ok(embedded.log.tick()?)
}

fn counts(embedded: &Embedded) -> Result<Vec<(String, i64)>> {
    Ok(embedded.read::<String, i64>("out")?.concat())
}

/// What the other instance had processed came out twice: the log said that nobody had taken over, and the thread went on from
/// its own positions.
#[test]
fn an_instance_that_comes_back_goes_on_where_another_has_ended() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    let mut program = ByHand::new(embedded, counting()?, RuntimeConfig::embedded("app"))?;
    program.embedded.write("in", 0, &[(0, Some("k"), "a"); 3])?;
    program.run()?;
    let mut second = program.another_thread()?;
    program.embedded.write("in", 0, &[(1, Some("k"), "a"); 5])?;
    for _ in 0..200 {
        second.step(program.embedded.clock.now())?;
        program.embedded.clock.advance(Duration::from_millis(60));
    }
    let _other = another_application(&program.embedded)?;
    let of_a = |numbers: i64| (1..=numbers).map(|n| ("a".to_owned(), n)).collect::<Vec<_>>();
    assert_eq!(counts(&program.embedded)?, of_a(8));
    pass(&program.embedded, 8)?;
    program.embedded.write("in", 0, &[(2, Some("k"), "a"); 2])?;
    assert!(program.run()? > 0, "it is told that the id was forgotten");
    assert_eq!(counts(&program.embedded)?, of_a(10));
    // Now it has taken over.
    let mut refused = false;
    for _ in 0..200 {
        refused |= second.step(program.embedded.clock.now()).is_err_and(|error| error.is_task_migrated());
        program.embedded.clock.advance(Duration::from_millis(60));
    }
    assert!(refused);
    assert_eq!(counts(&program.embedded)?, of_a(10));
    Ok(())
}

/// A start of the tasks read it from its first record again, into the rows that were there.
#[test]
fn a_global_store_that_adds_up_is_read_once() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    [("in", 1), ("numbers", 1)].into_iter().try_for_each(|(topic, partitions)| embedded.create(topic, partitions))?;
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    let sums = b.global_store::<String, String, String, i64, _>("numbers", "sums", |sums| {
        move |r| {
            let key = r.key.unwrap_or_default();
            let sum = sums.get(&key)?.unwrap_or(0) + 1;
            sums.put(&key, Some(sum)).map(drop)
        }
    });
    let asked = b.stream::<String, String>("in");
    asked.process_values("sum", move |setup| Sum { sums: setup.store(sums) }).to("out");
    let mut program = ByHand::new(embedded, b.build()?, RuntimeConfig::embedded("app"))?;
    program.embedded.write("numbers", 0, &[(0, Some("k"), "x"); 3])?;
    program.embedded.write("in", 0, &[(0, Some("k"), "a")])?;
    program.run()?;
    let mut second = program.another_thread()?;
    program.embedded.write("in", 0, &[(1, Some("k"), "b")])?;
    for _ in 0..200 {
        second.step(program.embedded.clock.now())?;
        program.embedded.clock.advance(Duration::from_millis(60));
    }
    let _other = another_application(&program.embedded)?;
    pass(&program.embedded, 8)?;
    program.embedded.write("in", 0, &[(2, Some("k"), "c")])?;
    assert!(program.run()? > 0, "it is told that the id was forgotten");
    assert_eq!(counts(&program.embedded)?, [3; 3].map(|sum| ("k".to_owned(), sum)));
    Ok(())
}

struct Sum {
    sums: KeyValueStore<String, i64>,
}

impl ValueProcessor for Sum {
    type K = String;
    type VIn = String;
    type VOut = i64;

    fn process(&mut self, record: FixedKeyRecord<String, String>, out: &mut ValueOut<'_, String, i64>) -> Result<()> {
        let sum = self.sums.get(record.key())?.unwrap_or(0);
        out.forward(record.with_value(sum))
    }
}

/// What the other had done during the restore was in no row: the thread went on from the other's positions with rows of before.
#[test]
fn a_restore_during_which_another_goes_on_is_done_anew() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    let mut program = ByHand::new(embedded, counting()?, RuntimeConfig::embedded("app"))?;
    for time in 0..5 {
        program.embedded.write("in", 0, &[(time, Some("k"), "a")])?;
        program.run()?;
    }
    program.kill();
    assert!(program.step()? && !program.thread()?.is_running(), "it reads one batch of five");
    let mut second = program.another_thread()?;
    program.embedded.write("in", 0, &[(5, Some("k"), "a"); 3])?;
    for _ in 0..200 {
        second.step(program.embedded.clock.now())?;
        program.embedded.clock.advance(Duration::from_millis(60));
    }
    let _other = another_application(&program.embedded)?;
    pass(&program.embedded, 8)?;
    program.embedded.write("in", 0, &[(6, Some("k"), "a"); 2])?;
    program.run()?;
    let all: Vec<_> = (1..=10).map(|n| ("a".to_owned(), n)).collect();
    assert_eq!(counts(&program.embedded)?, all);
    Ok(())
}

/// The source's policy was asked once more.
#[test]
fn a_program_that_has_committed_nothing_goes_on_where_it_was_put() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    embedded.write("in", 0, &[(0, Some("k"), "before")])?;
    let config = RuntimeConfig { offset_reset: OffsetReset::Latest, ..RuntimeConfig::embedded("app") };
    let mut program = ByHand::new(embedded, counting()?, config)?;
    program.run()?;
    let _other = another_application(&program.embedded)?;
    pass(&program.embedded, 8)?;
    program.embedded.write("in", 0, &[(1, Some("k"), "first")])?;
    assert!(program.run()? > 0, "it is told that the id was forgotten");
    assert_eq!(counts(&program.embedded)?, [("first".to_owned(), 1)]);
    Ok(())
}

#[test]
fn a_silent_program_goes_on() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    let mut program = ByHand::new(embedded, counting()?, RuntimeConfig::embedded("app"))?;
    let mut others = Vec::new();
    // A partition forgets its producers after a day, the log its transactional ids after seven.
    for (time, silence) in [(0, 1), (1, 2), (2, 8), (3, 30), (4, 0)] {
        program.embedded.write("in", 0, &[(time, Some("k"), "a"), (time, Some("k"), "b")])?;
        program.run()?;
        others.push(another_application(&program.embedded)?);
        pass(&program.embedded, silence)?;
    }
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (value, count) in counts(&program.embedded)? {
        found.entry(value).or_default().push(count);
    }
    let all: Vec<i64> = (1..=5).collect();
    assert_eq!(found, [("a".to_owned(), all.clone()), ("b".to_owned(), all)].into());
    Ok(())
}
