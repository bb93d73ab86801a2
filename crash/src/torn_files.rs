//! Files whose n-th write stops in the middle: part of it is in the file, the writer waits to be killed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::{Files, LockError, OpenFile, OpenMode, OsFiles, Timestamp};

/// The operating system's files up to a write.
#[derive(Debug)]
pub(crate) struct TornFiles {
    stop: Arc<Stop>,
}

#[derive(Debug)]
struct Stop {
    /// Writes and renames before the one that stops.
    left: AtomicU64,
    /// How much of it is written.
    percent: u64,
    /// Says that it has stopped.
    tell: fn(&Path),
}

impl Stop {
    fn is_here(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Waits for the end.
    fn forever(&self, path: &Path) -> ! {
        (self.tell)(path);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

impl TornFiles {
    /// Stops at the `number`-th write, from 1 on, after so many percent of it; `tell` is called with the file then.
    pub(crate) fn new(number: u64, percent: u64, tell: fn(&Path)) -> Self {
        TornFiles { stop: Arc::new(Stop { left: AtomicU64::new(number), percent, tell }) }
    }
}

impl Files for TornFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>> {
        let file = OsFiles.open(path, mode)?;
        Ok(Arc::new(TornFile { file, path: path.to_owned(), stop: self.stop.clone() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsFiles.read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path, OpenMode::Create)?.write_all_at(bytes, 0)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.stop.is_here() {
            if self.stop.percent >= 50 {
                OsFiles.rename(from, to)?;
            }
            self.stop.forever(to);
        }
        OsFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFiles.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsFiles.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        OsFiles.create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        OsFiles.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsFiles.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        OsFiles.lock(path)
    }
}

#[derive(Debug)]
struct TornFile {
    file: Arc<dyn OpenFile>,
    path: PathBuf,
    stop: Arc<Stop>,
}

impl OpenFile for TornFile {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.stop.is_here() {
            let part = bytes.len() * self.stop.percent as usize / 100;
            self.file.write_all_at(&bytes[..part], at)?;
            self.stop.forever(&self.path);
        }
        self.file.write_all_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn modified(&self) -> io::Result<Timestamp> {
        self.file.modified()
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        self.file.set_modified(time)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
