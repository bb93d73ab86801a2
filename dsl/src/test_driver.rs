//! `TopologyTestDriver`: a program in a test, record by record, with the tasks and the thread of a real run.
//!
//! Only the log is another: [`MemoryLog`]. Every record is committed before the next one, as Kafka Streams' driver does.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Admin, Ask, BatchBuilder, Clock, Counters, Data, Encoded, Error, Half, Headers, Log, ManualClock, MemoryLog, Next,
    NodeKind, Offset, Part, Plan, QueryError, QueryStores, Record, Result, RuntimeConfig, Serde, SerdeContext,
    StreamThread, ThreadContext, Timestamp, TopicPartition, Topics, Topology, Wakeup, partition_for_key, unencodable,
};

/// Runs a topology in a test. Handles share the driver; nothing waits, time moves only by [`TopologyTestDriver::advance`].
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::{Record, RuntimeConfig};
/// use std::time::Duration;
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
/// let t = TopologyTestDriver::new(b.build()?)?;
/// let input = t.input::<String, i64>("in")?;
/// let out = t.output::<String, Option<i64>>("out")?;
/// input.pipe("a", 5); // at the wall clock's time, 0
/// t.advance(Duration::from_secs(60))?;
/// input.enqueue(Record::new("a".to_owned(), 6, 60_000))?;
/// t.run()?;
/// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
/// assert_eq!(t.counters().dropped_records, 0);
/// assert!(t.input::<String, String>("in").is_err(), "not its types");
/// // With settings of its own, as a run has them:
/// let config = RuntimeConfig { max_task_skew: None, ..RuntimeConfig::embedded("test") };
/// assert!(TopologyTestDriver::with_config(b.build()?, config).is_ok());
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Clone)]
pub struct TopologyTestDriver {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    log: Arc<MemoryLog>,
    shared: ThreadContext,
    clock: ManualClock,
    thread: StreamThread,
    read: HashMap<TopicPartition, Offset>,
}

impl TopologyTestDriver {
    /// A driver with topics as the program asks for them, one partition if it does not say; the wall clock shows 0.
    ///
    /// # Errors
    /// What starting the program would say.
    pub fn new(topology: Topology) -> Result<Self> {
        Self::with_config(topology, RuntimeConfig::embedded("test"))
    }

    /// A driver with settings of its own.
    ///
    /// # Errors
    /// What starting the program would say.
    pub fn with_config(topology: Topology, config: RuntimeConfig) -> Result<Self> {
        // Commits are the driver's: after every record.
        let config = RuntimeConfig { commit_interval: Duration::MAX, ..config };
        let log = MemoryLog::new();
        let admin: &dyn Admin = log.as_ref();
        let plan = Plan::new(&topology, &config, admin)?;
        plan.create_topics(admin)?;
        let shared = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log: Arc::new(log.clone()) as Arc<dyn Log>,
            process_id: "driver".into(),
        };
        let clock = ManualClock::at(0);
        let thread = start(&shared, &clock)?;
        let driver = TopologyTestDriver {
            inner: Rc::new(RefCell::new(Inner { log, shared, clock, thread, read: HashMap::new() })),
        };
        driver.run()?;
        Ok(driver)
    }

    /// An input of the program.
    ///
    /// # Errors
    /// When the program has no such source, or reads it with other types; the error names both.
    pub fn input<K: Data, V: Data>(&self, topic: &str) -> Result<TestInput<K, V>> {
        self.input_with(topic, K::Serde::default(), V::Serde::default())
    }

    /// An input of the program that it reads by serdes of its own.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, Produced, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{NumberSerde, StringSerde};
    /// # use millstream_dsl::{TimeWindowedSerde, MIN, Windowed, Window};
    /// # let b = StreamsBuilder::new();
    /// let minutes = TimeWindowedSerde::new(StringSerde, MIN); // Kafka's, and not what windowed keys have by default
    /// let counts = NumberSerde::<i64>::default();
    /// b.stream_with("in", Consumed::with(minutes.clone(), counts.clone()))
    ///     .to_with("out", Produced::with(minutes.clone(), counts.clone()));
    /// let t = TopologyTestDriver::new(b.build()?)?;
    /// let input = t.input_with("in", minutes.clone(), counts.clone())?;
    /// let out = t.output_with("out", minutes, counts)?;
    /// let key = Windowed { key: "ann".to_owned(), window: Window { start: 0, end: 60_000 } };
    /// input.pipe(key.clone(), 5);
    /// assert_eq!(out.read(), [(key, 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`TopologyTestDriver::input`].
    pub fn input_with<KS: Serde, VS: Serde>(
        &self,
        topic: &str,
        key: KS,
        value: VS,
    ) -> Result<TestInput<KS::Value, VS::Value, KS, VS>> {
        self.check_types::<KS::Value, VS::Value>(topic, true)?;
        Ok(TestInput { driver: self.clone(), topic: topic.to_owned(), key, value, types: PhantomData })
    }

    /// An output of the program, or any topic it writes while running.
    ///
    /// # Errors
    /// When the program writes the topic with other types; the error names both.
    pub fn output<K: Data, V: Data>(&self, topic: &str) -> Result<TestOutput<K, V>> {
        self.output_with(topic, K::Serde::default(), V::Serde::default())
    }

    /// An output that the program writes by serdes of its own.
    ///
    /// ```
    /// # use millstream_dsl::{Produced, StreamsBuilder, TopologyTestDriver};
    /// # use millstream_dsl::core::{ListSerde, NumberSerde, StringSerde};
    /// # let b = StreamsBuilder::new();
    /// let lists = ListSerde(NumberSerde::<i64>::default());
    /// b.stream::<String, Vec<i64>>("in").to_with("out", Produced::with(StringSerde, lists.clone()));
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// t.input::<String, Vec<i64>>("in")?.pipe("ann", [1, 2]);
    /// assert_eq!(t.output_with("out", StringSerde, lists)?.read(), [("ann".to_owned(), vec![1, 2])]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`TopologyTestDriver::output`].
    pub fn output_with<KS: Serde, VS: Serde>(
        &self,
        topic: &str,
        key: KS,
        value: VS,
    ) -> Result<TestOutput<KS::Value, VS::Value, KS, VS>> {
        self.check_types::<KS::Value, VS::Value>(topic, false)?;
        Ok(TestOutput { driver: self.clone(), topic: topic.to_owned(), key, value, types: PhantomData })
    }

    /// Moves the wall clock and lets what is due happen.
    ///
    /// # Errors
    /// What the program returns.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.inner.borrow().clock.advance(by);
        self.run()
    }

    /// Processes and commits until nothing is left to do.
    ///
    /// # Errors
    /// What the program returns.
    pub fn run(&self) -> Result<()> {
        let Inner { thread, clock, .. } = &mut *self.inner.borrow_mut();
        loop {
            let now = clock.now();
            while thread.step(now)? == Next::Again {}
            if !thread.needs_commit() {
                return Ok(());
            }
            thread.commit_now(now)?;
        }
    }

    /// Drops every task and its stores and starts again from the log: stores come back from their changelogs.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe("a", 5);
    /// t.restart()?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// What starting the program says.
    pub fn restart(&self) -> Result<()> {
        {
            let inner = &mut *self.inner.borrow_mut();
            inner.thread = start(&inner.shared, &inner.clock)?;
        }
        self.run()
    }

    /// Lets every `n`-th commit fail, so that it is rolled back and done again.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// t.fail_commits(Some(2));
    /// (0..4).for_each(|_| input.pipe("a", 5));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2), kv("a", 3), kv("a", 4)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn fail_commits(&self, every: Option<u64>) {
        self.inner.borrow().log.fail_commits(every);
    }

    /// Totals of all tasks since the last restart.
    pub fn counters(&self) -> Counters {
        self.inner.borrow().thread.counters()
    }

    fn check_types<K, V>(&self, topic: &str, source: bool) -> Result<()> {
        let wanted = (std::any::type_name::<K>(), std::any::type_name::<V>());
        let inner = self.inner.borrow();
        let topology = &inner.shared.topology;
        let names = |topics: &[millstream_core::TopicName]| {
            topics.iter().any(|t| t.resolve(&inner.shared.config.application_id) == topic)
        };
        let mut nodes = topology.nodes().iter().filter(|node| match &node.kind {
            NodeKind::Source(Topics::Named(topics)) => source && names(topics),
            NodeKind::Source(Topics::Pattern(pattern)) => source && pattern.matches(topic),
            NodeKind::Sink(Some(name)) => !source && names(std::slice::from_ref(name)),
            NodeKind::Sink(None) | NodeKind::Processor => false,
        });
        let Some(node) = nodes.next() else {
            // A topic chosen by the record has no node of its own.
            let dynamic = topology.nodes().iter().any(|n| matches!(n.kind, NodeKind::Sink(None)));
            let known = inner.log.partitions(topic)?.is_some();
            return if !source && (dynamic || known) {
                Ok(())
            } else {
                Err(Error::Build(Box::new(vec![format!(
                    "the program has no {} `{topic}`",
                    if source { "source" } else { "sink" }
                )])))
            };
        };
        match node.types.as_ref().map(|types| types.types) {
            Some((key, value)) if (bare(key), bare(value)) != (bare(wanted.0), bare(wanted.1)) => {
                let [key, value, k, v] = [key, value, wanted.0, wanted.1].map(millstream_core::short_type_name);
                Err(Error::Build(Box::new(vec![format!("`{topic}` holds <{key}, {value}>, asked for as <{k}, {v}>")])))
            }
            _ => Ok(()),
        }
    }
}

/// The stores of a driver, for [`crate::InteractiveQueries`].
#[derive(Clone)]
pub struct DriverStores {
    driver: TopologyTestDriver,
}

impl DriverStores {
    pub(crate) fn of(driver: &TopologyTestDriver) -> Self {
        DriverStores { driver: driver.clone() }
    }
}

impl QueryStores for DriverStores {
    fn context(&self) -> Cow<'_, ThreadContext> {
        Cow::Owned(self.driver.inner.borrow().shared.clone())
    }

    /// Nothing happens while a test waits.
    fn ask(&self, ask: Ask, _wait: Duration) -> Result<Part, QueryError> {
        self.driver.inner.borrow_mut().thread.answer_query(&ask)
    }
}

/// A type's name without `Option`: a table's source is nullable although its rows are not.
fn bare(name: &str) -> &str {
    name.strip_prefix("core::option::Option<").and_then(|n| n.strip_suffix('>')).unwrap_or(name)
}

fn start(shared: &ThreadContext, clock: &ManualClock) -> Result<StreamThread> {
    let all: Vec<usize> = (0..shared.plan.tasks.len()).collect();
    StreamThread::new(shared.clone(), "driver".into(), &all, Arc::new(Wakeup::default()), clock.now())
}

/// Pipes records into a topic.
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::Record;
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// input.pipe("a", 1); // at the wall clock's time
/// input.pipe_at(60_000, "a", 2); // milliseconds since 1970 UTC
/// let mut record = Record::new("a".to_owned(), 3, 60_000);
/// record.headers.add("trace", Some(b"7"));
/// input.try_pipe(record)?;
/// input.enqueue(Record::new("a".to_owned(), 4, 60_001))?; // not processed yet
/// assert_eq!(out.read(), [kv("a", 1), kv("a", 2), kv("a", 3)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct TestInput<K, V, KS = <K as Data>::Serde, VS = <V as Data>::Serde> {
    driver: TopologyTestDriver,
    topic: String,
    key: KS,
    value: VS,
    types: PhantomData<(K, V)>,
}

impl<K, V, KS: Serde<Value = K>, VS: Serde<Value = V>> TestInput<K, V, KS, VS> {
    /// Pipes a record with the wall clock's time and processes it.
    ///
    /// # Panics
    /// When the program fails: this is a test. [`TestInput::try_pipe`] returns the error.
    pub fn pipe(&self, key: impl Into<K>, value: impl Into<V>) {
        let now = self.driver.inner.borrow().clock.now().wall;
        self.pipe_at(now, key, value);
    }

    /// Pipes a record with a time of its own and processes it.
    ///
    /// # Panics
    /// When the program fails.
    pub fn pipe_at(&self, timestamp: Timestamp, key: impl Into<K>, value: impl Into<V>) {
        if let Err(error) = self.try_pipe(Record::new(key.into(), value.into(), timestamp)) {
            panic!("{error}");
        }
    }

    /// Pipes a record and processes it.
    ///
    /// # Errors
    /// What the program returns.
    pub fn try_pipe(&self, record: Record<K, V>) -> Result<()> {
        self.enqueue(record)?;
        self.driver.run()
    }

    /// Appends a record without processing it: several then come in one fetch.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn enqueue(&self, mut record: Record<K, V>) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let cx = |half| SerdeContext { topic: &self.topic, half };
        let has_key = self
            .key
            .serialize(&record.key, cx(Half::Key), &mut record.headers, &mut key)
            .map_err(|e| unencodable(&self.topic, Half::Key, e))?;
        let has_value = self
            .value
            .serialize(&record.value, cx(Half::Value), &mut record.headers, &mut value)
            .map_err(|e| unencodable(&self.topic, Half::Value, e))?;
        let key = (has_key == Encoded::Bytes).then_some(key.as_slice());
        let value = (has_value == Encoded::Bytes).then_some(value.as_slice());
        let log = self.driver.inner.borrow().log.clone();
        let partitions = log.partitions(&self.topic)?.unwrap_or(1);
        let partition = key.map_or(0, |key| partition_for_key(self.key.partition_bytes(key), partitions));
        let mut batch = BatchBuilder::new();
        batch.push(record.timestamp, key, value, record.headers.section());
        Ok(log.append(&TopicPartition::new(self.topic.as_str(), partition), batch)?)
    }
}

/// Reads what came out to a topic.
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// b.stream::<String, i64>("in").to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// input.pipe_at(60_000, "a", 1);
/// assert_eq!(out.read(), [kv("a", 1)]);
/// assert_eq!(out.read(), [], "all since the last read");
/// input.pipe_at(60_001, "a", 2);
/// let records = out.read_records();
/// assert_eq!((records[0].value, records[0].timestamp), (2, 60_001));
/// assert_eq!(out.try_read()?, []);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct TestOutput<K, V, KS = <K as Data>::Serde, VS = <V as Data>::Serde> {
    driver: TopologyTestDriver,
    topic: String,
    key: KS,
    value: VS,
    types: PhantomData<(K, V)>,
}

impl<K, V, KS: Serde<Value = K>, VS: Serde<Value = V>> TestOutput<K, V, KS, VS> {
    /// Keys and values since the last read, partition by partition, each in order. A topic that may have nulls, as of a table
    /// or of dead letters, is read as `Option`: `t.output::<String, Option<i64>>("out")?`.
    ///
    /// # Panics
    /// When a record cannot be decoded, as a null where `V` has none.
    pub fn read(&self) -> Vec<(K, V)> {
        self.read_records().into_iter().map(|r| (r.key, r.value)).collect()
    }

    /// Whole records since the last read.
    ///
    /// # Panics
    /// When a record cannot be decoded.
    pub fn read_records(&self) -> Vec<Record<K, V>> {
        match self.try_read() {
            Ok(records) => records,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whole records since the last read.
    ///
    /// # Errors
    /// When a record cannot be decoded.
    pub fn try_read(&self) -> Result<Vec<Record<K, V>>> {
        let inner = &mut *self.driver.inner.borrow_mut();
        let mut records = Vec::new();
        for partition in 0..inner.log.partitions(&self.topic)?.unwrap_or(0) {
            let partition = TopicPartition::new(self.topic.as_str(), partition);
            let from = inner.read.entry(partition.clone()).or_default();
            let (batches, end) = inner.log.read(&partition, *from)?;
            *from = end;
            for mut batch in batches {
                while let Some(view) = batch.next() {
                    let view = view.map_err(|e| Error::user(e.to_string()))?;
                    let headers = Headers::from_section(view.headers);
                    let cx = |half| SerdeContext { topic: &self.topic, half };
                    let key = self.key.deserialize(view.key, cx(Half::Key), &headers).map_err(Error::user)?;
                    let value = self.value.deserialize(view.value, cx(Half::Value), &headers).map_err(Error::user)?;
                    records.push(Record { key, value, timestamp: view.timestamp, headers });
                }
            }
        }
        Ok(records)
    }
}

/// A key and value to compare with what [`TestOutput::read`] gives.
///
/// ```
/// use millstream_dsl::kv;
/// let pair: (String, Option<i64>) = kv("a", 5);
/// assert_eq!(pair, ("a".to_owned(), Some(5)));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub fn kv<K, V>(key: impl Into<K>, value: impl Into<V>) -> (K, V) {
    (key.into(), value.into())
}
