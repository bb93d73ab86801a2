//! A record costs no heap allocation in the steady state where its types own no heap: what is allocated is per batch.

use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    BatchBuilder, Clock, Log, ManualClock, Plan, ProducerOptions, Result, RuntimeConfig, StreamThread, Text,
    ThreadContext, TopicPartition, Topology, Wakeup,
};
use millstream_dsl::{SECOND, StreamsBuilder, TimeWindows};

const RECORDS: u64 = 200_000;
const KEYS: u64 = 1_000;

/// Allocations per record over the second half of the input.
fn allocations_per_record(topology: Topology) -> Result<f64> {
    let clock = Arc::new(ManualClock::at(0));
    let log = Broker::open(BrokerOptions::memory(clock.clone()))?;
    let config = RuntimeConfig::embedded("allocations");
    let plan = Plan::new(&topology, &config, log.admin())?;
    plan.create_topics(log.admin())?;
    let wakeup = Arc::new(Wakeup::default());
    let mut input = log.producer(&ProducerOptions::plain("input"), wakeup.clone())?;
    let mut batch = BatchBuilder::new();
    for number in 0..RECORDS {
        let key = format!("key-{:012}", number % KEYS);
        batch.push((number / 100) as i64, Some(key.as_bytes()), Some(&[b'x'; 80]), &[]);
        if batch.len() > 60_000 || number + 1 == RECORDS {
            input.send(&TopicPartition::new("in", 0), std::mem::take(&mut batch))?;
        }
    }
    let shared = ThreadContext {
        alignment: plan.alignment(config.max_task_skew),
        topology: Arc::new(topology),
        plan: Arc::new(plan),
        config: Arc::new(config),
        log: Arc::new(log) as Arc<dyn Log>,
        process_id: "test".into(),
    };
    let mut thread = StreamThread::new(shared, "thread".into(), &[0], wakeup, clock.now())?;
    while thread.counters().process < RECORDS / 2 {
        thread.step(clock.now())?;
    }
    thread.commit_now(clock.now())?;
    let before = thread.counters().process;
    let mut outcome = Ok(());
    let counted = allocation_counter::measure(|| {
        while outcome.is_ok() && thread.counters().process < RECORDS {
            outcome = thread.step(clock.now()).map(drop);
        }
    });
    outcome?;
    Ok(counted.count_total as f64 / (RECORDS - before) as f64)
}

#[test]
fn five_stateless_operators() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Text, Text>("in")
        .filter(|_, v| v.len() > 10)
        .map_values(|v: Text| v.share(&v[..v.len() - 1]))
        .filter(|k, _| !k.is_empty())
        .map(|k, v| (k, v))
        .map_values(|v: Text| v.share(&v[1..]))
        .to("out");
    let per_record = allocations_per_record(b.build()?)?;
    // A batch of 64 KiB holds about 600 of these records, and costs a few allocations.
    assert!(per_record < 0.02, "{per_record} allocations per record");
    Ok(())
}

#[test]
fn a_count_of_known_keys() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to("out");
    let per_record = allocations_per_record(b.build()?)?;
    assert!(per_record < 0.02, "{per_record} allocations per record");
    Ok(())
}

#[test]
fn a_count_in_windows_at_every_update() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Text, Text>("in")
        .group_by_key()
        .windowed_by(TimeWindows::of(10 * SECOND))
        .count("counts")
        .to_stream()
        .to("out");
    let per_record = allocations_per_record(b.build()?)?;
    assert!(per_record < 0.02, "{per_record} allocations per record");
    Ok(())
}

/// Windows of 50 ms: five records of every key, so that a fifth of the records have a result, and a row comes and goes.
#[test]
fn a_count_in_windows_on_close() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Text, Text>("in")
        .group_by_key()
        .windowed_by(TimeWindows::of(SECOND / 20))
        .emit_on_close()
        .count("counts")
        .to_stream()
        .to("out");
    let per_record = allocations_per_record(b.build()?)?;
    assert!(per_record < 0.02, "{per_record} allocations per record");
    Ok(())
}
