//! A source reads the topics that it names, all partitions of each and no other; what cannot be meant is refused.

use millstream_core::{Error, ErrorHandlerContext, ExceptionHandler, HandlerResponse, Record, Result, RuntimeConfig};
use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv, pattern};

fn text<T>(result: Result<T>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn a_list_of_topics_is_read_in_all_partitions_of_each() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("a", 1).topic("b", 2).topic("out", 1);
    b.stream::<String, String>(["a", "b"]).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (first, second) = (t.input::<String, String>("a")?, t.input::<String, String>("b")?);
    let out = t.output::<String, String>("out")?;
    first.pipe("k", "from a");
    // The first of these keys belongs to partition 0, the second to 1.
    for key in ["foobar", "abc"] {
        second.pipe(key, "from b");
    }
    assert_eq!(out.read(), [kv("k", "from a"), kv("foobar", "from b"), kv("abc", "from b")]);
    Ok(())
}

#[test]
fn a_pattern_reads_what_it_matches_as_a_whole() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("orders-eu", 2).topic("orders-us", 1).topic("old-orders-eu", 1).topic("orders-eu-2", 1).topic("eu", 1);
    // Either branch may be the one that matches the whole name: the first that matches a part of it is not enough.
    b.stream::<String, String>(pattern("orders-(e|eu|us)|eu.")?).to("out");
    for topic in ["old-orders-eu", "orders-eu-2", "eu"] {
        b.stream::<String, String>(topic).filter(|_, _| false).to("nowhere");
    }
    let t = TopologyTestDriver::new(b.build()?)?;
    let out = t.output::<String, String>("out")?;
    for topic in ["orders-eu", "old-orders-eu", "orders-us", "orders-eu-2", "eu"] {
        for key in ["foobar", "abc"] {
            t.input::<String, String>(topic)?.pipe(key, topic);
        }
    }
    let read = [kv("foobar", "orders-eu"), kv("abc", "orders-eu"), kv("foobar", "orders-us"), kv("abc", "orders-us")];
    assert_eq!(out.read(), read);
    assert!(text(t.input::<String, String>("orders-fr")).contains("the program has no source `orders-fr`"));
    Ok(())
}

#[test]
fn a_pattern_that_matches_nothing_says_so() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("order", 1);
    b.stream::<String, String>(pattern("orders-.*")?).to("out");
    let text = text(TopologyTestDriver::new(b.build()?));
    for part in ["no topic matches the pattern `orders-.*`", "help: ", ".topic(name, partitions)"] {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn a_pattern_that_cannot_be_read_is_named() {
    for wrong in ["orders-(", "a)(b", "*"] {
        assert!(text(pattern(wrong)).contains(&format!("topic pattern `{wrong}`: ")), "{wrong}");
    }
}

/// Kafka Streams: "Topic … has already been matched for another source".
#[test]
fn a_topic_is_not_read_by_a_pattern_and_again_by_another_source() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("orders-eu", 1).topic("orders-us", 1);
    b.stream::<String, String>("orders-eu").to("out");
    b.stream::<String, String>(pattern("orders-.*")?).to("out");
    b.stream::<String, String>(pattern(".*-us")?).to("out");
    let text = text(TopologyTestDriver::new(b.build()?));
    for part in [
        "2 problems",
        "topic `orders-eu` is read twice: by its name, by the pattern `orders-.*`",
        "topic `orders-us` is read twice: by the pattern `orders-.*`, by the pattern `.*-us`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn a_list_names_at_least_one_topic_and_none_twice() {
    let b = StreamsBuilder::new();
    b.stream::<String, String>([]).to("out");
    b.stream::<String, String>(["in", "in"]).to("out");
    let error = b.build().err();
    assert!(matches!(&error, Some(Error::Build(problems)) if problems.len() == 2), "{error:?}");
    let text = error.map(|e| e.to_string()).unwrap_or_default();
    for part in ["a source is given no topics", "topic `in` is named twice in one source"] {
        assert!(text.contains(part), "{text}");
    }
}

/// A pattern that is streamed twice was refused: its topics were read twice.
#[test]
fn a_pattern_that_is_streamed_twice_is_read_once() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("orders-eu", 1);
    for out in ["out", "other"] {
        b.stream::<String, String>(pattern("orders-.*")?).to(out);
    }
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("orders-eu")?.pipe("k", "v");
    for out in ["out", "other"] {
        assert_eq!(t.output::<String, String>(out)?.read(), [kv("k", "v")]);
    }
    Ok(())
}

/// What a start of the program refuses.
fn refused(program: impl FnOnce(&StreamsBuilder), config: RuntimeConfig) -> String {
    let b = StreamsBuilder::new();
    program(&b);
    text(b.build().and_then(|topology| TopologyTestDriver::with_config(topology, config)))
}

/// It ran, and no later start could read its own state.
#[test]
fn a_topic_of_the_programs_is_none_of_the_applications_own() {
    let own = |topic: &str| {
        format!(
            "the topology cannot run: topic `{topic}` is one of the application's own, for its state or for records on their \
             way, and the program names it too\n  help: give the program's topic another name"
        )
    };
    let app = || RuntimeConfig::embedded("app");
    let counts =
        |b: &StreamsBuilder| b.stream::<String, i64>("in").group_by("by-n", |_, n| *n).count("counts").to_stream();
    assert_eq!(refused(|b| counts(b).to("app-counts-changelog"), app()), own("app-counts-changelog"));
    assert_eq!(refused(|b| counts(b).to("app-by-n-repartition"), app()), own("app-by-n-repartition"));
    assert_eq!(refused(|b| counts(b).to("app-topology"), app()), own("app-topology"));
    let reads = |b: &StreamsBuilder| {
        counts(b).to("out");
        b.stream::<i64, i64>("app-counts-changelog").to("copy");
    };
    assert_eq!(refused(reads, app()), own("app-counts-changelog"));
    let declares = |b: &StreamsBuilder| {
        b.topic("app-counts-changelog", 1);
        counts(b).to("out");
    };
    assert_eq!(refused(declares, app()), own("app-counts-changelog"));
    let letters = ExceptionHandler::DeadLetter("app-counts-changelog".to_owned());
    assert_eq!(
        refused(|b| counts(b).to("out"), RuntimeConfig { production: letters, ..app() }),
        own("app-counts-changelog")
    );
    // Another application's are any topics.
    assert_eq!(refused(|b| counts(b).to("app-counts-changelog"), RuntimeConfig::embedded("other")), "");
}

/// It ran, and no later start could read its own state.
#[test]
fn nor_is_one_that_is_named_while_running() -> Result<()> {
    for own in ["test-counts-changelog", "test-by-v-repartition"] {
        let b = StreamsBuilder::new();
        let input = b.stream::<String, String>("in");
        input.group_by("by-v", |_, v| v.clone()).count("counts");
        input.to_dynamic(|_, topic, _| topic.clone());
        b.topic("out", 1);
        let t = TopologyTestDriver::new(b.build()?)?;
        let input = t.input::<String, String>("in")?;
        input.pipe("k", "out");
        let refused = input.try_pipe(Record::new("k".into(), own.into(), 0));
        let wanted =
            format!("topic `{own}` is one of the application's own, for its state or for records on their way");
        assert!(text(refused).contains(&wanted), "{own}");
        assert_eq!(t.output::<String, String>("out")?.read(), [kv("k", "out")]);
    }
    // A letter neither.
    let to_state = |failed: &ErrorHandlerContext<'_>| {
        HandlerResponse::ContinueWith(vec![failed.dead_letter("test-counts-changelog")])
    };
    let config = RuntimeConfig { processing: ExceptionHandler::new(to_state), ..RuntimeConfig::embedded("test") };
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").try_filter(|_, v| v.parse::<bool>()).group_by_key().count("counts");
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    let refused = text(t.input::<String, String>("in")?.try_pipe(Record::new("k".into(), "maybe".into(), 0)));
    assert!(refused.contains("topic `test-counts-changelog` is one of the application's own"), "{refused}");
    Ok(())
}

#[test]
fn a_name_of_an_internal_topic_that_is_too_long_is_refused_before_any_topic_is_created() {
    let (id, store) = ("a".repeat(200), "s".repeat(40));
    let counts = |b: &StreamsBuilder| drop(b.stream::<String, i64>("in").group_by_key().count(&store));
    let name = format!("{id}-{store}-changelog");
    assert_eq!(
        refused(counts, RuntimeConfig::embedded(&id)),
        format!(
            "the topology cannot run: internal topic `{name}` would have a name of 251 characters, and a log takes 249\n  help: a \
             shorter application.id, or a shorter name of the operator"
        )
    );
}

/// A letter that failed as its record had became a letter, without an end.
#[test]
fn dead_letters_do_not_go_to_what_the_program_reads() -> Result<()> {
    let to = |topic: &str| RuntimeConfig {
        undecodable: ExceptionHandler::DeadLetter(topic.to_owned()),
        ..RuntimeConfig::embedded("app")
    };
    let copies = |b: &StreamsBuilder| b.stream::<String, i64>("in").to("out");
    let wanted = "the topology cannot run: dead letters go to topic `in`, which the program reads: it would write one for a letter that \
                  fails, without an end\n  help: name another topic in errors.dead.letter.queue.topic.name, or decide in an \
                  ExceptionHandler of the program's, by the record's topic";
    assert_eq!(refused(copies, to("in")), wanted);
    let all = pattern("[a-z]+")?;
    let by_pattern = refused(move |b| b.stream::<String, i64>(all).to("OUT"), to("letters"));
    assert!(by_pattern.contains("dead letters go to topic `letters`, which the program reads"), "{by_pattern}");
    assert_eq!(refused(copies, to("out")), "");
    // A global table would take them for its rows.
    let looks = |b: &StreamsBuilder| {
        copies(b);
        b.global_table::<String, i64>("letters", "letters");
    };
    let wanted = "the topology cannot run: dead letters go to topic `letters`, whose records are rows of a global store of the \
                  program\n  help: name another topic in errors.dead.letter.queue.topic.name";
    assert_eq!(refused(looks, to("letters")), wanted);
    Ok(())
}
