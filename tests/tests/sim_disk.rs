//! The simulated disk for state does what RocksDB does: the same random story of writes, reads and openings ends in the same
//! rows and positions on both.

use std::ops::{Bound, ControlFlow};

use millstream_core::{
    BatchBuilder, DiskPosition, DiskRows, Expired, Family, FamilyWrite, Result, RowOrder, StateDisk, TaskDisk,
};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};

type Row = (Vec<u8>, Option<Vec<u8>>, i64, Vec<u8>);

fn families() -> Vec<Family> {
    let family = |name: &str, order| Family { name: name.to_owned(), order };
    let by_time = RowOrder::Time { before_end: 8, part: 10 };
    vec![family("keys", RowOrder::Key), family("times", by_time), family("versions", RowOrder::Versions)]
}

/// All rows of a family.
fn scanned(rows: &dyn DiskRows, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Vec<Row>> {
    let mut found = Vec::new();
    rows.scan(range, false, &mut |row| {
        found.push((row.key.to_vec(), row.value.map(<[u8]>::to_vec), row.timestamp, row.headers.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn row(rows: &dyn DiskRows, key: &[u8]) -> Result<Option<Row>> {
    let mut found = None;
    let is_there = rows.get(key, &mut |row| {
        found = Some((row.key.to_vec(), row.value.map(<[u8]>::to_vec), row.timestamp, row.headers.to_vec()));
        Ok(())
    })?;
    assert_eq!(is_there, found.is_some());
    Ok(found)
}

fn key(dice: &Dice, family: usize) -> Vec<u8> {
    let mut key = vec![b'a' + dice.below(4) as u8];
    if family == 1 {
        key.extend(dice.below(60).to_be_bytes());
    }
    key
}

fn written(dice: &Dice, offset: i64) -> FamilyWrite {
    let family = dice.below(3) as usize;
    let mut batch = BatchBuilder::new();
    for _ in 0..1 + dice.below(4) {
        let value = dice.per_mille(700).then(|| dice.next().to_be_bytes());
        batch.push(dice.below(60) as i64, Some(&key(dice, family)), value.as_ref().map(|v| v.as_slice()), &[]);
    }
    FamilyWrite {
        family,
        batches: vec![batch.into_records(0)],
        position: DiskPosition { changelog: 7, offset, written: 1 },
        expired: if family == 1 && dice.per_mille(200) {
            Expired::Before(dice.below(60) as i64)
        } else {
            Expired::Nothing
        },
    }
}

fn copy(write: &FamilyWrite) -> FamilyWrite {
    let FamilyWrite { family, batches, position, expired } = write;
    FamilyWrite { family: *family, batches: batches.clone(), position: *position, expired: *expired }
}

/// Both tell the same of a family.
fn compare(dice: &Dice, tasks: &[Box<dyn TaskDisk>; 2], at: &str) -> Result<()> {
    for family in 0..3 {
        let rows = [tasks[0].rows(family), tasks[1].rows(family)];
        let [sim, rocks] = &rows;
        assert_eq!(sim.is_empty()?, rocks.is_empty()?, "{at}");
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(scanned(sim.as_ref(), all)?, scanned(rocks.as_ref(), all)?, "{at}, family {family}");
        let (from, to) = (key(dice, family), key(dice, family));
        let range = match dice.below(3) {
            0 => (Bound::Included(from.as_slice()), Bound::Included(to.as_slice())),
            1 => (Bound::Excluded(from.as_slice()), Bound::Unbounded),
            _ => (Bound::Unbounded, Bound::Excluded(to.as_slice())),
        };
        assert_eq!(scanned(sim.as_ref(), range)?, scanned(rocks.as_ref(), range)?, "{at}, family {family}, {range:?}");
        if family < 2 {
            assert_eq!(row(sim.as_ref(), &from)?, row(rocks.as_ref(), &from)?, "{at}, family {family}, {from:?}");
        }
    }
    Ok(())
}

#[test]
fn it_tells_what_rocksdb_tells() -> Result<()> {
    for seed in 0..30 {
        let dice = Dice::new(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
        let sim = SimDisk::new(dice.fork(), Mishaps::default(), 0);
        let rocks = RocksDisk::new(folder.path(), options)?;
        let open =
            || -> Result<[Box<dyn TaskDisk>; 2]> { Ok([sim.open("t", families())?, rocks.open("t", families())?]) };
        let mut tasks = open()?;
        for step in 0..40 {
            let at = format!("seed {seed}, step {step}");
            match dice.below(20) {
                0 => {
                    tasks.iter_mut().try_for_each(|task| task.close())?;
                    drop(tasks);
                    tasks = open()?;
                    for family in 0..3 {
                        assert_eq!(tasks[0].position(family), tasks[1].position(family), "{at}");
                    }
                }
                1 => {
                    let family = dice.below(3) as usize;
                    tasks.iter_mut().try_for_each(|task| task.clear(family))?;
                }
                _ => {
                    let write = written(&dice, step);
                    tasks.iter_mut().for_each(|task| task.write(vec![copy(&write)]));
                    assert_eq!(tasks[0].written()?, tasks[1].written()?, "{at}");
                }
            }
            compare(&dice, &tasks, &at)?;
        }
    }
    Ok(())
}
