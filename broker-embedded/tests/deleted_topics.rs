//! A topic that is deleted is gone for everyone who holds it still, also when one of its name is made anew. Kafka tells them by
//! the topic's id: UNKNOWN_TOPIC_ID, or UNKNOWN_TOPIC_OR_PARTITION.
//!
//! A send to it was Ok and its commit done, and the record lay as a stray segment in the folder of the new topic.

#[expect(dead_code, reason = "shared by several test programs")]
mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use common::{Outcome, batch, committed, create, id, producer, read};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, Call, CommitOutcome, CommittedOffset, Consumer, ConsumerOptions, Fault, GroupOffsets, Isolation, Log,
    LogError, ManualClock, SimFiles, Wakeup,
};

const ALL: Isolation = Isolation::ReadUncommitted;
const COMMITTED: Isolation = Isolation::ReadCommitted;
const EVERY: [Durability; 3] = [Durability::Memory, Durability::Os, Durability::Disk];

fn options(files: &SimFiles, durability: Durability) -> BrokerOptions {
    BrokerOptions {
        durability,
        files: Arc::new(files.clone()),
        threads: false,
        ..BrokerOptions::new("log", Arc::new(ManualClock::at(1_000)))
    }
}

fn consumer(broker: &Broker, wakeup: &Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
    let options = ConsumerOptions { client_id: "test".into(), group: "g".into(), isolation: COMMITTED };
    let mut consumer = broker.consumer(&options, wakeup.clone())?;
    consumer.assign(&[(id("t", 0), 0)])?;
    Ok(consumer)
}

fn position(topic: &str, offset: i64) -> GroupOffsets {
    let position = CommittedOffset { offset, metadata: "m".into() };
    GroupOffsets { group: "g".into(), offsets: vec![(id(topic, 0), position)] }
}

fn is_gone<T>(result: Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::UnknownTopic(partition)) if partition == id("t", 0))
}

#[test]
fn whoever_holds_a_deleted_topic_is_told() -> Outcome {
    for durability in EVERY {
        for anew in [false, true] {
            for transactional_id in [None, Some("app")] {
                let place = format!("{durability:?}, anew {anew}, {transactional_id:?}");
                let files = SimFiles::default();
                let broker = Broker::open(options(&files, durability))?;
                create(&broker, "t", 1)?;
                let mut old = producer(&broker, transactional_id)?;
                for number in 0..5 {
                    old.send(&id("t", 0), batch(&[&number.to_string()]))?;
                }
                let ended = |p: &mut dyn millstream_core::Producer| {
                    p.commit(GroupOffsets { group: "g".into(), offsets: vec![] });
                    broker.tick().expect("a tick");
                    matches!(p.poll_commit(), Some(CommitOutcome::Done))
                };
                assert!(ended(old.as_mut()), "{place}");
                let wakeup = Arc::new(Wakeup::default());
                let mut reader = consumer(&broker, &wakeup)?;
                reader.fetch(0, 1_000)?;
                broker.delete_topic("t")?;
                if anew {
                    create(&broker, "t", 1)?;
                }
                assert!(is_gone(reader.fetch(0, 1_000)), "{place}");
                let sent = old.send(&id("t", 0), batch(&["lost"]));
                let text = sent.as_ref().map_err(ToString::to_string).expect_err("an error");
                assert!(text.contains("t-0") && text.contains("deleted") && text.contains("help:"), "{text}");
                assert!(is_gone(sent), "{place}");
                old.abort()?;
                if anew {
                    assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, [""; 0], "{place}");
                    // The next unit of work is the new topic's.
                    old.send(&id("t", 0), batch(&["new"]))?;
                    assert!(ended(old.as_mut()), "{place}");
                    assert!(is_gone(reader.fetch(0, 1_000)), "{place}");
                    reader.assign(&[(id("t", 0), 0)])?;
                    assert_eq!(reader.fetch(0, 1_000)?.batches.len(), 1, "{place}");
                } else {
                    assert!(is_gone(old.send(&id("t", 0), batch(&["lost"]))), "{place}");
                }
                let expected: &[&str] = if anew { &["new"] } else { &[] };
                if durability != Durability::Memory {
                    broker.close()?;
                    let broker = Broker::open(options(&files.kill(), durability))?;
                    match read(&broker, &id("t", 0), 0, COMMITTED) {
                        Ok(values) => assert_eq!(values, expected, "{place}"),
                        gone => assert!(!anew && is_gone(gone), "{place}"),
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn nothing_of_a_deleted_topic_comes_back_to_the_disk() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = common::open(folder.path())?;
    create(&broker, "t", 1)?;
    let mut old = producer(&broker, None)?;
    old.send(&id("t", 0), batch(&["a", "b"]))?;
    broker.delete_topic("t")?;
    create(&broker, "t", 1)?;
    assert!(is_gone(old.send(&id("t", 0), batch(&["lost"]))));
    let names = std::fs::read_dir(folder.path().join("t-0")).expect("a folder");
    let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["topic.properties"]);
    Ok(())
}

#[test]
fn a_reader_that_waits_is_woken_by_the_deletion() -> Outcome {
    let broker = Broker::open(options(&SimFiles::default(), Durability::Memory))?;
    create(&broker, "t", 1)?;
    let wakeup = Arc::new(Wakeup::default());
    let mut reader = consumer(&broker, &wakeup)?;
    reader.fetch(0, 1_000)?;
    broker.delete_topic("t")?;
    // It would wait for good.
    wakeup.wait(Duration::from_secs(3_600));
    assert!(is_gone(reader.fetch(0, 1_000)));
    Ok(())
}

/// Positions stayed when their topic went: of the topic that was made anew, the first records were never read.
#[test]
fn positions_go_with_their_topic() -> Outcome {
    for durability in EVERY {
        for transactional_id in [None, Some("app")] {
            let files = SimFiles::default();
            let mut broker = Broker::open(options(&files, durability))?;
            for topic in ["in", "other"] {
                create(&broker, topic, 2)?;
            }
            let mut p = producer(&broker, transactional_id)?;
            let mut commit = |broker: &Broker, topic: &str, offset| {
                p.commit(position(topic, offset));
                broker.tick().expect("a tick");
                p.poll_commit().expect("an outcome")
            };
            assert!(matches!(commit(&broker, "in", 10), CommitOutcome::Done));
            assert!(matches!(commit(&broker, "other", 7), CommitOutcome::Done));
            broker.delete_topic("in")?;
            let found = |broker: &Broker| {
                let found = broker.committed("g", &[id("in", 0), id("other", 0)]).expect("an answer");
                found.into_iter().map(|position| position.map(|p| p.offset)).collect::<Vec<_>>()
            };
            assert_eq!(found(&broker), [None, Some(7)], "{durability:?}");
            create(&broker, "in", 2)?;
            assert_eq!(found(&broker), [None, Some(7)], "{durability:?}");
            // Who has read the deleted topic does not know of the new one.
            let late = commit(&broker, "in", 12);
            assert!(matches!(late, CommitOutcome::Failed(LogError::UnknownTopic(_))), "{durability:?}: {late:?}");
            assert_eq!(found(&broker), [None, Some(7)], "{durability:?}");
            if durability != Durability::Memory {
                drop((p, broker));
                broker = Broker::open(options(&files.kill(), durability))?;
                assert_eq!(found(&broker), [None, Some(7)], "{durability:?}");
                p = producer(&broker, transactional_id)?;
            }
            p.commit(position("in", 3));
            assert_eq!(found(&broker), [Some(3), Some(7)], "{durability:?}");
        }
    }
    Ok(())
}

/// Wherever the deletion stops, a topic that is made anew has no positions, and one that is still there has all.
#[test]
fn a_crash_within_a_deletion_leaves_all_of_it_or_nothing() -> Outcome {
    let (mut kept, mut gone) = (0, 0);
    for durability in [Durability::Os, Durability::Disk] {
        for (call, skip) in (0..4).flat_map(|skip| [(Call::Write, skip), (Call::Sync, skip)]) {
            for seed in 0..16 {
                let place = format!("{durability:?}, {call:?} {skip}, seed {seed}");
                let files = SimFiles::default();
                let broker = Broker::open(options(&files, durability))?;
                create(&broker, "in", 2)?;
                let mut p = producer(&broker, None)?;
                p.commit(position("in", 10));
                broker.tick()?;
                files.fail(Fault { call, skip, times: 100, kind: ErrorKind::Other });
                let _failed = broker.delete_topic("in");
                files.heal();
                let files = if durability == Durability::Disk { files.power_cut(seed) } else { files.kill() };
                drop((p, broker));
                let broker = Broker::open(options(&files, durability))?;
                if broker.partitions("in")?.is_some() {
                    kept += 1;
                    assert_eq!(committed(&broker), Some(10), "{place}");
                    broker.delete_topic("in")?;
                }
                gone += 1;
                create(&broker, "in", 2)?;
                assert_eq!(committed(&broker), None, "{place}");
                broker.close()?;
                let broker = Broker::open(options(&files.kill(), durability))?;
                assert_eq!(committed(&broker), None, "{place}");
            }
        }
    }
    assert!(0 < kept && kept < gone, "{kept}, {gone}");
    Ok(())
}

/// It was in no map any more, with its folder whole: a new one of its name was damage, and so was the directory once a checkpoint
/// had left it out.
#[test]
fn a_topic_whose_deletion_failed_is_whole_or_gone() -> Outcome {
    let (mut whole, mut gone) = (0, 0);
    for durability in [Durability::Os, Durability::Disk] {
        for (call, skip) in (0..6).flat_map(|skip| [(Call::Write, skip), (Call::Sync, skip)]) {
            let place = format!("{durability:?}, {call:?} {skip}");
            let files = SimFiles::default();
            let broker = Broker::open(options(&files, durability))?;
            create(&broker, "t", 2)?;
            producer(&broker, None)?.send(&id("t", 0), batch(&["a"]))?;
            broker.tick()?;
            files.fail(Fault { call, skip, times: 1, kind: ErrorKind::Other });
            let deleted = broker.delete_topic("t");
            files.heal();
            let is_there = broker.partitions("t")?.is_some();
            if is_there {
                whole += 1;
                assert!(deleted.is_err(), "{place}");
            } else {
                gone += 1;
                create(&broker, "t", 2)?;
            }
            create(&broker, "later", 1)?;
            let wanted = if is_there { vec!["a"] } else { vec![] };
            assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, wanted, "{place}");
            broker.close()?;
            let broker = Broker::open(options(&files.kill(), durability))?;
            assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, wanted, "{place}");
            assert_eq!(broker.partitions("later")?, Some(1), "{place}");
        }
    }
    assert!(whole > 0 && gone > 0, "{whole}, {gone}");
    Ok(())
}
