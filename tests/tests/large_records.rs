//! A record that fits into a batch by itself is written, whatever came before it: the log refuses batches, not records.

use std::collections::BTreeMap;

use millstream_core::{ExceptionHandler, Log, Result, RuntimeConfig};
use millstream_dsl::StreamsBuilder;
use millstream_tests::embedded::Embedded;

#[test]
fn a_large_record_goes_alone() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    // A record of a million bytes, behind small ones that fill most of a batch.
    let lengthen = |v: String| if v == "long" { "x".repeat(1_000_000) } else { v.repeat(100) };
    b.stream::<Option<String>, String>("in").map_values(lengthen).to("out");
    embedded.create("in", 1)?;
    let mut records = vec![(0, None, "a"); 500];
    records.extend([(0, None, "long"), (0, None, "b")]);
    embedded.write("in", 0, &records)?;
    embedded.streams(b.build()?, RuntimeConfig::embedded("app"))?.run_to_end()?;
    let lengths: Vec<usize> =
        embedded.read::<Option<String>, String>("out")?.concat().iter().map(|(_, v)| v.len()).collect();
    assert_eq!((lengths.len(), &lengths[498..]), (502, &[100, 100, 1_000_000, 100][..]));
    Ok(())
}

/// Runs records of these lengths into a topic of batches of at most 2,000 bytes: the lengths of what it has.
fn into_small_batches(lengths: &[usize], production: ExceptionHandler) -> Result<Vec<usize>> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    b.stream::<Option<String>, String>("in").to("out");
    embedded.create("in", 1)?;
    embedded.create("out", 1)?;
    let small = BTreeMap::from([("max.message.bytes".to_owned(), "2000".to_owned())]);
    embedded.log.admin().alter_configs("out", &small)?;
    let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
    embedded.write("in", 0, &texts.iter().map(|text| (0, None, text.as_str())).collect::<Vec<_>>())?;
    let config = RuntimeConfig { production, ..RuntimeConfig::embedded("app") };
    embedded.streams(b.build()?, config)?.run_to_end()?;
    Ok(embedded.read::<Option<String>, String>("out")?.concat().iter().map(|(_, v)| v.len()).collect())
}

/// A batch was as large as `batch.size`, whatever the topic takes: the log refused it, and no start got past it.
#[test]
fn batches_are_no_larger_than_their_topic_takes() -> Result<()> {
    let lengths: Vec<usize> = (0..500).map(|n| if n % 7 == 0 { 1_900 } else { n }).collect();
    assert_eq!(into_small_batches(&lengths, ExceptionHandler::Fail)?, lengths);
    Ok(())
}

/// As one that is larger than `max.request.size`.
#[test]
fn a_record_that_its_topic_does_not_take_is_for_the_production_handler() -> Result<()> {
    let lengths = [10, 2_000, 20];
    assert_eq!(into_small_batches(&lengths, ExceptionHandler::Skip)?, [10, 20]);
    let error = into_small_batches(&lengths, ExceptionHandler::Fail).map_err(|error| error.to_string());
    let why = "a record of 2082 bytes for out-0 is larger than max.message.bytes of the topic=2000\n  help: ";
    assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{error:?}");
    Ok(())
}
