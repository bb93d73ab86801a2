//! Replays the data into the topics. Started again, it goes on where each partition ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::broker::Broker;
use millstream::core::{
    Admin, BatchBuilder, Isolation, Log, Producer, ProducerOptions, TopicPartition, Wakeup, partition_for_key,
};
use millstream::prelude::*;
use serde::Serialize;

use crate::data::{airlines, flights, planes};
use crate::pipeline::PARTITIONS;

/// All partitions' batches leave together after so much scheduled time: no partition is ahead of another by more, as
/// with a real source, and also when the replay is killed.
const BATCH_TIME: Timestamp = 15 * 60_000;

/// Writes all records, `speed` of them a second at most; tells `go_on`, now and then, how many flights there are.
///
/// # Errors
/// When the log refuses them.
pub fn replay(log: &Broker, speed: Option<u32>, mut go_on: impl FnMut(usize) -> bool) -> Result<()> {
    let options = ProducerOptions::plain("replay");
    let mut producer = log.producer(&options, Arc::new(Wakeup::default()))?;
    let mut airlines_topic = Replay::new(log, "airlines", 1)?;
    airlines().iter().try_for_each(|(code, airline)| airlines_topic.add(code, 0, airline))?;
    airlines_topic.send(producer.as_mut())?;
    let mut planes_topic = Replay::new(log, "planes", PARTITIONS)?;
    planes()?.iter().try_for_each(|(tail, plane)| planes_topic.add(tail, 0, plane))?;
    planes_topic.send(producer.as_mut())?;

    let flights = flights()?;
    let mut topic = Replay::new(log, "flights", PARTITIONS)?;
    let began = Instant::now();
    let mut skipped = None;
    let mut sent = 0;
    for (number, flight) in flights.iter().enumerate() {
        if flight.scheduled >= sent + BATCH_TIME {
            topic.send(producer.as_mut())?;
            sent = flight.scheduled;
        }
        topic.add(flight.key(), flight.departure(), flight)?;
        if number % 500 == 499 {
            let first = *skipped.get_or_insert(number);
            if topic.skipping {
                skipped = Some(number);
            }
            if !go_on(flights.len()) {
                return Ok(());
            }
            if let Some(speed) = speed {
                topic.send(producer.as_mut())?;
                let due = Duration::from_secs_f64((number - first) as f64 / f64::from(speed.max(1)));
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
    }
    topic.send(producer.as_mut())
}

/// One topic: what of it is there already, and the batches under construction.
struct Replay {
    partitions: Vec<(TopicPartition, i64, BatchBuilder)>,
    json: Vec<u8>,
    skipping: bool,
}

impl Replay {
    fn new(log: &Broker, topic: &str, partitions: i32) -> Result<Self> {
        let ids = (0..partitions).map(|p| TopicPartition::new(topic, p));
        let there =
            ids.map(|id| Ok((id.clone(), log.end_offset(&id, Isolation::ReadUncommitted)?, BatchBuilder::new())));
        Ok(Replay { partitions: there.collect::<Result<_>>()?, json: Vec::new(), skipping: true })
    }

    /// Adds a record, unless it is in the topic already: every partition has the first so many of its records.
    fn add(&mut self, key: &str, time: Timestamp, value: &impl Serialize) -> Result<()> {
        let partition = partition_for_key(key.as_bytes(), self.partitions.len() as i32);
        let (_, there, batch) = &mut self.partitions[partition as usize];
        if *there > 0 {
            *there -= 1;
            return Ok(());
        }
        self.skipping = false;
        self.json.clear();
        serde_json::to_writer(&mut self.json, value).map_err(Error::user)?;
        batch.push(time, Some(key.as_bytes()), Some(&self.json), &[]);
        Ok(())
    }

    fn send(&mut self, producer: &mut dyn Producer) -> Result<()> {
        for (id, _, batch) in &mut self.partitions {
            // On a full disk, as soon as there is space.
            while !batch.is_empty() {
                match producer.send(id, batch.clone()) {
                    Ok(()) => *batch = BatchBuilder::new(),
                    Err(error) if error.is_retriable() => std::thread::sleep(Duration::from_millis(500)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
