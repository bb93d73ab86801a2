//! A program starts on the state that it left itself, and on no other: the start names every difference, and changes nothing.

use std::time::Duration;

use millstream_core::{Admin, Compatibility, Error, Record, Result, RuntimeConfig, Settings, TopicPartition, Topology};
use millstream_dsl::{
    BufferConfig, Clock, GroupedStream, HOUR, JoinWindows, KStream, MIN, Materialized, Optimization, Out, Processor,
    Repartitioned, StreamsBuilder, TableJoined, TimeWindows, pattern,
};
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;

fn config() -> RuntimeConfig {
    RuntimeConfig::embedded("app")
}

fn ignoring() -> RuntimeConfig {
    RuntimeConfig { compatibility: Compatibility::Ignore, ..config() }
}

/// What `add` makes of the words.
fn program(add: impl Fn(&StreamsBuilder, &KStream<String, String>)) -> Result<Topology> {
    let b = StreamsBuilder::new();
    add(&b, &b.stream("words"));
    b.build()
}

fn counting(store: &str) -> Result<Topology> {
    program(|_, words| words.group_by_key().count(store).to_stream().to("out"))
}

fn windowed(size: Duration, retention: Duration) -> Result<Topology> {
    let windows = TimeWindows::of(size);
    program(|_, words| drop(words.group_by_key().windowed_by(windows).retention(retention).count("counts")))
}

/// A log on which a program has processed two words.
fn after(topology: Topology) -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    embedded.create("words", 1)?;
    embedded.write("words", 0, &[(1, Some("a"), "x"), (2, Some("b"), "x")])?;
    embedded.streams(topology, config())?.run_to_end()?;
    Ok(embedded)
}

/// What a start of a program says.
fn said(embedded: &Embedded, topology: Topology) -> String {
    embedded.streams(topology, config()).err().map(|error| error.to_string()).unwrap_or_default()
}

/// What the application has written down of itself, in order.
fn written(embedded: &Embedded) -> Result<Vec<(String, Option<String>)>> {
    Ok(embedded.read("app-topology")?.concat())
}

fn text(key: &str, value: &str) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_owned()))
}

#[test]
fn the_same_program_goes_on_and_writes_nothing_again() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    let wanted = [
        text(
            "counts-changelog",
            "inputs=words\nkey=StringSerde\nkind=key-value\npartitioner=default\ntopics=words\nvalue=NumberSerde<i64>\n",
        ),
        text("format", "1"),
    ];
    assert_eq!(written(&embedded)?, wanted);
    embedded.write("words", 0, &[(3, Some("a"), "x")])?;
    embedded.streams(counting("counts")?, config())?.run_to_end()?;
    assert_eq!(written(&embedded)?, wanted);
    let counts = embedded.read::<String, i64>("out")?.concat();
    assert_eq!(counts, [("a".into(), 1), ("b".into(), 1), ("a".into(), 2)]);
    Ok(())
}

#[test]
fn what_keeps_nothing_writes_nothing() -> Result<()> {
    let embedded = after(program(|_, words| words.to("out"))?)?;
    assert_eq!(embedded.log.partitions("app-topology")?, None);
    Ok(())
}

#[test]
fn stores_may_be_added() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    let more = program(|_, words| {
        words.group_by("by-word", |_, word| word.clone()).count("words").to_stream().to("words-out");
        words.group_by_key().count("counts").to_stream().to("out");
    })?;
    embedded.streams(more, config())?.run_to_end()?;
    let keys: Vec<String> = written(&embedded)?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["counts-changelog", "format", "by-word-repartition", "words-changelog", "format"]);
    Ok(())
}

#[test]
fn a_renamed_store_is_noticed_before_a_topic_is_created() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    let before = embedded.log.topics()?;
    assert_eq!(
        said(&embedded, counting("totals")?),
        "the topology cannot run: store `counts` is no longer in the program, and its changelog holds rows\n  \
         help: if `totals` is its new name, keep the old one; if its rows are to be left behind, start once with \
         topology.compatibility=ignore"
    );
    assert_eq!(embedded.log.topics()?, before);
    Ok(())
}

/// Left behind once, its rows are not taken up again: they have missed what came since.
#[test]
fn a_store_that_was_left_behind_does_not_come_back() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    embedded.streams(counting("totals")?, ignoring())?.run_to_end()?;
    embedded.streams(counting("totals")?, config())?.run_to_end()?;
    let both = program(|_, words| {
        words.group_by_key().count("totals").to_stream().to("out");
        words.group_by_key().count("counts").to_stream().to("out");
    })?;
    assert_eq!(
        said(&embedded, both),
        "the topology cannot run: store `counts` comes back, and its changelog holds the rows of the time before it was \
         left out\n  help: give the store another name and start once with topology.compatibility=ignore, \
         to begin without rows, or the application another application.id; \
         to go back, keep what `counts` was"
    );
    Ok(())
}

#[test]
fn every_difference_is_in_one_error() -> Result<()> {
    let embedded = after(windowed(MIN, HOUR)?)?;
    let afresh = "give the store another name and start once with topology.compatibility=ignore, \
        to begin without rows, or the application another application.id; \
                  to go back, keep what `counts` was";
    assert_eq!(
        said(&embedded, windowed(2 * MIN, 2 * HOUR)?),
        format!(
            "the topology cannot run, 2 problems:\n\
             - store `counts`: window.advance.ms `120000` now, its changelog was written with `60000`\n  help: {afresh}\n\
             - store `counts`: window.size.ms `120000` now, its changelog was written with `60000`\n  help: {afresh}"
        )
    );
    Ok(())
}

/// The changelog's topic follows: the embedded log has no other way to set its retention.
#[test]
fn a_store_may_keep_its_rows_for_longer() -> Result<()> {
    let embedded = after(windowed(MIN, HOUR)?)?;
    let retention =
        || embedded.log.topic_config("app-counts-changelog").and_then(|config| config.get("retention.ms").cloned());
    assert_eq!(retention().as_deref(), Some("90000000"));
    embedded.streams(windowed(MIN, 2 * HOUR)?, config())?.run_to_end()?;
    assert_eq!(retention().as_deref(), Some("93600000"));
    // Less long again: what is there is left as it is, and longer once more is longer than it is.
    embedded.streams(windowed(MIN, HOUR)?, config())?.run_to_end()?;
    assert_eq!(retention().as_deref(), Some("93600000"));
    embedded.streams(windowed(MIN, 3 * HOUR)?, config())?.run_to_end()?;
    assert_eq!(retention().as_deref(), Some("97200000"));
    Ok(())
}

/// Rows that are kept for longer than they are needed do no harm.
#[test]
fn a_store_may_keep_its_rows_for_less_long() -> Result<()> {
    let embedded = after(windowed(MIN, 2 * HOUR)?)?;
    assert_eq!(said(&embedded, windowed(MIN, HOUR)?), "");
    Ok(())
}

#[test]
fn kind_and_types_of_a_store_stay() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    let changes: [(Topology, &[&str]); 4] = [
        (
            program(|_, words| drop(words.to_table("counts")))?,
            &["has values by `StringSerde` now, its changelog was written with `NumberSerde<i64>`"],
        ),
        (
            program(|_, words| drop(words.map(|_, v| (1_i64, v)).group_by("by-one", |k, _| *k).count("counts")))?,
            &["has keys by `NumberSerde<i64>` now, its changelog was written with `StringSerde`"],
        ),
        (
            program(|_, words| drop(words.to_versioned_table("counts", HOUR)))?,
            &[
                "is of the kind `versioned` now, its changelog was written with `key-value`",
                "has values by `StringSerde` now, its changelog was written with `NumberSerde<i64>`",
            ],
        ),
        (
            program(|b, _| drop(b.stream::<String, String>("others").group_by_key().count("counts")))?,
            &["is made from `others` now, its changelog was written with `words`"],
        ),
    ];
    for (changed, wanted) in changes {
        let said = said(&embedded, changed);
        assert!(!said.contains("nothing\n"), "{said}");
        for wanted in wanted {
            assert!(said.contains(&format!("store `counts`: {wanted}\n  help: ")), "{said}");
            let help = said.lines().skip_while(|line| !line.contains(wanted)).nth(1).unwrap_or_default();
            assert_eq!(
                help.ends_with(", start once with topology.compatibility=ignore"),
                !wanted.contains("kind"),
                "{said}"
            );
        }
        assert_eq!(said.matches("store `counts`: ").count(), wanted.len(), "{said}");
    }
    Ok(())
}

type Words = KStream<String, String>;

/// How two streams are joined as `paid`.
type Joins = fn(&Words, &Words);

const JOINS: [Joins; 3] = [
    |left, right| left.join("paid", right, JoinWindows::of(MIN), |l, r| format!("{l}+{r}")).to("out"),
    |left, right| left.left_join("paid", right, JoinWindows::of(MIN), |l, r| format!("{l}+{r:?}")).to("out"),
    |left, right| left.outer_join("paid", right, JoinWindows::of(MIN), |l, r| format!("{l:?}+{r:?}")).to("out"),
];

/// A log with an order on it, on which a program has run.
fn after_an_order(topology: Topology) -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    for topic in ["orders", "payments", "refunds"] {
        embedded.create(topic, 1)?;
    }
    embedded.write("orders", 0, &[(1, Some("k"), "order 1")])?;
    embedded.streams(topology, config())?.run_to_end()?;
    Ok(embedded)
}

/// The order was joined with the next one, though nobody had paid: it was in the left rows, which both were read from.
#[test]
fn a_join_of_streams_keeps_its_sides() -> Result<()> {
    let joined = |joins: Joins, left: &str, right: &str| {
        let b = StreamsBuilder::new();
        joins(&b.stream(left), &b.stream(right));
        b.build()
    };
    for joins in JOINS {
        let embedded = after_an_order(joined(joins, "orders", "payments")?)?;
        assert_eq!(
            said(&embedded, joined(joins, "payments", "orders")?),
            "the topology cannot run: join `paid` has changed its sides: its changelogs hold what was on the left, of \
             `orders`, as left rows, which is on the right now\n  help: swap them back; or give the join another name and \
             start once with topology.compatibility=ignore, to begin without rows, or the application another application.id"
        );
        assert_eq!(
            said(&embedded, joined(joins, "refunds", "payments")?),
            "the topology cannot run: store `paid-left`: is made from `refunds` now, its changelog was written with \
             `orders`\n  help: give the store another name and start once with topology.compatibility=ignore, \
             to begin without rows, or the application another \
             application.id; to go back, keep what `paid-left` was; if these are the same records under another \
             name, start once with topology.compatibility=ignore"
        );
        // There were no payments.
        assert_eq!(said(&embedded, joined(joins, "orders", "refunds")?), "");
        embedded.streams(joined(joins, "orders", "payments")?, config())?.run_to_end()?;
        embedded.streams(joined(joins, "payments", "orders")?, ignoring())?.run_to_end()?;
        assert_eq!(said(&embedded, joined(joins, "payments", "orders")?), "");
    }
    Ok(())
}

/// A topic more or less changes no side; sides may share some, or be of a pattern.
#[test]
fn sides_with_topics_in_common_are_told_apart() -> Result<()> {
    type Sides = fn(&StreamsBuilder) -> Result<[Words; 2]>;
    let programs: [Sides; 2] = [
        |b| {
            let [orders, both, refunds] = ["orders", "payments", "refunds"].map(|topic| b.stream(topic));
            Ok([orders.merge(&both), both.merge(&refunds)])
        },
        |b| Ok([b.stream(pattern("order.")?), b.stream("payments")]),
    ];
    for sides in programs {
        let program = |swapped: bool| -> Result<Topology> {
            let b = StreamsBuilder::new();
            let [left, right] = sides(&b)?;
            let (left, right) = if swapped { (right, left) } else { (left, right) };
            JOINS[0](&left, &right);
            b.build()
        };
        let embedded = after_an_order(program(false)?)?;
        let problem = said(&embedded, program(true)?);
        assert!(problem.starts_with("the topology cannot run: join `paid` has changed its sides: "), "{problem}");
        assert_eq!(said(&embedded, program(false)?), "");
    }
    let embedded = after_an_order({
        let b = StreamsBuilder::new();
        let orders = b.stream("orders");
        JOINS[0](&orders, &orders);
        b.build()?
    })?;
    let b = StreamsBuilder::new();
    JOINS[0](&b.stream("orders").merge(&b.stream("refunds")), &b.stream("payments"));
    assert_eq!(said(&embedded, b.build()?), "");
    Ok(())
}

/// Another pattern, or a topic that it does not match, was taken for the same.
#[test]
fn a_store_that_is_made_of_a_pattern_goes_on_with_what_has_a_topic_in_common() -> Result<()> {
    let of = |expression: &str| -> Result<Topology> {
        let b = StreamsBuilder::new();
        b.stream::<String, String>(pattern(expression)?).group_by_key().count("counts");
        b.build()
    };
    let by_name = |topic: &str| {
        let b = StreamsBuilder::new();
        b.stream::<String, String>(topic).group_by_key().count("counts");
        b.build()
    };
    let embedded = after_an_order(of("ord.*")?)?;
    for (program, now) in [(of("pay.*")?, "pay.* payments"), (of("ref.*|pay.*")?, "payments ref.*|pay.* refunds")] {
        let problem = said(&embedded, program);
        let wanted =
            format!("store `counts`: is made from `{now}` now, its changelog was written with `ord.* orders`\n");
        assert!(problem.contains(&wanted), "{problem}");
    }
    assert!(said(&embedded, by_name("refunds")?).contains("is made from `refunds` now"));
    for program in [by_name("orders")?, of("(?x) orders | refunds")?, of("ord.*")?] {
        assert_eq!(said(&embedded, program), "");
    }
    // Other topics of the same pattern.
    embedded.create("ordinary", 1)?;
    embedded.log.delete_topic("orders")?;
    assert_eq!(said(&embedded, of("ord.*")?), "");
    Ok(())
}

/// Tables that are joined had each other's topics too.
#[test]
fn tables_that_are_joined_keep_their_topics() -> Result<()> {
    type Tables = fn(&StreamsBuilder, &str, &str);
    let programs: [Tables; 3] = [
        |b, left, right| {
            let right = b.table::<String, String>(right, "right");
            b.table::<String, String>(left, "rows").join(&right, |l, r| format!("{l}{r}")).to_stream().to("out");
        },
        |b, left, right| {
            let rows = b.table::<String, String>(left, "rows");
            b.stream::<String, String>(right).join_table("rich", &rows, |l, r| format!("{l}{r}")).to("out");
        },
        |b, left, right| {
            let right = b.table::<String, String>(right, "right");
            let rows = b.table::<String, String>(left, "rows");
            rows.join_on("rich", &right, |_| None::<String>, |l, r| format!("{l}{r}")).to_stream().to("out");
        },
    ];
    for tables in programs {
        let program = |left: &str, right: &str| {
            let b = StreamsBuilder::new();
            tables(&b, left, right);
            b.build()
        };
        let embedded = after_an_order(program("orders", "payments")?)?;
        let problem = said(&embedded, program("payments", "orders")?);
        let wanted = "store `rows`: is made from `payments` now, its changelog was written with `orders`\n  help: ";
        assert!(problem.contains(wanted), "{problem}");
        assert_eq!(said(&embedded, program("orders", "payments")?), "");
    }
    Ok(())
}

/// An earlier version wrote down of each store of a join the topics of all that had it.
#[test]
fn stores_that_were_written_down_with_the_topics_of_both_sides_go_on() -> Result<()> {
    let program = |left: &str, right: &str| {
        let b = StreamsBuilder::new();
        JOINS[0](&b.stream(left), &b.stream(right));
        b.build()
    };
    let embedded = after_an_order(program("orders", "payments")?)?;
    let of = |store: &str| -> Result<String> {
        let last = written(&embedded)?.into_iter().rfind(|(key, _)| *key == format!("paid-{store}-changelog"));
        Ok(last.and_then(|(_, text)| text).unwrap_or_default())
    };
    let new = [of("left")?, of("right")?];
    assert!(new[0].contains("\ntopics=orders\n") && new[1].contains("\ntopics=payments\n"), "{new:?}");
    for (side, topic, new) in [("left", "orders", &new[0]), ("right", "payments", &new[1])] {
        let old = new.replace(&format!("topics={topic}\n"), "topics=orders payments\n");
        let key = format!("paid-{side}-changelog");
        embedded.write("app-topology", 0, &[(9, Some(key.as_str()), old.as_str())])?;
    }
    embedded.streams(program("orders", "payments")?, config())?.run_to_end()?;
    assert_eq!([of("left")?, of("right")?], new, "from now on the sides are known");
    assert_ne!(said(&embedded, program("payments", "orders")?), "");
    Ok(())
}

/// Whatever a program was, nothing is lost with it before it has processed anything.
#[test]
fn a_store_without_rows_may_become_anything() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("words", 1)?;
    embedded.streams(counting("counts")?, config())?.run_to_end()?;
    assert_eq!(said(&embedded, windowed(MIN, HOUR)?), "");
    Ok(())
}

/// A program that was stopped halfway has records in its repartition topic; the next one must read them.
#[test]
fn unread_repartition_topics_are_noticed() -> Result<()> {
    let by = |name: &'static str, reads: bool| {
        program(move |_, words| {
            let grouped = words.group_by(name, |_, word| word.clone());
            if reads {
                grouped.count("counts").to_stream().to("out");
            }
        })
    };
    let embedded = after(by("by-word", true)?)?;
    assert_eq!(said(&embedded, by("by-term", true)?), "");
    let half = after(by("by-word", true)?)?;
    half.write("app-by-word-repartition", 0, &[(9, Some("a"), "a")])?;
    assert_eq!(
        said(&half, by("by-term", true)?),
        "the topology cannot run: repartition topic `by-word` is no longer in the program, and holds records that are not \
         processed yet\n  help: let the earlier program process them, Streams::run_to_end does; if they are to be lost, \
         start once with topology.compatibility=ignore"
    );
    Ok(())
}

/// Its records would be read as what they are not; without any, the topic may hold what it will.
#[test]
fn a_repartition_topic_changes_types_only_when_it_was_read() -> Result<()> {
    let lengths = || {
        program(|_, words| {
            let by_length = words.group_by("by-word", |_, word| word.len() as i64);
            by_length.count("lengths").to_stream().to("out");
        })
    };
    let words = || program(|_, words| drop(words.repartition("by-word")));
    let embedded = after(words()?)?;
    assert_eq!(said(&embedded, lengths()?), "");
    embedded.write("app-by-word-repartition", 0, &[(9, Some("a"), "a")])?;
    assert_eq!(
        said(&embedded, words()?),
        "the topology cannot run: repartition topic `by-word` has <StringSerde, StringSerde> now, and holds records of \
         <NumberSerde<i64>, StringSerde> that are not processed yet\n  help: let the earlier program process them, \
         Streams::run_to_end does; if they are to be lost, give it another name and start once with \
         topology.compatibility=ignore"
    );
    Ok(())
}

/// The time at which a row stands in the queue is its first change's, or its window's end: read as the other, windows would be
/// passed on long before they close.
#[test]
fn what_is_suppressed_waits_for_the_same() -> Result<()> {
    let suppressed = |closed: bool| {
        program(move |_, words| {
            let counts = words.group_by_key().windowed_by(TimeWindows::of(MIN)).count("counts");
            drop(match closed {
                true => counts.suppress_until_closed("wait", BufferConfig::unbounded()),
                false => counts.suppress_for("wait", HOUR, BufferConfig::unbounded()),
            });
        })
    };
    let [closes, limit] = ["window-closes", "time-limit"];
    for (first, was, is) in [(true, closes, limit), (false, limit, closes)] {
        let embedded = after(suppressed(first)?)?;
        embedded.write("app-wait-changelog", 0, &[(9, Some("a"), "waits")])?;
        assert_eq!(said(&embedded, suppressed(first)?), "");
        assert_eq!(
            said(&embedded, suppressed(!first)?),
            format!(
                "the topology cannot run: store `wait`: suppress.until `{is}` now, its changelog was written with `{was}`\n  \
                 help: give the store another name and start once with topology.compatibility=ignore, \
                 to begin without rows, or the application another application.id; to go \
                 back, keep what `wait` was"
            )
        );
        // As it was written before it was said what rows wait for.
        let before =
            "key=WindowedSerde<StringSerde>\nkind=suppress-buffer\ntopics=words\nvalue=WaitsSerde<NumberSerde<i64>>\n";
        embedded.write("app-topology", 0, &[(9, Some("wait-changelog"), before)])?;
        assert_eq!(said(&embedded, suppressed(first)?), "");
    }
    Ok(())
}

/// Equal keys would be in one partition with their old rows, and in another with the new ones.
#[test]
fn a_repartition_topic_keeps_whether_the_program_places_its_records() -> Result<()> {
    let counted = |own: bool| {
        program(move |_, words| {
            let again = match own {
                true => words.repartition(
                    Repartitioned::named("r").partitioner(|_, word: &String, n| Some(vec![word.len() as i32 % n])),
                ),
                false => words.repartition("r"),
            };
            again.group_by_key().count("counts").to_stream().to("out");
        })
    };
    for (first, was, is) in [(false, "default", "custom"), (true, "custom", "default")] {
        let embedded = after(counted(first)?)?;
        assert_eq!(said(&embedded, counted(first)?), "");
        let store = format!(
            "store `counts`: partitioner `{is}` now, its changelog was written with `{was}`\n  help: give the store another \
             name and start once with topology.compatibility=ignore, to begin without rows, or the application another \
             application.id; to go back, keep what `counts` was; if both place equal keys alike, start once with topology.compatibility=ignore"
        );
        assert_eq!(said(&embedded, counted(!first)?), format!("the topology cannot run: {store}"));
        embedded.write("app-r-repartition", 0, &[(9, Some("a"), "x")])?;
        assert_eq!(
            said(&embedded, counted(!first)?),
            format!(
                "the topology cannot run, 2 problems:\n- repartition topic `r` is placed by the {is} partitioner now, and holds \
                 records placed by the {was} one that are not processed yet\n  help: let the earlier program process them, \
                 Streams::run_to_end does; if they are to be lost, give it another name and start once with \
                 topology.compatibility=ignore\n- {store}"
            )
        );
    }
    Ok(())
}

/// A closure of one run cannot be told from that of another, and a topic of the user's may be written anywhere.
#[test]
fn another_partitioner_of_the_program_is_not_noticed() -> Result<()> {
    let counted = |add: i32| {
        program(move |_, words| {
            let again = words.repartition(
                Repartitioned::named("r")
                    .partitioner(move |_, word: &String, n| Some(vec![(word.len() as i32 + add) % n])),
            );
            again.group_by_key().count("counts").to_stream().to("out");
        })
    };
    let embedded = after(counted(0)?)?;
    assert_eq!(said(&embedded, counted(1)?), "");
    Ok(())
}

#[test]
fn state_that_was_written_down_without_its_partitioner_goes_on() -> Result<()> {
    let counted = || {
        program(|_, words| {
            let again = words.repartition(
                Repartitioned::named("r").partitioner(|_, word: &String, n| Some(vec![word.len() as i32 % n])),
            );
            again.group_by_key().count("counts").to_stream().to("out");
        })
    };
    let embedded = after(counted()?)?;
    let store = "key=StringSerde\nkind=key-value\ntopics=words\nvalue=NumberSerde<i64>\n";
    let topic = "key=StringSerde\nvalue=StringSerde\n";
    let before = [(9, Some("counts-changelog"), store), (9, Some("r-repartition"), topic)];
    embedded.write("app-topology", 0, &before)?;
    embedded.write("app-r-repartition", 0, &[(9, Some("a"), "x")])?;
    assert_eq!(said(&embedded, counted()?), "");
    embedded.streams(counted()?, config())?.run_to_end()?;
    let wanted = [
        text(
            "counts-changelog",
            &format!("inputs=app-r-repartition\nkey=StringSerde\nkind=key-value\npartitioner=custom\n{}", &store[31..]),
        ),
        text("r-repartition", "key=StringSerde\npartitioner=custom\nvalue=StringSerde\n"),
    ];
    let written = written(&embedded)?;
    assert!(wanted.iter().all(|entry| written[5..].contains(entry)), "{written:?}");
    Ok(())
}

/// Its rows of the other table's partners are where the partitioner of that table's topic says.
#[test]
fn a_foreign_key_join_keeps_whether_the_other_table_is_placed_by_default() -> Result<()> {
    let joined = |own: bool| {
        let b = StreamsBuilder::new();
        let [words, others] = ["words", "others"].map(|topic| b.table::<String, String>(topic, topic));
        let join = TableJoined::named("j");
        let join = if own { join.other_partitioner(|_: &String, _| 0) } else { join };
        words.join_on(join, &others, |word| Some(word.clone()), |word, _| word.clone()).to_stream().to("out");
        b.build()
    };
    let embedded = Embedded::in_memory()?;
    ["words", "others"].into_iter().try_for_each(|topic| embedded.create(topic, 1))?;
    embedded.write("words", 0, &[(1, Some("a"), "x")])?;
    embedded.write("others", 0, &[(1, Some("x"), "y")])?;
    embedded.streams(joined(false)?, config())?.run_to_end()?;
    assert_eq!(said(&embedded, joined(false)?), "");
    let said = said(&embedded, joined(true)?);
    assert!(said.contains("partitioner `custom` now, its changelog was written with `default`"), "{said}");
    assert_eq!(said.matches("now, its changelog").count(), 1, "{said}");
    Ok(())
}

#[test]
fn what_a_later_version_has_written_is_left_alone() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    embedded.write("app-topology", 0, &[(9, Some("format"), "2")])?;
    assert_eq!(
        said(&embedded, counting("counts")?),
        "store `app-topology`: it is of format 2, known is 1\n  help: start with the version that wrote it, or a later one"
    );
    Ok(())
}

/// A table that is rebuilt from its topic, and one with a changelog of its own.
fn table(optimized: bool) -> Result<Topology> {
    let b = StreamsBuilder::new();
    if optimized {
        b.optimize(Optimization::ALL);
    }
    b.table::<String, String>("words", "latest").to_stream().to("out");
    b.build()
}

#[test]
fn a_table_moves_between_changelog_and_topic_only_when_told() -> Result<()> {
    let embedded = after(table(false)?)?;
    assert_eq!(
        said(&embedded, table(true)?),
        "the topology cannot run: store `latest` is rebuilt from `words` now, and its changelog would be left behind\n  \
         help: if `words` has all of its rows, start once with topology.compatibility=ignore; else leave the optimization"
    );
    embedded.streams(table(true)?, ignoring())?.run_to_end()?;
    assert_eq!(said(&embedded, table(true)?), "");
    assert_eq!(
        said(&embedded, table(false)?),
        "the topology cannot run: store `latest` has a changelog of its own now, and was rebuilt from `words`: its rows \
         would be missing\n  help: give the store another name and start once with topology.compatibility=ignore, \
         to begin without rows, or the application another \
         application.id; to go back, keep what `latest` was"
    );
    Ok(())
}

/// Its rows are known again, so that a change takes the old one from its group; on the embedded log there is no changelog.
#[test]
fn a_table_that_is_rebuilt_from_its_topic_goes_on() -> Result<()> {
    let counted = || {
        let b = StreamsBuilder::new();
        b.optimize(Optimization::ALL);
        let latest = b.table::<String, String>("words", "latest");
        latest.group_by("by-word", |k, word| (word, k.clone())).count("counts").to_stream().to("out");
        b.build()
    };
    let embedded = after(counted()?)?;
    assert_eq!(embedded.log.partitions("app-latest-changelog")?, None);
    embedded.write("words", 0, &[(5, Some("a"), "y")])?;
    let counters = embedded.streams(counted()?, config())?.run_to_end()?;
    // Two rows of the table, one of the counts.
    assert_eq!(counters.restore, 3);
    let counts = embedded.read::<String, i64>("out")?.concat();
    assert_eq!(counts, [("x".into(), 1), ("x".into(), 2), ("x".into(), 1), ("y".into(), 1)]);
    Ok(())
}

/// Counts words by the minute, each count once.
fn count_closed(words: &GroupedStream<String, String>) {
    let counts = words.windowed_by(TimeWindows::of(MIN)).emit_on_close().count("closed");
    counts.to_stream().map(|window, n| (window.key.clone(), n)).to("out");
}

/// Windows that read a repartition topic of their own, or under the optimization that of another store.
fn beside_another(optimized: bool) -> Result<Topology> {
    let b = StreamsBuilder::new();
    if optimized {
        b.optimize(Optimization::ALL);
    }
    let words = b.stream::<String, String>("words").select_key(|_, word| word.clone()).group_by_key();
    words.count("another");
    count_closed(&words);
    b.build()
}

/// Windows that read the topic of the words, or one between.
fn behind_a_repartition(behind: bool) -> Result<Topology> {
    program(|_, words| count_closed(&if behind { words.repartition("again") } else { words.clone() }.group_by_key()))
}

/// A log with a window that a program has closed, and one that is open.
fn after_a_minute(topology: Topology) -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    embedded.create("words", 1)?;
    embedded.write("words", 0, &[(1, Some("a"), "a"), (70_000, Some("b"), "b")])?;
    embedded.streams(topology, config())?.run_to_end()?;
    Ok(embedded)
}

/// What all have passed on when the program has had another record for the closed window, and one for a new one.
fn passed_on_with_two_more(embedded: &Embedded, topology: Topology) -> Result<Vec<(String, i64)>> {
    embedded.write("words", 0, &[(2, Some("a"), "a"), (200_000, Some("c"), "c")])?;
    embedded.streams(topology, config())?.run_to_end()?;
    Ok(embedded.read("out")?.concat())
}

/// The windows that are closed are known by times beside the positions of the topics that the store was made from: every window
/// was passed on once more, and late records were counted.
#[test]
fn windows_stay_closed_when_their_records_come_from_another_topic() -> Result<()> {
    let wanted = [("a".into(), 1), ("b".into(), 1), ("c".into(), 1)];
    for program in [beside_another, behind_a_repartition] {
        for there in [true, false] {
            let embedded = after_a_minute(program(!there)?)?;
            assert_eq!(passed_on_with_two_more(&embedded, program(there)?)?, wanted, "there: {there}");
        }
    }
    Ok(())
}

/// The topic from which the times come is read by another task, which commits before the store's does.
#[test]
fn windows_stay_closed_over_a_program_that_ends_in_between() -> Result<()> {
    let embedded = after_a_minute(behind_a_repartition(false)?)?;
    drop(embedded.streams(behind_a_repartition(true)?, config())?);
    embedded.write("words", 0, &[(80_000, Some("b"), "b")])?;
    let mut killed = ByHand::new(embedded, behind_a_repartition(true)?, config())?;
    killed.commits_each_step = true;
    while killed.embedded.read::<String, String>("app-again-repartition")?.concat().is_empty() {
        killed.step()?;
    }
    killed.kill();
    let wanted = [("a".into(), 1), ("b".into(), 1), ("b".into(), 2), ("c".into(), 1)];
    assert_eq!(passed_on_with_two_more(&killed.embedded, behind_a_repartition(true)?)?, wanted);
    Ok(())
}

/// A topic of the user's is taken to be placed by default: records of another place went where their rows were not.
#[test]
fn a_store_that_is_made_of_a_topic_of_the_users_is_placed_by_default() -> Result<()> {
    let counted = |placed: Option<bool>| {
        program(move |_, words| {
            let placed = match placed {
                None => words.clone(),
                Some(false) => words.repartition("r"),
                Some(true) => words.repartition(
                    Repartitioned::named("r").partitioner(|_, word: &String, n| Some(vec![word.len() as i32 % n])),
                ),
            };
            placed.group_by_key().count("counts").to_stream().to("out");
        })
    };
    for (first, second, was, is) in [(None, Some(true), "default", "custom"), (Some(true), None, "custom", "default")] {
        let said = said(&after(counted(first)?)?, counted(second)?);
        let wanted = format!("store `counts`: partitioner `{is}` now, its changelog was written with `{was}`\n");
        assert!(said.contains(&wanted), "{said}");
    }
    for (first, second) in [(None, Some(false)), (Some(false), None)] {
        assert_eq!(said(&after(counted(first)?)?, counted(second)?), "");
    }
    // As it was written before.
    let embedded = after(counted(None)?)?;
    let before = "key=StringSerde\nkind=key-value\ntopics=words\nvalue=NumberSerde<i64>\n";
    embedded.write("app-topology", 0, &[(9, Some("counts-changelog"), before)])?;
    assert_eq!(said(&embedded, counted(Some(true))?), "");
    Ok(())
}

/// The topic has been read up to where its group is; a changelog of its own would begin there.
#[test]
fn a_table_that_was_rebuilt_from_its_topic_is_not_forgotten_over_a_program_without_it() -> Result<()> {
    let embedded = after(table(true)?)?;
    embedded.streams(program(|_, words| words.to("elsewhere"))?, config())?.run_to_end()?;
    let said_of_own = said(&embedded, table(false)?);
    let wanted =
        "store `latest` has a changelog of its own now, and was rebuilt from `words`: its rows would be missing\n";
    assert!(said_of_own.contains(wanted), "{said_of_own}");
    assert_eq!(said(&embedded, table(true)?), "");
    Ok(())
}

#[test]
fn a_store_that_loses_its_changelog_is_told_from_one_that_is_gone() -> Result<()> {
    let embedded = after(counting("counts")?)?;
    let without = program(|b, words| {
        b.materialized("counts", Materialized::new().with_logging_disabled());
        words.group_by_key().count("counts").to_stream().to("out");
    })?;
    assert_eq!(
        said(&embedded, without),
        "the topology cannot run: store `counts` has no changelog now, and the one that it had holds rows\n  help: leave \
         it on; if its rows are to be left behind, start once with topology.compatibility=ignore"
    );
    Ok(())
}

/// A changelog before its compaction says of keys that they have no row.
#[test]
fn deletions_alone_are_no_rows() -> Result<()> {
    for (value, refused) in [(None, false), (Some("12345678"), true)] {
        let embedded = Embedded::in_memory()?;
        embedded.create("words", 1)?;
        embedded.streams(counting("counts")?, config())?.run_to_end()?;
        embedded.write("app-counts-changelog", 0, &[(1, Some("a"), None), (2, Some("b"), value)])?;
        assert_eq!(!said(&embedded, counting("totals")?).is_empty(), refused, "{value:?}");
    }
    Ok(())
}

#[test]
fn a_changelog_that_is_kept_for_good_is_kept_for_longer_than_any_other() -> Result<()> {
    let counting = |for_good: bool, retention: Duration| {
        program(move |b, words| {
            if for_good {
                b.materialized("counts", Materialized::new().with_logging_enabled([("retention.ms", "-1")]));
            }
            words.group_by_key().windowed_by(TimeWindows::of(MIN)).retention(retention).count("counts");
        })
    };
    let embedded = after(counting(false, HOUR)?)?;
    for (for_good, retention) in [(true, HOUR), (false, HOUR), (false, 2 * HOUR)] {
        embedded.streams(counting(for_good, retention)?, config())?.run_to_end()?;
        let configs = embedded.log.topic_config("app-counts-changelog").unwrap_or_default();
        assert_eq!(configs.get("retention.ms").map(String::as_str), Some("-1"), "{for_good} {retention:?}");
    }
    Ok(())
}

#[test]
fn the_setting_takes_the_state_as_it_is() -> Result<()> {
    let embedded = after(windowed(MIN, HOUR)?)?;
    let mut settings = Settings::new().set("topology.compatibility", "ignore");
    embedded.streams(windowed(2 * MIN, HOUR)?, settings.config("app")?)?.run_to_end()?;
    assert_eq!(said(&embedded, windowed(2 * MIN, HOUR)?), "");
    let error = Settings::new().set("topology.compatibility", "maybe").config("app");
    assert!(matches!(error, Err(Error::Config(_))), "{:?}", error.err());
    Ok(())
}

/// Tells when its timer fires.
struct Alarm;

impl Processor for Alarm {
    type KIn = String;
    type VIn = String;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, _: Record<String, String>, _: &mut Out<'_, String, i64>) -> Result<()> {
        Ok(())
    }
}

/// A program whose timer is due by stream time at `first`, and then each so many milliseconds.
fn alarms(every: u64, first: i64, repartitioned: bool) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    let words = b.stream::<String, String>("words");
    let words = if repartitioned { words.repartition("again") } else { words };
    let alarms = words.process("alarm", move |setup| {
        let tell =
            |_: &mut Alarm, now, out: &mut Out<'_, String, i64>| out.forward(Record::new("alarm".to_owned(), now, now));
        setup.every_from(first, Duration::from_millis(every), Clock::Stream, tell);
        Alarm
    });
    alarms.to("out");
    b.build()
}

/// Runs it on another record; returns when its timers have fired so far.
fn alarmed(embedded: &Embedded, topology: Topology, time: i64) -> Result<Vec<i64>> {
    embedded.write("words", 0, &[(time, Some("a"), "x")])?;
    embedded.streams(topology, config())?.run_to_end()?;
    Ok(embedded.read::<String, i64>("out")?.concat().into_iter().map(|(_, now)| now).collect())
}

/// It was due when the timer of the earlier program was, whose number it has: by another clock even.
#[test]
fn another_timer_of_a_changed_program_begins_as_it_says() -> Result<()> {
    let embedded = after(alarms(1_000, 100_000, false)?)?;
    assert_eq!(alarmed(&embedded, alarms(1_000, 5_000, true)?, 6_000)?, [6_000]);
    assert_eq!(alarmed(&embedded, alarms(2_000, 5_000, true)?, 7_000)?, [6_000, 7_000], "another interval");
    assert_eq!(alarmed(&embedded, alarms(2_000, 5_000, true)?, 8_000)?, [6_000, 7_000], "due at 9,000, as before");
    assert_eq!(alarmed(&embedded, alarms(2_000, 90_000, false)?, 9_500)?, [6_000, 7_000], "no repartition again");
    Ok(())
}

/// The time when each was due stayed beside the positions for good.
#[test]
fn timers_that_begin_elsewhere_at_each_start_leave_nothing_behind() -> Result<()> {
    let embedded = after(alarms(1_000, 100_000, false)?)?;
    let mut sizes = Vec::new();
    for start in 1..=5 {
        alarmed(&embedded, alarms(1_000, 100_000 + start, false)?, 10 * start)?;
        let committed = embedded.log.committed("app", &[TopicPartition::new("words", 0)])?;
        sizes.extend(committed.into_iter().flatten().map(|committed| committed.metadata.len()));
    }
    assert!(sizes.len() == 5 && sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    Ok(())
}
