//! The programs that are simulated, and what can be said of their output before it is known in which order they took records
//! of different partitions.

use std::collections::BTreeMap;

use crate::reference::{Program, Row};

/// What must hold of what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// For each key the records that the interpreter says, in its order.
    Exact,
    /// For each key these values, in this order; times depend on which record came first.
    Values,
    /// These records, in any order.
    AnyOrder,
    /// In the end the last value of each key is this one.
    Latest,
}

/// A program of `tests/golden/CATALOGUE.md`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) topics: &'static [&'static str],
    pub(super) promise: Promise,
    /// With more partitions less can be said.
    pub(super) most_partitions: i32,
}

const fn entry(name: &'static str, topics: &'static [&'static str], promise: Promise, most_partitions: i32) -> Entry {
    Entry { name, topics, promise, most_partitions }
}

pub(super) const CATALOGUE: &[Entry] = &[
    entry("count", &["in"], Promise::Exact, 3),
    entry("reduce", &["in"], Promise::Exact, 3),
    entry("aggregate", &["in"], Promise::Exact, 3),
    entry("to-table", &["in"], Promise::Exact, 3),
    entry("table-filter-materialized", &["in"], Promise::Exact, 3),
    entry("tumbling-count", &["in"], Promise::Exact, 3),
    entry("tumbling-count-final", &["in"], Promise::Exact, 3),
    entry("hopping-aggregate", &["in"], Promise::Exact, 3),
    entry("sliding-count", &["in"], Promise::Exact, 3),
    entry("sliding-count-final", &["in"], Promise::Exact, 3),
    entry("session-aggregate", &["in"], Promise::Exact, 3),
    entry("session-count-final", &["in"], Promise::Exact, 3),
    entry("suppress-until-time-limit", &["in"], Promise::Exact, 3),
    entry("suppress-until-window-closes", &["in"], Promise::Exact, 3),
    entry("suppress-session-closes", &["in"], Promise::Exact, 3),
    entry("versioned-table", &["in"], Promise::Exact, 3),
    entry("stream-self-join", &["in"], Promise::Exact, 3),
    entry("word-count", &["in"], Promise::Exact, 1),
    entry("word-count", &["in"], Promise::Values, 3),
    entry("two-level-aggregate", &["in"], Promise::Exact, 1),
    entry("table-group-aggregate", &["in"], Promise::Exact, 1),
    entry("table-group-count", &["in"], Promise::Latest, 3),
    entry("stream-stream-inner-join", &["left", "right"], Promise::AnyOrder, 3),
    entry("table-table-inner-join", &["left", "right"], Promise::Latest, 3),
    entry("table-table-outer-join", &["left", "right"], Promise::Latest, 3),
    entry("foreign-key-inner-join", &["left", "right"], Promise::Latest, 3),
    entry("foreign-key-left-join", &["left", "right"], Promise::Latest, 3),
];

impl Entry {
    /// What comes out for these records: by topic and partition, in the order of the log.
    pub(super) fn expected(
        &self,
        params: &BTreeMap<String, i64>,
        partitions: i32,
        input: &BTreeMap<(&str, i32), Vec<Row>>,
    ) -> Vec<Row> {
        let mut program = Program::new(self.name, params, partitions);
        input.iter().flat_map(|((topic, _), rows)| rows.iter().map(move |row| (topic, row))).fold(
            Vec::new(),
            |mut out, (topic, row)| {
                out.extend(program.process(topic, row));
                out
            },
        )
    }

    /// What is wrong with what came out, if anything is. `all`: everything that went in has been processed.
    pub(super) fn difference(&self, expected: &[Row], found: &[Row], all: bool) -> Option<String> {
        match self.promise {
            Promise::Exact => by_key(expected, found, all, |row| (row.value.clone(), row.time)),
            Promise::Values => by_key(expected, found, all, |row| row.value.clone()),
            Promise::AnyOrder => {
                let shown = |rows: &[Row]| {
                    let mut shown: Vec<String> = rows.iter().map(show).collect();
                    shown.sort();
                    shown
                };
                let (mut wanted, found) = (shown(expected), shown(found));
                for row in &found {
                    match wanted.iter().position(|w| w == row) {
                        Some(at) => drop(wanted.remove(at)),
                        None => return Some(format!("{row} came out too often, or should not have")),
                    }
                }
                (all && !wanted.is_empty()).then(|| format!("missing: {}", wanted.join(", ")))
            }
            Promise::Latest if !all => None,
            Promise::Latest => {
                let latest = |rows: &[Row]| -> BTreeMap<Option<String>, String> {
                    let mut latest = BTreeMap::new();
                    for row in rows {
                        match &row.value {
                            Some(value) => drop(latest.insert(row.key.clone(), value.clone())),
                            None => drop(latest.remove(&row.key)),
                        }
                    }
                    latest
                };
                let (wanted, found) = (latest(expected), latest(found));
                (wanted != found).then(|| format!("the last values are {found:?}, not {wanted:?}"))
            }
        }
    }
}

/// For each key what was found must be what is expected, or its beginning.
fn by_key<T: PartialEq + std::fmt::Debug>(
    expected: &[Row],
    found: &[Row],
    all: bool,
    of: impl Fn(&Row) -> T,
) -> Option<String> {
    let split = |rows: &[Row]| {
        let mut split: BTreeMap<Option<String>, Vec<T>> = BTreeMap::new();
        rows.iter().for_each(|row| split.entry(row.key.clone()).or_default().push(of(row)));
        split
    };
    let (mut wanted, found) = (split(expected), split(found));
    for (key, found) in found {
        let wanted = wanted.remove(&key).unwrap_or_default();
        if !wanted.starts_with(&found) || all && wanted.len() != found.len() {
            let same = wanted.iter().zip(&found).take_while(|(w, f)| w == f).count();
            let tail = |rows: &[T]| format!("{:?}", rows.iter().skip(same).take(4).collect::<Vec<_>>());
            let (w, f) = (tail(&wanted), tail(&found));
            return Some(format!("key {key:?}: after {same} of {} there comes {f}, not {w}", wanted.len()));
        }
    }
    (all && !wanted.is_empty()).then(|| format!("nothing came out for {:?}", wanted.keys().collect::<Vec<_>>()))
}

fn show(row: &Row) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".into());
    format!("{}:{}@{}", text(&row.key), text(&row.value), row.time)
}
