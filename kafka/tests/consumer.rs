//! Reading a cluster: librdkafka's in-process mock of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{
    BatchBuilder, Consumer, ConsumerOptions, Error, GroupOffsets, Isolation, Log, ProducerOptions, Result,
    TopicPartition, Wakeup,
};
use millstream_kafka::KafkaLog;
use rdkafka::mocking::MockCluster;

const LARGE: usize = 100_000;
/// As many as the mock keeps of a partition: 5 MiB.
const HALF: usize = 48;

/// The records' sizes that a fetch brings.
fn sizes(consumer: &mut dyn Consumer, slot: usize) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for mut batch in consumer.fetch(slot, 1 << 20)?.batches {
        while let Some(Ok(record)) = batch.next() {
            found.push(record.value.map_or(0, |value| value.as_slice().len()));
        }
    }
    Ok(found)
}

/// As an input that has as many records as it may hold, or one whose end a bounded run has reached.
#[test]
fn a_partition_that_nobody_asks_for_is_not_held_in_memory() -> Result<()> {
    let cluster = MockCluster::new(1).map_err(Error::user)?;
    let log = KafkaLog::new(BTreeMap::from([("bootstrap.servers".to_owned(), cluster.bootstrap_servers())]))?;
    cluster.create_topic("rows", 2, 1).map_err(Error::user)?;
    let wakeup = Arc::new(Wakeup::default());
    let mut producer = log.producer(&ProducerOptions::plain("input"), wakeup.clone())?;
    let options = ConsumerOptions { client_id: "rows".into(), group: "".into(), isolation: Isolation::ReadUncommitted };
    let mut consumer = log.consumer(&options, wakeup)?;
    let waiting = TopicPartition::new("rows", 1);
    consumer.assign(&[(TopicPartition::new("rows", 0), 0), (waiting.clone(), 0)])?;
    for _ in 0..2 {
        for _ in 0..HALF {
            let mut batch = BatchBuilder::new();
            batch.push(1_000, None, Some(&[b'x'; LARGE]), &[]);
            producer.send(&waiting, batch)?;
        }
        // Delivers.
        producer.commit(GroupOffsets { group: "input".into(), offsets: Vec::new() });
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            assert_eq!(sizes(consumer.as_mut(), 0)?, [0_usize; 0]);
        }
    }
    let mut came = sizes(consumer.as_mut(), 1)?;
    assert!((1..=HALF).contains(&came.len()), "{} were held", came.len());
    let until = Instant::now() + Duration::from_secs(60);
    while came.len() < 2 * HALF && Instant::now() < until {
        came.extend(sizes(consumer.as_mut(), 1)?);
    }
    assert_eq!(came, [LARGE; 2 * HALF]);
    Ok(())
}
