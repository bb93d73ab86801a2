//! What a partition knows of its producers: epochs, open transactions, aborted ones, and so its last stable offset.

use std::collections::HashMap;
use std::sync::Arc;

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

/// Aborted transactions in the order of their markers.
pub(crate) type AbortedList = Arc<Vec<Aborted>>;

/// Whether a batch belongs to an aborted transaction.
#[inline]
pub(crate) fn is_aborted(aborted: &[Aborted], header: &BatchHeader) -> bool {
    header.is_transactional() && {
        let from = aborted.partition_point(|a| a.last < header.base_offset);
        aborted[from..].iter().any(|a| a.producer_id == header.producer_id && a.first <= header.base_offset)
    }
}

/// The batch that tells where a producer was: that of its last record, or a marker of its epoch if it has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastBatch {
    offset: Option<Offset>,
    epoch: i16,
}

impl LastBatch {
    pub(crate) fn is(&self, header: &BatchHeader) -> bool {
        match self.offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == self.epoch,
        }
    }
}

/// Transaction state of a partition, derived from its batches alone.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
    aborted: AbortedList,
}

#[derive(Debug, Clone, Copy)]
struct Producer {
    epoch: i16,
    last_sequence: i32,
    last_offset: Offset,
    last_time: i64,
    /// First offset of the open transaction.
    open: Option<Offset>,
}

const SNAPSHOT_VERSION: i16 = 1;

impl Producers {
    /// Takes a batch into account that has been appended, or read again.
    pub(crate) fn apply(&mut self, batch: &RecordBatch) {
        let header = batch.header();
        if header.producer_id < 0 {
            return;
        }
        let producer = self.known.entry(header.producer_id).or_insert(Producer {
            epoch: header.producer_epoch,
            last_sequence: -1,
            last_offset: -1,
            last_time: -1,
            open: None,
        });
        if header.producer_epoch > producer.epoch {
            (producer.epoch, producer.last_sequence, producer.last_offset) = (header.producer_epoch, -1, -1);
        }
        producer.last_time = header.max_timestamp;
        if header.is_control() {
            let first = producer.open.take();
            // A marker that cannot be read ends a transaction without a commit.
            let committed = control::decode(batch).is_ok_and(|marker| marker == Marker::Commit);
            if let Some(first) = first.filter(|_| !committed) {
                let last = header.base_offset;
                Arc::make_mut(&mut self.aborted).push(Aborted { producer_id: header.producer_id, first, last });
            }
        } else {
            producer.last_offset = header.last_offset();
            if header.base_sequence >= 0 {
                let last = i64::from(header.base_sequence) + (header.last_offset() - header.base_offset);
                // Sequence numbers wrap at 2^31 - 1.
                producer.last_sequence = last.rem_euclid(1 << 31) as i32;
            }
            if header.is_transactional() {
                producer.open.get_or_insert(header.base_offset);
            }
        }
    }

    /// From which batch a restart learns where each producer was.
    pub(crate) fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let last = |p: &Producer| LastBatch { offset: Some(p.last_offset).filter(|o| *o >= 0), epoch: p.epoch };
        self.known.iter().map(|(id, producer)| (*id, last(producer))).collect()
    }

    /// Forgets aborted transactions, by the offsets of their markers.
    pub(crate) fn forget_aborted(&mut self, markers: &[Offset]) {
        if !markers.is_empty() {
            Arc::make_mut(&mut self.aborted).retain(|a| markers.binary_search(&a.last).is_err());
        }
    }

    /// Whether a producer of this epoch may append here.
    pub(crate) fn allows(&self, producer_id: i64, epoch: i16) -> bool {
        #[cfg(feature = "plant")]
        if millstream_core::Plant::SkipFence.is_set() {
            return true;
        }
        self.known.get(&producer_id).is_none_or(|known| epoch >= known.epoch)
    }

    /// Where committed reading ends, given the end of the log.
    pub(crate) fn last_stable(&self, end: Offset) -> Offset {
        self.known.values().filter_map(|p| p.open).min().unwrap_or(end).min(end)
    }

    /// The aborted transactions, for reading without the partition's lock.
    pub(crate) fn aborted(&self) -> AbortedList {
        self.aborted.clone()
    }

    /// Producers with an open transaction, with their epochs.
    pub(crate) fn open(&self) -> Vec<(i64, i16)> {
        let mut open: Vec<_> =
            self.known.iter().filter(|(_, p)| p.open.is_some()).map(|(id, p)| (*id, p.epoch)).collect();
        open.sort_unstable();
        open
    }

    /// Forgets aborted transactions below the start of the log.
    pub(crate) fn trim(&mut self, start: Offset) {
        if self.aborted.first().is_some_and(|a| a.last < start) {
            Arc::make_mut(&mut self.aborted).retain(|a| a.last >= start);
        }
    }

    /// The producers in the layout of Kafka's `.snapshot` files, and behind them how many aborted transactions there are,
    /// with their checksum: these are in files of their own, which have none.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(4 + self.known.len() * 50);
        entries.extend((self.known.len() as i32).to_be_bytes());
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_unstable_by_key(|(id, _)| **id);
        for (id, producer) in known {
            entries.extend(id.to_be_bytes());
            entries.extend(producer.epoch.to_be_bytes());
            entries.extend(producer.last_sequence.to_be_bytes());
            entries.extend(producer.last_offset.to_be_bytes());
            entries.extend(0i32.to_be_bytes());
            entries.extend(producer.last_time.to_be_bytes());
            entries.extend(0i32.to_be_bytes());
            entries.extend(producer.open.unwrap_or(-1).to_be_bytes());
        }
        entries.extend((self.aborted.len() as i32).to_be_bytes());
        entries.extend(checksum(&self.aborted).to_be_bytes());
        let mut bytes = SNAPSHOT_VERSION.to_be_bytes().to_vec();
        bytes.extend(crc32c::crc32c(&entries).to_be_bytes());
        bytes.extend(entries);
        bytes
    }

    /// Reads a snapshot, and `aborted` from elsewhere; `None` if one of them is damaged.
    pub(crate) fn from_snapshot(bytes: &[u8], aborted: Vec<Aborted>) -> Option<Self> {
        let (head, entries) = (bytes.get(..6)?, &bytes[6..]);
        let crc = u32::from_be_bytes(head[2..].try_into().ok()?);
        if head[..2] != SNAPSHOT_VERSION.to_be_bytes() || crc32c::crc32c(entries) != crc {
            return None;
        }
        let mut fields = crate::groups::Fields(entries);
        let mut known = HashMap::new();
        for _ in 0..fields.i32()? {
            let (id, epoch) = (fields.i64()?, fields.i16()?);
            let (last_sequence, last_offset) = (fields.i32()?, fields.i64()?);
            fields.i32()?;
            let last_time = fields.i64()?;
            fields.i32()?;
            let open = Some(fields.i64()?).filter(|first| *first >= 0);
            known.insert(id, Producer { epoch, last_sequence, last_offset, last_time, open });
        }
        let whole = fields.i32()? as usize == aborted.len() && fields.i32()? as u32 == checksum(&aborted);
        whole.then(|| Producers { known, aborted: Arc::new(aborted) })
    }
}

fn checksum(aborted: &[Aborted]) -> u32 {
    let numbers = aborted.iter().flat_map(|a| [a.producer_id, a.first, a.last]);
    numbers.fold(0, |crc, number| crc32c::crc32c_append(crc, &number.to_be_bytes()))
}
