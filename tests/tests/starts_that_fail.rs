//! A start that cannot be ends with an error, and so does what waits for it.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Log, QueryError, Result, RuntimeConfig, State, Streams, SystemClock, Topology};
use millstream_dsl::{InteractiveQueries, KeyQuery, StreamsBuilder, in_store};
use millstream_tests::embedded::Embedded;

fn counts() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("in").group_by("by-word", |_, word| word.clone()).count("words");
    b.build()
}

/// In a process of its own, whose threads ask for more stack than any system has.
#[test]
fn a_system_that_gives_no_thread_ends_the_application() -> Result<()> {
    const CHILD: &str = "MILLSTREAM_TEST_WITHOUT_THREADS";
    if std::env::var_os(CHILD).is_none() {
        let own = std::env::current_exe().expect("a test has a file");
        let mut child = Command::new(own);
        child.args(["--exact", "a_system_that_gives_no_thread_ends_the_application", "--test-threads=1"]);
        let child = child.env(CHILD, "1").env("RUST_MIN_STACK", (1_u64 << 60).to_string()).output();
        let output = child.expect("the test starts again");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return Ok(());
    }
    let embedded = Embedded::in_memory()?;
    let mut streams = embedded.streams(counts()?, RuntimeConfig { threads: 2, ..RuntimeConfig::embedded("app") })?;
    let error = streams.start().expect_err("no thread").to_string();
    assert!(error.starts_with("no stream thread 1: "), "{error}");
    assert!(error.ends_with("\n  help: a lower num.stream.threads, or a higher limit of the system's"), "{error}");
    assert_eq!(streams.state(), State::Error);
    let query = in_store("words", KeyQuery::<String, i64>::with_key("hat".to_owned()));
    let asked = streams.query(query.waiting(Duration::from_secs(60))).map(drop);
    assert!(matches!(asked, Err(QueryError::NotRunning(State::Error))), "{asked:?}");
    assert_eq!(streams.join().expect_err("it failed").to_string(), error);
    Ok(())
}

/// Nobody but the caller syncs then: what is written down before the start was waited for without end.
#[test]
fn a_log_without_threads_syncs_what_a_start_waits_for() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(SystemClock::default());
    let mut options = BrokerOptions::new(folder.path(), clock.clone());
    (options.threads, options.durability) = (false, Durability::Disk);
    let log = Broker::open(options)?;
    let (told, tells) = std::sync::mpsc::channel();
    let own = log.clone();
    std::thread::spawn(move || {
        let config = RuntimeConfig::embedded("app");
        let run = || Streams::new(counts()?, config, Arc::new(own) as Arc<dyn Log>, clock)?.run_to_end();
        told.send(run().map(drop)).expect("somebody waits");
    });
    tells.recv_timeout(Duration::from_secs(30)).expect("it comes to an end")?;
    Ok(log.close()?)
}
