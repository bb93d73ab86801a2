//! End-to-end latency at a fixed rate, open loop: from the moment a record was due to be sent until its result is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millstream_broker::Durability;
use millstream_core::{
    BatchBuilder, ConsumerOptions, Error, Isolation, Log, ProcessingGuarantee, Result, RuntimeConfig, Streams,
    SystemClock, TopicPartition, Wakeup, partition_for_key,
};
use millstream_dsl::StreamsBuilder;

use crate::log::{PARTITIONS, create, open_with, producer};
use crate::table::Row;

/// How it is loaded, and what it promises.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) guarantee: ProcessingGuarantee,
    pub(crate) commit_interval: Duration,
    pub(crate) durability: Durability,
    /// Records per second.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    /// Milliseconds that 99 of 100 results may take.
    pub(crate) goal: Option<f64>,
}

impl Load {
    pub(crate) const AT_LEAST_ONCE: Load = Load {
        guarantee: ProcessingGuarantee::AtLeastOnce,
        commit_interval: Duration::from_millis(100),
        durability: Durability::Os,
        rate: 20_000,
        seconds: 5,
        goal: Some(1.0),
    };

    fn name(&self) -> String {
        let guarantee = match self.guarantee {
            ProcessingGuarantee::AtLeastOnce => "at least once",
            ProcessingGuarantee::ExactlyOnceV2 => "exactly once",
        };
        let durability = if self.durability == Durability::Os { "" } else { ", durability disk" };
        format!("{guarantee} {:?}{durability}, {} records/s", self.commit_interval, self.rate)
    }
}

/// A running maximum per key carries the due time of the newest record through an aggregation.
pub(crate) fn latency(load: Load) -> Result<Vec<Row>> {
    let Load { guarantee, commit_interval, durability, rate, seconds, goal } = load;
    let (log, _dir) = open_with(durability)?;
    create(&log, "in")?;
    create(&log, "out")?;
    let b = StreamsBuilder::new();
    b.stream::<String, i64>("in").group_by_key().reduce("latest", |a, v| a.max(v)).to_stream().to("out");
    let config = RuntimeConfig { guarantee, commit_interval, ..RuntimeConfig::embedded("latency") };
    let mut streams =
        Streams::new(b.build()?, config, Arc::new(log.clone()) as Arc<dyn Log>, Arc::new(SystemClock::default()))?;
    streams.start()?;

    let began = Instant::now() + Duration::from_millis(300);
    let total = rate * seconds;
    let sent = Arc::new(AtomicBool::new(false));
    let generator = {
        let (log, sent) = (log.clone(), sent.clone());
        std::thread::spawn(move || -> Result<()> {
            let mut producer = producer(&log)?;
            for number in 0..total {
                let due = Duration::from_nanos(number * 1_000_000_000 / rate);
                let wait = (began + due).saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    std::thread::sleep(wait);
                }
                let key = format!("key-{:012}", number % 100_000);
                let mut batch = BatchBuilder::new();
                batch.push(number as i64 / 20, Some(key.as_bytes()), Some(&(due.as_nanos() as i64).to_be_bytes()), &[]);
                producer.send(&TopicPartition::new("in", partition_for_key(key.as_bytes(), PARTITIONS)), batch)?;
            }
            sent.store(true, Ordering::SeqCst);
            Ok(())
        })
    };

    let wakeup = Arc::new(Wakeup::default());
    let options = ConsumerOptions { client_id: "reader".into(), group: "".into(), isolation: Isolation::ReadCommitted };
    let mut consumer = log.consumer(&options, wakeup.clone())?;
    consumer.assign(&(0..PARTITIONS).map(|p| (TopicPartition::new("out", p), 0)).collect::<Vec<_>>())?;
    let mut histogram = Histogram::<u64>::new(3).map_err(Error::user)?;
    let mut seen = 0;
    while seen < total {
        let mut any = false;
        for slot in 0..PARTITIONS as usize {
            for mut batch in consumer.fetch(slot, 1 << 20)?.batches {
                let now = Instant::now();
                any = true;
                while let Some(Ok(view)) = batch.next() {
                    seen += 1;
                    let due =
                        view.value.and_then(|v| v.as_slice().first_chunk().copied()).map_or(0, i64::from_be_bytes);
                    let latency = now.saturating_duration_since(began + Duration::from_nanos(due as u64));
                    // The first second warms up.
                    if due > 1_000_000_000 {
                        histogram.record(latency.as_nanos() as u64).map_err(Error::user)?;
                    }
                }
            }
        }
        if !any {
            wakeup.wait(Duration::from_millis(10));
        }
    }
    generator.join().map_err(|_| Error::user("the generator failed"))??;
    streams.close()?;
    let row = |name: &str, quantile: f64, bound: Option<(f64, bool)>| Row {
        name: format!("{}, {name}", load.name()),
        keys: 100_000,
        records: total,
        figure: histogram.value_at_quantile(quantile) as f64 / 1e6,
        unit: "ms".into(),
        bound,
        ..Row::default()
    };
    let goal = goal.map(|ms| (ms, false));
    Ok(vec![row("p50", 0.5, None), row("p99", 0.99, goal), row("p99.9", 0.999, None)])
}
