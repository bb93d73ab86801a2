//! Deleting records, deleting the topic, retention, rolling and reading go on while a partition is compacted: whoever comes
//! first, nothing that was deleted comes back, nothing that was written goes, and a reader goes on.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use compacted::{ALL, COMMITTED, Dice, Outcome, Watched, World, commit, create, producer, seen, send, t, texts};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, ConsumerOptions, Files, Log, LogError, OpenMode, TopicSpec};

const SETTINGS: &str = "cleanup.policy=compact min.cleanable.dirty.ratio=0";

/// What is done before which call.
type Action = (&'static str, Box<dyn FnOnce() + Send>);
/// Where a test puts it.
type Place = Arc<Mutex<Option<Action>>>;

/// A broker on whose disk an action is done once: just before the first call of a kind on a file that is being compacted.
fn with_action(world: &World) -> Result<(Broker, Place), LogError> {
    let action: Place = Arc::default();
    let watched = action.clone();
    let files = Watched::files(&world.files, move |call, path| {
        let is_it = |(wanted, _): &mut Action| {
            *wanted == call
                && path.to_string_lossy().contains("/t-0/")
                && path.extension().is_some_and(|e| e == "cleaned")
        };
        let taken = watched.lock().expect("no panic").take_if(is_it);
        if let Some((_, action)) = taken {
            action();
        }
    });
    Ok((Broker::open(BrokerOptions { files, ..world.options() })?, action))
}

fn fill(broker: &Broker) -> Outcome {
    let mut p = producer(broker, None)?;
    for number in 0..60 {
        send(p.as_mut(), 5, &format!("k{}=v{number}", number % 4))?;
    }
    Ok(())
}

#[test]
fn what_is_deleted_while_it_is_compacted_does_not_come_back() -> Outcome {
    for call in ["create", "write", "sync"] {
        for before in [3, 20, 59] {
            let world = World::new(Durability::Os);
            let (broker, action) = with_action(&world)?;
            create(&broker, SETTINGS)?;
            fill(&broker)?;
            let deleting = broker.clone();
            let delete = move || deleting.delete_records(&t(), before).expect("a deletion");
            *action.lock().expect("no panic") = Some((call, Box::new(delete)));
            broker.tick()?;
            assert!(action.lock().expect("no panic").is_none(), "the action was done");
            let place = format!("{before} before {call}");
            assert_eq!(broker.start_offset(&t())?, before, "{place}");
            for _ in 0..2 {
                let last = if before < 56 { "k0=v56 k1=v57 k2=v58 k3=v59" } else { "k3=v59" };
                let found = texts(&broker, COMMITTED)?;
                assert!(found.ends_with(last), "{place}: {found}");
                broker.tick()?;
            }
            assert!(world.names().iter().all(|n| !n.contains("swap") && !n.contains("cleaned")), "{:?}", world.names());
            broker.close()?;
            drop(broker);
            assert_eq!(world.open()?.start_offset(&t())?, before, "{place}: after a start");
        }
    }
    Ok(())
}

/// The cleaner went by where segments had been, and panicked when a deletion had moved them: nothing was compacted any more.
#[test]
fn segments_that_are_deleted_while_they_are_merged_are_not_replaced() -> Outcome {
    for call in ["sync", "rename"] {
        for before in [3, 20, 40, 59, 90, 119] {
            let world = World::new(Durability::Os);
            let (broker, action) = with_action(&world)?;
            create(&broker, SETTINGS)?;
            // Small segments, which the next round merges.
            fill(&broker)?;
            broker.tick()?;
            fill(&broker)?;
            let deleting = broker.clone();
            let delete = move || deleting.delete_records(&t(), before).expect("a deletion");
            *action.lock().expect("no panic") = Some((call, Box::new(delete)));
            let place = format!("{before} before {call}");
            for _ in 0..2 {
                broker.tick()?;
                assert!(action.lock().expect("no panic").is_none(), "the action was done");
                assert_eq!(broker.start_offset(&t())?, before, "{place}");
                let last = if before < 116 { "k0=v56 k1=v57 k2=v58 k3=v59" } else { "k3=v59" };
                let found = texts(&broker, COMMITTED)?;
                assert!(found.ends_with(last), "{place}: {found}");
                let names = world.names();
                assert!(names.iter().all(|n| !n.contains("swap") && !n.contains("cleaned")), "{place}: {names:?}");
            }
            let found = texts(&broker, COMMITTED)?;
            broker.close()?;
            drop(broker);
            let broker = world.open()?;
            assert_eq!(broker.start_offset(&t())?, before, "{place}: after a start");
            assert_eq!(texts(&broker, COMMITTED)?, found, "{place}: after a start");
        }
    }
    Ok(())
}

#[test]
fn a_topic_that_is_deleted_while_it_is_compacted_is_gone_and_a_new_one_of_its_name_is_empty() -> Outcome {
    for call in ["create", "write"] {
        for again in [false, true] {
            let world = World::new(Durability::Os);
            let (broker, action) = with_action(&world)?;
            create(&broker, SETTINGS)?;
            fill(&broker)?;
            let deleting = broker.clone();
            let delete = move || {
                deleting.delete_topic("t").expect("a deletion");
                if again {
                    create(&deleting, SETTINGS).expect("a topic");
                    send(producer(&deleting, None).expect("a producer").as_mut(), 5, "new=1").expect("a record");
                }
            };
            *action.lock().expect("no panic") = Some((call, Box::new(delete)));
            broker.tick()?;
            broker.tick()?;
            assert!(action.lock().expect("no panic").is_none(), "the action was done");
            broker.close()?;
            drop(broker);
            let broker = world.open()?;
            assert_eq!(broker.partitions("t")?, again.then_some(1));
            if again {
                assert_eq!(texts(&broker, ALL)?, "new=1");
            }
        }
    }
    Ok(())
}

/// The file that compaction began in the folder was in the way of its removal.
#[test]
fn a_file_that_comes_into_a_folder_that_goes_does_not_keep_the_topic_from_going() -> Outcome {
    for folder in ["t-0", "t-1"] {
        for times in [1, 2] {
            let world = World::new(Durability::Os);
            let left = Arc::new(AtomicUsize::new(times));
            let (disk, place) = (world.files.clone(), format!("{folder}, {times}"));
            let files = Watched::files(&world.files, move |call, path| {
                if call == "remove_dir"
                    && path.ends_with(folder)
                    && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
                {
                    disk.open(&path.join("00000000000000000000.log.cleaned"), OpenMode::Create).expect("a file");
                }
            });
            let broker = Broker::open(BrokerOptions { files, ..world.options() })?;
            let spec = TopicSpec { name: "t".into(), partitions: 2, configs: Default::default() };
            broker.create_topic(&spec)?;
            fill(&broker)?;
            // A second one cannot come; if it does, what is left goes when one of the name is made, or with the next start.
            assert_eq!(broker.delete_topic("t").is_ok(), times == 1, "{place}");
            if times == 1 {
                assert!(world.names().is_empty(), "{place}");
            }
            broker.create_topic(&spec)?;
            assert_eq!(texts(&broker, ALL)?, "", "{place}");
            assert_eq!(world.names(), ["topic.properties"], "{place}");
        }
    }
    Ok(())
}

#[test]
fn compaction_of_a_topic_that_was_deleted_leaves_its_folder_alone() -> Outcome {
    for again in [false, true] {
        let world = World::new(Durability::Os);
        let (broker, action) = with_action(&world)?;
        create(&broker, SETTINGS)?;
        fill(&broker)?;
        let (deleting, then) = (broker.clone(), action.clone());
        let write = move || panic!("it goes on to write");
        let delete = move || {
            deleting.delete_topic("t").expect("a deletion");
            if again {
                create(&deleting, SETTINGS).expect("a topic");
            }
            *then.lock().expect("no panic") = Some(("write", Box::new(write)));
        };
        *action.lock().expect("no panic") = Some(("create", Box::new(delete)));
        broker.tick()?;
        assert_eq!(world.names(), if again { vec!["topic.properties"] } else { vec![] });
    }
    Ok(())
}

#[test]
fn a_reader_in_the_middle_of_a_segment_goes_on_when_it_is_replaced() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, SETTINGS)?;
    fill(&broker)?;
    let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: COMMITTED };
    let mut consumer = broker.consumer(&options, Default::default())?;
    for compacted_after in 0..60 {
        consumer.assign(&[(t(), 0)])?;
        let mut last = -1;
        let mut fetches = 0;
        loop {
            let fetch = consumer.fetch(0, 1)?;
            for mut batch in fetch.batches {
                while let Some(record) = batch.next() {
                    let offset = record.expect("a record").offset;
                    assert!(offset > last);
                    last = offset;
                }
            }
            fetches += 1;
            if fetches == compacted_after {
                broker.tick()?;
            }
            if fetch.position == fetch.end {
                break;
            }
        }
        assert_eq!(last, 59 + 60 * compacted_after);
        fill(&broker)?;
    }
    Ok(())
}

/// Appends, rolls, deletions, retention, checkpoints, compaction and readers, each on a thread of its own.
#[test]
fn everybody_at_once_for_a_while() -> Outcome {
    for (seed, durability) in (0..6).zip([Durability::Memory, Durability::Os, Durability::Disk].into_iter().cycle()) {
        let world = World::new(durability);
        let options = BrokerOptions { checkpoint_bytes: 3_000, cleaner_buffer_bytes: 40_000, ..world.options() };
        let broker = Broker::open(options)?;
        create(
            &broker,
            "cleanup.policy=compact,delete min.cleanable.dirty.ratio=0.1 retention.bytes=6000 delete.retention.ms=3",
        )?;
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| -> Outcome {
            let cleaner = threads.spawn(|| -> Outcome {
                while !done.load(Ordering::Relaxed) {
                    world.advance(1);
                    broker.tick()?;
                }
                Ok(())
            });
            let deleter = threads.spawn(|| -> Outcome {
                let mut dice = Dice(seed);
                while !done.load(Ordering::Relaxed) {
                    let (start, end) = (broker.start_offset(&t())?, broker.end_offset(&t(), COMMITTED)?);
                    if dice.below(20) == 0 && end > start {
                        broker.delete_records(&t(), start + dice.below((end - start) as u64 / 2 + 1) as i64)?;
                    }
                    std::thread::yield_now();
                }
                Ok(())
            });
            let reader = threads.spawn(|| -> Outcome {
                let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: COMMITTED };
                let mut consumer = broker.consumer(&options, Default::default())?;
                while !done.load(Ordering::Relaxed) {
                    let mut position = broker.start_offset(&t())?;
                    consumer.assign(&[(t(), position)])?;
                    loop {
                        let fetch = match consumer.fetch(0, 500) {
                            Ok(fetch) => fetch,
                            // Its place was deleted.
                            Err(LogError::OutOfRange { .. }) => break,
                            Err(error) => return Err(error),
                        };
                        assert!(fetch.position > position || fetch.position >= fetch.end, "a reader stands still");
                        for mut batch in fetch.batches {
                            while let Some(record) = batch.next() {
                                let value = record.expect("a record").value.map(|v| v.as_slice().to_vec());
                                assert!(
                                    !value.is_some_and(|v| v.starts_with(b"aborted")),
                                    "an aborted record was seen"
                                );
                            }
                        }
                        if fetch.position >= fetch.end {
                            break;
                        }
                        position = fetch.position;
                    }
                }
                Ok(())
            });
            let written = || -> Outcome {
                let (mut a, mut plain) = (producer(&broker, Some("a"))?, producer(&broker, None)?);
                for number in 0..400 {
                    send(plain.as_mut(), world.now(), &format!("k{}=plain{number}", number % 5))?;
                    let how = if number % 3 == 0 { "aborted" } else { "committed" };
                    send(a.as_mut(), world.now(), &format!("k{}={how}{number} gone", number % 7))?;
                    if number % 3 == 0 { a.abort()? } else { commit(a.as_mut())? }
                }
                for key in 0..7 {
                    send(plain.as_mut(), world.now(), &format!("k{key}=last"))?;
                }
                Ok(())
            };
            let written = written();
            done.store(true, Ordering::Relaxed);
            for thread in [cleaner, deleter, reader] {
                thread.join().expect("no panic")?;
            }
            written
        })?;
        broker.tick()?;
        let end = broker.end_offset(&t(), ALL)?;
        let last = seen(&broker, end - 7, COMMITTED)?;
        assert_eq!(last.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().len(), 7, "{durability:?}");
        if durability != Durability::Memory {
            broker.close()?;
            drop(broker);
            assert_eq!(seen(&world.open()?, end - 7, COMMITTED)?, last, "{durability:?}");
        }
    }
    Ok(())
}
