//! What a partition's folder holds beside its segments: where the log starts, up to where it was compacted, and the producers
//! as of the last checkpoint.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use millstream_core::{Files, LogError, Offset};

use crate::data_dir::io;

const START: &str = "log-start-offset";
const CLEANED: &str = "cleaner-offset";

fn snapshot_path(dir: &Path, point: Offset) -> PathBuf {
    dir.join(format!("{point:020}.snapshot"))
}

/// The producers as of an offset; `None` if they are not there.
pub(crate) fn read_snapshot(files: &dyn Files, dir: &Path, point: Offset) -> Option<Vec<u8>> {
    files.read(&snapshot_path(dir, point)).ok()
}

/// Keeps the producers as of an offset.
pub(crate) fn write_snapshot(files: &dyn Files, dir: &Path, point: Offset, bytes: &[u8]) -> Result<(), LogError> {
    let path = snapshot_path(dir, point);
    files.write(&path, bytes).map_err(|e| io("cannot write", &path, e))
}

/// Removes the snapshots of other offsets.
pub(crate) fn remove_snapshots_but(files: &dyn Files, dir: &Path, point: Offset) -> Result<(), LogError> {
    let keep = snapshot_path(dir, point);
    for name in files.list(dir).map_err(|e| io("cannot list", dir, e))? {
        let path = dir.join(&name);
        if name.ends_with(".snapshot") && path != keep {
            files.remove(&path).map_err(|e| io("cannot remove", &path, e))?;
        }
    }
    Ok(())
}

fn read_offset(files: &dyn Files, dir: &Path, name: &str) -> Result<Offset, LogError> {
    let path = dir.join(name);
    match files.read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            text.trim().parse().map_err(|_| LogError::Corrupt {
                place: path.display().to_string(),
                problem: format!("`{}` is no offset", text.trim()),
            })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
        Err(e) => Err(io("cannot read", &path, e)),
    }
}

/// Where the log starts; 0 until that was moved.
pub(crate) fn read_start(files: &dyn Files, dir: &Path) -> Result<Offset, LogError> {
    read_offset(files, dir, START)
}

/// Up to where the partition was compacted.
pub(crate) fn read_cleaned(files: &dyn Files, dir: &Path) -> Result<Offset, LogError> {
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

fn write_offset(files: &dyn Files, dir: &Path, name: &str, offset: Offset) -> Result<(), LogError> {
    let path = dir.join(name);
    files.replace(&path, offset.to_string().as_bytes()).map_err(|e| io("cannot write", &path, e))
}
