//! How long a stream thread pauses to commit: from the last record before to the first that could follow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{
    BatchBuilder, Clock, Log, Result, RuntimeConfig, StateDisk, StreamThread, Streams, SystemClock, Text,
    TopicPartition, Wakeup, partition_for_key,
};
use millstream_dsl::StreamsBuilder;
use millstream_state::{RocksDisk, RocksOptions};

use crate::log::{PARTITIONS, create, open, producer};
use crate::store::Store;
use crate::table::Row;

const KEYS: u64 = 100_000;
const COMMITS: usize = 20;

/// Changes every key between two commits.
pub(crate) fn pause(store: Store) -> Result<Vec<Row>> {
    let kind = if store == Store::Memory { "memory" } else { "RocksDB" };
    let row = |name: String, figure: f64, bound| Row {
        name,
        keys: KEYS,
        records: KEYS * COMMITS as u64,
        figure,
        unit: "ms".into(),
        bound,
        ..Row::default()
    };
    let pauses = pauses(|folder| store.disk(folder))?;
    let name = |what: &str| format!("pause for a commit, {kind}, {what}");
    let mut rows = vec![
        row(name("median"), pauses[COMMITS / 2], Some((25.0, false))),
        row(name("longest"), pauses[COMMITS - 1], None),
    ];
    if store == Store::RocksDb {
        // Without a thread that writes, the pause has the write in it.
        let options = RocksOptions { background: false, ..RocksOptions::default() };
        let with_write = self::pauses(|folder| Ok(Some(Arc::new(RocksDisk::new(folder, options)?))))?;
        let write = with_write[COMMITS / 2] - pauses[COMMITS / 2];
        rows.push(row("  their write, beside it".into(), write, None));
    }
    Ok(rows)
}

/// Milliseconds, the shortest first.
fn pauses(disk: impl FnOnce(&std::path::Path) -> Result<Option<Arc<dyn StateDisk>>>) -> Result<Vec<f64>> {
    let (log, dir) = open()?;
    create(&log, "in")?;
    create(&log, "out")?;
    let b = StreamsBuilder::new();
    b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to("out");
    let clock = Arc::new(SystemClock::default());
    let config = RuntimeConfig {
        commit_interval: Duration::from_secs(3600),
        disk: disk(&dir.path().join("state"))?,
        ..RuntimeConfig::embedded("pause")
    };
    // It fits the topology to the log; the thread is stepped here.
    let streams = Streams::new(b.build()?, config, Arc::new(log.clone()) as Arc<dyn Log>, clock.clone())?;
    let tasks: Vec<usize> = (0..PARTITIONS as usize).collect();
    let wakeup = Arc::new(Wakeup::default());
    let mut thread = StreamThread::new(streams.context().clone(), "thread".into(), &tasks, wakeup, clock.now())?;
    let mut producer = producer(&log)?;
    let mut pauses = Vec::new();
    // The first makes the rows.
    for round in 0..=COMMITS as u64 {
        let mut batches: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| BatchBuilder::new()).collect();
        for number in 0..KEYS {
            let key = format!("key-{:012}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000_000_000);
            let partition = partition_for_key(key.as_bytes(), PARTITIONS) as usize;
            batches[partition].push(round as i64, Some(key.as_bytes()), Some(b"x"), &[]);
            if batches[partition].len() >= 64 << 10 {
                let batch = std::mem::take(&mut batches[partition]);
                producer.send(&TopicPartition::new("in", partition as i32), batch)?;
            }
        }
        for (partition, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
            producer.send(&TopicPartition::new("in", partition as i32), batch)?;
        }
        while thread.counters().process < KEYS * (round + 1) {
            thread.step(clock.now())?;
        }
        let began = Instant::now();
        thread.commit_now(clock.now())?;
        // Hands the rows to the disk.
        thread.step(clock.now())?;
        pauses.push(began.elapsed().as_secs_f64() * 1e3);
        // The write goes on beside; the next commit must not find it.
        std::thread::sleep(Duration::from_millis(200));
    }
    pauses.remove(0);
    pauses.sort_by(f64::total_cmp);
    Ok(pauses)
}
