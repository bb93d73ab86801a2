//! Where a source starts without a position, or when retention has passed its position: as its own policy says, else as
//! `auto.offset.reset` says, and nowhere with `none`.

use std::sync::mpsc::channel;
use std::time::Duration;

use millstream_core::{Admin, Error, OffsetReset, Result, RuntimeConfig, State, Streams, TopicPartition, Topology};
use millstream_dsl::{Consumed, StreamsBuilder};
use millstream_tests::embedded::Embedded;

/// Copies `in`, with a policy of the source's own or without.
fn copy(reset: Option<OffsetReset>) -> Result<Topology> {
    let b = StreamsBuilder::new();
    let consumed = Consumed::of::<Option<String>, String>();
    let consumed = match reset {
        Some(reset) => consumed.reset(reset),
        None => consumed,
    };
    b.stream_with("in", consumed).to("out");
    b.build()
}

fn config(offset_reset: OffsetReset) -> RuntimeConfig {
    RuntimeConfig { offset_reset, ..RuntimeConfig::embedded("app") }
}

/// Runs the copy to the end of what is there.
fn run(embedded: &Embedded, source: Option<OffsetReset>, setting: OffsetReset) -> Result<()> {
    embedded.streams(copy(source)?, config(setting))?.run_to_end().map(drop)
}

/// The copy, when it runs: it has looked at its input then.
fn running(embedded: &Embedded, source: Option<OffsetReset>, setting: OffsetReset) -> Result<Streams> {
    let mut streams = embedded.streams(copy(source)?, config(setting))?;
    let (tell, told) = channel();
    streams.on_state_change(move |_, state| tell.send(state).expect("somebody listens"));
    streams.start()?;
    while told.recv().expect("states come until the end") != State::Running {}
    // Later states are heard by nobody.
    streams.on_state_change(|_, _| {});
    Ok(streams)
}

fn out(embedded: &Embedded) -> Result<String> {
    let records: Vec<(Option<String>, String)> = embedded.read("out")?.concat();
    Ok(records.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" "))
}

/// `in` with records of 10, 20 and 30 seconds; the clock shows 1,000 seconds.
fn with_three() -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    embedded.write("in", 0, &[(10_000, None, "a"), (20_000, None, "b"), (30_000, None, "c")])?;
    Ok(embedded)
}

/// How far back, in seconds.
fn back(seconds: u64) -> OffsetReset {
    OffsetReset::ByDuration(Duration::from_secs(seconds))
}

#[test]
fn without_a_position_the_policy_says_where() -> Result<()> {
    let cases = [
        (OffsetReset::Earliest, "a b c d"),
        (OffsetReset::Latest, "d"),
        (back(980), "b c d"),
        (back(981), "b c d"),
        (back(979), "c d"),
        (back(1), "d"),
        (back(1_000_000), "a b c d"),
    ];
    for (reset, wanted) in cases {
        // The source's own stands above the setting.
        for (source, setting) in [(None, reset), (Some(reset), OffsetReset::None)] {
            let embedded = with_three()?;
            let mut streams = running(&embedded, source, setting)?;
            embedded.write("in", 0, &[(990_000, None, "d")])?;
            streams.drain()?;
            streams.join()?;
            assert_eq!(out(&embedded)?, wanted, "{reset:?}, from {source:?}");
        }
    }
    Ok(())
}

#[test]
fn a_committed_position_needs_no_policy() -> Result<()> {
    let embedded = with_three()?;
    run(&embedded, None, OffsetReset::Earliest)?;
    embedded.write("in", 0, &[(40_000, None, "d")])?;
    run(&embedded, None, OffsetReset::Latest)?;
    embedded.write("in", 0, &[(50_000, None, "e")])?;
    run(&embedded, Some(OffsetReset::None), OffsetReset::Latest)?;
    assert_eq!(out(&embedded)?, "a b c d e");
    Ok(())
}

#[test]
fn each_source_of_a_program_has_its_own_policy() -> Result<()> {
    let embedded = with_three()?;
    embedded.create("other", 2)?;
    embedded.write("other", 1, &[(10_000, None, "x")])?;
    let b = StreamsBuilder::new();
    b.stream_with("in", Consumed::of::<Option<String>, String>().reset(back(975))).to("out");
    b.stream::<Option<String>, String>("other").to("out");
    embedded.streams(b.build()?, config(OffsetReset::Earliest))?.run_to_end()?;
    let mut read: Vec<(Option<String>, String)> = embedded.read("out")?.concat();
    read.sort();
    assert_eq!(read, [(None, "c".to_owned()), (None, "x".to_owned())]);
    Ok(())
}

#[test]
fn none_without_a_position_is_an_error_that_names_the_partition() -> Result<()> {
    for (source, setting) in [(None, OffsetReset::None), (Some(OffsetReset::None), OffsetReset::Earliest)] {
        let embedded = with_three()?;
        let error = run(&embedded, source, setting).err();
        assert!(matches!(error, Some(Error::Config(_))), "{error:?}");
        assert_eq!(
            error.map(|e| e.to_string()).unwrap_or_default(),
            "the settings are wrong: in-0 has no committed position and its offset reset is `none`\n  \
             help: set auto.offset.reset, or the source's Consumed::reset, to `earliest` or `latest`"
        );
        assert_eq!(out(&embedded)?, "");
    }
    Ok(())
}

/// Three records are copied and committed; then come four more, and the first five are deleted.
fn overtaken() -> Result<Embedded> {
    let embedded = with_three()?;
    run(&embedded, None, OffsetReset::Earliest)?;
    let more = [(40_000, None, "d"), (50_000, None, "e"), (60_000, None, "f"), (70_000, None, "g")];
    embedded.write("in", 0, &more)?;
    embedded.log.delete_records(&TopicPartition::new("in", 0), 5)?;
    Ok(embedded)
}

/// Kafka Streams: `StreamThread.resetOffsets` on an `OffsetOutOfRangeException`.
#[test]
fn behind_retention_the_policy_says_where_to_go_on() -> Result<()> {
    let cases = [(OffsetReset::Earliest, "a b c f g h"), (OffsetReset::Latest, "a b c h"), (back(930), "a b c g h")];
    for (reset, wanted) in cases {
        for (source, setting) in [(None, reset), (Some(reset), OffsetReset::None)] {
            let embedded = overtaken()?;
            running(&embedded, source, setting)?.close()?;
            embedded.write("in", 0, &[(80_000, None, "h")])?;
            // The position was committed although `latest` found nothing to process: nothing is passed over twice.
            run(&embedded, None, OffsetReset::None)?;
            assert_eq!(out(&embedded)?, wanted, "{reset:?}, from {source:?}");
        }
    }
    Ok(())
}

#[test]
fn none_behind_retention_is_an_error_that_says_what_is_left() -> Result<()> {
    let embedded = overtaken()?;
    let text = run(&embedded, None, OffsetReset::None).err().map(|e| e.to_string()).unwrap_or_default();
    let wanted = "in-0 has no record at its position 3, it holds offsets 5 to 7, and its offset reset is `none`";
    assert!(text.contains(wanted), "{text}");
    assert_eq!(out(&embedded)?, "a b c");
    Ok(())
}

/// What the application has sent on to itself was never anybody's to skip.
#[test]
fn a_repartition_topic_is_read_from_its_first_record_whatever_the_setting() -> Result<()> {
    for setting in [OffsetReset::None, OffsetReset::Latest] {
        let embedded = with_three()?;
        let b = StreamsBuilder::new();
        b.stream_with("in", Consumed::of::<Option<String>, String>().reset(OffsetReset::Earliest))
            .group_by("by-value", |_, v| v.clone())
            .count("counts")
            .to_stream()
            .to("out");
        let topology = b.build()?;
        // Records that an earlier run has sent on and did not come to read.
        embedded.create("app-by-value-repartition", 1)?;
        embedded.write("app-by-value-repartition", 0, &[(5_000, Some("a"), "a")])?;
        embedded.streams(topology, config(setting))?.run_to_end()?;
        let mut counts: Vec<(String, i64)> = embedded.read("out")?.concat();
        counts.sort();
        assert_eq!(counts, [("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
    }
    Ok(())
}
