//! Where records go: by Kafka's hash of the key, by a partitioner of the program's own, by the partition that they came
//! from, and to topics that they name themselves.

use millstream_core::{Error, Result, RuntimeConfig, Topology};
use millstream_dsl::{Produced, StreamsBuilder, TableJoined};
use millstream_tests::embedded::Embedded;

fn run(embedded: &Embedded, topology: Topology) -> Result<millstream_core::Counters> {
    embedded.streams(topology, RuntimeConfig::embedded("app"))?.run_to_end()
}

/// Values of a topic, partition by partition.
fn values(embedded: &Embedded, topic: &str) -> Result<Vec<Vec<String>>> {
    let read: Vec<Vec<(Option<String>, String)>> = embedded.read(topic)?;
    Ok(read.into_iter().map(|records| records.into_iter().map(|(_, value)| value).collect()).collect())
}

/// The keys and hashes of Apache Kafka's `UtilsTest.testMurmur2`; the partition is `(hash & 0x7fffffff) % partitions`.
const KAFKA: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[test]
fn a_key_goes_where_kafka_puts_it() -> Result<()> {
    for partitions in [1, 2, 3, 4, 7, 64] {
        let embedded = Embedded::in_memory()?;
        embedded.create("in", 1)?;
        embedded.create("out", partitions)?;
        let records: Vec<_> = KAFKA.iter().map(|(key, _)| (0, Some(*key), *key)).collect();
        embedded.write("in", 0, &records)?;
        let b = StreamsBuilder::new();
        b.stream::<String, String>("in").to("out");
        run(&embedded, b.build()?)?;
        let mut wanted = vec![Vec::new(); partitions as usize];
        KAFKA.iter().for_each(|(key, hash)| wanted[((hash & 0x7fff_ffff) % partitions) as usize].push(*key));
        assert_eq!(values(&embedded, "out")?, wanted);
    }
    Ok(())
}

/// Evens and odds apart, `both` to both, `none` nowhere, everything else to Kafka's choice.
fn by_value(value: &str, partitions: i32) -> Option<Vec<i32>> {
    match value {
        "both" => Some(vec![0, 1]),
        "none" => Some(vec![]),
        "last" => Some(vec![partitions - 1]),
        "wrong" => Some(vec![partitions]),
        number => number.parse::<i32>().ok().map(|n| vec![n % 2]),
    }
}

fn with_partitioner() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let produced =
        Produced::of::<Option<String>, String>().partitioner(|_, value, partitions| by_value(value, partitions));
    b.stream::<Option<String>, String>("in").to_with("out", produced);
    b.build()
}

#[test]
fn a_partitioner_of_the_programs_own_chooses_one_several_or_none() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    embedded.create("out", 4)?;
    let records = ["1", "2", "both", "none", "3", "last", "kafka's choice"].map(|value| (0, Some("foobar"), value));
    embedded.write("in", 0, &records)?;
    let counters = run(&embedded, with_partitioner()?)?;
    // Kafka puts `foobar` into partition 2 of 4.
    let wanted = [vec!["2", "both"], vec!["1", "both", "3"], vec!["kafka's choice"], vec!["last"]];
    assert_eq!(values(&embedded, "out")?, wanted);
    assert_eq!(counters.dropped_records, 1);
    Ok(())
}

#[test]
fn a_partition_that_is_not_there_is_an_error_that_names_it() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    embedded.create("out", 4)?;
    embedded.write("in", 0, &[(0, None, "1"), (0, None, "wrong")])?;
    let error = run(&embedded, with_partitioner()?).err().map(|e| e.to_string()).unwrap_or_default();
    let wanted = "KSTREAM-SINK-0000000001 failed in task 0_0 at in-0@1: \
                  a partitioner chose partition 4 of `out`, which has 4\n  help: ";
    assert!(error.starts_with(wanted), "{error}");
    assert_eq!(values(&embedded, "out")?.concat(), [""; 0]);
    Ok(())
}

/// Kafka's producer picks partitions for them by chance; here the same input gives the same output.
#[test]
fn records_without_a_key_keep_the_number_of_their_partition() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 4)?;
    embedded.create("same", 4)?;
    embedded.create("fewer", 3)?;
    embedded.create("more", 6)?;
    for partition in 0..4 {
        let value = partition.to_string();
        embedded.write("in", partition, &[(0, None, value.as_str()), (1, None, value.as_str())])?;
    }
    let b = StreamsBuilder::new();
    let stream = b.stream::<Option<String>, String>("in");
    ["same", "fewer", "more"].iter().for_each(|topic| stream.to(topic));
    run(&embedded, b.build()?)?;
    let sorted = |topic: &str| -> Result<Vec<String>> {
        Ok(values(&embedded, topic)?
            .into_iter()
            .map(|mut values| {
                values.sort();
                values.concat()
            })
            .collect())
    };
    assert_eq!(sorted("same")?, ["00", "11", "22", "33"]);
    assert_eq!(sorted("fewer")?, ["0033", "11", "22"]);
    assert_eq!(sorted("more")?, ["00", "11", "22", "33", "", ""]);
    Ok(())
}

fn to_the_topic_of_the_value() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("in").to_dynamic(|_, value, _| format!("out-{value}"));
    b.build()
}

#[test]
fn each_record_may_name_its_topic() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    for (topic, partitions) in [("in", 1), ("out-a", 4), ("out-b", 2)] {
        embedded.create(topic, partitions)?;
    }
    let records = [("foobar", "a"), ("abc", "a"), ("abc", "b"), ("foobar", "b"), ("21", "a")];
    embedded.write("in", 0, &records.map(|(key, value)| (0, Some(key), value)))?;
    run(&embedded, to_the_topic_of_the_value()?)?;
    let keys = |topic: &str| -> Result<Vec<Vec<String>>> {
        let read: Vec<Vec<(String, String)>> = embedded.read(topic)?;
        Ok(read.into_iter().map(|records| records.into_iter().map(|(key, _)| key).collect()).collect())
    };
    assert_eq!(keys("out-a")?, [vec!["21"], vec![], vec!["foobar"], vec!["abc"]]);
    assert_eq!(keys("out-b")?, [vec!["foobar"], vec!["abc"]]);
    Ok(())
}

/// Nothing of the unit of work in which it came is written, and no topic is created.
#[test]
fn a_topic_that_is_not_there_is_an_error_that_names_it() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    embedded.create("out-a", 1)?;
    embedded.write("in", 0, &[(0, None, "a"), (0, None, "c")])?;
    let error = run(&embedded, to_the_topic_of_the_value()?).err();
    assert!(matches!(error, Some(Error::Production(_))), "{error:?}");
    let text = error.map(|e| e.to_string()).unwrap_or_default();
    assert!(text.contains("no topic partition out-c-0\n  help: create topic `out-c` first"), "{text}");
    assert_eq!(values(&embedded, "out-a")?.concat(), [""; 0]);
    embedded.create("out-c", 1)?;
    run(&embedded, to_the_topic_of_the_value()?)?;
    assert_eq!(
        (values(&embedded, "out-a")?.concat(), values(&embedded, "out-c")?.concat()),
        (vec!["a".into()], vec!["c".into()])
    );
    Ok(())
}

/// Both tables are in partitions by the length of their keys, as somebody else has written them. Rows went to where Kafka's
/// partitioner puts their foreign keys, and were told that there are none.
#[test]
fn a_foreign_key_join_meets_a_table_that_is_partitioned_by_others() -> Result<()> {
    let join = |joined: TableJoined<String>| -> Result<Vec<String>> {
        let embedded = Embedded::in_memory()?;
        for topic in ["people", "towns"] {
            embedded.create(topic, 4)?;
        }
        let people = [("ann", "Oslo"), ("bob", "Rome"), ("cleo", "Bergen"), ("dora", "Vik"), ("eve", "Paris")];
        for (name, town) in people {
            embedded.write("people", name.len() as i32 % 4, &[(0, Some(name), town)])?;
            embedded.write("towns", town.len() as i32 % 4, &[(0, Some(town), town)])?;
        }
        let b = StreamsBuilder::new();
        let (people, towns) = (b.table::<String, String>("people", "p"), b.table::<String, String>("towns", "t"));
        let homes = people.left_join_on(joined, &towns, |town| Some(town.clone()), |_, town| format!("{town:?}"));
        homes.to_stream().to("out");
        run(&embedded, b.build()?)?;
        let read: Vec<Vec<(String, String)>> = embedded.read("out")?;
        let last: std::collections::BTreeMap<String, String> = read.into_iter().flatten().collect();
        Ok(last.into_values().collect())
    };
    let found = ["Oslo", "Rome", "Bergen", "Vik", "Paris"].map(|town| format!("{:?}", Some(town)));
    let by_length = TableJoined::named("homes").other_partitioner(|town: &String, n| town.len() as i32 % n);
    assert_eq!(join(by_length)?, found);
    assert!(join("homes".into())?.contains(&"None".to_owned()), "by chance all are where the default puts them");
    Ok(())
}

#[test]
fn a_partition_that_is_not_there_names_the_join_of_its_partitioner() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("people", 1)?;
    embedded.create("towns", 1)?;
    embedded.write("people", 0, &[(0, Some("ann"), "Oslo")])?;
    let b = StreamsBuilder::new();
    let (people, towns) = (b.table::<String, String>("people", "p"), b.table::<String, String>("towns", "t"));
    let joined = TableJoined::named("homes").other_partitioner(|_, n| n);
    people.join_on(joined, &towns, |town| Some(town.clone()), |_, town| town.clone()).to_stream().to("out");
    let error = run(&embedded, b.build()?).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("chose partition 1 of `homes-subscription-repartition`, which has 1"), "{error}");
    Ok(())
}
