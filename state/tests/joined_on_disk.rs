//! A join's buffer whose rows leave memory answers as one that keeps them: random records, also late ones, commits that reach the
//! disk late, rollbacks and starts, beside a buffer without a disk.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{ChangelogWriter, NumberSerde, StateBudget, StateStore, Timestamp};
use millstream_state::JoinBuffer;
use proptest::prelude::*;

mod disk;
use disk::{Commits, Disk, Row, Rows, record, rows_of};

type Buffer = JoinBuffer<NumberSerde<i64>>;

const RETENTION: Timestamp = 20;
const ANSWERS: &str = "the disk of the test answers";
/// Keys of which some begin others.
const KEYS: [&[u8]; 4] = [b"a", b"a\0", b"", b"ab"];

#[derive(Debug, Clone)]
enum Step {
    /// A key, and by how much the record is ahead of the largest time so far, or behind it.
    Put(usize, Timestamp),
    Observe(Timestamp),
    /// A key, from how long ago to how long ago.
    Fetch(usize, Timestamp, Timestamp),
    Flush,
    Committed,
    /// The disk has one commit more, and the buffer is not told yet.
    Write,
    Written,
    Rollback,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..KEYS.len(), -25..6i64).prop_map(|(key, ahead)| Step::Put(key, ahead)),
        1 => (0..10i64).prop_map(Step::Observe),
        6 => (0..KEYS.len(), -5..30i64, -5..30i64).prop_map(|(key, from, to)| Step::Fetch(key, from, to)),
        3 => Just(Step::Flush),
        4 => Just(Step::Committed),
        4 => Just(Step::Write),
        4 => Just(Step::Written),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..200)
}

/// The buffer under test and the one that keeps its rows.
struct Pair {
    buffers: [Buffer; 2],
    commits: Commits,
    budget: Arc<StateBudget>,
    log: Vec<Row>,
    flushed: Option<Vec<Row>>,
    puts: i64,
    /// Rows that were found.
    found: usize,
}

fn buffer() -> Buffer {
    Buffer::new("s", NumberSerde::default(), RETENTION)
}

fn attached(disk: &Rc<RefCell<Disk>>, budget: &Arc<StateBudget>) -> Buffer {
    let mut buffer = buffer();
    assert!(buffer.attach(Box::new(Rows(disk.clone())), budget));
    buffer.restored();
    buffer
}

impl Pair {
    fn new(budget: usize) -> Self {
        let (commits, budget) = (Commits::new(buffer().row_order()), Arc::new(StateBudget::new(budget)));
        let buffers = [attached(&commits.disk, &budget), buffer()];
        Pair { buffers, commits, budget, log: Vec::new(), flushed: None, puts: 0, found: 0 }
    }

    /// The same of both.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, ask: impl Fn(&mut Buffer) -> R) -> R {
        let [tested, model] = &mut self.buffers;
        let (found, wanted) = (ask(tested), ask(model));
        assert_eq!(found, wanted);
        found
    }

    fn fetch(&mut self, key: usize, times: std::ops::RangeInclusive<Timestamp>) {
        let fetch = |buffer: &mut Buffer| -> Vec<_> {
            buffer.fetch(KEYS[key], times.clone()).expect(ANSWERS).map(|(time, n)| (time, *n)).collect()
        };
        self.found += self.both(fetch).len();
    }

    fn step(&mut self, step: Step) {
        let now = self.buffers[1].observed();
        match step {
            Step::Put(key, ahead) => {
                self.puts += 1;
                let (time, put) = ((now + ahead).max(0), self.puts);
                self.both(|buffer| buffer.put(KEYS[key], time, put).expect(ANSWERS));
            }
            Step::Observe(ahead) => drop(self.both(|buffer| buffer.observe(now + ahead))),
            Step::Fetch(key, from, to) => self.fetch(key, now - from..=now - to),
            Step::Flush if self.flushed.is_none() => {
                let rows = self.buffers.each_mut().map(|buffer| {
                    let mut writer = ChangelogWriter::default();
                    buffer.flush(&mut writer).expect(ANSWERS);
                    rows_of(writer)
                });
                // Numbers differ behind a start, which the model makes whole.
                let places = rows.each_ref().map(|rows| Vec::from_iter(rows.iter().map(|row| (&row.1, row.2))));
                assert_eq!(places[0], places[1]);
                let [rows, _] = rows;
                self.flushed = Some(rows);
            }
            Step::Flush => {}
            Step::Committed => {
                let Some(rows) = self.flushed.take() else { return };
                self.log.extend(rows.iter().cloned());
                self.both(StateStore::committed);
                self.commits.add(rows, self.buffers[0].expired());
            }
            Step::Write => self.commits.write(),
            Step::Written => (0..self.commits.take_untold()).for_each(|_| self.buffers[0].written()),
            Step::Rollback => {
                self.flushed = None;
                self.both(StateStore::rollback);
            }
            Step::Restart => {
                self.step(Step::Rollback);
                self.commits.restart();
                let (observed, mut model) = (self.buffers[1].observed(), buffer());
                self.log.iter().for_each(|row| model.restore(record(row)).expect(ANSWERS));
                self.buffers = [attached(&self.commits.disk, &self.budget), model];
                self.both(|buffer| buffer.resume(observed));
            }
        }
    }
}

fn check(steps: Vec<Step>, budget: usize) -> usize {
    let mut pair = Pair::new(budget);
    steps.into_iter().for_each(|step| pair.step(step));
    (0..KEYS.len()).for_each(|key| pair.fetch(key, 0..=Timestamp::MAX));
    pair.found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn records_are_found_as_if_they_were_in_memory(
        steps in steps(),
        budget in prop_oneof![Just(0), 0..4_000usize],
    ) {
        check(steps, budget);
    }
}

/// Rows really leave, and are found again.
#[test]
fn rows_leave_memory_and_come_back() {
    let mut pair = Pair::new(0);
    for n in 0..1_000 {
        pair.step(Step::Put(n % KEYS.len(), i64::from(n % 100 == 0)));
        if n % 10 == 0 {
            [Step::Flush, Step::Committed, Step::Write, Step::Written].into_iter().for_each(|step| pair.step(step));
            assert!(pair.budget.taken() < 4_000, "{} bytes in memory", pair.budget.taken());
        }
    }
    pair.fetch(0, 0..=Timestamp::MAX);
    assert_eq!(pair.found, 250);
}

/// Keys whose rows had expired were forgotten by the time that the buffer had seen, and a rollback takes that back.
#[test]
fn what_a_rollback_brings_back_is_looked_for_on_disk() {
    let commit = |pair: &mut Pair| [Step::Flush, Step::Committed, Step::Write].into_iter().for_each(|s| pair.step(s));
    let put = |pair: &mut Pair, key: &[u8], time| pair.both(|buffer| buffer.put(key, time, 1).expect(ANSWERS));
    let mut pair = Pair::new(0);
    for key in 0..1_100u16 {
        put(&mut pair, &key.to_be_bytes(), 5);
    }
    commit(&mut pair);
    pair.step(Step::Written);
    for key in 2_000..3_200u16 {
        put(&mut pair, &key.to_be_bytes(), 12);
    }
    commit(&mut pair);
    put(&mut pair, b"later", 5 + RETENTION);
    pair.step(Step::Written);
    pair.step(Step::Rollback);
    for key in 0..1_100u16 {
        let found = |buffer: &mut Buffer| buffer.fetch(&key.to_be_bytes(), 0..=Timestamp::MAX).expect(ANSWERS).count();
        assert_eq!(pair.both(found), 1);
    }
}
