//! The files of a simulated process, that tell the trace of every call which changes something.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::{Files, LockError, OpenFile, OpenMode, SimFiles, Timestamp};

use super::trace::{Trace, sum_of};

/// The disk as one process sees it. What a dead process does on its way out is not told.
#[derive(Debug, Clone)]
pub(super) struct TracedFiles {
    disk: SimFiles,
    trace: Trace,
    alive: Arc<AtomicBool>,
}

impl TracedFiles {
    pub(super) fn new(disk: SimFiles, trace: Trace) -> Self {
        TracedFiles { disk, trace, alive: Arc::new(AtomicBool::new(true)) }
    }

    /// The process is dead.
    pub(super) fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        if self.alive.load(Ordering::Relaxed) {
            self.trace.say(what);
        }
    }
}

#[derive(Debug)]
struct TracedFile {
    name: String,
    file: Arc<dyn OpenFile>,
    files: TracedFiles,
}

/// How a call went.
fn went<T>(result: &io::Result<T>) -> String {
    result.as_ref().err().map_or("".into(), |e| format!(" failed: {:?}", e.kind()))
}

impl OpenFile for TracedFile {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let result = self.file.write_all_at(bytes, at);
        let sum = sum_of(bytes, 0);
        self.files.say(format_args!("write {} {at}+{} {sum:016x}{}", self.name, bytes.len(), went(&result)));
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.file.set_len(len);
        self.files.say(format_args!("cut {} {len}{}", self.name, went(&result)));
        result
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn modified(&self) -> io::Result<Timestamp> {
        self.file.modified()
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        self.files.say(format_args!("date {} {time}", self.name));
        self.file.set_modified(time)
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.file.sync();
        self.files.say(format_args!("sync {}{}", self.name, went(&result)));
        result
    }
}

impl Files for TracedFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>> {
        let file = self.disk.open(path, mode);
        if mode == OpenMode::Create {
            self.say(format_args!("create {}{}", path.display(), went(&file)));
        }
        Ok(Arc::new(TracedFile { name: path.display().to_string(), file: file?, files: self.clone() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path, OpenMode::Create)?.write_all_at(bytes, 0)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let result = self.disk.rename(from, to);
        self.say(format_args!("rename {} {}{}", from.display(), to.display(), went(&result)));
        result
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let result = self.disk.remove(path);
        self.say(format_args!("remove {}{}", path.display(), went(&result)));
        result
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let result = self.disk.remove_dir(dir);
        self.say(format_args!("remove {}{}", dir.display(), went(&result)));
        result
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let result = self.disk.sync_dir(dir);
        self.say(format_args!("sync {}{}", dir.display(), went(&result)));
        result
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        self.disk.lock(path)
    }
}
