//! The logs of positions and of transactions are compacted in truth, and a start finds in what is left of them what was in all
//! of them: over gaps, over batches without records, with tombstones alone, with one large record, with what was compacted
//! between its prepare and its end.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::path::Path;

use compacted::{COMMITTED, Outcome, World, create, producer, send, texts};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, CommitOutcome, CommittedOffset, Files, GroupOffsets, LogError, Producer, TopicPartition, TopicSpec,
};

fn options(world: &World) -> BrokerOptions {
    // Internal topics have segments of 1024 bytes then.
    BrokerOptions { checkpoint_bytes: 20_000, ..world.options() }
}

fn commit_positions(broker: &Broker, p: &mut dyn Producer, group: &str, offset: i64, metadata: &str) -> Outcome {
    let position = CommittedOffset { offset, metadata: metadata.to_owned() };
    p.commit(GroupOffsets { group: group.into(), offsets: vec![(TopicPartition::new("in", 0), position)] });
    broker.tick()?;
    match p.poll_commit() {
        Some(CommitOutcome::Done) => Ok(()),
        other => panic!("{other:?}"),
    }
}

/// Bytes of an internal topic's segments.
fn size(world: &World, topic: &str) -> usize {
    let dir = Path::new("/data").join(format!("{topic}-0"));
    let names = world.files.list(&dir).expect("a folder");
    let logs = names.iter().filter(|n| n.ends_with(".log"));
    logs.map(|n| world.files.read(&dir.join(n)).expect("a segment").len()).sum()
}

#[test]
fn positions_and_ids_are_found_in_what_compaction_has_left() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let mut world = World::new(durability);
        let mut broker = Broker::open(options(&world))?;
        create(&broker, "")?;
        for life in 0..3 {
            let mut producers: Vec<_> = (0..3)
                .map(|n| producer(&broker, (n > 0).then_some(["", "a", "b"][n])))
                .collect::<Result<_, LogError>>()?;
            for number in 0..100 {
                let who = (number % 3) as usize;
                if who > 0 {
                    send(producers[who].as_mut(), 5, &format!("k={who}-{number}"))?;
                }
                if number % 5 == 4 {
                    producers[who].abort()?;
                } else {
                    commit_positions(
                        &broker,
                        producers[who].as_mut(),
                        ["p", "a", "b"][who],
                        life * 1_000 + number,
                        "m",
                    )?;
                }
                // Tombstones and markers get old.
                world.advance(3_600_000);
            }
            let before = broker.group_offsets();
            let values = texts(&broker, COMMITTED)?;
            for topic in ["__consumer_offsets", "__transaction_state"] {
                let left = size(&world, topic);
                assert!(left < 12_000, "{durability:?}, life {life}: {left} bytes in {topic}");
            }
            drop(producers);
            if durability == Durability::Disk {
                world.files = world.files.power_cut(life as u64);
            }
            drop(broker);
            broker = Broker::open(options(&world))?;
            assert_eq!(broker.group_offsets(), before, "{durability:?}, life {life}");
            assert_eq!(texts(&broker, COMMITTED)?, values);
        }
    }
    Ok(())
}

/// A position's metadata of any size, and one large record, do not hold the start up.
#[test]
fn a_large_position_is_read_like_any_other() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = Broker::open(options(&world))?;
    let mut p = producer(&broker, None)?;
    for number in 0..10 {
        commit_positions(&broker, p.as_mut(), "g", number, &"m".repeat(32_000))?;
    }
    drop((p, broker));
    let broker = Broker::open(options(&world))?;
    let found = broker.committed("g", &[TopicPartition::new("in", 0)])?;
    assert_eq!(found[0].as_ref().map(|o| (o.offset, o.metadata.len())), Some((9, 32_000)));
    Ok(())
}

/// A group whose positions were deleted with their topic leaves tombstones alone; a start finds no position, and says so.
#[test]
fn a_log_of_tombstones_alone_is_a_log_without_positions() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = Broker::open(options(&world))?;
    for number in 0..15 {
        broker.create_topic(&TopicSpec { name: "in".into(), partitions: 1, configs: Default::default() })?;
        let mut p = producer(&broker, None)?;
        commit_positions(&broker, p.as_mut(), "g", number, "m")?;
        assert_eq!(broker.group_offsets().len(), 1);
        broker.delete_topic("in")?;
    }
    world.advance(100);
    broker.tick()?;
    drop(broker);
    for _ in 0..2 {
        let broker = Broker::open(options(&world))?;
        assert_eq!(broker.group_offsets(), []);
        world.advance(25 * 3_600_000);
        broker.tick()?;
    }
    Ok(())
}

/// Positions were forgotten while their group lived, because their time was read wrong after a start: age alone takes none.
#[test]
fn positions_are_kept_however_old_they_are() -> Outcome {
    let world = World::new(Durability::Os);
    let mut broker = Broker::open(options(&world))?;
    let mut p = producer(&broker, None)?;
    commit_positions(&broker, p.as_mut(), "g", 7, "m")?;
    drop(p);
    for _ in 0..4 {
        world.advance(8 * 24 * 3_600_000);
        broker.tick()?;
        assert_eq!(broker.group_offsets().len(), 1);
        drop(broker);
        broker = Broker::open(options(&world))?;
        assert_eq!(broker.group_offsets().len(), 1);
    }
    Ok(())
}
