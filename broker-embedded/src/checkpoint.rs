//! The checkpoint: up to which offset every partition is on the disk with its indexes, and where the journal goes on.
//!
//! Opening reads no batch below it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use millstream_core::{Files, LogError, Offset};

use crate::data_dir::io;

const FILE: &str = "recovery-point-checkpoint";

/// What the checkpoint file says.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// The first journal with entries that segments may lack; `None` if there is no journal.
    pub(crate) journal: Option<u64>,
    /// Recovery points by topic id and partition.
    pub(crate) points: BTreeMap<(u64, i32), Offset>,
}

impl Checkpoint {
    /// Reads it; empty if there is none.
    pub(crate) fn read(files: &dyn Files, dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(FILE);
        let bytes = match files.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Checkpoint::default()),
            Err(e) => return Err(io("cannot read", &path, e)),
        };
        let text = String::from_utf8_lossy(&bytes);
        parse(&text).ok_or_else(|| LogError::Corrupt {
            place: path.display().to_string(),
            problem: "it is no checkpoint".into(),
        })
    }

    /// Replaces it.
    pub(crate) fn write(&self, files: &dyn Files, dir: &Path) -> Result<(), LogError> {
        let mut text = String::from("version=1\n");
        if let Some(journal) = self.journal {
            let _infallible = writeln!(text, "journal={journal}");
        }
        for ((topic, partition), offset) in &self.points {
            let _infallible = writeln!(text, "{topic} {partition} {offset}");
        }
        text.push_str("end\n");
        let path = dir.join(FILE);
        files.replace(&path, text.as_bytes()).map_err(|e| io("cannot write", &path, e))
    }
}

fn parse(text: &str) -> Option<Checkpoint> {
    let mut lines = text.strip_prefix("version=1\n")?.strip_suffix("end\n")?.lines().peekable();
    let mut checkpoint = Checkpoint::default();
    if let Some(number) = lines.peek().and_then(|line| line.strip_prefix("journal=")) {
        checkpoint.journal = Some(number.parse().ok()?);
        lines.next();
    }
    for line in lines {
        let mut fields = line.split(' ');
        let mut field = || fields.next();
        let key = (field()?.parse().ok()?, field()?.parse().ok()?);
        checkpoint.points.insert(key, field()?.parse().ok()?);
    }
    Some(checkpoint)
}
