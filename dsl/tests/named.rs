//! The name that a program gives the node of an operator is what people are told, wherever they are told of it; nothing that is
//! kept, and no other node, is called otherwise for it.

use std::sync::{Arc, Mutex};

use millstream_core::{
    Error, ErrorHandlerContext, ExceptionHandler, HandlerResponse, Record, Result, RuntimeConfig, Topology,
};
use millstream_dsl::{JoinWindows, KStream, KTable, SECOND, StreamsBuilder, TopologyTestDriver, kv};

const NAMES: [(&str, &str); 6] = [
    ("KSTREAM-SOURCE-0000000000", "orders"),
    ("KSTREAM-MAPVALUES-0000000001", "parse"),
    ("KSTREAM-JOIN-0000000003", "pairs"),
    ("KSTREAM-SOURCE-0000000006", "moved"),
    ("KSTREAM-AGGREGATE-0000000008", "count-them"),
    ("KTABLE-FILTER-0000000009", "some.of_them"),
];

/// A program with these nodes, each named if it is to be.
fn program(is_named: bool) -> Result<Topology> {
    let b = StreamsBuilder::new();
    let name = |number: usize| NAMES[number].1;
    let stream = |stream: KStream<String, i64>, number| if is_named { stream.named(name(number)) } else { stream };
    let table = |table: KTable<String, i64>, number| if is_named { table.named(name(number)) } else { table };
    let orders = b.stream::<String, String>("in");
    let orders = if is_named { orders.named(name(0)) } else { orders };
    let numbers = stream(orders.try_map_values(|text| text.parse::<i64>()), 1);
    let pairs = numbers.join("pairs", &b.stream::<String, i64>("other"), JoinWindows::of(SECOND), |l, r| l + r);
    let moved = stream(stream(pairs, 2).map(|k, n| (k, n)).repartition("moved"), 3);
    let counts = table(moved.group_by_key().count("counts"), 4);
    table(counts.filter(|_, n| *n > 1), 5).to_stream().to("out");
    b.build()
}

#[test]
fn descriptions_have_the_names_and_differ_in_nothing_else() -> Result<()> {
    let (named, numbered) = (program(true)?, program(false)?);
    for show in [Topology::describe, Topology::mermaid, Topology::json] {
        let wanted = NAMES.iter().fold(show(&numbered), |text, (number, name)| {
            assert!(text.contains(number), "{number} in {text}");
            text.replace(number, name)
        });
        assert_eq!(show(&named), wanted);
    }
    Ok(())
}

#[test]
fn errors_handlers_and_dead_letters_say_the_name() -> Result<()> {
    let driver = |processing| {
        TopologyTestDriver::with_config(program(true)?, RuntimeConfig { processing, ..RuntimeConfig::embedded("test") })
    };
    let bad = || Record::new("k".to_owned(), "x".to_owned(), 0);
    let t = driver(ExceptionHandler::Fail)?;
    let error = t.input::<String, String>("in")?.try_pipe(bad()).expect_err("it fails").to_string();
    assert!(error.starts_with("parse failed in task 0_0 at in-0@0: invalid digit"), "{error}");

    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let t = driver(ExceptionHandler::new(move |context: &ErrorHandlerContext<'_>| {
        tell.lock().expect("no panics").push(context.node.to_owned());
        HandlerResponse::Continue
    }))?;
    t.input::<String, String>("in")?.try_pipe(bad())?;
    assert_eq!(*told.lock().expect("no panics"), ["parse"]);

    let t = driver(ExceptionHandler::DeadLetter("letters".into()))?;
    t.input::<String, String>("in")?.try_pipe(bad())?;
    let letters = t.output::<String, String>("letters")?.read_records();
    let says = letters.iter().map(|letter| letter.headers.last("__streams.errors.stacktrace").map(<[u8]>::to_vec));
    assert_eq!(says.collect::<Vec<_>>(), [Some(b"at parse (task 0_0)".to_vec())]);
    Ok(())
}

/// Upstream has two namespaces as well: processors are called what they are called, and so are stores.
#[test]
fn a_node_may_be_called_as_a_store_is() -> Result<()> {
    let b = StreamsBuilder::new();
    let counts = b.stream::<String, String>("in").named("in").group_by_key().count("counts").named("counts");
    // Once more the same name is the same name.
    counts.named("counts").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("in")?.pipe("a", "x");
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), [kv("a", Some(1))]);
    Ok(())
}

fn problems(b: &StreamsBuilder) -> Vec<String> {
    match b.build() {
        Ok(_) => Vec::new(),
        Err(Error::Build(problems)) => *problems,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn names_that_cannot_be_are_refused_with_all_other_problems() {
    let b = StreamsBuilder::new();
    let texts = b.stream::<String, String>("in");
    let long = "n".repeat(250);
    for name in ["", ".", "..", "a b", "é", &long] {
        texts.filter(|_, _| true).named(name);
    }
    for name in ["-", "...", &long[1..], "a-Z_0.9"] {
        texts.filter(|_, _| true).named(name);
    }
    let help = "help: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, not `.` or `..` alone";
    let wanted = ["", ".", "..", "a b", "é", &long].map(|name| format!("`{name}` cannot name a node\n  {help}"));
    assert_eq!(problems(&b), wanted);
}

#[test]
fn a_name_is_one_nodes_and_a_node_has_one_name() {
    let b = StreamsBuilder::new();
    let texts = b.stream::<String, String>("in").named("texts");
    texts.filter(|_, _| true).named("same");
    texts.peek(|_, _| {}).named("same");
    // That of a node which is still to come.
    texts.named("texts").map_values(|text| text).named("KSTREAM-FILTER-0000000004");
    texts.filter(|_, _| true);
    // A source that two streams share has the name of the first.
    b.stream::<String, String>("in").named("others");
    let used = |name| {
        let help = "help: give each operator a name of its own";
        format!("the name `{name}` is used for a node and again for a node\n  {help}")
    };
    let again = "node `texts` is named again, `others`\n  help: name it once".to_owned();
    assert_eq!(problems(&b), [again, used("KSTREAM-FILTER-0000000004"), used("same")]);
}
