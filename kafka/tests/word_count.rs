//! The log port is not shaped after our own log: the golden word count runs over librdkafka on its in-process mock
//! cluster, is stopped and started again in the middle, and emits what Kafka Streams emits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{
    BatchBuilder, Consumer, ConsumerOptions, Error, GroupOffsets, Isolation, Log, Payload, ProcessingGuarantee,
    ProducerOptions, Result, RuntimeConfig, Streams, SystemClock, TopicPartition, Topology, Wakeup,
};
use millstream_dsl::StreamsBuilder;
use millstream_kafka::KafkaLog;
use rdkafka::mocking::MockCluster;
use serde_json::Value;

fn word_count(lines: &str, counts: &str) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, Option<String>>(lines)
        .flat_map_values(|v| v.iter().flat_map(|v| v.split(' ')).map(str::to_owned).collect::<Vec<_>>())
        .group_by("by-word", |_, word| word.clone())
        .count("counts")
        .to_stream()
        .map_values(|n| n.map(|n| n.to_string()))
        .to(counts);
    b.build()
}

type Emitted = (String, String, i64);

/// Added to all times: librdkafka has no time 0.
const LATER: i64 = 1_000;

/// The next records of the output topic, as they come.
fn read(consumer: &mut dyn Consumer, records: usize) -> Result<Vec<Emitted>> {
    let mut found = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    let text = |p: Option<Payload<'_>>| String::from_utf8_lossy(p.expect("not null").as_slice()).into_owned();
    while found.len() < records && Instant::now() < until {
        for mut batch in consumer.fetch(0, 1 << 20)?.batches {
            while let Some(Ok(record)) = batch.next() {
                found.push((text(record.key), text(record.value), record.timestamp));
            }
        }
    }
    Ok(found)
}

fn emitted(steps: &[Value]) -> Vec<Emitted> {
    let records = steps.iter().flat_map(|step| step["out"].as_array().into_iter().flatten());
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    records.map(|r| (text(&r["key"]), text(&r["value"]), r["ts"].as_i64().expect("a time") + LATER)).collect()
}

/// In so many pieces, with a restart between two.
fn golden_on_a_mock_cluster(guarantee: ProcessingGuarantee, pieces: usize) -> Result<()> {
    let trace: Value = serde_json::from_str(include_str!("../../tests/golden/word-count.json")).map_err(Error::user)?;
    let cluster = MockCluster::new(1).map_err(Error::user)?;
    let settings = BTreeMap::from([("bootstrap.servers".to_owned(), cluster.bootstrap_servers())]);
    let log: Arc<dyn Log> = Arc::new(KafkaLog::new(settings)?);
    let wakeup = Arc::new(Wakeup::default());
    for (number, case) in trace["cases"].as_array().expect("cases").iter().enumerate() {
        let (lines, counts, app) = (format!("lines-{number}"), format!("counts-{number}"), format!("app-{number}"));
        let internal = ["by-word-repartition", "counts-changelog", "topology"].map(|name| format!("{app}-{name}"));
        for topic in [&lines, &counts].into_iter().chain(&internal) {
            cluster.create_topic(topic, 1, 1).map_err(Error::user)?;
        }
        let options =
            ConsumerOptions { client_id: "output".into(), group: "".into(), isolation: Isolation::ReadCommitted };
        let mut output = log.consumer(&options, wakeup.clone())?;
        output.assign(&[(TopicPartition::new(counts.as_str(), 0), 0)])?;
        let steps = case["steps"].as_array().expect("steps");
        for piece in steps.chunks(steps.len().div_ceil(pieces)) {
            let mut input = log.producer(&ProducerOptions::plain("input"), wakeup.clone())?;
            let mut batch = BatchBuilder::new();
            for step in piece {
                let bytes = |name: &str| step[name].as_str().map(str::as_bytes);
                batch.push(step["ts"].as_i64().expect("a time") + LATER, bytes("key"), bytes("value"), &[]);
            }
            input.send(&TopicPartition::new(lines.as_str(), 0), batch)?;
            // Delivers before the producer goes.
            input.commit(GroupOffsets { group: "input".into(), offsets: Vec::new() });
            let config =
                RuntimeConfig { guarantee, commit_interval: Duration::from_millis(50), ..RuntimeConfig::cluster(&app) };
            let mut streams =
                Streams::new(word_count(&lines, &counts)?, config, log.clone(), Arc::new(SystemClock::default()))?;
            streams.start()?;
            let wanted = emitted(piece);
            assert_eq!(read(output.as_mut(), wanted.len())?, wanted, "case {number}");
            streams.close()?;
        }
    }
    Ok(())
}

#[test]
fn word_count_at_least_once() -> Result<()> {
    golden_on_a_mock_cluster(ProcessingGuarantee::AtLeastOnce, 2)
}

#[test]
fn word_count_exactly_once() -> Result<()> {
    // The mock cluster acknowledges positions in a transaction without keeping them: it cannot be restarted on.
    golden_on_a_mock_cluster(ProcessingGuarantee::ExactlyOnceV2, 1)
}
