//! What the runtime asks of a [`StateDisk`].

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::time::Duration;

use millstream_core::{
    BatchBuilder, ChangelogRecord, DiskPosition, Expired, Family, FamilyWrite, KeyRange, Result, RowOrder, StateDisk,
    TaskDisk, Timestamp,
};

use super::Dice;

/// Rows of a family by key on disk: key in the changelog, value, time.
type Map = BTreeMap<Vec<u8>, (Vec<u8>, u8, Timestamp)>;

const FAMILIES: [(&str, RowOrder); 3] = [
    ("keys", RowOrder::Key),
    ("windows", RowOrder::Time { before_end: 8, part: 10 }),
    ("versions", RowOrder::Versions),
];

/// A family as it should be.
#[derive(Clone, Default)]
struct Should {
    rows: Map,
    position: Option<DiskPosition>,
    /// Rows of times before this may be there or not.
    expired: Timestamp,
}

/// Puts a disk to `runs` random sequences of calls, each for a task of its own: `conformance-1` and so on.
///
/// # Errors
/// The calls of the first sequence after which the disk held other rows than it should, and what it held.
pub fn check_disk(disk: &dyn StateDisk, runs: u64) -> Result<(), String> {
    (1..=runs).try_for_each(|seed| {
        let mut calls = Vec::new();
        let ended = run(disk, seed, &mut calls).unwrap_or_else(|error| Err(error.to_string()));
        ended.map_err(|problem| format!("after {}: {problem}", calls.join(", ")))
    })
}

fn run(disk: &dyn StateDisk, seed: u64, calls: &mut Vec<String>) -> Result<Result<(), String>> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let families = FAMILIES.map(|(name, order)| Family { name: name.to_owned(), order });
    let open = || disk.open(&format!("conformance-{seed}"), families.to_vec());
    let mut task = open()?;
    let mut should: [Should; 3] = Default::default();
    for offset in 1..30 {
        let family = dice.next(3) as usize;
        match dice.next(8) {
            0..=5 => {
                let write = write_of(&mut dice, family, offset, &mut should[family]);
                calls.push(format!("written to `{}` up to {offset}", FAMILIES[family].0));
                let before = task.written()?;
                task.write(vec![write]);
                if !is_written(task.as_mut(), before + 1)? {
                    return Ok(Err("a write is not done after ten seconds".to_owned()));
                }
            }
            6 => {
                calls.push(format!("cleared `{}`", FAMILIES[family].0));
                task.clear(family)?;
                should[family] = Should::default();
            }
            _ => {
                calls.push("opened again".to_owned());
                task.close()?;
                drop(task);
                task = open()?;
                for (family, should) in should.iter().enumerate() {
                    if task.position(family) != should.position {
                        let (name, position) = (FAMILIES[family].0, task.position(family));
                        return Ok(Err(format!(
                            "`{name}` stands at {position:?}, and should at {:?}",
                            should.position
                        )));
                    }
                }
            }
        }
        for (family, should) in should.iter().enumerate() {
            if let Err(problem) = compare(task.as_ref(), family, should, &mut dice)? {
                return Ok(Err(problem));
            }
        }
    }
    Ok(Ok(()))
}

/// A commit of a family: some rows, deletions among them, and at times what expires.
fn write_of(dice: &mut Dice, family: usize, offset: i64, should: &mut Should) -> FamilyWrite {
    let order = FAMILIES[family].1;
    let mut batch = BatchBuilder::new();
    for _ in 0..=dice.next(4) {
        let (mut key, value, time) = (vec![dice.next(6) as u8], dice.next(5) as u8, dice.next(60) as Timestamp);
        if matches!(order, RowOrder::Time { .. }) {
            key.extend(time.to_be_bytes());
        }
        let (mut disk_key, is_there) = (Vec::new(), value > 0 || order == RowOrder::Versions);
        order.disk_key(&key, time, &mut disk_key);
        batch.push(time, Some(&key), (value > 0).then_some([value].as_slice()), &[]);
        if is_there {
            should.rows.insert(disk_key, (key, value, time));
        } else {
            should.rows.remove(&disk_key);
        }
    }
    let mut expired = Expired::Nothing;
    if order != RowOrder::Key && dice.next(3) == 0 {
        should.expired = should.expired.max(dice.next(40) as Timestamp);
        expired = Expired::Before(should.expired);
    }
    let position = DiskPosition { changelog: 7, offset, written: offset };
    should.position = Some(position);
    FamilyWrite { family, batches: vec![batch.into_records(0)], position, expired }
}

fn is_written(task: &mut dyn TaskDisk, writes: u64) -> Result<bool> {
    for _ in 0..10_000 {
        if task.written()? >= writes {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// Reads a family in each way.
fn compare(task: &dyn TaskDisk, family: usize, should: &Should, dice: &mut Dice) -> Result<Result<(), String>> {
    let ((name, order), rows) = (FAMILIES[family], task.rows(family));
    let row = |record: ChangelogRecord<'_>| {
        let value = record.value.and_then(|value| value.first()).copied();
        (record.key.to_vec(), value.unwrap_or(0), record.timestamp)
    };
    // What has expired may be there or not.
    let next = should.rows.values().skip(1).map(|(key, _, time)| Some((key.as_slice(), *time))).chain([None]);
    let ended = should.rows.values().zip(next).filter(|((key, value, time), next)| {
        let value = [*value];
        let value = (value != [0]).then_some(value.as_slice());
        let row = ChangelogRecord { key, value, timestamp: *time, headers: &[], offset: -1 };
        RowOrder::has_ended(row, *next, should.expired)
    });
    let ended: Vec<_> = ended.map(|(row, _)| row.clone()).collect();
    let is_kept = |row: &(Vec<u8>, u8, Timestamp)| match order {
        RowOrder::Key => true,
        RowOrder::Time { .. } => row.2 >= should.expired,
        RowOrder::Versions => !ended.iter().any(|(key, _, time)| *key == row.0 && *time == row.2),
    };
    let from = [dice.next(8) as u8];
    for range in [(Bound::Unbounded, Bound::Unbounded), (Bound::Excluded(from.as_slice()), Bound::Unbounded)] {
        let range: KeyRange<'_> = range;
        for descending in [false, true] {
            let mut found = Vec::new();
            rows.scan(range, descending, &mut |record| {
                found.push(row(record));
                Ok(ControlFlow::Continue(()))
            })?;
            found.retain(is_kept);
            let mut wanted: Vec<_> = should.rows.range::<[u8], _>(range).map(|(_, row)| row.clone()).collect();
            wanted.retain(is_kept);
            if descending {
                wanted.reverse();
            }
            if found != wanted {
                return Ok(Err(format!("`{name}` holds {found:?}, and should hold {wanted:?}")));
            }
        }
    }
    let mut first = 0;
    rows.scan((Bound::Unbounded, Bound::Unbounded), false, &mut |_| {
        first += 1;
        Ok(ControlFlow::Break(()))
    })?;
    if first > 1 || (rows.is_empty()? != (first == 0)) {
        return Ok(Err(format!(
            "`{name}` gave {first} rows when one was enough, or does not know whether it is empty"
        )));
    }
    if order == RowOrder::Versions {
        return Ok(Ok(()));
    }
    for (key, value, time) in should.rows.values().filter(|row| is_kept(row)) {
        let mut found = None;
        let is_there = rows.get(key, &mut |record| {
            found = Some(row(record));
            Ok(())
        })?;
        let wanted = Some((key.clone(), *value, *time));
        if !is_there || found != wanted {
            return Ok(Err(format!("`{name}` has {found:?}, and should have {wanted:?}")));
        }
    }
    let is_there = rows.get(&[9; 9], &mut |_| Ok(()))?;
    Ok(if is_there { Err(format!("`{name}` has a row that nobody wrote")) } else { Ok(()) })
}
