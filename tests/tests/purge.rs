//! Records of a repartition topic are forgotten once they are committed, so that it does not grow for ever.

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{
    Admin, BatchBuilder, Clock, Log, ManualClock, Next, Plan, ProducerOptions, Result, RuntimeConfig, StreamThread,
    ThreadContext, TopicPartition, Wakeup,
};
use millstream_dsl::StreamsBuilder;

#[test]
fn a_repartition_topic_is_purged_after_commits() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("in")
        .group_by("by-value", |_, v| v.clone())
        .count("counts")
        .to_stream()
        .to("out");
    let topology = b.build()?;
    let clock = Arc::new(ManualClock::at(0));
    let log = Broker::open(BrokerOptions::memory(clock.clone()))?;
    let config = RuntimeConfig::embedded("app");
    let plan = Plan::new(&topology, &config, log.admin())?;
    plan.create_topics(log.admin())?;
    let wakeup = Arc::new(Wakeup::default());
    let mut input = log.producer(&ProducerOptions::plain("input"), wakeup.clone())?;
    let shared = ThreadContext {
        alignment: plan.alignment(config.max_task_skew),
        topology: Arc::new(topology),
        plan: Arc::new(plan),
        config: Arc::new(config),
        log: Arc::new(log.clone()) as Arc<dyn Log>,
        process_id: "test".into(),
    };
    let mut thread = StreamThread::new(shared, "thread".into(), &[0, 1], wakeup, clock.now())?;
    let between = TopicPartition::new("app-by-value-repartition", 0);
    for _ in 0..3 {
        let mut batch = BatchBuilder::new();
        batch.push(0, None, Some(b"word"), &[]);
        input.send(&TopicPartition::new("in", 0), batch)?;
        for _ in 0..3 {
            clock.advance(Duration::from_secs(20));
            while thread.step(clock.now())? == Next::Again {}
        }
    }
    assert!(log.start_offset(&between)? > 0, "nothing was purged");
    assert_eq!(log.start_offset(&TopicPartition::new("in", 0))?, 0, "a topic of the user's is left alone");
    Ok(())
}
