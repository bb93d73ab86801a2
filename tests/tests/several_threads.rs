//! A count over four partitions behind a change of key equals a plain fold over the records, with one, two and four
//! threads, and however often the application is stopped, or fails, on the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use millstream_core::{Result, RuntimeConfig, State, Stopper, Topology};
use millstream_dsl::StreamsBuilder;
use millstream_tests::embedded::Embedded;

const PARTITIONS: i32 = 4;
const PER_PARTITION: usize = 2_000;

/// The records of a partition: words of which each is in every partition.
fn words(partition: i32) -> Vec<String> {
    (0..PER_PARTITION).map(|n| format!("word-{}", (n * 7 + n / 13 + partition as usize * 5) % 37)).collect()
}

/// Counts words, and calls `each` for every record that is read.
fn program(each: impl Fn() + Send + Sync + 'static) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", PARTITIONS).topic("counts", PARTITIONS);
    b.stream::<Option<String>, String>("in")
        .peek(move |_, _| each())
        .select_key(|_, word| word.clone())
        .group_by_key()
        .count("words")
        .to_stream()
        .to("counts");
    b.build()
}

fn config(threads: usize) -> RuntimeConfig {
    // Many small units of work, so that the end of one is often in the middle of a batch.
    RuntimeConfig {
        threads,
        poll_records: 100,
        uncommitted_bytes: 4 << 10,
        batch_bytes: 512,
        ..RuntimeConfig::embedded("app")
    }
}

fn filled() -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", PARTITIONS)?;
    for partition in 0..PARTITIONS {
        let words = words(partition);
        let records: Vec<_> = words.iter().enumerate().map(|(n, word)| (n as i64, None, word.as_str())).collect();
        embedded.write("in", partition, &records)?;
    }
    Ok(embedded)
}

/// Every count of every word was told once and in order, and each word has one partition: exactly once is more than a
/// right end.
fn check(embedded: &Embedded) -> Result<()> {
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    (0..PARTITIONS).flat_map(words).for_each(|word| *wanted.entry(word).or_default() += 1);
    let mut told: BTreeMap<String, (usize, Vec<i64>)> = BTreeMap::new();
    for (partition, records) in embedded.read::<String, i64>("counts")?.into_iter().enumerate() {
        for (word, count) in records {
            let (first, counts) = told.entry(word).or_insert((partition, Vec::new()));
            assert_eq!(*first, partition);
            counts.push(count);
        }
    }
    let all: BTreeMap<String, Vec<i64>> = wanted.into_iter().map(|(word, n)| (word, (1..=n).collect())).collect();
    assert_eq!(told.into_iter().map(|(word, (_, counts))| (word, counts)).collect::<BTreeMap<_, _>>(), all);
    Ok(())
}

#[test]
fn as_a_plain_fold() -> Result<()> {
    for threads in [1, 2, 4] {
        let embedded = filled()?;
        let counters = embedded.streams(program(|| ())?, config(threads))?.run_to_end()?;
        assert_eq!(counters.process, 2 * (PARTITIONS as usize * PER_PARTITION) as u64, "{threads} threads");
        check(&embedded)?;
    }
    Ok(())
}

/// Stopped by the program's own record, so somewhere in the middle of a batch; each run has another number of threads.
#[test]
fn stopped_and_started_again() -> Result<()> {
    for threads in [[1, 1, 1], [2, 2, 2], [4, 4, 4], [4, 1, 2], [1, 4, 2]] {
        let embedded = filled()?;
        for threads in threads {
            let stopper: Arc<OnceLock<Stopper>> = Arc::default();
            let (within, read) = (stopper.clone(), AtomicU64::new(0));
            let topology = program(move || {
                if read.fetch_add(1, Ordering::Relaxed) == 1_500
                    && let Some(stopper) = within.get()
                {
                    stopper.stop();
                }
            })?;
            let mut streams = embedded.streams(topology, config(threads))?;
            assert!(stopper.set(streams.stopper()).is_ok());
            streams.start()?;
            let counters = streams.join()?;
            assert_eq!(streams.state(), State::NotRunning);
            assert!(counters.process > 1_500);
        }
        embedded.streams(program(|| ())?, config(threads[0]))?.run_to_end()?;
        check(&embedded)?;
    }
    Ok(())
}

/// A panic commits nothing: what was under way is done again, by whoever has the task then.
#[test]
fn failed_and_started_again() -> Result<()> {
    for threads in [[1, 1], [2, 2], [4, 4], [4, 1], [1, 4]] {
        let embedded = filled()?;
        for threads in threads {
            let read = AtomicU64::new(0);
            let topology = program(move || assert!(read.fetch_add(1, Ordering::Relaxed) != 1_500, "as told"))?;
            let mut streams = embedded.streams(topology, config(threads))?;
            streams.start()?;
            assert!(streams.join().err().is_some_and(|e| e.to_string().contains(" panicked: as told")));
            assert_eq!(streams.state(), State::Error);
        }
        embedded.streams(program(|| ())?, config(threads[1]))?.run_to_end()?;
        check(&embedded)?;
    }
    Ok(())
}
