//! The result topics, read to their end: the last value per key, as JSON lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use millstream::broker::Broker;
use millstream::core::{Admin, ConsumerOptions, Isolation, Log, Serde, SerdeContext, TopicPartition, Wakeup};
use millstream::prelude::*;
use serde_json::{Value, json};

use crate::pipeline::{Day, Tour};

/// Follows a result topic: per windowed key the last value that was committed.
pub struct Latest<V: Data> {
    consumer: Box<dyn millstream::core::Consumer>,
    partitions: usize,
    topic: String,
    /// Rows by key and window.
    pub rows: BTreeMap<(String, Timestamp, Timestamp), V>,
}

impl<V: Data<NonNull = V>> Latest<V> {
    /// From the start of a topic.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn new(log: &Broker, topic: &str) -> Result<Self> {
        let options =
            ConsumerOptions { client_id: "results".into(), group: "".into(), isolation: Isolation::ReadCommitted };
        let mut consumer = log.consumer(&options, Arc::new(Wakeup::default()))?;
        let partitions = log.partitions(topic)?.unwrap_or(0);
        consumer.assign(&(0..partitions).map(|p| (TopicPartition::new(topic, p), 0)).collect::<Vec<_>>())?;
        Ok(Latest { consumer, partitions: partitions as usize, topic: topic.to_owned(), rows: BTreeMap::new() })
    }

    /// Reads on to the present end.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn read(&mut self) -> Result<()> {
        let (keys, values) = (<Windowed<String> as Data>::Serde::default(), V::Serde::default());
        for slot in 0..self.partitions {
            loop {
                let fetch = self.consumer.fetch(slot, 1 << 20)?;
                if fetch.batches.is_empty() {
                    break;
                }
                for mut batch in fetch.batches {
                    while let Some(record) = batch.next() {
                        let record = record.map_err(|e| Error::user(e.to_string()))?;
                        let cx = |half| SerdeContext { topic: &self.topic, half };
                        let headers = Headers::new();
                        let key = keys
                            .deserialize(record.key, cx(millstream::core::Half::Key), &headers)
                            .map_err(Error::user)?;
                        let key = (key.key, key.window.start, key.window.end);
                        match record.value {
                            None => drop(self.rows.remove(&key)),
                            value => {
                                let value = values.deserialize(value, cx(millstream::core::Half::Value), &headers);
                                self.rows.insert(key, value.map_err(Error::user)?);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes the final results of all three questions into a folder.
///
/// # Errors
/// When they cannot be read or written.
pub fn write(log: &Broker, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::user)?;
    let mut days: Latest<Day> = Latest::new(log, "carrier-days")?;
    days.read()?;
    lines(&dir.join("carrier-days.jsonl"), days.rows.into_iter().map(|((carrier, start, end), day)| {
        let mean = day.delay as f64 / day.flights as f64;
        json!({ "carrier": carrier, "window_start": start, "window_end": end, "flights": day.flights, "mean_dep_delay": mean, "max_dep_delay": day.max_delay })
    }))?;
    let mut routes: Latest<i64> = Latest::new(log, "route-hours")?;
    routes.read()?;
    lines(&dir.join("route-hours.jsonl"), routes.rows.into_iter().map(|((route, start, end), departures)| {
        let (origin, dest) = route.split_once(' ').unwrap_or((&route, ""));
        json!({ "origin": origin, "dest": dest, "window_start": start, "window_end": end, "departures": departures })
    }))?;
    let mut tours: Latest<Tour> = Latest::new(log, "aircraft-sessions")?;
    tours.read()?;
    lines(&dir.join("aircraft-sessions.jsonl"), tours.rows.into_iter().map(|((tailnum, start, end), tour)| {
        json!({ "tailnum": tailnum, "window_start": start, "window_end": end, "legs": tour.legs, "miles": tour.miles, "manufacturer": tour.manufacturer })
    }))
}

fn lines(path: &Path, rows: impl Iterator<Item = Value>) -> Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path).map_err(Error::user)?);
    for row in rows {
        writeln!(file, "{row}").map_err(Error::user)?;
    }
    file.flush().map_err(Error::user)
}
