//! No record of an outer join is lost: when time has gone on far enough, each has come out, in a pair or alone.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::difference;
use crate::product::Product;
use crate::script::{Script, Step, scripts};

const OUTER: &str = "stream-stream-outer-join";
const TOPICS: &[&str] = &["left", "right"];

/// Which sides' records are the last.
const ENDS: &[&[&str]] = &[&["left"], &["right"], &["left", "right"], &["right", "left"]];

#[test]
fn every_record_of_an_outer_join_comes_out() {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let ends = prop::sample::select(ENDS);
    let stories = (scripts(TOPICS), ends, prop_oneof![Just(1_000_000i64), 30..60i64]);
    let told = TestRunner::new(config).run(&stories, |(mut script, ends, far)| {
        script.partitions = 1;
        let newest = script.steps.iter().map(|step| step.time).max().unwrap_or_default();
        // Beyond every window and grace.
        let far = far.max(script.params["before"].max(script.params["after"]) + script.params["grace"] + 1);
        for topic in ends {
            script.steps.push(Step {
                topic,
                key: Some("z"),
                value: Some("end"),
                time: newest + far,
                wait: 0,
                headers: Vec::new(),
            });
        }
        let lost = lost(&script).or_else(|| difference(OUTER, TOPICS, &script, &Cell::new(0)));
        lost.map_or(Ok(()), |lost| Err(TestCaseError::fail(lost)))
    });
    assert!(told.is_ok(), "{}", told.err().map(|e| e.to_string()).unwrap_or_default());
}

/// The first record that has not come out, but for those at the end.
fn lost(script: &Script) -> Option<String> {
    let product = Product::new(OUTER, TOPICS, script).ok()?;
    let mut out = BTreeSet::new();
    for fetch in script.steps.chunks(script.fetch) {
        for row in product.process(fetch).ok()? {
            let Some((left, right)) = row.value.as_deref().and_then(|value| value.split_once('+')) else { continue };
            let key = row.key.clone();
            out.extend([("left", key.clone(), left.to_owned()), ("right", key, right.to_owned())]);
        }
    }
    let steps = script.steps.iter().filter(|step| step.key != Some("z"));
    let mut missing = steps.filter_map(|step| {
        let record = (step.topic, step.key.map(str::to_owned), step.value?.to_owned());
        (!out.contains(&record)).then(|| format!("{step} has not come out"))
    });
    missing.next()
}
