//! Everything beside a segment's batches can be lost, cut, zeroed or damaged in any bit: it is found again from the batches, and
//! readers see the same. What cannot be found again is reported.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::path::Path;

use compacted::{COMMITTED, Outcome, Seen, World, commit, create, producer, seen, send, t};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, Files, LogError, OpenMode};

fn options(world: &World) -> BrokerOptions {
    // An index entry for about every fourth batch, several segments.
    BrokerOptions { segment_bytes: 30_000, ..world.options() }
}

/// What a reader sees from every tenth offset on.
fn views(world: &World) -> Result<Vec<Vec<Seen>>, LogError> {
    let broker = Broker::open(options(world))?;
    let end = broker.end_offset(&t(), COMMITTED)?;
    assert!(end > 150, "{end}");
    let offsets = (broker.start_offset(&t())?..end).step_by(7);
    let times = [0, 50, 100, 10_000].map(|time| broker.offset_for_time(&t(), time));
    let mut views: Vec<Vec<Seen>> = offsets
        .map(|o| Ok(seen(&broker, o, COMMITTED)?.into_iter().take(3).collect()))
        .collect::<Result<_, LogError>>()?;
    for time in times {
        views.push(vec![Seen { offset: time?, text: String::new() }]);
    }
    views.push(seen(&broker, broker.start_offset(&t())?, COMMITTED)?);
    Ok(views)
}

fn damages(bytes: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut damages = vec![("gone".to_owned(), None), ("zeros".to_owned(), Some(vec![0; bytes.len()]))];
    damages.push(("garbage".to_owned(), Some((0..bytes.len()).map(|i| (i * 151 + 7) as u8).collect())));
    for len in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        damages.push((format!("cut at {len}"), Some(bytes[..len.min(bytes.len())].to_vec())));
    }
    for bit in (0..bytes.len() * 8).step_by(if bytes.len() > 100 { 29 } else { 7 }) {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        damages.push((format!("bit {bit} flipped"), Some(flipped)));
    }
    // Entries of an offset index are eight bytes, the offset first.
    for entry in (0..bytes.len() / 8).step_by(2) {
        let mut earlier = bytes.to_vec();
        earlier[entry * 8 + 3] = earlier[entry * 8 + 3].wrapping_sub(4);
        damages.push((format!("entry {entry} is of an earlier offset"), Some(earlier)));
    }
    damages
}

#[test]
fn what_is_beside_the_batches_is_found_again() -> Outcome {
    let world = World::new(Durability::Os);
    let broker = Broker::open(options(&world))?;
    create(&broker, "cleanup.policy=compact")?;
    let (mut a, mut plain) = (producer(&broker, Some("a"))?, producer(&broker, None)?);
    for number in 0..60 {
        send(plain.as_mut(), number, &format!("k{number}={}", "x".repeat(1_000)))?;
        send(a.as_mut(), number, &format!("k{number}={number}"))?;
        if number % 4 == 1 { a.abort()? } else { commit(a.as_mut())? }
    }
    broker.delete_records(&t(), 5)?;
    broker.close()?;
    drop((a, plain, broker));
    let wanted = views(&world.copy())?;
    let dir = Path::new("/data/t-0");
    let names: Vec<String> =
        world.names().into_iter().filter(|n| !n.ends_with(".log") && n != "topic.properties").collect();
    let kinds = ["index", "timeindex", "snapshot", "log-start-offset"];
    assert!(kinds.iter().all(|kind| names.iter().any(|n| n.ends_with(kind))), "{names:?}");
    for name in names {
        let bytes = world.files.read(&dir.join(&name)).expect("a file");
        for (damage, left) in damages(&bytes) {
            let copy = world.copy();
            let path = dir.join(&name);
            match left {
                None => copy.files.remove(&path).expect("a file"),
                Some(left) => {
                    let file = copy.files.open(&path, OpenMode::Create).expect("a file");
                    file.write_all_at(&left, 0).and_then(|()| file.sync()).expect("a write");
                }
            }
            let found = views(&copy);
            if name == "log-start-offset" {
                // It is known nowhere else. Deleted records may come back, others never go.
                assert!(
                    found.as_ref().map_or_else(|e| matches!(e, LogError::Corrupt { .. }), |_| damage != "garbage"),
                    "{name} {damage}: {:?}",
                    found.err()
                );
                continue;
            }
            let found = found.unwrap_or_else(|e| panic!("{name} {damage}: {e}"));
            assert!(found == wanted, "{name} {damage}");
        }
    }
    Ok(())
}
