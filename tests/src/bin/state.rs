//! A program with state on disk that does what its standard input says, for tests of what the operating system does to it. The log
//! is in memory.
//!
//! `state FOLDER`, then lines: `write N` writes records of N new keys and one more for each old one; `start` starts the program, `close`
//! ends it in order. Says `running`, `waiting: …`, `counted N` (keys, all as often as they were written), `failed: …` and `closed`, each
//! when it is so.
#![expect(clippy::print_stdout, reason = "a program that answers on its standard output")]

use std::collections::BTreeMap;
use std::io::stdin;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use millstream_core::{Error, Result, RuntimeConfig, State, Streams, SystemClock, Topology};
use millstream_dsl::StreamsBuilder;
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::embedded::Embedded;
use millstream_tests::simulation::Dice;

/// Counts keys, and keeps the last value of each beside its count: a kilobyte on disk.
fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let counts = b.stream::<String, String>("in").group_by_key().aggregate("counts", String::new, |_, value, row| {
        *row = format!("{} {value}", count(row) + 1);
    });
    counts.to_stream().map_values(|row| row.map_or(0, |row| count(&row))).to("out");
    b.build()
}

fn count(row: &str) -> i64 {
    row.split_once(' ').and_then(|(count, _)| count.parse().ok()).unwrap_or(0)
}

struct Session {
    embedded: Embedded,
    written: BTreeMap<String, i64>,
    dice: Dice,
    streams: Option<Streams>,
    has_told: bool,
}

impl Session {
    fn start(&mut self, folder: &Path) -> Result<()> {
        let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: true };
        let config =
            RuntimeConfig { disk: Some(Arc::new(RocksDisk::new(folder, options)?)), ..RuntimeConfig::embedded("app") };
        let log = Arc::new(self.embedded.log.clone());
        let mut streams = Streams::new(program()?, config, log, Arc::new(SystemClock::default()))?;
        streams.on_held_up(|error| println!("waiting: {}", line(error)));
        streams.on_state_change(|_, state| {
            if state == State::Running {
                println!("running");
            }
        });
        streams.start()?;
        self.streams = Some(streams);
        Ok(())
    }

    fn write(&mut self, keys: usize) -> Result<()> {
        let old = self.written.len();
        self.written.extend((old..old + keys).map(|key| (format!("{key:0>8}"), 0)));
        let mut records = Vec::new();
        for (key, count) in &mut self.written {
            *count += 1;
            let value: String = (0..64).map(|_| format!("{:016x}", self.dice.next())).collect();
            records.push((key.clone(), value));
        }
        let records: Vec<_> = records.iter().map(|(key, value)| (0, Some(key.as_str()), value.as_str())).collect();
        self.has_told = false;
        self.embedded.write("in", 0, &records)
    }

    /// Tells when everything is counted.
    fn look(&mut self) -> Result<()> {
        if self.has_told || self.written.is_empty() {
            return Ok(());
        }
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        for (key, count) in self.embedded.read::<String, i64>("out")?.concat() {
            let before = counted.insert(key.clone(), count).unwrap_or(0);
            if count != before + 1 {
                return Err(Error::user(format!("{key} was counted {before} times, and then {count} times")));
            }
        }
        if counted == self.written {
            println!("counted {}", counted.len());
            self.has_told = true;
        }
        Ok(())
    }

    fn end(&mut self) {
        let Some(mut streams) = self.streams.take() else { return };
        match streams.close() {
            Ok(_) => println!("closed"),
            Err(error) => println!("failed: {}", line(&error)),
        }
    }
}

fn line(error: &Error) -> String {
    error.to_string().replace('\n', " ")
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| Error::user("usage: state FOLDER"))?;
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    embedded.create("out", 1)?;
    let mut session =
        Session { embedded, written: BTreeMap::new(), dice: Dice::new(1), streams: None, has_told: false };
    let lines = told();
    loop {
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => match line.split_once(' ').unwrap_or((&line, "")) {
                ("start", _) => {
                    if let Err(error) = session.start(Path::new(&folder)) {
                        println!("failed: {}", self::line(&error));
                    }
                }
                ("write", keys) => session.write(keys.parse().map_err(Error::user)?)?,
                ("close", _) => session.end(),
                _ => return Err(Error::user(format!("{line:?} is nothing to do"))),
            },
            Err(RecvTimeoutError::Timeout) => session.look()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if session.streams.as_ref().is_some_and(|streams| streams.state() == State::Error) {
            session.end();
        }
    }
}

fn told() -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || stdin().lines().map_while(|line| line.ok()).try_for_each(|line| sender.send(line)));
    lines
}
