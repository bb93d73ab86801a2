//! A silence behind a repartition topic counts only as far as the thread that writes it has come: a thread that is behind
//! must not make late what it is about to pass on.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    BatchBuilder, Clock, Log, ManualClock, MemoryLog, Next, Plan, Result, RuntimeConfig, StreamThread, ThreadContext,
    TopicPartition, Topology, Wakeup,
};
use millstream_dsl::{Consumed, StreamsBuilder, TimeWindows};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: ManualClock,
    log: Arc<MemoryLog>,
    shared: ThreadContext,
}

impl World {
    /// Two tasks: one rekeys, the other counts per second.
    fn new() -> Result<Self> {
        let b = StreamsBuilder::new();
        let clicks = b.stream_with("in", Consumed::of::<Option<String>, String>().idleness(SECOND));
        let windows = TimeWindows::of(SECOND);
        let counts = clicks.group_by("by-value", |_, v| v.clone()).windowed_by(windows).emit_on_close().count("counts");
        counts.to_stream().map(|window, n| (window.key, n)).to("out");
        Self::of(b.build()?, 0)
    }

    /// Two tasks: one has orders and counts those of each customer, per second, the other has the customers.
    fn foreign() -> Result<Self> {
        let b = StreamsBuilder::new();
        let orders = b.table_with("orders", "orders", Consumed::of::<String, String>().idleness(SECOND));
        let customers = b.table_with("customers", "customers", Consumed::of::<String, String>().idleness(SECOND));
        let known = orders.join_on("known", &customers, |customer| Some(customer.clone()), |order, _| order.clone());
        let counts = known.to_stream().group_by_key().windowed_by(TimeWindows::of(SECOND)).emit_on_close();
        counts.count("counts").to_stream().map(|window, n| (window.key, n)).to("out");
        Self::of(b.build()?, 0)
    }

    /// One task that waits half a second for an input without records.
    fn merged() -> Result<Self> {
        let b = StreamsBuilder::new();
        let clicks = b.stream::<Option<String>, String>("in");
        clicks.merge(&b.stream("other")).to("out");
        Self::of(b.build()?, 500)
    }

    fn of(topology: Topology, max_task_idle: i64) -> Result<Self> {
        let log = MemoryLog::new();
        let max_task_idle = Some(max_task_idle);
        let config = RuntimeConfig { max_task_skew: None, max_task_idle, ..RuntimeConfig::embedded("app") };
        let plan = Plan::new(&topology, &config, log.admin())?;
        plan.create_topics(log.admin())?;
        let shared = ThreadContext {
            alignment: plan.alignment(config.max_task_skew),
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            config: Arc::new(config),
            log: Arc::new(log.clone()),
            process_id: "test".into(),
        };
        Ok(World { clock: ManualClock::at(0), log, shared })
    }

    fn thread(&self, task: usize) -> Result<StreamThread> {
        let name = format!("thread-{task}");
        StreamThread::new(self.shared.clone(), name, &[task], Arc::new(Wakeup::default()), self.clock.now())
    }

    fn click(&self, time: i64) -> Result<()> {
        self.write("in", time, None, b"word")
    }

    fn write(&self, topic: &str, time: i64, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        let mut batch = BatchBuilder::new();
        batch.push(time, key, Some(value), &[]);
        Ok(self.log.append(&TopicPartition::new(topic, 0), batch)?)
    }

    /// Steps until there is nothing to do now; says when there is.
    fn run(&self, thread: &mut StreamThread) -> Result<Option<Duration>> {
        loop {
            if let Next::Wait(until) = thread.step(self.clock.now())? {
                return Ok(until);
            }
        }
    }

    /// Windows that have been counted to the end.
    fn closed(&self) -> Result<usize> {
        let (batches, _) = self.log.read(&TopicPartition::new("out", 0), 0)?;
        Ok(batches.into_iter().map(|batch| batch.remaining().max(0) as usize).sum())
    }
}

#[test]
fn a_thread_that_is_behind_makes_nothing_late() -> Result<()> {
    let world = World::new()?;
    let (mut rekeys, mut counts) = (world.thread(0)?, world.thread(1)?);
    world.run(&mut counts)?;
    world.click(0)?;
    world.run(&mut rekeys)?;
    world.clock.advance(SECOND);
    world.run(&mut rekeys)?; // commits
    world.run(&mut counts)?;
    // Two more clicks come, and the first thread does not: for the second one there is only silence.
    world.click(10)?;
    world.click(20)?;
    for _ in 0..10 {
        world.clock.advance(SECOND);
        world.run(&mut counts)?;
    }
    assert_eq!((world.closed()?, counts.counters().late_records), (0, 0));
    // It has processed them, and not committed them yet: nobody sees them.
    while rekeys.counters().process < 3 {
        let _again = rekeys.step(world.clock.now())?;
        world.run(&mut counts)?;
    }
    assert_eq!((world.closed()?, counts.counters().late_records), (0, 0));
    for _ in 0..3 {
        world.clock.advance(SECOND);
        world.run(&mut rekeys)?;
        world.run(&mut counts)?;
    }
    assert_eq!((world.closed()?, counts.counters().late_records), (1, 0));
    Ok(())
}

#[test]
fn a_thread_comes_back_when_time_is_due_and_sleeps_after_that() -> Result<()> {
    let world = World::new()?;
    let (mut rekeys, mut counts) = (world.thread(0)?, world.thread(1)?);
    world.run(&mut counts)?;
    world.click(400)?;
    for _ in 0..2 {
        world.run(&mut rekeys)?;
        world.clock.advance(Duration::from_millis(100));
    }
    // The record comes at 200 ms, and is committed at once; its window would end at 800, but for the idleness.
    assert_eq!(world.run(&mut counts)?, Some(Duration::from_millis(200) + SECOND));
    world.clock.advance(SECOND);
    world.run(&mut rekeys)?;
    world.run(&mut counts)?;
    world.clock.advance(SECOND);
    assert_eq!((world.run(&mut counts)?, world.closed()?), (None, 1));
    Ok(())
}

/// It looked every 100 µs whether the time was over.
#[test]
fn a_thread_that_waits_for_an_empty_input_comes_back_when_it_has_waited_long_enough() -> Result<()> {
    let world = World::merged()?;
    let mut thread = world.thread(0)?;
    world.run(&mut thread)?;
    world.click(0)?;
    assert_eq!(world.run(&mut thread)?, Some(Duration::from_millis(500)));
    world.clock.advance(Duration::from_millis(499));
    assert_eq!((world.run(&mut thread)?, thread.counters().process), (Some(Duration::from_millis(500)), 0));
    world.clock.advance(Duration::from_millis(1));
    world.run(&mut thread)?;
    assert_eq!(thread.counters().process, 1);
    Ok(())
}

/// The two halves of a foreign-key join write to each other: what one has not answered yet may still come.
#[test]
fn a_half_of_a_foreign_key_join_that_is_behind_makes_nothing_late() -> Result<()> {
    let world = World::foreign()?;
    let (mut orders, mut customers) = (world.thread(0)?, world.thread(1)?);
    let both = |orders: &mut StreamThread, customers: &mut StreamThread| -> Result<()> {
        for _ in 0..3 {
            world.clock.advance(Duration::from_millis(100));
            world.run(orders)?;
            world.run(customers)?;
        }
        Ok(())
    };
    world.write("customers", 0, Some(b"ann"), b"Ann")?;
    world.write("orders", 0, Some(b"hat"), b"ann")?;
    both(&mut orders, &mut customers)?;
    // One that the other thread is not asked about, and one that it does not answer.
    world.write("customers", 5, Some(b"ann"), b"Anna")?;
    world.write("orders", 10, Some(b"bag"), b"ann")?;
    for _ in 0..10 {
        world.clock.advance(SECOND);
        world.run(&mut orders)?;
    }
    assert_eq!((world.closed()?, orders.counters().late_records), (0, 0));
    both(&mut orders, &mut customers)?;
    assert_eq!((world.closed()?, orders.counters().late_records), (0, 0));
    world.clock.advance(SECOND);
    (0..4).try_for_each(|_| both(&mut orders, &mut customers))?;
    assert_eq!((world.closed()?, orders.counters().late_records), (2, 0));
    Ok(())
}
