//! A record that fits into a batch by itself is written, whatever came before it: the log refuses batches, not records.

use std::collections::BTreeMap;

use millstream_core::{ExceptionHandler, Log, Result, RuntimeConfig, TopicSpec};
use millstream_dsl::{JoinWindows, Materialized, SECOND, StreamsBuilder};
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

/// Runs words into lists by their first letter, whose changelog takes batches of at most 2,000 bytes: the longest list of each letter.
fn into_lists(words: &[&str], processing: ExceptionHandler) -> Result<BTreeMap<String, usize>> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    let by_letter = b.stream::<Option<String>, String>("in").group_by("by-letter", |_, word| word[..1].to_owned());
    by_letter.aggregate("lists", String::new, |_, word, list| list.push_str(&word)).to_stream().to("out");
    embedded.create("in", 1)?;
    let small = BTreeMap::from([("max.message.bytes".to_owned(), "2000".to_owned())]);
    let spec = TopicSpec { name: "app-lists-changelog".to_owned(), partitions: 1, configs: small };
    embedded.log.admin().create_topic(&spec)?;
    embedded.write("in", 0, &words.iter().map(|word| (0, None, *word)).collect::<Vec<_>>())?;
    let config = RuntimeConfig { processing, ..RuntimeConfig::embedded("app") };
    embedded.streams(b.build()?, config)?.run_to_end()?;
    let lists = embedded.read::<String, Option<String>>("out")?.concat();
    Ok(lists.into_iter().map(|(letter, list)| (letter, list.map_or(0, |list| list.len()))).collect())
}

/// One commit's rows are more than a batch, and some are more than half of one.
#[test]
fn rows_of_a_store_go_in_batches_that_its_changelog_takes() -> Result<()> {
    let words: Vec<String> =
        ('a'..='z').map(|letter| letter.to_string().repeat(if letter < 'd' { 1_800 } else { 90 })).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let lists = into_lists(&words, ExceptionHandler::Fail)?;
    assert_eq!((lists.len(), lists["a"], lists["z"]), (26, 1_800, 90));
    Ok(())
}

/// The lists are as they were before it.
#[test]
fn a_record_that_makes_a_row_that_its_changelog_does_not_take_is_for_the_processing_handler() -> Result<()> {
    let (long, longer) = ("a".repeat(1_000), "a".repeat(950));
    let words = ["b", &long, "c", &longer, "ab", "b"];
    let lists = into_lists(&words, ExceptionHandler::Skip)?;
    assert_eq!(lists, [("a", 1_002), ("b", 2), ("c", 1)].map(|(letter, length)| (letter.to_owned(), length)).into());
    let error = into_lists(&words, ExceptionHandler::Fail).map_err(|error| error.to_string());
    let why =
        "a record of 2033 bytes for app-lists-changelog-0 is larger than max.message.bytes of the topic=2000\n  help: ";
    assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{error:?}");
    Ok(())
}

/// Runs values into a join with themselves, whose buffers' changelogs take batches of at most 2,000 bytes: how many have met.
fn into_a_join(values: &[&str], processing: ExceptionHandler) -> Result<usize> {
    let embedded = Embedded::in_memory()?;
    let b = StreamsBuilder::new();
    for store in ["met-left", "met-right"] {
        b.materialized(store, Materialized::new().with_logging_enabled([("max.message.bytes", "2000")]));
    }
    b.topic("left", 1).topic("right", 1).topic("out", 1);
    let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, String>("right"));
    left.join("met", &right, JoinWindows::of(SECOND), |_, _| 1_i64).to("out");
    for topic in ["left", "right"] {
        embedded.create(topic, 1)?;
        let records: Vec<_> = (0..).zip(values).map(|(time, value)| (time * 10_000, Some("a"), *value)).collect();
        embedded.write(topic, 0, &records)?;
    }
    embedded.streams(b.build()?, RuntimeConfig { processing, ..RuntimeConfig::embedded("app") })?.run_to_end()?;
    Ok(embedded.read::<String, i64>("out")?.concat().len())
}

/// They are written before the commit, in batches that know no topic.
#[test]
fn rows_of_a_joins_buffers_go_in_such_batches_too() -> Result<()> {
    let small = "x".repeat(90);
    assert_eq!(into_a_join(&vec![small.as_str(); 300], ExceptionHandler::Fail)?, 300);
    let (small, large) = (small.as_str(), "x".repeat(2_000));
    let values = [small, &large, small];
    assert_eq!(into_a_join(&values, ExceptionHandler::Skip)?, 2);
    let error = into_a_join(&values, ExceptionHandler::Fail).map_err(|error| error.to_string());
    let why = "is larger than max.message.bytes of the topic=2000\n  help: ";
    assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{error:?}");
    Ok(())
}
