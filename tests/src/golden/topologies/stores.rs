//! Section *Stores*: a processor answers every record with what its store says.

use millstream_core::{Record, Result, Timestamp};
use millstream_dsl::{
    KeyValueIterator, KeyValueStore, Out, Processor, Put, SessionStore, StreamsBuilder, Version, VersionedStore,
    Window, WindowStore, Windowed,
};

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
            Some("at") => print(self.rows.all())?,
            Some("bee") => print(self.rows.range(text("a1")..=text("b2"))?)?,
            Some("bold") => print(self.rows.range(text("a1")..=text("b2"))?.descending())?,
            Some("cat") => print(self.rows.all().descending())?,
            Some("cabin") => format!("was:{}", shown(self.rows.put_if_absent(key, text("cabin"))?.as_ref())),
            Some("dust") => print(self.rows.prefix_scan(&text("a"))?)?,
            Some("bb") => print(self.rows.range(..=text("b1"))?)?,
            Some(value) => format!("{}>{value}", shown(self.rows.put(key, Some(text(value)))?.as_ref())),
        }))
    }
}

fn print(rows: KeyValueIterator<'_, String, String>) -> Result<String> {
    let rows: Vec<String> = rows.map(|row| row.map(|(k, v)| format!("{k}={v}"))).collect::<Result<_>>()?;
    Ok(format!("[{}]", rows.join(",")))
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

struct WindowAnswers {
    rows: WindowStore<String, String>,
}

impl Processor for WindowAnswers {
    type KIn = Text;
    type VIn = Text;
    type KOut = Text;
    type VOut = Text;

    fn process(&mut self, record: Record<Text, Text>, out: &mut Out<'_, Text, Text>) -> Result<()> {
        let (Some(key), time, rows) = (&record.key, record.timestamp, &self.rows) else { return Ok(()) };
        let around = (time - 10).max(0)..=time + 10;
        let row = |(time, value): (Timestamp, String)| format!("{time}={value}");
        let keyed = |(key, time, value): (String, Timestamp, String)| format!("{key}@{time}={value}");
        let answer = match record.value.as_deref() {
            None | Some("del") => {
                rows.put(key, None, time)?;
                return Ok(());
            }
            Some("at") => list(rows.fetch(key, around)?.into_iter().map(row)),
            Some("bee") => list(rows.fetch(key, around)?.into_iter().rev().map(row)),
            Some("bold") => sorted(rows.fetch_keys("a".to_owned()..="b".to_owned(), around)?.into_iter().map(keyed)),
            Some("cat") => sorted(rows.all()?.into_iter().map(keyed)),
            Some("cabin") => sorted(rows.fetch_keys(.., (time - 5).max(0)..=time + 5)?.into_iter().map(keyed)),
            Some("dust") => format!("one:{}", shown(rows.get(key, time)?.as_ref())),
            Some(value) => {
                rows.put(key, Some(value.to_owned()), time)?;
                return Ok(());
            }
        };
        out.forward(record.with_value(Some(answer)))
    }
}

struct SessionAnswers {
    rows: SessionStore<String, String>,
}

impl Processor for SessionAnswers {
    type KIn = Text;
    type VIn = Text;
    type KOut = Text;
    type VOut = Text;

    fn process(&mut self, record: Record<Text, Text>, out: &mut Out<'_, Text, Text>) -> Result<()> {
        let (Some(key), time, rows) = (&record.key, record.timestamp, &self.rows) else { return Ok(()) };
        let session = Windowed { key: key.clone(), window: Window { start: (time - 2).max(0), end: time } };
        let (from, to) = ((time - 10).max(0), time + 10);
        let row = |(session, value): (Windowed<String>, String)| {
            format!("{}[{},{}]={value}", session.key, session.window.start, session.window.end)
        };
        let answer = match record.value.as_deref() {
            None | Some("del") => {
                rows.put(&session, None)?;
                return Ok(());
            }
            Some("at") => list(rows.fetch(key)?.into_iter().map(row)),
            Some("bee") => list(rows.find(key, from, to)?.into_iter().map(row)),
            Some("bold") => list(rows.find(key, from, to)?.into_iter().rev().map(row)),
            Some("cat") => sorted(rows.find_keys("a".to_owned()..="b".to_owned(), from, to)?.into_iter().map(row)),
            Some("dust") => format!("one:{}", shown(rows.get(&session)?.as_ref())),
            Some(value) => {
                rows.put(&session, Some(value.to_owned()))?;
                return Ok(());
            }
        };
        out.forward(record.with_value(Some(answer)))
    }
}

fn list(rows: impl Iterator<Item = String>) -> String {
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

fn sorted(rows: impl Iterator<Item = String>) -> String {
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    list(rows.into_iter())
}

/// Kafka Streams' typed versioned store leaves the valid-to time out of what it reads: its rows print as still open. Ours
/// has it ([`Version::valid_to`]).
fn show(version: Option<Version<String>>) -> String {
    version.map_or("none".into(), |Version { value, timestamp, .. }| format!("{value}@{timestamp}~open"))
}

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    match name {
        "store-window" => {
            let rows = b.window_store::<String, String>("s", p.ms("retention"));
            b.stream("in").process("answers", move |s| WindowAnswers { rows: s.store(rows) }).to("out");
        }
        "store-session" => {
            let rows = b.session_store::<String, String>("s", p.ms("retention"));
            b.stream("in").process("answers", move |s| SessionAnswers { rows: s.store(rows) }).to("out");
        }
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
