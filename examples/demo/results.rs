//! The result topics: read to their end as answers in brief, or written to files as JSON lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream::broker::Broker;
use millstream::core::{
    Admin, Consumer, ConsumerOptions, Half, Isolation, Log, Offset, Serde, SerdeContext, TopicPartition, Wakeup,
};
use millstream::prelude::*;
use serde_json::{Value, json};

use crate::answers::{Answers, Session};
use crate::pipeline::{Day, Tour};

/// The topics of the three results, which are also the names of their files.
pub const TOPICS: [&str; 3] = ["carrier-days", "route-hours", "aircraft-sessions"];

/// A result topic, read on from where the last reading ended: what was committed.
struct Results<V: Data> {
    consumer: Box<dyn Consumer>,
    /// What is read next.
    positions: Vec<(TopicPartition, Offset)>,
    topic: &'static str,
    keys: <Windowed<String> as Data>::Serde,
    values: V::Serde,
}

impl<V: Data<NonNull = V>> Results<V> {
    fn new(log: &Broker, topic: &'static str) -> Result<Self> {
        let options =
            ConsumerOptions { client_id: "results".into(), group: "".into(), isolation: Isolation::ReadCommitted };
        let mut consumer = log.consumer(&options, Arc::new(Wakeup::default()))?;
        let partitions = log.partitions(topic)?.unwrap_or(0);
        let positions: Vec<_> = (0..partitions).map(|p| (TopicPartition::new(topic, p), 0)).collect();
        consumer.assign(&positions)?;
        Ok(Results { consumer, positions, topic, keys: Default::default(), values: V::Serde::default() })
    }

    /// Leaves out what is more than so many offsets before a partition's end.
    fn skip_to_tail(&mut self, log: &Broker, most: Offset) -> Result<()> {
        for (slot, (id, position)) in self.positions.iter().enumerate() {
            let tail = log.end_offset(id, Isolation::ReadCommitted)? - most;
            if tail > *position {
                self.consumer.seek(slot, tail);
            }
        }
        Ok(())
    }

    /// Reads to the present end: time, key and value of every record.
    fn read(&mut self, mut each: impl FnMut(Timestamp, Windowed<String>, Option<V>)) -> Result<()> {
        let headers = Headers::new();
        let cx = |half| SerdeContext { topic: self.topic, half };
        for (slot, (_, position)) in self.positions.iter_mut().enumerate() {
            loop {
                let fetch = self.consumer.fetch(slot, 1 << 20)?;
                *position = fetch.position;
                if fetch.batches.is_empty() {
                    break;
                }
                for mut batch in fetch.batches {
                    while let Some(record) = batch.next() {
                        let record = record.map_err(|e| Error::user(e.to_string()))?;
                        let key = self.keys.deserialize(record.key, cx(Half::Key), &headers).map_err(Error::user)?;
                        let value = record.value.map(|v| self.values.deserialize(Some(v), cx(Half::Value), &headers));
                        each(record.timestamp, key, value.transpose().map_err(Error::user)?);
                    }
                }
            }
        }
        Ok(())
    }
}

/// All three result topics, for the answers in brief.
pub struct Reader {
    days: Results<Day>,
    routes: Results<i64>,
    tours: Results<Tour>,
}

impl Reader {
    /// From the start of the topics.
    ///
    /// # Errors
    /// When there are no such topics.
    pub fn new(log: &Broker) -> Result<Self> {
        let [days, routes, tours] = TOPICS;
        Ok(Reader {
            days: Results::new(log, days)?,
            routes: Results::new(log, routes)?,
            tours: Results::new(log, tours)?,
        })
    }

    /// Leaves out what is more than so many offsets before each partition's end.
    ///
    /// # Errors
    /// When the log cannot say where the topics end.
    pub fn skip_to_tail(&mut self, log: &Broker, most: Offset) -> Result<()> {
        self.days.skip_to_tail(log, most)?;
        self.routes.skip_to_tail(log, most)?;
        self.tours.skip_to_tail(log, most)
    }

    /// Reads on to the present end.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn read(&mut self, answers: &mut Answers) -> Result<()> {
        let Answers { carriers, routes, aircraft, reached } = answers;
        self.days.read(|time, key, day| {
            *reached = time.max(*reached);
            if let Some(day) = day {
                carriers.take(key.key, key.window.start, day);
            }
        })?;
        self.routes.read(|_, key, departures| {
            if let Some(departures) = departures {
                routes.take(key.key, key.window.start, departures);
            }
        })?;
        self.tours.read(|_, Windowed { key, window }, tour| {
            if let Some(tour) = tour {
                aircraft.take(key, Session { start: window.start, end: window.end, tour });
            }
        })
    }
}

/// Writes the final results of all three questions into a folder.
///
/// # Errors
/// When they cannot be read or written.
pub fn write(log: &Broker, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::user)?;
    let [days, routes, tours] = TOPICS;
    last_values(
        log,
        days,
        dir,
        |carrier, window, day: Day| json!({ "carrier": carrier, "window_start": window.start, "window_end": window.end, "flights": day.flights, "mean_dep_delay": day.mean(), "max_dep_delay": day.max_delay }),
    )?;
    last_values(log, routes, dir, |route, window, departures: i64| {
        let (origin, dest) = route.split_once(' ').unwrap_or((route, ""));
        json!({ "origin": origin, "dest": dest, "window_start": window.start, "window_end": window.end, "departures": departures })
    })?;
    last_values(
        log,
        tours,
        dir,
        |tailnum, window, tour: Tour| json!({ "tailnum": tailnum, "window_start": window.start, "window_end": window.end, "legs": tour.legs, "miles": tour.miles, "manufacturer": tour.manufacturer }),
    )
}

/// Writes the last value per key of a topic, in the order of keys.
fn last_values<V: Data<NonNull = V>>(
    log: &Broker,
    topic: &'static str,
    dir: &Path,
    line: impl Fn(&str, Window, V) -> Value,
) -> Result<()> {
    let mut rows = BTreeMap::new();
    Results::new(log, topic)?.read(|_, key, value| {
        match value {
            None => rows.remove(&key),
            Some(value) => rows.insert(key, value),
        };
    })?;
    let mut file = std::io::BufWriter::new(fs::File::create(file(dir, topic)).map_err(Error::user)?);
    for (key, value) in rows {
        writeln!(file, "{}", line(&key.key, key.window, value)).map_err(Error::user)?;
    }
    file.flush().map_err(Error::user)
}

/// Where [`write()`] puts a topic's results.
pub fn file(dir: &Path, topic: &str) -> PathBuf {
    dir.join(topic).with_extension("jsonl")
}
