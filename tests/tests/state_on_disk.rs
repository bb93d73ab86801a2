//! State on disk is found again at a start, and what is wrong with it never shows in results: a clear error, or the changelog
//! is read instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Admin as _, Clock as _, Counters, Error, Log as _, ManualClock, Result, RuntimeConfig, State, StateDisk,
    TopicPartition, Topology,
};
use millstream_dsl::StreamsBuilder;
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;

const KEYS: i64 = 200;

fn count(store: &str) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").group_by_key().count(store).to_stream().to("out");
    b.build()
}

/// A log with its input, and a folder for state.
struct World {
    embedded: Embedded,
    folder: tempfile::TempDir,
    rounds: i64,
}

impl World {
    fn new() -> Result<Self> {
        let embedded = Embedded::in_memory()?;
        embedded.create("in", 2)?;
        embedded.create("out", 2)?;
        Ok(World { embedded, folder: tempfile::tempdir().expect("a folder"), rounds: 0 })
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Nothing of it stays in memory that is on disk.
    fn disk(&self) -> Result<Arc<dyn StateDisk>> {
        let options = RocksOptions { rows: 0, ..RocksOptions::default() };
        Ok(Arc::new(RocksDisk::new(&self.state(), options)?))
    }

    /// Every key of both partitions once more.
    fn write(&mut self) -> Result<()> {
        self.rounds += 1;
        (0..2).try_for_each(|partition| {
            let keys: Vec<String> = (0..KEYS).map(|key| format!("{partition}-{key}")).collect();
            self.write_keys(partition, &keys)
        })
    }

    fn write_keys(&self, partition: i32, keys: &[String]) -> Result<()> {
        let records: Vec<_> = keys.iter().map(|key| (self.rounds, Some(key.as_str()), "x")).collect();
        self.embedded.write("in", partition, &records)
    }

    /// Counts what was written, to its end.
    fn run(&self, topology: Topology) -> Result<Counters> {
        let config = RuntimeConfig { disk: Some(self.disk()?), ..RuntimeConfig::embedded("app") };
        self.embedded.streams(topology, config)?.run_to_end()
    }

    /// Every key was counted once per round, in order.
    fn check(&self) -> Result<()> {
        let mut last = BTreeMap::new();
        for (key, n) in self.embedded.read::<String, i64>("out")?.into_iter().flatten() {
            let before = last.insert(key.clone(), n).unwrap_or(0);
            assert_eq!(n, before + 1, "{key}");
        }
        assert_eq!(last.len() as i64, 2 * KEYS);
        assert!(last.values().all(|n| *n == self.rounds));
        Ok(())
    }

    fn task_folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state()).expect("there is state");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// The files of a database, by what they are.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let kind = |path: &Path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let number = |c: char| c.is_ascii_digit() || c == '-';
        name.trim_matches(number).to_owned()
    };
    entries.map(|path| (kind(&path), path)).collect()
}

#[test]
fn a_start_after_an_end_in_order_restores_nothing() -> Result<()> {
    let mut world = World::new()?;
    for round in 0..4 {
        world.write()?;
        let counters = world.run(count("counts")?)?;
        assert_eq!((round, counters.restore), (round, 0));
        world.check()?;
    }
    Ok(())
}

/// The position was asked from the log's end when the thread woke up: behind what another had committed meanwhile, whose rows are on
/// its own disk.
#[test]
fn what_another_has_committed_is_in_no_position_of_ours() -> Result<()> {
    let world = World::new()?;
    let disk = |name: &str| -> Result<Arc<dyn StateDisk>> {
        let options = RocksOptions { background: false, ..RocksOptions::default() };
        Ok(Arc::new(RocksDisk::new(&world.folder.path().join(name), options)?))
    };
    let config = RuntimeConfig { disk: Some(disk("first")?), ..RuntimeConfig::embedded("app") };
    let mut program = ByHand::new(world.embedded.clone(), count("counts")?, config)?;
    let write = |records: usize| world.embedded.write("in", 0, &vec![(0, Some("k"), "x"); records]);
    write(2)?;
    program.run()?;
    write(3)?;
    program.calls.hold_answers(true);
    let partition = [TopicPartition::new("in", 0)];
    let committed = || Ok::<_, Error>(world.embedded.log.admin().committed("app", &partition)?.swap_remove(0));
    for _ in 0..100 {
        program.step()?;
        if committed()?.is_some_and(|committed| committed.offset == 5) {
            break;
        }
    }
    assert_eq!(committed()?.map(|committed| committed.offset), Some(5));
    program.calls.hold_answers(false);
    write(5)?;
    let mut second = program.thread_on(disk("second")?)?;
    for _ in 0..200 {
        second.step(world.embedded.clock.now())?;
        world.embedded.clock.advance(Duration::from_millis(20));
    }
    drop(second);
    assert_eq!(committed()?.map(|committed| committed.offset), Some(10));
    assert!(program.run().is_err_and(|error| error.is_task_migrated()));
    program.kill();
    write(2)?;
    program.run()?;
    let counts: Vec<i64> = world.embedded.read::<String, i64>("out")?.concat().into_iter().map(|(_, n)| n).collect();
    assert_eq!(counts, (1..=12).collect::<Vec<_>>());
    Ok(())
}

/// Kafka Streams' bug KAFKA-20808 and others: damage that is found late, or again at every start.
#[test]
fn a_damaged_file_of_any_kind_is_found_and_the_changelog_read_instead() -> Result<()> {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("cut", |path| {
            let bytes = fs::read(path).expect("a file");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("gone", |path| fs::remove_file(path).expect("removed")),
        ("zero", |path| {
            let bytes = fs::read(path).expect("a file");
            fs::write(path, vec![0; bytes.len()]).expect("written");
        }),
        ("flipped", |path| {
            let mut bytes = fs::read(path).expect("a file");
            bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
            fs::write(path, bytes).expect("written");
        }),
    ];
    let mut kinds = BTreeSet::new();
    for (name, damage) in damages {
        let mut world = World::new()?;
        world.write()?;
        world.run(count("counts")?)?;
        let there: Vec<String> = files(&world.task_folders()[0]).into_iter().map(|(kind, _)| kind).collect();
        for kind in there.into_iter().collect::<BTreeSet<_>>() {
            let folder = &world.task_folders()[0];
            // A lock file has no content, and a folder of another format is nobody's to mend.
            if ["LOCK", "millstream-state"].contains(&kind.as_str()) {
                continue;
            }
            files(folder).iter().filter(|(k, _)| *k == kind).for_each(|(_, path)| damage(path));
            world.write()?;
            let counters = world.run(count("counts")?).unwrap_or_else(|e| panic!("{name} {kind}: {e}"));
            let of_one_task = KEYS * (world.rounds - 1);
            assert!(counters.restore as i64 <= of_one_task, "{name} {kind}: {} restored", counters.restore);
            world.check()?;
            kinds.insert(kind.clone());
            // What was damaged is whole again: nothing is found a second time.
            world.write()?;
            assert_eq!(world.run(count("counts")?)?.restore, 0, "{name} {kind}");
            world.check()?;
        }
    }
    assert!([".sst", "CURRENT", "MANIFEST"].iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    Ok(())
}

#[test]
fn a_folder_of_another_format_is_left_alone() -> Result<()> {
    let mut world = World::new()?;
    world.write()?;
    world.run(count("counts")?)?;
    fs::write(world.task_folders()[0].join("millstream-state"), "2\n").expect("written");
    let refused = world.run(count("counts")?).map(drop).expect_err("refused").to_string();
    assert!(refused.contains("is of version \"2\""), "{refused}");
    assert!(refused.contains("help: run the version that wrote it"), "{refused}");
    Ok(())
}

#[test]
fn two_at_once_are_refused_with_a_remedy() -> Result<()> {
    let mut world = World::new()?;
    world.write()?;
    let config = RuntimeConfig { disk: Some(world.disk()?), ..RuntimeConfig::embedded("app") };
    let mut first = world.embedded.streams(count("counts")?, config)?;
    first.start()?;
    while first.state() != State::Running {
        std::thread::yield_now();
    }
    // Another application, which was given the same folder.
    let mut other = World::new()?;
    other.write()?;
    let config = RuntimeConfig { disk: Some(world.disk()?), ..RuntimeConfig::embedded("other") };
    let second = other.embedded.streams(count("counts")?, config)?.run_to_end();
    let second = second.map(drop).expect_err("refused").to_string();
    assert!(second.contains("cannot be opened") && second.contains("set another `state.dir`"), "{second}");
    first.close()?;
    Ok(())
}

#[test]
fn a_place_that_cannot_be_written_is_named() -> Result<()> {
    let world = World::new()?;
    fs::write(world.state(), "a file").expect("written");
    let refused = world.disk().map(drop).expect_err("refused").to_string();
    assert!(refused.contains("state") && refused.contains("cannot be made"), "{refused}");
    Ok(())
}

fn mode(folder: &Path) -> u32 {
    fs::metadata(folder).expect("a folder").permissions().mode() & 0o777
}

/// Kafka Streams' bug KAFKA-10705: state that every user of the machine could read.
#[test]
fn state_is_its_owners_alone() -> Result<()> {
    let mut world = World::new()?;
    world.write()?;
    world.run(count("counts")?)?;
    for folder in world.task_folders().into_iter().chain([world.state()]) {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    Ok(())
}

/// One that was mounted, or copied from elsewhere, stayed as it was.
#[test]
fn state_in_a_folder_that_others_could_read_is_its_owners_alone() -> Result<()> {
    let mut world = World::new()?;
    fs::create_dir(world.state()).expect("a folder");
    for readable in [0o755, 0o770, 0o701] {
        fs::set_permissions(world.state(), fs::Permissions::from_mode(readable)).expect("it may");
        world.write()?;
        world.run(count("counts")?)?;
        assert_eq!(mode(&world.state()), 0o700, "{readable:o}");
    }
    Ok(())
}

/// Rows of a log that is gone, under the same names: they must not be taken for those of the new one.
#[test]
fn rows_of_another_log_are_not_used() -> Result<()> {
    let mut old = World::new()?;
    old.write()?;
    old.write()?;
    old.run(count("counts")?)?;
    let mut new = World::new()?;
    // The clock gives topics their identity.
    new.embedded.clock.advance(std::time::Duration::from_secs(1));
    new.embedded = Embedded { clock: new.embedded.clock.clone(), log: fresh(&new)? };
    new.embedded.create("in", 2)?;
    new.embedded.create("out", 2)?;
    new.folder = old.folder;
    new.write()?;
    new.run(count("counts")?)?;
    new.check()
}

/// Folders that changed places, or of which one was copied over the other, were taken as they were: each key was counted from 1.
#[test]
fn rows_of_another_task_are_not_used() -> Result<()> {
    for copied in [false, true] {
        let mut world = World::new()?;
        world.write()?;
        world.run(count("counts")?)?;
        let [first, second] = ["counts-0", "counts-1"].map(|task| world.state().join(task));
        let aside = world.folder.path().join("aside");
        fs::rename(&first, &aside).expect("a rename");
        if copied {
            copy(&second, &first);
        } else {
            fs::rename(&second, &first).expect("a rename");
            fs::rename(&aside, &second).expect("a rename");
        }
        world.write()?;
        let restored = world.run(count("counts")?)?.restore;
        assert_eq!(restored, if copied { KEYS } else { 2 * KEYS } as u64, "of those whose rows were another's");
        world.check()?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for file in fs::read_dir(from).expect("a folder").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

fn fresh(world: &World) -> Result<millstream_broker::Broker> {
    Ok(millstream_broker::Broker::open(millstream_broker::BrokerOptions::memory(world.embedded.clock.clone()))?)
}

/// Deletions that compaction has dropped from the changelog would come back.
#[test]
fn rows_that_are_older_than_the_changelog_keeps_deletions_are_not_used() -> Result<()> {
    let mut world = World::new()?;
    world.write()?;
    world.run(count("counts")?)?;
    // Counted without the disk: it falls behind.
    world.write()?;
    world.embedded.streams(count("counts")?, RuntimeConfig::embedded("app"))?.run_to_end()?;
    let day = std::time::Duration::from_secs(24 * 3600);
    world.embedded.clock.advance(day);
    world.write()?;
    assert_eq!(world.run(count("counts")?)?.restore, 2 * 2 * KEYS as u64, "both rounds of both tasks");
    world.check()
}

/// As above, and the changelog says for how long that is.
#[test]
fn how_old_rows_may_be_is_the_changelogs_to_say() -> Result<()> {
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
    for (kept, passed, rounds) in [(hours(72), hours(24), 1), (hours(1), hours(2), 2)] {
        let mut world = World::new()?;
        world.write()?;
        world.run(count("counts")?)?;
        let configs = [("delete.retention.ms".to_owned(), kept.as_millis().to_string())].into();
        world.embedded.log.alter_configs("app-counts-changelog", &configs)?;
        world.write()?;
        world.embedded.streams(count("counts")?, RuntimeConfig::embedded("app"))?.run_to_end()?;
        world.embedded.clock.advance(passed);
        world.write()?;
        assert_eq!(world.run(count("counts")?)?.restore, rounds * 2 * KEYS as u64, "{kept:?}");
        world.check()?;
    }
    Ok(())
}

/// State that a clock ahead of the time has written counted as young for as long as that was ahead: rows whose deletions the
/// changelog had forgotten stood for good.
#[test]
fn how_old_rows_from_the_future_are_nobody_knows() -> Result<()> {
    let day = 24 * 3_600_000;
    for (ahead, rounds) in [(30_000, 1), (30 * day, 2)] {
        let mut world = World::new()?;
        world.write()?;
        let clock = Arc::new(ManualClock::at(world.embedded.clock.now().wall + ahead));
        let later = Embedded { log: world.embedded.log.clone(), clock };
        let config = RuntimeConfig { disk: Some(world.disk()?), ..RuntimeConfig::embedded("app") };
        later.streams(count("counts")?, config)?.run_to_end()?;
        world.write()?;
        world.embedded.streams(count("counts")?, RuntimeConfig::embedded("app"))?.run_to_end()?;
        world.write()?;
        assert_eq!(world.run(count("counts")?)?.restore, rounds * 2 * KEYS as u64, "{ahead} ms");
        world.check()?;
    }
    Ok(())
}

#[test]
fn what_was_done_without_the_disk_is_restored_from_where_it_stands() -> Result<()> {
    let mut world = World::new()?;
    world.write()?;
    world.run(count("counts")?)?;
    world.write()?;
    world.embedded.streams(count("counts")?, RuntimeConfig::embedded("app"))?.run_to_end()?;
    world.write()?;
    assert_eq!(world.run(count("counts")?)?.restore, 2 * KEYS as u64, "the second round of both tasks");
    world.check()
}

/// What is restored in large pieces comes as files of the database's own; the last row of a key counts.
#[test]
fn much_that_is_restored_is_there_as_it_was() -> Result<()> {
    const MANY: usize = 200_000;
    let world = World::new()?;
    let keys: Vec<String> = (0..MANY).map(|key| format!("{key:0>100}")).collect();
    world.write_keys(0, &keys)?;
    world.write_keys(0, &keys[..MANY / 2])?;
    world.run(count("counts")?)?;
    fs::remove_dir_all(world.state()).expect("removed");
    world.write_keys(0, &keys)?;
    let counters = world.run(count("counts")?)?;
    assert!(counters.restore >= MANY as u64);
    let out = world.embedded.read::<String, i64>("out")?;
    let last: BTreeMap<String, i64> = out.into_iter().flatten().collect();
    let wrong = keys.iter().enumerate().find(|(at, key)| last.get(*key) != Some(&if *at < MANY / 2 { 3 } else { 2 }));
    assert_eq!(wrong, None);
    Ok(())
}

/// A rebalance closes databases and opens them in other threads. What is cleaned up is restored from changelogs.
#[test]
fn state_moves_between_threads_and_comes_back_after_a_clean_up() -> Result<()> {
    let mut world = World::new()?;
    let config =
        RuntimeConfig { disk: Some(world.disk()?), commit_interval: Duration::ZERO, ..RuntimeConfig::embedded("app") };
    let mut streams = world.embedded.streams(count("counts")?, config)?;
    streams.start()?;
    for round in 0..6 {
        world.write()?;
        if round % 2 == 0 {
            streams.add_stream_thread()?
        } else {
            streams.remove_stream_thread()?
        };
        while streams.state() != State::Running {
            std::thread::yield_now();
        }
    }
    assert!(streams.clean_up().is_err());
    streams.drain()?;
    streams.join()?;
    world.check()?;
    assert_eq!(world.task_folders().len(), 2);
    streams.clean_up()?;
    assert_eq!(world.task_folders(), [] as [PathBuf; 0]);
    drop(streams);
    world.write()?;
    assert!(world.run(count("counts")?)?.restore >= 2 * KEYS as u64);
    world.check()
}
