//! A crash during compaction, before or after any of its file calls, and between its renames, leaves the old segments or the
//! new: nothing is lost, nothing comes back, and the next start goes on. A call that fails does no more harm.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use compacted::{ALL, COMMITTED, Outcome, World, batch, commit, create, producer, seen, send, t};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{Admin, Call, Fault, Files, LockError, LogError, OpenFile, OpenMode, SimFiles};

/// Files that keep, before each call that changes something, the disks as a power cut would leave them there.
#[derive(Debug, Clone)]
struct Cuts {
    files: SimFiles,
    /// `None` while nobody asks.
    disks: Arc<Mutex<Option<Vec<(String, SimFiles)>>>>,
}

impl Cuts {
    fn before(&self, call: &str, path: &Path) {
        if let Some(disks) = &mut *self.disks.lock().expect("no panic") {
            let name = format!("cut {} before {call} {}", disks.len(), path.display());
            disks.push((name, self.files.power_cut(disks.len() as u64)));
        }
    }

    fn record(&self) {
        *self.disks.lock().expect("no panic") = Some(Vec::new());
    }

    fn recorded(&self) -> Vec<(String, SimFiles)> {
        self.disks.lock().expect("no panic").take().unwrap_or_default()
    }
}

#[derive(Debug)]
struct CutFile {
    cuts: Cuts,
    path: std::path::PathBuf,
    file: Arc<dyn OpenFile>,
}

impl OpenFile for CutFile {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.cuts.before("write", &self.path);
        self.file.write_all_at(bytes, at)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cuts.before("set_len", &self.path);
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn sync(&self) -> io::Result<()> {
        self.cuts.before("sync", &self.path);
        self.file.sync()
    }
}

impl Files for Cuts {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn OpenFile>> {
        self.before("open", path);
        let file = self.files.open(path, mode)?;
        Ok(Arc::new(CutFile { cuts: self.clone(), path: path.to_owned(), file }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.open(path, OpenMode::Create)?.write_all_at(bytes, 0)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("rename", from);
        self.files.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.before("remove", path);
        self.files.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir(dir)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.before("sync_dir", dir);
        self.files.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        self.files.lock(path)
    }
}

fn options(world: &World, files: Arc<dyn Files>) -> BrokerOptions {
    BrokerOptions { files, segment_bytes: 300, checkpoint_bytes: 2_000, ..world.options() }
}

/// What must be the same whatever happened: the last value of every key, and the end.
#[derive(Debug, PartialEq, Eq)]
struct State {
    table: BTreeMap<String, String>,
    end: i64,
}

fn state(broker: &Broker) -> Result<State, LogError> {
    let mut table = BTreeMap::new();
    for seen in seen(broker, broker.start_offset(&t())?, COMMITTED)? {
        match seen.text.split_once('=') {
            Some((key, value)) => table.insert(key.to_owned(), value.to_owned()),
            None => table.remove(&seen.text),
        };
    }
    assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?);
    Ok(State { table, end: broker.end_offset(&t(), ALL)? })
}

/// A log of a few keys, with tombstones and transactions, all of it on the disk. Some of it was compacted before.
fn prepare(world: &World) -> Outcome {
    let broker = Broker::open(options(world, Arc::new(world.files.clone())))?;
    create(&broker, "cleanup.policy=compact min.cleanable.dirty.ratio=0 delete.retention.ms=100")?;
    for round in 0..2 {
        let (mut a, mut plain) = (producer(&broker, Some("a"))?, producer(&broker, None)?);
        for number in 0..8 {
            send(plain.as_mut(), 5, &format!("k{}=p{round}-{number} gone{}", number % 3, number % 2))?;
            send(a.as_mut(), 5, &format!("k{}=a{round}-{number} gone{}=x", number % 4, number % 2))?;
            if number % 3 == 0 { a.abort()? } else { commit(a.as_mut())? }
        }
        send(plain.as_mut(), 5, "gone0 gone1")?;
        send(plain.as_mut(), 5, &format!("k9=p{round}-{}", "x".repeat(300)))?;
        send(plain.as_mut(), 5, "k9=last")?;
        if round == 0 {
            broker.tick()?;
        }
    }
    broker.close()
}

#[test]
fn a_power_cut_before_any_file_call_of_compaction_loses_nothing_and_brings_nothing_back() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let world = World::new(durability);
        prepare(&world)?;
        let cuts = Cuts { files: world.files.clone(), disks: Arc::default() };
        let mut broker = Broker::open(options(&world, Arc::new(cuts.clone())))?;
        let before = state(&broker)?;
        assert!(!before.table.contains_key("gone0"));
        cuts.record();
        broker.tick()?;
        // The time of the tombstones and markers has come in the second round; the third finds small segments.
        for round in 0..2 {
            world.advance(200);
            let disks = cuts.recorded();
            broker.append(
                &t(),
                &batch(5, &format!("k9={round}{}", "x".repeat(300))).seal(&Default::default()).expect("a batch"),
            )?;
            broker.append(&t(), &batch(5, "k9=last").seal(&Default::default()).expect("a batch"))?;
            if durability == Durability::Os {
                // What was not synced is not promised to outlive a power cut: only compaction is looked at.
                broker.close()?;
                drop(broker);
                broker = Broker::open(options(&world, Arc::new(cuts.clone())))?;
            }
            *cuts.disks.lock().expect("no panic") = Some(disks);
            broker.tick()?;
        }
        let after = State { end: before.end + 4, ..state(&broker)? };
        assert_eq!(after.table, before.table);
        let disks = cuts.recorded();
        let renames = disks.iter().filter(|(name, _)| name.contains("rename") && name.contains("log.swap")).count();
        assert!(disks.len() > 150 && renames > 5, "{} {renames}", disks.len());
        for (name, files) in disks {
            let world = World { files, ..world.clone() };
            let check = || -> Outcome {
                for again in 0..2 {
                    let broker = Broker::open(options(&world, Arc::new(world.files.clone())))?;
                    let found = state(&broker)?;
                    assert_eq!(found.table, before.table, "{durability:?}, {name}, {again}");
                    assert!((before.end..=after.end).contains(&found.end), "{durability:?}, {name}: {}", found.end);
                    let left = world.names();
                    assert!(!left.iter().any(|n| n.ends_with("cleaned") || n.ends_with("swap")), "{name}: {left:?}");
                    broker.tick()?;
                    assert_eq!(state(&broker)?, found, "{durability:?}, {name}: compacted again");
                    broker.close()?;
                }
                Ok(())
            };
            check().unwrap_or_else(|e| panic!("{durability:?}, {name}: {e}"));
        }
    }
    Ok(())
}

#[test]
fn a_call_that_fails_leaves_the_log_as_it_was_and_is_made_again() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        let prepared = World::new(durability);
        prepare(&prepared)?;
        // All of it is synced: a power cut leaves a copy.
        let copy = || World { files: prepared.files.power_cut(1), ..prepared.clone() };
        let undisturbed = copy();
        let broker = Broker::open(options(&undisturbed, Arc::new(undisturbed.files.clone())))?;
        let before = state(&broker)?;
        let from = undisturbed.files.calls();
        broker.tick()?;
        let calls = undisturbed.files.calls() - from;
        assert!(calls > 50, "{calls}");
        let mut failures = 0;
        for skip in 0..calls {
            for (call, kind) in [
                (Call::Write, ErrorKind::StorageFull),
                (Call::Write, ErrorKind::Other),
                (Call::Sync, ErrorKind::Other),
                (Call::Read, ErrorKind::Other),
            ] {
                let place = format!("{durability:?}: {call:?} {kind:?} at {skip}");
                let world = copy();
                let broker = Broker::open(options(&world, Arc::new(world.files.clone())))?;
                world.files.fail(Fault { call, skip, times: 1, kind });
                let failed = broker.tick().is_err();
                failures += u32::from(failed);
                world.files.heal();
                match state(&broker) {
                    // Nobody may believe this disk any more.
                    Err(LogError::Io { .. }) if failed && call == Call::Sync => {}
                    found => assert_eq!(found?, before, "{place}"),
                }
                if failed && call != Call::Sync {
                    broker.tick()?;
                    assert_eq!(state(&broker)?, before, "{place}: tried again");
                    let left = world.names();
                    assert!(!left.iter().any(|n| n.ends_with("cleaned") || n.ends_with("swap")), "{place}: {left:?}");
                }
                let files = world.files.power_cut(skip);
                let broker = Broker::open(options(&world, Arc::new(files)))?;
                assert_eq!(state(&broker)?, before, "{place}: after a start");
            }
        }
        assert!(failures > 50, "{failures}");
    }
    Ok(())
}
