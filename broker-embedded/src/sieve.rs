//! What compaction leaves of a batch: of every key the newest record, of a transaction only what was committed, tombstones
//! and markers until their time has come.
//!
//! It sees a partition's batches in their order, from the first on.

use std::collections::{HashMap, HashSet};

use millstream_core::{Offset, Timestamp};
use millstream_wire::control::{self, Marker};
use millstream_wire::{BatchError, RecordBatch};

use crate::offset_map::OffsetMap;
use crate::producers::{AbortedList, LastBatch, is_aborted};

/// Judges batches.
pub(crate) struct Sieve {
    /// The newest offset of every key that has a record in the dirty part.
    pub(crate) newest: OffsetMap,
    /// Where the part ends whose keys are in the map. What follows stays as it is.
    pub(crate) mapped: Offset,
    pub(crate) aborted: AbortedList,
    /// The batches from which a restart learns where producers were.
    pub(crate) last_batches: HashMap<i64, LastBatch>,
    pub(crate) now: Timestamp,
    /// Tombstones and markers are left for readers for so long after the first compaction that met them.
    pub(crate) delete_retention_ms: i64,
    /// Producers of which a batch was seen since their last marker.
    seen: HashSet<i64>,
    /// Offsets of abort markers whose transactions have no batch any more.
    pub(crate) over: Vec<Offset>,
}

/// What becomes of a batch.
#[derive(Debug)]
pub(crate) enum Fate {
    Stays,
    Becomes(RecordBatch),
    Goes,
}

impl Sieve {
    pub(crate) fn new(
        newest: OffsetMap,
        mapped: Offset,
        aborted: AbortedList,
        last_batches: HashMap<i64, LastBatch>,
        now: Timestamp,
        delete_retention_ms: i64,
    ) -> Self {
        let (seen, over) = (HashSet::new(), Vec::new());
        Sieve { newest, mapped, aborted, last_batches, now, delete_retention_ms, seen, over }
    }

    /// Decides about the next batch.
    pub(crate) fn judge(&mut self, batch: &RecordBatch) -> Result<Fate, BatchError> {
        let header = batch.header();
        let fate = if header.is_control() { self.judge_marker(batch)? } else { self.judge_records(batch)? };
        let kept_empty = self.last_batches.get(&header.producer_id).is_some_and(|last| last.is(header));
        match fate {
            Fate::Goes if kept_empty && header.count == 0 => Ok(Fate::Stays),
            Fate::Goes if kept_empty => emptied(batch).map(Fate::Becomes),
            fate => Ok(fate),
        }
    }

    /// A marker stays until no batch of its transaction is left, and then for as long as a tombstone: a reader may have
    /// seen the batches before.
    fn judge_marker(&mut self, batch: &RecordBatch) -> Result<Fate, BatchError> {
        let header = batch.header();
        let has_batches = self.seen.remove(&header.producer_id);
        if header.count == 0 {
            return Ok(Fate::Goes);
        }
        if has_batches || header.next_offset() > self.mapped {
            return Ok(Fate::Stays);
        }
        if control::decode(batch).is_ok_and(|marker| marker == Marker::Abort) {
            self.over.push(header.base_offset);
        }
        match header.delete_horizon() {
            None => batch.retain(Some(self.horizon()), |_| true).map(Fate::Becomes),
            Some(horizon) if self.now < horizon => Ok(Fate::Stays),
            Some(_) => Ok(Fate::Goes),
        }
    }

    fn judge_records(&mut self, batch: &RecordBatch) -> Result<Fate, BatchError> {
        let header = batch.header();
        if header.is_transactional() {
            self.seen.insert(header.producer_id);
        }
        if header.next_offset() > self.mapped {
            return Ok(Fate::Stays);
        }
        if is_aborted(&self.aborted, header) {
            return Ok(Fate::Goes);
        }
        let tombstones_go = header.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        let (mut kept, mut tombstones) = (Vec::new(), false);
        let mut records = batch.records()?;
        while let Some(record) = records.next() {
            let record = record?;
            // A record without key has nothing that it could be the newest of.
            let Some(key) = record.key else { continue };
            let is_newest = self.newest.get(key.as_slice()).is_none_or(|newest| record.offset >= newest);
            if is_newest && (record.value.is_some() || !tombstones_go) {
                kept.push(record.offset);
                tombstones |= record.value.is_none();
            }
        }
        let horizon = tombstones.then(|| self.horizon());
        if kept.is_empty() {
            return Ok(Fate::Goes);
        }
        if kept.len() == header.count as usize && (horizon.is_none() || header.delete_horizon().is_some()) {
            return Ok(Fate::Stays);
        }
        let mut kept = kept.into_iter().peekable();
        batch.retain(horizon, |record| kept.next_if_eq(&record.offset).is_some()).map(Fate::Becomes)
    }

    fn horizon(&self) -> Timestamp {
        self.now.saturating_add(self.delete_retention_ms)
    }
}

/// The batch without its records.
pub(crate) fn emptied(batch: &RecordBatch) -> Result<RecordBatch, BatchError> {
    batch.retain(None, |_| false)
}
