//! A transaction over several partitions and a group's positions is seen whole or not at all: by readers, and after a
//! crash between any two of its writes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Outcome, batch, commit, committed, copy, create, id, open, producer, read};
use millstream_core::{Admin, CommitOutcome, ConsumerOptions, Isolation, Log, LogError, Wakeup};

const ALL: Isolation = Isolation::ReadUncommitted;
const COMMITTED: Isolation = Isolation::ReadCommitted;

#[test]
fn readers_see_a_transaction_when_it_is_committed_and_never_when_it_is_not() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    create(&broker, "t", 2)?;
    let mut p = producer(&broker, Some("app"))?;
    p.send(&id("t", 0), batch(&["a"]))?;
    p.send(&id("t", 1), batch(&["b"]))?;
    assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, ["a"]);
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, [""; 0]);
    assert_eq!((broker.end_offset(&id("t", 0), COMMITTED)?, committed(&broker)), (0, None));
    assert!(matches!(commit(p.as_mut(), 3), CommitOutcome::Done));
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, ["a"]);
    assert_eq!(read(&broker, &id("t", 1), 0, COMMITTED)?, ["b"]);
    assert_eq!(committed(&broker), Some(3));

    p.send(&id("t", 0), batch(&["gone"]))?;
    p.abort()?;
    p.send(&id("t", 0), batch(&["c"]))?;
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, ["a"]);
    assert!(matches!(commit(p.as_mut(), 4), CommitOutcome::Done));
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, ["a", "c"]);
    assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, ["a", "gone", "c"]);
    Ok(())
}

#[test]
fn an_open_transaction_holds_back_what_comes_after_it() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    create(&broker, "t", 1)?;
    let (mut slow, mut plain) = (producer(&broker, Some("slow"))?, producer(&broker, None)?);
    slow.send(&id("t", 0), batch(&["a"]))?;
    plain.send(&id("t", 0), batch(&["b"]))?;
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, [""; 0]);
    slow.abort()?;
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, ["b"]);
    Ok(())
}

#[test]
fn a_newer_producer_of_the_same_id_fences_the_older_and_ends_its_transaction() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    create(&broker, "t", 2)?;
    let mut old = producer(&broker, Some("app"))?;
    old.send(&id("t", 0), batch(&["old"]))?;
    let mut new = producer(&broker, Some("app"))?;
    assert_eq!(broker.end_offset(&id("t", 0), COMMITTED)?, 2, "the old transaction has its marker");
    assert!(matches!(old.send(&id("t", 0), batch(&["late"])), Err(LogError::Fenced { .. })));
    assert!(matches!(old.send(&id("t", 1), batch(&["late"])), Err(LogError::Fenced { .. })));
    assert!(matches!(commit(old.as_mut(), 1), CommitOutcome::Failed(LogError::Fenced { .. })));
    new.send(&id("t", 0), batch(&["new"]))?;
    assert!(matches!(commit(new.as_mut(), 2), CommitOutcome::Done));
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, ["new"]);
    assert_eq!(committed(&broker), Some(2));
    Ok(())
}

/// Lengths of all segments.
fn lengths(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten().filter(|e| e.path().is_dir()) {
        let file = entry.path().join("00000000000000000000.log");
        let len = fs::metadata(&file).map_or(0, |m| m.len());
        found.push((file.strip_prefix(dir).expect("inside").to_owned(), len));
    }
    found.sort();
    found
}

/// Ends of the batches in a segment behind `from`.
fn batch_ends(file: &Path, from: u64) -> Vec<u64> {
    let bytes = fs::read(file).unwrap_or_default();
    let mut at = from as usize;
    let mut ends = Vec::new();
    while let Some(len) = bytes.get(at + 8..at + 12) {
        at += 12 + u32::from_be_bytes(len.try_into().expect("four bytes")) as usize;
        ends.push(at as u64);
    }
    ends
}

#[test]
fn a_crash_between_any_two_writes_of_a_commit_leaves_all_of_it_or_nothing() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    create(&broker, "t", 2)?;
    let mut p = producer(&broker, Some("app"))?;
    p.send(&id("t", 0), batch(&["a0"]))?;
    p.send(&id("t", 1), batch(&["a1"]))?;
    assert!(matches!(commit(p.as_mut(), 1), CommitOutcome::Done));
    p.send(&id("t", 0), batch(&["b0"]))?;
    p.send(&id("t", 1), batch(&["b1"]))?;
    let before = lengths(&dir);
    assert!(matches!(commit(p.as_mut(), 2), CommitOutcome::Done));

    // The commit's writes, in their order: the group's position, the commit point, a marker for every partition, and
    // that it is complete.
    let base = |name: &str| before.iter().find(|(f, _)| f.starts_with(name)).map_or(0, |(_, len)| *len);
    let ends = |name: &str| batch_ends(&dir.join(name).join("00000000000000000000.log"), base(name));
    let (groups, state) = (ends("__consumer_offsets-0"), ends("__transaction_state-0"));
    let writes = [
        ("__consumer_offsets-0", groups[0]),
        ("__transaction_state-0", state[0]),
        ("__consumer_offsets-0", groups[1]),
        ("t-0", ends("t-0")[0]),
        ("t-1", ends("t-1")[0]),
        ("__transaction_state-0", state[1]),
    ];
    assert_eq!((groups.len(), state.len()), (2, 2));

    for done in 0..=writes.len() {
        for torn in [false, true] {
            let crashed = folder.path().join(format!("crash-{done}-{torn}"));
            copy(&dir, &crashed);
            let mut wanted = before.clone();
            for (number, (name, end)) in writes.iter().enumerate() {
                let file = wanted.iter_mut().find(|(f, _)| f.starts_with(name)).expect("a segment");
                if number < done {
                    file.1 = *end;
                } else if number == done && torn {
                    file.1 = (file.1 + end) / 2;
                }
            }
            for (file, len) in wanted {
                let file = fs::OpenOptions::new().write(true).open(crashed.join(file));
                file.and_then(|f| f.set_len(len)).expect("a cut");
            }
            // Twice: what the first opening finishes must hold for the second.
            for _ in 0..2 {
                let broker = open(&crashed)?;
                let seen = [read(&broker, &id("t", 0), 0, COMMITTED)?, read(&broker, &id("t", 1), 0, COMMITTED)?];
                let took_effect = done >= 2;
                let expected =
                    if took_effect { [vec!["a0", "b0"], vec!["a1", "b1"]] } else { [vec!["a0"], vec!["a1"]] };
                assert_eq!(seen, expected, "after {done} writes, torn {torn}");
                assert_eq!(
                    committed(&broker),
                    Some(if took_effect { 2 } else { 1 }),
                    "after {done} writes, torn {torn}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_transaction_that_was_open_at_a_crash_is_aborted() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, crashed) = (folder.path().join("a"), folder.path().join("b"));
    let broker = open(&dir)?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, Some("app"))?;
    p.send(&id("t", 0), batch(&["gone"]))?;
    copy(&dir, &crashed);
    let broker = open(&crashed)?;
    producer(&broker, None)?.send(&id("t", 0), batch(&["after"]))?;
    assert_eq!(read(&broker, &id("t", 0), 0, COMMITTED)?, ["after"]);
    Ok(())
}

#[test]
fn aborted_records_are_passed_over_however_many_there_are() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, Some("app"))?;
    for _ in 0..20 {
        p.send(
            &id("t", 0),
            batch(&["gone, and longer than one fetch of two hundred bytes can hold, so that it alone fills it"]),
        )?;
        p.abort()?;
    }
    p.send(&id("t", 0), batch(&["seen"]))?;
    assert!(matches!(commit(p.as_mut(), 1), CommitOutcome::Done));
    let options = ConsumerOptions { client_id: "t".into(), group: "".into(), isolation: COMMITTED };
    let mut consumer = millstream_core::Log::consumer(&broker, &options, Default::default())?;
    consumer.assign(&[(id("t", 0), 0)])?;
    assert_eq!(consumer.fetch(0, 200)?.batches.len(), 1, "an empty fetch would mean the end");
    Ok(())
}

/// A thread's consumers share its wakeup. Each assignment left one more entry, which every append then walked.
#[test]
fn a_wakeup_waits_once_for_a_partition_however_often_it_is_assigned() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(folder.path())?;
    create(&broker, "t", 1)?;
    let wakeup = Arc::new(Wakeup::default());
    for isolation in [ALL, COMMITTED] {
        for _ in 0..100 {
            let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation };
            broker.consumer(&options, wakeup.clone())?.assign(&[(id("t", 0), 0)])?;
        }
    }
    assert_eq!(Arc::weak_count(&wakeup), 2);
    Ok(())
}
