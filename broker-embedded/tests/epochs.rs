//! One transactional id, many owners: epochs run out, and owners of the past go on writing. Whoever is not the last owner
//! changes nothing, and leaves no transaction behind that nobody ends.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::io::ErrorKind;

use compacted::{ALL, COMMITTED, Dice, Outcome, World, commit, create, producer, send, t, texts};
use millstream_broker::Durability;
use millstream_core::{Admin, Call, Fault, LogError, Producer};

/// The producer id was changed with the epochs used up, and the old owner was fenced under the new id alone.
#[test]
fn an_id_outlives_its_epochs_and_owners_before_are_fenced() -> Outcome {
    let world = World::new(Durability::Memory);
    let broker = world.open()?;
    create(&broker, "")?;
    let mut owner = producer(&broker, Some("a"))?;
    for number in 1..=i16::MAX as i32 + 20 {
        let is_near = number > i16::MAX as i32 - 20;
        if is_near {
            // It has written before it is replaced, and goes on after.
            send(owner.as_mut(), 5, &format!("k=open{number}"))?;
        }
        let mut before = std::mem::replace(&mut owner, producer(&broker, Some("a"))?);
        if is_near {
            let late = send(before.as_mut(), 5, "k=late");
            assert!(matches!(late, Err(LogError::Fenced { .. })), "owner {number}: {late:?}");
            assert!(matches!(commit(before.as_mut()), Err(LogError::Fenced { .. })), "owner {number}");
            assert!(matches!(before.abort(), Err(LogError::Fenced { .. })), "owner {number}");
            send(owner.as_mut(), 5, &format!("k=v{number}"))?;
            commit(owner.as_mut())?;
            assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?, "owner {number}");
            assert!(texts(&broker, COMMITTED)?.ends_with(&format!("k=v{number}")), "owner {number}");
        }
    }
    Ok(())
}

/// The coordinator's entry was removed, or ended, by another epoch of the same id.
#[test]
fn owners_of_the_past_change_nothing_whatever_they_do() -> Outcome {
    for seed in 0..200 {
        let world = World::new(Durability::Memory);
        let broker = world.open()?;
        create(&broker, "")?;
        let mut dice = Dice(seed);
        let mut owners: Vec<Box<dyn Producer>> = vec![producer(&broker, Some("a"))?];
        let (mut written, mut open) = (Vec::new(), Vec::new());
        for number in 0..60 {
            let last = owners.len() - 1;
            let who = if dice.below(2) == 0 { last } else { dice.below(owners.len() as u64) as usize };
            let done = match dice.below(8) {
                0..4 => {
                    send(owners[who].as_mut(), 5, &format!("k={number}")).map(|()| open.push(format!("k={number}")))
                }
                4 | 5 => commit(owners[who].as_mut()).map(|()| written.append(&mut open)),
                6 => owners[who].abort().map(|()| open.clear()),
                _ => {
                    owners.push(producer(&broker, Some("a"))?);
                    open.clear();
                    continue;
                }
            };
            match done {
                Err(LogError::Fenced { .. }) => {
                    assert_ne!(who, last, "seed {seed}, {number}: the last owner was fenced")
                }
                Ok(()) => assert_eq!(who, last, "seed {seed}, {number}: an owner of the past was heard"),
                Err(error) => return Err(error),
            }
            assert_eq!(texts(&broker, COMMITTED)?, written.join(" "), "seed {seed}, {number}");
        }
        let mut owner = producer(&broker, Some("a"))?;
        commit(owner.as_mut())?;
        assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?, "seed {seed}: nothing hangs");
    }
    Ok(())
}

#[test]
fn an_empty_id_is_no_id() -> Outcome {
    let broker = World::new(Durability::Memory).open()?;
    let refused = producer(&broker, Some("")).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refused.contains("transactional.id") && refused.contains("help:"), "{refused}");
    Ok(())
}

/// Owners whose markers were written and whose record was not: after a start the next one had an epoch that the partition had passed,
/// and was told that a newer producer had taken over.
#[test]
fn an_epoch_that_a_partition_has_seen_is_not_given_again() -> Outcome {
    for attempts in 1..5 {
        let world = World::new(Durability::Os);
        let broker = world.open()?;
        create(&broker, "")?;
        let mut owner = producer(&broker, Some("a"))?;
        send(owner.as_mut(), 5, "k=open")?;
        for attempt in 1..=attempts {
            // The last one writes its marker, and not its record.
            let skip = u64::from(attempt == attempts);
            world.files.fail(Fault { call: Call::Write, skip, times: 3, kind: ErrorKind::Other });
            assert!(producer(&broker, Some("a")).is_err(), "{attempt} of {attempts}");
            world.files.heal();
        }
        let world = World { files: world.files.kill(), ..world };
        drop(broker);
        let broker = world.open()?;
        let mut owner = producer(&broker, Some("a"))?;
        send(owner.as_mut(), 6, "k=next")?;
        commit(owner.as_mut())?;
        assert_eq!(texts(&broker, COMMITTED)?, "k=next", "{attempts}");
    }
    Ok(())
}
