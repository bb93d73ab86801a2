//! Queries against plain maps: whatever has been changed, flushed, committed and rolled back, each isolation sees its rows, all
//! of them once and in order, in however many parts they come.

use std::collections::BTreeMap;
use std::ops::Bound;

use millstream_core::{ChangelogWriter, Isolation, NumberSerde, Result, StateStore, StoreQuery, Timestamp};
use millstream_state::{KeyValueTable, Place, SessionBounds, TimedTable, VersionedTable, WindowStart};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, Option<i64>),
    Flush,
    Committed,
    Rollback,
    /// Asks for a range of keys in parts of so many rows.
    Ask {
        from: u8,
        rows: usize,
        descending: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..20u8, 1..5usize, any::<bool>());
    let step = prop_oneof![
        8 => (0..20u8, 0..4u8, proptest::option::of(0..100i64)).prop_map(|(key, place, v)| Step::Put(key, place, v)),
        1 => Just(Step::Flush),
        1 => Just(Step::Committed),
        1 => Just(Step::Rollback),
        2 => ask.prop_map(|(from, rows, descending)| Step::Ask { from, rows, descending }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Keys in the changelog with their values.
type Map = BTreeMap<Vec<u8>, i64>;

/// All of an answer, and whether each part was as small as asked for.
fn ask(store: &mut dyn StateStore, mut query: StoreQuery, isolation: Isolation, rows: usize) -> Vec<(Vec<u8>, i64)> {
    let mut found = Vec::new();
    for _part in 0..10_000 {
        let mut writer = ChangelogWriter::default();
        let rest = store.query(&query, isolation, rows, &mut writer).expect("numbers can be written");
        let before = found.len();
        for mut batch in writer.into_batches().map(|batch| batch.into_records(0)) {
            while let Some(row) = batch.next() {
                let row = row.expect("a row");
                let value = row.value.expect("a value").as_slice().try_into().expect("a number");
                found.push((row.key.expect("a key").as_slice().to_vec(), i64::from_be_bytes(value)));
            }
        }
        assert!(found.len() - before <= rows, "{} rows at once", found.len() - before);
        match rest {
            Some(rest) => query = rest,
            None => return found,
        }
    }
    panic!("an answer without end");
}

/// Puts a store through steps; `put` changes a row and gives its key in the changelog.
fn check<T: StateStore>(store: &mut T, steps: &[Step], mut put: impl FnMut(&mut T, u8, u8, Option<i64>) -> Vec<u8>) {
    let (mut latest, mut committed, mut flushed) = (Map::new(), Map::new(), None::<Map>);
    for step in steps {
        match step {
            Step::Put(key, place, value) => {
                let key = put(store, *key, *place, *value);
                match value {
                    Some(value) => latest.insert(key, *value),
                    None => latest.remove(&key),
                };
            }
            Step::Flush if flushed.is_none() => {
                store.flush(&mut ChangelogWriter::default()).expect("numbers can be written");
                flushed = Some(latest.clone());
            }
            Step::Flush => {}
            Step::Committed => {
                if let Some(rows) = flushed.take() {
                    store.committed();
                    committed = rows;
                }
            }
            Step::Rollback => {
                store.rollback();
                (latest, flushed) = (committed.clone(), None);
            }
            Step::Ask { from, rows, descending } => {
                let query = StoreQuery {
                    descending: *descending,
                    ..StoreQuery::range((Bound::Included(vec![*from]), Bound::Unbounded))
                };
                for (isolation, rows_there) in
                    [(Isolation::ReadUncommitted, &latest), (Isolation::ReadCommitted, &committed)]
                {
                    let mut wanted: Vec<_> = rows_there.range(vec![*from]..).map(|(k, v)| (k.clone(), *v)).collect();
                    if *descending {
                        wanted.reverse();
                    }
                    assert_eq!(ask(store, query.clone(), isolation, *rows), wanted, "{isolation:?}");
                }
            }
        }
    }
}

type Numbers = NumberSerde<i64>;

/// Places are close together: nothing expires.
fn check_timed<P: Place>(steps: &[Step], place: impl Fn(u8) -> P) {
    let mut table = TimedTable::<P, Numbers>::new("t", NumberSerde::default(), 1_000_000);
    check(&mut table, steps, |table, key, at, value| {
        let place = place(at);
        table.observe(place.time());
        table.change(&[key], place).expect("there is no disk").value = value;
        let mut key = vec![key];
        place.encode(&mut key);
        key
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn of_keys(steps in steps()) {
        let mut table = KeyValueTable::<Numbers>::new("t", NumberSerde::default(), true);
        check(&mut table, &steps, |table, key, _, value| {
            table.put(&[key], value, 0).expect("there is no disk");
            vec![key]
        });
    }

    #[test]
    fn of_windows(steps in steps()) {
        check_timed(&steps, |at| WindowStart(Timestamp::from(at) * 10));
    }

    #[test]
    fn of_sessions(steps in steps()) {
        check_timed(&steps, |at| SessionBounds { end: Timestamp::from(at) * 10, start: Timestamp::from(at) });
    }
}

/// A version that was valid before the history is not told, but for the latest; deletions end what was before them.
#[test]
fn of_versions() {
    let mut table = VersionedTable::<Numbers>::new("t", NumberSerde::default(), 100);
    for (time, value) in [(10, Some(1)), (50, Some(2)), (120, None), (140, Some(3)), (180, Some(4))] {
        table.put(b"k", time, value).expect("there is no disk");
    }
    let key = |times| StoreQuery { times, ..StoreQuery::key(b"k".to_vec()) };
    let mut values = |times| -> Vec<(i64, i64)> {
        let found = ask(&mut table, key(times), Isolation::ReadUncommitted, 100).into_iter();
        found.map(|(to, value)| (i64::from_be_bytes(to.try_into().expect("a time")), value)).collect()
    };
    let latest = (i64::MAX, 4);
    assert_eq!(values(i64::MIN..=i64::MAX), [(120, 2), (180, 3), latest]);
    assert_eq!(values(i64::MAX..=i64::MAX), [latest]);
    assert_eq!(values(119..=119), [(120, 2)]);
    assert_eq!((values(120..=139), values(79..=79), values(0..=60)), (vec![], vec![], vec![]));
    assert_eq!(values(140..=140), [(180, 3)]);
    assert_eq!(ask(&mut table, key(i64::MIN..=i64::MAX), Isolation::ReadCommitted, 100), []);
}

/// All that a query says of rows that change, many at a time, between one part of its answer and the next, and are committed: the last
/// commit's values. Gives how many rows came.
fn ask_while_rows_change<T: StateStore>(
    store: &mut T,
    mut query: StoreQuery,
    put: impl Fn(&mut T, u8, i64) -> Result<()>,
) -> Result<usize> {
    let mut found = 0;
    for round in 0..200 {
        (0..200).try_for_each(|key| put(store, key, round))?;
        let mut writer = ChangelogWriter::default();
        if round > 0 {
            let rest = store.query(&query, Isolation::ReadCommitted, 10, &mut writer)?;
            for mut batch in writer.into_batches().map(|batch| batch.into_records(0)) {
                while let Some(row) = batch.next() {
                    let value = row.expect("a row").value.expect("a value").as_slice().try_into().expect("a number");
                    assert_eq!(i64::from_be_bytes(value), round - 1);
                    found += 1;
                }
            }
            match rest {
                Some(rest) => query = rest,
                None => return Ok(found),
            }
        }
        store.flush(&mut ChangelogWriter::default())?;
        store.committed();
    }
    panic!("an answer without end");
}

/// A part had to know of every row that has changed what it was, and found that out of so many rows alone: where more changed from
/// one part to the next, or between two commits, no query had an answer.
#[test]
fn many_changes_keep_no_query_from_its_answer() -> Result<()> {
    for (query, rows) in [(StoreQuery::key(vec![7]), 1), (StoreQuery::range((Bound::Unbounded, Bound::Unbounded)), 200)]
    {
        let mut keys = KeyValueTable::<Numbers>::new("t", NumberSerde::default(), true);
        let put = |table: &mut KeyValueTable<_>, key, value| table.put(&[key], Some(value), 0).map(drop);
        assert_eq!(ask_while_rows_change(&mut keys, query.clone(), put)?, rows);
        let mut windows = TimedTable::<WindowStart, Numbers>::new("t", NumberSerde::default(), 1_000_000);
        let put = |table: &mut TimedTable<_, _>, key, value| {
            table.observe(10);
            table.change(&[key], WindowStart(10))?.value = Some(value);
            Ok(())
        };
        assert_eq!(ask_while_rows_change(&mut windows, query, put)?, rows);
    }
    let mut versions = VersionedTable::<Numbers>::new("t", NumberSerde::default(), 100);
    let put = |table: &mut VersionedTable<_>, key, value| table.put(&[key], value, Some(value)).map(drop);
    let latest = StoreQuery { times: i64::MAX..=i64::MAX, ..StoreQuery::key(vec![7]) };
    assert_eq!(ask_while_rows_change(&mut versions, latest, put)?, 1);
    Ok(())
}
