//! A run to the end of its input is not over before all of it is committed, whatever fails on the way.
//!
//! The last commit of a run, of windows that its end had closed, could fail and be rolled back: the run ended without them. A full disk
//! at a commit between two rounds ended the run with an error instead of holding it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_core::{Log, Result, RuntimeConfig, StateDisk, Streams, Topology};
use millstream_dsl::{SECOND, StreamsBuilder, TimeWindows};
use millstream_tests::embedded::Embedded;
use millstream_tests::failing_disk::{FailingCalls, FailingDisk, Trouble};
use millstream_tests::faults::FailingCommits;
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};

fn windows() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 1).topic("out", 1);
    let windows = b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close();
    windows.count("counts").to_stream().map(|key, n| (key.key, n)).to("out");
    b.build()
}

/// A log with some records, and what a run to their end makes of them.
fn world() -> Result<(Embedded, Vec<(String, i64)>)> {
    let embedded = Embedded::in_memory()?;
    drop(embedded.streams(windows()?, RuntimeConfig::embedded("app"))?);
    embedded.write(
        "in",
        0,
        &[(0, Some("a"), "x"), (500, Some("a"), "x"), (1_000, Some("b"), "x"), (5_000, Some("c"), "x")],
    )?;
    Ok((embedded, [("a", 2), ("b", 1), ("c", 1)].map(|(key, n)| (key.to_owned(), n)).to_vec()))
}

#[test]
fn a_last_commit_that_fails_is_done_again() -> Result<()> {
    for every in [2, 3, 4, 5] {
        let (embedded, expected) = world()?;
        let log: Arc<dyn Log> = Arc::new(FailingCommits::new(Arc::new(embedded.log.clone()), every));
        Streams::new(windows()?, RuntimeConfig::embedded("app"), log, embedded.clock.clone())?.run_to_end()?;
        assert_eq!(embedded.read::<String, i64>("out")?.concat(), expected, "every {every}th");
    }
    Ok(())
}

#[test]
fn a_full_disk_for_state_holds_it_up() -> Result<()> {
    let mut held_up = 0;
    for from in 0..8 {
        let (embedded, expected) = world()?;
        let disk = FailingDisk::new(Arc::new(SimDisk::new(Dice::new(1), Mishaps::default(), 0)));
        disk.fail(Some(FailingCalls { from, times: 1, trouble: Trouble::Full }));
        let disk = Some(Arc::new(disk) as Arc<dyn StateDisk>);
        let mut streams = embedded.streams(windows()?, RuntimeConfig { disk, ..RuntimeConfig::embedded("app") })?;
        let waits = Arc::new(AtomicUsize::new(0));
        let waited = waits.clone();
        streams.on_held_up(move |error| {
            assert!(error.is_retriable() && !error.is_fatal(), "{error}");
            waits.fetch_add(1, Ordering::Relaxed);
        });
        match streams.run_to_end() {
            // The last call is that of the end, when everything is committed.
            Err(error) => assert!(error.to_string().contains("told to fail") && error.is_retriable(), "{error}"),
            Ok(_) => held_up += waited.load(Ordering::Relaxed),
        }
        assert_eq!(embedded.read::<String, i64>("out")?.concat(), expected, "from {from}");
    }
    assert!(held_up > 0);
    Ok(())
}
