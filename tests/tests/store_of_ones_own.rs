//! A store of somebody else's behind the operators: who implements `StateDisk`, here over maps that stand for a database of
//! another make, passes the conformance check and has the rows of `count`, of tables, windows and processors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::{
    ChangelogRecord, DiskPosition, DiskRows, Error, Expired, Family, FamilyWrite, KeyRange, Result, RowOrder,
    RuntimeConfig, StateBudget, StateDisk, StateError, TaskDisk, is_empty_range,
};
use millstream_dsl::conformance::check_disk;
use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
use millstream_state::{RocksDisk, RocksOptions};

/// A row as the changelog has it.
#[derive(Debug, Clone)]
struct Row {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
    headers: Vec<u8>,
}

/// Rows by key on disk, and where they stand.
#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Row>,
    position: Option<DiskPosition>,
    /// The largest time ever written, of rows that lie by time.
    latest: Option<i64>,
    /// Looked up by key.
    gets: usize,
}

impl Rows {
    fn expire(&mut self, order: RowOrder, before: i64) {
        if let Some(end) = order.part_of(before) {
            self.rows = self.rows.split_off(&end);
            return;
        }
        let next: Vec<_> = self.rows.values().skip(1).map(|row| Some((row.key.clone(), row.timestamp))).collect();
        let mut next = next.into_iter().chain([None]);
        self.rows.retain(|_, row| {
            let next = next.next().flatten();
            !RowOrder::has_ended(record(row), next.as_ref().map(|(key, time)| (key.as_slice(), *time)), before)
        });
    }
}

/// The database: what every task has, by task and store.
#[derive(Debug, Default)]
struct Database {
    stores: BTreeMap<(String, String), Rows>,
    open: BTreeSet<String>,
}

/// Where rows lie.
#[derive(Debug, Clone)]
struct Maps {
    database: Arc<Mutex<Database>>,
    budget: Arc<StateBudget>,
    /// Planted: deletions are forgotten.
    forgets: bool,
}

impl Maps {
    /// Nothing stays in memory that is there.
    fn new(forgets: bool) -> Self {
        Maps { database: Arc::default(), budget: Arc::new(StateBudget::new(0)), forgets }
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateDisk for Maps {
    fn open(&self, task: &str, families: Vec<Family>) -> Result<Box<dyn TaskDisk>> {
        if !self.database().open.insert(task.to_owned()) {
            let problem = "somebody else has it open".to_owned();
            return Err(Error::State(Box::new(StateError { store: task.to_owned(), problem })));
        }
        Ok(Box::new(Task { maps: self.clone(), task: task.to_owned(), families, written: 0 }))
    }

    fn clean_up(&self) -> Result<()> {
        let mut database = self.database();
        if let Some(task) = database.open.first() {
            let problem = "somebody has it open".to_owned();
            return Err(Error::State(Box::new(StateError { store: task.clone(), problem })));
        }
        database.stores.clear();
        Ok(())
    }

    fn budget(&self) -> &Arc<StateBudget> {
        &self.budget
    }
}

struct Task {
    maps: Maps,
    task: String,
    families: Vec<Family>,
    written: u64,
}

impl Task {
    fn store(&self, family: usize) -> Store {
        let Family { name, order } = self.families[family].clone();
        Store { maps: self.maps.clone(), name: (self.task.clone(), name), order }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.maps.database().open.remove(&self.task);
    }
}

impl TaskDisk for Task {
    fn position(&self, family: usize) -> Option<DiskPosition> {
        self.store(family).with(|rows| rows.position)
    }

    fn rows(&self, family: usize) -> Box<dyn DiskRows> {
        Box::new(self.store(family))
    }

    fn clear(&mut self, family: usize) -> Result<()> {
        self.store(family).with(|rows| *rows = Rows::default());
        Ok(())
    }

    fn write(&mut self, writes: Vec<FamilyWrite>) {
        for FamilyWrite { family, batches, position, expired } in writes {
            let store = self.store(family);
            store.with(|rows| {
                for mut batch in batches {
                    while let Some(record) = batch.next() {
                        let record = record.expect("a whole record");
                        let key = record.key.expect("a row has a key").as_slice().to_vec();
                        let value = record.value.map(|value| value.as_slice().to_vec());
                        let (timestamp, headers) = (record.timestamp, record.headers.to_vec());
                        let disk_key = store.disk_key(&key, timestamp);
                        rows.latest = rows.latest.max(store.order.time_of(&key, timestamp));
                        if value.is_some() || store.order == RowOrder::Versions {
                            rows.rows.insert(disk_key, Row { key, value, timestamp, headers });
                        } else if !self.maps.forgets {
                            rows.rows.remove(&disk_key);
                        }
                    }
                }
                if let Expired::Before(time) = expired {
                    rows.expire(store.order, time);
                }
                rows.position = Some(position);
            });
        }
        self.written += 1;
    }

    fn written(&mut self) -> Result<u64> {
        Ok(self.written)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The rows of one store.
struct Store {
    maps: Maps,
    name: (String, String),
    order: RowOrder,
}

impl Store {
    fn with<R>(&self, f: impl FnOnce(&mut Rows) -> R) -> R {
        f(self.maps.database().stores.entry(self.name.clone()).or_default())
    }

    fn disk_key(&self, key: &[u8], timestamp: i64) -> Vec<u8> {
        let mut disk_key = Vec::new();
        self.order.disk_key(key, timestamp, &mut disk_key);
        disk_key
    }
}

fn record(row: &Row) -> ChangelogRecord<'_> {
    let Row { key, value, timestamp, headers } = row;
    ChangelogRecord { key, value: value.as_deref(), timestamp: *timestamp, headers, offset: -1 }
}

impl DiskRows for Store {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<()>) -> Result<bool> {
        let disk_key = self.disk_key(key, 0);
        let row = self.with(|rows| {
            rows.gets += 1;
            rows.rows.get(&disk_key).cloned()
        });
        row.map_or(Ok(false), |row| found(record(&row)).map(|()| true))
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.with(|rows| rows.rows.is_empty()))
    }

    fn approximate_len(&self) -> usize {
        self.with(|rows| rows.rows.len())
    }

    fn latest(&self) -> Option<i64> {
        self.with(|rows| rows.latest)
    }

    fn scan(
        &self,
        range: KeyRange<'_>,
        descending: bool,
        row: &mut dyn FnMut(ChangelogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if is_empty_range(range) {
            return Ok(());
        }
        let mut found: Vec<Row> =
            self.with(|rows| rows.rows.range::<[u8], _>(range).map(|(_, row)| row.clone()).collect());
        if descending {
            found.reverse();
        }
        for found in &found {
            if row(record(found))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[test]
fn it_passes_the_check_and_one_that_forgets_deletions_does_not() {
    check_disk(&Maps::new(false), 100).expect("it does what is asked of it");
    let problem = check_disk(&Maps::new(true), 100).expect_err("deletions are forgotten");
    assert!(problem.contains("should hold") || problem.contains("should have"), "{problem}");
}

#[test]
fn the_librarys_own_disk_passes_it_too() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::user)?;
    let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: true };
    check_disk(&RocksDisk::new(folder.path(), options)?, 5).expect("it does what is asked of it");
    Ok(())
}

#[test]
fn it_has_the_rows_of_a_count_over_restarts_and_failed_commits() -> Result<()> {
    let maps = Maps::new(false);
    let b = StreamsBuilder::new();
    let words = b.stream::<String, String>("in").group_by_key();
    words.count("counts").to_stream().to("out");
    let config = RuntimeConfig { disk: Some(Arc::new(maps.clone())), ..RuntimeConfig::embedded("app") };
    let driver = TopologyTestDriver::with_config(b.build()?, config)?;
    driver.fail_commits(Some(3));
    let input = driver.input::<String, String>("in")?;
    let out = driver.output::<String, i64>("out")?;
    for n in 1..=5 {
        ["a", "b"].iter().for_each(|key| input.pipe(*key, "x"));
        assert_eq!(out.read(), [kv("a", n), kv("b", n)]);
        if n == 3 {
            driver.restart()?;
        }
    }
    let database = maps.database();
    let counts = database.stores.iter().find(|((_, store), _)| store == "counts").map(|(_, rows)| rows);
    let counts = counts.expect("the store's rows");
    assert!(counts.gets > 0, "rows are read from there");
    let rows: Vec<(&[u8], Option<i64>)> = counts
        .rows
        .values()
        .map(|row| (&*row.key, row.value.as_deref().and_then(|value| value.try_into().ok()).map(i64::from_be_bytes)))
        .collect();
    assert_eq!(rows, [(b"a".as_slice(), Some(5)), (b"b".as_slice(), Some(5))]);
    Ok(())
}
