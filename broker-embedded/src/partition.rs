//! A partition: segments on disk, its newest batches in memory, its transactions, and who waits for it.
//!
//! Its state is behind one lock. Appending holds it for the write; reading holds it only to count references or to find
//! the file to read.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use millstream_core::{Isolation, LogError, Offset, Timestamp, TopicPartition, Wakeup};
use millstream_wire::{BatchError, BatchHeader, Limits, RecordBatch, patch_offset};

use crate::cleanable::Ages;
use crate::data_dir::sync_failed;
use crate::internal_topic::is_internal;
use crate::partition_files;
use crate::producers::{AbortedList, Producers, Unfit};
use crate::segment::{Segment, SegmentReader, Unsynced, newest};
use crate::storage::Storage;
use crate::topic_config::TopicConfig;

/// One node: the epoch of its leadership never changes.
const LEADER_EPOCH: i32 = 0;

pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    /// Tells this topic from an earlier one of its name.
    pub(crate) topic_id: u64,
    config: RwLock<Arc<TopicConfig>>,
    pub(crate) storage: Arc<Storage>,
    /// `None` at durability `memory`.
    pub(crate) dir: Option<PathBuf>,
    tail_limit: usize,
    state: Mutex<State>,
}

/// What recovery found, and what appends change.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) segments: Vec<Segment>,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// Where the last segment ends: before `end`, if what was between was deleted and is nowhere any more.
    pub(crate) segments_end: Offset,
    pub(crate) producers: Producers,
    /// Compacted up to here.
    pub(crate) cleaned: Offset,
    /// Up to here the last checkpoint has synced it.
    pub(crate) point: Offset,
    /// Up to here the last snapshot says what producers have sent: as far as `point`, or nothing if it is gone or cannot be read.
    pub(crate) snapshot: Offset,
    /// Compaction found damage here and lets it be.
    pub(crate) uncleanable: bool,
    /// The newest batches: all of them from the first one's offset to `end`. At durability `memory` all there are.
    pub(crate) tail: VecDeque<RecordBatch>,
    tail_bytes: usize,
    waiting: Vec<(Weak<Wakeup>, Isolation)>,
    /// Its topic was deleted: the folder is another's by now, or nobody's.
    is_abandoned: bool,
}

/// Where a reader goes on.
pub(crate) enum Source {
    /// Batches from memory, and the offset behind them.
    Memory(Vec<RecordBatch>),
    /// A file to be read without the lock.
    File(SegmentReader),
    /// There is nothing to see.
    Nothing,
}

/// A look at a partition: where to read, and what of it may be seen.
pub(crate) struct Look {
    pub(crate) source: Source,
    /// First offset that may not be seen.
    pub(crate) visible_end: Offset,
    /// Aborted transactions as of this look: needed only for committed reading.
    pub(crate) aborted: Option<AbortedList>,
}

impl State {
    fn visible_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.end,
            // Records of an open transaction may have been deleted: what is not there holds nobody back.
            Isolation::ReadCommitted => self.producers.last_stable(self.end).max(self.start),
        }
    }

    /// Reads the segment that holds `offset`.
    fn reader(&self, offset: Offset) -> Option<SegmentReader> {
        let at = self.segments.partition_point(|s| s.base <= offset).saturating_sub(1);
        let until = self.segments.get(at + 1).map_or(self.end, |next| next.base);
        Some(self.segments.get(at)?.reader(offset, until))
    }

    /// Lets go of the newest batches below an offset.
    pub(crate) fn trim_tail(&mut self, below: Offset) {
        while self.tail.front().is_some_and(|b| b.header().next_offset() <= below) {
            let gone = self.tail.pop_front();
            self.tail_bytes -= gone.map_or(0, |b| b.bytes().len());
        }
    }

    /// Puts other batches in the place of those of some offsets.
    pub(crate) fn replace_in_tail(&mut self, offsets: Range<Offset>, batches: Vec<RecordBatch>) {
        let place = |offset| self.tail.partition_point(|b| b.header().base_offset < offset);
        let (from, to) = (place(offsets.start), place(offsets.end));
        let behind = self.tail.split_off(to);
        self.tail.truncate(from);
        let start = self.start;
        self.tail.extend(batches.into_iter().filter(|b| b.header().next_offset() > start));
        self.tail.extend(behind);
        self.tail_bytes = self.tail.iter().map(|b| b.bytes().len()).sum();
    }

    fn wake(&mut self, stable_moved: bool) {
        self.waiting.retain(|(wakeup, isolation)| {
            let Some(wakeup) = wakeup.upgrade() else { return false };
            if stable_moved || *isolation == Isolation::ReadUncommitted {
                wakeup.wake();
            }
            true
        });
    }
}

impl Partition {
    pub(crate) fn new(
        id: TopicPartition,
        topic_id: u64,
        config: TopicConfig,
        storage: Arc<Storage>,
        dir: Option<PathBuf>,
        tail_limit: usize,
        state: State,
    ) -> Self {
        // Without files what leaves memory is gone.
        let tail_limit = if dir.is_some() { tail_limit } else { usize::MAX };
        let config = RwLock::new(Arc::new(config));
        Partition { id, topic_id, config, storage, dir, tail_limit, state: Mutex::new(state) }
    }

    /// Another configuration of its topic.
    pub(crate) fn configure(&self, config: TopicConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a batch that cannot be read.
    pub(crate) fn damaged(&self, offset: Offset, error: &BatchError) -> LogError {
        LogError::Corrupt { place: format!("{}@{offset}", self.id), problem: error.to_string() }
    }

    fn refused(&self, problem: String) -> LogError {
        LogError::Refused { partition: self.id.clone(), problem }
    }

    /// Appends a batch from outside after looking at all of it.
    pub(crate) fn append_checked(&self, bytes: &[u8]) -> Result<Offset, LogError> {
        let mut rest = Bytes::copy_from_slice(bytes);
        let refused = |e: BatchError| self.refused(e.to_string());
        let batch = RecordBatch::split_from(&mut rest)
            .map_err(refused)?
            .ok_or_else(|| self.refused("the batch is cut off".into()))?;
        if !rest.is_empty() {
            return Err(self.refused(format!("{} bytes follow the batch", rest.len())));
        }
        if batch.header().is_control() {
            return Err(self.refused("only the log itself writes markers".into()));
        }
        if batch.header().is_transactional() {
            // Behind the end of its transaction nobody would ever end it again.
            return Err(self.refused("INVALID_TXN_STATE: it is part of no transaction that was begun here".into()));
        }
        if batch.header().producer_id >= 0 && batch.header().base_sequence < 0 {
            return Err(self.refused("it has a producer id and no sequence number".into()));
        }
        let facts = batch.validate(&Limits::default()).map_err(refused)?;
        self.check_keys(facts.null_key)?;
        self.append(bytes.to_vec())
    }

    /// A compacted topic keeps the newest record of every key: one without is nothing that it could keep.
    pub(crate) fn check_keys(&self, is_keyless: bool) -> Result<(), LogError> {
        if is_keyless && self.config().compacts {
            return Err(self.refused(
                "INVALID_RECORD: a record has no key, and cleanup.policy has `compact`
  help: give every record a key, or create the topic with cleanup.policy=delete"
                    .into(),
            ));
        }
        Ok(())
    }

    fn unfit(&self, header: &BatchHeader, unfit: Unfit) -> LogError {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        match unfit {
            Unfit::Fenced => LogError::Fenced { transactional_id: format!("producer {id}") },
            Unfit::OutOfOrder { expected } => self.refused(format!(
                "OUT_OF_ORDER_SEQUENCE_NUMBER: producer {id} sends {} in epoch {epoch}, and {expected} comes next",
                header.base_sequence
            )),
            Unfit::OutsideTransaction => self.refused(format!(
                "INVALID_TXN_STATE: producer {id} has a transaction open, and this batch is no part of one"
            )),
        }
    }

    /// Its state, unless its topic was deleted.
    pub(crate) fn live(&self) -> Result<MutexGuard<'_, State>, LogError> {
        let state = self.state();
        if state.is_abandoned { Err(LogError::UnknownTopic(self.id.clone())) } else { Ok(state) }
    }

    /// Appends a sealed batch and returns the offset of its first record, or where it is if it has been appended before.
    /// After an error nothing was appended.
    pub(crate) fn append(&self, mut bytes: Vec<u8>) -> Result<Offset, LogError> {
        let mut state = self.live()?;
        let base = state.end;
        patch_offset(&mut bytes, base, LEADER_EPOCH);
        let refused = |e: BatchError| self.refused(e.to_string());
        let batch = RecordBatch::split_from(&mut Bytes::from(bytes))
            .map_err(refused)?
            .ok_or_else(|| self.refused("the batch is cut off".into()))?;
        let header = *batch.header();
        let internal = is_internal(&self.id.topic);
        let largest = self.config().max_message_bytes;
        if batch.bytes().len() > largest && !header.is_control() && !internal {
            return Err(self.refused(format!(
                "{} bytes are more than max.message.bytes={}\n  help: raise max.message.bytes of the topic, or lower batch.size",
                batch.bytes().len(),
                largest
            )));
        }
        match state.producers.check(&header) {
            Ok(None) => {}
            // Its answer was lost: it has been written.
            Ok(Some(before)) => return Ok(before),
            Err(unfit) => return Err(self.unfit(&header, unfit)),
        }
        self.write(&mut state, &batch)?;
        if self.dir.is_some() {
            self.storage.appended(self.topic_id, self.id.partition, batch.bytes());
        }
        self.take(&mut state, batch);
        Ok(base)
    }

    /// Appends what the journal has and the segments lack.
    pub(crate) fn replay(&self, bytes: Bytes) -> Result<(), LogError> {
        let damaged =
            |problem: String| LogError::Corrupt { place: format!("the journal's entry for {}", self.id), problem };
        let batch = RecordBatch::split_from(&mut bytes.clone())
            .map_err(|e| damaged(e.to_string()))?
            .ok_or_else(|| damaged("a batch is cut off".into()))?;
        let mut state = self.state();
        let base = batch.header().base_offset;
        // The start of the log may be inside a batch: nothing before it is left, and that batch is the first. Of what was deleted since
        // the checkpoint it is only known who has sent it.
        if batch.header().next_offset() <= state.end {
            if base >= state.point && batch.header().next_offset() <= state.start {
                state.producers.apply(&batch);
            }
            return Ok(());
        }
        if base > state.end {
            return Err(damaged(format!("offset {base} follows {}", state.end)));
        }
        self.write(&mut state, &batch)?;
        self.take(&mut state, batch);
        Ok(())
    }

    /// Writes a batch to the active segment, or to a new one when that is full.
    fn write(&self, state: &mut State, batch: &RecordBatch) -> Result<(), LogError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let (header, config) = (batch.header(), self.config());
        let full = state.segments.last().is_none_or(|s| {
            let more = batch.bytes().len() as u64;
            let is_full = config.is_full(s.size, more, s.begun().zip(newest(header)));
            // A gap within a segment would be taken for something that was synced, and is damaged.
            is_full || !s.fits(header.last_offset()) || header.base_offset > state.segments_end
        });
        if full {
            self.begin_segment(state, dir, header.base_offset)?;
        }
        state.segments.last_mut().map_or(Ok(()), |active| active.append(std::slice::from_ref(batch)))?;
        state.segments_end = header.next_offset();
        Ok(())
    }

    /// Closes the active segment and begins the next one.
    fn begin_segment(&self, state: &mut State, dir: &Path, base: Offset) -> Result<(), LogError> {
        state.segments.last_mut().map_or(Ok(()), Segment::cut_torn_end)?;
        state.segments.push(Segment::create(&*self.storage.files, dir, base)?);
        state.segments_end = base;
        Ok(())
    }

    /// Makes a batch that was written visible.
    fn take(&self, state: &mut State, batch: RecordBatch) {
        let stable = state.producers.last_stable(state.end);
        state.producers.apply(&batch);
        state.end = batch.header().next_offset();
        // Who comes later reads the file.
        if self.dir.is_some() && state.waiting.is_empty() {
            state.tail.clear();
            state.tail_bytes = 0;
        } else {
            state.tail_bytes += batch.bytes().len();
            state.tail.push_back(batch);
        }
        while state.tail_bytes > self.tail_limit && state.tail.len() > 1 {
            let oldest = state.tail.pop_front();
            state.tail_bytes -= oldest.map_or(0, |b| b.bytes().len());
        }
        let end = state.end;
        let stable_moved = state.producers.last_stable(end) > stable;
        state.wake(stable_moved);
    }

    /// Finds where to read from `offset` on.
    pub(crate) fn look(&self, offset: Offset, max_bytes: usize, isolation: Isolation) -> Result<Look, LogError> {
        let state = self.live()?;
        if offset < state.start || offset > state.end {
            return Err(LogError::OutOfRange {
                partition: self.id.clone(),
                offset,
                start: state.start,
                end: state.end,
            });
        }
        let visible_end = state.visible_end(isolation);
        let source = if offset >= visible_end {
            Source::Nothing
        } else if self.dir.is_none() || state.tail.front().is_some_and(|b| b.header().base_offset <= offset) {
            let first = state.tail.partition_point(|b| b.header().next_offset() <= offset);
            let mut bytes = 0;
            let mut batches = Vec::new();
            for batch in state.tail.range(first..) {
                if bytes >= max_bytes || batch.header().base_offset >= visible_end {
                    break;
                }
                bytes += batch.bytes().len();
                batches.push(batch.clone());
            }
            Source::Memory(batches)
        } else {
            state.reader(offset).map_or(Source::Nothing, Source::File)
        };
        let aborted = (isolation == Isolation::ReadCommitted).then(|| state.producers.aborted());
        Ok(Look { source, visible_end, aborted })
    }

    /// The reader behind the segment that holds `offset`; `None` if that was the last.
    pub(crate) fn next_reader(&self, offset: Offset) -> Option<SegmentReader> {
        let state = self.state();
        if offset < state.end { state.reader(offset) } else { None }
    }

    pub(crate) fn start(&self) -> Offset {
        self.state().start
    }

    pub(crate) fn end(&self, isolation: Isolation) -> Offset {
        self.state().visible_end(isolation)
    }

    /// Wakes whoever has this wakeup when there is more to see, for as long as it lives.
    pub(crate) fn wait_with(&self, wakeup: &Arc<Wakeup>, isolation: Isolation) {
        let (wakeup, mut state) = (Arc::downgrade(wakeup), self.state());
        if !state.waiting.iter().any(|(other, of)| other.ptr_eq(&wakeup) && *of == isolation) {
            state.waiting.push((wakeup, isolation));
        }
    }

    /// Offset at or before the first record of at least `time`, from where to look closer.
    pub(crate) fn offset_before_time(&self, time: Timestamp) -> Offset {
        let state = self.state();
        let segment = state.segments.iter().find(|s| s.max_timestamp >= time);
        segment.map_or(state.start, |s| s.offset_before_time(time)).max(state.start)
    }

    /// Moves the start of the log. Segments below it whose producers are in a snapshot are deleted.
    pub(crate) fn delete_before(&self, before: Offset) -> Result<(), LogError> {
        let mut state = self.live()?;
        if before > state.end {
            return Err(LogError::OutOfRange {
                partition: self.id.clone(),
                offset: before,
                start: state.start,
                end: state.end,
            });
        }
        if before <= state.start {
            return Ok(());
        }
        let files = &*self.storage.files;
        if let Some(dir) = &self.dir {
            match partition_files::write_start(files, dir, before) {
                Err(LogError::Full { .. }) => {
                    // It gets the space of the indexes of what goes. Should that stay, it gets others.
                    let go = state.segments.partition_point(|s| s.base <= before).saturating_sub(1);
                    for segment in &mut state.segments[..go] {
                        Segment::remove_indexes(files, dir, segment.base);
                        segment.unsynced = true;
                    }
                    partition_files::write_start(files, dir, before)?;
                }
                written => written?,
            }
        }
        state.start = before;
        state.trim_tail(before);
        let seen = state.snapshot;
        self.remove_below(&mut state, before.min(seen))
    }

    /// Deletes the segments below the start that are there still. Before those go that the last checkpoint has not seen, the next one is
    /// made: after an unclean end nothing else says what their producers have sent.
    pub(crate) fn remove_deleted(&self, checkpoint: impl FnOnce() -> Result<(), LogError>) -> Result<(), LogError> {
        let (start, is_seen) = {
            let state = self.live()?;
            if state.segments.get(1).is_none_or(|next| next.base > state.start) {
                return Ok(());
            }
            (state.start, state.snapshot >= state.start)
        };
        let seen = match if is_seen { Ok(()) } else { checkpoint() } {
            Ok(()) => self.live()?.snapshot,
            // There may be more space behind it.
            Err(LogError::Full { .. }) => start,
            Err(error) => return Err(error),
        };
        self.remove_below(&mut *self.live()?, start.min(seen))
    }

    /// Deletes the segments that end at an offset or before.
    fn remove_below(&self, state: &mut State, before: Offset) -> Result<(), LogError> {
        while state.segments.get(1).is_some_and(|next| next.base <= before) {
            state.segments.remove(0).delete(&*self.storage.files)?;
        }
        let first = state.segments.first().map_or(state.start, |s| s.base);
        state.producers.trim(first);
        Ok(())
    }

    /// Moves the start of the log behind segments that are older, or more, than the topic keeps. The active one goes only when all of it is
    /// too old.
    pub(crate) fn retain(&self, now: Timestamp) -> Result<(), LogError> {
        let config = self.config();
        if !config.deletes {
            return Ok(());
        }
        let mut begun = Ok(());
        let before = {
            let mut state = self.state();
            let ages = self.ages(&state, now);
            let mut old = Vec::new();
            for segment in &mut state.segments {
                let since = segment.unchanged_since(now);
                let is_old = |ms| segment.size > 0 && ages.exceed(ms, segment.max_timestamp, since);
                old.push(config.retention_ms.is_some_and(is_old));
            }
            if let Some(dir) = &self.dir
                && old.last() == Some(&true)
            {
                // Without space for it the last segment stays, and those before it go all the same.
                let end = state.end;
                begun = self.begin_segment(&mut state, dir, end);
            }
            let mut total: u64 = state.segments.iter().map(|s| s.size).sum();
            let stable = state.producers.last_stable(state.end);
            let mut before = None;
            for (pair, old) in state.segments.windows(2).zip(old) {
                let (segment, next) = (&pair[0], &pair[1]);
                let many = config.retention_bytes.is_some_and(|bytes| total > bytes + segment.size.min(total));
                if !(old || many) || next.base > stable {
                    break;
                }
                total -= segment.size;
                before = Some(next.base);
            }
            before
        };
        match before.map_or(Ok(()), |before| self.delete_before(before)) {
            // Deleted meanwhile as a whole.
            Err(LogError::UnknownTopic(_)) => Ok(()),
            result => result.and(begun),
        }
    }

    pub(crate) fn ages(&self, state: &State, now: Timestamp) -> Ages {
        let latest = match &self.dir {
            Some(_) => state.segments.iter().map(|s| s.max_timestamp).max(),
            None => state.tail.iter().filter_map(|b| newest(b.header())).max(),
        };
        Ages { now, newest: latest.unwrap_or(now), is_changelog: self.id.topic.ends_with("-changelog") }
    }

    /// Writes the indexes and the producers, and syncs what no checkpoint has synced; returns the offset behind it.
    ///
    /// After an error of a file that is not the disk's failing to sync, the next checkpoint does it all again.
    pub(crate) fn checkpoint(&self) -> Result<Offset, LogError> {
        let Some(dir) = &self.dir else { return Ok(0) };
        let (end, unsynced, snapshot) = {
            let mut state = self.state();
            state.segments.last_mut().map_or(Ok(()), Segment::cut_torn_end)?;
            let of = |segment: &mut Segment| std::mem::take(&mut segment.unsynced).then(|| segment.unsynced());
            let unsynced: Vec<_> = state.segments.iter_mut().filter_map(of).collect();
            // All of it, and what is known of producers, is as the last checkpoint has left it.
            if unsynced.is_empty() && state.end == state.snapshot {
                return Ok(state.end);
            }
            (state.end, unsynced, state.producers.snapshot())
        };
        let files = &*self.storage.files;
        let written = unsynced.iter().try_for_each(|segment| segment.write_indexes(files));
        let again = |state: &mut State| state.segments.iter_mut().for_each(|s| s.unsynced = true);
        {
            let mut state = self.state();
            // Deletions went on meanwhile: their segments' indexes are there again.
            let is_gone = |of: &&Unsynced| state.segments.binary_search_by_key(&of.base, |s| s.base).is_err();
            unsynced.iter().filter(is_gone).for_each(|of| Segment::remove_indexes(files, dir, of.base));
            written.inspect_err(|_| again(&mut state))?;
        }
        let synced = unsynced
            .iter()
            .try_for_each(Unsynced::sync)
            .and_then(|()| files.sync_dir(dir).map_err(|e| sync_failed(dir, e)));
        synced.inspect_err(|error| self.storage.fail(error.clone()))?;
        let written = partition_files::write_snapshot(files, dir, end, &snapshot);
        written.inspect_err(|_| again(&mut self.state()))?;
        Ok(end)
    }

    /// Takes note of a checkpoint that is complete, and removes what only earlier ones needed.
    pub(crate) fn checkpointed(&self, end: Offset) -> Result<(), LogError> {
        let mut state = self.state();
        (state.point, state.snapshot) = (end, end);
        drop(state);
        self.dir.as_ref().map_or(Ok(()), |dir| partition_files::remove_snapshots_but(&*self.storage.files, dir, end))
    }

    /// Lets go of the files, before they are removed. Who holds the partition still is woken, and told so by the next call.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.is_abandoned = true;
        state.segments.clear();
        state.tail.clear();
        state.tail_bytes = 0;
        state.wake(true);
    }
}
