//! A versioned table whose rows leave memory answers as one that keeps them: random puts, commits that reach the disk late,
//! rollbacks, starts, and every way of asking, beside a table without a disk.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    ChangelogWriter, Isolation, NumberSerde, RowOrder, StateBudget, StateStore, StoreQuery, Timestamp,
};
use millstream_state::{Version, VersionedTable};
use proptest::prelude::*;

mod disk;
use disk::{Commits, Disk, Row, Rows, record, rows_of};

type Table = VersionedTable<NumberSerde<i64>>;

const HISTORY: Timestamp = 40;
const ANSWERS: &str = "the disk of the test answers";

#[derive(Debug, Clone)]
enum Step {
    /// Key, time behind the latest, value.
    Put(u8, Timestamp, Option<i64>),
    Flush,
    Committed,
    /// The disk has one commit more, and the table is not told yet.
    Write,
    Written,
    Rollback,
    Restart,
    Get(u8),
    AsOf(u8, Timestamp),
    Between(u8, Timestamp, Timestamp),
    Ask {
        key: u8,
        since: Timestamp,
        descending: bool,
        committed: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few keys and times, so that steps meet.
    let keys = || prop_oneof![3 => 0..2u8, 1 => 0..6u8];
    let back = || (-3..HISTORY / 4 + 2).prop_map(|n| n * 4);
    let step = prop_oneof![
        10 => (keys(), back(), proptest::option::weighted(0.7, 0..100i64)).prop_map(|(k, t, v)| Step::Put(k, t, v)),
        2 => Just(Step::Flush),
        3 => Just(Step::Committed),
        3 => Just(Step::Write),
        3 => Just(Step::Written),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
        3 => keys().prop_map(Step::Get),
        4 => (keys(), back()).prop_map(|(k, t)| Step::AsOf(k, t)),
        3 => (keys(), back(), back()).prop_map(|(k, t, n)| Step::Between(k, t, n)),
        3 => (keys(), back(), any::<(bool, bool)>())
            .prop_map(|(key, since, (descending, committed))| Step::Ask { key, since, descending, committed }),
    ];
    proptest::collection::vec(step, 0..150)
}

/// Keys of which some begin others, one with the versions of another around it.
fn key(number: u8) -> &'static [u8] {
    [&b"a"[..], b"a\0\0\0\0\0\0\0\x70", b"a\0", b"", b"b", b"\0"][usize::from(number)]
}

/// The table under test and the one that keeps its rows.
struct Pair {
    tables: [Table; 2],
    commits: Commits,
    budget: Arc<StateBudget>,
    log: Vec<Row>,
    flushed: Option<(Vec<Row>, Timestamp)>,
    now: Timestamp,
    /// The same at the last commit.
    committed: Timestamp,
}

fn table() -> Table {
    Table::new("t", NumberSerde::default(), HISTORY)
}

fn attached(disk: &Rc<RefCell<Disk>>, budget: &Arc<StateBudget>) -> Table {
    let mut table = table();
    assert!(table.attach(Box::new(Rows(disk.clone())), budget));
    table.restored();
    table
}

fn owned(version: Version<&i64>) -> Version<i64> {
    Version { value: *version.value, timestamp: version.timestamp, valid_to: version.valid_to }
}

impl Pair {
    fn new(budget: usize) -> Self {
        let (commits, budget) = (Commits::new(RowOrder::Versions), Arc::new(StateBudget::new(budget)));
        let tables = [attached(&commits.disk, &budget), table()];
        Pair { tables, commits, budget, log: Vec::new(), flushed: None, now: 100, committed: 100 }
    }

    /// Compaction leaves the last record of a key, whatever its time.
    fn compacted_has_the_latest(&self, model: &mut Table) {
        let mut compacted = table();
        for (at, row) in self.log.iter().enumerate() {
            if self.log[at + 1..].iter().all(|later| later.0 != row.0) {
                compacted.restore(record(row)).expect(ANSWERS);
            }
        }
        for number in 0..6 {
            let [latest, left] =
                [&mut *model, &mut compacted].map(|table| table.get(key(number)).expect(ANSWERS).map(owned));
            assert_eq!(left, latest, "{:?}", key(number));
        }
    }

    /// The same of both.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, ask: impl Fn(&mut Table) -> R) {
        let [tested, model] = &mut self.tables;
        assert_eq!(ask(tested), ask(model));
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Put(number, back, value) => {
                let time = now - back;
                self.both(|table| table.put(key(number), time, value).expect(ANSWERS));
                self.now = now.max(time);
            }
            Step::Flush if self.flushed.is_none() => {
                let rows = self.tables.each_mut().map(|table| {
                    let mut writer = ChangelogWriter::default();
                    table.flush(&mut writer).expect(ANSWERS);
                    rows_of(writer)
                });
                assert_eq!(rows[0], rows[1]);
                self.flushed = Some((rows[0].clone(), now));
            }
            Step::Flush => {}
            Step::Committed => {
                let Some((rows, committed)) = self.flushed.take() else { return };
                self.log.extend(rows.iter().cloned());
                self.both(StateStore::committed);
                self.committed = committed;
                let expired = self.tables[0].expired();
                self.commits.add(rows, expired);
            }
            Step::Write => self.commits.write(),
            Step::Written => (0..self.commits.take_untold()).for_each(|_| self.tables[0].written()),
            Step::Rollback => {
                self.flushed = None;
                self.now = self.committed;
                self.both(StateStore::rollback);
            }
            Step::Restart => {
                self.flushed = None;
                self.commits.restart();
                let mut model = table();
                self.log.iter().for_each(|row| model.restore(record(row)).expect(ANSWERS));
                self.compacted_has_the_latest(&mut model);
                self.tables = [attached(&self.commits.disk, &self.budget), model];
                self.now = self.committed;
                self.tables.iter_mut().for_each(|table| table.resume(self.committed));
            }
            Step::Get(number) => self.both(|table| table.get(key(number)).expect(ANSWERS).map(owned)),
            Step::AsOf(number, back) => {
                self.both(|table| table.get_as_of(key(number), now - back).expect(ANSWERS).map(owned));
            }
            Step::Between(number, back, long) => {
                let times: RangeInclusive<Timestamp> = now - back..=now - back + long;
                self.both(|table| {
                    let found = table.get_between(key(number), times.clone()).expect(ANSWERS);
                    found.map(owned).collect::<Vec<_>>()
                });
            }
            Step::Ask { key: number, since, descending, committed } => {
                let times = now - since..=Timestamp::MAX;
                let query = StoreQuery { descending, times, ..StoreQuery::key(key(number).to_vec()) };
                let isolation = if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
                self.both(|table| {
                    let (mut left, mut found) = (Some(query.clone()), Vec::new());
                    while let Some(query) = left {
                        let mut answer = ChangelogWriter::default();
                        left = table.query(&query, isolation, 3, &mut answer).expect(ANSWERS);
                        found.extend(rows_of(answer));
                    }
                    found
                });
            }
        }
    }
}

fn check(steps: Vec<Step>, budget: usize) {
    let mut pair = Pair::new(budget);
    steps.into_iter().for_each(|step| pair.step(step));
    let now = pair.now;
    for number in 0..6 {
        pair.both(|table| {
            let found = table.get_between(key(number), now - 2 * HISTORY..=Timestamp::MAX).expect(ANSWERS);
            found.map(owned).collect::<Vec<_>>()
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn versions_answer_as_if_they_were_in_memory(steps in steps(), budget in prop_oneof![Just(0), 0..4_000usize]) {
        check(steps, budget);
    }
}

/// The disk has what a deletion deletes for as long as it does not have the deletion: the value was found there again.
#[test]
fn a_deletion_that_the_disk_does_not_have_outlives_its_history() {
    let commit = [Step::Flush, Step::Committed];
    let mut steps = vec![Step::Put(0, 0, Some(1))];
    steps.extend(commit.clone());
    steps.extend([Step::Write, Step::Written, Step::Put(0, -1, None), Step::Put(4, -100, Some(2))]);
    steps.extend(commit.clone());
    steps.extend([Step::Put(4, -1, Some(3))]);
    steps.extend(commit);
    steps.extend([Step::Get(0), Step::Write, Step::Write, Step::Written, Step::Get(0)]);
    check(steps, 0);
}

/// A version of another key lay between a value and its deletion, so that the value stayed on disk when the deletion went.
#[test]
fn a_key_that_looks_like_versions_of_another_keeps_no_deleted_value() {
    let steps = [
        Step::Put(0, -12, Some(1)),
        Step::Put(0, -4, None),
        Step::Put(1, -8, Some(2)),
        Step::Put(4, -36, Some(3)),
        Step::Flush,
        Step::Committed,
        Step::Write,
        Step::Restart,
    ];
    check(steps.to_vec(), 0);
}
