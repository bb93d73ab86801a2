//! One segment of a partition: batches in a file, found by offset or by time through sparse indexes in Kafka's layout, that by time with a
//! checksum behind it.
//!
//! The indexes of a segment are in memory. A checkpoint writes them beside it; what was appended since is read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{Files, LogError, Offset, OpenFile, OpenMode, Timestamp};
use millstream_wire::{BatchHeader, HEADER_LEN, RecordBatch};

use crate::data_dir::{io, sync_failed};
use crate::torn::{self, Pieces};

/// An index entry for about so many bytes of batches (`log.index.interval.bytes`).
const INDEX_INTERVAL: u64 = 4096;

/// A segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    path: PathBuf,
    file: Arc<dyn OpenFile>,
    /// Bytes of whole batches.
    pub(crate) size: u64,
    /// Offset relative to the base, and position of the batch.
    offsets: Vec<(u32, u32)>,
    /// Largest time up to a batch, and that batch's relative offset.
    times: Vec<(Timestamp, u32)>,
    since_index: u64,
    /// Relative offset of the last batch.
    last: u32,
    /// Of its records: markers do not count.
    pub(crate) max_timestamp: Timestamp,
    /// It holds what no checkpoint has synced.
    pub(crate) unsynced: bool,
    /// There may be part of a batch behind the last one.
    torn: bool,
    /// When it was seen to have grown last, and how large it was then.
    grown: Option<(Timestamp, u64)>,
}

/// What is asked of a segment that is opened.
pub(crate) struct Opening {
    /// Below this offset a checkpoint has vouched for it: indexes are read instead of batches.
    pub(crate) known: Offset,
    /// From this offset on it is cut off.
    pub(crate) cut: Option<Offset>,
    /// From this offset on, what a write that did not end has left is cut off; before, it is reported.
    pub(crate) repair_from: Option<Offset>,
    /// Batches from this offset on were never compacted: each begins where the one before ends.
    pub(crate) gapless_from: Offset,
    /// Where the log starts: there may be a gap up to there.
    pub(crate) start: Offset,
}

/// The largest time of a batch's records. A marker has none: it is written by the clock, and what is around it may be of any time.
pub(crate) fn newest(header: &BatchHeader) -> Option<Timestamp> {
    (!header.is_control()).then_some(header.max_timestamp)
}

/// What is wrong with the offset of a batch behind which `next` comes, and which ends before `until`.
fn out_of_order(header: &BatchHeader, next: Offset, until: Offset) -> Option<String> {
    let (base, end) = (header.base_offset, header.base_offset.checked_add(i64::from(header.last_offset_delta)));
    if base < next {
        Some(format!("offset {base} follows {next}"))
    } else if end.is_none_or(|end| end >= until) {
        Some(format!("a batch at offset {base} reaches beyond {until}, where the next one begins"))
    } else {
        None
    }
}

fn file_name(base: Offset, suffix: &str) -> String {
    format!("{base:020}.{suffix}")
}

impl Segment {
    /// A new segment for offsets from `base` on.
    pub(crate) fn create(files: &dyn Files, dir: &Path, base: Offset) -> Result<Self, LogError> {
        Self::create_as(files, dir, base, "log")
    }

    /// A new segment whose file has another suffix.
    pub(crate) fn create_as(files: &dyn Files, dir: &Path, base: Offset, suffix: &str) -> Result<Self, LogError> {
        let path = dir.join(file_name(base, suffix));
        let file = files.open(&path, OpenMode::Create).map_err(|e| io("cannot create", &path, e))?;
        Ok(Self::empty(base, path, file))
    }

    /// Gives its file another suffix; a file that has that name is replaced.
    pub(crate) fn rename_to(&mut self, files: &dyn Files, suffix: &str) -> Result<(), LogError> {
        let path = self.path.with_file_name(file_name(self.base, suffix));
        files.rename(&self.path, &path).map_err(|e| io("cannot rename", &self.path, e))?;
        self.path = path;
        Ok(())
    }

    /// Gives the file of a segment that is not open another suffix.
    pub(crate) fn rename(files: &dyn Files, dir: &Path, base: Offset, from: &str, to: &str) -> Result<(), LogError> {
        let path = dir.join(file_name(base, from));
        files.rename(&path, &dir.join(file_name(base, to))).map_err(|e| io("cannot rename", &path, e))
    }

    /// Syncs the batches.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        self.file.sync().map_err(|e| sync_failed(&self.path, e))
    }

    fn empty(base: Offset, path: PathBuf, file: Arc<dyn OpenFile>) -> Self {
        Segment {
            base,
            path,
            file,
            size: 0,
            offsets: Vec::new(),
            times: Vec::new(),
            since_index: INDEX_INTERVAL,
            last: 0,
            max_timestamp: -1,
            unsynced: true,
            torn: false,
            grown: None,
        }
    }

    /// Base offsets of the segments in a folder whose files have a suffix, ascending.
    pub(crate) fn list(files: &dyn Files, dir: &Path, suffix: &str) -> Result<Vec<Offset>, LogError> {
        let names = files.list(dir).map_err(|e| io("cannot list", dir, e))?;
        let base = |name: &String| name.split_once('.').filter(|(n, s)| n.len() == 20 && *s == suffix)?.0.parse().ok();
        Ok(names.iter().filter_map(base).collect())
    }

    /// Removes the file that a segment's batches are in.
    pub(crate) fn remove(files: &dyn Files, dir: &Path, base: Offset, suffix: &str) -> Result<(), LogError> {
        let path = dir.join(file_name(base, suffix));
        files.remove(&path).map_err(|e| io("cannot remove", &path, e))
    }

    /// Whether it has an index.
    pub(crate) fn has_index(files: &dyn Files, dir: &Path, base: Offset) -> bool {
        files.open(&dir.join(file_name(base, "index")), OpenMode::Existing).is_ok()
    }

    /// Removes the indexes of a segment, which are found again, and one that versions before have written.
    pub(crate) fn remove_indexes(files: &dyn Files, dir: &Path, base: Offset) {
        for suffix in ["index", "timeindex", "txnindex"] {
            let _may_be_missing = files.remove(&dir.join(file_name(base, suffix)));
        }
    }

    /// Whether a segment's file has bytes.
    pub(crate) fn has_bytes(files: &dyn Files, dir: &Path, base: Offset, suffix: &str) -> Result<bool, LogError> {
        let path = dir.join(file_name(base, suffix));
        let len = files.open(&path, OpenMode::Existing).and_then(|file| file.len());
        Ok(len.map_err(|e| io("cannot look at", &path, e))? > 0)
    }

    /// The offset behind the last batch of a segment whose file has a suffix, all of which is read.
    pub(crate) fn verify(files: &dyn Files, dir: &Path, base: Offset, suffix: &str) -> Result<Offset, LogError> {
        let path = dir.join(file_name(base, suffix));
        let file = files.open(&path, OpenMode::Existing).map_err(|e| io("cannot open", &path, e))?;
        let len = file.len().map_err(|e| io("cannot look at", &path, e))?;
        let mut segment = Self::empty(base, path, file);
        let mut next = base;
        while segment.size < len {
            let batch = match segment.read_batch(segment.size, len) {
                Ok(batch) => batch,
                Err(Torn::Io(error)) => return Err(error),
                Err(Torn::Bad(problem)) => return Err(segment.damage(problem)),
            };
            segment.check_order(batch.header(), next, Offset::MAX)?;
            segment.size += batch.bytes().len() as u64;
            next = batch.header().next_offset();
        }
        Ok(next)
    }

    /// The offset behind the last batch of a segment whose file has a suffix.
    pub(crate) fn read_end(files: &dyn Files, dir: &Path, base: Offset, suffix: &str) -> Result<Offset, LogError> {
        let path = dir.join(file_name(base, suffix));
        let file = files.open(&path, OpenMode::Existing).map_err(|e| io("cannot open", &path, e))?;
        let len = file.len().map_err(|e| io("cannot look at", &path, e))?;
        let mut segment = Self::empty(base, path, file);
        segment.pass_headers(base, [Offset::MAX; 2], len, false)
    }

    /// Opens a segment: `seen` is told every batch that is read. Returns it with the offset behind its last batch.
    ///
    /// Nothing is changed: what is to be cut off is so by [`Segment::cut_torn_end`].
    pub(crate) fn open(
        files: &dyn Files,
        dir: &Path,
        base: Offset,
        opening: &Opening,
        mut seen: impl FnMut(&RecordBatch),
    ) -> Result<(Self, Offset), LogError> {
        let path = dir.join(file_name(base, "log"));
        let file = files.open(&path, OpenMode::Existing).map_err(|e| io("cannot open", &path, e))?;
        let len = file.len().map_err(|e| io("cannot look at", &path, e))?;
        let mut segment = Self::empty(base, path, file);
        let mut next = segment.skip(files, opening, len)?;
        segment.unsynced |= segment.size < len;
        while segment.size < len {
            let batch = match segment.read_batch(segment.size, len) {
                _ if opening.cut.is_some_and(|cut| next >= cut) => break,
                Ok(batch) if opening.cut.is_some_and(|cut| batch.header().base_offset >= cut) => break,
                Ok(batch) => batch,
                Err(Torn::Io(error)) => return Err(error),
                Err(Torn::Bad(problem)) => {
                    let may_be_torn = opening.repair_from.is_some_and(|from| from <= next);
                    if may_be_torn && torn::is_torn(&segment.rest(len)?, segment.size, &BATCHES) {
                        break;
                    }
                    return Err(segment.damage(problem));
                }
            };
            segment.check_order(batch.header(), next, opening.gapless_from)?;
            let base = batch.header().base_offset;
            if base > next && base >= opening.gapless_from && base > opening.start {
                return Err(segment.damage(format!("offset {base} follows {next}")));
            }
            next = batch.header().next_offset();
            seen(&batch);
            segment.index(batch.header());
            segment.size += batch.bytes().len() as u64;
        }
        segment.torn = segment.size < len;
        segment.grown = segment.file.modified().ok().map(|time| (time, segment.size));
        Ok((segment, next))
    }

    /// Goes past the batches below `known` by the indexes, and from their last entry on by the batches' headers. Returns
    /// the offset behind them.
    fn skip(&mut self, files: &dyn Files, opening: &Opening, len: u64) -> Result<Offset, LogError> {
        let (next, known) = (self.base, opening.known);
        self.unsynced = false;
        if known <= self.base {
            return Ok(next);
        }
        let indexed = self.read_indexes(files, known, len).is_some();
        if !indexed {
            self.unsynced = true;
            (self.size, self.max_timestamp) = (0, -1);
            self.offsets.clear();
            self.times.clear();
        }
        self.pass_headers(next, [known, opening.gapless_from], len, !indexed)
    }

    /// Goes past the batches below `known` by their headers. Returns the offset behind them.
    fn pass_headers(
        &mut self,
        mut next: Offset,
        [known, point]: [Offset; 2],
        len: u64,
        index: bool,
    ) -> Result<Offset, LogError> {
        while self.size < len && next < known {
            let header = match self.read_header(self.size, len) {
                Ok(header) => header,
                Err(Torn::Io(error)) => return Err(error),
                Err(Torn::Bad(problem)) => return Err(self.damage(problem)),
            };
            if header.base_offset >= known {
                break;
            }
            self.check_order(&header, next, point)?;
            if index {
                self.index(&header);
            }
            self.last = (header.base_offset - self.base) as u32;
            self.max_timestamp = self.max_timestamp.max(newest(&header).unwrap_or(-1));
            self.size += header.batch_len() as u64;
            next = header.next_offset();
        }
        Ok(next)
    }

    /// Takes the entries below `known` from the index files; `None` if they are not what was written.
    fn read_indexes(&mut self, files: &dyn Files, known: Offset, len: u64) -> Option<()> {
        let side = |suffix: &str| files.read(&self.path.with_extension(suffix)).ok();
        let below = u32::try_from(known - self.base).unwrap_or(u32::MAX);
        let u32_at = |entry: &[u8], at: usize| Some(u32::from_be_bytes(entry.get(at..at + 4)?.try_into().ok()?));
        let (offsets, times) = (side("index")?, side("timeindex")?);
        // What is too old goes by the times: nothing else vouches for them.
        let (times, checksum) = times.split_last_chunk()?;
        if offsets.len() % 8 != 0 || times.len() % 12 != 0 || crc32c::crc32c(times).to_be_bytes() != *checksum {
            return None;
        }
        for entry in offsets.chunks_exact(8) {
            let entry = (u32_at(entry, 0)?, u32_at(entry, 4)?);
            if self.offsets.last().is_some_and(|last| entry.0 <= last.0 || entry.1 <= last.1) {
                return None;
            }
            if entry.0 < below {
                self.offsets.push(entry);
            }
        }
        for entry in times.chunks_exact(12) {
            let entry = (i64::from_be_bytes(entry[..8].try_into().ok()?), u32_at(entry, 8)?);
            if self.times.last().is_some_and(|last| entry.0 <= last.0 || entry.1 < last.1) {
                return None;
            }
            if entry.1 < below {
                self.times.push(entry);
            }
        }
        let (relative, position) = *self.offsets.last()?;
        let header = self.read_header(u64::from(position), len).ok()?;
        if header.base_offset != self.base + i64::from(relative) {
            return None;
        }
        self.size = u64::from(position);
        self.max_timestamp = self.times.last().map_or(-1, |(time, _)| *time);
        Some(())
    }

    /// A batch begins where the one before ends, or behind it where compaction has left a gap, and none is on both sides of a
    /// checkpoint. The checksum does not cover its offset.
    fn check_order(&self, header: &BatchHeader, next: Offset, point: Offset) -> Result<(), LogError> {
        let furthest = self.base.saturating_add(i64::from(u32::MAX));
        let until = if header.base_offset < point { furthest.min(point) } else { furthest };
        out_of_order(header, next, until).map_or(Ok(()), |problem| Err(self.damage(problem)))
    }

    /// All bytes from the first on that are no batch.
    fn rest(&self, len: u64) -> Result<Vec<u8>, LogError> {
        let mut rest = vec![0; (len - self.size) as usize];
        self.file.read_exact_at(&mut rest, self.size).map_err(|e| io("cannot read", &self.path, e))?;
        Ok(rest)
    }

    fn damage(&self, problem: String) -> LogError {
        LogError::Corrupt { place: format!("{} at byte {}", self.path.display(), self.size), problem }
    }

    fn read_header(&self, at: u64, len: u64) -> Result<BatchHeader, Torn> {
        let mut head = [0; HEADER_LEN];
        if at + HEADER_LEN as u64 > len {
            return Err(Torn::Bad(format!("{} bytes are no batch", len.saturating_sub(at))));
        }
        self.file.read_exact_at(&mut head, at).map_err(|e| Torn::Io(io("cannot read", &self.path, e)))?;
        let header = BatchHeader::parse(&head).map_err(|e| Torn::Bad(e.to_string()))?;
        let size = header.batch_len();
        #[cfg(feature = "plant")]
        if at + size as u64 > len && millstream_core::Plant::TornBatch.is_set() {
            let longer = self.file.set_len(at + size as u64);
            return longer.map(|()| header).map_err(|e| Torn::Io(io("cannot write", &self.path, e)));
        }
        if at + size as u64 > len {
            return Err(Torn::Bad(format!("a batch of {size} bytes is cut off after {}", len - at)));
        }
        Ok(header)
    }

    fn read_batch(&self, at: u64, len: u64) -> Result<RecordBatch, Torn> {
        let bad = |e: millstream_wire::BatchError| Torn::Bad(e.to_string());
        let mut bytes = vec![0; self.read_header(at, len)?.batch_len()];
        self.file.read_exact_at(&mut bytes, at).map_err(|e| Torn::Io(io("cannot read", &self.path, e)))?;
        let mut bytes = Bytes::from(bytes);
        let batch =
            RecordBatch::split_from(&mut bytes).map_err(bad)?.ok_or_else(|| Torn::Bad("a batch is cut off".into()))?;
        #[cfg(feature = "plant")]
        if millstream_core::Plant::TornBatch.is_set() {
            return Ok(batch);
        }
        batch.verify_crc().map_err(bad)?;
        Ok(batch)
    }

    /// Appends batches whose offsets are set. After an error nothing of them is in the segment.
    pub(crate) fn append(&mut self, batches: &[RecordBatch]) -> Result<(), LogError> {
        let together;
        let bytes: &[u8] = match batches {
            [batch] => batch.bytes(),
            batches => {
                together = batches.iter().map(|b| b.bytes().as_ref()).collect::<Vec<_>>().concat();
                &together
            }
        };
        self.cut_torn_end()?;
        if let Err(error) = self.file.write_all_at(bytes, self.size) {
            self.torn = true;
            let _tried_again = self.cut_torn_end();
            return Err(io("cannot write", &self.path, error));
        }
        for batch in batches {
            self.index(batch.header());
            self.size += batch.bytes().len() as u64;
        }
        self.unsynced = true;
        Ok(())
    }

    /// Cuts off what a failed append has left behind the last batch: if a shorter batch were written over it, or another
    /// segment begun, a recovery would find damage in the middle of the partition.
    pub(crate) fn cut_torn_end(&mut self) -> Result<(), LogError> {
        if self.torn {
            self.file.set_len(self.size).map_err(|e| io("cannot cut the torn end off", &self.path, e))?;
            (self.torn, self.unsynced) = (false, true);
        }
        Ok(())
    }

    /// Whether there is something behind the last batch.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn
    }

    fn index(&mut self, header: &BatchHeader) {
        let relative = (header.base_offset - self.base) as u32;
        let is_due = self.since_index >= INDEX_INTERVAL;
        if is_due {
            self.offsets.push((relative, self.size as u32));
            self.since_index = 0;
        }
        if let Some(newest) = newest(header) {
            let is_later = self.times.last().is_none_or(|(time, _)| newest > *time);
            if is_later && (is_due || self.times.is_empty()) {
                self.times.push((self.max_timestamp.max(newest), relative));
            }
            self.max_timestamp = self.max_timestamp.max(newest);
        }
        self.last = relative;
        self.since_index += header.batch_len() as u64;
    }

    /// Takes note of its size, and says since when it has not grown.
    pub(crate) fn unchanged_since(&mut self, now: Timestamp) -> Timestamp {
        match self.grown {
            Some((since, size)) if size == self.size => since,
            _ => {
                self.grown = Some((now, self.size));
                now
            }
        }
    }

    /// When it was seen to have grown last; of one that was opened its file says that.
    pub(crate) fn grown(&self) -> Option<Timestamp> {
        self.grown.map(|(time, _)| time)
    }

    /// Counts from another time on since when it has not grown.
    pub(crate) fn set_unchanged_since(&mut self, since: Timestamp) {
        self.grown = Some((since, self.size));
    }

    /// Takes over since when it has not grown from those that it was made from, for the next start too.
    pub(crate) fn inherit_unchanged_since(&mut self, since: Timestamp) {
        self.set_unchanged_since(since);
        let _younger_at_the_next_start = self.file.set_modified(since);
    }

    /// The largest time of the first batch that is no marker.
    pub(crate) fn begun(&self) -> Option<Timestamp> {
        self.times.first().map(|(time, _)| *time)
    }

    /// Whether an offset is too far from the base for the index.
    pub(crate) fn fits(&self, offset: Offset) -> bool {
        offset - self.base <= i64::from(i32::MAX)
    }

    /// The file, for reading without the partition's lock, and where to start for an offset. `until` is where the next
    /// segment begins.
    pub(crate) fn reader(&self, offset: Offset, until: Offset) -> SegmentReader {
        let relative = (offset - self.base).max(0) as u32;
        let entry = self.offsets.partition_point(|(o, _)| *o <= relative).checked_sub(1).map(|i| self.offsets[i]);
        SegmentReader {
            file: self.file.clone(),
            path: self.path.clone(),
            base: self.base,
            position: entry.map_or(0, |(_, position)| u64::from(position)),
            expected: entry.map(|(relative, _)| self.base + i64::from(relative)),
            next: self.base,
            end: self.size,
            until,
        }
    }

    /// Offset from which to look for the first record of at least this time.
    pub(crate) fn offset_before_time(&self, time: Timestamp) -> Offset {
        let entry = self.times.partition_point(|(t, _)| *t < time);
        self.base + entry.checked_sub(1).map_or(0, |i| i64::from(self.times[i].1))
    }

    /// What a checkpoint writes and syncs of it: all that is there now.
    pub(crate) fn unsynced(&self) -> Unsynced {
        let mut index = Vec::with_capacity(self.offsets.len() * 8);
        for (relative, position) in &self.offsets {
            index.extend(relative.to_be_bytes());
            index.extend(position.to_be_bytes());
        }
        let mut timeindex = Vec::with_capacity(self.times.len() * 12 + 12);
        let newest = (self.max_timestamp, self.last);
        // Markers alone have no time.
        let is_newer = newest.0 > self.times.last().map_or(-1, |(time, _)| *time);
        for (time, relative) in self.times.iter().chain(is_newer.then_some(&newest)) {
            timeindex.extend(time.to_be_bytes());
            timeindex.extend(relative.to_be_bytes());
        }
        timeindex.extend(crc32c::crc32c(&timeindex).to_be_bytes());
        let side_files = [("index", index), ("timeindex", timeindex)];
        Unsynced { base: self.base, path: self.path.clone(), file: self.file.clone(), side_files }
    }

    /// Removes the segment's files.
    pub(crate) fn delete(self, files: &dyn Files) -> Result<(), LogError> {
        self.path.parent().into_iter().for_each(|dir| Self::remove_indexes(files, dir, self.base));
        self.discard(files)
    }

    /// Removes the file of a segment that has no indexes yet.
    pub(crate) fn discard(self, files: &dyn Files) -> Result<(), LogError> {
        files.remove(&self.path).map_err(|e| io("cannot remove", &self.path, e))
    }
}

/// What is to be synced of a segment, without holding its partition.
pub(crate) struct Unsynced {
    pub(crate) base: Offset,
    path: PathBuf,
    file: Arc<dyn OpenFile>,
    side_files: [(&'static str, Vec<u8>); 2],
}

impl Unsynced {
    /// Writes the indexes.
    pub(crate) fn write_indexes(&self, files: &dyn Files) -> Result<(), LogError> {
        self.side_files.iter().try_for_each(|(suffix, bytes)| {
            let path = self.path.with_extension(suffix);
            files.write(&path, bytes).map_err(|e| io("cannot write", &path, e))
        })
    }

    /// Syncs the batches.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        self.file.sync().map_err(|e| sync_failed(&self.path, e))
    }
}

/// How the end of a segment's file is looked at.
const BATCHES: Pieces = Pieces {
    declared: |bytes| match bytes.first_chunk::<HEADER_LEN>() {
        Some(head) => BatchHeader::parse(head).ok().map(|header| header.batch_len() as u64),
        None => Some(HEADER_LEN as u64),
    },
    is_sound: |bytes| {
        let header = bytes.first_chunk::<HEADER_LEN>().and_then(|head| BatchHeader::parse(head).ok());
        let whole = header.and_then(|header| bytes.get(..header.batch_len()));
        whole.is_some_and(is_batch)
    },
    is_one: is_batch,
};

/// Whether the checksum of a batch is that of all these bytes.
fn is_batch(bytes: &[u8]) -> bool {
    let crc = bytes.get(17..21);
    crc.is_some_and(|crc| bytes.len() >= HEADER_LEN && crc32c::crc32c(&bytes[21..]).to_be_bytes() == *crc)
}

enum Torn {
    Io(LogError),
    Bad(String),
}

/// Reads batches of a segment without holding its partition.
#[derive(Clone)]
pub(crate) struct SegmentReader {
    file: Arc<dyn OpenFile>,
    path: PathBuf,
    base: Offset,
    position: u64,
    /// The offset of the batch at `position`, as the index says: nothing else vouches for it.
    expected: Option<Offset>,
    /// Behind the batches that were read.
    next: Offset,
    end: u64,
    /// No batch of the segment is at or behind this offset. Compaction may have left a gap before it.
    pub(crate) until: Offset,
}

impl SegmentReader {
    /// The next batches, about `bytes` of them and at least one; empty at the end.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<Vec<RecordBatch>, LogError> {
        let Some(expected) = self.expected.take() else { return self.read_on(bytes) };
        let start = self.position;
        match self.read_on(bytes) {
            Ok(batches) if batches.first().is_none_or(|b| b.header().base_offset == expected) => Ok(batches),
            Err(error) if start == 0 => Err(error),
            // The index is damaged, or the batch is: read from the segment's first batch on, the difference shows.
            _ => {
                (self.position, self.next) = (0, self.base);
                self.read_on(bytes)
            }
        }
    }

    /// The next read may begin at an index entry behind the batch that follows: it is looked at here whether it does follow.
    fn check_following(&self, rest: &[u8]) -> Result<(), LogError> {
        let mut base = [0; 8];
        match rest.first_chunk() {
            Some(there) => base = *there,
            None if self.position + 8 > self.end => return Ok(()),
            None => {
                let read = self.file.read_exact_at(&mut base, self.position);
                read.map_err(|e| io("cannot read", &self.path, e))?;
            }
        }
        let base = i64::from_be_bytes(base);
        if base >= self.next {
            return Ok(());
        }
        let problem = format!("offset {base} follows {}", self.next);
        Err(LogError::Corrupt { place: self.path.display().to_string(), problem })
    }

    fn read_on(&mut self, bytes: usize) -> Result<Vec<RecordBatch>, LogError> {
        let mut want = (bytes as u64).min(self.end - self.position) as usize;
        loop {
            if want == 0 {
                return Ok(Vec::new());
            }
            let mut buffer = vec![0; want];
            self.file.read_exact_at(&mut buffer, self.position).map_err(|e| io("cannot read", &self.path, e))?;
            let mut rest = Bytes::from(buffer);
            let mut batches = Vec::new();
            let damage = |e: millstream_wire::BatchError| LogError::Corrupt {
                place: self.path.display().to_string(),
                problem: e.to_string(),
            };
            while let Some(batch) = RecordBatch::split_from(&mut rest).map_err(damage)? {
                batch.verify_crc().map_err(damage)?;
                if let Some(problem) = out_of_order(batch.header(), self.next, self.until) {
                    return Err(LogError::Corrupt { place: self.path.display().to_string(), problem });
                }
                self.next = batch.header().next_offset();
                batches.push(batch);
            }
            if !batches.is_empty() {
                self.position += (want - rest.len()) as u64;
                self.check_following(&rest)?;
                return Ok(batches);
            }
            // One batch is larger than what was asked for: its header says how large.
            let header = rest.first_chunk::<HEADER_LEN>().map(BatchHeader::parse).transpose().map_err(damage)?;
            let whole = header.map_or(HEADER_LEN, |h| h.batch_len());
            if whole as u64 > self.end - self.position {
                return Err(LogError::Corrupt {
                    place: self.path.display().to_string(),
                    problem: "a batch is cut off".into(),
                });
            }
            want = whole;
        }
    }
}
