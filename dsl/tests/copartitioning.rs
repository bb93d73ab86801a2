//! A program whose keys would silently miss each other is refused when it is built, with every reason at once.
#![expect(clippy::ptr_arg, reason = "partitioners and joiners get the records' own types")]

use millstream_core::{Encoded, Headers, Payload, Result, Serde, SerdeContext, SerdeError, StringSerde};
use millstream_dsl::{
    Consumed, HOUR, JoinWindows, KStream, Produced, StreamsBuilder, TableJoined, TopologyTestDriver, kv,
};

/// Text in capitals: the same keys, other bytes.
#[derive(Clone, Default)]
struct Loud;

impl Serde for Loud {
    type Value = String;
    fn serialize(
        &self,
        value: &String,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        StringSerde.serialize(&value.to_uppercase(), cx, headers, out)
    }
    fn deserialize(&self, bytes: Option<Payload<'_>>, cx: SerdeContext<'_>, h: &Headers) -> Result<String, SerdeError> {
        StringSerde.deserialize(bytes, cx, h).map(|text| text.to_lowercase())
    }
}

/// The bytes of text, and says so.
#[derive(Clone, Default)]
struct Traced;

impl Serde for Traced {
    type Value = String;
    fn serialize(
        &self,
        value: &String,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        StringSerde.serialize(value, cx, headers, out)
    }
    fn deserialize(&self, bytes: Option<Payload<'_>>, cx: SerdeContext<'_>, h: &Headers) -> Result<String, SerdeError> {
        StringSerde.deserialize(bytes, cx, h)
    }
    fn partition_serde() -> String {
        StringSerde::partition_serde()
    }
}

fn by_length(_: &String, value: &String, partitions: i32) -> Option<Vec<i32>> {
    Some(vec![value.len() as i32 % partitions])
}

fn by_key_length(key: &String, _: &String, partitions: i32) -> Option<Vec<i32>> {
    Some(vec![key.len() as i32 % partitions])
}

fn plus(a: &String, b: &String) -> String {
    format!("{a}+{b}")
}

fn joined(name: &str, a: &KStream<String, String>, b: &KStream<String, String>) {
    a.join(name, b, JoinWindows::of(HOUR), plus).to("out");
}

fn problem(b: &StreamsBuilder) -> String {
    b.build().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn every_join_of_keys_that_are_written_or_placed_differently_is_named() {
    let b = StreamsBuilder::new();
    let loud = b.stream_with("loud", Consumed::with(Loud, StringSerde));
    let names = b.table::<String, String>("names", "names");
    loud.join_table("greeting", &names, plus).to("greetings");
    let placed = Produced::of::<String, String>().partitioner(by_length);
    b.stream::<String, String>("in").to_with("placed", placed);
    joined("both", &b.stream("placed"), &b.stream("plain"));
    assert_eq!(
        problem(&b),
        "the topology cannot run, 2 problems:\n\
         - join `greeting` brings keys together that are written by different serdes, so that equal keys may be in \
         different partitions: `loud` by Loud, `names` by StringSerde\n  \
         help: read the topics by one serde, or write one of them anew by .repartition(name) before it; a serde that \
         writes the bytes of another says so in Serde::partition_serde\n\
         - join `both` brings topics together whose records are placed by different partitioners: `placed` by by_length, \
         `plain` by the default\n  \
         help: place one of them anew by .repartition(name), or .repartition_by(name, partitioner), before it; two \
         partitioners are known to be one only if they are the same function and it captures nothing"
    );
}

#[test]
fn a_repartition_writes_and_places_keys_anew() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("loud", 4).topic("names", 4);
    let loud = b.stream_with("loud", Consumed::with(Loud, StringSerde)).repartition("again");
    loud.join_table("greeting", &b.table("names", "names"), plus).to("greetings");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (loud, names) = (t.input::<String, String>("loud")?, t.input::<String, String>("names")?);
    let keys = ["ann", "bob", "cid", "dora", "eve"];
    for key in keys {
        names.pipe(key, "x");
        loud.pipe(key.to_uppercase(), "hi");
    }
    let mut greetings = t.output::<String, String>("greetings")?.read();
    greetings.sort();
    assert_eq!(greetings, keys.map(|key| kv(key, "hi+x")));
    Ok(())
}

#[test]
fn a_serde_that_writes_the_same_bytes_can_say_so() {
    let b = StreamsBuilder::new();
    joined("both", &b.stream_with("traced", Consumed::with(Traced, StringSerde)), &b.stream("plain"));
    assert_eq!(problem(&b), "");
}

/// The same function on both sides is as good as the default; one that has captured something may be another.
#[test]
fn equal_partitioners_are_no_difference() {
    let b = StreamsBuilder::new();
    let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, String>("right"));
    joined("same", &left.repartition_by("l", by_key_length), &right.repartition_by("r", by_key_length));
    assert_eq!(problem(&b), "");
    joined("other", &left.repartition_by("l2", by_key_length), &right.repartition_by("r2", by_length));
    let to = |partition: i32| move |_: &String, _: &String, _: i32| Some(vec![partition]);
    joined("captured", &left.repartition_by("l3", to(0)), &right.repartition_by("r3", to(1)));
    let problem = problem(&b);
    assert!(problem.contains("join `other` brings topics together"), "{problem}");
    assert!(problem.contains("join `captured` brings topics together"), "{problem}");
    assert!(!problem.contains("join `same`"), "{problem}");
}

/// A windowed key is placed by its inner key (semantics.md 17).
#[test]
fn windowed_tables_of_streams_with_one_key_serde_are_no_difference() {
    let b = StreamsBuilder::new();
    let windows = || millstream_dsl::TimeWindows::of(HOUR);
    let counts = |topic: &str| b.stream::<String, String>(topic).group_by_key().windowed_by(windows()).count(topic);
    counts("left").join(&counts("right"), |l, r| l + r).to_stream().to("windowed");
    counts("third").join(&b.table("windowed", "again"), |l, r: &i64| l + r).to_stream().to("out");
    assert_eq!(problem(&b), "");
}

/// What a foreign-key join says of the other table's keys is not what this program writes; of what others write nothing is known.
#[test]
fn a_foreign_key_join_says_how_the_other_table_is_placed() {
    fn by_letter(town: &String, partitions: i32) -> i32 {
        town.bytes().next().map_or(0, i32::from) % partitions
    }
    let of = |placed: Option<Produced<StringSerde, StringSerde>>, joined: TableJoined<String>| {
        let b = StreamsBuilder::new();
        if let Some(placed) = placed {
            b.stream::<String, String>("census").to_with("towns", placed);
        }
        let (people, towns) = (b.table::<String, String>("people", "p"), b.table::<String, String>("towns", "t"));
        people.join_on(joined, &towns, |town| Some(town.clone()), plus).to_stream().to("out");
        problem(&b)
    };
    let (by_default, placed) =
        (Produced::of::<String, String>, || Some(Produced::of::<String, String>().partitioner(by_key_length)));
    let said = || TableJoined::named("homes").other_partitioner(by_letter);
    assert_eq!(of(None, said()), "");
    assert_eq!(of(placed(), said()), "");
    assert_eq!(of(None, "homes".into()), "");
    let denied = of(Some(by_default()), said());
    assert!(denied.contains("`homes-subscription-repartition` by by_letter"), "{denied}");
    assert!(denied.contains("`towns` by the default"), "{denied}");
    let unsaid = of(placed(), "homes".into());
    assert!(unsaid.contains("`homes-subscription-repartition` by the default"), "{unsaid}");
}

/// Its answers go back to where they were asked for.
#[test]
fn the_table_on_the_left_of_a_foreign_key_join_may_be_placed_in_any_way() {
    let b = StreamsBuilder::new();
    let placed = Produced::of::<String, String>().partitioner(by_key_length);
    b.stream::<String, String>("census").to_with("people", placed);
    let (people, towns) = (b.table::<String, String>("people", "p"), b.table::<String, String>("towns", "t"));
    people.join_on("homes", &towns, |town| Some(town.clone()), plus).to_stream().to("out");
    assert_eq!(problem(&b), "");
}
