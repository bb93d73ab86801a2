//! The output side of a task: one open batch per topic partition that it writes to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use millstream_wire::BatchBuilder;

use crate::batch_limits::{BatchLimits, batch_of_one};
use crate::error::{Error, Result};
use crate::log::{LogError, TopicPartition};
use crate::partitioner::partition_for_key;
use crate::time::Timestamp;

/// Index of a topic in a task's [`Collector`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkSlot(usize);

impl SinkSlot {
    /// Stands for a topic that is not there; the task that holds it is never run.
    pub(crate) const fn none() -> Self {
        SinkSlot(usize::MAX)
    }
}

/// Looks a topic up, for topics that are only named while running.
pub(crate) type TargetLookup = Arc<dyn Fn(&str) -> Result<Option<Target>, LogError> + Send + Sync>;

/// What is asked of a topic before records go there.
pub(crate) struct Target {
    pub(crate) partitions: i32,
    /// See [`Admin::max_message_bytes`](crate::Admin::max_message_bytes).
    pub(crate) max_message_bytes: Option<usize>,
}

/// Batches under construction.
pub struct Collector {
    sinks: Vec<Sink>,
    by_topic: HashMap<Arc<str>, SinkSlot>,
    /// Topics that the program has named while running.
    named: Vec<Arc<str>>,
    full: Vec<(SinkSlot, i32, BatchBuilder)>,
    batch_bytes: usize,
    max_request_bytes: usize,
    /// Bytes in batches that are full, so that a task can be stopped before they grow without bound.
    full_bytes: usize,
    lookup: TargetLookup,
    /// The topics that the application keeps for itself.
    internal: Arc<BTreeSet<String>>,
}

struct Sink {
    topic: Arc<str>,
    is_internal: bool,
    open: Vec<BatchBuilder>,
    limits: BatchLimits,
}

impl Collector {
    pub(crate) fn new(
        batch_bytes: usize,
        max_request_bytes: usize,
        lookup: TargetLookup,
        internal: Arc<BTreeSet<String>>,
    ) -> Self {
        Collector {
            sinks: Vec::new(),
            by_topic: HashMap::new(),
            named: Vec::new(),
            full: Vec::new(),
            batch_bytes,
            max_request_bytes,
            full_bytes: 0,
            lookup,
            internal,
        }
    }

    /// The slot of a topic, looked up once per task (or, for topics named while running, once per new name).
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`]: topics are never created by writing to them.
    pub fn slot(&mut self, topic: &str) -> Result<SinkSlot> {
        if let Some(slot) = self.by_topic.get(topic) {
            return Ok(*slot);
        }
        let Target { partitions, max_message_bytes } =
            (self.lookup)(topic)?.ok_or_else(|| Error::from(LogError::UnknownTopic(TopicPartition::new(topic, 0))))?;
        let (slot, topic) = (SinkSlot(self.sinks.len()), Arc::<str>::from(topic));
        let open = (0..partitions).map(|_| BatchBuilder::new()).collect();
        let is_internal = self.internal.contains(&*topic);
        let limits = self.limits(self.batch_bytes, max_message_bytes);
        self.sinks.push(Sink { topic: topic.clone(), is_internal, open, limits });
        self.by_topic.insert(topic, slot);
        Ok(slot)
    }

    /// How large batches of `batch` bytes may be that are written to a topic past the collector.
    pub(crate) fn limits(&self, batch: usize, max_message_bytes: Option<usize>) -> BatchLimits {
        BatchLimits::new(batch, self.max_request_bytes, max_message_bytes)
    }

    /// The slot of a topic that the program names while running. Records of a program's among those that the application keeps
    /// for itself could not be read back.
    ///
    /// # Errors
    /// As [`Collector::slot`], and [`Error::User`] for a topic of the application's own.
    pub fn slot_of_users(&mut self, topic: &str) -> Result<SinkSlot> {
        let known = self.sinks.len();
        let slot = self.slot(topic)?;
        let sink = &self.sinks[slot.0];
        if slot.0 >= known {
            self.named.push(sink.topic.clone());
        }
        if sink.is_internal {
            return Err(Error::user(format!(
                "topic `{topic}` is one of the application's own, for its state or for records on their way\n  help: name another topic"
            )));
        }
        Ok(slot)
    }

    /// Topics that have a slot since the program has named them while running.
    pub(crate) fn named(&self) -> &[Arc<str>] {
        &self.named
    }

    /// Number of partitions of a slot's topic.
    #[inline]
    pub fn partitions(&self, slot: SinkSlot) -> i32 {
        self.sinks[slot.0].open.len() as i32
    }

    /// The partition that Kafka's default partitioner gives a key. A record without a key stays in the partition
    /// number it came from, so that the same input gives the same output however it is cut.
    #[inline]
    pub fn partition(&self, slot: SinkSlot, key: Option<&[u8]>, source_partition: i32) -> i32 {
        let partitions = self.partitions(slot);
        match key {
            Some(key) => partition_for_key(key, partitions),
            None => source_partition.rem_euclid(partitions),
        }
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when no batch may hold it; nothing has been appended then.
    #[inline]
    pub fn send(
        &mut self,
        slot: SinkSlot,
        partition: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
    ) -> Result<()> {
        let bytes = batch_of_one(key, value, headers);
        if self.sinks[slot.0].limits.stands_out(bytes) {
            self.make_room(slot, partition, bytes)?;
        }
        let sink = &mut self.sinks[slot.0];
        let batch = &mut sink.open[partition as usize];
        batch.push(timestamp, key, value, headers);
        if batch.len() >= sink.limits.batch {
            self.close(slot, partition);
        }
        Ok(())
    }

    /// A record that is larger than a batch goes alone, or together with others it might be too large for the log.
    #[cold]
    fn make_room(&mut self, slot: SinkSlot, partition: i32, bytes: usize) -> Result<()> {
        let Sink { topic, open, limits, .. } = &self.sinks[slot.0];
        if let Some(why) = limits.too_large(bytes, || TopicPartition { topic: topic.clone(), partition }) {
            return Err(Error::TooLarge(Box::new(why)));
        }
        if !open[partition as usize].is_empty() {
            self.close(slot, partition);
        }
        Ok(())
    }

    #[cold]
    fn close(&mut self, slot: SinkSlot, partition: i32) {
        let sink = &mut self.sinks[slot.0];
        let next = BatchBuilder::with_capacity(sink.limits.batch + sink.limits.batch / 8);
        let batch = std::mem::replace(&mut sink.open[partition as usize], next);
        self.full_bytes += batch.len();
        self.full.push((slot, partition, batch));
    }

    /// Bytes in full batches that wait to be sent.
    pub(crate) fn full_bytes(&self) -> usize {
        self.full_bytes
    }

    /// Takes the full batches, and with `all` the open ones too, in the order in which they filled.
    pub(crate) fn take(
        &mut self,
        all: bool,
        mut send: impl FnMut(TopicPartition, BatchBuilder) -> Result<()>,
    ) -> Result<()> {
        self.full_bytes = 0;
        for (slot, partition, batch) in self.full.drain(..) {
            send(TopicPartition { topic: self.sinks[slot.0].topic.clone(), partition }, batch)?;
        }
        if all {
            for sink in &mut self.sinks {
                for (partition, batch) in sink.open.iter_mut().enumerate() {
                    if !batch.is_empty() {
                        let next = BatchBuilder::with_capacity(batch.len());
                        let partition = TopicPartition { topic: sink.topic.clone(), partition: partition as i32 };
                        send(partition, std::mem::replace(batch, next))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Drops everything that was not taken.
    pub(crate) fn clear(&mut self) {
        self.full.clear();
        self.full_bytes = 0;
        self.sinks.iter_mut().flat_map(|s| &mut s.open).for_each(|batch| *batch = BatchBuilder::new());
    }
}
