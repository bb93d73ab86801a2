//! A round of compaction of one partition: learns the newest offset of every key of the dirty part, then writes its segments
//! again, from the first on, without what the sieve does not leave.
//!
//! Appends, fetches and deletions go on meanwhile: the partition's lock is held only to look at it and to swap segments.

use std::iter::Peekable;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::IntoIter;

use millstream_core::{Files, LogError, Offset, Timestamp};
use millstream_wire::{HEADER_LEN, RecordBatch};

use crate::cleanable::{Cleanable, Extent, cleanable};
use crate::offset_map::OffsetMap;
use crate::partition::{Partition, State};
use crate::partition_files;
use crate::producers::is_aborted;
use crate::segment::{Segment, SegmentReader, newest};
use crate::sieve::{Fate, Sieve, emptied};
use crate::swap;

/// What a round may use.
pub(crate) struct CleanerOptions {
    pub(crate) now: Timestamp,
    /// Memory for keys.
    pub(crate) buffer_bytes: usize,
}

/// So much is read at a time.
const READ_BYTES: usize = 1 << 20;

/// Decides whether a partition is worth compacting now.
pub(crate) fn look(partition: &Partition, now: Timestamp) -> Option<Cleanable> {
    if !partition.config().compacts {
        return None;
    }
    let mut state = partition.state();
    if state.uncleanable {
        return None;
    }
    let closed = extents(partition, &mut state, now);
    let (cleaned, stable) = (state.cleaned.max(state.start), state.producers.last_stable(state.end));
    cleanable(&partition.config(), &closed, cleaned, stable, partition.ages(&state, now))
}

/// The closed segments. In memory there are none: the batches are cut as a disk's would be.
fn extents(partition: &Partition, state: &mut State, now: Timestamp) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    if partition.dir.is_none() {
        for batch in &state.tail {
            let (header, time) = (batch.header(), newest(batch.header()));
            let size = batch.bytes().len() as u64;
            match extents.last_mut() {
                Some(last) if !partition.config().is_full(last.size, size, last.begun.zip(time)) => {
                    (last.size, last.newest) = (last.size + size, last.newest.max(time.unwrap_or(-1)));
                    last.begun = last.begun.or(time);
                    last.end = header.next_offset();
                }
                _ => extents.push(Extent {
                    base: header.base_offset,
                    end: header.next_offset(),
                    size,
                    begun: time,
                    newest: time.unwrap_or(-1),
                    unchanged_since: header.max_timestamp,
                }),
            }
        }
    } else {
        let mut end = state.end;
        for segment in state.segments.iter_mut().rev() {
            let unchanged_since = segment.unchanged_since(now);
            let (base, size, newest) = (segment.base, segment.size, segment.max_timestamp);
            extents.push(Extent { base, end, size, begun: segment.begun(), newest, unchanged_since });
            end = base;
        }
        extents.reverse();
    }
    extents.pop();
    extents
}

/// Where the batches of an extent are.
#[derive(Clone)]
enum Source {
    File(SegmentReader),
    Memory(Vec<RecordBatch>),
}

impl Source {
    /// The next batches; none at the end.
    fn read(&mut self) -> Result<Vec<RecordBatch>, LogError> {
        match self {
            Source::File(reader) => reader.read(READ_BYTES),
            Source::Memory(batches) => Ok(std::mem::take(batches)),
        }
    }
}

/// Compacts a partition up to `until`, or as far as its keys fit the memory. `false` if others came first, and it should be
/// looked at again later.
pub(crate) fn clean(
    partition: &Partition,
    until: Offset,
    options: &CleanerOptions,
    checkpointing: &Mutex<()>,
) -> Result<bool, LogError> {
    let result = Round::begin(partition, until, options).and_then(|round| round.run(options, checkpointing));
    if let Err(LogError::Corrupt { .. }) = &result {
        partition.state().uncleanable = true;
    }
    result
}

struct Round<'a> {
    partition: &'a Partition,
    sources: Vec<(Extent, Source)>,
    sieve: Sieve,
}

impl<'a> Round<'a> {
    /// Looks at the partition, and learns the newest offset of every key.
    fn begin(partition: &'a Partition, until: Offset, options: &CleanerOptions) -> Result<Self, LogError> {
        let mut state = partition.state();
        let dirty_from = state.cleaned.max(state.start);
        let extents = extents(partition, &mut state, options.now);
        let source = |extent: Extent| {
            let source = match state.segments.iter().find(|s| s.base == extent.base) {
                Some(segment) => Source::File(segment.reader(extent.base, extent.end)),
                None => {
                    let place = |offset| state.tail.partition_point(|b| b.header().base_offset < offset);
                    Source::Memory(state.tail.range(place(extent.base)..place(extent.end)).cloned().collect())
                }
            };
            (extent, source)
        };
        let mut sources: Vec<_> = extents.into_iter().filter(|e| e.end <= until).map(source).collect();
        let (aborted, last_batches) = (state.producers.aborted(), state.producers.last_batches());
        drop(state);

        let mut map = OffsetMap::new(options.buffer_bytes);
        let mut mapped = dirty_from;
        'dirty: for (extent, source) in sources.iter().filter(|(extent, _)| extent.end > dirty_from) {
            let mut source = source.clone();
            loop {
                let batches = source.read()?;
                if batches.is_empty() {
                    break;
                }
                for batch in batches.iter().filter(|b| b.header().next_offset() > dirty_from) {
                    if map.is_full() && mapped > dirty_from {
                        break 'dirty;
                    }
                    let header = batch.header();
                    if !header.is_control() && !is_aborted(&aborted, header) {
                        let damaged = |e: millstream_wire::BatchError| partition.damaged(header.base_offset, &e);
                        let mut records = batch.records().map_err(damaged)?;
                        while let Some(record) = records.next() {
                            let record = record.map_err(damaged)?;
                            if let Some(key) = record.key.filter(|_| record.offset >= dirty_from) {
                                map.put(key.as_slice(), record.offset);
                            }
                        }
                    }
                    mapped = header.next_offset();
                }
            }
            mapped = mapped.max(extent.end);
        }
        sources.retain(|(extent, _)| extent.base < mapped);
        let retention = partition.config().delete_retention_ms;
        let sieve = Sieve::new(map, mapped, aborted, last_batches, options.now, retention);
        Ok(Round { partition, sources, sieve })
    }

    /// Writes the segments again, several in one where they have become small.
    fn run(mut self, options: &CleanerOptions, checkpointing: &Mutex<()>) -> Result<bool, LogError> {
        let mut sources = std::mem::take(&mut self.sources).into_iter().peekable();
        while let Some(first) = sources.next() {
            if !self.clean_group(first, &mut sources, options, checkpointing)? {
                return Ok(false);
            }
        }
        // The topic may be deleted meanwhile, and another of its name have its folder: it is not compacted up to there.
        let _no_deletion = checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.partition.state();
        if self.partition.dir.is_some() && state.segments.is_empty() {
            return Ok(false);
        }
        state.cleaned = self.sieve.mapped;
        drop(state);
        let (dir, files) = (&self.partition.dir, &*self.partition.storage.files);
        dir.as_ref().map_or(Ok(()), |dir| partition_files::write_cleaned(files, dir, self.sieve.mapped))?;
        Ok(true)
    }

    /// Writes a segment again, with those that follow it for as long as they fit into one.
    fn clean_group(
        &mut self,
        first: (Extent, Source),
        others: &mut Peekable<IntoIter<(Extent, Source)>>,
        options: &CleanerOptions,
        checkpointing: &Mutex<()>,
    ) -> Result<bool, LogError> {
        let base = first.0.base;
        let mut out = Output::begin(self.partition, base)?;
        let mut extents: Vec<Extent> = Vec::new();
        let mut changed = false;
        // Where the segment ends must be found in it: its last batch stays, without records if need be.
        let mut last_gone = None;
        let mut next = Some(first);
        while let Some((extent, mut source)) = next {
            extents.push(extent);
            loop {
                if self.partition.storage.is_closing() {
                    return out.give_up().map(|()| false);
                }
                let batches = match source.read() {
                    Ok(batches) if batches.is_empty() => break,
                    Ok(batches) => batches,
                    Err(error) => return out.give_up().and(Err(error)),
                };
                let mut kept = Vec::with_capacity(batches.len());
                for batch in batches {
                    last_gone = None;
                    match self.sieve.judge(&batch) {
                        Ok(Fate::Stays) => kept.push(batch),
                        Ok(Fate::Becomes(other)) => {
                            changed = true;
                            kept.push(other);
                        }
                        Ok(Fate::Goes) => {
                            changed = true;
                            last_gone = Some(batch);
                        }
                        Err(e) => {
                            let error = self.partition.damaged(batch.header().base_offset, &e);
                            return out.give_up().and(Err(error));
                        }
                    }
                }
                out = out.append(kept)?;
            }
            let config = self.partition.config();
            next = others.next_if(|(next, _)| match &out {
                Output::File { segment, .. } => {
                    segment.size + next.size + HEADER_LEN as u64 <= config.segment_bytes && segment.fits(next.end)
                }
                Output::Memory(_) => true,
            });
        }
        changed |= extents.len() > 1;
        let end = extents.last().map_or(base, |last| last.end);
        if let Some(batch) = last_gone {
            match emptied(&batch) {
                Ok(batch) => out = out.append(vec![batch])?,
                Err(e) => return out.give_up().and(Err(self.partition.damaged(batch.header().base_offset, &e))),
            }
        }
        if !changed {
            self.sieve.over.clear();
            return out.give_up().map(|()| true);
        }
        let over = std::mem::take(&mut self.sieve.over);
        let bases: Vec<Offset> = extents.iter().map(|e| e.base).collect();
        match out {
            Output::File { mut segment, .. } => {
                // As old as the youngest that is in it.
                segment.inherit_unchanged_since(extents.iter().map(|e| e.unchanged_since).max().unwrap_or(options.now));
                swap::replace(self.partition, segment, &bases, &over, checkpointing)
            }
            Output::Memory(batches) => {
                let mut state = self.partition.state();
                state.replace_in_tail(base..end, batches);
                state.producers.forget_aborted(&over);
                Ok(true)
            }
        }
    }
}

/// Where a group's batches go.
enum Output {
    File { segment: Segment, files: Arc<dyn Files> },
    Memory(Vec<RecordBatch>),
}

impl Output {
    fn begin(partition: &Partition, base: Offset) -> Result<Self, LogError> {
        let files = partition.storage.files.clone();
        match &partition.dir {
            Some(dir) => {
                let segment = swap::begin(&*files, dir, base)?;
                // A deletion after this look removes the file; one before it may be at the folder, or have left it to another topic.
                if let Err(deleted) = partition.live().map(drop) {
                    let _removed_by_either = segment.discard(&*files);
                    return Err(deleted);
                }
                Ok(Output::File { segment, files })
            }
            None => Ok(Output::Memory(Vec::new())),
        }
    }

    /// Appends batches; gives up after an error.
    fn append(mut self, more: Vec<RecordBatch>) -> Result<Self, LogError> {
        let appended = match &mut self {
            Output::File { segment, .. } => segment.append(&more),
            Output::Memory(batches) => {
                batches.extend(more);
                Ok(())
            }
        };
        match appended {
            Ok(()) => Ok(self),
            Err(error) => self.give_up().and(Err(error)),
        }
    }

    /// Removes what was written.
    fn give_up(self) -> Result<(), LogError> {
        match self {
            Output::File { segment, files } => segment.discard(&*files),
            Output::Memory(_) => Ok(()),
        }
    }
}
