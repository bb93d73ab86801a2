//! A record that takes longer than the transaction's time-out: the log has aborted the transaction by then. The thread rolls
//! back and goes on in a new epoch, unless a newer producer of its id has taken over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_core::{
    BatchBuilder, CommitOutcome, GroupOffsets, Log, ProducerOptions, Result, RuntimeConfig, TopicPartition,
};
use millstream_dsl::StreamsBuilder;
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;

const RECORDS: i64 = 60;

/// How often each letter was counted, as committed.
fn counts(embedded: &Embedded) -> Result<Vec<i64>> {
    let mut counts: Vec<i64> =
        embedded.read::<String, i64>("out")?.concat().into_iter().map(|(_, count)| count).collect();
    counts.sort_unstable();
    Ok(counts)
}

/// Every value is counted from 1 to 20 without a gap or a repetition.
fn wanted() -> Vec<i64> {
    (1..=RECORDS / 3).flat_map(|n| [n; 3]).collect()
}

/// A program that counts values and takes `pause` for the records of these numbers, counted as often as they are processed.
fn start(pause: Duration, slow: &'static [usize]) -> Result<ByHand> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    let records: Vec<_> = (0..RECORDS).map(|n| (n, Some("k"), ["a", "b", "c"][n as usize % 3])).collect();
    embedded.write("in", 0, &records)?;
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    let (taken, log, time) = (AtomicUsize::new(0), embedded.log.clone(), embedded.clock.clone());
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
    ByHand::new(embedded, b.build()?, RuntimeConfig { poll_records: 7, ..RuntimeConfig::embedded("app") })
}

#[test]
fn a_thread_whose_transaction_timed_out_rolls_back_and_goes_on() -> Result<()> {
    // Ten seconds and the commit interval are given.
    for (seconds, rolls_back) in [(10, false), (11, true)] {
        let mut program = start(Duration::from_secs(seconds), &[10, 25, 50])?;
        let mut held_up = Vec::new();
        for _ in 0..400 {
            program.step()?;
            held_up.extend(program.thread()?.held_up().map(ToString::to_string));
        }
        assert_eq!(!held_up.is_empty(), rolls_back, "{held_up:?}");
        assert!(held_up.iter().all(|e| e.contains("transaction.timeout.ms")), "{held_up:?}");
        assert_eq!(counts(&program.embedded)?, wanted(), "{seconds}");
    }
    Ok(())
}

/// It stood still, as a laptop does that sleeps, and is ended before its next step: the end failed, though nothing was lost.
#[test]
fn a_thread_whose_transaction_timed_out_ends_in_order_and_the_next_one_goes_on() -> Result<()> {
    let (times_out, forgets) = (Duration::from_secs(11), 8 * Duration::from_secs(24 * 3600));
    for steps in 0..60 {
        for stands_still in [&[times_out][..], &[times_out, forgets]] {
            let mut program = start(Duration::ZERO, &[])?;
            for _ in 0..steps {
                program.step()?;
            }
            // The newest producer is never forgotten.
            let options = ProducerOptions::transactional("other", "another application");
            let _newest = program.embedded.log.producer(&options, Arc::default())?;
            for time in stands_still {
                program.embedded.clock.advance(*time);
                program.embedded.log.tick()?;
            }
            program.close()?;
            program.run()?;
            assert_eq!(counts(&program.embedded)?, wanted(), "{steps} steps, {stands_still:?}");
        }
    }
    Ok(())
}

/// The rollback of a thread that was fenced made a new producer, and fenced the one that had taken over.
#[test]
fn a_thread_that_a_newer_producer_fences_does_not_fence_it_back() -> Result<()> {
    let mut program = start(Duration::ZERO, &[])?;
    program.step()?;
    let options = ProducerOptions::transactional("newer", "app-by-hand-thread");
    let mut newer = program.embedded.log.producer(&options, Arc::default())?;
    let mut refused = 0;
    for _ in 0..20 {
        program.embedded.clock.advance(Duration::from_millis(200));
        refused += usize::from(program.step().is_err_and(|e| e.is_task_migrated()));
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
    let fenced = program.step().err();
    assert!(fenced.as_ref().is_some_and(millstream_core::Error::is_task_migrated), "{fenced:?}");
    Ok(())
}
