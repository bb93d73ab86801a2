//! The database of one task: families of rows, each with its position.

use std::convert::Infallible;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use millstream_core::{DiskPosition, Error, Expired, Family, FamilyWrite, Records, Result, StateError, Timestamp};
use rocksdb::{
    BoundColumnFamily, DB, DBCompressionType, FlushOptions, IngestExternalFileOptions, Options, SstFileWriter,
    WriteBatch, WriteOptions, properties,
};

use super::error::{DAMAGED, REBUILT, failed, is_damage};
use super::row::{POSITION, ROW, decode_position, encode_position};
use super::sorted_rows::SortedRows;
use super::space::Space;
use super::sweep::Sweep;

/// Bytes of rows that are written as a file of their own: a restore's, not a commit's.
const INGESTED: usize = 16 << 20;

/// The same while no rows wait to be written to files: those would have to be before.
const INGESTED_FIRST: usize = 2 << 20;

/// Bytes of a file after which it is found out whether it is worth compressing: that takes a quarter of the time.
const TRIAL: usize = 256 << 10;

/// What has become of a file.
enum File {
    Written,
    /// Compressed it is hardly smaller.
    TooLarge,
}

/// A database and what lies in it. The task's thread reads while the writer writes.
pub(super) struct Database {
    pub(super) db: DB,
    pub(super) families: Vec<Family>,
    folder: PathBuf,
    options: Options,
    /// The same, for rows that compression makes no smaller.
    uncompressed: Options,
    space: Arc<Space>,
    /// Of every family the largest time of its rows so far. Only the writer writes it.
    latest: Vec<AtomicI64>,
    /// Of every family a time that none of its rows is before; with versions, before which none is that another one ended, or
    /// that says that there is none. Only the writer knows it.
    pub(super) earliest: Vec<AtomicI64>,
    pub(super) sweeps: Mutex<Vec<Sweep>>,
    damaged: AtomicBool,
}

/// No row has been written.
const NO_ROW: Timestamp = Timestamp::MIN;

impl Database {
    pub(super) fn new(db: DB, folder: PathBuf, families: Vec<Family>, options: Options, space: Arc<Space>) -> Self {
        let times = || families.iter().map(|_| AtomicI64::new(NO_ROW)).collect();
        let (latest, earliest) = (times(), times());
        let sweeps = Mutex::new(families.iter().map(|_| Sweep::default()).collect());
        let mut uncompressed = options.clone();
        uncompressed.set_compression_type(DBCompressionType::None);
        Database {
            db,
            families,
            folder,
            options,
            uncompressed,
            space,
            latest,
            earliest,
            sweeps,
            damaged: AtomicBool::new(false),
        }
    }

    pub(super) fn handle(&self, family: usize) -> Result<Arc<BoundColumnFamily<'_>>> {
        let name = &self.families[family].name;
        self.db.cf_handle(name).ok_or_else(|| failed(&self.folder, "has lost a family", name))
    }

    /// What an error of RocksDB means. Damage is marked, so that the next start empties the folder.
    pub(super) fn error(&self, what: &str, error: &rocksdb::Error) -> Error {
        if !is_damage(error) {
            return self.space.learn(failed(&self.folder, what, error));
        }
        if !self.damaged.swap(true, Ordering::Relaxed) {
            // Without the mark the damage is found once more.
            let _not_marked = fs::write(self.folder.join(DAMAGED), error.as_ref());
        }
        self.damage(error.as_ref())
    }

    pub(super) fn damage(&self, found: &str) -> Error {
        let store = self.folder.display().to_string();
        Error::Damaged(Box::new(StateError { store, problem: format!("is damaged: {found}\n  help: {REBUILT}") }))
    }

    /// Where a family stands. One whose rows are not as they should be is emptied.
    pub(super) fn position(&self, family: usize) -> Result<Option<DiskPosition>> {
        let found = self.db.get_cf(&self.handle(family)?, POSITION).map_err(|e| self.error("cannot be read", &e))?;
        #[cfg(feature = "plant")]
        let found = fs::read(self.folder.join(format!("planted-{family}"))).ok().or(found);
        let position = found.as_ref().and_then(|bytes| decode_position(bytes, self.families[family].order));
        let Some((position, latest)) = position else {
            // Rows that nothing vouches for: a restore would leave those that are deleted.
            if found.is_some() || self.has_rows(family)? {
                self.clear(family)?;
            }
            return Ok(None);
        };
        self.latest[family].store(latest, Ordering::Relaxed);
        Ok(Some(position))
    }

    /// The largest time of the rows that were ever written.
    pub(super) fn latest(&self, family: usize) -> Option<Timestamp> {
        Some(self.latest[family].load(Ordering::Relaxed)).filter(|latest| *latest != NO_ROW)
    }

    /// Whether a family has any rows.
    pub(super) fn has_rows(&self, family: usize) -> Result<bool> {
        let mut rows = self.db.raw_iterator_cf(&self.handle(family)?);
        rows.seek([ROW]);
        let has_rows = rows.valid();
        rows.status().map(|()| has_rows).map_err(|e| self.error("cannot be read", &e))
    }

    /// Empties a family.
    pub(super) fn clear(&self, family: usize) -> Result<()> {
        self.latest[family].store(NO_ROW, Ordering::Relaxed);
        let name = &self.families[family].name;
        let emptied = self.db.drop_cf(name).and_then(|()| self.db.create_cf(name, &self.options));
        emptied.map_err(|e| self.error("cannot be emptied", &e))
    }

    /// Writes the rows of a commit, each family's with its position.
    pub(super) fn write(&self, writes: &[FamilyWrite]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for write in writes {
            let handle = self.handle(write.family)?;
            let order = self.families[write.family].order;
            let mut latest = self.latest[write.family].load(Ordering::Relaxed);
            let mut earliest = self.earliest[write.family].load(Ordering::Relaxed);
            let rows = SortedRows::new(order, &write.batches, |key, row| {
                if let Some(time) = order.time_of(key, row.timestamp) {
                    (latest, earliest) = (latest.max(time), earliest.min(time));
                }
            });
            let rows = rows.map_err(|problem| failed(&self.folder, "is given what is no row", &problem))?;
            self.latest[write.family].store(latest, Ordering::Relaxed);
            self.earliest[write.family].store(earliest, Ordering::Relaxed);
            let position = encode_position(write.position, latest, order);
            let is_first = || self.has_unflushed(&handle).is_ok_and(|has_some| !has_some);
            let bytes: usize = write.batches.iter().map(Records::bytes).sum();
            if bytes >= INGESTED || (bytes >= INGESTED_FIRST && is_first()) {
                self.ingest(&handle, &position, &rows).map_err(|e| self.error("cannot be written", &e))?;
                self.expire(write, &mut batch)?;
                continue;
            }
            let taken: Result<_, Infallible> = rows.write(|key, value| {
                match value {
                    Some(value) => batch.put_cf(&handle, key, value),
                    None => batch.delete_cf(&handle, key),
                }
                Ok(ControlFlow::Continue(()))
            });
            let Ok(_) = taken;
            batch.put_cf(&handle, POSITION, position);
            self.expire(write, &mut batch)?;
        }
        #[cfg(feature = "plant")]
        if millstream_core::Plant::ForgetOffsetRow.is_set() {
            for write in writes {
                let (family, latest) = (&self.families[write.family], &self.latest[write.family]);
                let position = encode_position(write.position, latest.load(Ordering::Relaxed), family.order);
                let _as_it_goes = fs::write(self.folder.join(format!("planted-{}", write.family)), position);
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|e| self.error("cannot be written", &e))?;
        writes.iter().try_for_each(|write| self.sweep(write))
    }

    /// Whether rows of a family wait to be written to files.
    fn has_unflushed(&self, handle: &Arc<BoundColumnFamily<'_>>) -> Result<bool> {
        let rows = self.db.property_int_value_cf(handle, properties::NUM_ENTRIES_ACTIVE_MEM_TABLE);
        rows.map(|rows| rows != Some(0)).map_err(|e| self.error("cannot be read", &e))
    }

    /// Removes the rows of a family that have expired, those that were just written too.
    fn expire(&self, write: &FamilyWrite, batch: &mut WriteBatch) -> Result<()> {
        let (Expired::Before(time), order) = (write.expired, self.families[write.family].order) else { return Ok(()) };
        let earliest = &self.earliest[write.family];
        // Once per part: what is removed by range costs every read a little until files are merged.
        let is_any = order.part_of(earliest.load(Ordering::Relaxed)) < order.part_of(time);
        let Some(end) = order.part_of(time).filter(|_| is_any) else { return Ok(()) };
        earliest.store(time, Ordering::Relaxed);
        let (handle, from, to) = (self.handle(write.family)?, [ROW], [&[ROW], end.as_slice()].concat());
        batch.delete_range_cf(&handle, from.as_slice(), &to);
        // Files that hold nothing else go at once.
        let gone = self.db.delete_file_in_range_cf(&handle, from.as_slice(), &to);
        gone.map_err(|e| self.error("cannot be written", &e))
    }

    /// Writes rows, with the position that they stand for, as a file of the database: that costs a tenth of inserting them.
    fn ingest(
        &self,
        handle: &Arc<BoundColumnFamily<'_>>,
        position: &[u8],
        rows: &SortedRows<'_>,
    ) -> Result<(), rocksdb::Error> {
        let path = self.folder.join("rows.sst");
        let written = match self.write_file(&path, &self.options, position, rows, TRIAL) {
            Ok(File::TooLarge) => self.write_file(&path, &self.uncompressed, position, rows, usize::MAX),
            written => written,
        };
        if let Err(error) = written {
            // It takes space that others may need. Without that the next such file takes its place.
            let _left_there = fs::remove_file(&path);
            return Err(error);
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db.ingest_external_file_cf_opts(handle, &options, vec![path])
    }

    /// Writes a file, unless what is written of it at first is hardly smaller than the rows are.
    fn write_file(
        &self,
        path: &Path,
        options: &Options,
        position: &[u8],
        rows: &SortedRows<'_>,
        mut trial: usize,
    ) -> Result<File, rocksdb::Error> {
        let mut file = SstFileWriter::create(options);
        file.open(path)?;
        file.put(POSITION, position)?;
        let mut bytes = 0;
        let written = rows.write(|key, value| {
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            if bytes > trial {
                trial = usize::MAX;
                if file.file_size() as usize > bytes / 8 * 7 {
                    return Ok(ControlFlow::Break(()));
                }
            }
            let put = match value {
                Some(value) => file.put(key, value),
                None => file.delete(key),
            };
            put.map(ControlFlow::Continue)
        })?;
        if written.is_break() {
            return Ok(File::TooLarge);
        }
        file.finish().map(|()| File::Written)
    }

    /// Writes what is in memory to files.
    pub(super) fn flush(&self) -> Result<()> {
        let handles: Vec<_> = (0..self.families.len()).map(|family| self.handle(family)).collect::<Result<_>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let flushed = self.db.flush_cfs_opt(&handles.iter().collect::<Vec<_>>(), &options);
        flushed.map_err(|e| self.error("cannot be written", &e))
    }
}
