//! Where a topology is run: in the test driver, or by a stream thread on the embedded log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin, BatchBuilder, Clock, Consumer, ConsumerOptions, Isolation, Log, ManualClock, Next, Plan, Producer,
    ProducerOptions, Record, Result, RuntimeConfig, StreamThread, ThreadContext, TopicPartition, Topology, Wakeup,
};
use millstream_dsl::{TestInput, TestOutput, TopologyTestDriver};
use millstream_state::{RocksDisk, RocksOptions};

use crate::embedded::folder;
use crate::faults::FailingCommits;
use crate::golden::case::Emitted;
use crate::golden::replay::Store;

type Text = Option<String>;

/// Output topics of all topologies.
const OUTPUTS: [&str; 4] = ["out", "out-a", "out-even", "out-rest"];

/// Runs a topology; what was queued is processed by `run`.
pub(crate) trait World {
    /// `false`: the topic takes no such record.
    fn queue(&mut self, topic: &str, key: Text, value: Text, ts: i64) -> Result<bool>;
    fn run(&mut self) -> Result<()>;
    fn advance(&mut self, by: Duration) -> Result<()>;
    fn restart(&mut self) -> Result<()>;
    /// What came out since the last call, topic by topic.
    fn outputs(&mut self) -> Result<Vec<Emitted>>;
    /// How often a task was rolled back.
    fn rollbacks(&self) -> u64;
}

/// Which commits there are, and which of them fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commits {
    /// Where state lies.
    pub(crate) store: Store,
    /// Every so many fail.
    pub(crate) abort_every: Option<u64>,
    /// There are some in the middle of a fetch, so that a rollback goes back into it.
    pub(crate) within_fetch: bool,
}

impl Commits {
    /// Commits come from `run`, when nothing is left to process; within a fetch also after every few records that
    /// change a store.
    fn config(self, application_id: &str, folder: &Path) -> Result<RuntimeConfig> {
        let mut config = RuntimeConfig { commit_interval: Duration::MAX, ..RuntimeConfig::embedded(application_id) };
        if self.store == Store::RocksDb {
            let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
            config.disk = Some(Arc::new(RocksDisk::new(&folder.join("state"), options)?));
        }
        let config =
            if self.within_fetch { RuntimeConfig { poll_records: 7, uncommitted_bytes: 1, ..config } } else { config };
        Ok(config)
    }
}

/// The test driver.
pub(crate) struct Driver {
    driver: TopologyTestDriver,
    outputs: Vec<(&'static str, TestOutput<Text, Text>)>,
    rollbacks_before: u64,
    _folder: tempfile::TempDir,
}

impl Driver {
    pub(crate) fn new(topology: Topology, commits: Commits) -> Result<Self> {
        let folder = folder()?;
        let driver = TopologyTestDriver::with_config(topology, commits.config("test", folder.path())?)?;
        driver.fail_commits(commits.abort_every);
        let outputs = OUTPUTS.iter().filter_map(|topic| Some((*topic, driver.output(topic).ok()?))).collect();
        Ok(Driver { driver, outputs, rollbacks_before: 0, _folder: folder })
    }
}

impl World for Driver {
    fn queue(&mut self, topic: &str, key: Text, value: Text, ts: i64) -> Result<bool> {
        let input: TestInput<Text, Text> = self.driver.input(topic)?;
        input.enqueue(Record::new(key, value, ts)).map(|()| true)
    }

    fn run(&mut self) -> Result<()> {
        self.driver.run()
    }

    fn advance(&mut self, by: Duration) -> Result<()> {
        self.driver.advance(by)
    }

    fn restart(&mut self) -> Result<()> {
        self.rollbacks_before = self.rollbacks();
        self.driver.restart()
    }

    fn rollbacks(&self) -> u64 {
        self.rollbacks_before + self.driver.counters().rollback
    }

    fn outputs(&mut self) -> Result<Vec<Emitted>> {
        let mut all = Vec::new();
        for (topic, output) in &self.outputs {
            let records = output.try_read()?.into_iter();
            all.extend(records.map(|r| Emitted {
                topic: (*topic).into(),
                key: r.key,
                value: r.value,
                ts: r.timestamp,
            }));
        }
        Ok(all)
    }
}

/// A stream thread on an embedded log in a folder of its own.
pub(crate) struct Thread {
    shared: ThreadContext,
    clock: Arc<ManualClock>,
    thread: StreamThread,
    input: Box<dyn Producer>,
    queued: BTreeMap<String, BatchBuilder>,
    output: Box<dyn Consumer>,
    topics: Vec<&'static str>,
    /// Input topics that take no records without a key.
    compacted: BTreeSet<String>,
    commits: Commits,
    rollbacks_before: u64,
    _folder: tempfile::TempDir,
}

impl Thread {
    pub(crate) fn new(topology: Topology, commits: Commits) -> Result<Self> {
        let folder = folder()?;
        let clock = Arc::new(ManualClock::at(0));
        let broker = Broker::open(BrokerOptions::new(folder.path(), clock.clone()))?;
        let wakeup = Arc::new(Wakeup::default());
        let config = commits.config("golden", folder.path())?;
        let plan = Plan::new(&topology, &config, &broker)?;
        plan.create_topics(&broker)?;
        let input = broker.producer(&ProducerOptions::plain("input"), wakeup.clone())?;
        let options =
            ConsumerOptions { client_id: "output".into(), group: "".into(), isolation: Isolation::ReadCommitted };
        let mut output = broker.consumer(&options, wakeup)?;
        let mut topics = Vec::new();
        for topic in OUTPUTS {
            if broker.partitions(topic)?.is_some() {
                topics.push(topic);
            }
        }
        output.assign(&topics.iter().map(|t| (TopicPartition::new(*t, 0), 0)).collect::<Vec<_>>())?;
        let compacts = |topic: &String| {
            let config = broker.topic_config(topic).unwrap_or_default();
            config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
        };
        let compacted = broker.topics()?.into_iter().filter(compacts).collect();
        let log: Arc<dyn Log> = Arc::new(FailingCommits::new(Arc::new(broker), commits.abort_every.unwrap_or(0)));
        let shared = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log,
            process_id: "golden".into(),
        };
        let thread = start(&shared, &clock)?;
        let mut world = Thread {
            shared,
            clock,
            thread,
            input,
            queued: BTreeMap::new(),
            output,
            topics,
            compacted,
            commits,
            rollbacks_before: 0,
            _folder: folder,
        };
        world.run()?;
        Ok(world)
    }
}

fn start(shared: &ThreadContext, clock: &ManualClock) -> Result<StreamThread> {
    let all: Vec<usize> = (0..shared.plan.tasks.len()).collect();
    StreamThread::new(shared.clone(), "thread".into(), &all, Arc::new(Wakeup::default()), clock.now())
}

impl World for Thread {
    fn queue(&mut self, topic: &str, key: Text, value: Text, ts: i64) -> Result<bool> {
        // A table's own topic, where it stands for a changelog, takes no records without a key; a table would leave them out.
        if key.is_none() && self.compacted.contains(topic) {
            return Ok(false);
        }
        let batch = self.queued.entry(topic.to_owned()).or_default();
        batch.push(ts, key.as_ref().map(String::as_bytes), value.as_ref().map(String::as_bytes), &[]);
        Ok(true)
    }

    fn run(&mut self) -> Result<()> {
        for (topic, batch) in std::mem::take(&mut self.queued) {
            self.input.send(&TopicPartition::new(topic.as_str(), 0), batch)?;
        }
        loop {
            let now = self.clock.now();
            while self.thread.step(now)? == Next::Again {
                if self.commits.within_fetch {
                    self.thread.commit_now(now)?;
                }
            }
            if !self.thread.needs_commit() {
                return Ok(());
            }
            self.thread.commit_now(now)?;
        }
    }

    fn advance(&mut self, by: Duration) -> Result<()> {
        self.clock.advance(by);
        self.run()
    }

    fn rollbacks(&self) -> u64 {
        self.rollbacks_before + self.thread.counters().rollback
    }

    fn restart(&mut self) -> Result<()> {
        self.rollbacks_before = self.rollbacks();
        self.thread = start(&self.shared, &self.clock)?;
        self.run()
    }

    fn outputs(&mut self) -> Result<Vec<Emitted>> {
        let mut all = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for (slot, topic) in self.topics.iter().enumerate() {
            loop {
                let fetch = self.output.fetch(slot, 1 << 20)?;
                if fetch.batches.is_empty() {
                    break;
                }
                for mut batch in fetch.batches {
                    while let Some(record) = batch.next() {
                        let record = record.map_err(|e| millstream_core::Error::user(e.to_string()))?;
                        all.push(Emitted {
                            topic: (*topic).into(),
                            key: record.key.map(|k| text(k.as_slice())),
                            value: record.value.map(|v| text(v.as_slice())),
                            ts: record.timestamp,
                        });
                    }
                }
            }
        }
        Ok(all)
    }
}
