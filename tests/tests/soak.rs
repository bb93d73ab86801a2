//! What a program under a steady load takes of the machine does not grow: 20 seconds of `./dev soak`.

#![cfg(target_os = "linux")]

use std::time::Duration;

use millstream_core::{Error, Result};
use millstream_tests::soak::{grown, run};

#[test]
fn twenty_seconds_of_steady_load() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::user)?;
    let samples = run(folder.path(), Duration::from_secs(20), Duration::from_millis(500), &mut |_| {})?;
    let threads: Vec<String> = grown(&samples).into_iter().filter(|what| what.starts_with("threads")).collect();
    assert_eq!(threads, [""; 0]);
    // Buffers fill, and the first files are deleted, in the first minute: until then there is a bound.
    let last = samples[samples.len() - 1];
    assert!(last.usage.memory < 500 << 20 && last.usage.handles < 150, "{last:?}");
    assert!(last.records.1 > 50_000, "{last:?}");
    Ok(())
}

/// One of a minute failed beside other load: it had four samples to judge from, of files that were still becoming as many as there are.
#[test]
fn one_that_is_too_short_to_judge_is_refused() {
    for minutes in ["0.5", "1", "2.9", "ten"] {
        let soak = std::process::Command::new(env!("CARGO_BIN_EXE_soak")).args(["--minutes", minutes]).output();
        let soak = soak.expect("it runs");
        let says = String::from_utf8_lossy(&soak.stderr).into_owned();
        assert_eq!((soak.status.code(), says.contains("from 3 on")), (Some(2), true), "{minutes}: {says}");
    }
}
