//! The tables against plain maps: random changes, flushes, commits, rollbacks, and restores from what was flushed.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, RangeInclusive};

use millstream_core::{ChangelogRecord, ChangelogWriter, NumberSerde, StateStore, Timestamp};
use millstream_state::{KeyValueTable, Place, SessionBounds, TimedTable, WindowStart};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Option<i64>),
    Flush,
    Committed,
    Rollback,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..20u8, proptest::option::of(0..100i64)).prop_map(|(k, v)| Step::Put(k, v)),
        1 => Just(Step::Flush),
        1 => Just(Step::Committed),
        1 => Just(Step::Rollback),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What a changelog leaves: the last value of every key.
type Compacted = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows as a flush writes them.
type Written = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Flushes a store and returns its changelog, in order.
fn flush(store: &mut dyn StateStore) -> Written {
    let mut writer = ChangelogWriter::default();
    store.flush(&mut writer).expect("numbers can be written");
    let mut rows = Vec::new();
    for batch in writer.into_batches() {
        let mut records = batch.into_records(0);
        while let Some(record) = records.next() {
            let record = record.expect("a whole record");
            rows.push((record.key.expect("a key").as_slice().to_vec(), record.value.map(|v| v.as_slice().to_vec())));
        }
    }
    rows
}

fn restore(store: &mut dyn StateStore, log: &Compacted) {
    for (key, value) in log {
        let record = ChangelogRecord { key, value: value.as_deref(), timestamp: 0, headers: &[], offset: 0 };
        store.restore(record).expect("what was flushed can be restored");
    }
}

/// What a map does with a row.
fn put_in_map(map: &mut BTreeMap<u8, i64>, key: u8, value: Option<i64>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// What closes within a range of times: each row once, in the order of time, key, place.
fn closed<P: Place>(
    table: &mut TimedTable<P, NumberSerde<i64>>,
    times: RangeInclusive<Timestamp>,
) -> Vec<(P, Vec<u8>, i64)> {
    let (mut closing, mut found) = (table.closing(times).expect("in memory"), Vec::new());
    while table
        .closed(&mut closing, |key, place, value, _| found.push((place, key.to_vec(), *value)))
        .expect("in memory")
    {}
    let order = |(place, key, _): &(P, Vec<u8>, i64)| (place.time(), key.clone(), *place);
    assert!(found.is_sorted_by(|a, b| order(a) < order(b)), "{found:?}");
    found
}

/// Tells a store now and then keys that come next: some do, others do not.
fn read_ahead(store: &dyn StateStore, value: Option<i64>) {
    if value.is_some_and(|value| value % 3 == 0) {
        store.touch(&[&[0], &[2], &[1], &[2]]);
    }
}

/// Runs steps on a store and on maps; `put`, for both, and `rows` are the store's own.
fn check<S: StateStore>(
    steps: Vec<Step>,
    make: impl Fn() -> S,
    put: impl Fn(&mut S, &mut BTreeMap<u8, i64>, u8, Option<i64>),
    rows: impl Fn(&mut S) -> BTreeMap<u8, i64>,
) {
    let mut store = make();
    let (mut now, mut committed) = (BTreeMap::new(), BTreeMap::new());
    let mut under_way: Option<(BTreeMap<u8, i64>, Written)> = None;
    let mut log = Compacted::new();
    for step in steps {
        match step {
            Step::Put(key, value) => put(&mut store, &mut now, key, value),
            Step::Flush if under_way.is_none() => under_way = Some((now.clone(), flush(&mut store))),
            Step::Committed => {
                if let Some((state, written)) = under_way.take() {
                    committed = state;
                    log.extend(written);
                    store.committed();
                }
            }
            Step::Rollback => {
                under_way = None;
                now.clone_from(&committed);
                store.rollback();
            }
            Step::Flush => {}
        }
        assert_eq!(rows(&mut store), now);
    }
    let mut restored = make();
    restore(&mut restored, &log);
    assert_eq!(rows(&mut restored), committed, "restored from what was committed");
}

proptest! {
    #[test]
    fn a_key_value_table_is_a_map_that_can_go_back(steps in steps()) {
        check(
            steps,
            || KeyValueTable::new("t", NumberSerde::<i64>::default(), true),
            |table, map, key, value| {
                put_in_map(map, key, value);
                table.put(&[key], value, 0).unwrap();
            },
            |table| {
                let mut scanned = BTreeMap::new();
                table.scan((Bound::Unbounded, Bound::Unbounded), false, &mut |key, value, _| {
                    scanned.insert(key[0], *value);
                    Ok(ControlFlow::Continue(()))
                }).unwrap();
                for key in 0..20 {
                    assert_eq!(table.get(&[key]).unwrap().map(|(v, _)| *v), scanned.get(&key).copied());
                }
                scanned
            },
        );
    }

    #[test]
    fn a_window_table_is_a_map_that_can_go_back(steps in steps()) {
        // Four keys with five windows each.
        let place = |key: u8| ([key / 5], WindowStart(i64::from(key % 5) * 10));
        check(
            steps,
            || TimedTable::<WindowStart, _>::new("t", NumberSerde::<i64>::default(), 1_000),
            |table, map, key, value| {
                put_in_map(map, key, value);
                let (key, start) = place(key);
                read_ahead(table, value);
                table.observe(start.0);
                table.change(&key, start).unwrap().value = value;
            },
            |table| {
                let all = WindowStart(0)..=WindowStart(100);
                let mut found = BTreeMap::new();
                for key in 0..4u8 {
                    let bytes = [key];
                    let fetched = table.fetch(&bytes, all.clone()).unwrap();
                    found.extend(fetched.map(|(start, value, _)| (key * 5 + (start.0 / 10) as u8, *value)));
                }
                let closing = closed(table, 0..=100).into_iter();
                let closing = closing.map(|(start, key, value)| (key[0] * 5 + (start.0 / 10) as u8, value)).collect();
                assert_eq!(found, closing);
                found
            },
        );
    }
}

proptest! {
    #[test]
    fn a_session_that_moves_can_go_back_too(steps in steps()) {
        // Four keys with five sessions each; even values move the newest session of their key, if it is not newer.
        let place = |key: u8| ([key / 5], SessionBounds { end: i64::from(key % 5) * 10, start: 0 });
        let number = |key: u8, bounds: SessionBounds| key * 5 + (bounds.end / 10) as u8;
        check(
            steps,
            || TimedTable::<SessionBounds, _>::new("t", NumberSerde::<i64>::default(), 1_000),
            |table, map, to, value| {
                let (key, bounds) = place(to);
                read_ahead(table, value);
                let mut left = bounds;
                let moved = value.filter(|value| value % 2 == 0).and_then(|value| {
                    let newest = |newest, _| {
                        left = newest;
                        (newest <= bounds).then_some(bounds)
                    };
                    let rows = table.rows_of(&key, bounds);
                    table.move_newest(rows, newest)?.1.value.replace(value)
                });
                if moved.is_some() {
                    put_in_map(map, number(key[0], left), None);
                } else {
                    table.change(&key, bounds).unwrap().value = value;
                }
                put_in_map(map, to, value);
            },
            |table| {
                let all = place(0).1..=place(4).1;
                let mut found = BTreeMap::new();
                for key in 0..4u8 {
                    let bytes = [key];
                    let fetched = table.fetch(&bytes, all.clone()).unwrap();
                    found.extend(fetched.map(|(bounds, value, _)| (number(key, bounds), *value)));
                }
                let closing = closed(table, 0..=100).into_iter();
                let closing = closing.map(|(bounds, key, value)| (number(key[0], bounds), value)).collect();
                assert_eq!(found, closing);
                found
            },
        );
    }
}

proptest! {
    /// Buckets are read once and never again: sessions that grow are found where they end, new and old ones, after a
    /// rollback too, and what another reader that is behind asks for is still there.
    #[test]
    fn what_closes_step_by_step_is_what_stands_there(steps in steps()) {
        let mut table = TimedTable::<SessionBounds, _>::new("t", NumberSerde::<i64>::default(), 1_000);
        let point = |time: Timestamp| SessionBounds { end: time, start: time };
        let all = point(Timestamp::MIN)..=point(Timestamp::MAX);
        let (mut now, mut committed, mut flushed, mut behind) = (0, 0, None, 0);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key, value) => {
                    let to = now + i64::from(key / 3);
                    let key = [key % 3];
                    let grows = value.is_some_and(|value| value % 4 != 0);
                    let longer = |newest: SessionBounds, _| {
                        Some(newest.with(point(to))).filter(|longer| grows && newest.end <= to && newest != *longer)
                    };
                    let rows = table.rows_of(&key, point(to));
                    if table.move_newest(rows, longer).is_none() {
                        table.change_at(rows, point(to)).unwrap().value = value;
                    }
                }
                Step::Flush if flushed.is_none() => {
                    flush(&mut table);
                    flushed = Some(now);
                }
                Step::Committed if flushed.is_some() => {
                    table.committed();
                    committed = flushed.take().expect("a flush");
                }
                Step::Rollback => {
                    table.rollback();
                    (now, flushed) = (committed, None);
                    behind = behind.min(now);
                }
                Step::Flush | Step::Committed => {}
            }
            let reader = if number % 7 == 0 { &mut behind } else { &mut now };
            let times = *reader..=*reader + 2;
            *reader += 3;
            let mut stands: Vec<_> = (0..3u8)
                .flat_map(|key| table.fetch(&[key], all.clone()).unwrap().map(|(p, v, _)| (p, vec![key], *v)).collect::<Vec<_>>())
                .filter(|(place, ..)| times.contains(&place.end))
                .collect();
            stands.sort_by_key(|(place, key, _)| (place.end, key.clone(), *place));
            assert_eq!(closed(&mut table, times), stands);
        }
    }
}

#[test]
fn what_is_older_than_the_retention_is_gone_at_once_and_comes_back_with_a_rollback() {
    let mut table = TimedTable::<WindowStart, _>::new("t", NumberSerde::<i64>::default(), 100);
    table.observe(0);
    table.change(b"k", WindowStart(0)).unwrap().value = Some(1);
    flush(&mut table);
    table.committed();
    let seen = |table: &mut TimedTable<WindowStart, NumberSerde<i64>>| {
        table.get(b"k", WindowStart(0)).unwrap().map(|(v, _)| *v)
    };
    table.observe(99);
    assert_eq!(seen(&mut table), Some(1));
    table.observe(100);
    assert_eq!(seen(&mut table), None);
    table.rollback();
    assert_eq!(seen(&mut table), Some(1));
    // Passed over for good, it is removed.
    table.observe(1_000);
    table.change(b"k", WindowStart(1_000)).unwrap().value = Some(2);
    flush(&mut table);
    table.committed();
    table.rollback();
    assert_eq!(closed(&mut table, 0..=2_000).len(), 1);
}

/// Keys are looked up when they are read ahead: one whose rows are gone when its record comes would be put where nobody finds it.
#[test]
fn a_key_that_went_after_it_was_read_ahead_is_new() {
    let mut table = TimedTable::<WindowStart, _>::new("t", NumberSerde::<i64>::default(), 100);
    for (key, time) in [(b"k", 0), (b"o", 1_000)] {
        table.observe(time);
        table.change(key, WindowStart(time)).unwrap().value = Some(1);
        table.touch(&[b"k"]);
        flush(&mut table);
        table.committed();
    }
    table.change(b"k", WindowStart(1_000)).unwrap().value = Some(2);
    assert_eq!(table.get(b"k", WindowStart(1_000)).unwrap().map(|(v, _)| *v), Some(2));
    let keys: Vec<_> = closed(&mut table, 0..=2_000).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, [b"k", b"o"]);
}

/// Without undo a deletion is final at once: rows of keys that are gone stayed in memory for ever.
#[test]
fn what_is_deleted_without_undo_leaves_memory_and_open_scans_see_it() {
    let mut table = KeyValueTable::new("t", NumberSerde::<i64>::default(), false);
    for round in 0..3 {
        for key in 0..100u8 {
            table.put(&[key], Some(i64::from(key)), round).expect("a row");
        }
        let mut scan = table.open_scan((Bound::Unbounded, Bound::Unbounded));
        for key in (0..=255u8).rev() {
            table.put(&[key], None, round).expect("a deletion");
            table.put(&[key], None, round).expect("a deletion of what is not there");
        }
        assert!(table.approximate_len() <= 1, "{}", table.approximate_len());
        let mut seen = Vec::new();
        while let Some((key, value, _)) = table.next_row(&mut scan).expect("a row") {
            seen.push((key[0], value));
        }
        assert_eq!(seen, (0..100u8).map(|key| (key, i64::from(key))).collect::<Vec<_>>());
        assert_eq!(table.get(&[7]).expect("no row"), None);
    }
}
