//! Durability `disk` on a simulated disk: what was acknowledged outlives a power cut, what was not is there whole or not at
//! all, and a disk that is full or broken loses nothing and says so.

#[expect(dead_code, reason = "shared by several test programs")]
mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::{Outcome, batch, committed, create, id, producer, read};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Call, CommitOutcome, CommittedOffset, Fault, GroupOffsets, Isolation, LogError, ManualClock, Producer, SimFiles,
};

const ALL: Isolation = Isolation::ReadUncommitted;
const COMMITTED: Isolation = Isolation::ReadCommitted;

fn options(files: &SimFiles) -> BrokerOptions {
    BrokerOptions {
        files: Arc::new(files.clone()),
        durability: Durability::Disk,
        threads: false,
        checkpoint_bytes: 3_000,
        segment_bytes: 1_200,
        tail_bytes: 0,
        ..BrokerOptions::new(Path::new("/data"), Arc::new(ManualClock::at(1_000)))
    }
}

/// Sends one number to each of two partitions and begins to commit it with the group's position.
fn begin(producer: &mut dyn Producer, number: i64) -> Outcome {
    let text = format!("{number} {}", "x".repeat((number % 7) as usize * 20));
    for partition in 0..2 {
        producer.send(&id("t", partition), batch(&[&text]))?;
    }
    let position = CommittedOffset { offset: number + 1, metadata: String::new() };
    producer.commit(GroupOffsets { group: "g".into(), offsets: vec![(id("in", 0), position)] });
    Ok(())
}

fn numbers(broker: &Broker, partition: i32) -> Result<Vec<i64>, LogError> {
    let values = read(broker, &id("t", partition), 0, COMMITTED)?;
    Ok(values.iter().map(|v| v.split(' ').next().unwrap_or_default().parse().expect("a number")).collect())
}

/// Both partitions and the group's position tell of the same commits: the first so many.
fn commits(broker: &Broker) -> Result<i64, LogError> {
    let position = committed(broker).unwrap_or(0);
    let wanted: Vec<i64> = (0..position).collect();
    assert_eq!([numbers(broker, 0)?, numbers(broker, 1)?], [wanted.clone(), wanted]);
    Ok(position)
}

#[test]
fn acknowledged_commits_outlive_a_power_cut_and_others_are_whole_or_gone() -> Outcome {
    for seed in 0..40 {
        let mut files = SimFiles::default();
        let mut acknowledged = 0;
        for life in 0..5 {
            let broker = Broker::open(options(&files))?;
            if millstream_core::Admin::partitions(&broker, "t")?.is_none() {
                create(&broker, "t", 2)?;
            }
            let found = commits(&broker)?;
            assert!(found >= acknowledged, "seed {seed}: {found} of {acknowledged} acknowledged commits are left");
            let mut p = producer(&broker, Some("app"))?;
            for number in found..found + 3 + (seed * 7 + life * 5) % 11 {
                begin(p.as_mut(), number)?;
                assert!(p.poll_commit().is_none(), "not acknowledged before it is synced");
                if number % 3 == seed % 3 && number == found + 2 {
                    break;
                }
                broker.tick()?;
                assert!(matches!(p.poll_commit(), Some(CommitOutcome::Done)));
                acknowledged = number + 1;
            }
            files = files.power_cut((seed * 100 + life) as u64);
        }
    }
    Ok(())
}

#[test]
fn a_call_that_fails_at_any_place_loses_nothing() -> Outcome {
    let run = |files: &SimFiles, acknowledged: &mut i64| -> Outcome {
        let broker = Broker::open(options(files))?;
        if millstream_core::Admin::partitions(&broker, "t")?.is_none() {
            create(&broker, "t", 2)?;
        }
        let found = commits(&broker)?;
        assert!(found >= *acknowledged, "{found} of {acknowledged} acknowledged commits are left");
        let mut p = producer(&broker, Some("app"))?;
        for number in found..found + 8 {
            begin(p.as_mut(), number)?;
            broker.tick()?;
            match p.poll_commit() {
                Some(CommitOutcome::Done) => *acknowledged = number + 1,
                Some(CommitOutcome::Failed(error) | CommitOutcome::Unknown(error)) => return Err(error),
                None => return Ok(()),
            }
        }
        broker.close()
    };
    let undisturbed = SimFiles::default();
    run(&undisturbed, &mut 0)?;
    let calls = undisturbed.calls();
    assert!(calls > 100, "{calls}");
    let mut failures = 0;
    for skip in 0..calls {
        for (call, kind) in
            [(Call::Write, ErrorKind::StorageFull), (Call::Write, ErrorKind::Other), (Call::Sync, ErrorKind::Other)]
        {
            let files = SimFiles::default();
            let mut acknowledged = 0;
            files.fail(Fault { call, skip, times: 1, kind });
            failures += u32::from(run(&files, &mut acknowledged).is_err());
            files.heal();
            // As after the end of the process; and as after a power cut.
            for (seed, files) in [files.power_cut(skip), files.power_cut(skip + 1_000)].into_iter().enumerate() {
                run(&files, &mut acknowledged.clone())
                    .unwrap_or_else(|e| panic!("{call:?} {kind:?} at call {skip}, cut {seed}: {e}"));
            }
        }
    }
    assert!(failures > 50, "{failures}");
    Ok(())
}

/// For want of space, too: it counted as a full disk, behind which a program goes on by itself, and nothing did.
#[test]
fn nothing_is_acknowledged_after_a_sync_has_failed() -> Outcome {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        let files = SimFiles::default();
        let broker = Broker::open(options(&files))?;
        create(&broker, "t", 2)?;
        let mut p = producer(&broker, Some("app"))?;
        begin(p.as_mut(), 0)?;
        files.fail(Fault { call: Call::Sync, skip: 0, times: 1, kind });
        assert!(broker.tick().is_err());
        assert!(matches!(p.poll_commit(), Some(CommitOutcome::Unknown(LogError::Io { .. }))));
        // The disk would say yes again: nobody may believe it.
        assert!(broker.tick().is_err());
        let error = p.send(&id("t", 0), batch(&["x"])).expect_err("an error");
        assert!(matches!(error, LogError::Io { .. }) && !error.is_retriable());
        assert_eq!(error.to_string().contains("help: free space, and start again"), kind == ErrorKind::StorageFull);
        assert!(matches!(create(&broker, "u", 1), Err(LogError::Io { .. })));
        assert!(broker.close().is_err());
    }
    Ok(())
}

#[test]
fn a_full_disk_holds_commits_back_until_there_is_space() -> Outcome {
    let files = SimFiles::default();
    let broker = Broker::open(options(&files))?;
    create(&broker, "t", 2)?;
    let mut p = producer(&broker, Some("app"))?;
    begin(p.as_mut(), 0)?;
    files.fail(Fault { call: Call::Write, skip: 0, times: u64::MAX, kind: ErrorKind::StorageFull });
    assert!(matches!(broker.tick(), Err(LogError::Full { .. })));
    assert!(p.poll_commit().is_none(), "it may still be kept");
    let refused = p.send(&id("t", 0), batch(&["x"])).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refused.contains("no space left") && refused.contains("help: free space"), "{refused}");
    files.heal();
    broker.tick()?;
    assert!(matches!(p.poll_commit(), Some(CommitOutcome::Done)));
    p.abort()?;
    begin(p.as_mut(), 1)?;
    broker.tick()?;
    assert!(matches!(p.poll_commit(), Some(CommitOutcome::Done)));
    assert_eq!(commits(&broker)?, 2);
    Ok(())
}

#[test]
fn the_journal_is_replayed_whatever_the_durability_of_the_next_start() -> Outcome {
    let files = SimFiles::default();
    let broker = Broker::open(options(&files))?;
    create(&broker, "t", 2)?;
    let mut p = producer(&broker, Some("app"))?;
    begin(p.as_mut(), 0)?;
    broker.tick()?;
    for seed in 0..10 {
        let files = files.power_cut(seed);
        for durability in [Durability::Os, Durability::Disk, Durability::Os] {
            let broker = Broker::open(BrokerOptions { durability, ..options(&files) })?;
            assert_eq!(commits(&broker)?, 1);
            broker.close()?;
            assert!(
                !millstream_core::Files::list(&files, Path::new("/data"))
                    .expect("a folder")
                    .iter()
                    .any(|n| n.starts_with("journal"))
            );
        }
    }
    Ok(())
}

/// A disk on which so many commits are acknowledged, and nothing but the journal is synced.
fn acknowledged(commits: i64) -> Result<SimFiles, LogError> {
    let files = SimFiles::default();
    let broker = Broker::open(BrokerOptions { checkpoint_bytes: u64::MAX, segment_bytes: 300, ..options(&files) })?;
    create(&broker, "t", 2)?;
    let mut p = producer(&broker, Some("app"))?;
    for number in 0..commits {
        begin(p.as_mut(), number)?;
        broker.tick()?;
        assert!(matches!(p.poll_commit(), Some(CommitOutcome::Done)));
    }
    Ok(files.kill())
}

#[test]
fn a_later_segment_that_is_left_alone_hides_nothing_that_the_journal_has() -> Outcome {
    let files = acknowledged(12)?;
    for seed in 0..60 {
        assert_eq!(commits(&Broker::open(options(&files.power_cut(seed)))?)?, 12, "seed {seed}");
    }
    Ok(())
}

#[test]
fn a_replay_for_which_there_is_no_space_leaves_the_journal_for_the_next() -> Outcome {
    let acknowledged = acknowledged(6)?.power_cut(1);
    let mut failures = 0;
    for skip in 0..60 {
        let files = acknowledged.kill();
        files.fail(Fault { call: Call::Write, skip, times: 1, kind: ErrorKind::StorageFull });
        failures += u32::from(Broker::open(options(&files)).is_err());
        files.heal();
        assert_eq!(commits(&Broker::open(options(&files.kill()))?)?, 6, "call {skip}");
    }
    assert!(failures > 10, "{failures}");
    Ok(())
}

#[test]
fn what_a_failed_append_leaves_is_no_damage_later() -> Outcome {
    for (skip, times) in (0..12).flat_map(|skip| (1..6).map(move |times| (skip, times))) {
        let files = SimFiles::default();
        let broker = Broker::open(BrokerOptions { durability: Durability::Os, ..options(&files) })?;
        create(&broker, "t", 2)?;
        let mut p = producer(&broker, Some("app"))?;
        begin(p.as_mut(), 0)?;
        files.fail(Fault { call: Call::Write, skip, times, kind: ErrorKind::Other });
        // The larger batch leaves more than what follows covers.
        let _failed = p.send(&id("t", 0), batch(&["x".repeat(300).as_str()]));
        let _failed = p.abort();
        files.heal();
        let mut p = producer(&broker, Some("app"))?;
        begin(p.as_mut(), 1)?;
        broker.close()?;
        let broker = Broker::open(BrokerOptions { durability: Durability::Os, ..options(&files.kill()) });
        let broker = broker.unwrap_or_else(|e| panic!("{times} calls from {skip} on: {e}"));
        assert_eq!(commits(&broker)?, 2);
    }
    Ok(())
}

#[test]
fn a_commit_that_arrives_after_its_owner_was_half_replaced_commits_nothing() -> Outcome {
    let mut failures = 0;
    for skip in 0..12 {
        let files = SimFiles::default();
        let broker = Broker::open(options(&files))?;
        create(&broker, "t", 2)?;
        let mut late = producer(&broker, Some("app"))?;
        (0..2).try_for_each(|partition| late.send(&id("t", partition), batch(&["0 "])))?;
        files.fail(Fault { call: Call::Write, skip, times: 2, kind: ErrorKind::StorageFull });
        let replaced = producer(&broker, Some("app"));
        files.heal();
        failures += u32::from(replaced.is_err());
        late.commit(GroupOffsets { group: "g".into(), offsets: vec![] });
        let outcome = late.poll_commit();
        assert!(matches!(outcome, Some(CommitOutcome::Failed(LogError::Fenced { .. }))), "call {skip}: {outcome:?}");
        producer(&broker, Some("app"))?;
        assert_eq!(commits(&broker)?, 0, "call {skip}");
    }
    assert!(failures > 1, "{failures}");
    Ok(())
}

#[test]
fn a_topic_of_the_same_name_gets_nothing_of_the_deleted_one() -> Outcome {
    let files = SimFiles::default();
    let broker = Broker::open(options(&files))?;
    for value in ["old", "new"] {
        create(&broker, "u", 1)?;
        producer(&broker, None)?.send(&id("u", 0), batch(&[value]))?;
        if value == "old" {
            broker.delete_topic("u")?;
        }
    }
    broker.tick()?;
    let broker = Broker::open(options(&files.power_cut(1)))?;
    assert_eq!(read(&broker, &id("u", 0), 0, ALL)?, ["new"]);
    Ok(())
}

#[test]
fn threads_sync_by_themselves_on_a_real_disk() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let real = || BrokerOptions {
        durability: Durability::Disk,
        ..BrokerOptions::new(folder.path(), Arc::new(ManualClock::at(1_000)))
    };
    let broker = Broker::open(real())?;
    create(&broker, "t", 2)?;
    let wakeup = Arc::new(millstream_core::Wakeup::default());
    let options = millstream_core::ProducerOptions::transactional("t", "app");
    let mut p = millstream_core::Log::producer(&broker, &options, wakeup.clone())?;
    for number in 0..20 {
        begin(p.as_mut(), number)?;
        let outcome = loop {
            match p.poll_commit() {
                Some(outcome) => break outcome,
                None => wakeup.wait(std::time::Duration::from_secs(5)),
            }
        };
        assert!(matches!(outcome, CommitOutcome::Done));
    }
    let copied = tempfile::tempdir().expect("a folder");
    common::copy(folder.path(), copied.path());
    assert_eq!(commits(&Broker::open(BrokerOptions { data_dir: copied.path().into(), ..real() })?)?, 20);
    broker.close()?;
    drop((p, broker));
    assert_eq!(commits(&Broker::open(real())?)?, 20);
    Ok(())
}
