//! The product says what the naive interpreter says: random programs' input, step by step, with key, value, time,
//! headers and the order within each partition.

mod product;
mod script;

use std::panic::{AssertUnwindSafe, catch_unwind};

use millstream_core::partition_for_key;
use millstream_tests::reference::{Program, Row};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::product::Product;
use crate::script::{Script, scripts};

/// A program of the catalogue, and the topics it reads.
type Compared = (&'static str, &'static [&'static str]);

#[test]
fn windows() {
    compare(&[
        ("tumbling-count", &["in"]),
        ("tumbling-reduce", &["in"]),
        ("tumbling-count-final", &["in"]),
        ("hopping-aggregate", &["in"]),
        ("sliding-count", &["in"]),
        ("sliding-aggregate", &["in"]),
        ("sliding-count-final", &["in"]),
        ("session-count", &["in"]),
        ("session-aggregate", &["in"]),
        ("session-count-final", &["in"]),
    ]);
}

#[test]
fn keys_and_tables() {
    compare(&[
        ("count", &["in"]),
        ("reduce", &["in"]),
        ("aggregate", &["in"]),
        ("word-count", &["in"]),
        ("table-group-count", &["in"]),
        ("table-group-reduce", &["in"]),
        ("table-group-aggregate", &["in"]),
        ("stream-table-inner-join", &["stream", "table"]),
        ("stream-table-left-join", &["stream", "table"]),
    ]);
}

/// Every program gets stories of its own; the shortest that shows a difference is printed for each that has one.
fn compare(programs: &[Compared]) {
    let mut differences = Vec::new();
    for (name, topics) in programs {
        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        let story = |script: Script| {
            let told = catch_unwind(AssertUnwindSafe(|| difference(name, topics, &script)));
            match told.unwrap_or_else(|_| Some("  it panics".into())) {
                Some(difference) => Err(TestCaseError::fail(difference)),
                None => Ok(()),
            }
        };
        match TestRunner::new(config).run(&scripts(topics), story) {
            Ok(()) => {}
            Err(TestError::Fail(difference, script)) => differences.push(format!("{name}: {script:?}\n{difference}")),
            Err(TestError::Abort(reason)) => differences.push(format!("{name}: no stories: {reason}")),
        }
    }
    assert!(differences.is_empty(), "{} differ\n\n{}", differences.len(), differences.join("\n\n"));
}

/// What the product and the interpreter say to the first step at which they differ.
fn difference(name: &str, topics: &[&str], script: &Script) -> Option<String> {
    let mut program = Program::new(name, &script.params, script.partitions);
    let product = match Product::new(name, topics, script) {
        Ok(product) => product,
        Err(error) => return Some(format!("  it cannot be built: {error}")),
    };
    for (number, step) in script.steps.iter().enumerate() {
        if script.restart_every.is_some_and(|every| number > 0 && number.is_multiple_of(every))
            && let Err(error) = product.restart()
        {
            return Some(format!("  before step {number} it cannot be restarted: {error}"));
        }
        let row = Row {
            key: step.key.map(str::to_owned),
            value: step.value.map(str::to_owned),
            time: step.time,
            headers: step.headers.clone(),
        };
        let wanted = by_partition(program.process(step.topic, &row), script.partitions);
        let found = match product.process(step) {
            Ok(found) => by_partition(found, script.partitions),
            Err(error) => return Some(format!("  {step} fails: {error}")),
        };
        if wanted != found {
            return Some(format!("  at {step} (step {number})\n  wanted {}\n  found  {}", show(&wanted), show(&found)));
        }
    }
    None
}

/// Records by the partition that their key chooses; a null key is anywhere.
fn by_partition(mut rows: Vec<Row>, partitions: i32) -> Vec<Row> {
    rows.sort_by_key(|row| row.key.as_ref().map(|key| partition_for_key(key.as_bytes(), partitions)));
    rows
}

fn show(rows: &[Row]) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".into());
    let headers = |row: &Row| row.headers.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>();
    let rows = rows.iter().map(|row| format!("{}:{}@{}{}", text(&row.key), text(&row.value), row.time, headers(row)));
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() { "nothing".into() } else { rows.join(", ") }
}
