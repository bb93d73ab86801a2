//! The data directory: locked by one process, marked with a format version, and with how it was left.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::LogError;

const MAGIC: &str = "millstream-log";
const VERSION: u32 = 1;
const META: &str = "meta.properties";
const LOCK: &str = ".lock";
const CLEAN: &str = ".clean-shutdown";

/// A locked data directory. Dropped, the lock goes with the process's file handle.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    _lock: File,
    /// Whether the last process left it in order.
    pub(crate) clean: bool,
}

/// An error of the operating system, with what was being done.
pub(crate) fn io(doing: &str, path: &Path, source: std::io::Error) -> LogError {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            LogError::Full { place: path.display().to_string() }
        }
        _ => LogError::Io { doing: format!("{doing} {}", path.display()), source: Arc::new(source) },
    }
}

impl DataDir {
    /// Creates it if it is missing, locks it, checks its format, and takes the mark of a clean end away.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        fs::create_dir_all(path).map_err(|e| io("cannot create the data directory", path, e))?;
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|e| io("cannot write in the data directory, opening", &lock_path, e))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _unknown = lock.read_to_string(&mut owner);
                let owner = if owner.trim().is_empty() { String::new() } else { format!(" by pid {}", owner.trim()) };
                return Err(LogError::Other {
                    message: format!(
                        "data directory {} is in use{owner}\n  help: stop that process, or give this one another data directory",
                        path.display()
                    ),
                    retriable: false,
                });
            }
            Err(TryLockError::Error(e)) => return Err(io("cannot lock", &lock_path, e)),
        }
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(|e| io("cannot write", &lock_path, e))?;
        check_format(path)?;
        let mark = path.join(CLEAN);
        let clean = mark.exists();
        if clean {
            fs::remove_file(&mark).map_err(|e| io("cannot remove", &mark, e))?;
        }
        Ok(DataDir { path: path.to_owned(), _lock: lock, clean })
    }

    /// Marks that everything was written before the process ended.
    pub(crate) fn mark_clean(&self) -> Result<(), LogError> {
        let mark = self.path.join(CLEAN);
        fs::write(&mark, b"").map_err(|e| io("cannot write", &mark, e))
    }
}

/// A process that was killed a moment ago lets go of its files a moment later.
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(50)),
            answer => return answer,
        }
    }
    lock.try_lock()
}

fn check_format(path: &Path) -> Result<(), LogError> {
    let meta = path.join(META);
    match fs::read_to_string(&meta) {
        Ok(text) => {
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
            Err(LogError::Corrupt { place: path.display().to_string(), problem })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::write(&meta, format!("magic={MAGIC}\nversion={VERSION}\n")).map_err(|e| io("cannot write", &meta, e))
        }
        Err(e) => Err(io("cannot read", &meta, e)),
    }
}
