//! Exception handlers on real threads with exactly-once: dead letters are written in the commit that leaves their records
//! out, however often threads fail in between; and a topic that a record has named is waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use millstream_core::{ExceptionHandler, HandlerResponse, Result, RuntimeConfig, Uncaught};
use millstream_dsl::StreamsBuilder;
use millstream_tests::embedded::Embedded;

const PARTITIONS: i32 = 4;
const PER_PARTITION: usize = 1_000;

/// Every tenth record is no number.
fn text(partition: i32, n: usize) -> String {
    if n % 10 == 3 { format!("no number {partition} {n}") } else { format!("{}", 10_000 * partition as usize + n) }
}

#[test]
fn letters_and_skips_are_one_commit() -> Result<()> {
    for threads in [1, 2, 4] {
        let embedded = Embedded::in_memory()?;
        let b = StreamsBuilder::new();
        b.topic("in", PARTITIONS).topic("out", PARTITIONS).topic("letters", PARTITIONS);
        b.stream::<Option<String>, String>("in").try_map_values(|text| text.parse::<i64>()).to("out");
        embedded.create("in", PARTITIONS)?;
        for partition in 0..PARTITIONS {
            let texts: Vec<String> = (0..PER_PARTITION).map(|n| text(partition, n)).collect();
            let records: Vec<_> = texts.iter().map(|text| (0, None, text.as_str())).collect();
            embedded.write("in", partition, &records)?;
        }
        // Some are let fail at first: what their unit of work had written goes, letters included.
        let asked = AtomicU64::new(0);
        let processing = ExceptionHandler::new(move |context| match asked.fetch_add(1, Ordering::Relaxed) {
            90 | 250 => HandlerResponse::Fail,
            _ => HandlerResponse::ContinueWith(vec![context.dead_letter("letters")]),
        });
        let config = RuntimeConfig {
            threads,
            processing,
            poll_records: 100,
            uncommitted_bytes: 4 << 10,
            batch_bytes: 512,
            ..RuntimeConfig::embedded("app")
        };
        let mut streams = embedded.streams(b.build()?, config)?;
        streams.on_uncaught(|_| Uncaught::ReplaceThread);
        streams.run_to_end()?;
        let numbers = embedded.read::<Option<String>, i64>("out")?;
        let letters = embedded.read::<Option<String>, String>("letters")?;
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let numbers = numbers.concat().into_iter().map(|(_, n)| n.to_string());
        for text in numbers.chain(letters.concat().into_iter().map(|(_, text)| text)) {
            *seen.entry(text).or_default() += 1;
        }
        let all = (0..PARTITIONS).flat_map(|partition| (0..PER_PARTITION).map(move |n| (text(partition, n), 1)));
        assert_eq!(seen, all.collect(), "{threads} threads");
        // A letter stays in the partition number of its record.
        for (partition, letters) in letters.iter().enumerate() {
            let wanted = (0..PER_PARTITION).filter(|n| n % 10 == 3).map(|n| (None, text(partition as i32, n)));
            assert_eq!(*letters, wanted.collect::<Vec<_>>(), "{threads} threads");
        }
    }
    Ok(())
}

#[test]
fn a_topic_that_is_not_there_is_waited_for_when_the_handler_says_retry() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("there", 1).stream::<Option<String>, String>("in").to_dynamic(|_, name, _| name.clone());
    let production = ExceptionHandler::new(|_| HandlerResponse::Retry);
    let mut streams = embedded.streams(b.build()?, RuntimeConfig { production, ..RuntimeConfig::embedded("app") })?;
    let (tell, told) = channel();
    streams.on_held_up(move |error| tell.send(error.to_string()).expect("somebody listens"));
    embedded.write("in", 0, &[(0, None, "there"), (0, None, "later"), (0, None, "there")])?;
    streams.start()?;
    let waits = told.recv().expect("it waits");
    assert!(waits.contains("no topic partition later-0"), "{waits}");
    assert_eq!(embedded.read::<Option<String>, String>("there")?.concat(), []);
    embedded.create("later", 1)?;
    // A thread looks again after half a second of its clock, which stands still: it is moved on.
    embedded.clock.advance(std::time::Duration::from_secs(1));
    streams.drain()?;
    streams.join()?;
    assert_eq!(embedded.read::<Option<String>, String>("there")?.concat().len(), 2);
    assert_eq!(embedded.read::<Option<String>, String>("later")?.concat().len(), 1);
    Ok(())
}
