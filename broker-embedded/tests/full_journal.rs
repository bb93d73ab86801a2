//! Where the journal has no space, nobody waits for ever, and nobody holds up those who need not wait.
//!
//! Whoever waited for a sync was woken by nothing else: not by a disk that was full, nor by the end of the broker.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use compacted::{Outcome, Watched, World, create, producer, send};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Call, Fault, GroupOffsets, LogError, Producer};

/// A broker with threads on a disk that has no space for the journal while it is told so.
fn open(is_full: &Arc<AtomicBool>) -> Result<Broker, LogError> {
    let world = World::new(Durability::Disk);
    let (disk, is_full) = (world.files.clone(), is_full.clone());
    let files = Watched::files(&world.files, move |call, path| {
        let is_journal = path.extension().is_some_and(|e| e == "log") && path.to_string_lossy().contains("journal-");
        if is_journal && call != "sync" && is_full.load(Ordering::SeqCst) {
            disk.fail(Fault { call: Call::Write, skip: 0, times: 1, kind: ErrorKind::StorageFull });
        }
    });
    Broker::open(BrokerOptions { files, threads: true, ..world.options() })
}

fn is_full(result: &Result<(), LogError>) -> bool {
    matches!(result, Err(LogError::Full { .. }))
}

/// With a commit that waits for a sync, and no space.
fn waiting(no_space: &Arc<AtomicBool>) -> Result<(Broker, Box<dyn Producer>), LogError> {
    let broker = open(no_space)?;
    create(&broker, "")?;
    let mut p = producer(&broker, None)?;
    no_space.store(true, Ordering::SeqCst);
    send(p.as_mut(), 0, "k=v")?;
    p.commit(GroupOffsets { group: "g".into(), offsets: vec![] });
    Ok((broker, p))
}

#[test]
fn who_waits_is_told_that_the_disk_is_full_and_may_wait_again() -> Outcome {
    let no_space = Arc::new(AtomicBool::new(false));
    let (broker, p) = waiting(&no_space)?;
    assert!(is_full(&p.keep(p.last_commit())));
    assert!(is_full(&broker.delete_topic("t")));
    assert!(broker.topic_config("t").is_none(), "it is deleted all the same");
    no_space.store(false, Ordering::SeqCst);
    while is_full(&p.keep(p.last_commit())) {}
    p.keep(p.last_commit())
}

#[test]
fn who_waits_is_told_that_the_broker_is_closed() -> Outcome {
    let (broker, p) = waiting(&Arc::default())?;
    assert!(is_full(&broker.close()));
    assert!(matches!(p.keep(p.last_commit()), Err(LogError::Closed)));
    Ok(())
}
