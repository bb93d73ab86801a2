//! Versions that have ended leave the disk: the writer looks through a family's rows, a few with every write.
//!
//! Whether a version has ended is known only with the one that follows it, and many a key is never put again. So rows are not
//! told of one by one; all of them are looked at in turn, about as many as are written, as long as there may be one to go.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use millstream_core::{Expired, FamilyWrite, Records, Result, RowOrder, Timestamp};
use rocksdb::{ReadOptions, WriteBatch, WriteOptions};

use super::database::Database;
use super::row::{END, ROW, decode_row};

/// How far a round through the rows has come.
#[derive(Default)]
pub(super) struct Sweep {
    /// Goes on at this key on disk; empty: no round is under way.
    next: Vec<u8>,
    /// The first time at which one of the versions that were passed ends, or is a deletion.
    left: Timestamp,
}

impl Sweep {
    /// Rows that are looked at besides as many as are written.
    const AT_LEAST: usize = 64;
}

/// A key on disk without the time in it.
fn key_of(disk_key: &[u8]) -> &[u8] {
    &disk_key[..disk_key.len().saturating_sub(size_of::<Timestamp>())]
}

impl Database {
    /// Removes some of the versions of a family that have ended, if there are any, after a write of that family.
    ///
    /// Not before it: a commit may have put a value before a deletion, and then let both end.
    pub(super) fn sweep(&self, write: &FamilyWrite) -> Result<()> {
        let family = write.family;
        let (RowOrder::Versions, Expired::Before(before)) = (self.families[family].order, write.expired) else {
            return Ok(());
        };
        let written: i32 = write.batches.iter().map(Records::remaining).sum();
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let sweep = &mut sweeps[family];
        let earliest = &self.earliest[family];
        if sweep.next.is_empty() {
            if earliest.load(Ordering::Relaxed) >= before {
                return Ok(());
            }
            *sweep = Sweep { next: vec![ROW], left: Timestamp::MAX };
            // What is written while the round is under way, it may have passed already.
            earliest.store(Timestamp::MAX, Ordering::Relaxed);
        }
        let (handle, mut batch) = (self.handle(family)?, WriteBatch::default());
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_iterate_upper_bound(END);
        let mut rows = self.db.raw_iterator_cf_opt(&handle, options);
        rows.seek(&sweep.next);
        let mut last: Option<(Vec<u8>, Timestamp)> = None;
        let mut looked_at = 0;
        while let Some((disk_key, value)) = rows.item() {
            let is_next_key = last.as_ref().is_none_or(|(last, _)| key_of(last) != key_of(disk_key));
            if is_next_key && looked_at > written as usize + Sweep::AT_LEAST {
                break;
            }
            looked_at += 1;
            let Some(row) = decode_row(key_of(disk_key), value) else {
                return Err(self.damage("a row that is too short"));
            };
            let ends = last.take().filter(|_| !is_next_key);
            if row.timestamp >= before && (ends.is_some() || row.value.is_none()) {
                sweep.left = sweep.left.min(row.timestamp);
            }
            if row.timestamp < before {
                if let Some((ended, _)) = &ends {
                    batch.delete_cf(&handle, ended);
                }
                if row.value.is_none() {
                    batch.delete_cf(&handle, disk_key);
                }
            }
            last = Some((disk_key.to_vec(), row.timestamp));
            rows.next();
        }
        rows.status().map_err(|e| self.error("cannot be read", &e))?;
        sweep.next = rows.key().map(<[u8]>::to_vec).unwrap_or_default();
        if sweep.next.is_empty() {
            earliest.fetch_min(sweep.left, Ordering::Relaxed);
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|e| self.error("cannot be written", &e))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::{Bound, ControlFlow};

    use millstream_core::{
        BatchBuilder, DiskPosition, Expired, Family, FamilyWrite, Result, RowOrder, StateDisk, TaskDisk, Timestamp,
    };

    use super::super::disk::{RocksDisk, RocksOptions};

    type Row<'a> = (&'a [u8], Timestamp, Option<&'a [u8]>);

    fn write(task: &mut dyn TaskDisk, rows: &[Row<'_>], before: Timestamp) {
        let mut batch = BatchBuilder::new();
        rows.iter().for_each(|(key, time, value)| batch.push(*time, Some(key), *value, &[]));
        let position = DiskPosition { changelog: 1, offset: 1, written: 1 };
        let batches = vec![batch.into_records(0)];
        task.write(vec![FamilyWrite { family: 0, batches, position, expired: Expired::Before(before) }]);
    }

    fn rows(task: &dyn TaskDisk) -> Result<Vec<(Vec<u8>, Timestamp)>> {
        let mut found = Vec::new();
        task.rows(0).scan((Bound::Unbounded, Bound::Unbounded), false, &mut |row| {
            found.push((row.key.to_vec(), row.timestamp));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    fn open(folder: &std::path::Path) -> Result<(RocksDisk, Box<dyn TaskDisk>)> {
        let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
        let disk = RocksDisk::new(folder, options)?;
        let task = disk.open("t", vec![Family { name: "rows".to_owned(), order: RowOrder::Versions }])?;
        Ok((disk, task))
    }

    /// A version of another key lay between the two, and hid from the deletion what it deletes: when it went, that was back.
    #[test]
    fn a_deletion_takes_along_what_it_deletes_whatever_a_key_holds() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let (_disk, mut task) = open(folder.path())?;
        let between = [&b"a"[..], &5i64.to_be_bytes()].concat();
        write(task.as_mut(), &[(b"a", 3, Some(b"x")), (&between, 1, Some(b"y")), (b"a", 7, None)], 0);
        assert_eq!(rows(task.as_ref())?.len(), 3);
        write(task.as_mut(), &[(b"b", 100, Some(b"z"))], 90);
        assert_eq!(rows(task.as_ref())?, [(between, 1), (b"b".to_vec(), 100)]);
        Ok(())
    }

    /// A commit that takes longer than the history puts a value before a deletion, and lets both end: the deletion went, and the
    /// value was written.
    #[test]
    fn a_value_that_is_written_before_a_deletion_ends_with_it() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let (_disk, mut task) = open(folder.path())?;
        write(task.as_mut(), &[(b"a", 12, None)], 0);
        write(task.as_mut(), &[(b"a", 11, Some(b"x")), (b"b", 165, Some(b"y"))], 160);
        assert_eq!(rows(task.as_ref())?, [(b"b".to_vec(), 165)]);
        Ok(())
    }

    /// The first write that lets them go removes no more than some: the others follow, without anything else to go.
    #[test]
    fn many_that_have_ended_go_little_by_little() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let (_disk, mut task) = open(folder.path())?;
        let keys: Vec<[u8; 2]> = (0..500u16).map(u16::to_be_bytes).collect();
        for time in 0..3 {
            let rows: Vec<_> = keys.iter().map(|key| (key.as_slice(), time, Some(&b"x"[..]))).collect();
            write(task.as_mut(), &rows, 0);
        }
        let mut left = rows(task.as_ref())?.len();
        assert_eq!(left, 1_500);
        for time in 100..200 {
            write(task.as_mut(), &[(b"last", time, Some(b"x"))], 90);
            let now = rows(task.as_ref())?.len();
            assert!(left < now + 1 + 2 * super::Sweep::AT_LEAST, "{left} rows became {now}");
            left = now;
        }
        assert_eq!(left, 500 + 100);
        Ok(())
    }
}
