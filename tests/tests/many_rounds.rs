//! A program that is opened, works, restores and is closed, over and over: nothing of it stays. Kafka Streams' bugs KAFKA-9603, KAFKA-14432,
//! KAFKA-16089, KAFKA-17203 and KAFKA-17432: files, native memory, producers and threads that were left.
//!
//! By default for 20 seconds; `MILLSTREAM_ROUNDS=10000` for so many rounds. Alone in its process, whose handles and memory it counts.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{ManualClock, Result, RuntimeConfig, Topology};
use millstream_dsl::{SECOND, StreamsBuilder, TimeWindows};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::embedded::{Embedded, folder};
use millstream_tests::usage::{Usage, growth};

/// A table and windows, of two partitions.
fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 2).topic("out", 2);
    let input = b.stream::<String, String>("in");
    input.clone().group_by_key().count("counts").to_stream().to("out");
    input.group_by_key().windowed_by(TimeWindows::of(SECOND)).count("windows");
    b.build()
}

/// Opens everything, works and closes everything.
fn round(folder: &Path, number: i64) -> Result<()> {
    let clock = Arc::new(ManualClock::at(1_000_000 + number));
    // Of the log each life has its own; with rows of another one nothing can be done.
    let embedded = Embedded { log: Broker::open(BrokerOptions::new(folder.join("log"), clock.clone()))?, clock };
    let options = RocksOptions { rows: 1 << 20, blocks: 1 << 20, unflushed: 1 << 20, background: true };
    let disk = Some(Arc::new(RocksDisk::new(&folder.join("state"), options)?) as Arc<_>);
    let mut streams =
        embedded.streams(program()?, RuntimeConfig { disk, threads: 2, ..RuntimeConfig::embedded("app") })?;
    for partition in 0..2 {
        let keys: Vec<String> = (0..50).map(|key| format!("{key}")).collect();
        let records: Vec<_> = keys.iter().map(|key| (number * 100, Some(key.as_str()), "x")).collect();
        embedded.write("in", partition, &records)?;
    }
    streams.start()?;
    streams.drain()?;
    streams.join()?;
    Ok(embedded.log.close()?)
}

/// What this process has open under a folder, and its sockets.
fn open_files(folder: &Path) -> Vec<String> {
    let handles =
        fs::read_dir("/proc/self/fd").expect("Linux").filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
    let names = handles.map(|file| file.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("socket:") || name.starts_with(&*folder.to_string_lossy())).collect()
}

/// Threads of ours; RocksDB keeps its own for the next database.
fn our_threads() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").filter_map(|thread| {
        fs::read_to_string(thread.ok()?.path().join("comm")).ok().map(|name| name.trim().to_owned())
    });
    threads
        .filter(|name| !["many_rounds", "nothing_is_left", "rocksdb:"].iter().any(|other| name.starts_with(other)))
        .collect()
}

#[test]
fn nothing_is_left() -> Result<()> {
    let folder = folder()?;
    let rounds = std::env::var("MILLSTREAM_ROUNDS").ok().and_then(|rounds| rounds.parse::<i64>().ok());
    let began = Instant::now();
    let goes_on = |number| rounds.map_or(began.elapsed() < Duration::from_secs(20), |rounds| number < rounds);
    let mut usage = Vec::new();
    let mut number = 0;
    while goes_on(number) {
        if number % 3 == 2 {
            // All is restored.
            fs::remove_dir_all(folder.path().join("state")).expect("nobody writes there any more");
        }
        if number % 10 == 9 {
            fs::remove_dir_all(folder.path().join("log")).expect("nobody writes there any more");
        }
        round(folder.path(), number)?;
        assert_eq!(open_files(folder.path()), [""; 0], "round {number}");
        // The system lists a thread for a moment after it was joined.
        let ended = Instant::now();
        while !our_threads().is_empty() && ended.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        assert_eq!(our_threads(), [""; 0], "round {number}");
        usage.push(Usage::now().expect("Linux"));
        number += 1;
    }
    assert!(usage.len() > 30, "{} rounds", usage.len());
    // What is made once, and what memory allocators keep, is there after some rounds.
    let warm = &usage[usage.len() / 3..];
    let (first, last) = (warm[0], warm[warm.len() - 1]);
    assert_eq!((first.handles, first.threads), (last.handles, last.threads), "{first:?}, {last:?}");
    let (grown, mean) = (growth(warm.iter().map(|u| u.memory)), first.memory as f64);
    eprintln!("{} rounds, {:.1} MB, {:+.2} MB by the last {}", usage.len(), mean / 1e6, grown / 1e6, warm.len());
    assert!(grown < 0.1 * mean + 2e6, "memory grew by {grown} bytes from {mean} on in {} rounds", warm.len());
    Ok(())
}
