//! scratch
use millstream_broker::{Broker, BrokerOptions};
use millstream_core::*;
use millstream_dsl::StreamsBuilder;
use std::sync::Arc;
fn cpu() -> u128 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse().unwrap()
}
fn run(name: &str, n: u64, keys: u64, topology: Topology, guarantee: ProcessingGuarantee) {
    let config = RuntimeConfig { guarantee, ..RuntimeConfig::embedded("bench") };
    let dir = std::path::PathBuf::from("/tmp/msbench");
    let _ = std::fs::remove_dir_all(&dir);
    let log = Broker::open(BrokerOptions::new(&dir, Arc::new(SystemClock::default()))).unwrap();
    let admin: &dyn Admin = &log;
    let w = Arc::new(Wakeup::default());
    let mut prod = log.producer(&ProducerOptions { client_id: "".into(), transactional_id: None }, w).unwrap();
    let plan = Plan::new(&topology, &config, admin).unwrap();
    plan.create_topics(admin).unwrap();
    let mut builders: Vec<BatchBuilder> = (0..4).map(|_| BatchBuilder::new()).collect();
    let value = "x".repeat(80);
    let mut x = 1u64;
    for i in 0..n {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let key = format!("key-{:012}", (x >> 33) % keys);
        let p = partition_for_key(key.as_bytes(), 4);
        let b = &mut builders[p as usize];
        b.push((i / 100) as i64, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        if b.len() > 64 << 10 {
            prod.send(&TopicPartition::new("in", p), std::mem::take(b)).unwrap();
        }
    }
    for (p, b) in builders.into_iter().enumerate() {
        if !b.is_empty() {
            prod.send(&TopicPartition::new("in", p as i32), b).unwrap();
        }
    }
    let shared = ThreadContext {
        alignment: TimeAlignment::new(plan.tasks.len(), config.max_task_skew),
        topology: Arc::new(topology),
        plan: Arc::new(plan),
        config: Arc::new(config),
        log: Arc::new(log.clone()),
        process_id: "p".into(),
    };
    let clock = SystemClock::default();
    let all: Vec<usize> = (0..shared.plan.tasks.len()).collect();
    let mut t = StreamThread::new(shared, "t".into(), &all, Arc::new(Wakeup::default()), clock.now()).unwrap();
    let c = cpu();
    let w = std::time::Instant::now();
    while t.counters().process < n {
        t.step(clock.now()).unwrap();
    }
    t.commit_now(clock.now()).unwrap();
    println!("{name}: {} ns cpu/record, {} ns wall", (cpu() - c) / n as u128, w.elapsed().as_nanos() / n as u128);
}
fn stateless() -> Topology {
    let b = StreamsBuilder::new();
    b.topic("in", 4).topic("out", 4);
    b.stream::<Text, Text>("in")
        .filter(|_, v| v.len() > 10)
        .map_values(|v: Text| {
            let e = v.len() - 1;
            v.share(&v[..e])
        })
        .filter(|k, _| !k.is_empty())
        .map(|k, v| (k, v))
        .map_values(|v: Text| v.share(&v[1..]))
        .to("out");
    b.build().unwrap()
}
fn fused() -> Topology {
    let b = StreamsBuilder::new();
    b.topic("in", 4).topic("out", 4);
    b.stream::<Text, Text>("in")
        .flat_map(|k, v| {
            if v.len() <= 10 {
                return None;
            }
            let e = v.len() - 1;
            let v = v.share(&v[..e]);
            if k.is_empty() {
                return None;
            }
            let v = v.share(&v[1..]);
            Some((k, v))
        })
        .to("out");
    b.build().unwrap()
}
fn count() -> Topology {
    let b = StreamsBuilder::new();
    b.topic("in", 4).topic("out", 4);
    b.stream::<Text, Text>("in").group_by_key().count("counts").to_stream().to("out");
    b.build().unwrap()
}
fn main() {
    for _ in 0..3 {
        for g in [ProcessingGuarantee::AtLeastOnce, ProcessingGuarantee::ExactlyOnceV2] {
            println!("{g:?}");
            run("stateless", 2_000_000, 100_000, stateless(), g);
            run("fused", 2_000_000, 100_000, fused(), g);
            run("count", 2_000_000, 100_000, count(), g);
        }
    }
}
