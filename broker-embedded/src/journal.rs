//! The journal of durability `disk`: every appended batch once more, in one file that is synced for many commits at once.
//!
//! ```text
//! append ─► waiting entries ──sync──► journal-N.log ─► acknowledged       (segments reach the disk at checkpoints)
//! ```
//!
//! A journal begins with a mark: its number, and how many bytes of the one before it were synced. An entry is `length u32,
//! crc32c u32, topic id u64, partition u32, batch`, big-endian; the checksum covers what follows it. Entries are in the order of
//! the appends, so what is synced is a prefix of what happened in the directory.
//!
//! Beside the journals another mark says how far the newest one was synced. It is written when that is so, and not synced itself:
//! after the end of the process it tells an entry that is damaged from one that was never acknowledged, and after a power cut it
//! may be older, and then asks for less.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::{Files, LogError, OpenFile, OpenMode, Wakeup};

use crate::checkpoint::Checkpoint;
use crate::data_dir::{io, sync_failed};
use crate::torn::{self, Pieces};

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
    /// The disk was full when this was last tried.
    full: Option<LogError>,
    /// Nothing is acknowledged any more.
    failed: Option<LogError>,
}

/// The newest journal.
struct Open {
    number: u64,
    /// It, and the file that says how far it was synced; `None` until there is one.
    files: Option<(Arc<dyn OpenFile>, Arc<dyn OpenFile>)>,
    len: u64,
}

const MAGIC: [u8; 8] = *b"mjournl2";
const MARK_LEN: usize = 28;
/// The file that says how far the newest journal was synced.
const SYNCED: &str = "journal-synced";

/// A magic with the format's version, a journal's number, a number of bytes, and a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    number: u64,
    bytes: u64,
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

impl Journal {
    /// The journal behind those that are there. Its file is created with the first checkpoint.
    pub(crate) fn new(files: Arc<dyn Files>, dir: &Path) -> Result<Self, LogError> {
        let number = numbers(&*files, dir)?.last().copied().unwrap_or(0);
        Ok(Journal {
            files,
            dir: dir.to_owned(),
            waiting: Mutex::default(),
            work: Condvar::new(),
            synced: Condvar::new(),
            file: Mutex::new(Open { number, files: None, len: 0 }),
        })
    }

    /// Reads the journals that a checkpoint asks for, oldest entry first. The end may be torn: that was never acknowledged.
    pub(crate) fn read(
        files: &dyn Files,
        dir: &Path,
        checkpoint: &Checkpoint,
        mut seen: impl FnMut(Entry) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let Some(first) = checkpoint.journal else { return Ok(()) };
        let synced = Mark::of(files.read(&dir.join(SYNCED)).ok().as_deref()).filter(|mark| mark.number >= first);
        let there: Vec<u64> = numbers(files, dir)?.into_iter().filter(|n| *n >= first).collect();
        // Who made them may have ended before their names were synced. Another one is made soon, and a power cut must not take one
        // of these and leave that.
        files.sync_dir(dir).map_err(|e| sync_failed(dir, e))?;
        let last = synced.map_or(first, |mark| mark.number).max(there.last().copied().unwrap_or(first));
        // How long the one before was, and whether its end is torn.
        let (mut before, mut torn) = (0, None);
        for number in first..=last {
            let path = path(dir, number);
            let damaged = |at: usize, problem: String| LogError::Corrupt {
                place: format!("{} at byte {at}", path.display()),
                problem,
            };
            if !there.contains(&number) {
                return Err(damaged(0, "it is not there, and entries were synced in it or behind it".into()));
            }
            let bytes = Bytes::from(files.read(&path).map_err(|e| io("cannot read", &path, e))?);
            let mut at = MARK_LEN;
            match Mark::of(bytes.get(..MARK_LEN)) {
                Some(head) if head.number == number && (number == first || head.bytes <= before as u64) => {}
                Some(head) if head.number == number => {
                    let problem =
                        format!("{} bytes were synced in the journal before it, and {before} are sound", head.bytes);
                    return Err(damaged(0, problem));
                }
                Some(head) => return Err(damaged(0, format!("it is journal {}", head.number))),
                // The first format had no head.
                None if !checkpoint.heads && !bytes.starts_with(&MAGIC) => at = 0,
                // Its creation did not end: nothing was written to it. The next one says so.
                None if number > first && bytes.len() <= MARK_LEN => at = bytes.len(),
                None => return Err(damaged(0, "it does not begin as a journal".into())),
            }
            while let Some((entry, len)) = decode(&bytes, at) {
                if let Some(place) = torn {
                    return Err(LogError::Corrupt {
                        place,
                        problem: "the bytes at its end are no entries, and a later journal has some".into(),
                    });
                }
                seen(entry)?;
                at += len;
            }
            if synced.is_some_and(|mark| mark.number == number && mark.bytes > at as u64) {
                let synced = synced.map_or(0, |mark| mark.bytes);
                return Err(damaged(at, format!("there is no sound entry, and it was synced up to byte {synced}")));
            }
            if at < bytes.len() {
                if !torn::is_torn(&bytes[at..], at as u64, &ENTRIES) {
                    return Err(damaged(at, "an entry was written in whole, and its checksum is another".into()));
                }
                torn = Some(path.display().to_string());
            }
            before = at;
        }
        Ok(())
    }

    /// Whether there are entries in any journal.
    pub(crate) fn has_entries(files: &dyn Files, dir: &Path) -> Result<bool, LogError> {
        for number in numbers(files, dir)? {
            let path = path(dir, number);
            let len = files.open(&path, OpenMode::Existing).and_then(|file| file.len());
            if len.map_err(|e| io("cannot look at", &path, e))? > MARK_LEN as u64 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes all journals.
    pub(crate) fn remove(files: &dyn Files, dir: &Path) -> Result<(), LogError> {
        let _may_be_missing = files.remove(&dir.join(SYNCED));
        Self::remove_below(files, dir, u64::MAX)
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
    ///
    /// # Errors
    /// [`LogError::Full`] while there is no space, which may come: it is tried again. After any other it will never be.
    pub(crate) fn wait(&self, position: u64) -> Result<(), LogError> {
        #[cfg(feature = "plant")]
        if millstream_core::Plant::AckEarly.is_set() {
            return Ok(());
        }
        let mut waiting = self.waiting();
        while waiting.synced < position {
            if let Some(error) = waiting.failed.as_ref().or(waiting.full.as_ref()) {
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
        // Nothing is appended before the first checkpoint has created it.
        let Some((file, mark)) = open.files.clone() else { return Ok(()) };
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
        let written = file.write_all_at(&entries, open.len).map_err(|e| io("cannot write", &path, e));
        if let Err(error) = written {
            let mut waiting = self.waiting();
            let newer = std::mem::replace(&mut waiting.entries, entries);
            waiting.entries.extend(newer);
            waiting.asked = true;
            let Waiting { full, failed, .. } = &mut *waiting;
            let place = if matches!(error, LogError::Full { .. }) { full } else { failed };
            place.get_or_insert(error.clone());
            drop(waiting);
            self.work.notify_one();
            self.wake();
            return Err(error);
        }
        if let Err(e) = file.sync() {
            let error = sync_failed(&path, e);
            self.give_up(error.clone());
            return Err(error);
        }
        open.len += entries.len() as u64;
        // Before anybody hears of it.
        let _says_less = mark.write_all_at(&Mark { number: open.number, bytes: open.len }.bytes(), 0);
        let mut waiting = self.waiting();
        waiting.synced += entries.len() as u64;
        waiting.full = None;
        drop(waiting);
        self.wake();
        Ok(())
    }

    /// Goes on in a new file, and returns its number: all earlier entries are on the disk then.
    pub(crate) fn rotate(&self) -> Result<u64, LogError> {
        let mut open = self.file();
        self.sync_open(&mut open)?;
        self.create_next(&mut open)?;
        Ok(open.number)
    }

    /// Goes on in a new file. After a sync that failed nobody can say what is on the disk.
    fn create_next(&self, open: &mut Open) -> Result<(), LogError> {
        let (files, dir, number) = (&*self.files, &*self.dir, open.number + 1);
        let create = |path: &Path, mark: Mark| {
            let file = files.open(path, OpenMode::Create).map_err(|e| io("cannot create", path, e))?;
            file.write_all_at(&mark.bytes(), 0).map_err(|e| io("cannot write", path, e))?;
            let synced = file.sync().and_then(|()| files.sync_dir(dir)).map_err(|e| sync_failed(path, e));
            synced.inspect_err(|error| self.give_up(error.clone()))?;
            Ok::<_, LogError>(file)
        };
        let file = create(&path(dir, number), Mark { number, bytes: open.len })?;
        let mark = match open.files.take() {
            Some((_, mark)) => mark,
            // One of an earlier journal of this number must not come back.
            None => create(&dir.join(SYNCED), Mark { number, bytes: MARK_LEN as u64 })?,
        };
        *open = Open { number, files: Some((file, mark)), len: MARK_LEN as u64 };
        Ok(())
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

    /// Wakes those whose position is reached, or all after a failure; and whoever waits here, to look again.
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

/// The entry at a place, and its length; `None` if there is no whole and sound one.
fn decode(bytes: &Bytes, at: usize) -> Option<(Entry, usize)> {
    let rest = bytes.get(at..)?;
    if !is_sound(rest) {
        return None;
    }
    let topic = u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?);
    let partition = u32::from_be_bytes(rest.get(16..20)?.try_into().ok()?) as i32;
    let len = declared(rest)? as usize;
    Some((Entry { topic, partition, batch: bytes.slice(at + 20..at + len) }, len))
}

/// How the end of a journal is looked at.
const ENTRIES: Pieces = Pieces {
    declared: |bytes| declared(bytes).or(Some(u64::MAX)),
    // Cheap where no entry begins: it says its length twice.
    is_sound: |bytes| {
        let batch = bytes.get(28..32).map(|len| u32::from_be_bytes([len[0], len[1], len[2], len[3]]));
        batch.is_some_and(|batch| declared(bytes) == Some(u64::from(batch) + 32)) && is_sound(bytes)
    },
    is_one: |bytes| bytes.get(4..8).is_some_and(|crc| crc32c::crc32c(&bytes[8..]).to_be_bytes() == *crc),
};

/// How long the entry is that these bytes begin with, as it says.
fn declared(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|len| u64::from(u32::from_be_bytes(*len)) + 8)
}

fn is_sound(bytes: &[u8]) -> bool {
    let entry = declared(bytes).filter(|len| *len >= 20).and_then(|len| bytes.get(..len as usize));
    entry.is_some_and(|entry| crc32c::crc32c(&entry[8..]).to_be_bytes() == entry[4..8])
}

impl Mark {
    fn bytes(self) -> [u8; MARK_LEN] {
        let mut bytes = [0; MARK_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// What these bytes say, if they are a whole and sound mark.
    fn of(bytes: Option<&[u8]>) -> Option<Self> {
        let bytes: [u8; MARK_LEN] = bytes?.try_into().ok()?;
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mark = Mark { number: number(8)?, bytes: number(16)? };
        (mark.bytes() == bytes).then_some(mark)
    }
}
