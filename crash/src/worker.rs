//! The process that is killed: log and application in one, told by lines on standard input what to do.
//!
//! ```text
//! in    feed TOPIC PARTITION COUNT · takeover · drain
//! out   open · have TOPIC PARTITION COUNT · running · ack TOPIC PARTITION COUNT · commit · torn FILE · fenced ERROR
//!       took-over · failed ERROR · done
//! ```
//!
//! `have` is how many records of an input there are; `ack` says the same as soon as they are acknowledged.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_broker::Broker;
use millstream_core::{
    Admin as _, BatchBuilder, Error, Files, Isolation, Log, OsFiles, Result, State, Streams, SystemClock,
    TopicPartition, Uncaught,
};
use millstream_wire::SealOptions;

use crate::program::program;
use crate::setup::Setup;
use crate::told_commits::ToldCommits;
use crate::torn_files::TornFiles;
use crate::workload::{INPUTS, PARTITIONS, input};

/// What a worker is started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Of the round.
    pub(crate) seed: u64,
    /// Of the round: log and state are in it.
    pub(crate) folder: PathBuf,
    /// Tells when this commit begins; 0 is never.
    pub(crate) commit: u64,
    /// Stops in this write to the log; 0 is never.
    pub(crate) write: u64,
    /// After so many percent of it.
    pub(crate) percent: u64,
    /// Number of the folder that state is in.
    pub(crate) state: u64,
}

/// Says a line to the parent.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Without a parent there is nobody to tell.
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace('\n', " ")
}

/// Runs until the end of standard input, or until everything is drained.
///
/// # Errors
/// Whatever the log or the application ends with.
pub(crate) fn work(options: &Options) -> Result<()> {
    let setup = Setup::of(options.seed);
    let files: Arc<dyn Files> = match options.write {
        0 => Arc::new(OsFiles),
        number => Arc::new(TornFiles::new(number, options.percent, |path| say(&format!("torn {}", path.display())))),
    };
    let broker = Broker::open(setup.broker(&options.folder, files))?;
    say("open");
    let log: Arc<dyn Log> = Arc::new(ToldCommits::new(Arc::new(broker.clone()), options.commit, || say("commit")));
    let mut application = Application { setup, log, first: None, second: None };
    application.first = Some(application.start(&state_folder(&options.folder, options.state), false)?);
    let mut fed = Vec::new();
    for topic in INPUTS {
        for partition in 0..PARTITIONS {
            let place = TopicPartition::new(topic, partition);
            let end = broker.end_offset(&place, Isolation::ReadCommitted)?;
            say(&format!("have {topic} {partition} {end}"));
            fed.push((place, end));
        }
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::user)?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["feed", topic, partition, count] => {
                let number = |text: &str| text.parse::<i64>().map_err(Error::user);
                let wanted = TopicPartition::new(topic, number(partition)? as i32);
                let found = fed.iter_mut().find(|(place, _)| *place == wanted);
                let (place, next) = found.ok_or_else(|| Error::user(format!("no input {wanted}")))?;
                let end = feed(&broker, options.seed, place, *next, number(count)?)?;
                *next = end;
                say(&format!("ack {topic} {partition} {end}"));
            }
            ["takeover"] => {
                application.second = Some(application.start(&state_folder(&options.folder, 1 - options.state), true)?);
                say("took-over");
            }
            ["drain"] => {
                application.drain()?;
                broker.close()?;
                say("done");
                return Ok(());
            }
            _ => return Err(Error::user(format!("unknown: {line}"))),
        }
    }
    Ok(())
}

fn state_folder(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("state-{number}"))
}

/// Appends the next input records of a partition; they are acknowledged when this returns. Returns how many there are.
fn feed(broker: &Broker, seed: u64, place: &TopicPartition, from: i64, count: i64) -> Result<i64> {
    let mut batch = BatchBuilder::new();
    for seq in from..from + count {
        let (key, value) = input(seed, &place.topic, place.partition, seq);
        batch.push(1_000_000 + seq, key.as_deref().map(str::as_bytes), Some(&value), &[]);
    }
    let bytes = batch.seal(&SealOptions::default()).map_err(|e| Error::user(e.to_string()))?;
    let offset = broker.append(place, &bytes)?;
    if offset != from {
        return Err(Error::user(format!("{place}: record {from} got offset {offset}")));
    }
    Ok(from + count)
}

/// One instance of the application, or two: then the first is a zombie.
struct Application {
    setup: Setup,
    log: Arc<dyn Log>,
    first: Option<Streams>,
    second: Option<Streams>,
}

impl Application {
    fn start(&self, state: &Path, is_second: bool) -> Result<Streams> {
        let clock = Arc::new(SystemClock::default());
        let mut streams = Streams::new(program()?, self.setup.config(state)?, self.log.clone(), clock)?;
        streams.on_state_change(move |_, state| {
            if state == State::Running && !is_second {
                say("running");
            }
        });
        streams.on_uncaught(|error| {
            let is_fenced = matches!(error, Error::Log(log) if log.is_task_migrated());
            say(&format!("{} {}", if is_fenced { "fenced" } else { "failed" }, one_line(error)));
            Uncaught::StopClient
        });
        streams.start()?;
        Ok(streams)
    }

    /// Processes all that there is. A zombie has nothing to say any more.
    fn drain(&mut self) -> Result<()> {
        if self.second.is_some()
            && let Some(mut zombie) = self.first.take()
        {
            let _fenced = zombie.close();
        }
        for streams in [&mut self.first, &mut self.second].into_iter().flatten() {
            streams.drain()?;
            streams.join()?;
        }
        Ok(())
    }
}
