//! What a partition's folder holds beside its segments: where the log starts, up to where it was compacted, and the producers
//! as of the last checkpoint.

use std::path::{Path, PathBuf};

use millstream_core::{Files, LogError, Offset};

use crate::data_dir::io;
use crate::sealed::{Kind, Text};

pub(crate) const START: &str = "log-start-offset";
pub(crate) const CLEANED: &str = "cleaner-offset";

fn snapshot_path(dir: &Path, point: Offset) -> PathBuf {
    dir.join(format!("{point:020}.snapshot"))
}

/// The producers as of an offset; `None` if they are not there.
pub(crate) fn read_snapshot(files: &dyn Files, dir: &Path, point: Offset) -> Option<Vec<u8>> {
    files.read(&snapshot_path(dir, point)).ok()
}

/// Keeps the producers as of an offset, for good: where segments were deleted, nothing else says who had sent what was in them. One of the
/// same offset, which the last checkpoint has written, is there until this one is.
pub(crate) fn write_snapshot(files: &dyn Files, dir: &Path, point: Offset, bytes: &[u8]) -> Result<(), LogError> {
    let path = snapshot_path(dir, point);
    files.replace(&path, bytes).map_err(|e| io("cannot write", &path, e))
}

/// Removes the snapshots of other offsets, and those that were not written to their end.
pub(crate) fn remove_snapshots_but(files: &dyn Files, dir: &Path, point: Offset) -> Result<(), LogError> {
    let keep = snapshot_path(dir, point);
    for name in files.list(dir).map_err(|e| io("cannot list", dir, e))? {
        let path = dir.join(&name);
        let is_unfinished = name.ends_with(".new") && name.starts_with(|c: char| c.is_ascii_digit());
        if name.ends_with(".snapshot") && path != keep || is_unfinished {
            files.remove(&path).map_err(|e| io("cannot remove", &path, e))?;
        }
    }
    Ok(())
}

/// An offset that a file says; 0 if there is none. The first format was the number alone: nothing vouches for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    pub(crate) offset: Offset,
    pub(crate) sealed: bool,
}

fn kind<'a>(name: &'static str, dir: &'a Path) -> Kind<'a> {
    Kind { name, of: dir.file_name().and_then(|n| n.to_str()).unwrap_or_default() }
}

fn read_offset(files: &dyn Files, dir: &Path, name: &'static str) -> Result<Kept, LogError> {
    let path = dir.join(name);
    let (text, sealed) = match kind(name, dir).read(files, &path)? {
        None => return Ok(Kept { offset: 0, sealed: true }),
        Some(Text::Sealed(text)) => (text, true),
        Some(Text::Plain(text)) => (text, false),
    };
    match text.trim().parse() {
        Ok(offset) if offset >= 0 => Ok(Kept { offset, sealed }),
        _ => Err(LogError::Corrupt {
            place: path.display().to_string(),
            problem: format!("`{}` is no offset", text.trim()),
        }),
    }
}

/// Where the log starts; 0 until that was moved.
pub(crate) fn read_start(files: &dyn Files, dir: &Path) -> Result<Kept, LogError> {
    read_offset(files, dir, START)
}

/// Up to where the partition was compacted.
pub(crate) fn read_cleaned(files: &dyn Files, dir: &Path) -> Result<Kept, LogError> {
    read_offset(files, dir, CLEANED)
}

/// Keeps the start of the log, replacing the file as a whole.
pub(crate) fn write_start(files: &dyn Files, dir: &Path, start: Offset) -> Result<(), LogError> {
    write_offset(files, dir, START, start)
}

/// Keeps up to where the partition was compacted. Without it all of it is compacted again.
pub(crate) fn write_cleaned(files: &dyn Files, dir: &Path, cleaned: Offset) -> Result<(), LogError> {
    write_offset(files, dir, CLEANED, cleaned)
}

fn write_offset(files: &dyn Files, dir: &Path, name: &'static str, offset: Offset) -> Result<(), LogError> {
    kind(name, dir).write(files, &dir.join(name), &format!("{offset}\n"))
}
