//! What the comparison has found, in as few records as it takes.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::difference;
use crate::script::{Script, Step};

/// Runs a program on one partition over records like `left a:x@5`, `null` for a null, and compares.
fn tell(name: &str, params: &[(&str, i64)], restart_every: Option<usize>, records: &[&'static str]) {
    let params: BTreeMap<String, i64> = params.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect();
    let steps = records.iter().copied().map(step).collect();
    let script = Script { partitions: 1, params, fetch: 1, restart_every, abort_every: None, steps };
    assert_eq!(difference(name, &[], &script, &Cell::new(0)), None);
}

fn step(record: &'static str) -> Step {
    let not_null = |text| Some(text).filter(|text| *text != "null");
    let (topic, record) = record.split_once(' ').expect("topic key:value@time");
    let (record, time) = record.split_once('@').expect("topic key:value@time");
    let (key, value) = record.split_once(':').expect("topic key:value@time");
    let time = time.parse().expect("a time is a number");
    Step { topic, key: not_null(key), value: not_null(value), time, wait: 0, headers: Vec::new() }
}

#[test]
fn a_closed_session_is_there_for_the_record_that_joins_it_to_an_open_one() {
    let params = [("gap", 3), ("grace", 0), ("default_retention", 1)];
    tell("session-count", &params, None, &["in a:at@0", "in a:at@4", "in a:at@1"]);
}

#[test]
fn a_record_that_is_only_just_not_late_knows_the_one_before_it() {
    let params = [("difference", 2), ("grace", 5), ("default_retention", 1)];
    tell("sliding-count", &params, None, &["in c:at@13", "in c:at@20", "in c:at@21", "in c:at@15"]);
}

#[test]
fn the_slower_input_of_a_cogroup_is_late_for_windows_that_have_expired_even_after_a_restart() {
    let params = [("size", 4), ("grace", 17), ("default_retention", 1)];
    tell("cogroup-tumbling", &params, Some(1), &["right b:at@1000071", "right a:at@1000093", "left b:at@1000069"]);
}

#[test]
fn a_join_knows_after_a_restart_how_far_a_null_value_had_moved_its_time() {
    let params = [("before", 2), ("after", 4), ("grace", 9)];
    tell("stream-stream-inner-join", &params, Some(1), &["left e:at@23", "left a:null@40", "right e:at@23"]);
    tell("stream-self-join", &params, Some(1), &["in a:null@107", "in a:at@75"]);
}

#[test]
fn a_look_at_waiting_records_stops_between_two_of_one_key_and_time() {
    let params = [("before", 0), ("after", 4), ("grace", 11)];
    let records = ["left a:at@11", "right a:at@16", "right a:b0@16", "left b:at@20", "right a:at@24", "left b:at@33"];
    tell("stream-stream-outer-join", &params, None, &records);
}
