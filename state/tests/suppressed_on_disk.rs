//! A suppress buffer whose rows leave memory answers as one that keeps them: random puts and emissions, commits that reach the disk
//! late, rollbacks and starts, beside a buffer without a disk.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{ChangelogWriter, Expired, NumberSerde, RowOrder, StateBudget, StateStore, Timestamp};
use millstream_state::SuppressBuffer;
use proptest::prelude::*;

mod disk;
use disk::{Commits, Disk, Row, Rows, record, rows_of};

type Buffer = SuppressBuffer<NumberSerde<i64>>;

const ANSWERS: &str = "the disk of the test answers";

#[derive(Debug, Clone)]
enum Step {
    /// Key and time.
    Put(u8, Timestamp),
    First,
    /// So many.
    Take(u8),
    Get(u8, Timestamp),
    Flush,
    Committed,
    /// The disk has one commit more, and the buffer is not told yet.
    Write,
    Written,
    Rollback,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few keys and times, so that steps meet.
    let step = prop_oneof![
        10 => (0..6u8, 0..4i64).prop_map(|(k, t)| Step::Put(k, t)),
        3 => Just(Step::First),
        3 => (1..4u8).prop_map(Step::Take),
        3 => (0..6u8, 0..4i64).prop_map(|(k, t)| Step::Get(k, t)),
        2 => Just(Step::Flush),
        3 => Just(Step::Committed),
        3 => Just(Step::Write),
        3 => Just(Step::Written),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..150)
}

/// The buffer under test and the one that keeps its rows.
struct Pair {
    buffers: [Buffer; 2],
    commits: Commits,
    budget: Arc<StateBudget>,
    times_in_keys: bool,
    log: Vec<Row>,
    flushed: Option<Vec<Row>>,
    puts: i64,
}

fn buffer(times_in_keys: bool) -> Buffer {
    let made = Buffer::new("s", NumberSerde::default());
    if times_in_keys { made.with_times_in_keys() } else { made }
}

fn attached(disk: &Rc<RefCell<Disk>>, budget: &Arc<StateBudget>, times_in_keys: bool) -> Buffer {
    let mut buffer = buffer(times_in_keys).larger_than_memory();
    assert!(buffer.attach(Box::new(Rows(disk.clone())), budget));
    buffer.restored();
    buffer
}

impl Pair {
    fn new(budget: usize, times_in_keys: bool) -> Self {
        let (commits, budget) = (Commits::new(RowOrder::Key), Arc::new(StateBudget::new(budget)));
        let buffers = [attached(&commits.disk, &budget, times_in_keys), buffer(times_in_keys)];
        Pair { buffers, commits, budget, times_in_keys, log: Vec::new(), flushed: None, puts: 0 }
    }

    /// The same of both.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, ask: impl Fn(&mut Buffer) -> R) -> R {
        let [tested, model] = &mut self.buffers;
        let (found, wanted) = (ask(tested), ask(model));
        assert_eq!(found, wanted);
        found
    }

    /// Keys of which some begin others.
    fn key(&self, number: u8, time: Timestamp) -> Vec<u8> {
        let key = [&b"a"[..], b"a\0", b"", b"b", b"\0", b"ab"][usize::from(number)].to_vec();
        if self.times_in_keys { [key, time.to_be_bytes().to_vec()].concat() } else { key }
    }

    fn take(&mut self) -> bool {
        let taken = self.both(|buffer| buffer.take_first().expect(ANSWERS).map(|(key, value)| (key.to_vec(), value)));
        taken.is_some()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(number, time) => {
                self.puts += 1;
                let (key, put) = (self.key(number, time), self.puts);
                let was = |was: Option<i64>| was.unwrap_or(0) * 1_000 % 1_000_000 + put;
                self.both(|buffer| buffer.put(&key, 0, time, was).expect(ANSWERS));
            }
            Step::First => drop(self.both(|buffer| buffer.first().expect(ANSWERS))),
            Step::Take(many) => (0..many).for_each(|_| {
                self.take();
            }),
            Step::Get(number, time) => {
                let key = self.key(number, time);
                self.both(|buffer| buffer.get(&key).expect(ANSWERS).copied());
            }
            Step::Flush if self.flushed.is_none() => {
                let rows = self.buffers.each_mut().map(|buffer| {
                    let mut writer = ChangelogWriter::default();
                    buffer.flush(&mut writer).expect(ANSWERS);
                    rows_of(writer)
                });
                assert_eq!(rows[0], rows[1]);
                self.flushed = Some(rows[0].clone());
            }
            Step::Flush => {}
            Step::Committed => {
                let Some(rows) = self.flushed.take() else { return };
                self.log.extend(rows.iter().cloned());
                self.both(StateStore::committed);
                self.commits.add(rows, Expired::Nothing);
            }
            Step::Write => self.commits.write(),
            Step::Written => (0..self.commits.take_untold()).for_each(|_| self.buffers[0].written()),
            Step::Rollback => {
                self.flushed = None;
                self.both(StateStore::rollback);
            }
            Step::Restart => {
                self.flushed = None;
                self.commits.restart();
                let mut model = buffer(self.times_in_keys);
                self.log.iter().for_each(|row| model.restore(record(row)).expect(ANSWERS));
                self.buffers = [attached(&self.commits.disk, &self.budget, self.times_in_keys), model];
            }
        }
    }
}

fn check(steps: Vec<Step>, budget: usize, times_in_keys: bool) {
    let mut pair = Pair::new(budget, times_in_keys);
    steps.into_iter().for_each(|step| pair.step(step));
    while pair.take() {}
}

fn budgets() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 0..4_000usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changes_wait_as_if_they_were_in_memory(steps in steps(), budget in budgets()) {
        check(steps, budget, false);
    }

    #[test]
    fn windows_wait_as_if_they_were_in_memory(steps in steps(), budget in budgets()) {
        check(steps, budget, true);
    }
}
