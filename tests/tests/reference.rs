//! The naive interpreter says what Kafka Streams said: the golden traces, replayed by it.

use std::fmt::Write as _;

use millstream_tests::golden::{Case, Input, Trace};
use millstream_tests::reference::{Program, Row, known};

fn show(topic: &str, row: &Row) -> String {
    format!("{topic} {:?}:{:?}@{}", row.key, row.value, row.time)
}

/// The first step at which the interpreter says something else than the trace.
fn difference(name: &str, case: &Case) -> Option<String> {
    let mut program = Program::new(name, &case.params, 1);
    let mut script = String::new();
    for step in &case.steps {
        let Input::Record { topic, key, value, ts } = &step.input else { continue };
        let row = Row { key: key.clone(), value: value.clone(), time: *ts, headers: Vec::new() };
        let _infallible = write!(script, "\n  {}", show(topic, &row));
        let found: Vec<String> = program.process(topic, &row).iter().map(|row| show("out", row)).collect();
        let as_row = |e: &millstream_tests::golden::Emitted| {
            let row = Row { key: e.key.clone(), value: e.value.clone(), time: e.ts, headers: Vec::new() };
            show(&e.topic, &row)
        };
        let wanted: Vec<String> = step.out.as_ref().expect("a trace says what comes out").iter().map(as_row).collect();
        if found != wanted {
            return Some(format!("{name} {:?}:{script}\n  wanted {wanted:#?}\n  found {found:#?}", case.params));
        }
    }
    None
}

#[test]
fn every_program_of_the_interpreter_replays_its_golden_trace() {
    let mut differences = Vec::new();
    for name in known() {
        let path = format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let trace = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let trace: Trace = serde_json::from_str(&trace).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(!trace.cases.is_empty(), "{path} has no cases");
        differences.extend(trace.cases.iter().find_map(|case| difference(name, case)));
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n\n"));
}
