//! Optimized programs emit what Kafka Streams' traces say, too, with stores that come back in the middle.

use std::path::Path;

use millstream_core::{Error, Result, Topology};
use millstream_dsl::{Optimization, StreamsBuilder};
use millstream_tests::golden::{Cut, Options, Store, Trace, Via, build, replay};

/// Replays the first cases of the traces in which something can be spared. Returns how many topologies there were.
fn replay_optimized(options: &Options, first: usize) -> Result<usize> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut topologies = 0;
    for entry in std::fs::read_dir(folder).map_err(Error::user)? {
        let path = entry.map_err(Error::user)?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(Error::user)?;
        let trace: Trace = serde_json::from_str(&text).map_err(Error::user)?;
        let params = &trace.cases[0].params;
        // Not every trace has its topology yet.
        let Ok(plain) = build(&StreamsBuilder::new(), &trace.topology, params) else { continue };
        let b = StreamsBuilder::new();
        let optimized = build(b.optimize(Optimization::ALL), &trace.topology, params)?;
        let topics =
            |t: &Topology| (t.repartitions().len(), t.stores().iter().filter(|s| s.changelog.is_some()).count());
        if topics(&plain) == topics(&optimized) {
            continue;
        }
        topologies += 1;
        for case in trace.cases.iter().take(first) {
            let replayed = replay(&trace.topology, case, options)?;
            assert_eq!(replayed.difference, None, "{} seed {}", trace.topology, case.seed);
        }
    }
    Ok(topologies)
}

#[test]
fn a_step_at_a_time_with_restarts() -> Result<()> {
    let options = Options {
        store: Store::Memory,
        via: Via::Driver,
        cut: Cut::Step,
        abort_every: None,
        restart_every: Some(3),
        optimize: true,
    };
    assert!(replay_optimized(&options, 8)? > 10);
    Ok(())
}

#[test]
fn on_the_embedded_log_with_commits_that_fail() -> Result<()> {
    let options = Options {
        store: Store::Memory,
        via: Via::Thread,
        cut: Cut::One,
        abort_every: Some(3),
        restart_every: Some(5),
        optimize: true,
    };
    assert!(replay_optimized(&options, 4)? > 10);
    Ok(())
}
