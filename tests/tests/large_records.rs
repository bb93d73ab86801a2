//! A record that fits into a batch by itself is written, whatever came before it: the log refuses batches, not records.

use millstream_core::{Result, RuntimeConfig};
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
