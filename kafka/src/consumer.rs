//! Reading assigned partitions of a cluster.

use std::collections::HashMap;
use std::time::Duration;

use millstream_core::{BatchBuilder, Consumer, Fetch, Headers, LogError, Offset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::error::failed;

/// Messages put into batches before they are asked for.
const AHEAD: usize = 10_000;

/// A partition of which so many bytes wait to be asked for is paused until they are. Going on costs: the client fetches again what it
/// had ahead.
const ROOM: usize = 4 << 20;

pub(crate) struct ClusterConsumer {
    client: BaseConsumer,
    slots: Vec<Slot>,
    by_partition: HashMap<TopicPartition, usize>,
}

struct Slot {
    partition: TopicPartition,
    /// Next offset to hand out.
    position: Offset,
    /// What has arrived since: a batch, and the offset of its first record.
    arrived: BatchBuilder,
    base: Offset,
    next: Offset,
    /// The client brings no more until this is asked for.
    paused: bool,
    /// Whether the last look brought nothing at all.
    idle: bool,
}

impl Slot {
    fn list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.partition.topic, self.partition.partition);
        list
    }
}

impl ClusterConsumer {
    pub(crate) fn new(client: BaseConsumer) -> Self {
        ClusterConsumer { client, slots: Vec::new(), by_partition: HashMap::new() }
    }

    fn assign_all(&self) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for slot in &self.slots {
            let added = list.add_partition_offset(
                &slot.partition.topic,
                slot.partition.partition,
                KafkaOffset::Offset(slot.position),
            );
            added.map_err(|e| failed("assigning", &e))?;
        }
        self.client.assign(&list).map_err(|e| failed("assigning", &e))
    }

    /// Takes what has arrived, for all slots.
    fn poll(&mut self) -> Result<(), LogError> {
        for slot in self.slots.iter_mut().filter(|slot| !slot.paused && slot.arrived.len() > ROOM) {
            self.client.pause(&slot.list()).map_err(|e| failed("pausing", &e))?;
            slot.paused = true;
        }
        let mut taken = 0;
        while taken < AHEAD {
            // The first look waits a moment, so that whoever asks again and again does not spin.
            let wait = if taken == 0 { Duration::from_millis(1) } else { Duration::ZERO };
            let Some(message) = self.client.poll(wait) else { break };
            let message = message.map_err(|e| failed("reading", &e))?;
            taken += 1;
            let id = TopicPartition::new(message.topic(), message.partition());
            let Some(slot) = self.by_partition.get(&id).map(|slot| &mut self.slots[*slot]) else { continue };
            // Left over from before a seek.
            if message.offset() < slot.next {
                continue;
            }
            let mut headers = Headers::new();
            if let Some(found) = message.headers() {
                found.iter().for_each(|h| headers.add(h.key, h.value));
            }
            if slot.arrived.is_empty() {
                slot.base = message.offset();
            }
            let time = message.timestamp().to_millis().unwrap_or(-1);
            slot.arrived.push_at(
                (message.offset() - slot.base) as i32,
                time,
                message.key(),
                message.payload(),
                headers.section(),
            );
            slot.next = message.offset() + 1;
        }
        let idle = taken == 0;
        self.slots.iter_mut().for_each(|slot| slot.idle = idle);
        Ok(())
    }
}

impl Consumer for ClusterConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        let slot = |(partition, position): &(TopicPartition, Offset)| Slot {
            partition: partition.clone(),
            position: *position,
            arrived: BatchBuilder::new(),
            base: *position,
            next: *position,
            paused: false,
            idle: false,
        };
        self.slots = partitions.iter().map(slot).collect();
        self.by_partition = partitions.iter().enumerate().map(|(i, (p, _))| (p.clone(), i)).collect();
        self.assign_all()
    }

    fn seek(&mut self, slot: usize, offset: Offset) {
        let slot = &mut self.slots[slot];
        slot.arrived = BatchBuilder::new();
        (slot.position, slot.next, slot.base) = (offset, offset, offset);
        // A new assignment moves all positions at once, also before anything was fetched. If it fails, so does the
        // next poll.
        let _shows_at_the_next_poll = self.assign_all();
    }

    fn fetch(&mut self, slot: usize, _: usize) -> Result<Fetch, LogError> {
        if self.slots[slot].arrived.is_empty() {
            self.poll()?;
        }
        let slot = &mut self.slots[slot];
        if slot.paused {
            self.client.resume(&slot.list()).map_err(|e| failed("resuming", &e))?;
            slot.paused = false;
        }
        let mut fetch = Fetch::default();
        if !slot.arrived.is_empty() {
            fetch.batches.push(std::mem::take(&mut slot.arrived).into_records(slot.base));
        }
        slot.position = slot.next;
        fetch.position = slot.position;
        // Without a look at the cluster nobody knows: as long as records come, there may be more.
        fetch.end = if slot.idle { slot.position } else { slot.position + 1 };
        Ok(fetch)
    }

    fn look_again(&self) -> Option<Duration> {
        Some(Duration::from_millis(5))
    }
}
