//! A timed table whose rows leave memory answers as one that keeps them: random changes, moves, commits that reach the disk
//! late, rollbacks, starts, and every way of asking, beside a table without a disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{ChangelogWriter, Isolation, NumberSerde, StateBudget, StateStore, StoreQuery, Timestamp};
use millstream_state::{Entry, Place, SessionBounds, TimedTable, WindowStart};
use proptest::prelude::*;

mod disk;
use disk::{Commits, Disk, Row, Rows, record, rows_of};

type Table<P> = TimedTable<P, NumberSerde<i64>>;

const RETENTION: Timestamp = 40;

#[derive(Debug, Clone)]
enum Step {
    /// Key, time behind the latest, value.
    Put(u8, Timestamp, Option<i64>),
    /// The newest row of a key goes to a place so much later, if it is behind the latest by no more than 24.
    Move(u8, Timestamp),
    Pass(Timestamp),
    Flush,
    Committed,
    /// The disk has one commit more, and the table is not told yet.
    Write,
    Written,
    Rollback,
    Restart,
    Get(u8, Timestamp),
    Fetch(u8, Timestamp, Timestamp),
    Scan(u8),
    /// What closes in so many milliseconds more.
    Close(Timestamp),
    First,
    Ask {
        key: Option<u8>,
        from: u8,
        rows: usize,
        descending: bool,
        committed: bool,
        since: Timestamp,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few keys and places, so that steps meet.
    let keys = || prop_oneof![3 => 0..2u8, 1 => 0..6u8];
    let back = || (-1..RETENTION / 4).prop_map(|n| n * 4);
    let ahead = || (0..3i64).prop_map(|n| n * 4);
    let step = prop_oneof![
        12 => (keys(), back(), proptest::option::weighted(0.8, 0..100i64)).prop_map(|(k, t, v)| Step::Put(k, t, v)),
        4 => (keys(), ahead()).prop_map(|(k, t)| Step::Move(k, t)),
        1 => ahead().prop_map(Step::Pass),
        2 => Just(Step::Flush),
        3 => Just(Step::Committed),
        3 => Just(Step::Write),
        3 => Just(Step::Written),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
        3 => (keys(), back()).prop_map(|(k, t)| Step::Get(k, t)),
        3 => (0..6u8, back(), 0..RETENTION).prop_map(|(k, t, n)| Step::Fetch(k, t, n)),
        1 => (0..6u8).prop_map(Step::Scan),
        3 => ahead().prop_map(Step::Close),
        2 => Just(Step::First),
        3 => (proptest::option::of(0..6u8), 0..6u8, 1..9usize, any::<(bool, bool)>(), back()).prop_map(
            |(key, from, rows, (descending, committed), since)| Step::Ask { key, from, rows, descending, committed, since }
        ),
    ];
    proptest::collection::vec(step, 0..150)
}

/// Keys of which some begin others, with bytes that are zero.
fn key(number: u8) -> &'static [u8] {
    [&b"a"[..], b"a\0", b"a\0\0b", b"", b"b", b"\0"][usize::from(number)]
}

/// The table under test and the one that keeps its rows.
struct Pair<P: Place> {
    tables: [Table<P>; 2],
    commits: Commits,
    budget: Arc<StateBudget>,
    log: BTreeMap<Vec<u8>, Row>,
    flushed: Option<(Vec<Row>, [Timestamp; 2])>,
    now: Timestamp,
    /// What closes was asked for up to this time, exclusive.
    open: Timestamp,
    /// The same two at the last commit.
    committed: [Timestamp; 2],
}

fn table<P: Place>() -> Table<P> {
    Table::new("t", NumberSerde::default(), RETENTION)
}

impl<P: Place> Pair<P> {
    fn new(budget: usize) -> Self {
        let (commits, budget) = (Commits::new(table::<P>().row_order()), Arc::new(StateBudget::new(budget)));
        let tables = [Self::attached(&commits.disk, &budget), table()];
        Pair { tables, commits, budget, log: BTreeMap::new(), flushed: None, now: 100, open: 90, committed: [100, 90] }
    }

    fn attached(disk: &Rc<RefCell<Disk>>, budget: &Arc<StateBudget>) -> Table<P> {
        let mut table = table().larger_than_memory();
        assert!(table.attach(Box::new(Rows(disk.clone())), budget));
        table.restored();
        table
    }

    /// The same of both.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, ask: impl Fn(&mut Table<P>) -> R) {
        let [tested, model] = &mut self.tables;
        assert_eq!(ask(tested), ask(model));
    }

    /// What expires has closed before.
    fn pass_over_what_expired(&mut self, now: Timestamp) {
        let kept = now - RETENTION + 1;
        if self.open < kept {
            let times = self.open..=kept - 1;
            self.tables.iter_mut().for_each(|table| drop(closed(table, times.clone())));
            self.open = kept;
        }
    }

    fn step(&mut self, step: Step, place: impl Fn(Timestamp) -> P) {
        let now = self.now;
        match step {
            Step::Put(number, back, value) => {
                let at = place(now - back);
                self.now = self.now.max(at.time());
                self.both(|table| {
                    table.observe(at.time());
                    if table.is_live(&at) {
                        *table.change(key(number), at).expect("the disk of the test answers") =
                            Entry { value, timestamp: at.time() };
                    }
                });
            }
            Step::Move(number, by) => {
                let from = P::first_at(now - 24);
                self.both(|table| move_newest(table, key(number), from, |newest| place(newest.time() + by)));
                self.now = self.now.max(now + by);
            }
            Step::Pass(by) => {
                self.now += by;
                self.both(|table| table.observe(now + by));
            }
            Step::Flush if self.flushed.is_none() => {
                let mut written = self.tables.iter_mut().map(|table| {
                    let mut writer = ChangelogWriter::default();
                    table.flush(&mut writer).expect("the disk of the test answers");
                    rows_of(writer)
                });
                let rows: Vec<_> = written.by_ref().collect();
                drop(written);
                self.flushed = Some((rows[0].clone(), [now, self.open]));
            }
            Step::Committed => {
                let Some((rows, committed)) = self.flushed.take() else { return };
                self.pass_over_what_expired(committed[0]);
                self.log.extend(rows.iter().map(|row| (row.0.clone(), row.clone())));
                self.both(StateStore::committed);
                self.committed = committed;
                let expired = self.tables[0].expired();
                self.commits.add(rows, expired);
            }
            Step::Write => self.commits.write(),
            Step::Written => {
                (0..self.commits.take_untold()).for_each(|_| self.tables[0].written());
            }
            Step::Rollback => {
                self.flushed = None;
                [self.now, self.open] = self.committed;
                self.both(StateStore::rollback);
            }
            Step::Restart => {
                self.flushed = None;
                self.commits.restart();
                let (mut model, disk) = (table(), self.commits.disk.borrow());
                let is_kept = |row: &Row| disk.rows.values().any(|kept| kept == row);
                for row in self.log.values() {
                    // A row that expired before a time which nothing was written at would be back.
                    let row = if is_kept(row) { row } else { &(row.0.clone(), None, row.2) };
                    model.restore(record(row)).expect("the disk of the test answers");
                }
                drop(disk);
                self.tables = [Self::attached(&self.commits.disk, &self.budget), model];
                // Only what was written is known of time.
                self.now =
                    self.log.keys().filter_map(|key| P::decode(key)).map(|(_, at)| at.time()).max().unwrap_or(100);
                self.open = self.committed[1];
                self.committed = [self.now, self.open];
            }
            Step::Get(number, back) => {
                let at = place(now - back);
                self.both(|table| {
                    table
                        .get(key(number), at)
                        .expect("the disk of the test answers")
                        .map(|(value, time)| (*value, time))
                });
            }
            Step::Fetch(number, back, long) => {
                let places = P::first_at(now - back)..=P::first_at(now - back + long);
                self.both(|table| {
                    let found = table.fetch(key(number), places.clone()).expect("the disk of the test answers");
                    found.map(|(at, value, time)| (at, *value, time)).collect::<Vec<_>>()
                });
            }
            Step::Scan(from) => {
                let from = Bound::Included(key(from));
                self.both(|table| {
                    table.scan((from, Bound::Unbounded), |_| true).expect("the disk of the test answers")
                });
            }
            Step::Close(long) => {
                self.pass_over_what_expired(self.committed[0]);
                let times = self.open..=self.open + long;
                self.open += long + 1;
                self.both(|table| closed(table, times.clone()));
            }
            Step::First => {
                self.pass_over_what_expired(self.committed[0]);
                let from = self.open;
                self.both(|table| table.first_from(from).expect("the disk of the test answers"));
            }
            Step::Ask { key: single, from, rows, descending, committed, since } => {
                let query = match single {
                    Some(number) => StoreQuery::key(key(number).to_vec()),
                    None => StoreQuery::range((Bound::Included(key(from).to_vec()), Bound::Unbounded)),
                };
                let query = StoreQuery { descending, times: now - since..=Timestamp::MAX, ..query };
                let isolation = if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
                self.both(|table| ask(table, query.clone(), isolation, rows));
            }
            Step::Flush => {}
        }
    }
}

/// Moves the newest row of a key from a place on, as a session that grows: at once if it can, or by a deletion and a row.
fn move_newest<P: Place>(table: &mut Table<P>, key: &[u8], from: P, to: impl Fn(P) -> P) -> Option<(P, Option<i64>)> {
    let rows = table.rows_from(key, from, from).expect("the disk of the test answers");
    let later = |newest: P| Some(to(newest)).filter(|to| newest >= from && *to > newest);
    if let Some((to, entry)) = table.move_newest(rows, |newest, _| later(newest)) {
        let was = entry.value;
        entry.value = was.map(|value| value + 1);
        return Some((to, was));
    }
    let (newest, was, time) = table.fetch_at(rows, from..=P::LAST).next_back().map(|(at, v, time)| (at, *v, time))?;
    let to = later(newest)?;
    table.observe(to.time());
    table.change_at(rows, newest).expect("the disk of the test answers").value = None;
    *table.change_at(rows, to).expect("the disk of the test answers") = Entry { value: Some(was + 1), timestamp: time };
    Some((to, Some(was)))
}

fn closed<P: Place>(table: &mut Table<P>, times: RangeInclusive<Timestamp>) -> Vec<(Vec<u8>, P, i64, Timestamp)> {
    let (mut closing, mut found) = (table.closing(times).expect("the disk of the test answers"), Vec::new());
    while table
        .closed(&mut closing, |key, place, value, time| found.push((key.to_vec(), place, *value, time)))
        .expect("the disk of the test answers")
    {}
    found
}

fn ask<P: Place>(table: &mut Table<P>, query: StoreQuery, isolation: Isolation, rows: usize) -> Vec<Row> {
    let (mut left, mut found) = (Some(query), Vec::new());
    while let Some(query) = left {
        let mut answer = ChangelogWriter::default();
        left = table.query(&query, isolation, rows, &mut answer).expect("the disk of the test answers");
        let part = rows_of(answer);
        assert!(part.len() <= rows, "{part:?}");
        found.extend(part);
    }
    found
}

fn check<P: Place>(steps: Vec<Step>, budget: usize, place: impl Fn(Timestamp) -> P) {
    let mut pair = Pair::new(budget);
    for step in steps {
        pair.step(step, &place);
    }
    // All of it once more.
    pair.pass_over_what_expired(pair.committed[0]);
    let open = pair.open;
    pair.both(|table| closed(table, open..=Timestamp::MAX / 2));
    pair.both(|table| {
        table.scan((Bound::Unbounded, Bound::Unbounded), |_| true).expect("the disk of the test answers")
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn windows_answer_as_if_they_were_in_memory(steps in steps(), budget in prop_oneof![Just(0), 0..4_000usize]) {
        check(steps, budget, WindowStart);
    }

    #[test]
    fn sessions_answer_as_if_they_were_in_memory(steps in steps(), budget in prop_oneof![Just(0), 0..4_000usize]) {
        check(steps, budget, |time| SessionBounds { end: time, start: time - time.rem_euclid(4) });
    }
}

/// The disk has the row for as long as it does not have the deletion: it was found there again.
#[test]
fn a_deletion_that_the_disk_does_not_have_outlives_a_rollback() {
    let (put, get) = (|value| Step::Put(0, 0, value), || Step::Get(0, 0));
    let written = [Step::Flush, Step::Committed, Step::Write, Step::Written];
    let mut steps = vec![put(Some(1))];
    steps.extend(written);
    steps.extend([put(None), Step::Flush, Step::Committed, put(Some(2)), Step::Rollback, get()]);
    steps.extend([Step::Write, Step::Written, get()]);
    check(steps.clone(), 0, WindowStart);
    check(steps, 0, |time| SessionBounds { end: time, start: time - 1 });
}
