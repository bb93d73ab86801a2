//! Files of state that are damaged, of each kind and for each kind of store, while a program is down and while it runs: what comes out is
//! what has to come out, and what is damaged is found once. Global stores keep nothing on disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Result, RuntimeConfig};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::{Embedded, folder};
use millstream_tests::stored::{PROGRAMS, Stored};

type Damage = fn(&Path) -> io::Result<()>;

/// Ways to damage a file. It stays the same file, which a program may have open.
const DAMAGES: [(&str, Damage); 6] = [
    ("cut", |path| fs::File::options().write(true).open(path)?.set_len(fs::metadata(path)?.len() / 2)),
    ("empty", |path| fs::File::options().write(true).open(path)?.set_len(0)),
    ("gone", |path| fs::remove_file(path)),
    ("zero", |path| overwrite(path, |byte| *byte = 0, 1)),
    // RocksDB went round over that for ever in the MANIFEST.
    ("appended", |path| fs::File::options().append(true).open(path)?.write_all(&[7; 100])),
    ("flipped", |path| overwrite(path, |byte| *byte ^= 0x55, 97)),
];

fn overwrite(path: &Path, change: fn(&mut u8), every: usize) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    bytes.iter_mut().step_by(every).for_each(change);
    fs::File::options().write(true).open(path)?.write_all(&bytes)
}

/// A program with its state in a folder.
struct World {
    program: ByHand,
    stored: Stored,
    folder: tempfile::TempDir,
}

impl World {
    fn new(program: (&'static str, &'static [&'static str])) -> Result<Self> {
        let folder = folder()?;
        // Rows and blocks leave memory at once: every look is at the files.
        let options = RocksOptions { rows: 0, blocks: 0, unflushed: 1 << 20, background: false };
        let disk = RocksDisk::new(&folder.path().join("state"), options)?;
        let embedded = Embedded::in_memory()?;
        let stored = Stored::new(program, 3, &embedded)?;
        let config = RuntimeConfig { disk: Some(Arc::new(disk)), ..RuntimeConfig::embedded("app") };
        let program = ByHand::new(embedded, stored.topology()?, config)?;
        Ok(World { program, stored, folder })
    }

    fn go_on(&mut self, at: &dyn Fn() -> String) -> Result<()> {
        self.stored.write(&self.program.embedded, 15)?;
        self.program.run().unwrap_or_else(|error| panic!("{}: {error}", at()));
        assert_eq!(self.stored.difference(&self.program.embedded)?, None, "{}", at());
        Ok(())
    }

    /// The files of all tasks' databases, by what they are; a lock has no content, and a folder of another format is nobody's to mend.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let inside = |folder: PathBuf| {
            let entries = fs::read_dir(folder).expect("a folder");
            entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
        };
        let kind = |path: &Path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            name.trim_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned()
        };
        let tasks = inside(self.folder.path().join("state")).into_iter();
        let files = tasks.flat_map(inside).map(|path| (kind(&path), path));
        files.filter(|(kind, _)| !["LOCK", "millstream-state"].contains(&kind.as_str())).collect()
    }

    fn kinds(&self) -> BTreeSet<String> {
        self.files().into_iter().map(|(kind, _)| kind).collect()
    }

    fn damage(&self, wanted: &str, damage: fn(&Path) -> io::Result<()>) {
        for (_, path) in self.files().iter().filter(|(kind, _)| kind == wanted) {
            match damage(path) {
                // A running database removes files that it needs no more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                damaged => damaged.expect("it can be damaged"),
            }
        }
    }
}

#[test]
fn what_is_damaged_while_a_program_is_down_is_found_when_it_starts() -> Result<()> {
    for program in PROGRAMS {
        for (name, damage) in DAMAGES {
            let mut world = World::new(program)?;
            world.go_on(&|| String::new())?;
            world.program.close()?;
            let kinds = world.kinds();
            assert!([".sst", "CURRENT", "MANIFEST"].iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
            for kind in kinds {
                let at = || format!("{}: {kind} {name}", program.0);
                world.damage(&kind, damage);
                world.go_on(&at)?;
                world.program.close().unwrap_or_else(|error| panic!("{}: {error}", at()));
                // What was damaged is whole again: nothing is found a second time.
                world.go_on(&at)?;
                assert_eq!(world.program.thread()?.counters().restore, 0, "{}", at());
                world.program.close()?;
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_damaged_while_a_program_runs_is_found_when_it_is_read() -> Result<()> {
    let mut rebuilt = BTreeSet::new();
    for program in PROGRAMS {
        for (name, damage) in DAMAGES {
            let mut world = World::new(program)?;
            world.go_on(&|| String::new())?;
            world.program.close()?;
            for kind in world.kinds() {
                let at = || format!("{}: {kind} {name}", program.0);
                // It opens its files, which have all rows.
                world.program.run()?;
                let restored = world.program.thread()?.counters().restore;
                world.damage(&kind, damage);
                world.go_on(&at)?;
                if world.program.thread()?.counters().restore > restored {
                    rebuilt.insert(program.0);
                }
                // What has not been read yet may be found now: everything is committed.
                world.program.close()?;
                world.go_on(&at)?;
                world.program.close()?;
                world.go_on(&at)?;
                assert_eq!(world.program.thread()?.counters().restore, 0, "{}", at());
                world.program.close()?;
            }
        }
    }
    // Without these it would have been found at the next start alone.
    assert!(rebuilt.contains("count") && rebuilt.len() > 3, "{rebuilt:?}");
    Ok(())
}
