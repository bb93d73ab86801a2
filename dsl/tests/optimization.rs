//! By choice a program does without topics that hold what another one holds: with the same results, under the same names.

use millstream_core::{Record, Result, RuntimeConfig, StringSerde, Topology};
use millstream_dsl::{Consumed, HOUR, KStream, Optimization, StreamsBuilder, TopologyTestDriver, event_time, kv};

fn optimized() -> StreamsBuilder {
    let b = StreamsBuilder::new();
    b.optimize(Optimization::ALL);
    b
}

/// Names of the repartition topics, then of the stores that have changelogs.
fn topics(topology: &Topology) -> (Vec<&str>, Vec<&str>) {
    let changelogs = topology.stores().iter().filter(|s| s.changelog.is_some());
    (topology.repartitions().iter().map(|r| r.name.as_str()).collect(), changelogs.map(|s| s.name.as_str()).collect())
}

/// A table, a table with event time of its own, one with a history, and an aggregate of a table.
fn tables(b: &StreamsBuilder) -> Result<Topology> {
    b.table::<String, String>("names", "names").to_stream().to("out");
    let timed = Consumed::with(StringSerde, StringSerde).timestamps(event_time(|_, _| 7));
    b.table_with("timed", "timed", timed);
    b.versioned_table::<String, String>("versions", "versions", HOUR);
    b.table::<String, String>("words", "words").group_by("by-word", |k, w| (w, k.clone())).count("counts");
    b.build()
}

#[test]
fn only_tables_that_are_their_topic_do_without_a_changelog() -> Result<()> {
    assert_eq!(topics(&tables(&StreamsBuilder::new())?).1, ["names", "timed", "versions", "words", "counts"]);
    assert_eq!(topics(&tables(&optimized())?).1, ["timed", "versions", "counts"]);
    Ok(())
}

/// Null keys make no rows, null values delete them, and what cannot be decoded was left out before, too.
#[test]
fn such_a_table_comes_back_from_its_topic() -> Result<()> {
    let b = optimized();
    b.topic("names", 2);
    let names = b.table::<String, i64>("names", "names");
    b.stream::<String, String>("asks").join_table("asked", &names, |_, n| *n).to("out");
    let handler = millstream_core::ExceptionHandler::Skip;
    let config = RuntimeConfig { undecodable: handler, ..RuntimeConfig::embedded("test") };
    b.topic("asks", 2).stream::<String, String>("raw").to_dynamic(|_, _, _| "names".to_owned());
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let names = t.input::<Option<String>, Option<i64>>("names")?;
    for (key, value) in [("a", Some(1)), ("b", Some(2)), ("c", Some(3)), ("a", Some(4)), ("b", None)] {
        names.pipe(Some(key.to_owned()), value);
    }
    names.pipe(None, Some(5));
    t.input::<String, String>("raw")?.pipe("c", "no number");
    t.restart()?;
    let asks = t.input::<String, String>("asks")?;
    for key in ["a", "b", "c"] {
        asks.pipe(key, "?");
    }
    let mut answers = t.output::<String, i64>("out")?.read();
    answers.sort();
    assert_eq!(answers, [kv("a", 4), kv("c", 3)]);
    assert_eq!(t.counters().restore, 5);
    Ok(())
}

/// What the topic holds beyond the committed position is not a row yet: its change is still to come.
#[test]
fn such_a_table_comes_back_no_further_than_it_was() -> Result<()> {
    let b = optimized();
    let words = b.table::<String, String>("words", "words");
    words.group_by("by-word", |k, word| (word, k.clone())).count("counts").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let words = t.input::<String, String>("words")?;
    words.pipe("k", "before");
    words.enqueue(Record::new("k".into(), "after".into(), 1))?;
    t.restart()?;
    let out = t.output::<String, Option<i64>>("out")?.read();
    assert_eq!(out, [kv("before", Some(1)), kv("before", Some(0)), kv("after", Some(1))]);
    Ok(())
}

/// `count`, `reduce` and a windowed count of one stream by its new key.
fn grouped(b: &StreamsBuilder) -> Result<Topology> {
    let words: KStream<String, String> = b.stream::<String, String>("in").select_key(|_, word| word.clone());
    words.group_by_key().count("counts").to_stream().to("counted");
    words.group_by_key().reduce("longest", |a, b| a.max(b)).to_stream().to("reduced");
    let grouped = words.group_by_key();
    grouped.aggregate("lengths", || 0_i64, |_, word, sum| *sum += word.len() as i64).to_stream().to("summed");
    b.build()
}

#[test]
fn groupings_by_one_new_key_share_the_first_ones_topic() -> Result<()> {
    assert_eq!(topics(&grouped(&StreamsBuilder::new())?).0, ["counts", "longest", "lengths"]);
    assert_eq!(topics(&grouped(&optimized())?).0, ["counts"]);
    Ok(())
}

/// Aggregations leave null keys out by their type, inner joins by a filter, and left joins take them.
#[test]
fn joins_of_one_new_key_share_a_topic_with_their_like() -> Result<()> {
    let joined = |b: StreamsBuilder| -> Result<Topology> {
        let names = b.table::<String, String>("names", "names");
        let words: KStream<String, String> = b.stream::<String, String>("in").select_key(|_, word| word.clone());
        words.join_table("first", &names, |word, name| format!("{word} {name}")).to("out");
        words.join_table("second", &names, |word, name| format!("{name} {word}")).to("out");
        words.left_join_table("third", &names, |word, _| word.clone()).to("out");
        words.to_table("fourth");
        b.build()
    };
    assert_eq!(topics(&joined(StreamsBuilder::new())?).0, ["first", "second", "third", "fourth"]);
    assert_eq!(topics(&joined(optimized())?).0, ["first", "third"]);
    Ok(())
}

#[test]
fn what_comes_out_is_the_same() -> Result<()> {
    let run = |topology: Topology| -> Result<_> {
        let t = TopologyTestDriver::new(topology)?;
        let words = t.input::<String, String>("in")?;
        for word in ["b", "aa", "b", "ccc", "aa", "b"] {
            words.pipe("k", word);
        }
        t.restart()?;
        words.pipe("k", "aa");
        let outs = ["counted", "reduced", "summed"];
        let read = |topic: &&str| t.output::<String, Option<i64>>(topic).map(|out| out.read());
        let counted = (read(&outs[0])?, read(&outs[2])?);
        Ok((counted, t.output::<String, Option<String>>(outs[1])?.read()))
    };
    let plain = run(grouped(&StreamsBuilder::new())?)?;
    assert_eq!(plain.0.0.last(), Some(&kv("aa", Some(3))));
    assert_eq!(run(grouped(&optimized())?)?, plain);
    Ok(())
}

/// Another key, another stream, or a repartition that was asked for: another topic.
#[test]
fn nothing_else_shares_a_topic() -> Result<()> {
    let b = optimized();
    let words: KStream<String, String> = b.stream::<String, String>("in").select_key(|_, word| word.clone());
    words.group_by_key().count("counts");
    words.filter(|_, word| word.len() > 1).group_by_key().count("long");
    words.select_key(|_, word| word.clone()).group_by_key().count("again");
    words.group_by("by-length", |_, word| word.len() as i64).count("lengths");
    words.repartition("asked-for").group_by_key().count("asked");
    let parts = words.split("").branch("short", |_, word| word.len() < 3).default_branch("rest");
    for (name, branch) in parts {
        branch.group_by_key().count(&format!("count-{name}"));
    }
    let repartitions =
        ["counts", "long", "again", "by-length", "asked-for", "count-rest", "count-short"].map(str::to_owned);
    assert_eq!(topics(&b.build()?).0, repartitions);
    Ok(())
}

#[test]
fn optimizing_comes_first() {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").to("out");
    b.optimize([Optimization::MergeRepartitions]);
    assert_eq!(
        b.build().err().map(|error| error.to_string()).unwrap_or_default(),
        "the topology cannot run: the program is optimized after its first operator\n  \
         help: call .optimize(…) right after StreamsBuilder::new()"
    );
}
