//! A producer that does not hear the answer sends again. Whatever was lost, its batches are in the log once and in order: a
//! repeated one is answered with the offset that it has, one that runs ahead is refused, one of an older epoch is fenced.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use compacted::{ALL, Dice, Outcome, Watched, World, batch, create, seen, t};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, Files, LogError, Offset, SimFiles, TopicSpec};
use millstream_wire::{ProducerStamp, SealOptions};

const EVERY: [Durability; 3] = [Durability::Memory, Durability::Os, Durability::Disk];

/// A producer at the other end of a connection.
#[derive(Clone, Copy)]
struct Remote {
    id: i64,
    epoch: i16,
}

impl Remote {
    fn send(self, broker: &Broker, sequence: i32, records: &str) -> Result<Offset, LogError> {
        let producer = Some(ProducerStamp { id: self.id, epoch: self.epoch, base_sequence: sequence });
        let sealed = batch(5, records).seal(&SealOptions { producer, ..Default::default() }).expect("a batch");
        broker.append(&t(), &sealed)
    }
}

fn all(broker: &Broker) -> Result<String, LogError> {
    all_from(broker, 0)
}

fn all_from(broker: &Broker, offset: Offset) -> Result<String, LogError> {
    Ok(seen(broker, offset, ALL)?.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" "))
}

fn is_out_of_order(result: Result<Offset, LogError>, expected: i32) -> bool {
    matches!(result, Err(LogError::Refused { problem, .. })
        if problem.starts_with("OUT_OF_ORDER_SEQUENCE_NUMBER") && problem.contains(&format!("and {expected} comes next")))
}

#[test]
fn each_of_the_last_five_batches_is_recognised_and_none_is_there_twice() -> Outcome {
    for durability in EVERY {
        let broker = World::new(durability).open()?;
        create(&broker, "")?;
        let p = Remote { id: 7, epoch: 0 };
        for number in 0..6 {
            assert_eq!(p.send(&broker, 2 * number, &format!("a={number} b={number}"))?, i64::from(2 * number));
        }
        let end = broker.end_offset(&t(), ALL)?;
        for number in 1..6 {
            assert_eq!(p.send(&broker, 2 * number, &format!("a={number} b={number}"))?, i64::from(2 * number));
        }
        // Kafka's producer has no more than five under way.
        assert!(is_out_of_order(p.send(&broker, 0, "a=0 b=0"), 12));
        // Part of a batch is not that batch.
        assert!(is_out_of_order(p.send(&broker, 10, "a=5"), 12));
        assert!(is_out_of_order(p.send(&broker, 13, "a=6"), 12));
        assert_eq!(broker.end_offset(&t(), ALL)?, end);
        assert_eq!(p.send(&broker, 12, "a=6")?, 12);
        // Another producer has numbers of its own, and begins where it likes: it may be one that was forgotten.
        assert_eq!(Remote { id: 8, epoch: 3 }.send(&broker, 40, "c=0")?, 13);
    }
    Ok(())
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() -> Outcome {
    let broker = World::new(Durability::Memory).open()?;
    create(&broker, "")?;
    let (old, new) = (Remote { id: 7, epoch: 0 }, Remote { id: 7, epoch: 1 });
    old.send(&broker, 0, "a=0")?;
    assert!(is_out_of_order(new.send(&broker, 1, "a=1"), 0));
    assert_eq!(new.send(&broker, 0, "a=1")?, 1, "the same number as before is another batch");
    for sequence in 0..2 {
        let late = old.send(&broker, sequence, "a=late");
        assert!(matches!(late, Err(LogError::Fenced { .. })), "{sequence}: {late:?}");
    }
    assert_eq!(all(&broker)?, "a=0 a=1");
    Ok(())
}

#[test]
fn sequence_numbers_wrap_in_and_between_batches() -> Outcome {
    for (first, next) in [(i32::MAX - 1, 0), (i32::MAX, 1)] {
        let broker = World::new(Durability::Memory).open()?;
        create(&broker, "")?;
        let p = Remote { id: 7, epoch: 0 };
        p.send(&broker, first, "a=0 a=1")?;
        assert!(is_out_of_order(p.send(&broker, next + 1, "a=2"), next));
        assert_eq!(p.send(&broker, next, "a=2")?, 2);
        assert_eq!(p.send(&broker, first, "a=0 a=1")?, 0, "it is recognised over the wrap");
        assert_eq!(p.send(&broker, next, "a=2")?, 2);
    }
    Ok(())
}

#[test]
fn a_batch_that_claims_too_much_or_too_little_is_refused() -> Outcome {
    let broker = World::new(Durability::Memory).open()?;
    create(&broker, "")?;
    let refused = |options: &SealOptions, why: &str| {
        let answer = broker.append(&t(), &batch(5, "a=0").seal(options).expect("a batch"));
        assert!(matches!(&answer, Err(LogError::Refused { problem, .. }) if problem.contains(why)), "{answer:?}");
    };
    let producer = |base_sequence| Some(ProducerStamp { id: 7, epoch: 0, base_sequence });
    refused(&SealOptions { producer: producer(-1), ..Default::default() }, "sequence");
    // Nobody began the transaction: nobody would end it.
    let open = SealOptions { producer: producer(0), transactional: true, ..Default::default() };
    refused(&open, "INVALID_TXN_STATE");
    // A producer with a transaction open writes nothing outside it.
    let mut local = compacted::producer(&broker, Some("a"))?;
    compacted::send(local.as_mut(), 5, "a=1")?;
    let outside = ProducerStamp { id: 0, epoch: 0, base_sequence: 1 };
    refused(&SealOptions { producer: Some(outside), ..Default::default() }, "INVALID_TXN_STATE");
    assert_eq!(all(&broker)?, "a=1");
    Ok(())
}

/// Without the snapshots of producers the segments tell.
fn forget_snapshots(world: &World) {
    for name in world.names().into_iter().filter(|n| n.ends_with(".snapshot")) {
        world.files.remove(&Path::new("/data/t-0").join(name)).expect("a file");
    }
}

#[test]
fn a_restart_forgets_none_of_the_last_five() -> Outcome {
    for (durability, from_segments) in [(Durability::Os, false), (Durability::Os, true), (Durability::Disk, false)] {
        let world = World::new(durability);
        let broker = world.open()?;
        create(&broker, "")?;
        let p = Remote { id: 7, epoch: 2 };
        for number in 0..6 {
            p.send(&broker, number, &format!("a={number}"))?;
        }
        broker.close()?;
        drop(broker);
        if from_segments {
            forget_snapshots(&world);
        }
        let broker = world.open()?;
        for number in 1..6 {
            assert_eq!(p.send(&broker, number, &format!("a={number}"))?, i64::from(number), "{durability:?}");
        }
        assert!(is_out_of_order(p.send(&broker, 7, "a=7"), 6));
        assert!(matches!(Remote { epoch: 1, ..p }.send(&broker, 6, "a=6"), Err(LogError::Fenced { .. })));
        assert_eq!(p.send(&broker, 6, "a=6")?, 6);
    }
    Ok(())
}

/// Sent again and again over power cuts, with up to five under way, compacted and cut by retention: once each, in order.
#[test]
fn whatever_is_sent_again_over_power_cuts_is_there_once_and_in_order() -> Outcome {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut world = World::new(Durability::Disk);
        let mut broker = world.open()?;
        create(&broker, if seed % 2 == 0 { "" } else { "cleanup.policy=compact min.cleanable.dirty.ratio=0.01" })?;
        // What each producer has acknowledged. A key is written once: compaction leaves all.
        let mut next = [0i32; 3];
        let mut under_way: [Vec<i32>; 3] = Default::default();
        let mut offsets = std::collections::HashMap::new();
        for step in 0..150 {
            let who = dice.below(3) as usize;
            let p = Remote { id: who as i64 + 100, epoch: 0 };
            match dice.below(12) {
                // One more, whose answer may be lost.
                0..6 if under_way[who].len() < 5 => {
                    let sequence = next[who];
                    let offset = p.send(&broker, sequence, &format!("{who}.{sequence}=v"))?;
                    assert_eq!(offsets.insert((who, sequence), offset), None);
                    next[who] += 1;
                    under_way[who].push(sequence);
                }
                // The answers to the oldest come.
                6 | 7 => drop(under_way[who].drain(..under_way[who].len() / 2)),
                // They do not: all are sent again, in their order.
                8 | 9 => {
                    for sequence in &under_way[who] {
                        let offset = p.send(&broker, *sequence, &format!("{who}.{sequence}=v"));
                        let before = offsets[&(who, *sequence)];
                        assert_eq!(offset.ok(), Some(before), "seed {seed}, {step}");
                    }
                }
                // One overtakes another.
                10 => {
                    let ahead = p.send(&broker, next[who] + 1, &format!("{who}.ahead=v"));
                    // Of who has never written nothing is known.
                    if next[who] > 0 {
                        assert!(is_out_of_order(ahead, next[who]), "seed {seed}, {step}");
                    } else {
                        next[who] = 2;
                        offsets.insert((who, 1), ahead?);
                    }
                }
                _ if dice.below(2) == 0 => broker.tick()?,
                _ => {
                    let files: SimFiles = world.files.power_cut(seed * 1_000 + step);
                    drop(broker);
                    world = World { files, ..world };
                    broker = world.open()?;
                }
            }
        }
        let mut expected: Vec<_> =
            offsets.into_iter().map(|((who, sequence), offset)| (offset, who, sequence)).collect();
        expected.sort_unstable();
        let text = |(_, who, sequence): &(Offset, usize, i32)| {
            // The one that began with its second number.
            format!("{who}.{sequence}=v")
        };
        let found = all(&broker)?.replace(".ahead=", ".1=");
        assert_eq!(found, expected.iter().map(text).collect::<Vec<_>>().join(" "), "seed {seed}");
    }
    Ok(())
}

/// Retention took a producer's batches, and what was known of it with them: it was refused, or heard twice. After an unclean end, too,
/// where nothing but the batches said it.
#[test]
fn a_producer_whose_batches_are_deleted_goes_on_where_it_was() -> Outcome {
    for (durability, in_order) in EVERY.into_iter().flat_map(|durability| [(durability, true), (durability, false)]) {
        let mut world = World::new(durability);
        let mut broker = world.open()?;
        let segments = [("segment.bytes".to_owned(), "1024".to_owned())].into();
        broker.create_topic(&TopicSpec { name: t().topic.to_string(), partitions: 1, configs: segments })?;
        let p = Remote { id: 7, epoch: 0 };
        p.send(&broker, 0, "a=0")?;
        p.send(&broker, 1, "a=1")?;
        let other = Remote { id: 8, epoch: 0 };
        let mut end = 0;
        for number in 0..40 {
            end = other.send(&broker, number, &format!("b={number}"))? + 1;
        }
        broker.delete_records(&t(), end)?;
        for restarted in [false, true] {
            assert_eq!(p.send(&broker, 1, "a=1")?, 1, "{durability:?}, in order: {in_order}");
            assert!(is_out_of_order(p.send(&broker, 3, "a=3"), 2), "{durability:?}, in order: {in_order}");
            if !restarted && durability != Durability::Memory {
                if in_order {
                    broker.close()?;
                    drop(broker);
                } else {
                    world.files = world.files.kill();
                }
                broker = world.open()?;
            }
        }
        assert_eq!(p.send(&broker, 2, "a=2")?, end);
    }
    Ok(())
}

/// Records of aborted transactions were counted by files that go with their segments, and nothing synced what was known of
/// producers: after an end without a word, a producer whose batches were deleted was forgotten.
#[test]
fn deleted_batches_are_remembered_beside_aborted_ones_and_over_power_cuts() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        for seed in 0..20 {
            let mut world = World::new(durability);
            let mut broker = world.open()?;
            create(&broker, "segment.bytes=1024")?;
            let p = Remote { id: 700, epoch: 0 };
            let mut local = compacted::producer(&broker, Some("a"))?;
            p.send(&broker, 0, "a=0")?;
            for number in 0..20 {
                compacted::send(local.as_mut(), 5, &format!("b={number}"))?;
                if number % 2 == 0 { local.abort()? } else { compacted::commit(local.as_mut())? }
            }
            p.send(&broker, 1, "a=1")?;
            if seed % 4 < 2 {
                broker.tick()?;
            }
            for number in 20..40 {
                compacted::send(local.as_mut(), 5, &format!("b={number}"))?;
                if number % 2 == 0 { local.abort()? } else { compacted::commit(local.as_mut())? }
            }
            let end = broker.end_offset(&t(), compacted::ALL)?;
            broker.delete_records(&t(), end)?;
            broker.tick()?;
            let gone = !world.names().iter().any(|name| name.starts_with("00000000000000000000.log"));
            assert!(gone, "{:?}", world.names());
            world.files = if seed % 2 == 0 { world.files.kill() } else { world.files.power_cut(seed) };
            drop((local, broker));
            broker = world.open()?;
            assert_eq!(p.send(&broker, 1, "a=1")?, 41, "{durability:?}, seed {seed}");
            assert!(is_out_of_order(p.send(&broker, 3, "a=3"), 2), "{durability:?}, seed {seed}");
        }
    }
    Ok(())
}

/// Whether a file is a snapshot of producers, or is to be one.
fn is_snapshot(path: &Path) -> bool {
    let is_offset = path.file_stem().is_some_and(|stem| stem.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    is_offset && path.extension().is_some_and(|e| e == "snapshot" || e == "new")
}

/// While the checkpoint before a deletion was under way, more was sent and deleted: it went without having been seen.
#[test]
fn what_is_deleted_while_a_checkpoint_is_made_waits_for_the_next() -> Outcome {
    let world = World::new(Durability::Os);
    let other = Remote { id: 800, epoch: 0 };
    let begun: Arc<OnceLock<Broker>> = Arc::default();
    let (of, done) = (begun.clone(), Arc::new(AtomicBool::new(false)));
    let called = done.clone();
    let fill = move |broker: &Broker, from: i32| {
        (from..from + 30).try_for_each(|number| other.send(broker, number, &format!("b={number}")).map(drop))?;
        broker.delete_records(&t(), broker.end_offset(&t(), ALL)?)
    };
    let files = Watched::files(&world.files, move |call, path| {
        if call == "sync" && is_snapshot(path) && !called.swap(true, Ordering::Relaxed) {
            let broker = of.get().expect("a broker");
            Remote { id: 700, epoch: 0 }.send(broker, 1, "a=1").expect("an answer");
            fill(broker, 30).expect("answers");
        }
    });
    let broker = begun.get_or_init(|| Broker::open(BrokerOptions { files, ..world.options() }).expect("a broker"));
    create(broker, "segment.bytes=1024")?;
    let p = Remote { id: 700, epoch: 0 };
    p.send(broker, 0, "a=0")?;
    fill(broker, 0)?;
    broker.tick()?;
    assert!(done.load(Ordering::Relaxed), "no snapshot was synced");
    let broker = World { files: world.files.kill(), ..world }.open()?;
    assert_eq!(p.send(&broker, 1, "a=1")?, 31);
    Ok(())
}

/// What was deleted was in the journal alone: behind a kill the segment began with a gap, and what a power cut left of the next records
/// there was taken for damage of something that had been synced.
#[test]
fn a_log_that_was_deleted_before_it_was_synced_opens_after_a_kill_and_a_power_cut() -> Outcome {
    for deleted in 1..=3 {
        let world = World::new(Durability::Disk);
        let broker = world.open()?;
        create(&broker, "")?;
        let p = Remote { id: 700, epoch: 0 };
        for number in 0..3 {
            p.send(&broker, number, "k=v")?;
        }
        broker.delete_records(&t(), deleted)?;
        let world = World { files: world.files.kill(), ..world };
        drop(broker);
        let broker = world.open()?;
        for number in 3..7 {
            p.send(&broker, number, &format!("k=v{number}"))?;
        }
        let wanted = all_from(&broker, deleted)?;
        for seed in 0..100 {
            let world = World { files: world.files.power_cut(seed), ..world.clone() };
            let broker = world.open().unwrap_or_else(|error| panic!("{deleted}, {seed}: {error}"));
            assert_eq!(all_from(&broker, deleted)?, wanted, "{deleted}, {seed}");
            assert_eq!(p.send(&broker, 7, "k=v7")?, 7);
            let wanted = format!("{wanted} k=v7");
            // And once more.
            for again in 0..5 {
                let world = World { files: world.files.power_cut(seed + 100 * again), ..world.clone() };
                let broker = world.open().unwrap_or_else(|error| panic!("{deleted}, {seed}, {again}: {error}"));
                assert_eq!(all_from(&broker, deleted)?, wanted, "{deleted}, {seed}, {again}");
            }
            broker.tick()?;
            broker.close()?;
            drop(broker);
            assert_eq!(all_from(&world.open()?, deleted)?, wanted, "{deleted}, {seed}");
        }
    }
    Ok(())
}

/// Nothing was left of the segments to be synced, so the start behind the power cut wrote no snapshot, and took the last one away.
#[test]
fn a_producer_whose_deleted_batches_a_power_cut_took_is_known_at_every_later_start() -> Outcome {
    for seed in 0..20 {
        let mut world = World::new(Durability::Disk);
        let mut broker = world.open()?;
        create(&broker, "")?;
        let p = Remote { id: 700, epoch: 0 };
        for number in 0..2 {
            p.send(&broker, number, "k=v")?;
        }
        broker.delete_records(&t(), 2)?;
        world.files = world.files.power_cut(seed);
        drop(broker);
        for _ in 0..2 {
            broker = world.open()?;
            broker.close()?;
            drop(broker);
        }
        let broker = world.open()?;
        assert_eq!(p.send(&broker, 1, "k=v")?, 1, "{seed}");
        assert_eq!(p.send(&broker, 2, "k=v")?, 2, "{seed}");
    }
    Ok(())
}

/// Producers that no snapshot had were in memory alone, and the checkpoint before them was taken for one that has them.
#[test]
fn what_a_start_without_its_snapshot_has_read_is_not_deleted_before_a_checkpoint() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        let broker = world.open()?;
        create(&broker, "segment.bytes=1024")?;
        let p = Remote { id: 700, epoch: 0 };
        p.send(&broker, 0, "a=0")?;
        let mut end = 0;
        for number in 0..40 {
            end = Remote { id: 800, epoch: 0 }.send(&broker, number, &format!("b={number}"))? + 1;
        }
        broker.close()?;
        drop(broker);
        let snapshots: Vec<PathBuf> = world
            .names()
            .iter()
            .map(|name| Path::new("/data/t-0").join(name))
            .filter(|path| is_snapshot(path))
            .collect();
        assert!(!snapshots.is_empty(), "{durability:?}");
        snapshots.iter().try_for_each(|path| world.files.remove(path)).expect("files");
        let broker = world.open()?;
        broker.delete_records(&t(), end)?;
        let world = World { files: world.files.kill(), ..world };
        drop(broker);
        let broker = world.open()?;
        assert_eq!(p.send(&broker, 0, "a=0")?, 0, "{durability:?}");
    }
    Ok(())
}

/// Compaction alone makes another checkpoint at the same offset: its snapshot of producers was written over the last one's.
#[test]
fn a_snapshot_of_producers_is_there_until_the_next_one_is() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        let broker = world.open()?;
        create(&broker, "cleanup.policy=compact,delete min.cleanable.dirty.ratio=0 segment.bytes=1024")?;
        let p = Remote { id: 700, epoch: 0 };
        for number in 0..2 {
            p.send(&broker, number, &format!("p{number}=v"))?;
        }
        for number in 0..60 {
            Remote { id: 800, epoch: 0 }.send(&broker, number, &format!("k{}=v{number}", number % 4))?;
        }
        broker.delete_records(&t(), 30)?;
        broker.close()?;
        drop(broker);
        let (cuts, disk) = (Arc::new(Mutex::new(Vec::new())), world.files.clone());
        let seen = cuts.clone();
        let files = Watched::files(&world.files, move |call, path| {
            let mut seen = seen.lock().expect("no panic");
            for _ in 0..10 {
                let cut = disk.power_cut(seen.len() as u64);
                seen.push((call.to_owned(), path.to_owned(), cut));
            }
        });
        let broker = Broker::open(BrokerOptions { files, ..world.options() })?;
        cuts.lock().expect("no panic").clear();
        broker.tick()?;
        let cuts = std::mem::take(&mut *cuts.lock().expect("no panic"));
        assert!(cuts.iter().any(|(call, path, _)| call == "rename" && is_snapshot(path)), "{durability:?}");
        for (call, path, files) in cuts {
            let broker = World { files, ..world.clone() }.open()?;
            assert_eq!(p.send(&broker, 1, "p1=v")?, 1, "{durability:?}, before {call} {}", path.display());
        }
    }
    Ok(())
}
