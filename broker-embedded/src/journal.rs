//! The journal of durability `disk`: every appended batch once more, in one file that is synced for many commits at once.
//!
//! ```text
//! append ─► waiting entries ──sync──► journal-N.log ─► acknowledged       (segments reach the disk at checkpoints)
//! ```
//!
//! An entry is `length u32, crc32c u32, topic id u64, partition u32, batch`, big-endian; the checksum covers what
//! follows it. Entries are in the order of the appends, so what is synced is a prefix of what happened in the directory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::{Files, LogError, OpenFile, OpenMode, Wakeup};

use crate::data_dir::io;

/// Bytes of entries that may wait for the disk before writers are asked to pause.
const MOST_WAITING: usize = 64 << 20;
/// A disk that is full is tried again after this.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// The journal of one data directory.
pub(crate) struct Journal {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// What waits to be written. Locked for moments only, also within a partition's lock.
    waiting: Mutex<Waiting>,
    /// Wakes whoever writes the waiting entries.
    work: Condvar,
    /// Wakes whoever waits for a position.
    synced: Condvar,
    /// The file. Locked while it is written and synced; before `waiting`, never after it.
    file: Mutex<Open>,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<u8>,
    /// Bytes of all entries ever added.
    end: u64,
    /// How many of them are on the disk.
    synced: u64,
    wakeups: Vec<(u64, Weak<Wakeup>)>,
    /// Somebody waits for a sync.
    asked: bool,
    closing: bool,
    /// Nothing is acknowledged any more.
    failed: Option<LogError>,
}

struct Open {
    number: u64,
    file: Arc<dyn OpenFile>,
    len: u64,
}

/// An entry that was read.
pub(crate) struct Entry {
    pub(crate) topic: u64,
    pub(crate) partition: i32,
    pub(crate) batch: Bytes,
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number:020}.log"))
}

fn numbers(files: &dyn Files, dir: &Path) -> Result<Vec<u64>, LogError> {
    let names = files.list(dir).map_err(|e| io("cannot list", dir, e))?;
    Ok(names.iter().filter_map(|n| n.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok()).collect())
}

fn create(files: &dyn Files, dir: &Path, number: u64) -> Result<Open, LogError> {
    let path = path(dir, number);
    let file = files.open(&path, OpenMode::Create).map_err(|e| io("cannot create", &path, e))?;
    file.sync().and_then(|()| files.sync_dir(dir)).map_err(|e| io("cannot sync", &path, e))?;
    Ok(Open { number, file, len: 0 })
}

impl Journal {
    /// Starts an empty journal behind those that are there.
    pub(crate) fn create(files: Arc<dyn Files>, dir: &Path) -> Result<Self, LogError> {
        let number = numbers(&*files, dir)?.last().map_or(1, |last| last + 1);
        let file = create(&*files, dir, number)?;
        Ok(Journal {
            files,
            dir: dir.to_owned(),
            waiting: Mutex::default(),
            work: Condvar::new(),
            synced: Condvar::new(),
            file: Mutex::new(file),
        })
    }

    /// Reads the journals from number `first` on, oldest entry first. The end may be torn: that was
    /// never acknowledged.
    pub(crate) fn read(
        files: &dyn Files,
        dir: &Path,
        first: u64,
        mut seen: impl FnMut(Entry) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut torn: Option<String> = None;
        for number in numbers(files, dir)?.into_iter().filter(|n| *n >= first) {
            let path = path(dir, number);
            let mut rest = Bytes::from(files.read(&path).map_err(|e| io("cannot read", &path, e))?);
            while let Some(entry) = decode(&mut rest) {
                if let Some(place) = torn {
                    return Err(LogError::Corrupt {
                        place,
                        problem: "the bytes at its end are no entries, and a later journal has some".into(),
                    });
                }
                seen(entry)?;
            }
            if !rest.is_empty() {
                torn = Some(path.display().to_string());
            }
        }
        Ok(())
    }

    /// Removes the journals below a number.
    pub(crate) fn remove_below(files: &dyn Files, dir: &Path, number: u64) -> Result<(), LogError> {
        numbers(files, dir)?.into_iter().filter(|n| *n < number).try_for_each(|n| {
            let path = path(dir, n);
            files.remove(&path).map_err(|e| io("cannot remove", &path, e))
        })
    }

    /// Adds an entry. To be called in the order of the offsets of its partition.
    pub(crate) fn add(&self, topic: u64, partition: i32, batch: &[u8]) {
        let mut waiting = self.waiting();
        let entries = &mut waiting.entries;
        let start = entries.len();
        entries.extend((12 + batch.len() as u32).to_be_bytes());
        entries.extend([0; 4]);
        entries.extend(topic.to_be_bytes());
        entries.extend((partition as u32).to_be_bytes());
        entries.extend(batch);
        let crc = crc32c::crc32c(&entries[start + 8..]);
        entries[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
        let added = (entries.len() - start) as u64;
        waiting.end += added;
        if waiting.entries.len() > MOST_WAITING / 8 {
            self.work.notify_one();
        }
    }

    /// Behind the last entry that was added.
    pub(crate) fn end(&self) -> u64 {
        self.waiting().end
    }

    /// Asks for everything up to `position` to be synced; `wakeup` is woken when it is.
    pub(crate) fn ask(&self, position: u64, wakeup: &Arc<Wakeup>) {
        let mut waiting = self.waiting();
        if waiting.synced >= position {
            return wakeup.wake();
        }
        waiting.wakeups.push((position, Arc::downgrade(wakeup)));
        waiting.asked = true;
        self.work.notify_one();
    }

    /// Whether everything up to `position` is on the disk.
    pub(crate) fn has_synced(&self, position: u64) -> Result<bool, LogError> {
        let waiting = self.waiting();
        match &waiting.failed {
            _ if waiting.synced >= position => Ok(true),
            Some(error) => Err(error.clone()),
            None => Ok(false),
        }
    }

    /// Waits until everything up to `position` is on the disk.
    pub(crate) fn wait(&self, position: u64) -> Result<(), LogError> {
        #[cfg(feature = "plant")]
        if millstream_core::Plant::AckEarly.is_set() {
            return Ok(());
        }
        let mut waiting = self.waiting();
        while waiting.synced < position {
            if let Some(error) = &waiting.failed {
                return Err(error.clone());
            }
            waiting.asked = true;
            self.work.notify_one();
            waiting = self.synced.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// `false` while too much waits for the disk.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting().entries.len() < MOST_WAITING
    }

    /// Why nothing is acknowledged any more.
    pub(crate) fn failure(&self) -> Option<LogError> {
        self.waiting().failed.clone()
    }

    /// Acknowledges nothing any more.
    pub(crate) fn give_up(&self, error: LogError) {
        self.waiting().failed.get_or_insert(error);
        self.wake();
    }

    /// Writes and syncs what waits.
    ///
    /// A full disk is an error after which it can be tried again; after any other error nothing is acknowledged any more:
    /// once a sync has failed, nobody can say what is on the disk.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let mut open = self.file();
        self.sync_open(&mut open)
    }

    fn sync_open(&self, open: &mut Open) -> Result<(), LogError> {
        let entries = {
            let mut waiting = self.waiting();
            if let Some(error) = &waiting.failed {
                return Err(error.clone());
            }
            waiting.asked = false;
            std::mem::take(&mut waiting.entries)
        };
        if entries.is_empty() {
            return Ok(());
        }
        let path = path(&self.dir, open.number);
        let written = open.file.write_all_at(&entries, open.len).map_err(|e| io("cannot write", &path, e));
        if let Err(error) = written {
            let mut waiting = self.waiting();
            let newer = std::mem::replace(&mut waiting.entries, entries);
            waiting.entries.extend(newer);
            waiting.asked = true;
            if !matches!(error, LogError::Full { .. }) {
                waiting.failed.get_or_insert(error.clone());
                drop(waiting);
                self.wake();
            }
            return Err(error);
        }
        if let Err(e) = open.file.sync() {
            let error = io("cannot sync", &path, e);
            self.give_up(error.clone());
            return Err(error);
        }
        open.len += entries.len() as u64;
        self.waiting().synced += entries.len() as u64;
        self.wake();
        Ok(())
    }

    /// Goes on in a new file, and returns its number: all earlier entries are on the disk then.
    pub(crate) fn rotate(&self) -> Result<u64, LogError> {
        let mut open = self.file();
        self.sync_open(&mut open)?;
        *open = create(&*self.files, &self.dir, open.number + 1)?;
        Ok(open.number)
    }

    /// Lets [`Journal::work`] end.
    pub(crate) fn close(&self) {
        self.waiting().closing = true;
        self.work.notify_all();
    }

    /// Syncs whenever it is asked for, until the journal is closed or has failed.
    pub(crate) fn work(&self) {
        loop {
            {
                let mut waiting = self.waiting();
                while !waiting.closing && !waiting.asked && waiting.entries.len() <= MOST_WAITING / 8 {
                    waiting = self.work.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
                if waiting.closing || waiting.failed.is_some() {
                    return;
                }
            }
            if let Err(LogError::Full { .. }) = self.sync() {
                std::thread::sleep(TRY_AGAIN);
            }
        }
    }

    /// Wakes those whose position is reached, or all after a failure.
    fn wake(&self) {
        let mut waiting = self.waiting();
        let (synced, failed) = (waiting.synced, waiting.failed.is_some());
        waiting.wakeups.retain(|(position, wakeup)| {
            let over = *position <= synced || failed;
            if over && let Some(wakeup) = wakeup.upgrade() {
                wakeup.wake();
            }
            !over
        });
        self.synced.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, Open> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the first entry; `None` if there is no whole and sound one.
fn decode(rest: &mut Bytes) -> Option<Entry> {
    let number = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let (len, crc) = (number(0)? as usize, number(4)?);
    let body = rest.get(8..8 + len).filter(|body| len >= 12 && crc32c::crc32c(body) == crc)?;
    let topic = u64::from_be_bytes(body[..8].try_into().ok()?);
    let partition = u32::from_be_bytes(body[8..12].try_into().ok()?) as i32;
    let batch = rest.slice(20..8 + len);
    *rest = rest.slice(8 + len..);
    Some(Entry { topic, partition, batch })
}
