//! A table that keeps no more than so many rows, against a list in the order of use.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use millstream_core::{ChangelogRecord, ChangelogWriter, NumberSerde, StateStore, Timestamp};
use millstream_state::KeyValueTable;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Put(u8, Option<i64>),
    Scan,
    Flush,
    Committed,
    Rollback,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..12u8).prop_map(Step::Get),
        8 => (0..12u8, proptest::option::weighted(0.8, 0..100i64)).prop_map(|(k, v)| Step::Put(k, v)),
        1 => Just(Step::Scan),
        1 => Just(Step::Flush),
        1 => Just(Step::Committed),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Rows in the order of their last use: key, value, time.
type Used = Vec<(u8, i64, Timestamp)>;

/// The rows again after a start, or a rollback.
fn by_time(rows: &Used) -> Used {
    let mut rows = rows.clone();
    rows.sort_unstable_by_key(|(key, _, time)| (*time, *key));
    rows
}

type Changelog = BTreeMap<Vec<u8>, (Option<Vec<u8>>, Timestamp)>;

fn flush(table: &mut KeyValueTable<NumberSerde<i64>>, changelog: &mut Changelog) {
    let mut writer = ChangelogWriter::default();
    table.flush(&mut writer).expect("numbers can be written");
    for batch in writer.into_batches() {
        let mut records = batch.into_records(0);
        while let Some(record) = records.next() {
            let record = record.expect("a whole record");
            let (key, value) = (record.key.expect("a key"), record.value.map(|v| v.as_slice().to_vec()));
            changelog.insert(key.as_slice().to_vec(), (value, record.timestamp));
        }
    }
}

fn table(most: usize, changelog: &Changelog) -> KeyValueTable<NumberSerde<i64>> {
    let mut table = KeyValueTable::new("rows", NumberSerde::<i64>::default(), true).larger_than_memory();
    assert!(table.keep_most_recent(most));
    for (key, (value, timestamp)) in changelog {
        let (value, timestamp) = (value.as_deref(), *timestamp);
        let record = ChangelogRecord { key, value, timestamp, headers: &[], offset: 0 };
        table.restore(record).expect("what was flushed can be restored");
    }
    table.restored();
    table
}

proptest! {
    #[test]
    fn it_keeps_what_was_used_last(most in 1..6usize, steps in steps()) {
        let (mut present, mut flushed, mut committed) = (Used::new(), None, Used::new());
        // What is in the log with the commit, and with the one under way.
        let (mut log, mut log_under_way) = (Changelog::new(), Changelog::new());
        let mut tested = table(most, &log);
        for (time, step) in (0..).zip(steps) {
            match step {
                Step::Get(key) => {
                    let found = present.iter().position(|(other, ..)| *other == key).map(|at| present.remove(at));
                    present.extend(found);
                    let answer = tested.get(&[key]).expect("in memory").map(|(value, time)| (*value, time));
                    prop_assert_eq!(answer, found.map(|(_, value, time)| (value, time)));
                }
                Step::Put(key, value) => {
                    present.retain(|(other, ..)| *other != key);
                    present.extend(value.map(|value| (key, value, time)));
                    let surplus = present.len().saturating_sub(most);
                    present.drain(..surplus);
                    tested.put(&[key], value, time).expect("in memory");
                }
                Step::Scan => {
                    let mut rows = Vec::new();
                    let mut row = |key: &[u8], value: &i64, time| {
                        rows.push((key[0], *value, time));
                        Ok(ControlFlow::Continue(()))
                    };
                    tested.scan((Bound::Unbounded, Bound::Unbounded), false, &mut row).expect("in memory");
                    let mut wanted = present.clone();
                    wanted.sort_unstable();
                    prop_assert_eq!(rows, wanted);
                }
                Step::Flush if flushed.is_none() => {
                    log_under_way = log.clone();
                    flush(&mut tested, &mut log_under_way);
                    flushed = Some(present.clone());
                }
                Step::Committed => {
                    if let Some(rows) = flushed.take() {
                        (committed, log) = (rows, log_under_way.clone());
                        tested.committed();
                    }
                }
                Step::Rollback => {
                    tested.rollback();
                    (present, flushed) = (by_time(&committed), None);
                }
                Step::Restart => {
                    tested = table(most, &log);
                    (present, flushed) = (by_time(&committed), None);
                }
                Step::Flush => {}
            }
        }
    }
}
