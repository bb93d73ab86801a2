//! A write that fails in the middle of an append leaves no half of a batch and no offset behind: the next append has the offset
//! of the one that failed, and a start finds what was appended.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::io::ErrorKind;

use compacted::{ALL, COMMITTED, Outcome, World, create, producer, seen, send, t};
use millstream_broker::Durability;
use millstream_core::{Admin, Call, CommitOutcome, Fault, GroupOffsets};

#[test]
fn no_offset_is_given_twice_and_none_is_left_out() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            for skip in 0..40 {
                let place = format!("{durability:?}, {kind:?} at {skip}");
                let mut world = World::new(durability);
                let broker = world.open()?;
                create(&broker, "")?;
                let mut p = producer(&broker, None)?;
                world.files.fail(Fault { call: Call::Write, skip, times: 2, kind });
                let mut appended: Vec<String> = Vec::new();
                for number in 0..30 {
                    assert_eq!(broker.end_offset(&t(), ALL)?, appended.len() as i64, "{place}");
                    let text = format!("k={number}");
                    match send(p.as_mut(), 5, &format!("{text} {text}")) {
                        Ok(()) => appended.extend([text.clone(), text]),
                        Err(error) => assert!(error.to_string().contains("/data/t-0"), "{place}: {error}"),
                    }
                }
                assert!(appended.len() >= 2 * 28, "{place}");
                world.files.heal();
                let texts = |broker: &_| Ok(seen(broker, 0, ALL)?.into_iter().map(|s| s.text).collect::<Vec<_>>());
                assert_eq!(texts(&broker)?, appended, "{place}");
                broker.close()?;
                drop((p, broker));
                world.files = world.files.power_cut(skip);
                assert_eq!(texts(&world.open()?)?, appended, "{place}: after a start");
            }
        }
    }
    Ok(())
}

/// The commit's marker, or what says that it is complete, cannot be written: it is written later, and once.
#[test]
fn a_commit_of_which_a_write_failed_is_whole_in_the_end_or_never_was() -> Outcome {
    for skip in 0..12 {
        let mut world = World::new(Durability::Os);
        let broker = world.open()?;
        create(&broker, "")?;
        let mut a = producer(&broker, Some("a"))?;
        send(a.as_mut(), 5, "k=1 k=2")?;
        world.files.fail(Fault { call: Call::Write, skip, times: 1, kind: ErrorKind::StorageFull });
        let position = millstream_core::CommittedOffset { offset: 7, metadata: String::new() };
        let of = millstream_core::TopicPartition::new("in", 0);
        a.commit(GroupOffsets { group: "g".into(), offsets: vec![(of, position)] });
        let outcome = a.poll_commit();
        world.files.heal();
        let mut next = producer(&broker, Some("a"))?;
        let seen_of = |broker: &_| Ok::<_, millstream_core::LogError>(seen(broker, 0, COMMITTED)?.len());
        let positions = broker.group_offsets().len();
        match outcome {
            Some(CommitOutcome::Done) => assert_eq!((seen_of(&broker)?, positions), (2, 1), "{skip}"),
            Some(CommitOutcome::Failed(_)) => assert_eq!((seen_of(&broker)?, positions), (0, 0), "{skip}"),
            _ => assert_eq!(seen_of(&broker)?, 2 * positions, "{skip}: both or neither"),
        }
        let before = (seen_of(&broker)?, positions);
        send(next.as_mut(), 5, "k=3")?;
        next.abort()?;
        assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?, "{skip}: nothing hangs");
        broker.close()?;
        drop((a, next, broker));
        world.files = world.files.power_cut(skip);
        let broker = world.open()?;
        assert_eq!((seen_of(&broker)?, broker.group_offsets().len()), before, "{skip}: after a start");
    }
    Ok(())
}
