//! A compacted log tells every reader the last value of every key, wherever it begins; and a reader who has seen a value sees
//! its tombstone, if he comes within `delete.retention.ms`.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::collections::{BTreeMap, BTreeSet};

use compacted::{ALL, COMMITTED, Dice, Outcome, Seen, World, batch, commit, create, producer, seen, send, t, texts};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, ConsumerOptions, Log, LogError, Offset, Producer};

const DELETE_RETENTION: i64 = 200;

/// What was written, whatever compaction has left of it.
#[derive(Default)]
struct Model {
    records: BTreeMap<Offset, (String, State)>,
    /// When an older value of a tombstone's key was seen last.
    older_seen: BTreeMap<Offset, i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open(usize),
    Committed,
    Aborted,
}

fn key(text: &str) -> &str {
    text.split('=').next().unwrap_or_default()
}

/// The last value of every key.
fn table<'a>(records: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    let mut table = BTreeMap::new();
    for text in records {
        match text.contains('=') {
            true => table.insert(key(text), text),
            false => table.remove(key(text)),
        };
    }
    table
}

impl Model {
    fn end(&mut self, of: usize, how: State) {
        self.records.values_mut().filter(|(_, state)| *state == State::Open(of)).for_each(|(_, state)| *state = how);
    }

    /// Compares all that a reader can see.
    fn check(&mut self, broker: &Broker, world: &World, dice: &mut Dice, place: &str) -> Outcome {
        let (start, end) = (broker.start_offset(&t())?, broker.end_offset(&t(), ALL)?);
        let stable = broker.end_offset(&t(), COMMITTED)?;
        let open = self.records.iter().find(|(_, (_, state))| matches!(state, State::Open(_)));
        assert_eq!(stable, open.map_or(end, |(offset, _)| *offset).max(start), "{place}: the last stable offset");
        let committed = seen(broker, start, COMMITTED)?;
        let all = seen(broker, start, ALL)?;
        for (seen, isolation) in committed.iter().map(|s| (s, COMMITTED)).chain(all.iter().map(|s| (s, ALL))) {
            let (text, state) = &self.records[&seen.offset];
            assert_eq!(&seen.text, text, "{place}: a record has the offset it was given");
            assert!(
                isolation == ALL || *state == State::Committed && seen.offset < stable,
                "{place}: {seen:?} {state:?}"
            );
        }
        let offsets: BTreeSet<Offset> = all.iter().map(|s| s.offset).collect();
        let untouched = world.active().unwrap_or(end).min(stable).max(start);
        for offset in self.records.range(untouched..).map(|(offset, _)| offset) {
            assert!(offsets.contains(offset), "{place}: {offset} is not to be compacted from {untouched} on");
        }
        let written: Vec<(Offset, &str)> = self
            .records
            .range(start..stable)
            .filter(|(_, (_, state))| *state == State::Committed)
            .map(|(offset, (text, _))| (*offset, text.as_str()))
            .collect();
        for from in [start, start + dice.below((stable - start).max(1) as u64) as i64] {
            let found = table(committed.iter().filter(|s| s.offset >= from).map(|s| s.text.as_str()));
            let wanted = table(written.iter().filter(|(offset, _)| *offset >= from).map(|(_, text)| *text));
            assert_eq!(found, wanted, "{place}: last values from {from} on");
        }
        let now = world.now();
        let visible: BTreeSet<Offset> = committed.iter().map(|s| s.offset).collect();
        for (number, (offset, text)) in written.iter().enumerate().filter(|(_, (_, text))| !text.contains('=')) {
            let is_same = |(_, other): &&(Offset, &str)| key(other) == *text;
            if written[number + 1..].iter().any(|other| is_same(&other)) {
                continue;
            }
            let older = written[..number].iter().filter(is_same);
            if older.filter(|(_, other)| other.contains('=')).any(|(offset, _)| visible.contains(offset)) {
                self.older_seen.insert(*offset, now);
            }
            if let Some(last) = self.older_seen.get(offset).filter(|_| !visible.contains(offset)) {
                assert!(now >= last + DELETE_RETENTION, "{place}: tombstone {offset} went at {now}, a value at {last}");
            }
        }
        every_offset_leads_on(broker, start, stable, &committed, place)
    }
}

/// Header of the wrong record after compaction, reads in the middle of a batch that stood still: every offset, in gaps
/// too, leads to the next record that there is.
fn every_offset_leads_on(broker: &Broker, start: Offset, end: Offset, all: &[Seen], place: &str) -> Outcome {
    let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: COMMITTED };
    let mut consumer = broker.consumer(&options, Default::default())?;
    consumer.assign(&[(t(), start)])?;
    for offset in start..end {
        consumer.seek(0, offset);
        let fetch = consumer.fetch(0, 1)?;
        assert!(fetch.position > offset, "{place}: a reader at {offset} stands still");
        let wanted = all.iter().find(|s| s.offset >= offset);
        let first = fetch.batches.into_iter().next().and_then(|mut b| b.next().map(|r| r.expect("a record").offset));
        assert_eq!(first, wanted.map(|s| s.offset), "{place}: the record behind {offset}");
    }
    Ok(())
}

fn live(seed: u64, durability: Durability) -> Outcome {
    let mut world = World::new(durability);
    let mut dice = Dice(seed);
    let options = |world: &World| BrokerOptions {
        cleaner_buffer_bytes: if seed % 4 == 3 { 1 } else { 1 << 20 },
        tail_bytes: if durability == Durability::Memory { usize::MAX } else { (seed % 3) as usize * 400 },
        ..world.options()
    };
    let mut broker = Broker::open(options(&world))?;
    create(
        &broker,
        &format!(
            "cleanup.policy=compact min.cleanable.dirty.ratio=0.{} delete.retention.ms={DELETE_RETENTION}",
            seed % 6
        ),
    )?;
    let mut model = Model::default();
    let mut producers: Vec<Box<dyn Producer>> =
        vec![producer(&broker, None)?, producer(&broker, Some("a"))?, producer(&broker, Some("b"))?];
    let mut number = 0;
    for step in 0..120 {
        let place = format!("{durability:?}, seed {seed}, step {step}");
        let who = dice.below(3) as usize;
        match dice.below(16) {
            0..8 => {
                let base = broker.end_offset(&t(), ALL)?;
                let mut records = Vec::new();
                for index in 0..=dice.below(4) {
                    number += 1;
                    let key = dice.below(7);
                    let text = if dice.below(4) == 0 { format!("k{key}") } else { format!("k{key}=v{number}") };
                    let state = if who == 0 { State::Committed } else { State::Open(who) };
                    model.records.insert(base + index as i64, (text.clone(), state));
                    records.push(text);
                }
                send(producers[who].as_mut(), world.now(), &records.join(" "))?;
            }
            8 | 9 => {
                commit(producers[1 + who % 2].as_mut())?;
                model.end(1 + who % 2, State::Committed);
            }
            10 => {
                producers[1 + who % 2].abort()?;
                model.end(1 + who % 2, State::Aborted);
            }
            11 => world.advance(dice.below(150)),
            12 if dice.below(8) == 0 => {
                let (start, end) = (broker.start_offset(&t())?, broker.end_offset(&t(), ALL)?);
                broker.delete_records(&t(), start + dice.below((end - start).max(1) as u64) as i64)?;
            }
            13 if durability != Durability::Memory && dice.below(3) == 0 => {
                producers.clear();
                match durability {
                    Durability::Disk => {
                        broker.tick()?;
                        world.files = world.files.power_cut(seed + step);
                    }
                    _ => broker.close()?,
                }
                drop(broker);
                broker = Broker::open(options(&world))?;
                model.end(1, State::Aborted);
                model.end(2, State::Aborted);
                producers =
                    vec![producer(&broker, None)?, producer(&broker, Some("a"))?, producer(&broker, Some("b"))?];
            }
            _ => broker.tick()?,
        }
        model.check(&broker, &world, &mut dice, &place)?;
    }
    Ok(())
}

#[test]
fn readers_see_the_last_value_of_every_key_whatever_happens_to_the_log() -> Outcome {
    for seed in 0..60 {
        for durability in [Durability::Memory, Durability::Os, Durability::Disk] {
            live(seed, durability)?;
        }
    }
    Ok(())
}

/// A log of one segment of these batches, and an active one.
fn closed(world: &World, settings: &str, batches: &[&str]) -> Result<Broker, LogError> {
    let broker = world.open()?;
    create(&broker, &format!("cleanup.policy=compact segment.ms=1000000 {settings}"))?;
    let mut p = producer(&broker, None)?;
    for records in batches {
        send(p.as_mut(), world.now(), records)?;
    }
    roll(p.as_mut(), world.now())?;
    Ok(broker)
}

/// A record so late that it begins a segment of its own.
fn roll(producer: &mut dyn Producer, now: i64) -> Outcome {
    static NUMBER: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(1);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    send(producer, now + number * 1_000_000, "roll=0")
}

#[test]
fn tombstones_go_when_their_time_has_come_and_not_before() -> Outcome {
    for durability in [Durability::Memory, Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        let broker = closed(&world, "delete.retention.ms=100 min.cleanable.dirty.ratio=0", &["a=1 b=1", "a b=2"])?;
        world.advance(5_000);
        broker.tick()?;
        assert_eq!(texts(&broker, ALL)?, "a b=2 roll=0", "the time counts from the first compaction that met it");
        let mut p = producer(&broker, None)?;
        for (wait, wanted) in [(99, "a b=2 roll=0 roll=0"), (1, "b=2 roll=0 roll=0")] {
            world.advance(wait);
            roll(p.as_mut(), world.now())?;
            broker.tick()?;
            assert_eq!(texts(&broker, ALL)?, wanted, "{durability:?} after {wait}");
        }
    }
    Ok(())
}

#[test]
fn a_log_becomes_as_small_as_its_keys_and_its_segments_few() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, "cleanup.policy=compact")?;
    let mut p = producer(&broker, None)?;
    let segments = || world.names().iter().filter(|n| n.ends_with(".log")).count();
    // Once to make segments small, and once to put small ones together.
    for round in 0..2 {
        for number in 0..2_000 {
            send(p.as_mut(), 5, &format!("k{}=v{round}-{number}", number % 5))?;
        }
        assert!(segments() > 200);
        broker.tick()?;
    }
    broker.tick()?;
    assert!(segments() < 320, "{}", segments());
    let left = seen(&broker, 0, ALL)?;
    assert!(left.len() < 20, "{}", left.len());
    assert!(world.names().iter().all(|n| !n.contains("cleaned") && !n.contains("swap")), "{:?}", world.names());
    Ok(())
}

#[test]
fn little_memory_takes_more_rounds_and_loses_nothing() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = Broker::open(BrokerOptions { cleaner_buffer_bytes: 30_000, ..world.options() })?;
    create(&broker, "cleanup.policy=compact min.cleanable.dirty.ratio=0")?;
    let mut p = producer(&broker, None)?;
    for number in 0..6_000 {
        send(p.as_mut(), 5, &format!("k{}=v{number}", number % 3_000))?;
    }
    broker.tick()?;
    let left = seen(&broker, 0, ALL)?;
    assert!((3_000..3_020).contains(&left.len()), "{}", left.len());
    Ok(())
}

/// Only-empty batches, and a gap at the end of the log: readers come to the end all the same, also after a start.
#[test]
fn a_log_of_which_nothing_is_left_still_has_its_end() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        let broker = closed(&world, "delete.retention.ms=0 min.cleanable.dirty.ratio=0", &["a=1", "a"])?;
        let mut p = producer(&broker, None)?;
        for _ in 0..3 {
            send(p.as_mut(), world.now() + 1_000_000_000, "roll")?;
            roll(p.as_mut(), world.now() + 1_000_000_000)?;
            world.advance(1);
            broker.tick()?;
        }
        let end = broker.end_offset(&t(), ALL)?;
        drop((p, broker));
        let broker = world.open()?;
        assert_eq!(broker.end_offset(&t(), ALL)?, end);
        assert_eq!(seen(&broker, 0, COMMITTED)?.last().map(|s| s.offset), Some(end - 1));
        every_offset_leads_on(&broker, 0, end, &seen(&broker, 0, COMMITTED)?, "after a start")?;
    }
    Ok(())
}

#[test]
fn young_records_wait_for_the_lag_and_a_changelog_counts_from_its_newest_record() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = closed(&world, "min.compaction.lag.ms=500 min.cleanable.dirty.ratio=0", &["a=1", "a=2"])?;
    broker.tick()?;
    world.advance(500);
    broker.tick()?;
    assert_eq!(texts(&broker, ALL)?, "a=1 a=2 roll=0");
    world.advance(1);
    broker.tick()?;
    assert_eq!(texts(&broker, ALL)?, "a=2 roll=0");
    // A history of ten: event time is far behind the clock, and none of it is old for its store.
    let spec = |name: &str| millstream_core::TopicSpec {
        name: name.into(),
        partitions: 1,
        configs: [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "10"), ("segment.bytes", "1024")]
            .into_iter()
            .chain([("min.cleanable.dirty.ratio", "0")])
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    };
    broker.create_topic(&spec("s-changelog"))?;
    let id = millstream_core::TopicPartition::new("s-changelog", 0);
    let mut p = producer(&broker, None)?;
    for time in 0..100 {
        p.send(&id, batch(time, &format!("k={}", "x".repeat(200))))?;
    }
    world.advance(1_000_000);
    broker.tick()?;
    let mut consumer = broker.consumer(
        &ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: ALL },
        Default::default(),
    )?;
    consumer.assign(&[(id, 0)])?;
    let mut times = Vec::new();
    while let [batch, ..] = &mut consumer.fetch(0, 1)?.batches[..] {
        while let Some(record) = batch.next() {
            times.push(record.expect("a record").timestamp);
        }
    }
    assert!(times.len() < 30 && (89..100).all(|time| times.contains(&time)), "{times:?}");
    Ok(())
}

#[test]
fn a_record_without_key_is_refused_where_it_could_not_be_kept() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, "cleanup.policy=compact,delete")?;
    let mut keyless = millstream_core::BatchBuilder::new();
    keyless.push(5, Some(b"k"), Some(b"v"), &[]);
    keyless.push(5, None, Some(b"v"), &[]);
    let sealed = keyless.clone().seal(&Default::default()).expect("a batch");
    for refused in [producer(&broker, None)?.send(&t(), keyless), broker.append(&t(), &sealed).map(drop)] {
        let refused = refused.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("INVALID_RECORD") && refused.contains("help:"), "{refused}");
    }
    assert_eq!(broker.end_offset(&t(), ALL)?, 0);
    Ok(())
}

#[test]
fn what_is_both_compacted_and_deleted_is_both() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = world.open()?;
    create(&broker, "cleanup.policy=compact,delete retention.ms=1000 min.cleanable.dirty.ratio=0")?;
    let mut p = producer(&broker, None)?;
    for number in 0..40 {
        send(p.as_mut(), world.now(), &format!("k{}=v{number}", number % 2))?;
    }
    broker.tick()?;
    assert!(seen(&broker, 0, ALL)?.len() < 20);
    // Compaction makes no record younger: a thousand after it was written it goes.
    world.advance(500);
    broker.tick()?;
    world.advance(501);
    broker.tick()?;
    assert_eq!(broker.start_offset(&t())?, 40);
    Ok(())
}

#[test]
fn settings_that_contradict_each_other_are_refused() -> Outcome {
    let broker = World::new(Durability::Os).open()?;
    let refused = create(&broker, "cleanup.policy=compact min.compaction.lag.ms=6 max.compaction.lag.ms=5");
    let refused = refused.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refused.contains("more than max.compaction.lag.ms=5"), "{refused}");
    Ok(())
}
