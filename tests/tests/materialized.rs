//! How single stores are kept, on threads: a changelog's configuration reaches its topic, and what is to be in memory is not on
//! disk.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use millstream_core::{Counters, Family, Result, RowOrder, RuntimeConfig, StateDisk, Topology};
use millstream_dsl::{Materialized, StreamsBuilder};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::embedded::Embedded;

fn disk(folder: &Path) -> Result<Arc<dyn StateDisk>> {
    let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
    Ok(Arc::new(RocksDisk::new(folder, options)?))
}

/// Counts under three names: as all are, in memory with a changelog of its own, without a changelog.
fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let configs = [("segment.bytes", "1048576"), ("cleanup.policy", "compact,delete")];
    b.materialized("in-memory", Materialized::new().in_memory().with_logging_enabled(configs));
    b.materialized("not-logged", Materialized::new().with_logging_disabled());
    let words = b.stream::<String, String>("in").group_by_key();
    for store in ["as-all", "in-memory", "not-logged"] {
        words.count(store).to_stream().to(&format!("{store}-out"));
    }
    b.build()
}

fn run(embedded: &Embedded, folder: &Path) -> Result<Counters> {
    embedded.write("in", 0, &[(0, Some("a"), "x"), (1, Some("b"), "x"), (2, Some("a"), "x")])?;
    let config = RuntimeConfig { disk: Some(disk(folder)?), ..RuntimeConfig::embedded("app") };
    embedded.streams(program()?, config)?.run_to_end()
}

#[test]
fn each_store_is_kept_as_the_program_says() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    ["as-all", "in-memory", "not-logged"].iter().try_for_each(|store| embedded.create(&format!("{store}-out"), 1))?;
    for _ in 0..2 {
        run(&embedded, folder.path())?;
    }
    let last =
        |store: &str| Ok::<_, millstream_core::Error>(embedded.read::<String, i64>(&format!("{store}-out"))?[0][5].1);
    assert_eq!((last("as-all")?, last("in-memory")?, last("not-logged")?), (4, 4, 2));

    let config = |store: &str| embedded.log.topic_config(&format!("app-{store}-changelog"));
    let configured = config("in-memory").expect("a changelog");
    assert_eq!(configured.get("segment.bytes").map(String::as_str), Some("1048576"));
    assert_eq!(configured.get("cleanup.policy").map(String::as_str), Some("compact,delete"));
    let as_all = config("as-all").expect("a changelog");
    assert_eq!((as_all.get("segment.bytes"), as_all["cleanup.policy"].as_str()), (None, "compact"));
    assert_eq!(config("not-logged"), None);

    let families = ["as-all", "in-memory", "not-logged"];
    let families = families.map(|name| Family { name: name.to_owned(), order: RowOrder::Key }).to_vec();
    let on_disk = disk(folder.path())?.open("as-all-0", families)?;
    let rows = |family| {
        let mut rows = 0;
        on_disk.rows(family).scan((Bound::Unbounded, Bound::Unbounded), false, &mut |_| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok::<_, millstream_core::Error>(rows)
    };
    assert_eq!((rows(0)?, rows(1)?, rows(2)?), (2, 0, 0));
    Ok(())
}

/// Rows of a store in a folder.
fn rows(folder: &Path, task: &str, store: &str) -> Result<usize> {
    let families = vec![Family { name: store.to_owned(), order: RowOrder::Key }];
    let on_disk = disk(folder)?.open(task, families)?;
    let mut rows = 0;
    on_disk.rows(0).scan((Bound::Unbounded, Bound::Unbounded), false, &mut |_| {
        rows += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// KIP-591: one store on disk while others are in memory, and one on a disk of its own.
#[test]
fn a_store_is_on_disk_while_others_are_in_memory() -> Result<()> {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [ours, theirs] = folders.each_ref().map(|folder| folder.path());
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    let stores = ["as-all", "on-disk", "on-theirs"];
    stores.iter().try_for_each(|store| embedded.create(&format!("{store}-out"), 1))?;
    let program = || -> Result<Topology> {
        let b = StreamsBuilder::new();
        b.materialized("on-disk", Materialized::new().on_disk());
        b.materialized("on-theirs", Materialized::new().on(disk(theirs)?));
        let words = b.stream::<String, String>("in").group_by_key();
        for store in stores {
            words.count(store).to_stream().to(&format!("{store}-out"));
        }
        b.build()
    };
    let config = |disk| RuntimeConfig { disk, in_memory: true, ..RuntimeConfig::embedded("app") };
    for _ in 0..2 {
        embedded.write("in", 0, &[(0, Some("a"), "x"), (1, Some("b"), "x"), (2, Some("a"), "x")])?;
        embedded.streams(program()?, config(Some(disk(ours)?)))?.run_to_end()?;
    }
    for store in stores {
        assert_eq!(embedded.read::<String, i64>(&format!("{store}-out"))?[0][5].1, 4, "{store}");
    }
    assert_eq!((rows(ours, "on-disk-0", "on-disk")?, rows(theirs, "on-theirs-0", "on-theirs")?), (2, 2));
    // Nothing else is there: the disk names a task's folder after its first store.
    for (folder, task) in [(ours, "on-disk-0"), (theirs, "on-theirs-0")] {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let tasks: Vec<_> = entries.filter(|name| name.to_string_lossy().ends_with("-0")).collect();
        assert_eq!(tasks, [task]);
    }

    let error = embedded.streams(program()?, config(None)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("store `on-disk` is to be on disk, and the application has none"), "{error}");
    let mut streams = embedded.streams(program()?, config(Some(disk(ours)?)))?;
    streams.clean_up()?;
    streams.close()?;
    assert_eq!((rows(ours, "on-disk-0", "on-disk")?, rows(theirs, "on-theirs-0", "on-theirs")?), (0, 0));
    Ok(())
}
