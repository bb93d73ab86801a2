//! A program whose keys would silently miss each other is refused when it is built, with every reason at once.
#![expect(clippy::ptr_arg, reason = "partitioners and joiners get the records' own types")]

use std::collections::BTreeMap;

use millstream_core::{
    Encoded, Headers, MemoryLog, Payload, Plan, Record, Result, RuntimeConfig, Serde, SerdeContext, SerdeError,
    StringSerde,
};
use millstream_dsl::{
    Consumed, HOUR, JoinWindows, KStream, KTable, KeyValueStore, Out, Processor, Produced, Repartitioned,
    SessionWindows, SlidingWindows, StoreHandle, StreamsBuilder, TableJoined, TimeWindows, TopologyTestDriver, kv,
    pattern,
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
         help: place one of them anew by .repartition(name), or with a partitioner of Repartitioned::named(name), before it; \
         two partitioners are known to be one only if they are the same function and it captures nothing"
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
    joined(
        "same",
        &left.repartition(Repartitioned::named("l").partitioner(by_key_length)),
        &right.repartition(Repartitioned::named("r").partitioner(by_key_length)),
    );
    assert_eq!(problem(&b), "");
    joined(
        "other",
        &left.repartition(Repartitioned::named("l2").partitioner(by_key_length)),
        &right.repartition(Repartitioned::named("r2").partitioner(by_length)),
    );
    let to = |partition: i32| move |_: &String, _: &String, _: i32| Some(vec![partition]);
    joined(
        "captured",
        &left.repartition(Repartitioned::named("l3").partitioner(to(0))),
        &right.repartition(Repartitioned::named("r3").partitioner(to(1))),
    );
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

/// The streams of a topic of two partitions and of one of three.
fn two_and_three() -> (StreamsBuilder, KStream<String, String>, KStream<String, String>) {
    let b = StreamsBuilder::new();
    b.topic("a", 2).topic("b", 3).topic("out", 1);
    let (two, three) = (b.stream("a"), b.stream("b"));
    (b, two, three)
}

/// What a start says of a program: why it is refused, or what it warns of.
fn said(b: &StreamsBuilder) -> Result<String> {
    let topology = b.build()?;
    let plan = Plan::new(&topology, &RuntimeConfig::embedded("app"), &*MemoryLog::new());
    Ok(match plan {
        Ok(plan) => topology.warnings().iter().cloned().chain(plan.warnings).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    })
}

const NOT_TOGETHER: &str = " brings topics together that are not co-partitioned: `a` 2, `b` 3\n  \
    help: .repartition(Repartitioned::named(name).number_of_partitions(3)) before it, or give the topics equal partitions";

/// One key's count was split over two tasks, 1 and 1 instead of 2, and nobody said so.
#[test]
fn what_is_merged_and_kept_by_key_needs_equal_partitions() -> Result<()> {
    type Keeps = fn(&KStream<String, String>);
    let programs: [(&str, Keeps); 9] = [
        ("store `kept`", |both| drop(both.group_by_key().count("kept"))),
        ("store `kept`", |both| drop(both.filter(|_, v| v != "x").group_by_key().reduce("kept", |a, _| a))),
        ("store `kept`", |both| drop(both.group_by_key().windowed_by(TimeWindows::of(HOUR)).count("kept"))),
        ("store `kept`", |both| drop(both.group_by_key().windowed_by(SlidingWindows::of(HOUR)).count("kept"))),
        ("store `kept`", |both| drop(both.group_by_key().windowed_by(SessionWindows::of(HOUR)).count("kept"))),
        ("store `kept`", |both| drop(both.to_table("kept").filter(|_, v| v != "x").materialize("again"))),
        ("store `kept`", |both| drop(both.to_versioned_table("kept", HOUR))),
        ("cogroup `kept`", |both| {
            drop(both.group_by_key().cogroup(|_, _, n: &mut i64| *n += 1).aggregate("kept", || 0));
        }),
        ("join `kept`", |both| joined("kept", both, both)),
    ];
    for (by, keeps) in programs {
        let (b, two, three) = two_and_three();
        keeps(&two.merge(&three));
        assert_eq!(said(&b)?, format!("the topology cannot run: {by}{NOT_TOGETHER}"));
    }
    type Reads = fn(&StreamsBuilder) -> Result<KStream<String, String>>;
    let sources: [Reads; 2] = [|b| Ok(b.stream(["a", "b"])), |b| Ok(b.stream(pattern("[ab]")?))];
    for source in sources {
        let b = StreamsBuilder::new();
        b.topic("a", 2).topic("b", 3);
        source(&b)?.group_by_key().count("kept");
        assert_eq!(said(&b)?, format!("the topology cannot run: store `kept`{NOT_TOGETHER}"));
    }
    Ok(())
}

#[test]
fn what_is_merged_and_not_kept_by_the_topics_keys_does_not() -> Result<()> {
    let (b, two, three) = two_and_three();
    let both = two.merge(&three);
    both.map_values(|v| v + "!").to("out");
    // The new key goes over a topic of its own, which is as large as the largest.
    both.group_by("by-value", |_, v| v.clone()).count("values");
    b.topic("names", 4);
    both.join_global(&b.global_table("names", "names"), |key, _| Some(key.clone()), plus).to("out");
    // What is kept of each alone.
    two.group_by_key().count("of-a");
    three.group_by_key().count("of-b");
    assert_eq!(said(&b)?, "");
    Ok(())
}

/// Both ways of the help, and a repartition of one of two that takes the other's number by itself.
#[test]
fn a_repartition_brings_what_is_merged_together() -> Result<()> {
    type Mends = fn(&KStream<String, String>, &KStream<String, String>) -> KStream<String, String>;
    let mends: [Mends; 3] = [
        |two, three| two.merge(three).repartition("all"),
        |two, three| two.repartition(Repartitioned::named("a-again").number_of_partitions(3)).merge(three),
        |two, three| two.merge(&three.repartition("b-again")),
    ];
    for mend in mends {
        let (b, two, three) = two_and_three();
        mend(&two, &three).group_by_key().count("counts").to_stream().to("out");
        assert_eq!(said(&b)?, "");
        let t = TopologyTestDriver::new(b.build()?)?;
        let (two, three) = (t.input::<String, String>("a")?, t.input::<String, String>("b")?);
        let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
        for key in &keys {
            two.pipe(key.as_str(), "x");
            three.pipe(key.as_str(), "x");
        }
        let counts: BTreeMap<String, Option<i64>> = t.output("out")?.read().into_iter().collect();
        assert_eq!(counts, keys.into_iter().map(|key| (key, Some(2))).collect());
    }
    Ok(())
}

/// Two repartition topics that nobody sized are as large as the larger, since their records meet.
#[test]
fn repartition_topics_that_are_merged_and_counted_are_of_one_size() -> Result<()> {
    let (b, two, three) = two_and_three();
    two.repartition("of-a").merge(&three.repartition("of-b")).group_by_key().count("counts");
    let plan = Plan::new(&b.build()?, &RuntimeConfig::embedded("app"), &*MemoryLog::new())?;
    let own: Vec<(&str, i32)> =
        plan.create.iter().filter(|t| t.name.starts_with("app-of")).map(|t| (t.name.as_str(), t.partitions)).collect();
    assert_eq!(own, [("app-of-a-repartition", 3), ("app-of-b-repartition", 3)]);
    Ok(())
}

/// The program's own sinks show where its records go, of named topics and of those that a pattern matches.
#[test]
fn what_is_merged_and_counted_needs_one_partitioner_and_one_serde() -> Result<()> {
    let placed = |b: &StreamsBuilder| {
        let placed = Produced::of::<String, String>().partitioner(by_length);
        b.stream::<String, String>("in").to_with("placed", placed);
    };
    let b = StreamsBuilder::new();
    placed(&b);
    b.stream::<String, String>(["placed", "plain"]).group_by_key().count("counts");
    let said_of = |other: &str| {
        format!(
            "the topology cannot run: store `counts` brings topics together whose records are placed by different \
             partitioners: `placed` by by_length, `{other}` by the default\n  help: "
        )
    };
    assert!(problem(&b).starts_with(&said_of("plain")), "{}", problem(&b));

    let b = StreamsBuilder::new();
    placed(&b);
    b.stream::<String, String>("in2").to("placed-too");
    b.stream::<String, String>(pattern("placed.*")?).group_by_key().count("counts");
    assert!(problem(&b).starts_with(&said_of("placed-too")), "{}", problem(&b));

    let b = StreamsBuilder::new();
    placed(&b);
    b.stream::<String, String>("placed").group_by_key().count("counts");
    assert_eq!(problem(&b), "", "one topic with a partitioner of its own");

    let b = StreamsBuilder::new();
    let loud = b.stream_with("loud", Consumed::with(Loud, StringSerde));
    loud.merge(&b.stream("plain")).group_by_key().count("counts");
    let problem = problem(&b);
    assert!(problem.contains("store `counts` brings keys together that are written by different serdes"), "{problem}");
    Ok(())
}

struct Seen {
    rows: KeyValueStore<String, String>,
}

impl Processor for Seen {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, record: Record<String, String>, out: &mut Out<'_, String, String>) -> Result<()> {
        self.rows.put(&record.key, Some(record.value.clone()))?;
        out.forward(record)
    }
}

/// Kafka Streams runs them, and their rows may be of what they like: a warning says what a program of the records' keys misses.
#[test]
fn processors_that_share_a_store_are_warned_of_topics_that_are_not_copartitioned() -> Result<()> {
    type Rows = StoreHandle<KeyValueStore<String, String>>;
    let seen = |stream: &KStream<String, String>, name: &str, rows: &Rows| {
        let rows = *rows;
        stream.process(name, move |setup| Seen { rows: setup.store(rows) }).to("out");
    };
    let warning = format!(
        "store `rows`, which processors have,{NOT_TOGETHER}; leave it as it is if no row is looked up by a record's key"
    );
    let (b, two, three) = two_and_three();
    let rows = b.store("rows");
    seen(&two, "of-a", &rows);
    seen(&three, "of-b", &rows);
    assert_eq!(said(&b)?, warning);
    TopologyTestDriver::new(b.build()?)?.input::<String, String>("a")?.pipe("k", "v");

    let (b, two, three) = two_and_three();
    seen(&two.merge(&three), "both", &b.store("rows"));
    assert_eq!(said(&b)?, warning);

    // A store for each says nothing; one that is read from a topic is where that topic's keys are.
    let b = StreamsBuilder::new();
    b.topic("a", 2).topic("b", 3).topic("out", 1);
    seen(&b.stream("a"), "of-a", &b.store("alone"));
    assert_eq!(said(&b)?, "");
    seen(&b.stream("a"), "reads", &b.read_only_store("b", "rows"));
    assert_eq!(said(&b)?, warning);
    Ok(())
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

/// It was heard by the foreign-key join alone.
#[test]
fn what_a_foreign_key_join_says_of_a_table_counts_where_that_is_joined_with_others() {
    fn by_letter(town: &String, partitions: i32) -> i32 {
        town.bytes().next().map_or(0, i32::from) % partitions
    }
    let of = |placed: Option<Produced<StringSerde, StringSerde>>, beside_first: bool| {
        let b = StreamsBuilder::new();
        if let Some(placed) = placed {
            b.stream::<String, String>("elections").to_with("mayors", placed);
        }
        let [people, towns, mayors] =
            ["people", "towns", "mayors"].map(|topic| b.table::<String, String>(topic, topic));
        let beside = || mayors.join(&towns, plus).to_stream().to("beside");
        if beside_first {
            beside();
        }
        let homes = TableJoined::named("homes").other_partitioner(by_letter);
        people.join_on(homes, &towns, |town| Some(town.clone()), plus).to_stream().to("out");
        if !beside_first {
            beside();
        }
        problem(&b)
    };
    let produced = Produced::of::<String, String>;
    for beside_first in [true, false] {
        let denied = of(Some(produced()), beside_first);
        let wanted =
            "whose records are placed by different partitioners: `towns` by by_letter, `mayors` by the default\n";
        assert!(denied.contains(wanted), "{denied}");
        assert_eq!(of(Some(produced().partitioner(by_key_length)), beside_first), "");
        assert_eq!(of(None, beside_first), "");
    }
}

/// Each was compared with the default partitioner alone.
#[test]
fn two_foreign_key_joins_say_the_same_of_a_table() {
    fn by_letter(town: &String, partitions: i32) -> i32 {
        town.bytes().next().map_or(0, i32::from) % partitions
    }
    fn by_size(town: &String, partitions: i32) -> i32 {
        town.len() as i32 % partitions
    }
    let of = |first: TableJoined<String>, second: TableJoined<String>| {
        let b = StreamsBuilder::new();
        let [people, dogs, towns] = ["people", "dogs", "towns"].map(|topic| b.table::<String, String>(topic, topic));
        people.join_on(first, &towns, |town| Some(town.clone()), plus).to_stream().to("homes");
        dogs.join_on(second, &towns, |town| Some(town.clone()), plus).to_stream().to("kennels");
        problem(&b)
    };
    let said = |name: &str| TableJoined::named(name);
    assert_eq!(of(said("a").other_partitioner(by_letter), said("b").other_partitioner(by_letter)), "");
    let one = of(said("a").other_partitioner(by_letter), said("b").other_partitioner(by_size));
    assert!(one.contains("`towns` by by_letter and by_size"), "{one}");
    let other = of(said("a").other_partitioner(by_letter), said("b").other_partitioner(|town, n| by_size(town, n + 1)));
    let closure = "a closure in two_foreign_key_joins_say_the_same_of_a_table";
    assert!(other.contains(&format!("`towns` by by_letter and {closure}")), "{other}");
    // Of what has captured something nothing is known.
    let seed = 7;
    let unknown = move |town: &String, n: i32| (by_size(town, n) + seed) % n;
    assert_eq!(of(said("a").other_partitioner(by_letter), said("b").other_partitioner(unknown)), "");
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

/// Repartition topics of the sizes of these sources, of keys that nobody has changed but might.
fn rekeyed(b: &StreamsBuilder, name: &str, partitions: i32) -> KTable<String, String> {
    let source = format!("{name}-source");
    b.topic(&source, partitions).stream::<String, String>(source.as_str()).select_key(|k, _| k.clone()).to_table(name)
}

/// Whether a program started depended on the order of its joins.
#[test]
fn joins_that_have_a_topic_in_common_give_all_of_theirs_one_size() -> Result<()> {
    for sizes in [[4, 1, 1], [1, 1, 4], [1, 4, 1]] {
        for turned in [false, true] {
            let b = StreamsBuilder::new();
            let [x, y, z] = [("x", sizes[0]), ("y", sizes[1]), ("z", sizes[2])].map(|(name, n)| rekeyed(&b, name, n));
            let xy = || x.join(&y, plus).to_stream().to("xy");
            let yz = || y.join(&z, plus).to_stream().to("yz");
            if turned {
                yz();
                xy();
            } else {
                xy();
                yz();
            }
            assert_eq!(said(&b)?, "", "{sizes:?}, the other way round: {turned}");
        }
    }
    Ok(())
}

/// A foreign-key join's own topics go with those of the join beside it.
#[test]
fn so_do_foreign_key_joins_and_joins_with_topics_of_users() -> Result<()> {
    for (table, grouped, user) in [(1, 3, 3), (3, 1, 1), (1, 3, 1), (3, 3, 1), (2, 1, 3)] {
        let b = StreamsBuilder::new();
        let (left, beside) = (rekeyed(&b, "left", table), rekeyed(&b, "beside", table));
        let other = b.topic("rows", grouped).table::<String, String>("rows", "rows");
        let other = other.group_by("g", |_, v| (v.clone(), v)).reduce("sums", |a, b| a + &b, |a, _| a);
        let users = b.topic("user", user).table::<String, String>("user", "user");
        left.join(&beside, plus).to_stream().to("beside-out");
        left.left_join_on("homes", &other, |v| Some(v.clone()), |v, _| v.clone()).to_stream().to("homes-out");
        other.outer_join(&users, |a, b| format!("{a:?} {b:?}")).to_stream().to("users-out");
        assert_eq!(said(&b)?, "", "{table} {grouped} {user}");
    }
    Ok(())
}
