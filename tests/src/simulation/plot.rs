//! What a seed decides before anything happens: program, settings, input, and which faults there may be at all. Each run
//! has some of the faults only, so that those that are rare are not hidden by those that are common.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_broker::Durability;
use millstream_core::{RuntimeConfig, partition_for_key};

use super::dice::Dice;
use super::network::Weather;
use super::program::{CATALOGUE, Entry, Promise};
use super::sim_disk::Mishaps;
use crate::reference::Row;

/// What is given.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) entry: Entry,
    pub(super) partitions: i32,
    pub(super) params: BTreeMap<String, i64>,
    pub(super) threads: usize,
    pub(super) durability: Durability,
    /// State is on disk, with this budget for rows in memory.
    pub(super) disk: Option<usize>,
    pub(super) mishaps: Mishaps,
    pub(super) weather: Weather,
    pub(super) segment_bytes: u64,
    pub(super) checkpoint_bytes: u64,
    pub(super) tail_bytes: usize,
    pub(super) events: u64,
    /// Files fail, so many times in a thousand events.
    pub(super) file_faults: u64,
    /// The process ends, is killed, or the power is cut.
    pub(super) ends: u64,
    /// A thread is replaced.
    pub(super) replacements: u64,
    /// Another instance takes over, and the old one goes on.
    pub(super) zombies: u64,
    /// Records to be written, by topic and partition.
    pub(super) input: BTreeMap<(&'static str, i32), Vec<Row>>,
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

const VALUES: [&str; 12] = ["a", "at", "apple", "b0", "bee", "cabin", "cat a", "dust", "del", "e0", "none", "a bee at"];

impl Plot {
    pub(super) fn new(dice: &Dice) -> Self {
        let entry = dice.pick(CATALOGUE);
        let partitions = 1 + dice.below(entry.most_partitions as u64) as i32;
        let durability = dice.pick(&[Durability::Disk, Durability::Disk, Durability::Os, Durability::Memory]);
        // A fault is there in one run of two, often or now and then.
        let sometimes = |often: u64| if dice.per_mille(500) { 1 + dice.below(often) } else { 0 };
        let weather = Weather {
            answer_lost: sometimes(200),
            request_lost: sometimes(200),
            request_late: sometimes(150),
            commit_failed: sometimes(200),
            answer_slow: sometimes(600),
            send_failed: sometimes(40),
            unanswered: sometimes(60),
            fetch_failed: sometimes(30),
        };
        let mishaps =
            Mishaps { late: sometimes(900), flushed: sometimes(500), failed: sometimes(20), damaged: sometimes(10) };
        let params = params(dice, entry);
        Plot {
            entry,
            partitions,
            threads: 1 + dice.below(2) as usize,
            durability,
            disk: dice.per_mille(650).then(|| dice.pick(&[0, 0, 2_000, 1 << 20])),
            mishaps,
            weather,
            segment_bytes: dice.pick(&[600, 3_000, 1 << 20]),
            checkpoint_bytes: dice.pick(&[1_500, 6_000, 1 << 20]),
            tail_bytes: dice.pick(&[0, 1_000, 1 << 20]),
            events: 50 + dice.below(350),
            file_faults: if durability == Durability::Memory { 0 } else { sometimes(25) },
            ends: if durability == Durability::Memory { 0 } else { sometimes(25) },
            replacements: sometimes(25),
            zombies: sometimes(20),
            input: input(dice, entry, &params, partitions),
            params,
        }
    }

    /// Settings of the application; each process has its own disk for state.
    pub(super) fn config(&self, dice: &Dice) -> RuntimeConfig {
        RuntimeConfig {
            threads: self.threads,
            commit_interval: Duration::from_millis(dice.pick(&[0, 20, 100])),
            uncommitted_bytes: dice.pick(&[1, 500, 64 << 20]),
            poll_records: dice.pick(&[1, 3, 7, 10_000]),
            fetch_bytes: dice.pick(&[1, 300, 1 << 20]),
            batch_bytes: dice.pick(&[1, 200, 64 << 10]),
            max_task_skew: dice.pick(&[None, Some(50), Some(3_600_000)]),
            ..RuntimeConfig::embedded("app")
        }
    }
}

fn params(dice: &Dice, entry: Entry) -> BTreeMap<String, i64> {
    let any_order = entry.promise == Promise::AnyOrder;
    let below = |bound: u64| dice.below(bound) as i64;
    let size = 1 + below(15);
    let (before, after) = (below(13), below(13));
    // Where records of two topics meet in any order, none may be too late.
    let grace = if any_order { 10_000_000 } else { below(20) + i64::from(before + after == 0) };
    let all = [
        ("size", size),
        ("advance", 1 + below(size as u64)),
        ("grace", grace),
        ("difference", below(13)),
        ("gap", 1 + below(8)),
        ("before", before),
        ("after", after),
        ("history", below(40)),
        ("limit", below(16)),
        ("max_records", dice.pick(&[1, 2, 4, 1000])),
    ];
    let kept = (dice.per_mille(500) && !any_order).then_some(("default_retention", 1));
    all.into_iter().chain(kept).map(|(name, ms)| (name.to_owned(), ms)).collect()
}

fn input(
    dice: &Dice,
    entry: Entry,
    params: &BTreeMap<String, i64>,
    partitions: i32,
) -> BTreeMap<(&'static str, i32), Vec<Row>> {
    let keys = 1 + dice.below(KEYS.len() as u64) as usize;
    let mut newest = 0;
    let mut input: BTreeMap<(&'static str, i32), Vec<Row>> = BTreeMap::new();
    for topic in entry.topics {
        (0..partitions).for_each(|partition| drop(input.insert((topic, partition), Vec::new())));
    }
    for _ in 0..10 + dice.below(80) {
        let key = dice.per_mille(950).then(|| dice.pick(&KEYS[..keys]).to_owned());
        let value = dice.per_mille(850).then(|| dice.pick(&VALUES).to_owned());
        let edge = params[dice.pick(&["size", "gap", "difference", "limit", "before"])];
        let time = match dice.below(20) {
            0..=8 => newest + dice.below(8) as i64,
            9..=13 => newest - dice.below(40) as i64,
            14..=18 => newest + edge + dice.below(3) as i64 - 1,
            _ => newest + 1_000,
        };
        let time = time.max(0);
        newest = newest.max(time);
        let partition = key.as_ref().map_or(0, |key| partition_for_key(key.as_bytes(), partitions));
        let row = Row { key, value, time, headers: Vec::new() };
        input.entry((dice.pick(entry.topics), partition)).or_default().push(row);
    }
    input
}
