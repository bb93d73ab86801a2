//! A partitioner of the program's own places records wherever they are written: into topics that are named record by record, and
//! into repartition topics of a size that the program says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use millstream_core::{ExceptionHandler, NumberSerde, Result, RuntimeConfig, StringSerde};
use millstream_dsl::{Produced, Repartitioned, StreamsBuilder, TopologyTestDriver, kv};

#[test]
fn in_a_topic_that_is_named_by_the_record() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("a", 3).topic("b", 2);
    // The last partition, or none, or all.
    let placed = Produced::with(StringSerde, NumberSerde::<i64>::default()).partitioner(|_, n, partitions| match n {
        0 => Some(vec![]),
        9 => Some((0..partitions).collect()),
        1 => None,
        _ => Some(vec![partitions - 1]),
    });
    b.stream::<String, i64>("in").to_dynamic_with(|key, _, _| key.clone(), placed);
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    [("a", 5), ("b", 9), ("a", 0), ("a", 9), ("b", 6), ("b", 1)].into_iter().for_each(|(key, n)| input.pipe(key, n));
    let read = |topic: &str| -> Result<Vec<i64>> {
        Ok(t.output::<String, i64>(topic)?.read().into_iter().map(|(_, n)| n).collect())
    };
    // Partition by partition: by its bytes `b` belongs into the first.
    assert_eq!(read("a")?, [9, 9, 5, 9]);
    assert_eq!(read("b")?, [9, 1, 9, 6]);
    assert_eq!(t.counters().dropped_records, 1);
    Ok(())
}

/// Neither function's failure stops what the handler goes on with.
#[test]
fn what_fails_is_for_the_handler() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("out", 2);
    let placed = Produced::of::<String, String>()
        .try_partitioner(|_, text, partitions| text.parse::<i32>().map(|n| Some(vec![n % partitions])));
    let topic = |key: &String| if key == "?" { Err("no topic") } else { Ok("out".to_owned()) };
    b.stream::<String, String>("in").try_to_dynamic_with(move |key, _, _| topic(key), placed);
    let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    let input = t.input::<String, String>("in")?;
    [("a", "3"), ("?", "1"), ("b", "one"), ("c", "2")].into_iter().for_each(|(key, text)| input.pipe(key, text));
    assert_eq!(t.output::<String, String>("out")?.read(), [kv("c", "2"), kv("a", "3")]);
    assert_eq!(t.counters().dropped_records, 2);
    Ok(())
}

#[test]
fn in_a_repartition_topic_of_a_size_of_its_own() -> Result<()> {
    let b = StreamsBuilder::new();
    let told = Arc::new(AtomicI32::new(0));
    let tells = told.clone();
    let last = move |_: &String, _: &i64, partitions: i32| {
        tells.store(partitions, Ordering::Relaxed);
        Some(vec![partitions - 1])
    };
    let wide = Repartitioned::named("wide").number_of_partitions(5).partitioner(last);
    b.stream::<String, i64>("in").repartition(wide).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, i64>("in")?.pipe("a", 1);
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 1)]);
    assert_eq!(told.load(Ordering::Relaxed), 5);
    Ok(())
}
