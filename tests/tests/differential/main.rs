//! The product says what the naive interpreter says: random programs' input, step by step, with key, value, time,
//! headers and the order within each partition; where it is open how records that arrive at once meet on their way, what
//! is left in the end.

mod at_once;
mod found;
mod product;
mod script;
mod unmatched;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use millstream_core::partition_for_key;
use millstream_tests::reference::{Program, Row};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::product::Product;
use crate::script::{Script, Step, scripts};

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
        ("unlimited-count", &["in"]),
        ("cogroup-tumbling", &["left", "right"]),
        ("cogroup-tumbling-final", &["left", "right"]),
        ("cogroup-hopping", &["left", "right"]),
        ("cogroup-hopping-final", &["left", "right"]),
        ("cogroup-sliding-final", &["left", "right"]),
        ("cogroup-session", &["left", "right"]),
        ("cogroup-session-final", &["left", "right"]),
        ("two-level-aggregate", &["in"]),
        ("rekey-then-tumbling-final", &["in"]),
        ("enrich-then-window", &["stream", "table"]),
    ]);
}

#[test]
fn keys_and_tables() {
    compare(&[
        ("count", &["in"]),
        ("reduce", &["in"]),
        ("aggregate", &["in"]),
        ("word-count", &["in"]),
        ("cogroup", &["left", "right"]),
        ("to-table", &["in"]),
        ("table-filter", &["in"]),
        ("table-filter-materialized", &["in"]),
        ("table-map-values", &["in"]),
        ("table-group-count", &["in"]),
        ("table-group-reduce", &["in"]),
        ("table-group-aggregate", &["in"]),
        ("suppress-until-time-limit", &["in"]),
        ("suppress-until-window-closes", &["in"]),
        ("suppress-session-closes", &["in"]),
    ]);
}

#[test]
fn joins() {
    compare(&[
        ("stream-table-inner-join", &["stream", "table"]),
        ("stream-table-left-join", &["stream", "table"]),
        ("stream-global-table-inner-join", &["stream", "table"]),
        ("stream-global-table-left-join", &["stream", "table"]),
        ("stream-stream-inner-join", &["left", "right"]),
        ("stream-stream-left-join", &["left", "right"]),
        ("stream-stream-outer-join", &["left", "right"]),
        ("stream-self-join", &["in"]),
        ("rekey-then-join", &["left", "right"]),
        ("join-chain", &["left", "right", "table"]),
    ]);
}

#[test]
fn joins_of_tables() {
    compare(&[
        ("table-table-inner-join", &["left", "right"]),
        ("table-table-left-join", &["left", "right"]),
        ("table-table-outer-join", &["left", "right"]),
        ("foreign-key-inner-join", &["left", "right"]),
        ("foreign-key-left-join", &["left", "right"]),
        ("windowed-tables-join", &["left", "right"]),
        ("count-then-table-join", &["stream", "table"]),
    ]);
}

#[test]
fn tables_with_a_history() {
    compare(&[
        ("versioned-table", &["in"]),
        ("versioned-table-filter", &["in"]),
        ("versioned-table-group-count", &["in"]),
        ("versioned-table-table-inner-join", &["left", "right"]),
        ("versioned-table-table-left-join", &["left", "right"]),
        ("versioned-table-table-outer-join", &["left", "right"]),
        ("stream-versioned-table-inner-join", &["stream", "table"]),
        ("stream-versioned-table-left-join", &["stream", "table"]),
        ("stream-versioned-table-inner-grace-join", &["stream", "table"]),
        ("stream-versioned-table-left-grace-join", &["stream", "table"]),
        ("versioned-foreign-key-inner-join", &["left", "right"]),
        ("versioned-foreign-key-left-join", &["left", "right"]),
    ]);
}

/// Every program gets stories of its own; the shortest that shows a difference is printed for each that has one.
fn compare(programs: &[Compared]) {
    let mut differences = Vec::new();
    for (name, topics) in programs {
        let config = Config { cases: 600, max_shrink_iters: 500, failure_persistence: None, ..Config::default() };
        let rollbacks = Cell::new(0);
        let differ = |script: &Script| {
            let script = &script.buildable(name);
            let told = catch_unwind(AssertUnwindSafe(|| difference(name, topics, script, &rollbacks)));
            told.unwrap_or_else(|_| Some("  it panics".into()))
        };
        let told = TestRunner::new(config).run(&scripts(topics), |script| match differ(&script) {
            Some(difference) => Err(TestCaseError::fail(difference)),
            None => Ok(()),
        });
        match told {
            Ok(()) if rollbacks.get() == 0 => differences.push(format!("{name}: not one commit came to fail")),
            Ok(()) => {}
            Err(TestError::Fail(_, script)) => {
                let script = script.simplest(|script| differ(script).is_some());
                differences.push(format!("{name}: {script:?}\n{}", differ(&script).unwrap_or_default()));
            }
            Err(TestError::Abort(reason)) => differences.push(format!("{name}: no stories: {reason}")),
        }
    }
    assert!(differences.is_empty(), "{} differ\n\n{}", differences.len(), differences.join("\n\n"));
}

/// What the product and the interpreter say to the first fetch at which they differ.
fn difference(name: &str, topics: &[&str], script: &Script, rollbacks: &Cell<u64>) -> Option<String> {
    let mut program = Program::new(name, &script.params, script.partitions);
    let product = match Product::new(name, topics, script) {
        Ok(product) => product,
        Err(error) => return Some(format!("  it cannot be built: {error}")),
    };
    let settles = program.settles();
    let mut tables = [BTreeMap::new(), BTreeMap::new()];
    for (number, fetch) in fetches(&program, script).into_iter().enumerate() {
        if script.restart_every.is_some_and(|every| number > 0 && number.is_multiple_of(every))
            && let Err(error) = product.restart()
        {
            return Some(format!("  before fetch {number} it cannot be restarted: {error}"));
        }
        let at =
            || format!("  at {}, fetch {number}", fetch.iter().map(Step::to_string).collect::<Vec<_>>().join(", "));
        let wait = fetch.first().map_or(0, |step| step.wait);
        let mut wanted = program.wait(wait);
        wanted.extend(in_order(fetch, script.partitions).flat_map(|step| program.process(step.topic, &step.row())));
        wanted.extend(program.wait(0));
        let mut found = match product.process(fetch) {
            Ok(found) => found,
            Err(error) => return Some(format!("{}: {error}", at())),
        };
        if settles && script.fetch > 1 {
            let [wanted_rows, found_rows] = [(&wanted, 0), (&found, 1)].map(|(rows, side)| {
                settle(&mut tables[side], rows);
                rows_of(&tables[side])
            });
            (wanted, found) = (wanted_rows, found_rows);
        } else if fetch.len() == 1 && wait == 0 {
            wanted.sort_by_key(|row| partition(&row.key, script.partitions));
            found.sort_by_key(|row| partition(&row.key, script.partitions));
        } else {
            // Several tasks may have written to a partition, but only one of them about a key.
            wanted.sort_by_key(|row| row.key.clone());
            found.sort_by_key(|row| row.key.clone());
        }
        if wanted != found {
            return Some(format!("{}\n  wanted {}\n  found  {}", at(), show(&wanted), show(&found)));
        }
    }
    rollbacks.set(rollbacks.get() + product.rollbacks());
    None
}

/// What is left of a table after its changes: values by key.
fn settle(table: &mut BTreeMap<Option<String>, String>, changes: &[Row]) {
    for change in changes {
        match change.value.clone() {
            Some(value) => drop(table.insert(change.key.clone(), value)),
            None => drop(table.remove(&change.key)),
        }
    }
}

/// Rows that have a key and a value alone.
fn rows_of(table: &BTreeMap<Option<String>, String>) -> Vec<Row> {
    let row = |(key, value): (&Option<String>, &String)| Row {
        key: key.clone(),
        value: Some(value.clone()),
        time: 0,
        headers: Vec::new(),
    };
    table.iter().map(row).collect()
}

/// What arrives at once, a wait before it. Where it would be open which of two records is processed first, they do not.
fn fetches<'a>(program: &Program, script: &'a Script) -> Vec<&'a [Step]> {
    if program.settles() {
        return script.steps.chunks(script.fetch).collect();
    }
    let most = if program.has_order() { script.fetch } else { 1 };
    let mut fetches = Vec::new();
    let mut rest = script.steps.as_slice();
    while !rest.is_empty() {
        let tie = (1..rest.len().min(most)).find(|end| {
            let next = &rest[*end];
            next.wait > 0 || rest[..*end].iter().any(|step| step.topic != next.topic && step.time == next.time)
        });
        let (fetch, later) = rest.split_at(tie.unwrap_or(most).min(rest.len()));
        fetches.push(fetch);
        rest = later;
    }
    fetches
}

/// The order in which records that arrive at once are processed: of each partition's topics, the one whose next record
/// is the oldest comes first (semantics.md 4).
fn in_order(fetch: &[Step], partitions: i32) -> impl Iterator<Item = &Step> {
    let mut rest: Vec<&Step> = fetch.iter().collect();
    std::iter::from_fn(move || {
        let place = |step: &Step| partition(&step.key.map(str::to_owned), partitions).unwrap_or(0);
        let first = rest.first().copied()?;
        let is_head = |at: usize| rest[..at].iter().all(|s| place(s) != place(rest[at]) || s.topic != rest[at].topic);
        let heads = (0..rest.len()).filter(|at| place(rest[*at]) == place(first) && is_head(*at));
        let next = heads.min_by_key(|at| rest[*at].time)?;
        Some(rest.remove(next))
    })
}

/// The partition that a key chooses; a null key is anywhere.
fn partition(key: &Option<String>, partitions: i32) -> Option<i32> {
    key.as_ref().map(|key| partition_for_key(key.as_bytes(), partitions))
}

fn show(rows: &[Row]) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".into());
    let headers = |row: &Row| row.headers.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>();
    let rows = rows.iter().map(|row| format!("{}:{}@{}{}", text(&row.key), text(&row.value), row.time, headers(row)));
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() { "nothing".into() } else { rows.join(", ") }
}
