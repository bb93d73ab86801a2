//! Compaction knows transactions: markers are no data, and go after the records they decide about; aborted records go whatever
//! their key; nothing at or above the last stable offset is touched; and what a committed reader sees is the same before and
//! after.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use compacted::{ALL, COMMITTED, Outcome, World, commit, create, producer, seen, send, t, texts};
use millstream_broker::{Broker, Durability};
use millstream_core::{Admin, LogError, Producer};

/// Ends a producer's transaction: committed, aborted, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
    Open,
}

fn end(producer: &mut dyn Producer, how: End) -> Outcome {
    match how {
        End::Commit => commit(producer),
        End::Abort => producer.abort(),
        End::Open => Ok(()),
    }
}

/// Fills the segment up, so that what came before is in closed ones.
fn fill(broker: &Broker) -> Outcome {
    let mut plain = producer(broker, None)?;
    for number in 0..4 {
        send(plain.as_mut(), 5, &format!("fill={number}{}", "x".repeat(300)))?;
    }
    Ok(())
}

/// Ticks often and long enough for tombstones and markers to go.
fn compact(world: &World, broker: &Broker) -> Outcome {
    for _ in 0..4 {
        world.advance(1_000);
        fill(broker)?;
        broker.tick()?;
    }
    Ok(())
}

const SETTINGS: &str = "cleanup.policy=compact min.cleanable.dirty.ratio=0 delete.retention.ms=1000 segment.bytes=1024";

fn without_fill(text: String) -> String {
    text.split(' ').filter(|t| !t.starts_with("fill")).collect::<Vec<_>>().join(" ")
}

/// What the committed, the aborted and the open leave, alone and one over the other, of the same key and of others.
#[test]
fn every_end_of_a_transaction_over_every_other_leaves_what_a_committed_reader_saw() -> Outcome {
    let ends = [End::Commit, End::Abort, End::Open];
    let all = ends.into_iter().flat_map(|a| ends.into_iter().map(move |b| (a, b)));
    for ((first, second), durability) in
        all.flat_map(|e| [Durability::Memory, Durability::Os, Durability::Disk].map(|d| (e, d)))
    {
        for (fill_between, restart) in [(false, false), (true, false), (true, true)] {
            let place = format!("{first:?}, {second:?}, {durability:?}, {fill_between}, {restart}");
            let mut world = World::new(durability);
            let mut broker = world.open()?;
            create(&broker, SETTINGS)?;
            let (mut a, mut b) = (producer(&broker, Some("a"))?, producer(&broker, Some("b"))?);
            let mut plain = producer(&broker, None)?;
            send(plain.as_mut(), 5, "x=0 y=0 z=0")?;
            send(a.as_mut(), 5, "x=a only-a=1")?;
            if fill_between {
                fill(&broker)?;
            }
            send(b.as_mut(), 5, "x=b y=b z only-b=1")?;
            end(a.as_mut(), first)?;
            if fill_between {
                fill(&broker)?;
            }
            end(b.as_mut(), second)?;
            fill(&broker)?;
            let before = table(&without_fill(texts(&broker, COMMITTED)?));
            let stable = broker.end_offset(&t(), COMMITTED)?;
            let above = seen(&broker, stable, ALL)?;
            compact(&world, &broker)?;
            assert_eq!(table(&without_fill(texts(&broker, COMMITTED)?)), before, "{place}");
            if first == End::Open || second == End::Open {
                let now_above = seen(&broker, stable, ALL)?;
                assert_eq!(now_above[..above.len()], above, "{place}: nothing above the last stable offset is touched");
            }
            // Aborted records are not there for anybody; nor is anything left of a tombstone.
            let all = texts(&broker, ALL)?;
            let is_below = |how: &[End]| how.iter().all(|end| *end != End::Open);
            if is_below(&[first, second]) {
                for (how, only) in [(first, "only-a=1"), (second, "only-b=1")] {
                    assert_eq!(all.contains(only), how == End::Commit, "{place}: {all}");
                }
                assert!(!all.split(' ').any(|t| t == "z"), "{place}: {all}");
            }
            // Producers go on where they were.
            send(a.as_mut(), 5, "after=a")?;
            end(a.as_mut(), End::Commit)?;
            if restart && durability != Durability::Memory {
                broker.tick()?;
                drop((a, b, plain));
                if durability == Durability::Disk {
                    world.files = world.files.power_cut(7);
                }
                drop(broker);
                broker = world.open()?;
                let mut wanted = before.clone();
                wanted.extend((first != End::Open).then(|| ("after".to_owned(), "after=a".to_owned())));
                if second == End::Open || first == End::Open {
                    // A start aborts what was open: what came later is seen.
                    continue;
                }
                assert_eq!(table(&without_fill(texts(&broker, COMMITTED)?)), wanted, "{place}: after a start");
            }
        }
    }
    Ok(())
}

fn table(text: &str) -> std::collections::BTreeMap<String, String> {
    let mut table = std::collections::BTreeMap::new();
    for text in text.split_whitespace() {
        match text.split_once('=') {
            Some((key, _)) => table.insert(key.to_owned(), text.to_owned()),
            None => table.remove(text),
        };
    }
    table
}

/// How many batches of a kind are in the partition's files: markers, and those without records.
fn batches(world: &World) -> (usize, usize) {
    let (mut markers, mut empty) = (0, 0);
    for name in world.names().iter().filter(|n| n.ends_with(".log")) {
        let path = std::path::Path::new("/data/t-0").join(name);
        let mut bytes = bytes::Bytes::from(millstream_core::Files::read(&world.files, &path).expect("a segment"));
        while let Some(batch) = millstream_wire::RecordBatch::split_from(&mut bytes).expect("batches") {
            markers += usize::from(batch.header().is_control() && batch.header().count > 0);
            empty += usize::from(batch.header().count == 0);
        }
    }
    (markers, empty)
}

/// Markers that went with their key's newest, or with a transaction that still had records; and markers that never went.
#[test]
fn a_marker_outlives_the_records_of_its_transaction_and_then_a_tombstones_time() -> Outcome {
    for how in [End::Commit, End::Abort] {
        let world = World::new(Durability::Os);
        let broker = world.open()?;
        create(&broker, SETTINGS)?;
        let mut a = producer(&broker, Some("a"))?;
        send(a.as_mut(), 5, "x=a")?;
        end(a.as_mut(), how)?;
        // The producer goes on: its first transaction need not be remembered for it.
        fill(&broker)?;
        send(a.as_mut(), 5, "y=a")?;
        end(a.as_mut(), End::Commit)?;
        fill(&broker)?;
        assert_eq!(batches(&world).0, 2);
        for (round, wait, wanted) in
            [("aborted records go", 10_000, 2), ("it gets its time", 0, 2), ("not yet", 999, 2)]
        {
            world.advance(wait);
            fill(&broker)?;
            broker.tick()?;
            assert_eq!(batches(&world).0, wanted, "{how:?}: {round}");
        }
        world.advance(1);
        fill(&broker)?;
        broker.tick()?;
        // A committed record that is the newest of its key keeps its marker for ever.
        assert_eq!(batches(&world).0, if how == End::Commit { 2 } else { 1 }, "{how:?}");
        let mut plain = producer(&broker, None)?;
        send(plain.as_mut(), 5, "x=newer")?;
        compact(&world, &broker)?;
        compact(&world, &broker)?;
        assert_eq!(batches(&world).0, 1, "{how:?}");
        assert_eq!(without_fill(texts(&broker, COMMITTED)?), "y=a x=newer");
    }
    Ok(())
}

/// Aborted transactions are forgotten with their records: neither memory nor the snapshot of producers grows for ever, and a
/// start finds the same from its files as without them.
#[test]
fn aborted_transactions_are_forgotten_with_their_records() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, SETTINGS)?;
    let mut a = producer(&broker, Some("a"))?;
    let snapshot = |world: &World| {
        let name = world.names().into_iter().rfind(|n| n.ends_with(".snapshot")).expect("a snapshot");
        let path = std::path::Path::new("/data/t-0").join(name);
        let bytes = millstream_core::Files::read(&world.files, &path).expect("a snapshot");
        // The aborted transactions are at its end, 24 bytes each.
        bytes.len() / 24
    };
    for number in 0..50 {
        send(a.as_mut(), 5, &format!("x={number}"))?;
        a.abort()?;
    }
    send(a.as_mut(), 5, "x=last")?;
    commit(a.as_mut())?;
    fill(&broker)?;
    broker.tick()?;
    assert!((50..60).contains(&snapshot(&world)), "{}", snapshot(&world));
    compact(&world, &broker)?;
    assert!(snapshot(&world) < 10, "{}", snapshot(&world));
    broker.close()?;
    drop((a, broker));
    let broker = world.open()?;
    assert_eq!(without_fill(texts(&broker, COMMITTED)?), "x=last");
    Ok(())
}

/// A producer's last batch is gone with its key, and its sequence number with it: a start must still know where it was.
#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, SETTINGS)?;
    let mut a = producer(&broker, Some("a"))?;
    send(a.as_mut(), 5, "x=1 x=2 x=3")?;
    commit(a.as_mut())?;
    let mut newer = producer(&broker, Some("a"))?;
    send(newer.as_mut(), 5, "x=4")?;
    commit(newer.as_mut())?;
    let mut plain = producer(&broker, None)?;
    send(plain.as_mut(), 5, "x=5")?;
    fill(&broker)?;
    compact(&world, &broker)?;
    assert_eq!(without_fill(texts(&broker, ALL)?), "x=5");
    assert!(batches(&world).1 >= 1, "{:?}", batches(&world));
    drop((a, newer, plain));
    broker.close()?;
    drop(broker);
    // Without the snapshot of producers the segments tell: an older epoch is fenced still.
    for name in world.names().into_iter().filter(|n| n.ends_with(".snapshot")) {
        let path = std::path::Path::new("/data/t-0").join(name);
        millstream_core::Files::remove(&world.files, &path).expect("a file");
    }
    let broker = world.open()?;
    let stamp = millstream_wire::ProducerStamp { id: 0, epoch: 0, base_sequence: 3 };
    let late = compacted::batch(5, "x=late")
        .seal(&millstream_wire::SealOptions { producer: Some(stamp), ..Default::default() });
    let refused = broker.append(&t(), &late.expect("a batch"));
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    Ok(())
}
