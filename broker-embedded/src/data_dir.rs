//! The data directory: locked by one process and marked with a format version.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Files, LockError, LogError};

const MAGIC: &str = "millstream-log";
const VERSION: u32 = 1;
const META: &str = "meta.properties";
const LOCK: &str = ".lock";

/// A locked data directory. Dropped, the lock goes with it.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    _lock: Box<dyn Send + Sync>,
}

/// An error of the operating system, with what was being done.
pub(crate) fn io(doing: &str, path: &Path, source: std::io::Error) -> LogError {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => LogError::Full { place: path.display().to_string() },
        _ => LogError::Io { doing: format!("{doing} {}", path.display()), source: Arc::new(source) },
    }
}

/// A sync that failed. Nobody can say what is on the disk, for want of space neither: what runs does not go on by itself, as behind
/// [`LogError::Full`].
pub(crate) fn sync_failed(path: &Path, source: std::io::Error) -> LogError {
    LogError::Io { doing: format!("cannot sync {}", path.display()), source: Arc::new(source) }
}

impl DataDir {
    /// Creates it if it is missing, locks it and checks its format.
    pub(crate) fn open(files: &dyn Files, path: &Path) -> Result<Self, LogError> {
        files.create_dir(path).map_err(|e| match io("cannot create the data directory", path, e) {
            LogError::Io { doing, source } => LogError::Other {
                message: format!("{doing}: {source}\n  help: name a folder that can be written with data.dir"),
                retriable: false,
            },
            other => other,
        })?;
        let lock_path = path.join(LOCK);
        let lock = match files.lock(&lock_path) {
            Ok(lock) => lock,
            Err(LockError::Taken(owner)) => {
                let owner = if owner.trim().is_empty() { String::new() } else { format!(" by pid {}", owner.trim()) };
                return Err(LogError::Other {
                    message: format!(
                        "data directory {} is in use{owner}\n  help: stop that process, or give this one another data directory",
                        path.display()
                    ),
                    retriable: false,
                });
            }
            Err(LockError::Io(e)) => return Err(io("cannot write in the data directory, opening", &lock_path, e)),
        };
        check_format(files, path)?;
        Ok(DataDir { path: path.to_owned(), _lock: lock })
    }
}

fn check_format(files: &dyn Files, path: &Path) -> Result<(), LogError> {
    let meta = path.join(META);
    match files.read(&meta) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            let problem = match (value("magic"), value("version").and_then(|v| v.parse::<u32>().ok())) {
                (Some(MAGIC), Some(VERSION)) => return Ok(()),
                (Some(MAGIC), Some(newer)) if newer > VERSION => {
                    format!(
                        "it has format {newer}, this program knows formats up to {VERSION}\n  help: use the newer program that wrote it"
                    )
                }
                _ => "its meta.properties is not ours\n  help: give another data directory".to_owned(),
            };
            Err(LogError::Other { message: format!("data directory {}: {problem}", path.display()), retriable: false })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => files
            .replace(&meta, format!("magic={MAGIC}\nversion={VERSION}\n").as_bytes())
            .map_err(|e| io("cannot write", &meta, e)),
        Err(e) => Err(io("cannot read", &meta, e)),
    }
}
