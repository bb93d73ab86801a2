//! Records that are under way at once between the threads of an application, over repartition topics: what is left in the
//! end is what the naive interpreter says, which takes one after the other.

use std::collections::BTreeMap;

use millstream_core::{Result, RuntimeConfig};
use millstream_dsl::StreamsBuilder;
use millstream_tests::embedded::Embedded;
use millstream_tests::golden;
use millstream_tests::reference::{Program, Row};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::script::{Script, scripts};
use crate::{Compared, partition, rows_of, settle, show};

/// Programs in which it shows nowhere in the end which record was the first.
const SETTLE: [Compared; 5] = [
    ("word-count", &["in"]),
    ("table-group-count", &["in"]),
    ("versioned-table-group-count", &["in"]),
    ("foreign-key-inner-join", &["left", "right"]),
    ("foreign-key-left-join", &["left", "right"]),
];

#[test]
fn threads_leave_what_the_interpreter_leaves() {
    for (name, topics) in SETTLE {
        let config = Config { cases: 200, max_shrink_iters: 100, failure_persistence: None, ..Config::default() };
        let told = TestRunner::new(config).run(&scripts(topics), |script| {
            let wanted = left(script.steps.iter().flat_map({
                let mut program = Program::new(name, &script.params, script.partitions);
                move |step| program.process(step.topic, &step.row())
            }));
            let found = found(name, topics, &script).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let differ = || format!("wanted {}\n  found  {}", show(&wanted), show(&found));
            if wanted == found { Ok(()) } else { Err(TestCaseError::fail(differ())) }
        });
        assert!(told.is_ok(), "{name}: {}", told.err().map(|error| error.to_string()).unwrap_or_default());
    }
}

/// What two threads leave of a script whose records are all there when they start.
fn found(name: &str, topics: &[&str], script: &Script) -> Result<Vec<Row>> {
    let (embedded, b) = (Embedded::in_memory()?, StreamsBuilder::new());
    for topic in topics.iter().chain(&["out"]) {
        embedded.create(topic, script.partitions)?;
    }
    for step in &script.steps {
        let place = partition(&step.key.map(str::to_owned), script.partitions).unwrap_or(0);
        embedded.write(step.topic, place, &[(step.time, step.key, step.value)])?;
    }
    // A transaction is as short as can be.
    let config = RuntimeConfig { threads: 2, poll_records: 2, uncommitted_bytes: 1, ..RuntimeConfig::embedded("app") };
    embedded.streams(golden::build(&b, name, &script.params)?, config)?.run_to_end()?;
    let rows = embedded.read::<Option<String>, Option<String>>("out")?.into_iter().flatten();
    Ok(left(rows.map(|(key, value)| Row { key, value, time: 0, headers: Vec::new() })))
}

/// What is left of changes.
fn left(changes: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut table = BTreeMap::new();
    settle(&mut table, &changes.collect::<Vec<_>>());
    rows_of(&table)
}
