//! The databases of a process: where they lie, what they share, how one is opened, and what is done with a damaged one.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use millstream_core::{Family, Files as _, OsFiles, Result, StateBudget, StateDisk, TaskDisk};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, ErrorKind, LogLevel, Options,
    WriteBufferManager,
};

use super::database::Database;
use super::error::{DAMAGED, failed, is_damage, open_to_others, state_error, unmade};
use super::manifest;
use super::space::Space;
use super::task::RocksTask;
use super::writer::Writer;

/// What the databases of a process may take.
#[derive(Debug, Clone, Copy)]
pub struct RocksOptions {
    /// Bytes of rows that tables keep decoded, of those that are on disk too.
    pub rows: usize,
    /// Bytes of blocks read from files.
    pub blocks: usize,
    /// Bytes of rows that are not in files yet: what a killed process reads again from its changelogs.
    pub unflushed: usize,
    /// Whether a thread of its own writes; without, the caller waits: for simulation.
    pub background: bool,
}

impl Default for RocksOptions {
    fn default() -> Self {
        RocksOptions { rows: 256 << 20, blocks: 64 << 20, unflushed: 128 << 20, background: true }
    }
}

/// The databases of one application in this process.
pub struct RocksDisk {
    folder: PathBuf,
    shared: Options,
    family: Options,
    budget: Arc<StateBudget>,
    /// Each writes for some of the tasks.
    writers: Vec<Writer>,
    opened: AtomicUsize,
    space: Arc<Space>,
    warnings: Vec<String>,
}

impl fmt::Debug for RocksDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDisk").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The file that says whose folder this is, and its content: the version of what lies in it.
const FORMAT: (&str, &str) = ("millstream-state", "1\n");

/// Threads that write at most: a restore of several tasks is as fast as they are.
const WRITERS: usize = 2;

/// Part of the memory of rows that are not in files yet that their filters take besides: ten bits a row of 40 bytes.
const MEMTABLE_FILTER: f64 = 0.03;

impl RocksDisk {
    /// The state of an application under a folder (`<state.dir>/<application.id>`), which is made if it is missing, and is its
    /// owner's alone from now on. Where that cannot be had, or a system may empty the folder, there is a
    /// [warning](RocksDisk::warnings).
    ///
    /// # Errors
    /// When the folder or the thread that writes cannot be made.
    pub fn new(folder: &Path, options: RocksOptions) -> Result<Self> {
        make_folder(folder).map_err(|e| unmade(folder, &e))?;
        let mut warnings: Vec<String> =
            close_to_others(folder).err().map(|error| open_to_others(folder, &error)).into_iter().collect();
        if is_temporary(folder) {
            let folder = folder.display();
            warnings.push(format!(
                "state is kept in {folder}, where temporary files are: a system may empty that\n  help: another `state.dir`"
            ));
        }
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(options.blocks));
        // As little is read and decompressed for a row as its block is small: twice this takes a sixth more time.
        blocks.set_block_size(4 << 10);
        // Filters and indexes stay with their files, some two bytes a row: in the cache they push each other out, and every row
        // that is asked for then reads megabytes of them.
        blocks.set_cache_index_and_filter_blocks(false);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_format_version(6);

        let mut family = Options::default();
        family.set_block_based_table_factory(&blocks);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_write_buffer_size(options.unflushed / 4);
        family.set_max_write_buffer_number(4);
        family.set_level_compaction_dynamic_level_bytes(true);
        // Most rows that are asked for are not among those that wait to be written to files: without a filter each of these
        // lists is searched, a wait for memory per step.
        family.set_memtable_whole_key_filtering(true);
        family.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER);

        let mut shared = family.clone();
        shared.create_if_missing(true);
        shared.create_missing_column_families(true);
        shared.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(options.unflushed, false));
        shared.set_max_background_jobs(2);
        shared.set_max_open_files(512);
        shared.set_keep_log_file_num(1);
        shared.set_log_level(LogLevel::Error);
        shared.set_max_manifest_file_size(4 << 20);
        shared.set_stats_dump_period_sec(0);
        let writers = 0..WRITERS.min(thread::available_parallelism().map_or(1, NonZero::get));
        let writers = writers.map(|_| Writer::new(options.background));
        Ok(RocksDisk {
            folder: folder.to_owned(),
            shared,
            family,
            budget: Arc::new(StateBudget::new(options.rows)),
            writers: writers.collect::<io::Result<_>>().map_err(|e| failed(folder, "no thread to write it", &e))?,
            opened: AtomicUsize::new(0),
            space: Arc::new(Space::new(folder, options.unflushed / 4)),
            warnings,
        })
    }

    /// What is not as it should be and holds nobody up.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn try_open(&self, folder: &Path, families: &[Family]) -> Result<DB, rocksdb::Error> {
        let there = match DB::list_cf(&self.shared, folder) {
            Ok(names) => names,
            Err(_) if !folder.join("CURRENT").exists() => Vec::new(),
            Err(error) => return Err(error),
        };
        let wanted = families.iter().map(|family| family.name.as_str());
        let mut names: Vec<&str> = there.iter().map(String::as_str).chain(wanted.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let descriptors = names.iter().map(|name| ColumnFamilyDescriptor::new(*name, self.family.clone()));
        let db = DB::open_cf_descriptors(&self.shared, folder, descriptors)?;
        // Of stores that the program has no more.
        for gone in names.iter().filter(|name| **name != "default" && !wanted.clone().any(|wanted| wanted == **name)) {
            db.drop_cf(gone)?;
        }
        Ok(db)
    }
}

impl RocksDisk {
    fn open_folder(&self, folder: PathBuf, families: Vec<Family>) -> Result<Box<dyn TaskDisk>> {
        make_folder(&folder).map_err(|e| unmade(&folder, &e))?;
        check_format(&folder)?;
        let is_damaged = manifest::is_damaged(&folder).map_err(|e| failed(&folder, "cannot be read", &e))?;
        if is_damaged || folder.join(DAMAGED).exists() {
            remove(&folder)?;
        }
        let db = match self.try_open(&folder, &families) {
            Err(error) if is_unreadable(&error) => {
                remove(&folder)?;
                self.try_open(&folder, &families)
            }
            opened => opened,
        };
        let db = db.map_err(|e| failed(&folder, "cannot be opened", &e))?;
        let database = Arc::new(Database::new(db, folder, families, self.family.clone(), self.space.clone()));
        let positions = (0..database.families.len()).map(|family| database.position(family)).collect::<Result<_>>()?;
        let writer = self.writers[self.opened.fetch_add(1, Ordering::Relaxed) % self.writers.len()].clone();
        Ok(Box::new(RocksTask::new(database, positions, writer)))
    }
}

impl StateDisk for RocksDisk {
    fn open(&self, task: &str, families: Vec<Family>) -> Result<Box<dyn TaskDisk>> {
        self.space.look()?;
        self.open_folder(self.folder.join(task), families).map_err(|error| self.space.learn(error))
    }

    fn clean_up(&self) -> Result<()> {
        let unreadable = |e: io::Error| failed(&self.folder, "cannot be emptied", &e);
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            let task = entry.map_err(unreadable)?.path();
            // What else may lie there is not ours.
            if task.join(FORMAT.0).exists() {
                DB::destroy(&self.shared, &task).map_err(|e| failed(&task, "is in use, or cannot be removed", &e))?;
                fs::remove_dir_all(&task).map_err(|e| failed(&task, "cannot be removed", &e))?;
            }
        }
        Ok(())
    }

    fn budget(&self) -> &Arc<StateBudget> {
        &self.budget
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Takes from all but the owner what they may do with a folder: one that was copied, or mounted, is often everybody's to read. What is
/// in it then is out of their reach too.
fn close_to_others(folder: &Path) -> io::Result<()> {
    let mode = || fs::metadata(folder).map(|folder| folder.permissions().mode());
    let others = 0o077;
    if mode()? & others == 0 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode()? & !others))?;
    // Some file systems take it and change nothing.
    if mode()? & others == 0 { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Whether a folder is where systems keep what they may remove.
fn is_temporary(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let temporary = ["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from).into_iter().chain([env::temp_dir()]);
    temporary.filter_map(|temporary| temporary.canonicalize().ok()).any(|temporary| folder.starts_with(temporary))
}

/// A folder of another version is left alone. The version is written as a whole: a process that is killed here must not leave
/// a folder that no version knows.
fn check_format(folder: &Path) -> Result<()> {
    let path = folder.join(FORMAT.0);
    match fs::read_to_string(&path) {
        Ok(found) if found == FORMAT.1 => Ok(()),
        Ok(found) => {
            let other = format!("is of version {:?}, and this program knows {:?}", found.trim(), FORMAT.1.trim());
            let help = "run the version that wrote it, or remove the folder: its rows are in the changelogs too";
            Err(state_error(folder, &format!("{other}\n  help: {help}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OsFiles.replace(&path, FORMAT.1.as_bytes()).map_err(|e| failed(folder, "cannot be written", &e))
        }
        Err(error) => Err(failed(folder, "cannot be read", &error)),
    }
}

/// Removes the files of a database, all of which are in the changelogs too.
fn remove(folder: &Path) -> Result<()> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != FORMAT.0) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    };
    remove().map_err(|e| failed(folder, "is damaged and cannot be emptied", &e))
}

/// Whether the files are not what was written, as opposed to files that may not be opened now.
fn is_unreadable(error: &rocksdb::Error) -> bool {
    is_damage(error) || matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::InvalidArgument)
}

#[cfg(test)]
mod tests {
    use millstream_core::{BatchBuilder, DiskPosition, Expired, FamilyWrite, RowOrder};

    use super::super::row::{POSITION, encode_position};
    use super::*;

    /// It said that the folder may be removed.
    #[test]
    fn a_folder_that_cannot_be_made_is_to_be_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        let error = RocksDisk::new(&file.join("state"), RocksOptions::default()).map(drop).expect_err("an error");
        let text = error.to_string();
        assert!(text.contains("cannot be made") && text.contains("help: set another `state.dir`"), "{text}");
        assert!(!text.contains("removed"), "{text}");
    }

    /// The folder was somebody else's: permissions of what a kernel shows are nobody's to change.
    #[cfg(target_os = "linux")]
    #[test]
    fn state_that_stays_open_to_others_or_is_temporary_is_warned_of() {
        let disk = RocksDisk::new(Path::new("/proc/self/task"), RocksOptions::default()).expect("a disk");
        let [warning] = disk.warnings() else { panic!("{:?}", disk.warnings()) };
        assert!(warning.starts_with("/proc/self/task: other users can read this state"), "{warning}");
        assert!(warning.contains("\n  help: let this user own the folder"), "{warning}");
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RocksDisk::new(folder.path(), RocksOptions::default()).expect("a disk");
        let [warning] = disk.warnings() else { panic!("{:?}", disk.warnings()) };
        assert!(warning.ends_with("a system may empty that\n  help: another `state.dir`"), "{warning}");
    }

    /// A process that was killed between making this file and writing it left an empty one, which no version knew: the state
    /// could not be opened any more.
    #[test]
    fn a_start_that_was_cut_off_does_not_hold_up_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let task = folder.path().join("store-0");
        fs::create_dir(&task).expect("a folder");
        fs::write(task.join(FORMAT.0).with_extension("new"), "").expect("a file");
        let disk = RocksDisk::new(folder.path(), RocksOptions::default()).expect("a disk");
        drop(disk.open("store-0", Vec::new()).expect("it opens"));
        let names = fs::read_dir(&task).expect("a folder").map(|e| e.expect("an entry").file_name());
        assert!(!names.collect::<Vec<_>>().contains(&"millstream-state.new".into()));
        assert_eq!(fs::read_to_string(task.join(FORMAT.0)).expect("a file"), FORMAT.1);
    }

    fn family() -> Vec<Family> {
        vec![Family { name: "rows".to_owned(), order: RowOrder::Key }]
    }

    /// A write of a row.
    fn row() -> Vec<FamilyWrite> {
        let mut batch = BatchBuilder::new();
        batch.push(1, Some(b"key"), Some(b"value"), &[]);
        let position = DiskPosition { changelog: 1, offset: 1, written: 1 };
        vec![FamilyWrite { family: 0, batches: vec![batch.into_records(0)], position, expired: Expired::Nothing }]
    }

    /// Kafka Streams' bug KAFKA-7192: rows were taken for whole although nothing said how far they reached.
    #[test]
    fn rows_that_no_position_vouches_for_are_not_used() {
        let position = encode_position(DiskPosition { changelog: 1, offset: 1, written: 1 }, 1, RowOrder::Key);
        let cut = (0..position.len()).map(|length| Some(position[..length].to_vec()));
        let other = [vec![9; position.len()], [position.as_slice(), &[0]].concat()];
        for tampered in cut.chain(other.into_iter().map(Some)).chain([None]) {
            let folder = tempfile::tempdir().expect("a folder");
            let disk = RocksDisk::new(folder.path(), RocksOptions::default()).expect("a disk");
            let mut task = disk.open("rows-0", family()).expect("it opens");
            task.write(row());
            task.close().expect("written");
            drop(task);
            let db = disk.try_open(&folder.path().join("rows-0"), &family()).expect("it opens");
            {
                let rows = db.cf_handle("rows").expect("it is there");
                match &tampered {
                    Some(bytes) => db.put_cf(&rows, POSITION, bytes),
                    None => db.delete_cf(&rows, POSITION),
                }
                .expect("written");
            }
            drop(db);
            let task = disk.open("rows-0", family()).expect("it opens");
            assert_eq!(task.position(0), None, "{tampered:?}");
            assert!(task.rows(0).is_empty().expect("it can be read"), "{tampered:?}");
        }
    }

    /// Rows that compression makes no smaller, and others, are written as sorted files; what a key had before gives way, also where
    /// it waits to be written to a file.
    #[test]
    fn much_at_once_is_written_over_what_is_there() {
        let mut noise = 1u64;
        let noisy = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ 7;
            noise.to_be_bytes()
        });
        let noisy: Vec<u8> = noisy.take(32).flatten().collect();
        for value in [vec![1; 256], noisy] {
            let rows = |round: usize, keys: &mut dyn Iterator<Item = u32>| {
                let mut batch = BatchBuilder::new();
                for key in keys {
                    let start = [(key.wrapping_mul(0x9E37_79B9)).to_be_bytes(), (round as u32).to_be_bytes()].concat();
                    let mut row: Vec<u8> = value.iter().zip(start.iter().cycle()).map(|(a, b)| a ^ b).collect();
                    row[..8].copy_from_slice(&start);
                    batch.push(1, Some(&key.to_be_bytes()), Some(&row), &[]);
                }
                let position = DiskPosition { changelog: 1, offset: round as i64, written: 1 };
                vec![FamilyWrite {
                    family: 0,
                    batches: vec![batch.into_records(0)],
                    position,
                    expired: Expired::Nothing,
                }]
            };
            let folder = tempfile::tempdir().expect("a folder");
            let disk = RocksDisk::new(folder.path(), RocksOptions::default()).expect("a disk");
            let mut task = disk.open("rows-0", family()).expect("it opens");
            // 8 MB as a file, few rows to memory, 8 MB and 18 MB as files.
            task.write(rows(0, &mut (0..30_000)));
            task.write(rows(1, &mut (10..20)));
            task.write(rows(2, &mut (15..30_000)));
            task.write(rows(3, &mut (0..70_000).rev().filter(|key| key % 8 != 0)));
            task.close().expect("written");
            drop(task);
            let task = disk.open("rows-0", family()).expect("it opens");
            assert_eq!(task.position(0).map(|position| position.offset), Some(3));
            let store = task.rows(0);
            for key in (0..70_000u32).step_by(997).chain(0..40) {
                let last = match key {
                    _ if key % 8 != 0 => Some(3),
                    15..30_000 => Some(2),
                    10..15 => Some(1),
                    0..10 => Some(0),
                    _ => None,
                };
                let mut found = None;
                let get = store.get(&key.to_be_bytes(), &mut |row| {
                    found = row.value.map(|value| u32::from_be_bytes(value[4..8].try_into().expect("four bytes")));
                    Ok(())
                });
                assert_eq!((get.expect("it can be read"), found), (last.is_some(), last), "{key}");
            }
        }
    }

    /// Kafka Streams' bugs KAFKA-9618 and KAFKA-17098: who came next found the folder locked. What a failed write has left in the
    /// queue held it here.
    #[test]
    fn a_folder_is_free_as_soon_as_its_task_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RocksDisk::new(folder.path(), RocksOptions::default()).expect("a disk");
        for round in 0..50 {
            let mut task = disk.open("rows-0", family()).expect("nobody holds it");
            let mut without_key = BatchBuilder::new();
            without_key.push(1, None, Some(b"value"), &[]);
            for write in 0..20 {
                let mut writes = row();
                if (round, write) == (round / 2 * 2, 5) {
                    writes[0].batches = vec![without_key.clone().into_records(0)];
                }
                task.write(writes);
            }
            drop(task);
            if round % 5 == 0 {
                fs::remove_dir_all(folder.path().join("rows-0")).expect("nobody writes to it");
            }
        }
    }
}
