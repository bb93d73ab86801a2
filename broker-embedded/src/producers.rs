//! What a partition knows of its producers: epochs and sequence numbers, open transactions, aborted ones, and so its last
//! stable offset.
//!
//! It is asked once per batch. Who has written nothing for a time is forgotten, and may then go on with any sequence number.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use millstream_core::{Offset, Timestamp};
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

/// Producer state of a partition, derived from its batches alone.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
    /// First offsets of the open transactions, with their producers.
    open: BTreeMap<Offset, i64>,
    aborted: AbortedList,
    /// When it is worth looking again for producers to forget.
    next_look: Timestamp,
}

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    /// The newest batches of this epoch, the oldest first.
    recent: VecDeque<Recent>,
    /// Whether the first batch of this epoch must have sequence number 0: it is known to be the first.
    begins: bool,
    /// First offset of the open transaction.
    open: Option<Offset>,
    /// When it was last seen to have written; `None` if it has since.
    idle_since: Option<Timestamp>,
}

/// A batch that may come a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recent {
    /// Negative if it has none.
    last_sequence: i32,
    /// How many records come before the last one.
    delta: i32,
    last_offset: Offset,
}

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A later epoch of its producer has written.
    Fenced,
    /// Batches before it are missing.
    OutOfOrder { expected: i32 },
    /// Its producer has a transaction open, of which it is no part.
    OutsideTransaction,
}

/// As many batches a producer has under way at most (`max.in.flight.requests.per.connection`).
const RECENT: usize = 5;

/// How often at most is looked for producers to forget (`producer.id.expiration.check.interval.ms`).
const LOOK_EVERY: Timestamp = 600_000;

/// Kafka's word for no time.
const NO_TIME: Timestamp = -1;

/// A sequence number and how far behind it another is: they wrap at 2^31 - 1.
pub(crate) fn sequence_after(sequence: i32, by: i64) -> i32 {
    (i64::from(sequence) + by).rem_euclid(1 << 31) as i32
}

/// Up to 1 the aborted transactions were in files of their segments.
const SNAPSHOT_VERSION: i16 = 2;

impl Producers {
    /// Whether a producer has a transaction open.
    pub(crate) fn is_open(&self, id: i64) -> bool {
        self.known.get(&id).is_some_and(|producer| producer.open.is_some())
    }

    /// Takes a batch into account that has been appended, or read again.
    pub(crate) fn apply(&mut self, batch: &RecordBatch) {
        let header = batch.header();
        if header.producer_id < 0 {
            return;
        }
        let producer = self.known.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            recent: VecDeque::new(),
            begins: false,
            open: None,
            idle_since: None,
        });
        if header.producer_epoch > producer.epoch {
            (producer.epoch, producer.begins) = (header.producer_epoch, true);
            producer.recent.clear();
        }
        producer.idle_since = None;
        if header.is_control() {
            let first = producer.open.take();
            first.map(|first| self.open.remove(&first));
            // A marker that cannot be read ends a transaction without a commit.
            let committed = control::decode(batch).is_ok_and(|marker| marker == Marker::Commit);
            if let Some(first) = first.filter(|_| !committed) {
                let last = header.base_offset;
                Arc::make_mut(&mut self.aborted).push(Aborted { producer_id: header.producer_id, first, last });
            }
        } else {
            let delta = header.last_offset_delta;
            let has_sequence = header.base_sequence >= 0;
            let last_sequence = if has_sequence { sequence_after(header.base_sequence, delta.into()) } else { -1 };
            // Without sequence numbers nothing is recognised: the newest batch alone tells where the producer was.
            while producer.recent.len() >= if has_sequence { RECENT } else { 1 } {
                producer.recent.pop_front();
            }
            producer.recent.push_back(Recent { last_sequence, delta, last_offset: header.last_offset() });
            if header.is_transactional() && producer.open.is_none() {
                producer.open = Some(header.base_offset);
                self.open.insert(header.base_offset, header.producer_id);
            }
        }
    }

    /// Whether a batch may be appended; the offset of its first record if it has been already.
    ///
    /// Of a producer that is not known any sequence number is taken: it may have been forgotten.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Option<Offset>, Unfit> {
        let Some(producer) = self.known.get(&header.producer_id) else { return Ok(None) };
        #[cfg(feature = "plant")]
        if millstream_core::Plant::SkipFence.is_set() {
            return Ok(None);
        }
        if header.producer_epoch < producer.epoch {
            return Err(Unfit::Fenced);
        }
        if header.is_control() {
            return Ok(None);
        }
        let is_new_epoch = header.producer_epoch > producer.epoch;
        if header.base_sequence >= 0 {
            let last_sequence = sequence_after(header.base_sequence, header.last_offset_delta.into());
            let again = |r: &&Recent| r.last_sequence == last_sequence && r.delta == header.last_offset_delta;
            if let Some(recent) = producer.recent.iter().rfind(again).filter(|_| !is_new_epoch) {
                return Ok(Some(recent.last_offset - Offset::from(recent.delta)));
            }
        }
        if producer.open.is_some() && !header.is_transactional() {
            return Err(Unfit::OutsideTransaction);
        }
        let expected = match producer.recent.back() {
            Some(last) if !is_new_epoch => (last.last_sequence >= 0).then(|| sequence_after(last.last_sequence, 1)),
            _ => (is_new_epoch || producer.begins).then_some(0),
        };
        match expected.filter(|expected| header.base_sequence >= 0 && header.base_sequence != *expected) {
            Some(expected) => Err(Unfit::OutOfOrder { expected }),
            None => Ok(None),
        }
    }

    /// Forgets producers that have written nothing for a time and have nothing open.
    pub(crate) fn forget_idle(&mut self, now: Timestamp, after: Timestamp) {
        // A clock that was ahead for long enough to be trusted has put the next look off.
        if now < self.next_look && self.next_look <= now.saturating_add(LOOK_EVERY) {
            return;
        }
        self.next_look = now.saturating_add(LOOK_EVERY.min(after));
        self.known.retain(|_, producer| {
            let since = *producer.idle_since.get_or_insert(now);
            producer.open.is_some() || now.saturating_sub(since) < after
        });
        if self.known.len() < self.known.capacity() / 4 {
            self.known.shrink_to_fit();
        }
    }

    /// The newest epoch of each producer that has written here.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (i64, i16)> {
        self.known.iter().map(|(id, producer)| (*id, producer.epoch))
    }

    /// The largest producer id that has written here.
    pub(crate) fn largest_id(&self) -> Option<i64> {
        self.known.keys().max().copied()
    }

    /// From which batch a restart learns where each producer was.
    pub(crate) fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let last = |p: &Producer| LastBatch { offset: p.recent.back().map(|r| r.last_offset), epoch: p.epoch };
        self.known.iter().map(|(id, producer)| (*id, last(producer))).collect()
    }

    /// Forgets aborted transactions, by the offsets of their markers.
    pub(crate) fn forget_aborted(&mut self, markers: &[Offset]) {
        if !markers.is_empty() {
            Arc::make_mut(&mut self.aborted).retain(|a| markers.binary_search(&a.last).is_err());
        }
    }

    /// Where committed reading ends, given the end of the log.
    pub(crate) fn last_stable(&self, end: Offset) -> Offset {
        self.open.first_key_value().map_or(end, |(first, _)| end.min(*first))
    }

    /// The aborted transactions, for reading without the partition's lock.
    pub(crate) fn aborted(&self) -> AbortedList {
        self.aborted.clone()
    }

    /// Producers with an open transaction, with their epochs.
    pub(crate) fn open(&self) -> Vec<(i64, i16)> {
        let mut open: Vec<_> = self.open.values().filter_map(|id| self.known.get(id).map(|p| (*id, p.epoch))).collect();
        open.sort_unstable();
        open
    }

    /// Forgets aborted transactions below the start of the log.
    pub(crate) fn trim(&mut self, start: Offset) {
        if self.aborted.first().is_some_and(|a| a.last < start) {
            Arc::make_mut(&mut self.aborted).retain(|a| a.last >= start);
        }
    }

    /// The producers in the layout of Kafka's `.snapshot` files, which knows of the newest batch alone; behind them what
    /// Kafka finds out again, does without or has in files of its own: the batches before, and the aborted transactions.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(4 + self.known.len() * 64);
        entries.extend((self.known.len() as i32).to_be_bytes());
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_unstable_by_key(|(id, _)| **id);
        for (id, producer) in &known {
            let last = producer.recent.back().copied();
            let last = last.unwrap_or(Recent { last_sequence: -1, delta: 0, last_offset: -1 });
            entries.extend(id.to_be_bytes());
            entries.extend(producer.epoch.to_be_bytes());
            entries.extend(last.last_sequence.to_be_bytes());
            entries.extend(last.last_offset.to_be_bytes());
            entries.extend(last.delta.to_be_bytes());
            entries.extend(producer.idle_since.unwrap_or(NO_TIME).to_be_bytes());
            entries.extend(0i32.to_be_bytes());
            entries.extend(producer.open.unwrap_or(-1).to_be_bytes());
        }
        for (_, producer) in known {
            let before = producer.recent.len().saturating_sub(1);
            entries.push(u8::from(producer.begins));
            entries.push(before as u8);
            for recent in producer.recent.iter().take(before) {
                entries.extend(recent.last_sequence.to_be_bytes());
                entries.extend(recent.delta.to_be_bytes());
                entries.extend(recent.last_offset.to_be_bytes());
            }
        }
        entries.extend((self.aborted.len() as i32).to_be_bytes());
        for aborted in self.aborted.iter() {
            entries.extend(aborted.producer_id.to_be_bytes());
            entries.extend(aborted.first.to_be_bytes());
            entries.extend(aborted.last.to_be_bytes());
        }
        let mut bytes = SNAPSHOT_VERSION.to_be_bytes().to_vec();
        bytes.extend(crc32c::crc32c(&entries).to_be_bytes());
        bytes.extend(entries);
        bytes
    }

    /// Reads a snapshot; `None` if it is damaged.
    pub(crate) fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let (head, entries) = (bytes.get(..6)?, &bytes[6..]);
        let crc = u32::from_be_bytes(head[2..].try_into().ok()?);
        if head[..2] != SNAPSHOT_VERSION.to_be_bytes() || crc32c::crc32c(entries) != crc {
            return None;
        }
        let mut fields = crate::fields::Fields(entries);
        let mut read = Vec::new();
        for _ in 0..fields.i32()? {
            let (id, epoch) = (fields.i64()?, fields.i16()?);
            let (last_sequence, last_offset, delta) = (fields.i32()?, fields.i64()?, fields.i32()?);
            let idle_since = Some(fields.i64()?).filter(|time| *time != NO_TIME);
            fields.i32()?;
            let open = Some(fields.i64()?).filter(|first| *first >= 0);
            let last = Some(Recent { last_sequence, delta, last_offset }).filter(|_| last_offset >= 0);
            read.push((id, Producer { epoch, recent: last.into_iter().collect(), begins: false, open, idle_since }));
        }
        for (_, producer) in &mut read {
            producer.begins = fields.i8()? != 0;
            for place in 0..usize::try_from(fields.i8()?).ok()? {
                let (last_sequence, delta, last_offset) = (fields.i32()?, fields.i32()?, fields.i64()?);
                producer.recent.insert(place, Recent { last_sequence, delta, last_offset });
            }
        }
        let mut aborted = Vec::new();
        for _ in 0..fields.i32()? {
            aborted.push(Aborted { producer_id: fields.i64()?, first: fields.i64()?, last: fields.i64()? });
        }
        let open = read.iter().filter_map(|(id, producer)| Some((producer.open?, *id))).collect();
        Some(Producers { known: read.into_iter().collect(), open, aborted: Arc::new(aborted), next_look: 0 })
    }
}
