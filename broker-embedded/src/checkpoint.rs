//! The checkpoint: up to which offset every partition is on the disk with its indexes, and where the journal goes on.
//!
//! Opening reads no batch below it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use millstream_core::{Files, LogError, Offset};

use crate::journal::Journal;
use crate::sealed::{Kind, Text};

const FILE: &str = "recovery-point-checkpoint";
const KIND: Kind<'static> = Kind { name: "checkpoint", of: "" };

/// What the checkpoint file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The first journal with entries that segments may lack; `None` if there is no journal.
    pub(crate) journal: Option<u64>,
    /// That journal, and all behind it, have a head.
    pub(crate) heads: bool,
    /// By topic id and partition.
    pub(crate) points: BTreeMap<(u64, i32), Point>,
}

/// What a checkpoint has found of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Point {
    /// Up to here it is on the disk.
    pub(crate) end: Offset,
    /// The log starts here, or later.
    pub(crate) start: Offset,
}

impl Checkpoint {
    /// Reads it; empty if there is none, and there was none.
    pub(crate) fn read(files: &dyn Files, dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(FILE);
        let damaged = |problem: &str| LogError::Corrupt { place: path.display().to_string(), problem: problem.into() };
        let parsed = match KIND.read(files, &path)? {
            // Nothing is appended with a journal before the first checkpoint.
            None if Journal::has_entries(files, dir)? => {
                return Err(damaged("it is not there, and says which segments lack what the journals have"));
            }
            None => return Ok(Checkpoint::default()),
            Some(Text::Sealed(body)) => parse(&body, true),
            Some(Text::Plain(text)) => {
                let body = text.strip_prefix("version=1\n").and_then(|text| text.strip_suffix("end\n"));
                body.and_then(|body| parse(body, false))
            }
        };
        parsed.ok_or_else(|| damaged("it is no checkpoint"))
    }

    /// Replaces it.
    pub(crate) fn write(&self, files: &dyn Files, dir: &Path) -> Result<(), LogError> {
        let mut text = String::new();
        if let Some(journal) = self.journal {
            let _infallible = writeln!(text, "journal={journal}");
        }
        for ((topic, partition), Point { end, start }) in &self.points {
            let _infallible = writeln!(text, "{topic} {partition} {end} {start}");
        }
        KIND.write(files, &dir.join(FILE), &text)
    }

    /// What it says of a partition of a topic. A topic that it does not know came later, and has a larger id than those that
    /// it does.
    pub(crate) fn point(&self, topic: u64, partition: i32) -> Result<Option<Point>, String> {
        let point = self.points.get(&(topic, partition)).copied();
        match self.points.last_key_value() {
            Some(((newest, _), _)) if point.is_none() && topic <= *newest => {
                Err(format!("the last checkpoint knows no partition {partition} of a topic with the id {topic}"))
            }
            _ => Ok(point),
        }
    }
}

fn parse(body: &str, heads: bool) -> Option<Checkpoint> {
    let mut lines = body.lines().peekable();
    let mut checkpoint = Checkpoint { heads, ..Checkpoint::default() };
    if let Some(number) = lines.peek().and_then(|line| line.strip_prefix("journal=")) {
        checkpoint.journal = Some(number.parse().ok()?);
        lines.next();
    }
    for line in lines {
        let mut fields = line.split(' ');
        let mut field = || fields.next();
        let key = (field()?.parse().ok()?, field()?.parse().ok()?);
        let (end, start) = (field()?.parse().ok()?, field().unwrap_or("0").parse().ok()?);
        checkpoint.points.insert(key, Point { end, start });
    }
    Some(checkpoint)
}

#[cfg(test)]
mod tests {
    use millstream_core::{OpenMode, SimFiles};

    use super::*;

    #[test]
    fn both_formats_are_read() {
        let (files, dir) = (SimFiles::default(), Path::new("/d"));
        files.create_dir(dir).expect("a folder");
        assert_eq!(Checkpoint::read(&files, dir).ok(), Some(Checkpoint::default()));
        let file = files.open(&dir.join(FILE), OpenMode::Create).expect("a file");
        file.write_all_at(b"version=1\njournal=3\n7 0 12\nend\n", 0).expect("a write");
        let point = Point { end: 12, start: 0 };
        let mut wanted = Checkpoint { journal: Some(3), heads: false, points: [((7, 0), point)].into() };
        assert_eq!(Checkpoint::read(&files, dir).ok().as_ref(), Some(&wanted));
        wanted.heads = true;
        wanted.points.insert((8, 1), Point { end: 9, start: 4 });
        wanted.write(&files, dir).expect("a write");
        assert_eq!(Checkpoint::read(&files, dir).ok().as_ref(), Some(&wanted));
        assert_eq!(wanted.point(7, 0), Ok(Some(point)));
        assert_eq!(wanted.point(9, 0), Ok(None));
        assert!(wanted.point(6, 0).is_err() && wanted.point(7, 1).is_err());
    }
}
