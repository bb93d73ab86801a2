//! What a partition knows of its producers: epochs, open transactions, aborted ones, and so its last stable offset.

use std::collections::HashMap;

use millstream_core::Offset;
use millstream_wire::control::{self, Marker};
use millstream_wire::{BatchHeader, RecordBatch};

/// An aborted transaction: its producer's batches in `first..=last` do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first: Offset,
    pub(crate) last: Offset,
}

/// Transaction state of a partition, derived from its batches alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    epochs: HashMap<i64, i16>,
    /// First offset of every open transaction, by producer id.
    open: HashMap<i64, Offset>,
    aborted: Vec<Aborted>,
}

impl Producers {
    /// Takes a batch into account that has been appended, or read again.
    pub(crate) fn apply(&mut self, batch: &RecordBatch) {
        let header = batch.header();
        if header.producer_id < 0 {
            return;
        }
        let epoch = self.epochs.entry(header.producer_id).or_insert(header.producer_epoch);
        *epoch = (*epoch).max(header.producer_epoch);
        if header.is_control() {
            let first = self.open.remove(&header.producer_id);
            // A marker that cannot be read ends a transaction without a commit.
            let committed = control::decode(batch).is_ok_and(|marker| marker == Marker::Commit);
            if let Some(first) = first.filter(|_| !committed) {
                self.aborted.push(Aborted { producer_id: header.producer_id, first, last: header.base_offset });
            }
        } else if header.is_transactional() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
        }
    }

    /// Whether a producer of this epoch may append here.
    pub(crate) fn allows(&self, producer_id: i64, epoch: i16) -> bool {
        self.epochs.get(&producer_id).is_none_or(|known| epoch >= *known)
    }

    /// Where committed reading ends, given the end of the log.
    pub(crate) fn last_stable(&self, end: Offset) -> Offset {
        self.open.values().copied().min().unwrap_or(end).min(end)
    }

    /// Whether a batch belongs to an aborted transaction.
    #[inline]
    pub(crate) fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && self
                .aborted
                .iter()
                .any(|a| a.producer_id == header.producer_id && (a.first..=a.last).contains(&header.base_offset))
    }

    /// Producers with an open transaction, with their epochs.
    pub(crate) fn open(&self) -> Vec<(i64, i16)> {
        self.open.keys().map(|id| (*id, self.epochs.get(id).copied().unwrap_or(0))).collect()
    }

    /// Forgets aborted transactions below the start of the log.
    pub(crate) fn trim(&mut self, start: Offset) {
        self.aborted.retain(|a| a.last >= start);
    }
}
