//! A random story: parameters, and records in the order in which they arrive. It prints as what somebody would type.

use std::collections::BTreeMap;
use std::fmt;

use millstream_tests::reference::Row;
use proptest::prelude::*;

/// A program's parameters and input.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) partitions: i32,
    pub(crate) params: BTreeMap<String, i64>,
    /// How many records arrive at once, unless the program leaves their order open then.
    pub(crate) fetch: usize,
    /// After every so many fetches all stores are dropped, and come back from their changelogs.
    pub(crate) restart_every: Option<usize>,
    /// Every so many commits fail, and are done again.
    pub(crate) abort_every: Option<u64>,
    pub(crate) steps: Vec<Step>,
}

/// A record arrives.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) topic: &'static str,
    pub(crate) key: Option<&'static str>,
    pub(crate) value: Option<&'static str>,
    pub(crate) time: i64,
    /// For how many milliseconds nothing came before it.
    pub(crate) wait: i64,
    pub(crate) headers: Vec<(String, String)>,
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

const VALUES: [&str; 12] = ["a", "at", "apple", "b0", "bee", "cabin", "cat a", "dust", "del", "e0", "none", "a bee at"];

/// Ten times what stores keep.
const JUMP: i64 = 1_000_000;

/// Where a record's time comes from.
#[derive(Debug, Clone)]
enum Move {
    /// So far after the newest.
    On(i64),
    /// So far before the newest.
    Back(i64),
    /// As far from an earlier record as a window, a grace period or a sum of them, give or take a millisecond.
    Edge { from: prop::sample::Index, by: prop::sample::Index, forward: bool, off: i64 },
    /// The time of an earlier record.
    Again(prop::sample::Index),
    /// A long time after the newest.
    Jump,
}

fn moves() -> impl Strategy<Value = Move> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (0..8i64).prop_map(Move::On),
        4 => (0..40i64).prop_map(Move::Back),
        5 => (index(), index(), any::<bool>(), -1..=1i64)
            .prop_map(|(from, by, forward, off)| Move::Edge { from, by, forward, off }),
        1 => index().prop_map(Move::Again),
        1 => Just(Move::Jump),
    ]
}

/// Distances at which something begins or ends.
fn distances(params: &BTreeMap<String, i64>) -> Vec<i64> {
    let sum = |names: &[&str]| names.iter().map(|name| params[*name]).sum();
    let sums: [&[&str]; 15] = [
        &["size"],
        &["advance"],
        &["grace"],
        &["size", "grace"],
        &["difference"],
        &["difference", "difference"],
        &["difference", "grace"],
        &["difference", "difference", "grace"],
        &["gap"],
        &["gap", "grace"],
        &["before"],
        &["after"],
        &["after", "grace"],
        &["before", "grace"],
        &["before", "after", "grace"],
    ];
    sums.iter().map(|names| sum(names)).chain([params["limit"], params["history"]]).collect()
}

/// Every parameter that any program has.
fn params() -> impl Strategy<Value = BTreeMap<String, i64>> {
    let windows = (1..=15i64).prop_flat_map(|size| (Just(size), 1..=size));
    let rooms = prop_oneof![1..=4i64, Just(1000)];
    let joins = (0..=12i64, 0..=12i64, 0..=40i64);
    let options = (any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(1..=20i64));
    (windows, 0..=20i64, 0..=12i64, 1..=8i64, joins, 0..=15i64, rooms, options).prop_map(
        |((size, advance), grace, difference, gap, (before, after, history), limit, max_records, options)| {
            let (kept, exact, strict_end, idleness) = options;
            let all = [
                ("size", size),
                ("advance", advance),
                ("grace", grace),
                ("difference", difference),
                ("gap", gap),
                ("before", before),
                ("after", after),
                ("history", history),
                ("limit", limit),
                ("max_records", max_records),
            ];
            let kept = (!kept).then_some(("default_retention", 1));
            let exact = exact.then_some(("exact", 1));
            let strict_end = strict_end.then_some(("strict_end", 1));
            let idleness = idleness.map(|after| ("idleness", after));
            let options = [kept, exact, strict_end, idleness].into_iter().flatten();
            all.into_iter().chain(options).map(|(name, ms)| (name.to_owned(), ms)).collect()
        },
    )
}

/// A record without its time and number.
type Blank = (&'static str, Option<&'static str>, Option<&'static str>, usize, Move, i64);

fn blanks(topics: &'static [&'static str]) -> impl Strategy<Value = Vec<Blank>> {
    // Few keys meet each other often.
    (1..=KEYS.len()).prop_flat_map(move |keys| {
        let key = prop::option::weighted(0.93, prop::sample::select(&KEYS[..keys]));
        let value = prop::option::weighted(0.85, prop::sample::select(&VALUES[..]));
        let wait = prop_oneof![6 => Just(0), 1 => 1..60i64];
        prop::collection::vec((prop::sample::select(topics), key, value, 0..=2usize, moves(), wait), 1..60)
    })
}

/// Stories for a program that reads these topics.
pub(crate) fn scripts(topics: &'static [&'static str]) -> impl Strategy<Value = Script> {
    let fetch = prop_oneof![2 => Just(1usize), 1 => 2..=20usize];
    let faults = (fetch, prop::option::weighted(0.3, 1..10usize), prop::option::weighted(0.3, 2..6u64));
    (1..=3i32, params(), faults, blanks(topics)).prop_map(
        |(partitions, params, (fetch, restart_every, abort_every), blanks)| {
            let mut steps: Vec<Step> = Vec::new();
            let distances = distances(&params);
            for (number, (topic, key, value, headers, moved, wait)) in blanks.into_iter().enumerate() {
                let times: Vec<i64> = steps.iter().map(|step| step.time).chain([0]).collect();
                let newest = times.iter().copied().max().unwrap_or_default();
                let time = match moved {
                    Move::On(by) => newest + by,
                    Move::Back(by) => newest - by,
                    Move::Edge { from, by, forward, off } => {
                        let by = *by.get(&distances);
                        from.get(&times) + if forward { by } else { -by } + off
                    }
                    Move::Again(index) => *index.get(&times),
                    Move::Jump => newest + JUMP,
                };
                let headers = (0..headers).map(|n| ("h".to_owned(), format!("{number}.{n}"))).collect();
                steps.push(Step { topic, key, value, time: time.max(0), wait, headers });
            }
            Script { partitions, params, fetch, restart_every, abort_every, steps }
        },
    )
}

impl Step {
    /// The record, as the interpreter takes it.
    pub(crate) fn row(&self) -> Row {
        let (key, value) = (self.key.map(str::to_owned), self.value.map(str::to_owned));
        Row { key, value, time: self.time, headers: self.headers.clone() }
    }
}

impl Script {
    /// The same for a program that waits for its table: no longer than the table's history, or it is refused.
    pub(crate) fn buildable(&self, program: &str) -> Script {
        let mut script = self.clone();
        if program.ends_with("grace-join") {
            let history = script.params["history"];
            script.params.entry("grace".to_owned()).and_modify(|grace| *grace = (*grace).min(history));
        }
        script
    }

    /// What is left of a story when nothing more can be left out of it without its point: `fails` says whether the
    /// point is still there.
    pub(crate) fn simplest(self, fails: impl Fn(&Script) -> bool) -> Script {
        let plain = |script: &Script| {
            let blank = |step: &Step| Step { headers: Vec::new(), ..step.clone() };
            let at_once = |step: &Step| Step { wait: 0, ..step.clone() };
            [
                Script { partitions: 1, ..script.clone() },
                Script { fetch: 1, ..script.clone() },
                Script { restart_every: None, ..script.clone() },
                Script { abort_every: None, ..script.clone() },
                Script { steps: script.steps.iter().map(blank).collect(), ..script.clone() },
                Script { steps: script.steps.iter().map(at_once).collect(), ..script.clone() },
            ]
        };
        let shorter = |script: &Script, without: usize| {
            let mut script = script.clone();
            script.steps.remove(without);
            script
        };
        let mut simplest = self;
        for simpler in 0..plain(&simplest).len() {
            simplest = Some(plain(&simplest)[simpler].clone()).filter(&fails).unwrap_or(simplest);
        }
        let mut length = usize::MAX;
        while simplest.steps.len() < length {
            length = simplest.steps.len();
            for without in (0..length).rev() {
                simplest = Some(shorter(&simplest, without)).filter(&fails).unwrap_or(simplest);
            }
        }
        simplest
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (self.key.unwrap_or("null"), self.value.unwrap_or("null"));
        if self.wait > 0 {
            write!(f, "{} ms later ", self.wait)?;
        }
        write!(f, "{} {key}:{value}@{}", self.topic, self.time)?;
        self.headers.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<String> = self.params.iter().map(|(name, ms)| format!("{name} {ms}")).collect();
        write!(f, "{} partitions; {}", self.partitions, params.join(", "))?;
        if self.fetch > 1 {
            write!(f, "; {} records at once", self.fetch)?;
        }
        if let Some(every) = self.restart_every {
            write!(f, "; restarts every {every} fetches")?;
        }
        if let Some(every) = self.abort_every {
            write!(f, "; every {every}. commit fails")?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
    }
}
