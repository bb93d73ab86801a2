//! The port to files: the operating system's, or a test's that fails and forgets as a disk does.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::time::Timestamp;

/// Files and folders. What was written is kept over a power cut only after [`OpenFile::sync`]; that a file is there (or
/// has a new name) only after [`Files::sync_dir`] of its folder.
pub trait Files: Send + Sync + fmt::Debug {
    /// Opens a file for reading and writing: an empty new one, or one that is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>>;

    /// All of a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Writes a whole file, not synced: for what can be found again without it.
    ///
    /// # Errors
    /// What the operating system says; the file may then hold a part.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Moves a file over another.
    ///
    /// # Errors
    /// What the operating system says; nothing is moved then.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Names of what is in a folder, sorted.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a folder and those above it; one that is there is left alone.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the entries of a folder outlive a power cut.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes a file's lock for this process, until the guard is dropped. The file holds the owner's process id.
    ///
    /// # Errors
    /// [`LockError::Taken`] with the owner, or what the operating system says.
    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError>;

    /// Replaces a file as a whole, and for good: a reader finds the old bytes or the new, also after a power cut.
    ///
    /// # Errors
    /// What the operating system says; the old bytes then stand.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let file = self.open(&new, OpenMode::Create)?;
        let written = file.write_all_at(bytes, 0).and_then(|()| file.sync()).and_then(|()| self.rename(&new, path));
        if let Err(error) = written {
            // A file whose sync has failed is not used again: the next one could say yes to what is lost.
            let _another_next_time = self.remove(&new);
            return Err(error);
        }
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Empty, whatever was there.
    Create,
    /// As it is; it must be there.
    Existing,
}

/// An open file. Several threads may use it at once.
pub trait OpenFile: Send + Sync + fmt::Debug {
    /// Fills the buffer from a position on.
    ///
    /// # Errors
    /// Also when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes at a position.
    ///
    /// # Errors
    /// A part may have been written then.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// When it was last written, by the clock of the files.
    ///
    /// # Errors
    /// What the operating system says.
    fn modified(&self) -> io::Result<Timestamp>;

    /// Says so of another time.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_modified(&self, time: Timestamp) -> io::Result<()>;

    /// Waits until what was written is on the disk. After an error nothing is known of any unsynced write, and a second
    /// call must not be believed.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync(&self) -> io::Result<()>;

    /// Whether it holds nothing.
    ///
    /// # Errors
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Why a lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it: what its lock file says.
    Taken(String),
    /// The file cannot be used.
    Io(io::Error),
}

/// The operating system's files.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsFiles;

impl Files for OsFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>> {
        let new = mode == OpenMode::Create;
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create(new).truncate(new).open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(LockError::Io)?;
        match lock_soon(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Taken(fs::read_to_string(path).unwrap_or_default()));
            }
            Err(TryLockError::Error(e)) => return Err(LockError::Io(e)),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(LockError::Io)?;
        Ok(Box::new(file))
    }
}

/// A process that was killed a moment ago lets go of its files a moment later.
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            answer => return answer,
        }
    }
    lock.try_lock()
}

impl OpenFile for File {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn modified(&self) -> io::Result<Timestamp> {
        let since = self.metadata()?.modified()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(since.as_millis() as Timestamp)
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        File::set_modified(self, UNIX_EPOCH + Duration::from_millis(time.max(0) as u64))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
