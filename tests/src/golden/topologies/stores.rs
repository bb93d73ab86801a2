//! Section *Stores*: a processor answers every record with what its store says.

use millstream_core::{Record, Result};
use millstream_dsl::{KeyValueStore, Out, Processor, Put, StreamsBuilder, Version, VersionedStore};

use crate::golden::topologies::{Params, Text, shown};

struct Answers {
    rows: KeyValueStore<String, String>,
}

impl Processor for Answers {
    type KIn = Text;
    type VIn = Text;
    type KOut = Text;
    type VOut = Text;

    fn process(&mut self, record: Record<Text, Text>, out: &mut Out<'_, Text, Text>) -> Result<()> {
        let Some(key) = &record.key else { return Ok(()) };
        let key = format!("{key}{}", record.timestamp % 3);
        match self.answer(&key, record.value.as_deref())? {
            Some(answer) => out.forward(record.with_value(Some(answer))),
            None => Ok(()),
        }
    }
}

impl Answers {
    fn answer(&self, key: &String, value: Option<&str>) -> Result<Option<String>> {
        let text = |t: &str| t.to_owned();
        Ok(Some(match value {
            None => format!("old:{}", shown(self.rows.delete(key)?.as_ref())),
            Some("del") => {
                self.rows.put(key, None)?;
                return Ok(None);
            }
            Some("at") => print(self.rows.all()?),
            Some("bee") => print(self.rows.range(text("a1")..=text("b2"))?),
            Some("bold") => print(self.rows.range(text("a1")..=text("b2"))?.into_iter().rev()),
            Some("cat") => print(self.rows.all()?.into_iter().rev()),
            Some("cabin") => format!("was:{}", shown(self.rows.put_if_absent(key, text("cabin"))?.as_ref())),
            // Keys that begin with `a` are those from `a` to before `b`.
            Some("dust") => print(self.rows.range(text("a")..text("b"))?),
            Some("bb") => print(self.rows.range(..=text("b1"))?),
            Some(value) => format!("{}>{value}", shown(self.rows.put(key, Some(text(value)))?.as_ref())),
        }))
    }
}

fn print(rows: impl IntoIterator<Item = (String, String)>) -> String {
    format!("[{}]", rows.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
}

struct VersionedAnswers {
    rows: VersionedStore<String, String>,
}

impl Processor for VersionedAnswers {
    type KIn = Text;
    type VIn = Text;
    type KOut = Text;
    type VOut = Text;

    fn process(&mut self, record: Record<Text, Text>, out: &mut Out<'_, Text, Text>) -> Result<()> {
        let (Some(key), time) = (&record.key, record.timestamp) else { return Ok(()) };
        let rows = &self.rows;
        let answer = match record.value.as_deref() {
            Some("del") => format!("deleted:{}", show(rows.delete(key, time)?)),
            Some("at") => format!("now:{}", show(rows.get(key)?)),
            Some("bee") => format!("as-of:{}", show(rows.get_as_of(key, time)?)),
            Some("bold") => format!("before:{}", show(rows.get_as_of(key, (time - 10).max(0))?)),
            value => {
                let valid_to = match rows.put(key, value.map(str::to_owned), time)? {
                    Put::Latest => -1,
                    Put::UpTo(time) => time,
                    Put::TooOld => i64::MIN,
                };
                format!("put:{valid_to}")
            }
        };
        out.forward(record.with_value(Some(answer)))
    }
}

/// Kafka Streams' typed versioned store leaves the valid-to time out of what it reads: its rows print as still open. Ours
/// has it ([`Version::valid_to`]).
fn show(version: Option<Version<String>>) -> String {
    version.map_or("none".into(), |Version { value, timestamp, .. }| format!("{value}@{timestamp}~open"))
}

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    match name {
        "store-versioned" => {
            let rows = b.versioned_store::<String, String>("s", p.ms("history"));
            b.stream("in").process("answers", move |s| VersionedAnswers { rows: s.store(rows) }).to("out");
        }
        "store-key-value" => {
            let rows = b.store::<String, String>("s");
            b.stream("in").process("answers", move |s| Answers { rows: s.store(rows) }).to("out");
        }
        _ => return false,
    }
    true
}
