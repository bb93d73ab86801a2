//! What the runtime asks of a [`StateStore`], and of a disk for the rows of all stores, as checks that anybody's can be put to.
//!
//! A store is changed, flushed, committed, rolled back and restored in random orders, beside a plain map that does the
//! same by copying. A disk is written to, read, cleared, closed and opened again ([`check_disk`]).

mod disk;

use std::collections::BTreeMap;

pub use disk::check_disk;
use millstream_core::{ChangelogRecord, ChangelogWriter, StateStore, Timestamp};

/// A store under the check.
pub trait Subject {
    /// The store.
    type Store: StateStore;

    /// An empty one.
    fn make(&self) -> Self::Store;

    /// Sets the row of a key, or deletes it, at a time.
    fn put(&self, store: &mut Self::Store, key: u8, value: Option<u8>, time: Timestamp);

    /// All rows that are there.
    fn rows(&self, store: &mut Self::Store) -> BTreeMap<u8, u8>;
}

type Map = BTreeMap<u8, u8>;

/// Puts a store to `runs` random sequences of calls.
///
/// # Errors
/// The calls of the first sequence after which the store held other rows than it should, and what it held.
pub fn check<S: Subject>(subject: &S, runs: u64) -> Result<(), String> {
    (1..=runs).try_for_each(|seed| run(subject, seed))
}

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }
}

fn run<S: Subject>(subject: &S, seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut store = subject.make();
    let (mut now, mut committed): (Map, Map) = Default::default();
    // What a commit under way has flushed: the rows then, and its changelog.
    let mut flushed: Option<(Map, Vec<Row>)> = None;
    let mut log: Vec<Row> = Vec::new();
    let mut calls = Vec::new();
    for step in 0..40 {
        match dice.next(10) {
            0..=5 => {
                let (key, value) = (dice.next(5) as u8, dice.next(4) as u8);
                let value = (value > 0).then_some(value);
                calls.push(format!("put {key} {value:?}"));
                subject.put(&mut store, key, value, step);
                match value {
                    Some(value) => now.insert(key, value),
                    None => now.remove(&key),
                };
            }
            6 | 7 if flushed.is_none() => {
                calls.push("flush".into());
                let mut writer = ChangelogWriter::default();
                store.flush(&mut writer).map_err(|e| told(&calls, &e.to_string()))?;
                flushed = Some((now.clone(), read(writer)));
            }
            6 | 7 => {
                calls.push("committed".into());
                store.committed();
                if let Some((rows, written)) = flushed.take() {
                    committed = rows;
                    log.extend(written);
                }
            }
            8 => {
                calls.push("rollback".into());
                store.rollback();
                flushed = None;
                now = committed.clone();
            }
            _ => {
                calls.push("restored".into());
                store = subject.make();
                for (offset, row) in log.iter().enumerate() {
                    let record = ChangelogRecord {
                        key: &row.key,
                        value: row.value.as_deref(),
                        timestamp: row.timestamp,
                        headers: &[],
                        offset: offset as i64,
                    };
                    store.restore(record).map_err(|e| told(&calls, &e.to_string()))?;
                }
                flushed = None;
                now = committed.clone();
            }
        }
        let found = subject.rows(&mut store);
        if found != now {
            return Err(told(&calls, &format!("it holds {found:?}, and should hold {now:?}")));
        }
    }
    Ok(())
}

fn told(calls: &[String], problem: &str) -> String {
    format!("after {}: {problem}", calls.join(", "))
}

/// A changelog record.
struct Row {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
}

fn read(writer: ChangelogWriter) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in writer.into_batches() {
        let mut records = batch.into_records(0);
        while let Some(Ok(record)) = records.next() {
            rows.push(Row {
                key: record.key.map(|key| key.as_slice().to_vec()).unwrap_or_default(),
                value: record.value.map(|value| value.as_slice().to_vec()),
                timestamp: record.timestamp,
            });
        }
    }
    rows
}
