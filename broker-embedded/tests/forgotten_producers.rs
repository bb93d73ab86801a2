//! Producers come and go for ever, memory does not grow with them: ids that nobody uses are forgotten. One of them that comes
//! back after all goes on, and is neither taken for another nor refused for ever.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::time::Duration;

use compacted::{COMMITTED, Outcome, World, batch, commit, create, producer, send, t, texts};
use millstream_broker::{Broker, Durability};
use millstream_core::{LogError, Offset};
use millstream_wire::{ProducerStamp, SealOptions};

const DAY: u64 = 24 * 3_600_000;
const EVERY: [Durability; 3] = [Durability::Memory, Durability::Os, Durability::Disk];

fn remote(broker: &Broker, id: i64, sequence: i32, records: &str) -> Result<Offset, LogError> {
    let producer = Some(ProducerStamp { id, epoch: 0, base_sequence: sequence });
    broker.append(&t(), &batch(5, records).seal(&SealOptions { producer, ..Default::default() }).expect("a batch"))
}

fn is_refused(result: Result<Offset, LogError>) -> bool {
    matches!(result, Err(LogError::Refused { problem, .. }) if problem.starts_with("OUT_OF_ORDER"))
}

/// The age of its records decided, which may be as old as they like: the producer was forgotten while it wrote.
#[test]
fn a_partition_forgets_a_producer_a_day_after_its_last_batch() -> Outcome {
    for durability in EVERY {
        let world = World::new(durability);
        world.advance(1_000 * DAY);
        let mut broker = world.open()?;
        create(&broker, "")?;
        for day in 0..3 {
            remote(&broker, 7, day, "a=old")?;
            broker.tick()?;
            world.advance(DAY - 1);
            broker.tick()?;
            assert!(is_refused(remote(&broker, 7, day + 2, "a=gap")), "{durability:?}, {day}");
        }
        remote(&broker, 7, 3, "a=old")?;
        broker.tick()?;
        world.advance(DAY - 1);
        if durability != Durability::Memory {
            broker.close()?;
            drop(broker);
            broker = world.open()?;
        }
        broker.tick()?;
        assert!(is_refused(remote(&broker, 7, 5, "a=gap")), "{durability:?}");
        world.advance(2 * DAY);
        broker.tick()?;
        world.advance(2 * DAY);
        broker.tick()?;
        // S23: it goes on.
        remote(&broker, 7, 5, "a=on")?;
        assert!(is_refused(remote(&broker, 7, 7, "a=gap")), "{durability:?}");
    }
    Ok(())
}

#[test]
fn a_producer_with_a_transaction_open_is_not_forgotten() -> Outcome {
    let world = World::new(Durability::Memory);
    let options = millstream_broker::BrokerOptions {
        transaction_max_timeout: Duration::from_secs(100 * 24 * 3600),
        ..world.options()
    };
    let broker = Broker::open(options)?;
    create(&broker, "")?;
    let settings = millstream_core::ProducerOptions {
        transaction_timeout: Duration::from_secs(24 * 24 * 3600),
        ..millstream_core::ProducerOptions::transactional("test", "a")
    };
    let mut a = millstream_core::Log::producer(&broker, &settings, Default::default())?;
    send(a.as_mut(), 5, "k=1")?;
    for _ in 0..20 {
        world.advance(DAY);
        broker.tick()?;
    }
    send(a.as_mut(), 5, "k=2")?;
    assert_eq!(texts(&broker, COMMITTED)?, "");
    commit(a.as_mut())?;
    assert_eq!(texts(&broker, COMMITTED)?, "k=1 k=2");
    Ok(())
}

/// The id was gone, and its producer refused for ever.
#[test]
fn a_transactional_id_is_forgotten_after_seven_days_and_comes_back() -> Outcome {
    for durability in EVERY {
        let world = World::new(durability);
        let mut broker = world.open()?;
        create(&broker, "")?;
        let mut a = producer(&broker, Some("a"))?;
        let mut used = producer(&broker, Some("used"))?;
        send(a.as_mut(), 5, "k=a1")?;
        commit(a.as_mut())?;
        for day in 0..8 {
            world.advance(DAY);
            send(used.as_mut(), 5, &format!("u={day}"))?;
            commit(used.as_mut())?;
            broker.tick()?;
        }
        assert!(matches!(send(a.as_mut(), 5, "k=late"), Err(LogError::Forgotten { .. })), "{durability:?}");
        let mut again = producer(&broker, Some("a"))?;
        send(again.as_mut(), 5, "k=a2")?;
        commit(again.as_mut())?;
        assert!(matches!(send(a.as_mut(), 5, "k=late"), Err(LogError::Fenced { .. })), "{durability:?}");
        send(used.as_mut(), 5, "u=last")?;
        commit(used.as_mut())?;
        drop((a, again, used));
        if durability != Durability::Memory {
            broker.close()?;
            drop(broker);
            broker = world.open()?;
        }
        let found = texts(&broker, COMMITTED)?;
        assert!(found.starts_with("k=a1 u=0") && found.ends_with("k=a2 u=last"), "{durability:?}: {found}");
    }
    Ok(())
}

/// Ids were kept for ever; and those that were forgotten gave their producer ids to others after a restart.
#[test]
fn ten_thousand_ids_are_forgotten_and_no_producer_id_is_given_twice() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, "")?;
    let mut last = None;
    for number in 0..10_000 {
        let mut p = producer(&broker, Some(&format!("id-{number}")))?;
        if number > 9_990 {
            send(p.as_mut(), 5, &format!("k{number}=1"))?;
            commit(p.as_mut())?;
        }
        last = Some(p);
    }
    drop(last);
    broker.tick()?;
    world.advance(8 * DAY);
    broker.tick()?;
    broker.close()?;
    drop(broker);
    let broker = world.open()?;
    // What was forgotten is not read again by the next start: one id is left.
    let ids = ids(&broker)?;
    assert_eq!(ids, ["id-9999"]);
    let mut p = producer(&broker, Some("new"))?;
    send(p.as_mut(), 5, "k=new")?;
    commit(p.as_mut())?;
    let raw = producer_ids(&broker)?;
    assert_eq!(raw.last(), Some(&10_000), "{raw:?}");
    Ok(())
}

/// Transactional ids that the log knows, as a tool reads them.
fn ids(broker: &Broker) -> Result<Vec<String>, LogError> {
    let mut known = std::collections::BTreeMap::new();
    fetched(broker, "__transaction_state", |record| {
        let key = record.key.expect("a key").as_slice();
        known.insert(String::from_utf8_lossy(&key[4..]).into_owned(), record.value.is_some());
    })?;
    Ok(known.into_iter().filter(|(_, is_there)| *is_there).map(|(id, _)| id).collect())
}

fn producer_ids(broker: &Broker) -> Result<Vec<i64>, LogError> {
    let mut newest = std::collections::BTreeMap::new();
    fetched(broker, "__transaction_state", |record| {
        if let Some(value) = record.value {
            let id = i64::from_be_bytes(value.as_slice()[2..10].try_into().expect("an id"));
            newest.insert(record.offset, id);
        }
    })?;
    Ok(newest.into_values().collect())
}

fn fetched(
    broker: &Broker,
    topic: &str,
    mut take: impl FnMut(millstream_wire::RecordView<'_>),
) -> Result<(), LogError> {
    let options = millstream_core::ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: COMMITTED };
    let mut consumer = millstream_core::Log::consumer(broker, &options, Default::default())?;
    consumer.assign(&[(millstream_core::TopicPartition::new(topic, 0), 0)])?;
    loop {
        let fetch = consumer.fetch(0, 1 << 20)?;
        if fetch.batches.is_empty() {
            return Ok(());
        }
        for mut batch in fetch.batches {
            while let Some(record) = batch.next() {
                take(record.expect("a record"));
            }
        }
    }
}
