//! A crash during compaction, before or after any of its file calls, and between its renames, leaves the old segments or the
//! new: nothing is lost, nothing comes back, and the next start goes on. A call that fails does no more harm.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use compacted::{ALL, COMMITTED, Outcome, Watched, World, batch, commit, create, producer, seen, send, t};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, Call, Fault, Files, LogError, SimFiles};
use millstream_wire::{ProducerStamp, SealOptions};

/// Disks, each with what was about to happen.
type Disks = Vec<(String, SimFiles)>;

/// The disks as power cuts would leave them, one before each call that changes something.
#[derive(Clone, Default)]
struct Cuts(Arc<Mutex<Option<Disks>>>);

impl Cuts {
    /// Files that are recorded when asked for.
    fn watch(&self, files: &SimFiles) -> Arc<dyn Files> {
        let (cuts, disk) = (self.0.clone(), files.clone());
        Watched::files(files, move |call, path| {
            if let Some(disks) = &mut *cuts.lock().expect("no panic") {
                let name = format!("cut {} before {call} {}", disks.len(), path.display());
                disks.push((name, disk.power_cut(disks.len() as u64)));
            }
        })
    }

    fn record(&self, disks: Disks) {
        *self.0.lock().expect("no panic") = Some(disks);
    }

    fn recorded(&self) -> Disks {
        self.0.lock().expect("no panic").take().unwrap_or_default()
    }
}

fn options(world: &World, files: Arc<dyn Files>) -> BrokerOptions {
    BrokerOptions { files, segment_bytes: 300, checkpoint_bytes: 2_000, ..world.options() }
}

/// What must be the same whatever happened: the last value of every key, the end, and where a producer is.
#[derive(Debug, PartialEq, Eq)]
struct State {
    table: BTreeMap<String, String>,
    end: i64,
    next: String,
}

/// Sends a batch of a producer at the other end of a connection.
fn send_from_outside(broker: &Broker, sequence: i32, records: &str) -> Result<i64, LogError> {
    let producer = Some(ProducerStamp { id: 900, epoch: 0, base_sequence: sequence });
    let sealed = batch(5, records).seal(&SealOptions { producer, ..Default::default() });
    broker.append(&t(), &sealed.expect("a batch"))
}

fn state(broker: &Broker) -> Result<State, LogError> {
    let mut table = BTreeMap::new();
    for seen in seen(broker, broker.start_offset(&t())?, COMMITTED)? {
        match seen.text.split_once('=') {
            Some((key, value)) => table.insert(key.to_owned(), value.to_owned()),
            None => table.remove(&seen.text),
        };
    }
    assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?);
    let next = match send_from_outside(broker, 1_000, "ahead=x") {
        Err(LogError::Refused { problem, .. }) => problem,
        answer => panic!("{answer:?}"),
    };
    Ok(State { table, end: broker.end_offset(&t(), ALL)?, next })
}

/// A log of a few keys, with tombstones and transactions, all of it on the disk. Some of it was compacted before. One of the two has
/// no aborted transactions.
fn prepare(world: &World) -> Outcome {
    let aborts = world.options().durability == Durability::Os;
    let broker = Broker::open(options(world, Arc::new(world.files.clone())))?;
    create(&broker, "cleanup.policy=compact min.cleanable.dirty.ratio=0 delete.retention.ms=100")?;
    for round in 0..2 {
        let (mut a, mut plain) = (producer(&broker, Some("a"))?, producer(&broker, None)?);
        for number in 0..8 {
            send(plain.as_mut(), 5, &format!("k{}=p{round}-{number} gone{}", number % 3, number % 2))?;
            send(a.as_mut(), 5, &format!("k{}=a{round}-{number} gone{}=x", number % 4, number % 2))?;
            if aborts && number % 3 == 0 {
                a.abort()?
            } else {
                commit(a.as_mut())?
            }
            if number % 3 == 1 {
                send_from_outside(&broker, round * 3 + number / 3, &format!("outside-{round}-{number}=x"))?;
            }
        }
        send(plain.as_mut(), 5, "gone0 gone1")?;
        send(plain.as_mut(), 5, &format!("k9=p{round}-{}", "x".repeat(300)))?;
        send(plain.as_mut(), 5, "k9=last")?;
        if round == 0 {
            broker.tick()?;
        }
    }
    broker.close()
}

#[test]
fn a_power_cut_before_any_file_call_of_compaction_loses_nothing_and_brings_nothing_back() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        prepare(&world)?;
        let cuts = Cuts::default();
        let mut broker = Broker::open(options(&world, cuts.watch(&world.files)))?;
        let before = state(&broker)?;
        assert!(!before.table.contains_key("gone0"));
        cuts.record(Vec::new());
        broker.tick()?;
        // The time of the tombstones and markers has come in the second round; the third finds small segments.
        for round in 0..2 {
            world.advance(200);
            let disks = cuts.recorded();
            broker.append(
                &t(),
                &batch(5, &format!("k9={round}{}", "x".repeat(300))).seal(&Default::default()).expect("a batch"),
            )?;
            broker.append(&t(), &batch(5, "k9=last").seal(&Default::default()).expect("a batch"))?;
            if durability == Durability::Os {
                // What was not synced is not promised to outlive a power cut: only compaction is looked at.
                broker.close()?;
                drop(broker);
                broker = Broker::open(options(&world, cuts.watch(&world.files)))?;
            }
            cuts.record(disks);
            broker.tick()?;
        }
        let after = State { end: before.end + 4, ..state(&broker)? };
        assert_eq!(after.table, before.table);
        let disks = cuts.recorded();
        let renames = disks.iter().filter(|(name, _)| name.contains("rename") && name.contains("log.swap")).count();
        assert!(disks.len() > 150 && renames > 5, "{} {renames}", disks.len());
        for (name, files) in disks {
            let world = World { files, ..world.clone() };
            let check = || -> Outcome {
                for again in 0..2 {
                    let broker = Broker::open(options(&world, Arc::new(world.files.clone())))?;
                    let found = state(&broker)?;
                    assert_eq!(found.table, before.table, "{durability:?}, {name}, {again}");
                    assert_eq!(found.next, before.next, "{durability:?}, {name}, {again}");
                    assert!((before.end..=after.end).contains(&found.end), "{durability:?}, {name}: {}", found.end);
                    let left = world.names();
                    assert!(!left.iter().any(|n| n.ends_with("cleaned") || n.ends_with("swap")), "{name}: {left:?}");
                    broker.tick()?;
                    assert_eq!(state(&broker)?, found, "{durability:?}, {name}: compacted again");
                    broker.close()?;
                }
                Ok(())
            };
            check().unwrap_or_else(|e| panic!("{durability:?}, {name}: {e}"));
        }
    }
    Ok(())
}

#[test]
fn a_call_that_fails_leaves_the_log_as_it_was_and_is_made_again() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let prepared = World::new(durability);
        prepare(&prepared)?;
        let undisturbed = prepared.copy();
        let broker = Broker::open(options(&undisturbed, Arc::new(undisturbed.files.clone())))?;
        let before = state(&broker)?;
        let from = undisturbed.files.calls();
        broker.tick()?;
        let calls = undisturbed.files.calls() - from;
        assert!(calls > 50, "{calls}");
        let mut failures = 0;
        for skip in 0..calls {
            for (call, kind) in [
                (Call::Write, ErrorKind::StorageFull),
                (Call::Write, ErrorKind::Other),
                (Call::Sync, ErrorKind::Other),
                (Call::Read, ErrorKind::Other),
            ] {
                let place = format!("{durability:?}: {call:?} {kind:?} at {skip}");
                let world = prepared.copy();
                let broker = Broker::open(options(&world, Arc::new(world.files.clone())))?;
                world.files.fail(Fault { call, skip, times: 1, kind });
                let failed = broker.tick().is_err();
                failures += u32::from(failed);
                world.files.heal();
                match state(&broker) {
                    // Nobody may believe this disk any more.
                    Err(LogError::Io { .. }) if failed && call == Call::Sync => {}
                    found => assert_eq!(found?, before, "{place}"),
                }
                if failed && call != Call::Sync {
                    broker.tick()?;
                    assert_eq!(state(&broker)?, before, "{place}: tried again");
                    let left = world.names();
                    assert!(!left.iter().any(|n| n.ends_with("cleaned") || n.ends_with("swap")), "{place}: {left:?}");
                }
                let files = world.files.power_cut(skip);
                let broker = Broker::open(options(&world, Arc::new(files)))?;
                assert_eq!(state(&broker)?, before, "{place}: after a start");
            }
        }
        assert!(failures > 50, "{failures}");
    }
    Ok(())
}

/// A start replays the journal onto what the last checkpoint has synced. What was compacted beyond that is as it was written
/// then, and must not be taken for compacted: a tombstone would go before the value that it deletes.
#[test]
fn what_no_checkpoint_has_synced_is_not_compacted_under_the_journal() -> Outcome {
    let world = World::new(Durability::Disk);
    let cuts = Cuts::default();
    let options_of = |files| BrokerOptions { checkpoint_bytes: 1 << 30, ..options(&world, files) };
    let broker = Broker::open(options_of(cuts.watch(&world.files)))?;
    create(&broker, "cleanup.policy=compact min.cleanable.dirty.ratio=0 delete.retention.ms=1")?;
    send_from_outside(&broker, 0, "from-outside=x")?;
    let mut p = producer(&broker, None)?;
    for half in 0..2 {
        for number in 0..30 {
            send(p.as_mut(), 5, &format!("k{}={half}-{number}", number % 3))?;
            send(p.as_mut(), 5, if number < 10 { "gone=x" } else { "gone" })?;
        }
        // Acknowledged, so on the disk; the second half is behind the checkpoint that the first has brought about.
        broker.append(&t(), &batch(5, &format!("k0=end{half}")).seal(&Default::default()).expect("a batch"))?;
        let before = state(&broker)?;
        cuts.record(Vec::new());
        broker.tick()?;
        let disks = cuts.recorded();
        assert!(disks.len() > 30, "{}", disks.len());
        for (name, files) in disks {
            let broker = Broker::open(options_of(Arc::new(files))).unwrap_or_else(|e| panic!("{half}, {name}: {e}"));
            assert_eq!(state(&broker)?, before, "{half}, {name}");
            for _ in 0..4 {
                let mut p = producer(&broker, None)?;
                (0..8).try_for_each(|n| send(p.as_mut(), 5, &format!("k9={n}{}", "x".repeat(100))))?;
                world.advance(10);
                broker.tick()?;
            }
            let mut table = state(&broker)?.table;
            table.remove("k9");
            assert_eq!(table, before.table, "{half}, {name}: compacted further");
        }
    }
    Ok(())
}
