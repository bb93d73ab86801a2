//! A record that takes longer than the transaction's time-out: the log has aborted the transaction by then. The thread rolls
//! back and goes on in a new epoch, unless a newer producer of its id has taken over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, BatchBuilder, Clock, CommitOutcome, ConsumerOptions, GroupOffsets, Isolation, Log, ManualClock, Next, Plan,
    ProducerOptions, Result, RuntimeConfig, StreamThread, ThreadContext, TopicPartition, TopicSpec, Wakeup,
};
use millstream_dsl::StreamsBuilder;

const RECORDS: i64 = 60;

/// Values of topic `out` that are committed: how often each letter was counted.
fn counts(broker: &Broker) -> Result<Vec<i64>> {
    let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: Isolation::ReadCommitted };
    let mut consumer = broker.consumer(&options, Arc::default())?;
    consumer.assign(&[(TopicPartition::new("out", 0), 0)])?;
    let mut counts = Vec::new();
    loop {
        let fetch = consumer.fetch(0, 1 << 20)?;
        if fetch.batches.is_empty() {
            counts.sort_unstable();
            return Ok(counts);
        }
        for mut batch in fetch.batches {
            while let Some(Ok(record)) = batch.next() {
                let value = record.value.map(|v| v.to_bytes().as_ref().try_into().map(i64::from_be_bytes));
                counts.extend(value.and_then(std::result::Result::ok));
            }
        }
    }
}

/// A program that counts values and takes `pause` for the records of these numbers, counted as often as they are processed.
fn start(pause: Duration, slow: &'static [usize]) -> Result<(Arc<ManualClock>, Broker, StreamThread)> {
    let clock = Arc::new(ManualClock::at(1_000));
    let options =
        BrokerOptions { durability: Durability::Memory, threads: false, ..BrokerOptions::memory(clock.clone()) };
    let broker = Broker::open(BrokerOptions { data_dir: Path::new("/data").into(), ..options })?;
    broker.create_topic(&TopicSpec { name: "in".into(), partitions: 1, configs: Default::default() })?;
    let mut input = broker.producer(&ProducerOptions::plain("in"), Arc::default())?;
    for number in 0..RECORDS {
        let mut batch = BatchBuilder::new();
        batch.push(number, Some(b"k"), Some(&[b'a' + (number % 3) as u8]), &[]);
        input.send(&TopicPartition::new("in", 0), batch)?;
    }
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    let (taken, log, time) = (AtomicUsize::new(0), broker.clone(), clock.clone());
    b.stream::<String, String>("in")
        .peek(move |_, _| {
            if slow.contains(&taken.fetch_add(1, Ordering::Relaxed)) {
                time.advance(pause);
                log.tick().expect("a look at transactions");
            }
        })
        .group_by("by-value", |_, v| v.clone())
        .count("counts")
        .to_stream()
        .to("out");
    let topology = b.build()?;
    let config = RuntimeConfig { poll_records: 7, ..RuntimeConfig::embedded("app") };
    let plan = Plan::new(&topology, &config, broker.admin())?;
    plan.create_topics(broker.admin())?;
    let shared = ThreadContext {
        alignment: plan.alignment(config.max_task_skew),
        topology: Arc::new(topology),
        plan: Arc::new(plan),
        config: Arc::new(config),
        log: Arc::new(broker.clone()) as Arc<dyn Log>,
        process_id: "test".into(),
    };
    let thread = StreamThread::new(shared, "thread".into(), &[0, 1], Arc::new(Wakeup::default()), clock.now())?;
    Ok((clock, broker, thread))
}

#[test]
fn a_thread_whose_transaction_timed_out_rolls_back_and_goes_on() -> Result<()> {
    // Ten seconds and the commit interval are given.
    for (seconds, rolls_back) in [(10, false), (11, true)] {
        let (clock, broker, mut thread) = start(Duration::from_secs(seconds), &[10, 25, 50])?;
        let mut held_up = Vec::new();
        for _ in 0..400 {
            let next = thread.step(clock.now())?;
            held_up.extend(thread.held_up().map(ToString::to_string));
            if let Next::Wait(_) = next {
                clock.advance(Duration::from_millis(60));
            }
        }
        assert_eq!(!held_up.is_empty(), rolls_back, "{held_up:?}");
        assert!(held_up.iter().all(|e| e.contains("transaction.timeout.ms")), "{held_up:?}");
        // Every value is counted from 1 to 20 without a gap or a repetition.
        let wanted: Vec<i64> = (1..=RECORDS / 3).flat_map(|n| [n; 3]).collect();
        assert_eq!(counts(&broker)?, wanted, "{seconds}");
    }
    Ok(())
}

/// The rollback of a thread that was fenced made a new producer, and fenced the one that had taken over.
#[test]
fn a_thread_that_a_newer_producer_fences_does_not_fence_it_back() -> Result<()> {
    let (clock, broker, mut thread) = start(Duration::ZERO, &[])?;
    thread.step(clock.now())?;
    let options = ProducerOptions::transactional("newer", "app-test-thread");
    let mut newer = broker.producer(&options, Arc::default())?;
    let mut refused = 0;
    for _ in 0..20 {
        clock.advance(Duration::from_millis(200));
        refused += usize::from(thread.step(clock.now()).is_err_and(|e| e.is_task_migrated()));
    }
    assert!(refused > 0);
    newer.send(&TopicPartition::new("out", 0), {
        let mut batch = BatchBuilder::new();
        batch.push(5, Some(b"k"), Some(&7i64.to_be_bytes()), &[]);
        batch
    })?;
    newer.commit(GroupOffsets { group: "other".into(), offsets: Vec::new() });
    let outcome = newer.poll_commit();
    assert!(matches!(outcome, Some(CommitOutcome::Done)), "{outcome:?}");
    let fenced = thread.step(clock.now()).err();
    assert!(fenced.as_ref().is_some_and(millstream_core::Error::is_task_migrated), "{fenced:?}");
    Ok(())
}
