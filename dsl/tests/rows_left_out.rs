//! With `continue`, a row of a table on which a function of the program fails is no row (semantics.md 76): what was passed on for
//! the one before it is deleted, and what comes after it is a row as any other. The old value of a change was given to the
//! function again, and its failure left out the whole change: good rows and deletions behind a bad row were lost, and sums of
//! what is grouped below stayed wrong.

mod seen;

use std::time::Duration;

use millstream_core::{ExceptionHandler, Result, RuntimeConfig};
use millstream_dsl::{BufferConfig, StreamsBuilder, TopologyTestDriver, kv};

use crate::seen::{Dice, NO_ROW, Seen, Table};

type Tried = std::result::Result<i64, &'static str>;

/// What stands for a failure where none can be.
const BAD: i64 = NO_ROW;

fn good(n: i64) -> Tried {
    if n % 3 == 0 { Err("bad") } else { Ok(n * 2) }
}

fn or_bad(tried: Tried) -> i64 {
    tried.unwrap_or(BAD)
}

fn both(l: Option<&i64>, r: Option<&i64>) -> Tried {
    good(l.map_or(1, |l| l * 100) + r.unwrap_or(&4))
}

fn key_of(n: i64) -> std::result::Result<Option<String>, &'static str> {
    match n % 5 {
        0 => Err("no key"),
        1 => Ok(None),
        n => Ok(Some(["a", "b", "c"][n as usize % 3].to_owned())),
    }
}

/// A table that fails on some rows, and the table that it is to be.
fn programs(number: usize, l: &Table, r: &Table) -> Option<(Table, Table)> {
    let kept = |t: Table| t.filter(|_, n| *n != BAD);
    let group = |_: &String, n: i64| (["even", "odd"][(n & 1) as usize].to_owned(), n);
    let tables = match number {
        0 => (l.try_map_values(good), kept(l.map_values(|n| or_bad(good(n))))),
        1 => (l.try_filter(|_, n| good(*n).map(|n| n > 3)), l.filter(|_, n| good(*n).is_ok_and(|n| n > 3))),
        2 => (l.try_join(r, |l, r| both(Some(l), Some(r))), kept(l.join(r, |l, r| or_bad(both(Some(l), Some(r)))))),
        3 => (l.try_left_join(r, |l, r| both(Some(l), r)), kept(l.left_join(r, |l, r| or_bad(both(Some(l), r))))),
        4 => (l.try_outer_join(r, both), kept(l.outer_join(r, |l, r| or_bad(both(l, r))))),
        5 => (
            l.try_group_by("tg", move |k, n| good(n).map(|n| group(k, n))).reduce("ts", |a, b| a + b, |a, b| a - b),
            l.filter(|_, n| good(*n).is_ok()).group_by("pg", move |k, n| group(k, n * 2)).reduce(
                "ps",
                |a, b| a + b,
                |a, b| a - b,
            ),
        ),
        6 => (
            l.try_join_on("tf", r, |n| key_of(*n), |l, r| both(Some(l), Some(r))),
            kept(l.filter(|_, n| key_of(*n).is_ok()).join_on(
                "pf",
                r,
                |n| key_of(*n).ok().flatten(),
                |l, r| or_bad(both(Some(l), Some(r))),
            )),
        ),
        7 => (
            l.try_left_join_on("tf", r, |n| key_of(*n), |l, r| both(Some(l), r)),
            kept(l.filter(|_, n| key_of(*n).is_ok()).left_join_on(
                "pf",
                r,
                |n| key_of(*n).ok().flatten(),
                |l, r| or_bad(both(Some(l), r)),
            )),
        ),
        8 => (
            l.transform_values("tt", |_| {
                |_: &String, n: Option<i64>| n.map(good).transpose().map_err(millstream_core::Error::user)
            }),
            kept(l.map_values(|n| or_bad(good(n)))),
        ),
        9 => {
            let (tried, plain) = programs(0, l, r)?;
            (tried.emit_on_commit(), plain.emit_on_commit())
        }
        10 => {
            let (tried, plain) = programs(0, l, r)?;
            let wait = BufferConfig::unbounded;
            // What waits goes by time, which a deletion of nothing moves too: a filter has none.
            let tried = tried.without_needless_deletions();
            (
                tried.suppress_for("ts", Duration::from_millis(5), wait()),
                plain.suppress_for("ps", Duration::from_millis(5), wait()),
            )
        }
        11 => {
            let (tried, plain) = programs(0, l, r)?;
            let join = |t: Table| t.outer_join(r, |l, r| l.unwrap_or(&7) * 100 + r.unwrap_or(&9));
            (join(tried), join(plain))
        }
        12 => {
            let (tried, plain) = programs(0, l, r)?;
            let again = |n: i64| if n > 15 { Err("more") } else { Ok(n) };
            (
                tried.try_map_values(again).filter(|_, n| *n > 2),
                plain.filter(move |_, n| again(*n).is_ok()).filter(|_, n| *n > 2),
            )
        }
        _ => return None,
    };
    Some(tables)
}

fn driver(b: &StreamsBuilder) -> Result<TopologyTestDriver> {
    let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    TopologyTestDriver::with_config(b.build()?, skip)
}

#[test]
fn a_row_on_which_a_function_fails_is_no_row() -> Result<()> {
    for number in 0.. {
        let mut failed = 0;
        for seed in 1..=8 {
            let b = StreamsBuilder::new();
            let (l, r) = (b.table::<String, i64>("l", "l"), b.table::<String, i64>("r", "r"));
            let Some((tried, plain)) = programs(number, &l, &r) else {
                assert!(number > 10, "only {number} tables");
                return Ok(());
            };
            let (mut tried, mut plain) = (Seen::of("tried", &b, &tried), Seen::of("plain", &b, &plain));
            let t = driver(&b)?;
            let inputs = [t.input::<String, Option<i64>>("l")?, t.input::<String, Option<i64>>("r")?];
            let (mut dice, mut log) = (Dice(seed * 7919), Vec::new());
            for time in 0..60 {
                let key = ["a", "b", "c"][dice.below(3) as usize];
                let (side, n) = (dice.below(2) as usize, dice.below(16) as i64);
                let row = Some(n).filter(|n| *n > 3);
                inputs[side].pipe_at(time, key, row);
                log.push(format!("{} {key}:{row:?}", ["l", "r"][side]));
                tried.look(&t, time, key)?;
                plain.look(&t, time, key)?;
                let place = format!("table {number}, seed {seed}: {log:?}");
                assert_eq!(tried.rows, plain.rows, "{place}");
                assert_eq!((tried.found, tried.sum), (plain.found, plain.sum), "{place}");
                assert_eq!(tried.sum, tried.rows.values().sum::<i64>(), "{place}");
                if seed % 4 == 0 && time % 9 == 8 {
                    t.restart()?;
                }
            }
            failed += t.counters().dropped_records;
        }
        assert!(failed > 0, "nothing failed in table {number}");
    }
    Ok(())
}

#[test]
fn a_deletion_behind_a_bad_row_says_nothing_again() -> Result<()> {
    let b = StreamsBuilder::new();
    let rows = b.table::<String, String>("in", "rows");
    rows.try_map_values(|text| text.parse::<i64>()).to_stream().to("out");
    let t = driver(&b)?;
    let input = t.input::<String, Option<String>>("in")?;
    for text in [Some("bad"), Some("1"), Some("bad"), Some("bad"), Some("3"), Some("bad"), None, None] {
        input.pipe("a", text.map(str::to_owned));
    }
    let wanted = [Some(1), None, Some(3), None, None].map(|n| kv("a", n));
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), wanted);
    assert_eq!(t.counters().dropped_records, 4);
    Ok(())
}

/// Who wants the last good row to stay looks at the values before they are a table's.
#[test]
fn in_front_of_a_table_what_fails_is_left_out_alone() -> Result<()> {
    let b = StreamsBuilder::new();
    let numbers = b
        .stream::<String, Option<String>>("in")
        .try_map_values(|text| text.map(|text| text.parse::<i64>()).transpose());
    let rows = numbers.to_table("rows");
    rows.to_stream().to("out");
    rows.group_by("g", |_, n| ("all".to_owned(), n)).count("c").to_stream().to("counts");
    let t = driver(&b)?;
    let input = t.input::<String, Option<String>>("in")?;
    for text in [Some("1"), Some("bad"), Some("3"), Some("bad"), None] {
        input.pipe("a", text.map(str::to_owned));
    }
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), [kv("a", Some(1)), kv("a", Some(3)), kv("a", None)]);
    assert_eq!(t.output::<String, Option<i64>>("counts")?.read(), [kv("all", 1), kv("all", 1), kv("all", 0)]);
    Ok(())
}
