//! How single stores are kept: without a changelog, with one that is configured.

use millstream_core::{Error, Result};
use millstream_dsl::{
    JoinWindows, MIN, Materialized, Optimization, SessionWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, kv,
};

fn problem(b: &StreamsBuilder) -> String {
    b.build().map(drop).expect_err("a problem").to_string()
}

/// The second of two records of a key counts from nothing after a restart, and not after a rollback.
#[test]
fn a_store_without_a_changelog_is_empty_after_a_restart() -> Result<()> {
    for (is_logged, after) in [(true, 3), (false, 1)] {
        let b = StreamsBuilder::new();
        if !is_logged {
            for store in ["rows", "windows", "sessions"] {
                b.materialized(store, Materialized::new().with_logging_disabled());
            }
        }
        let words = b.stream::<String, String>("in").group_by_key();
        words.count("rows").to_stream().to("rows-out");
        let windows = words.windowed_by(TimeWindows::of(MIN)).count("windows").to_stream();
        windows.select_key(|window, _| window.key.clone()).to("windows-out");
        let sessions = words.windowed_by(SessionWindows::of(MIN)).count("sessions").to_stream();
        sessions.flat_map_values(|n| n).select_key(|session, _| session.key.clone()).to("sessions-out");
        let topology = b.build()?;
        assert_eq!(
            topology.stores().iter().filter(|store| store.changelog.is_some()).count(),
            3 * usize::from(is_logged)
        );
        let driver = TopologyTestDriver::new(topology)?;
        let input = driver.input::<String, String>("in")?;
        let last = |topic: &str| {
            let counts = driver.output::<String, Option<i64>>(topic)?.read();
            Ok::<_, Error>(counts.last().and_then(|(_, n)| *n))
        };
        driver.fail_commits(Some(2));
        input.pipe_at(1, "a", "x");
        input.pipe_at(2, "a", "x");
        for topic in ["rows-out", "windows-out", "sessions-out"] {
            assert_eq!(last(topic)?, Some(2), "{topic}");
        }
        driver.restart()?;
        input.pipe_at(3, "a", "x");
        for topic in ["rows-out", "windows-out", "sessions-out"] {
            assert_eq!(last(topic)?, Some(after), "{topic}");
        }
    }
    Ok(())
}

#[test]
fn a_join_without_changelogs_forgets_what_waited() -> Result<()> {
    let b = StreamsBuilder::new();
    for store in ["joined-left", "joined-right", "joined-held"] {
        b.materialized(store, Materialized::new().with_logging_disabled());
    }
    let (left, right) = (b.stream::<String, i64>("left"), b.stream::<String, i64>("right"));
    left.left_join("joined", &right, JoinWindows::of(MIN), |l, r| l + r.copied().unwrap_or(0)).to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let (left, right) = (driver.input::<String, i64>("left")?, driver.input::<String, i64>("right")?);
    left.pipe_at(0, "a", 1);
    driver.restart()?;
    right.pipe_at(1, "a", 10);
    left.pipe_at(2, "a", 2);
    left.pipe_at(400_000, "b", 5);
    assert_eq!(driver.output::<String, i64>("out")?.read(), [kv("a", 12)], "and nothing of the first");
    Ok(())
}

#[test]
fn what_is_said_must_have_a_meaning() {
    let b = StreamsBuilder::new();
    b.stream::<String, i64>("in").group_by_key().count("counts");
    b.materialized("count", Materialized::new().in_memory());
    assert!(problem(&b).contains("how to keep store `count`, and has none of that name"));

    let b = StreamsBuilder::new();
    b.global_table::<String, i64>("in", "rows");
    b.materialized("rows", Materialized::new().with_logging_enabled([("segment.bytes", "1048576")]));
    assert!(problem(&b).contains("store `rows` has no changelog that could be configured"));

    let b = StreamsBuilder::new();
    b.stream::<String, i64>("in").group_by_key().count("counts");
    b.materialized("counts", Materialized::new().in_memory());
    b.materialized("counts", Materialized::new().with_logging_disabled());
    assert!(problem(&b).contains("says twice how to keep store `counts`"));
}

#[test]
fn what_cannot_be_on_disk_says_so() {
    let b = StreamsBuilder::new();
    b.global_table::<String, i64>("in", "rows");
    b.materialized("rows", Materialized::new().on_disk());
    let text = problem(&b);
    assert!(text.contains("store `rows` cannot be on disk: it is a global store"), "{text}");

    let b = StreamsBuilder::new();
    b.stream::<String, i64>("in").group_by_key().count("counts");
    b.materialized("counts", Materialized::new().on_disk().with_logging_disabled());
    let text = problem(&b);
    assert!(text.contains("store `counts` cannot be on disk: it has no changelog"), "{text}");
}

/// A table whose topic stands for its changelog has none to lose.
#[test]
fn a_table_that_is_read_from_its_topic_again_is_not_empty() -> Result<()> {
    let b = StreamsBuilder::new();
    b.optimize([Optimization::ReuseSourceTopics]);
    let rows = b.table::<String, i64>("rows", "rows");
    b.materialized("rows", Materialized::new().with_logging_disabled());
    b.stream::<String, i64>("in").join_table("joined", &rows, |n, row| n + row).to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    driver.input::<String, i64>("rows")?.pipe("a", 10);
    driver.restart()?;
    driver.input::<String, i64>("in")?.pipe("a", 1);
    assert_eq!(driver.output::<String, i64>("out")?.read(), [kv("a", 11)]);
    Ok(())
}

/// Of a row that went, the next record counts from nothing. What was read last goes last, until a restart: then by the rows' times.
#[test]
fn an_lru_store_keeps_what_was_used_last() -> Result<()> {
    let b = StreamsBuilder::new();
    b.materialized("rows", Materialized::new().lru(2));
    b.stream::<String, i64>("in").group_by_key().count("rows").to_stream().to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (driver.input::<String, i64>("in")?, driver.output::<String, Option<i64>>("out")?);
    let count = |time, key: &str| {
        input.pipe_at(time, key, 0);
        out.read().last().and_then(|(_, n)| *n)
    };
    driver.fail_commits(Some(3));
    let counted = [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "b")].map(|(time, key)| count(time, key));
    assert_eq!(counted, [1, 1, 2, 1, 3, 1].map(Some));
    driver.restart()?;
    // `c` went for `b`.
    assert_eq!([(4, "b"), (7, "c"), (8, "a")].map(|(time, key)| count(time, key)), [Some(2), Some(1), Some(1)]);
    Ok(())
}

#[test]
fn what_cannot_be_lru_says_so() {
    let b = StreamsBuilder::new();
    b.materialized("windows", Materialized::new().lru(1)).materialized("none", Materialized::new().lru(0));
    b.materialized("prices", Materialized::new().lru(1)).materialized("disk", Materialized::new().on_disk().lru(1));
    let words = b.stream::<String, String>("in").group_by_key();
    words.windowed_by(TimeWindows::of(MIN)).count("windows");
    words.count("none");
    words.count("disk");
    b.global_table::<String, i64>("prices", "prices");
    let wanted = [
        "store `disk` cannot have lru(1): its rows are to be on disk\n  help: leave it out",
        "store `none` cannot have lru(0): it would keep no row\n  help: leave it out",
        "store `prices` cannot have lru(1): its rows are those of a topic\n  help: leave it out",
        "store `windows` cannot have lru(1): only tables and stores of keys and values have it\n  help: leave it out",
    ];
    let problem = problem(&b);
    wanted.iter().for_each(|wanted| assert!(problem.contains(wanted), "{problem}"));
}
