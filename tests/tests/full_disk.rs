//! A program whose disk is full for a while, or loses power, counts every record once all the same.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, BatchBuilder, Call, Clock, CommitOutcome, ConsumerOptions, Fault, GroupOffsets, Isolation, Log, LogError,
    ManualClock, Next, Plan, ProducerOptions, QueryError, Result, RuntimeConfig, SimFiles, StateDisk, StreamThread,
    Streams, ThreadContext, TopicPartition, TopicSpec, Topology, Wakeup,
};
use millstream_dsl::{InteractiveQueries as _, KeyQuery, StreamsBuilder, in_store};
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};

const RECORDS: i64 = 60;

fn open(files: &SimFiles, durability: Durability, clock: Arc<ManualClock>) -> Result<Broker> {
    let broker = Broker::open(BrokerOptions {
        files: Arc::new(files.clone()),
        durability,
        threads: false,
        checkpoint_bytes: 10_000,
        ..BrokerOptions::new(Path::new("/data"), clock)
    })?;
    if broker.partitions("in")?.is_none() {
        broker.create_topic(&TopicSpec { name: "in".into(), partitions: 1, configs: Default::default() })?;
    }
    Ok(broker)
}

/// Counts values.
fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    b.stream::<String, String>("in").group_by("by-value", |_, v| v.clone()).count("counts").to_stream().to("out");
    b.build()
}

/// What readers of committed records see of the results.
fn counts(broker: &Broker) -> Result<Vec<u64>> {
    let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation: Isolation::ReadCommitted };
    let mut consumer = broker.consumer(&options, Arc::default())?;
    consumer.assign(&[(TopicPartition::new("out", 0), 0)])?;
    let mut counts = Vec::new();
    loop {
        let fetch = consumer.fetch(0, 1 << 20)?;
        if fetch.batches.is_empty() {
            return Ok(counts);
        }
        for mut batch in fetch.batches {
            while let Some(Ok(record)) = batch.next() {
                let value = record.value.map(|v| v.to_bytes().as_ref().try_into().map(i64::from_be_bytes));
                counts.extend(value.and_then(std::result::Result::ok).map(|n| n as u64));
            }
        }
    }
}

/// A broker on a simulated disk and a program on it, stepped by hand.
struct Platform {
    clock: Arc<ManualClock>,
    broker: Broker,
    thread: StreamThread,
    waited: usize,
}

impl Platform {
    fn start(files: &SimFiles, durability: Durability) -> Result<Self> {
        Self::start_with(files, durability, None)
    }

    /// With state on a disk of its own.
    fn start_with(files: &SimFiles, durability: Durability, state: Option<&SimDisk>) -> Result<Self> {
        let clock = Arc::new(ManualClock::at(1_000));
        let broker = open(files, durability, clock.clone())?;
        let topology = program()?;
        let disk = state.map(|disk| Arc::new(disk.clone()) as Arc<dyn StateDisk>);
        let config = RuntimeConfig { poll_records: 7, disk, ..RuntimeConfig::embedded("app") };
        let plan = Plan::new(&topology, &config, broker.admin())?;
        plan.create_topics(broker.admin())?;
        let shared = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log: Arc::new(broker.clone()) as Arc<dyn Log>,
            process_id: "test".into(),
        };
        let thread = StreamThread::new(shared, "thread".into(), &[0, 1], Arc::new(Wakeup::default()), clock.now())?;
        Ok(Platform { clock, broker, thread, waited: 0 })
    }

    /// Works for so many steps.
    fn run(&mut self, steps: usize) -> Result<()> {
        for _ in 0..steps {
            if let Next::Wait(_) = self.thread.step(self.clock.now())? {
                self.clock.advance(Duration::from_millis(60));
            }
            self.waited += usize::from(self.thread.held_up().is_some());
            match self.broker.tick() {
                Ok(()) | Err(LogError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Input that is kept for certain: value `a`, `b` or `c`, in turn.
fn feed(files: &SimFiles, durability: Durability) -> Result<()> {
    let platform = Platform::start(files, durability)?;
    let mut input = platform.broker.producer(&ProducerOptions::plain("in"), Arc::default())?;
    for number in 0..RECORDS {
        let mut batch = BatchBuilder::new();
        batch.push(number, Some(b"k"), Some(&[b'a' + (number % 3) as u8]), &[]);
        input.send(&TopicPartition::new("in", 0), batch)?;
    }
    input.commit(GroupOffsets { group: "input".into(), offsets: Vec::new() });
    platform.broker.tick()?;
    assert!(matches!(input.poll_commit(), Some(CommitOutcome::Done)));
    Ok(platform.broker.close()?)
}

/// Every value is counted from 1 to 20 without a gap or a repetition.
fn check(mut counts: Vec<u64>) {
    counts.sort_unstable();
    let wanted: Vec<u64> = (1..=RECORDS as u64 / 3).flat_map(|n| [n; 3]).collect();
    assert_eq!(counts, wanted);
}

#[test]
fn a_disk_that_is_full_for_a_while_holds_the_program_up_and_loses_nothing() -> Result<()> {
    for durability in [Durability::Os, Durability::Disk] {
        let mut waited = 0;
        for skip in 0..60 {
            let files = SimFiles::default();
            feed(&files, durability)?;
            let mut platform = Platform::start(&files, durability)?;
            files.fail(Fault { call: Call::Write, skip, times: 12, kind: ErrorKind::StorageFull });
            platform.run(150)?;
            waited += platform.waited;
            check(counts(&platform.broker)?);
        }
        assert!(waited > 50, "the disk was never full: {waited}");
    }
    Ok(())
}

#[test]
fn power_cuts_at_any_moment_count_nothing_twice_and_lose_nothing() -> Result<()> {
    for seed in 0..60 {
        let mut files = SimFiles::default();
        feed(&files, Durability::Disk)?;
        for life in 0..4 {
            let mut platform = Platform::start(&files, Durability::Disk)?;
            platform.run((seed as usize * 7 + life as usize * 3) % 23)?;
            files = files.power_cut(seed * 10 + life);
        }
        let mut platform = Platform::start(&files, Durability::Disk)?;
        platform.run(150)?;
        check(counts(&platform.broker)?);
    }
    Ok(())
}

/// What is committed is not synced yet, and nobody may make space ever: the rows of state can be read from the changelogs again. Where it
/// had tried to go on before, a producer that was not made had fenced its own, and it ended as if another had taken over.
#[test]
fn a_program_ends_while_the_disk_is_full() -> Result<()> {
    for (before, after) in [(4, 0), (1, 6), (2, 6), (3, 6)] {
        let (files, state) = (SimFiles::default(), SimDisk::new(Dice::new(1), Mishaps::default(), 0));
        feed(&files, Durability::Disk)?;
        let mut platform = Platform::start_with(&files, Durability::Disk, Some(&state))?;
        for _ in 0..before {
            platform.thread.step(platform.clock.now())?;
        }
        assert!(platform.thread.commit_now(platform.clock.now())?);
        files.fail(Fault { call: Call::Write, skip: 0, times: u64::MAX, kind: ErrorKind::StorageFull });
        for _ in 0..after {
            platform.thread.step(platform.clock.now())?;
        }
        platform.thread.close(platform.clock.now())?;
        assert!(matches!(platform.broker.close(), Err(LogError::Full { .. })));
        drop(platform);
        files.heal();
        let mut platform = Platform::start_with(&files, Durability::Disk, Some(&state))?;
        platform.run(150)?;
        check(counts(&platform.broker)?);
    }
    Ok(())
}

/// Its threads ended: the log had no room for what it knows of their producers.
#[test]
fn a_program_that_starts_on_a_full_disk_waits_for_space() -> Result<()> {
    let (files, clock) = (SimFiles::default(), Arc::new(ManualClock::at(1_000)));
    feed(&files, Durability::Os)?;
    let broker = open(&files, Durability::Os, clock.clone())?;
    let streams = || {
        let config = RuntimeConfig { threads: 2, ..RuntimeConfig::embedded("app") };
        Streams::new(program()?, config, Arc::new(broker.clone()) as Arc<dyn Log>, clock.clone())
    };
    // One that is ended before there is space, and one that goes on.
    for heals in [false, true] {
        let mut streams = streams()?;
        let (tell, told) = channel();
        streams.on_held_up(move |error| tell.send(error.to_string()).expect("somebody listens"));
        files.fail(Fault { call: Call::Write, skip: 0, times: u64::MAX, kind: ErrorKind::StorageFull });
        streams.start()?;
        for _ in 0..2 {
            let why = told.recv_timeout(Duration::from_secs(60)).expect("both threads wait");
            assert!(why.contains("no space left"), "{why}");
        }
        let asked = streams.query(in_store("counts", KeyQuery::<String, i64>::with_key("a".to_owned())));
        assert!(matches!(asked, Err(QueryError::Restoring)), "{asked:?}");
        if heals {
            files.heal();
            streams.drain()?;
            streams.join()?;
        } else {
            streams.close()?;
            files.heal();
        }
    }
    check(counts(&broker)?);
    Ok(())
}
