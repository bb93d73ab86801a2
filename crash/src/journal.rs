//! What was acknowledged, kept outside of what is killed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::dump::Dumped;
use crate::workload::{Counts, input};

/// Acknowledged input of a round.
#[derive(Default)]
pub(crate) struct Journal {
    /// How many records of every input partition were acknowledged.
    pub(crate) acknowledged: Counts,
    /// How many the worker was asked for at most, acknowledged or not.
    pub(crate) asked: Counts,
}

impl Journal {
    /// A worker says that it has so many records of a partition. What is wrong with that, if anything is.
    pub(crate) fn has(&mut self, topic: &str, partition: i32, count: i64) -> Option<String> {
        let place = (topic.to_owned(), partition);
        let (acknowledged, asked) = (self.count(&self.acknowledged, &place), self.count(&self.asked, &place));
        // What was there at the start and was not acknowledged may be kept.
        self.asked.insert(place.clone(), count);
        if count < acknowledged {
            return Some(format!(
                "{topic}-{partition}: lost: {acknowledged} records were acknowledged, the log has {count}"
            ));
        }
        if count > asked {
            return Some(format!("{topic}-{partition}: {count} records, and only {asked} were fed"));
        }
        self.acknowledged.insert(place, count);
        None
    }

    /// A worker is asked for more records of a partition.
    pub(crate) fn ask(&mut self, topic: &str, partition: i32, count: i64) {
        *self.asked.entry((topic.to_owned(), partition)).or_default() += count;
    }

    /// A worker has acknowledged all up to a number.
    pub(crate) fn acknowledge(&mut self, topic: &str, partition: i32, count: i64) {
        self.acknowledged.insert((topic.to_owned(), partition), count);
    }

    fn count(&self, of: &Counts, place: &(String, i32)) -> i64 {
        of.get(place).copied().unwrap_or(0)
    }

    /// Writes what was acknowledged, and what a reader sees if it can read the log, as JSON lines for a checker outside.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, folder: &Path, seed: u64, dump: Option<&[Dumped]>) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut out = BufWriter::new(File::create(folder.join("acknowledged.jsonl"))?);
        for ((topic, partition), count) in &self.acknowledged {
            for seq in 0..*count {
                let (key, value) = input(seed, topic, *partition, seq);
                line(&mut out, topic, *partition, seq, key.as_deref(), Some(&value))?;
            }
        }
        out.flush()?;
        let committed = folder.join("committed.jsonl");
        let Some(dump) = dump else {
            // That of an earlier run would say what this one has lost.
            return match std::fs::remove_file(committed) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let mut out = BufWriter::new(File::create(committed)?);
        for r in dump {
            line(&mut out, &r.topic, r.partition, r.offset, r.key.as_deref(), r.value.as_deref())?;
        }
        out.flush()
    }
}

fn line(
    out: &mut impl Write,
    topic: &str,
    partition: i32,
    offset: i64,
    key: Option<&str>,
    value: Option<&[u8]>,
) -> io::Result<()> {
    // What is no JSON is a number in a changelog.
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(hex(bytes)));
    let value: Value = value.map_or(Value::Null, json);
    let record = json!({"topic": topic, "partition": partition, "offset": offset, "key": key, "value": value});
    writeln!(out, "{record}")
}
