//! A process with a gigabyte of state is killed, and its next life is timed from its start to its first output.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{Admin as _, Error, Isolation, Result, State, Streams, SystemClock, TopicPartition};

use super::restore::{VALUE, send, streams};
use crate::child::COMMAND;
use crate::log::{PARTITIONS, create};
use crate::processed::processed;
use crate::store::Store;
use crate::table::Row;

/// Where the lives find log and state, and how many rows there are.
const FOLDER: &str = "MILLSTREAM_BENCH_RESTART";

/// Lives that are killed and followed by another.
const LIVES: usize = 3;

/// Fills a state of so many bytes, kills its process, and starts it again, some times.
pub(crate) fn after_kill(bytes: u64) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir().map_err(Error::user)?;
    let rows = bytes / (16 + VALUE);
    let mut first = Life::begin("first", dir.path(), rows)?;
    first.hears("ready")?;
    first.kill()?;
    let mut times: Vec<Vec<(String, f64)>> = Vec::new();
    for _ in 0..LIVES {
        let began = Instant::now();
        let mut life = Life::begin("next", dir.path(), rows)?;
        let mut seen = Vec::new();
        for what in ["open", "made", "running", "output"] {
            life.hears(what)?;
            seen.push((what.to_owned(), began.elapsed().as_secs_f64() * 1e3));
        }
        times.push(seen);
        // It has gone on to change rows, so that the next has something to read again.
        life.hears("ready")?;
        life.kill()?;
    }
    let mut made = Vec::new();
    for (at, what) in ["log open", "program made", "state restored", "first output"].into_iter().enumerate() {
        let mut ms: Vec<f64> = times.iter().map(|seen| seen[at].1).collect();
        ms.sort_by(f64::total_cmp);
        made.push(Row {
            name: format!("after kill -9, until: {what}"),
            keys: rows,
            figure: ms[LIVES / 2],
            unit: "ms".into(),
            bound: (at == 3).then_some((1000.0, false)),
            ..Row::default()
        });
    }
    Ok(made)
}

/// A process.
struct Life {
    process: Child,
    says: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Life {
    fn begin(which: &str, folder: &Path, rows: u64) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().map_err(Error::user)?);
        command.args([COMMAND, &format!("restart/{which}"), "1"]);
        command.env(FOLDER, format!("{rows}:{}", folder.display()));
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(Error::user)?;
        let out = process.stdout.take().ok_or_else(|| Error::user("no pipe"))?;
        Ok(Life { process, says: BufReader::new(out).lines() })
    }

    fn hears(&mut self, wanted: &str) -> Result<()> {
        match self.says.next() {
            Some(Ok(line)) if line == wanted => Ok(()),
            other => Err(Error::user(format!("instead of `{wanted}` the process said {other:?}"))),
        }
    }

    fn kill(mut self) -> Result<()> {
        self.process.kill().and_then(|()| self.process.wait()).map(drop).map_err(Error::user)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _over = self.process.kill().and_then(|()| self.process.wait());
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads it there")]
fn say(what: &str) {
    println!("{what}");
}

/// The process that is killed: the first fills the state, the next ones wait for an output.
pub(crate) fn life(which: &str) -> Result<Vec<Row>> {
    let setup = std::env::var(FOLDER).map_err(Error::user)?;
    let (rows, folder) = setup.split_once(':').ok_or_else(|| Error::user("no folder"))?;
    let (rows, folder) = (rows.parse::<u64>().map_err(Error::user)?, Path::new(folder));
    let log = Broker::open(BrokerOptions::new(folder.join("log"), Arc::new(SystemClock::default())))?;
    if which == "first" {
        create(&log, "in")?;
        send(&log, 0..rows, VALUE)?;
        let mut streams = streams(&log, Store::RocksDb, &folder.join("state"))?;
        streams.start()?;
        processed(&mut streams, rows)?;
        return go_on(&log, &mut streams, rows);
    }
    say("open");
    let ends = || -> Result<i64> {
        let ends = (0..PARTITIONS).map(|p| log.end_offset(&TopicPartition::new("out", p), Isolation::ReadCommitted));
        Ok(ends.sum::<Result<i64, _>>()?)
    };
    let before = ends()?;
    let mut streams = streams(&log, Store::RocksDb, &folder.join("state"))?;
    say("made");
    streams.start()?;
    send(&log, 0..1, VALUE)?;
    let (mut runs, mut out) = (false, false);
    while !out {
        if streams.state() == State::Error {
            streams.join()?;
        }
        if !runs && streams.state() == State::Running {
            say("running");
            runs = true;
        }
        out = runs && ends()? > before;
        std::thread::sleep(Duration::from_micros(500));
    }
    say("output");
    go_on(&log, &mut streams, rows)
}

/// Changes some rows commit by commit, so that not all of them are in files, and waits for its end.
fn go_on(log: &Broker, streams: &mut Streams, rows: u64) -> Result<Vec<Row>> {
    let mut random = crate::random::Random(3);
    for _ in 0..20 {
        let before = streams.counters().process;
        let part = rows / 400;
        send(log, (0..part).map(|_| random.next() % rows), VALUE)?;
        processed(streams, before + part)?;
        std::thread::sleep(Duration::from_millis(120));
    }
    say("ready");
    std::thread::sleep(Duration::from_secs(3600));
    Ok(Vec::new())
}
