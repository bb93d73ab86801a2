//! One unclean end after the other: what the first has left is relied upon when it is kept, and not before.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::path::Path;
use std::sync::{Arc, Mutex};

use compacted::{ALL, Outcome, Watched, World, batch, create, t};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, CommitOutcome, CommittedOffset, GroupOffsets, Log, LogError, Offset, ProducerOptions, SimFiles,
};
use millstream_wire::SealOptions;

fn send(broker: &Broker, number: i32) -> Result<Offset, LogError> {
    let sealed = batch(5, &format!("k={number}")).seal(&SealOptions::default()).expect("a batch");
    broker.append(&t(), &sealed)
}

/// What a commit has read was purged as soon as that was decided: a kill before the journal had the commit took it back, and not the records.
#[test]
fn records_are_deleted_when_what_was_decided_before_is_kept() -> Outcome {
    for seed in 0..20 {
        let world = World::new(Durability::Disk);
        let broker = world.open()?;
        create(&broker, "")?;
        send(&broker, 0)?;
        let options = ProducerOptions { durable: false, ..ProducerOptions::transactional("app", "app") };
        let mut producer = broker.producer(&options, Arc::default())?;
        let offsets = vec![(t(), CommittedOffset { offset: 1, metadata: String::new() })];
        producer.commit(GroupOffsets { group: "g".into(), offsets });
        assert!(matches!(producer.poll_commit(), Some(CommitOutcome::Done)));
        broker.delete_records(&t(), 1)?;
        for files in [world.files.kill(), world.files.power_cut(seed)] {
            let broker = World { files, ..world.clone() }.open()?;
            let position = broker.committed("g", &[t()])?.remove(0).map(|committed| committed.offset);
            assert_eq!((position, broker.start_offset(&t())?), (Some(1), 1), "{seed}");
        }
    }
    Ok(())
}

/// A kill came between the new start of the log and the sync of its folder. The next checkpoint counted on it, and a power cut took it back:
/// the log did not open.
#[test]
fn a_start_that_a_kill_left_unsynced_is_synced_before_a_checkpoint_says_it() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        let broker = world.open()?;
        create(&broker, "")?;
        (0..4).try_for_each(|number| send(&broker, number).map(drop))?;
        broker.close()?;
        drop(broker);
        let (killed, disk) = (Arc::new(Mutex::new(None)), world.files.clone());
        let seen = killed.clone();
        let files = Watched::files(&world.files, move |call, path| {
            if call == "sync_dir" && path == Path::new("/data/t-0") {
                seen.lock().expect("no panic").replace(disk.kill());
            }
        });
        let broker = Broker::open(BrokerOptions { files, ..world.options() })?;
        killed.lock().expect("no panic").take();
        broker.delete_records(&t(), 2)?;
        let files = killed.lock().expect("no panic").take().expect("a sync of the folder");
        drop(broker);
        let world = World { files, ..world };
        let broker = world.open()?;
        assert_eq!(broker.start_offset(&t())?, 2);
        broker.close()?;
        for seed in 0..50 {
            let world = World { files: world.files.power_cut(seed), ..world.clone() };
            let broker = world.open().unwrap_or_else(|error| panic!("{durability:?}, {seed}: {error}"));
            assert_eq!(broker.start_offset(&t())?, 2, "{durability:?}, {seed}");
        }
    }
    Ok(())
}

/// A start cut off what the journal has too, and was killed before it synced that; the next one found nothing to cut, and nothing to sync.
#[test]
fn a_segment_that_a_start_has_cut_is_synced_by_the_next_one() -> Outcome {
    for seed in 0..50 {
        let world = World::new(Durability::Disk);
        let broker = world.open()?;
        create(&broker, "")?;
        (0..3).try_for_each(|number| send(&broker, number).map(drop))?;
        broker.delete_records(&t(), 3)?;
        let world = World { files: world.files.kill(), ..world };
        drop(broker);
        let (killed, disk) = (Arc::new(Mutex::new(None)), world.files.clone());
        let seen = killed.clone();
        let files = Watched::files(&world.files, move |call, _| {
            if call == "sync" {
                seen.lock().expect("no panic").get_or_insert(disk.kill());
            }
        });
        drop(Broker::open(BrokerOptions { files, ..world.options() })?);
        let files = killed.lock().expect("no panic").take().expect("a sync");
        let world = World { files, ..world };
        let broker = world.open()?;
        send(&broker, 3)?;
        let world = World { files: world.files.power_cut(seed), ..world };
        let broker = world.open().unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert_eq!(broker.end_offset(&t(), ALL)?, 4, "{seed}");
    }
    Ok(())
}

/// The name of a journal that a killed start had made, and not synced, was taken by a power cut in the next one, which had made another: that
/// entries were synced in what is not there.
#[test]
fn a_power_cut_in_a_start_behind_one_that_was_killed_loses_nothing() -> Outcome {
    let world = World::new(Durability::Disk);
    let broker = world.open()?;
    create(&broker, "segment.bytes=1024")?;
    (0..4).try_for_each(|number| send(&broker, number).map(drop))?;
    broker.tick()?;
    broker.delete_records(&t(), 2)?;
    (4..7).try_for_each(|number| send(&broker, number).map(drop))?;
    let world = World { files: world.files.kill(), ..world };
    drop(broker);
    let mut opened = 0;
    for files in killed_at_each_call(&world)? {
        for files in killed_at_each_call(&World { files, ..world.clone() })? {
            for seed in 0..4 {
                let broker = World { files: files.power_cut(seed), ..world.clone() }.open()?;
                assert_eq!((broker.start_offset(&t())?, broker.end_offset(&t(), ALL)?), (2, 7), "{opened}");
                opened += 1;
            }
        }
    }
    assert!(opened > 1_000, "{opened}");
    Ok(())
}

/// What a start leaves that is killed before each of its calls.
fn killed_at_each_call(world: &World) -> Result<Vec<SimFiles>, LogError> {
    let (left, disk) = (Arc::new(Mutex::new(Vec::new())), world.files.kill());
    let (seen, watched) = (left.clone(), disk.clone());
    let files = Watched::files(&disk, move |_, _| seen.lock().expect("no panic").push(watched.kill()));
    drop(Broker::open(BrokerOptions { files, ..world.options() })?);
    Ok(std::mem::take(&mut *left.lock().expect("no panic")))
}
