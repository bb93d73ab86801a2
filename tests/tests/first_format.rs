//! What the first format has written opens: log, changelogs and state of a program for each kind of store (`tests/fixtures/format-1`). Kafka
//! Streams' bugs KAFKA-10173 and KAFKA-13769: an upgrade that could not read what the version before had left.
//!
//! `MILLSTREAM_FIXTURES=write` writes them, which a new format does beside those that are there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{Error, ManualClock, Result, RuntimeConfig};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::{Embedded, folder};
use millstream_tests::stored::{PROGRAMS, Stored};

const SEED: u64 = 11;
const RECORDS: usize = 25;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1")
}

fn open(folder: &Path) -> Result<Embedded> {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let options = BrokerOptions { threads: false, ..BrokerOptions::new(folder.join("log"), clock.clone()) };
    Ok(Embedded { log: Broker::open(options)?, clock })
}

/// Processes what there is, with state on disk or without. Returns how many records were restored.
fn run(embedded: Embedded, folder: &Path, stored: &Stored, on_disk: bool) -> Result<(Embedded, u64)> {
    let mut config = RuntimeConfig::embedded("app");
    if on_disk {
        let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
        config.disk = Some(Arc::new(RocksDisk::new(&folder.join("state"), options)?));
    }
    let mut program = ByHand::new(embedded, stored.topology()?, config)?;
    program.run()?;
    let restored = program.thread()?.counters().restore;
    program.close()?;
    Ok((program.embedded, restored))
}

#[test]
fn what_it_has_written_opens() -> Result<()> {
    if std::env::var_os("MILLSTREAM_FIXTURES").is_some_and(|what| what == "write") {
        programs().try_for_each(write)?;
    }
    for program in programs() {
        for on_disk in [true, false] {
            let folder = folder()?;
            copy(&fixtures().join(program.0), folder.path()).map_err(Error::user)?;
            let mut stored = Stored::there(program, SEED);
            stored.next(RECORDS);
            let embedded = open(folder.path())?;
            stored.write(&embedded, RECORDS)?;
            let (embedded, restored) = run(embedded, folder.path(), &stored, on_disk)?;
            assert_eq!(stored.difference(&embedded)?, None, "{program:?}, on disk: {on_disk}");
            // Versions lie in another order now, and are read from their changelog once more.
            let is_there = on_disk && program.0 != "versioned-table";
            assert_eq!(restored == 0, is_there, "{program:?} has restored {restored}");
        }
    }
    Ok(())
}

/// One for each kind of store.
fn programs() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let kinds = [
        "count",
        "tumbling-count",
        "session-count",
        "suppress-until-window-closes",
        "versioned-table",
        "stream-stream-outer-join",
    ];
    PROGRAMS.into_iter().filter(move |(name, _)| kinds.contains(name))
}

fn write(program: (&'static str, &'static [&'static str])) -> Result<()> {
    let folder = fixtures().join(program.0);
    fs::create_dir_all(&folder).map_err(Error::user)?;
    let embedded = open(&folder)?;
    let mut stored = Stored::new(program, SEED, &embedded)?;
    stored.write(&embedded, RECORDS)?;
    let (embedded, _) = run(embedded, &folder, &stored, true)?;
    embedded.log.close()?;
    // What says where and when, and nobody reads.
    remove(&folder, |name| {
        name == ".lock" || name == "LOCK" || name == "IDENTITY" || name == "LOG" || name.starts_with("OPTIONS")
    })
    .map_err(Error::user)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?.path(), to.to_owned());
        let to = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            copy(&entry, &to)?;
        } else {
            fs::copy(&entry, &to)?;
        }
    }
    Ok(())
}

fn remove(folder: &Path, is_gone: fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?.path();
        if entry.is_dir() {
            remove(&entry, is_gone)?;
        } else if entry.file_name().is_some_and(|name| is_gone(&name.to_string_lossy())) {
            fs::remove_file(&entry)?;
        }
    }
    Ok(())
}
