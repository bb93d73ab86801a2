//! A program for each kind of store, random input for it, and what has to come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{BatchBuilder, Log, ProducerOptions, Result, TopicPartition, Topology, Wakeup};
use millstream_dsl::StreamsBuilder;

use crate::embedded::Embedded;
use crate::golden;
use crate::reference::{Program, Row};
use crate::simulation::Dice;

/// Programs of `tests/golden/CATALOGUE.md`, one at least for each kind of store, with their input topics.
pub const PROGRAMS: [(&str, &[&str]); 10] = [
    ("count", &["in"]),
    ("tumbling-count", &["in"]),
    ("sliding-count-final", &["in"]),
    ("session-count", &["in"]),
    ("suppress-until-window-closes", &["in"]),
    ("versioned-table", &["in"]),
    ("stream-self-join", &["in"]),
    ("stream-stream-outer-join", &["left", "right"]),
    ("table-table-outer-join", &["left", "right"]),
    ("join-chain", &["left", "right", "table"]),
];

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const VALUES: [&str; 8] = ["a", "at", "apple", "bee", "cabin", "dust", "e0", "a bee at"];

/// A program, the input that it has been given, and what has to come out for it.
pub struct Stored {
    name: &'static str,
    topics: &'static [&'static str],
    params: BTreeMap<String, i64>,
    dice: Dice,
    newest: i64,
    model: Program,
    expected: Vec<(Option<String>, Option<String>)>,
}

impl Stored {
    /// One of [`PROGRAMS`], on a log that gets its topics. Its input is a seed's.
    ///
    /// # Errors
    /// When the log has its topics already.
    pub fn new(program: (&'static str, &'static [&'static str]), seed: u64, embedded: &Embedded) -> Result<Self> {
        program.1.iter().chain(&["out"]).try_for_each(|topic| embedded.create(topic, 1))?;
        Ok(Stored::there(program, seed))
    }

    /// One whose topics are there.
    ///
    /// # Panics
    /// When it is not known what comes out.
    pub fn there((name, topics): (&'static str, &'static [&'static str]), seed: u64) -> Self {
        let params = [
            ("size", 10),
            ("advance", 5),
            ("grace", 7),
            ("difference", 8),
            ("gap", 6),
            ("before", 9),
            ("after", 5),
            ("history", 30),
            ("default_retention", 1),
        ];
        let params: BTreeMap<String, i64> = params.into_iter().map(|(name, ms)| (name.to_owned(), ms)).collect();
        let model = Program::new(name, &params, 1);
        assert!(model.has_order(), "{name}");
        Stored { name, topics, params, dice: Dice::new(seed), newest: 0, model, expected: Vec::new() }
    }

    /// The program.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn topology(&self) -> Result<Topology> {
        golden::build(&StreamsBuilder::new(), self.name, &self.params)
    }

    /// Writes so many records more.
    ///
    /// # Errors
    /// When the log fails.
    pub fn write(&mut self, embedded: &Embedded, records: usize) -> Result<()> {
        let written = self.next(records);
        let mut producer = embedded.log.producer(&ProducerOptions::plain("input"), Arc::new(Wakeup::default()))?;
        for (topic, rows) in self.topics.iter().zip(&written).filter(|(_, rows)| !rows.is_empty()) {
            let mut batch = BatchBuilder::new();
            for row in rows {
                let (key, value) = (row.key.as_ref().map(String::as_bytes), row.value.as_ref().map(String::as_bytes));
                batch.push(row.time, key, value, &[]);
            }
            producer.send(&TopicPartition::new(*topic, 0), batch)?;
        }
        Ok(())
    }

    /// So many records more, by topic: as if they were written.
    pub fn next(&mut self, records: usize) -> Vec<Vec<Row>> {
        let mut queues: Vec<Vec<Row>> = self.topics.iter().map(|_| Vec::new()).collect();
        for _ in 0..records {
            let topic = self.dice.below(queues.len() as u64);
            let late = if self.dice.per_mille(250) { self.dice.below(25) as i64 } else { 0 };
            self.newest += self.dice.below(6) as i64;
            // No two topics have a record of the same time: which is first would be open.
            let time = (self.newest - late).max(0) * self.topics.len() as i64 + topic as i64;
            let value = self.dice.per_mille(900).then(|| self.dice.pick(&VALUES).to_owned());
            let key = Some(self.dice.pick(&KEYS).to_owned());
            queues[topic as usize].push(Row { key, value, time, headers: Vec::new() });
        }
        let written = queues.clone();
        // Of the topics' next records the oldest is processed first.
        let mut queues: Vec<_> = queues.into_iter().map(|rows| rows.into_iter().peekable()).collect();
        loop {
            let heads = queues.iter_mut().enumerate().filter_map(|(topic, q)| Some((q.peek()?.time, topic)));
            let Some((_, topic)) = heads.min() else { return written };
            if let Some(row) = queues[topic].next() {
                let out = self.model.process(self.topics[topic], &row);
                self.expected.extend(out.into_iter().map(|row| (row.key, row.value)));
            }
        }
    }

    /// What is wrong with what came out, if anything is.
    ///
    /// # Errors
    /// When the log fails.
    pub fn difference(&self, embedded: &Embedded) -> Result<Option<String>> {
        let found = embedded.read::<Option<String>, Option<String>>("out")?.concat();
        let same = found.iter().zip(&self.expected).take_while(|(found, expected)| found == expected).count();
        if same == found.len() && same == self.expected.len() {
            return Ok(None);
        }
        let (found, expected) = (found.get(same), self.expected.get(same));
        Ok(Some(format!("{}: after {same} records there comes {found:?}, not {expected:?}", self.name)))
    }

    /// How much has to come out.
    pub fn expected(&self) -> usize {
        self.expected.len()
    }
}
