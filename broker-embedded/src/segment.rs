//! One segment of a partition: batches in a file, found by offset or by time through sparse indexes in Kafka's layout.
//!
//! The indexes of the active segment are in memory; they are written when it is closed, and found again by reading the
//! batches when it was not.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{LogError, Offset, Timestamp};
use millstream_wire::{BatchHeader, HEADER_LEN, RecordBatch};

use crate::data_dir::io;

/// An index entry for about so many bytes of batches (`log.index.interval.bytes`).
const INDEX_INTERVAL: u64 = 4096;

/// A segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    path: PathBuf,
    file: Arc<File>,
    /// Bytes of whole batches.
    pub(crate) size: u64,
    /// Offset relative to the base, and position of the batch.
    offsets: Vec<(u32, u32)>,
    /// Largest time up to a batch, and that batch's relative offset.
    times: Vec<(Timestamp, u32)>,
    since_index: u64,
    pub(crate) max_timestamp: Timestamp,
}

fn file_name(base: Offset, suffix: &str) -> String {
    format!("{base:020}.{suffix}")
}

impl Segment {
    /// A new segment for offsets from `base` on.
    pub(crate) fn create(dir: &Path, base: Offset) -> Result<Self, LogError> {
        let path = dir.join(file_name(base, "log"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|e| io("cannot create", &path, e))?;
        Ok(Self::empty(base, path, file))
    }

    fn empty(base: Offset, path: PathBuf, file: File) -> Self {
        Segment {
            base,
            path,
            file: Arc::new(file),
            size: 0,
            offsets: Vec::new(),
            times: Vec::new(),
            since_index: INDEX_INTERVAL,
            max_timestamp: -1,
        }
    }

    /// Base offsets of the segments in a folder, ascending.
    pub(crate) fn list(dir: &Path) -> Result<Vec<Offset>, LogError> {
        let mut bases = Vec::new();
        for entry in fs::read_dir(dir).map_err(|e| io("cannot list", dir, e))? {
            let entry = entry.map_err(|e| io("cannot list", dir, e))?;
            let name = entry.file_name();
            let base: Option<Offset> = name
                .to_str()
                .and_then(|n| n.strip_suffix(".log"))
                .filter(|n| n.len() == 20)
                .and_then(|n| n.parse().ok());
            bases.extend(base);
        }
        bases.sort_unstable();
        Ok(bases)
    }

    /// Opens a segment by reading its batches: `seen` is told each. What follows the last whole batch with a good
    /// checksum is cut off if `repair`, and reported otherwise.
    pub(crate) fn recover(
        dir: &Path,
        base: Offset,
        repair: bool,
        mut seen: impl FnMut(&RecordBatch),
    ) -> Result<Self, LogError> {
        let path = dir.join(file_name(base, "log"));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| io("cannot open", &path, e))?;
        let len = file.metadata().map_err(|e| io("cannot look at", &path, e))?.len();
        let mut segment = Self::empty(base, path, file);
        let mut next = base;
        while segment.size < len {
            let batch = match segment.read_batch(segment.size, len) {
                Ok(batch) if batch.header().base_offset >= next => batch,
                Ok(batch) => {
                    return Err(segment.damage(format!("offset {} follows {next}", batch.header().base_offset)));
                }
                Err(Torn::Io(error)) => return Err(error),
                Err(Torn::Bad(problem)) if !repair => return Err(segment.damage(problem)),
                Err(Torn::Bad(_)) => break,
            };
            next = batch.header().next_offset();
            seen(&batch);
            segment.index(batch.header());
            segment.size += batch.bytes().len() as u64;
        }
        if segment.size < len {
            segment.file.set_len(segment.size).map_err(|e| io("cannot cut the torn end off", &segment.path, e))?;
        }
        Ok(segment)
    }

    fn damage(&self, problem: String) -> LogError {
        LogError::Corrupt {
            place: format!("{} at byte {}", self.path.display(), self.size),
            problem: format!(
                "{problem}\n  help: this was written in whole before; check the disk, or restore the file from a copy"
            ),
        }
    }

    fn read_batch(&self, at: u64, len: u64) -> Result<RecordBatch, Torn> {
        let bad = |e: millstream_wire::BatchError| Torn::Bad(e.to_string());
        let mut head = [0; HEADER_LEN];
        if at + HEADER_LEN as u64 > len {
            return Err(Torn::Bad(format!("{} bytes are no batch", len - at)));
        }
        self.file.read_exact_at(&mut head, at).map_err(|e| Torn::Io(io("cannot read", &self.path, e)))?;
        let header = BatchHeader::parse(&head).map_err(bad)?;
        let size = header.batch_len();
        if at + size as u64 > len {
            return Err(Torn::Bad(format!("a batch of {size} bytes is cut off after {}", len - at)));
        }
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, at).map_err(|e| Torn::Io(io("cannot read", &self.path, e)))?;
        let mut bytes = Bytes::from(bytes);
        let batch =
            RecordBatch::split_from(&mut bytes).map_err(bad)?.ok_or_else(|| Torn::Bad("a batch is cut off".into()))?;
        batch.verify_crc().map_err(bad)?;
        Ok(batch)
    }

    /// Appends a batch whose offsets are set. After an error nothing of it is in the segment.
    pub(crate) fn append(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), LogError> {
        if let Err(error) = self.file.write_all_at(bytes, self.size) {
            // What was written of it is behind `size`: the next append writes over it, a recovery cuts it off.
            let _best_effort = self.file.set_len(self.size);
            return Err(io("cannot write", &self.path, error));
        }
        self.index(header);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn index(&mut self, header: &BatchHeader) {
        let relative = (header.base_offset - self.base) as u32;
        if self.since_index >= INDEX_INTERVAL {
            self.offsets.push((relative, self.size as u32));
            if self.times.last().is_none_or(|(time, _)| header.max_timestamp > *time) {
                self.times.push((self.max_timestamp.max(header.max_timestamp), relative));
            }
            self.since_index = 0;
        }
        self.since_index += header.batch_len() as u64;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// Whether an offset is too far from the base for the index.
    pub(crate) fn fits(&self, offset: Offset) -> bool {
        offset - self.base <= i64::from(i32::MAX)
    }

    /// The file, for reading without the partition's lock, and where to start for an offset.
    pub(crate) fn reader(&self, offset: Offset) -> SegmentReader {
        let relative = (offset - self.base).max(0) as u32;
        let entry = self.offsets.partition_point(|(o, _)| *o <= relative);
        let position = entry.checked_sub(1).map_or(0, |i| self.offsets[i].1);
        SegmentReader {
            file: self.file.clone(),
            path: self.path.clone(),
            position: u64::from(position),
            end: self.size,
        }
    }

    /// Offset from which to look for the first record of at least this time.
    pub(crate) fn offset_before_time(&self, time: Timestamp) -> Offset {
        let entry = self.times.partition_point(|(t, _)| *t < time);
        self.base + entry.checked_sub(1).map_or(0, |i| i64::from(self.times[i].1))
    }

    /// Writes the indexes, when the segment gets no more batches or the broker is closed.
    pub(crate) fn write_indexes(&self) -> Result<(), LogError> {
        let mut bytes = Vec::with_capacity(self.offsets.len() * 8);
        for (relative, position) in &self.offsets {
            bytes.extend(relative.to_be_bytes());
            bytes.extend(position.to_be_bytes());
        }
        self.write_side_file("index", &bytes)?;
        bytes.clear();
        for (time, relative) in &self.times {
            bytes.extend(time.to_be_bytes());
            bytes.extend(relative.to_be_bytes());
        }
        self.write_side_file("timeindex", &bytes)
    }

    fn write_side_file(&self, suffix: &str, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.path.with_extension(suffix);
        File::create(&path).and_then(|mut f| f.write_all(bytes)).map_err(|e| io("cannot write", &path, e))
    }

    /// Removes the segment's files.
    pub(crate) fn delete(self) -> Result<(), LogError> {
        for suffix in ["index", "timeindex"] {
            let _may_be_missing = fs::remove_file(self.path.with_extension(suffix));
        }
        fs::remove_file(&self.path).map_err(|e| io("cannot remove", &self.path, e))
    }
}

enum Torn {
    Io(LogError),
    Bad(String),
}

/// Reads batches of a segment without holding its partition.
pub(crate) struct SegmentReader {
    file: Arc<File>,
    path: PathBuf,
    position: u64,
    end: u64,
}

impl SegmentReader {
    /// The next batches, about `bytes` of them and at least one; empty at the end.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<Vec<RecordBatch>, LogError> {
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
                batches.push(batch);
            }
            if !batches.is_empty() {
                self.position += (want - rest.len()) as u64;
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
