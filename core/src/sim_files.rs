//! Files in memory that fail when told to, and lose at a power cut what a disk may lose.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::{Files, LockError, OpenFile, OpenMode};
use crate::time::Timestamp;

/// A simulated disk. Clones share it.
///
/// Writes that were not synced are kept, lost or torn by [`SimFiles::power_cut`], each as a seed decides; so are entries
/// of folders that were not synced.
#[derive(Debug, Clone, Default)]
pub struct SimFiles(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// What a program sees.
    names: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
    /// What a power cut leaves for certain.
    durable_names: BTreeMap<PathBuf, Inode>,
    locked: BTreeSet<PathBuf>,
    /// Calls that change something, so far.
    calls: u64,
    faults: Vec<Fault>,
    /// What its clock shows.
    time: Timestamp,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    modified: Timestamp,
    synced: Vec<u8>,
    /// Changes since the last sync.
    unsynced: Vec<Change>,
    /// A sync has failed: what it was to keep is gone for good, whatever later syncs say.
    lost: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Len(usize),
}

/// What goes wrong, and when.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only calls of this kind.
    pub call: Call,
    /// Counted from now, which of them; 0 is the next one.
    pub skip: u64,
    /// How many fail, from that one on.
    pub times: u64,
    /// The error: [`ErrorKind::StorageFull`] for a full disk, [`ErrorKind::Other`] for a broken one.
    pub kind: ErrorKind,
}

/// Kinds of calls that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Everything that takes space: writing, extending, creating.
    Write,
    /// Syncing files and folders.
    Sync,
    /// Reading.
    Read,
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Change::Len(len) => to.resize(*len, 0),
        }
    }
}

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below.max(1)
    }
}

impl SimFiles {
    /// Makes coming calls fail.
    pub fn fail(&self, fault: Fault) {
        self.disk().faults.push(fault);
    }

    /// Lets every call succeed again.
    pub fn heal(&self) {
        self.disk().faults.clear();
    }

    /// What the clock of the files shows from now on; 0 at first.
    pub fn set_time(&self, time: Timestamp) {
        self.disk().time = time;
    }

    /// How many calls have changed something: for failing at each of them in turn.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// The disk as the next process finds it when this one is killed now: all is there, and what was not synced may still be
    /// lost at a power cut. This one goes on as if nothing had happened.
    pub fn kill(&self) -> SimFiles {
        let disk = self.disk();
        // A file keeps its identity: it may be there under an old name and a new one.
        let copied: RefCell<Vec<(Inode, Inode)>> = RefCell::default();
        let copy = |(path, inode): (&PathBuf, &Inode)| {
            let known = copied.borrow().iter().find(|(of, _)| Arc::ptr_eq(of, inode)).map(|(_, copy)| copy.clone());
            let copy = known.unwrap_or_else(|| {
                let mut content = inode.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // What a failed sync has lost is still read; what is written from now on is synced as ever.
                if std::mem::take(&mut content.lost) {
                    content.unsynced.clear();
                }
                let copy = Arc::new(Mutex::new(content));
                copied.borrow_mut().push((inode.clone(), copy.clone()));
                copy
            });
            (path.clone(), copy)
        };
        let after = Disk {
            names: disk.names.iter().map(copy).collect(),
            dirs: disk.dirs.clone(),
            durable_names: disk.durable_names.iter().map(copy).collect(),
            time: disk.time,
            ..Disk::default()
        };
        SimFiles(Arc::new(Mutex::new(after)))
    }

    /// The disk as it is found after a power cut now. This one goes on as if nothing had happened.
    pub fn power_cut(&self, seed: u64) -> SimFiles {
        let disk = self.disk();
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut after = Disk { dirs: disk.dirs.clone(), time: disk.time, ..Disk::default() };
        let paths: BTreeSet<&PathBuf> = disk.names.keys().chain(disk.durable_names.keys()).collect();
        for path in paths {
            let (now, durable) = (disk.names.get(path), disk.durable_names.get(path));
            let same = now.zip(durable).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
            let survivor = if same || dice.next(2) == 0 { now } else { durable };
            let Some(survivor) = survivor else { continue };
            let content = survivor.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = content.synced.clone();
            for change in &content.unsynced {
                match (dice.next(3), change) {
                    (0, _) => {}
                    (1, Change::Write { at, bytes: written }) => {
                        let torn = written[..dice.next(written.len() as u64 + 1) as usize].to_vec();
                        Change::Write { at: *at, bytes: torn }.apply(&mut bytes);
                    }
                    _ => change.apply(&mut bytes),
                }
            }
            let kept = Content { now: bytes.clone(), modified: content.modified, synced: bytes, ..Content::default() };
            let inode: Inode = Arc::new(Mutex::new(kept));
            after.names.insert(path.clone(), inode.clone());
            after.durable_names.insert(path.clone(), inode);
        }
        SimFiles(Arc::new(Mutex::new(after)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn call(&mut self, call: Call) -> io::Result<()> {
        self.calls += u64::from(call != Call::Read);
        for fault in self.faults.iter_mut().filter(|f| f.call == call) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(fault.kind.into());
            }
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn create(&mut self, path: &Path) -> io::Result<Inode> {
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(ErrorKind::NotFound.into());
        }
        // An existing file keeps its identity and loses its content, as with O_TRUNC.
        let inode = self.names.entry(path.to_owned()).or_default().clone();
        let mut content = inode.lock().unwrap_or_else(PoisonError::into_inner);
        content.now.clear();
        content.modified = self.time;
        content.unsynced.push(Change::Len(0));
        drop(content);
        Ok(inode)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimFiles,
    inode: Inode,
}

impl SimFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.inode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: Change) {
        let time = self.disk.disk().time;
        let mut content = self.content();
        change.apply(&mut content.now);
        content.modified = time;
        content.unsynced.push(change);
    }
}

impl OpenFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.disk.disk().call(Call::Read)?;
        let content = self.content();
        let from = (at as usize).min(content.now.len());
        let bytes = content.now[from..].get(..buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let called = self.disk.disk().call(Call::Write);
        if let Err(error) = called {
            // A part may be there.
            self.change(Change::Write { at: at as usize, bytes: bytes[..bytes.len() / 2].to_vec() });
            return Err(error);
        }
        self.change(Change::Write { at: at as usize, bytes: bytes.to_vec() });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.disk().call(Call::Write)?;
        self.change(Change::Len(len as usize));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content().now.len() as u64)
    }

    fn modified(&self) -> io::Result<Timestamp> {
        Ok(self.content().modified)
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        self.content().modified = time;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let called = self.disk.disk().call(Call::Sync);
        let mut content = self.content();
        if called.is_err() || content.lost {
            // The kernel marks the pages clean: the next sync says yes, and they are not on the disk.
            content.lost = true;
            return called;
        }
        let Content { synced, unsynced, .. } = &mut *content;
        unsynced.drain(..).for_each(|change| change.apply(synced));
        Ok(())
    }
}

impl Files for SimFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>> {
        let mut disk = self.disk();
        let inode = match mode {
            OpenMode::Existing => disk.find(path)?,
            OpenMode::Create => {
                disk.call(Call::Write)?;
                disk.create(path)?
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut disk = self.disk();
        disk.call(Call::Read)?;
        let inode = disk.find(path)?;
        let content = inode.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(content.now.clone())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path, OpenMode::Create)?.write_all_at(bytes, 0)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(Call::Write)?;
        let inode = disk.find(from)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.find(path)?;
        disk.names.remove(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if !disk.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let all = disk.names.keys().chain(&disk.dirs).filter(|path| path.parent() == Some(dir));
        Ok(all.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(Call::Write)?;
        // Folders outlive a power cut at once: what matters is what is in them.
        disk.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.names.retain(|path, _| !path.starts_with(dir));
        disk.durable_names.retain(|path, _| !path.starts_with(dir));
        disk.dirs.retain(|path| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(Call::Sync)?;
        disk.durable_names.retain(|path, _| path.parent() != Some(dir));
        let now: Vec<(PathBuf, Inode)> = disk
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(p, i)| (p.clone(), i.clone()))
            .collect();
        disk.durable_names.extend(now);
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut disk = self.disk();
        if !disk.locked.insert(path.to_owned()) {
            return Err(LockError::Taken("another part of the simulation".into()));
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}

struct SimLock {
    disk: SimFiles,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.disk().locked.remove(&self.path);
    }
}
