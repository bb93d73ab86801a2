//! Whatever a table is made of, the sum of its rows in a grouping is that of the rows that a stream of it tells, a filter has
//! those rows of it that it is to have, and a stream meets the row that was told last. Old values that are wrong, or missing,
//! show nowhere else.

mod seen;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Record, Result};
use millstream_dsl::{BufferConfig, MIN, StreamsBuilder, TimeWindows, TopologyTestDriver};

use crate::seen::{Dice, NO_ROW, Seen, Table};

/// A foreign key, if a row has one.
fn key_of(n: &i64) -> Option<String> {
    (n % 5 != 0).then(|| ["a", "b", "c"][(n.unsigned_abs() % 3) as usize].to_owned())
}

fn or(n: Option<&i64>) -> i64 {
    *n.unwrap_or(&7)
}

fn waiting(t: &Table, store: &str, most: Option<usize>) -> Table {
    let buffer =
        most.map_or_else(BufferConfig::unbounded, |most| BufferConfig::max_records(most).emit_early_when_full());
    t.suppress_for(store, Duration::from_millis(5), buffer)
}

/// A table made of one table, or of two: the sides of a join are made of different ones (semantics.md 77).
fn table(dice: &mut Dice, l: &Table, r: Option<&Table>, depth: u32, names: &mut u32) -> Table {
    *names += 1;
    let name = format!("t{names}");
    let mut below = |dice: &mut Dice, side: &Table, other: Option<&Table>| match depth {
        0 => side.clone(),
        _ => table(dice, side, other, depth - 1, names),
    };
    let foreign = r.unwrap_or(l);
    let group = |key: &String, n: i64| (key_of(&n).unwrap_or(key.clone()), n);
    match (dice.below(14), r) {
        (2, Some(r)) => below(dice, l, None).join(&below(dice, r, None), |l, r| l * 100 + r),
        (3, Some(r)) => below(dice, l, None).left_join(&below(dice, r, None), |l, r| l * 100 + or(r)),
        (4, Some(r)) => below(dice, l, None).outer_join(&below(dice, r, None), |l, r| or(l) * 100 + or(r)),
        (5, _) => below(dice, l, r).join_on(&name, foreign, key_of, |l, r| l * 100 + r),
        (6, _) => below(dice, l, r).left_join_on(&name, foreign, key_of, |l, r| l * 100 + or(r)),
        (7, _) => {
            let grouped = below(dice, l, r).group_by(&format!("{name}-g"), group);
            grouped.reduce(&name, |a, b| a + b, |a, b| a - b)
        }
        (8, _) => {
            let grouped = below(dice, l, r).group_by(&format!("{name}-g"), group);
            let open = |sum: i64| Some(sum).filter(|sum| *sum != 0);
            grouped.aggregate_or_delete(&name, || 0, move |_, n, sum| open(sum + n), move |_, n, sum| open(sum - n))
        }
        (9, _) => waiting(&below(dice, l, r), &name, None),
        (10, _) => waiting(&below(dice, l, r), &name, Some(2)),
        (11, _) => below(dice, l, r).emit_on_commit(),
        (12, _) => below(dice, l, r).materialize(&name),
        (13, _) => below(dice, l, r).try_map_values(|n| if n % 4 == 0 { Err("bad") } else { Ok(n) }),
        (even, _) if even % 2 == 0 => below(dice, l, r).filter(|_, n| n % 2 == 0),
        _ => below(dice, l, r).map_values(|n| n * 2 + 1),
    }
}

/// What goes through the tables, one by one or four at a commit.
fn check(make: impl Fn(&mut Dice, &Table, &Table) -> Table, seed: u64) -> Result<()> {
    let mut dice = Dice(seed * 7919);
    let b = StreamsBuilder::new();
    let (l, r) = (b.table::<String, i64>("l", "l"), b.table::<String, i64>("r", "r"));
    let table = make(&mut dice, &l, &r);
    let (mut whole, mut odd) = (Seen::of("whole", &b, &table), Seen::of("odd", &b, &table.filter(|_, n| n % 2 != 0)));
    let topology = b.build()?;
    assert_eq!(topology.warnings(), [""; 0]);
    let config = millstream_core::RuntimeConfig {
        processing: millstream_core::ExceptionHandler::Skip,
        ..millstream_core::RuntimeConfig::embedded("test")
    };
    let t = TopologyTestDriver::with_config(topology, config)?;
    t.fail_commits(Some(7).filter(|_| seed.is_multiple_of(3)));
    let inputs = [t.input::<String, Option<i64>>("l")?, t.input::<String, Option<i64>>("r")?];
    let mut log = Vec::new();
    for step in 0..60_i64 {
        let (time, key) = ((step - dice.below(3) as i64).max(0), ["a", "b", "c"][dice.below(3) as usize]);
        let row = (dice.below(3) > 0).then(|| dice.below(20) as i64 - 5);
        let side = dice.below(2) as usize;
        log.push(format!("{} {key}:{row:?}@{time}", ["l", "r"][side]));
        inputs[side].enqueue(Record::new(key.to_owned(), row, time))?;
        if seed.is_multiple_of(2) && step % 4 != 3 {
            continue;
        }
        t.run()?;
        whole.look(&t, step, key)?;
        odd.look(&t, step, key)?;
        let place = || format!("seed {seed}: {log:?}");
        assert_eq!(whole.sum, whole.rows.values().sum::<i64>(), "sum, {}", place());
        assert_eq!(odd.sum, odd.rows.values().sum::<i64>(), "sum of what is filtered, {}", place());
        let mut rows = whole.rows.clone();
        rows.retain(|_, n| *n % 2 != 0);
        assert_eq!(odd.rows, rows, "{}", place());
        assert_eq!(whole.found, whole.rows.get(key).copied().unwrap_or(NO_ROW), "found, {}", place());
        if seed.is_multiple_of(5) && step % 9 == 8 {
            t.restart()?;
        }
    }
    Ok(())
}

#[test]
fn whatever_a_table_is_made_of_its_sum_is_that_of_its_rows() -> Result<()> {
    (1..=120).try_for_each(|seed| check(|dice, l, r| table(dice, l, Some(r), seed as u32 % 3, &mut 0), seed))
}

/// The two sides of a join that come of one table, with rows of their own.
#[test]
fn a_table_meets_itself_if_both_sides_have_their_own_rows() -> Result<()> {
    for seed in 1..=30 {
        check(|_, l, _| l.materialize("a").join(&l.map_values(|n| n + 1).materialize("b"), |a, b| a * 100 + b), seed)?;
        let outer = |_: &mut Dice, l: &Table, r: &Table| {
            let (one, other) = (l.join(r, |l, r| l * 10 + r), l.filter(|_, n| n % 3 > 0));
            one.materialize("a").outer_join(&other.materialize("b"), |a, b| or(a) * 100 + or(b))
        };
        check(outer, seed)?;
    }
    Ok(())
}

/// As in Kafka Streams, a join finds windows that the table below has not heard of.
#[test]
fn a_join_with_windows_that_are_emitted_on_close_is_warned_of() -> Result<()> {
    let warnings = |on_close: bool, own_rows: bool| {
        let b = StreamsBuilder::new();
        let counts = |topic: &str, on_close: bool| {
            let windows = b.stream::<String, i64>(topic).group_by_key().windowed_by(TimeWindows::of(MIN));
            if on_close { windows.emit_on_close() } else { windows }.count(topic)
        };
        let (l, r) = (counts("l", on_close), counts("r", false));
        let l = if own_rows { l.materialize("own") } else { l };
        l.filter(|_, n| *n > 1).join(&r, |a, b| a + b).to_stream().to("out");
        b.build().map(|topology| topology.warnings().to_vec())
    };
    let [warning] = &warnings(true, false)?[..] else { panic!("one warning") };
    assert!(warning.contains("emitted on close") && warning.contains(".materialize(name)"), "{warning}");
    assert_eq!(warnings(false, false)?, [""; 0]);
    assert_eq!(warnings(true, true)?, [""; 0]);
    Ok(())
}

/// As in Kafka Streams, a join reads the other side's row when that has changed already.
#[test]
fn a_join_of_a_table_with_one_that_is_made_of_it_is_warned_of() -> Result<()> {
    let b = StreamsBuilder::new();
    let l = b.table::<String, i64>("l", "rows");
    let joined = l.join(&l.map_values(|n| n * 10), |a, b| a + b);
    joined.to_stream().to("out");
    joined.group_by("g", |_, n| ("all".to_owned(), n)).reduce("s", |a, b| a + b, |a, b| a - b).to_stream().to("sum");
    let topology = b.build()?;
    let [warning] = topology.warnings() else { panic!("one warning, not {:?}", topology.warnings()) };
    assert!(warning.contains("`rows`") && warning.contains(".materialize(name)"), "{warning}");
    let t = TopologyTestDriver::new(topology)?;
    let input = t.input::<String, Option<i64>>("l")?;
    input.pipe("a", 1);
    input.pipe("a", None);
    let rows: Vec<_> = t.output::<String, Option<i64>>("out")?.read().into_iter().map(|(_, n)| n).collect();
    assert_eq!(rows, [Some(11), Some(11)], "the deletion is not passed on");
    let sums: Vec<_> = t.output::<String, Option<i64>>("sum")?.read().into_iter().map(|(_, n)| n).collect();
    assert_eq!(sums.last(), Some(&Some(22)), "{sums:?}");
    Ok(())
}

type Sides = (Table, Table);

/// Joins two tables that are made of one: whether `build` warns, and whether the rows, and their sum by way of a grouping, are
/// those of the table after every commit.
fn meet(sides: fn(&Table) -> Sides, fail: Option<u64>) -> Result<(bool, bool)> {
    let b = StreamsBuilder::new();
    let (l, r) = sides(&b.table::<String, i64>("in", "rows"));
    let joined = l.outer_join(&r, |l, r| l.unwrap_or(&0) * 1000 + r.unwrap_or(&0));
    joined.to_stream().to("out");
    joined.group_by("g", |_, n| ("all".to_owned(), n)).reduce("s", |a, b| a + b, |a, b| a - b).to_stream().to("sum");
    let topology = b.build()?;
    let is_warned_of = !topology.warnings().is_empty();
    let t = TopologyTestDriver::new(topology)?;
    t.fail_commits(fail);
    let input = t.input::<String, Option<i64>>("in")?;
    let (out, sum) = (t.output::<String, Option<i64>>("out")?, t.output::<String, Option<i64>>("sum")?);
    let (mut rows, mut joined, mut total, mut is_right) = (BTreeMap::new(), BTreeMap::new(), None, true);
    let mut dice = Dice(7);
    for _ in 0..40 {
        for _ in 0..dice.below(20) {
            let (key, value) = (format!("k{}", dice.below(8)), (dice.below(4) > 0).then(|| dice.below(20) as i64));
            input.enqueue(Record::new(key.clone(), value, 1))?;
            rows.insert(key, value);
        }
        t.run()?;
        joined.extend(out.read());
        total = sum.read().pop().map_or(total, |(_, sum)| sum);
        let right = |n: i64| (n + 1) * 1000 + if n % 2 == 0 { n } else { 0 };
        let wanted = rows.iter().filter_map(|(key, value)| Some((key.clone(), right((*value)?))));
        let wanted: BTreeMap<String, i64> = wanted.collect();
        let have = joined.iter().filter_map(|(key, value)| Some((key.clone(), (*value)?)));
        let have: BTreeMap<String, i64> = have.collect();
        is_right &= have == wanted && total.unwrap_or(0) == wanted.values().sum::<i64>();
    }
    Ok((is_warned_of, is_right))
}

fn more(t: &Table) -> Table {
    t.map_values(|n| n + 1)
}

fn even(t: &Table) -> Table {
    t.filter(|_, n| n % 2 == 0)
}

/// Each side has heard of a change before either passes it on, and says until then what it has passed on.
#[test]
fn sides_that_are_passed_on_with_commits_meet_as_they_were_passed_on() -> Result<()> {
    let right: [fn(&Table) -> Sides; 6] = [
        |t| (more(t).emit_on_commit(), even(t).emit_on_commit()),
        |t| {
            let right = even(t).emit_on_commit();
            (more(t).emit_on_commit(), right)
        },
        |t| (more(&t.emit_on_commit()), even(&t.emit_on_commit())),
        |t| (more(&t.emit_on_commit()).materialize("l"), even(&t.emit_on_commit()).materialize("r")),
        |t| {
            let t = t.emit_on_commit();
            (more(&t).emit_on_commit(), even(&t).emit_on_commit())
        },
        |t| {
            let left = more(t).emit_on_commit();
            (left, even(&t.emit_on_commit()).emit_on_commit())
        },
    ];
    for (number, sides) in right.into_iter().enumerate() {
        for fail in [None, Some(2)] {
            assert_eq!(meet(sides, fail)?, (false, true), "{number}");
        }
    }
    Ok(())
}

/// One `emit_on_commit` for both sides, or none on the side that passes a change on first.
#[test]
fn sides_of_which_one_hears_of_a_change_only_when_the_other_passes_it_on_are_warned_of() -> Result<()> {
    let wrong: [fn(&Table) -> Sides; 3] = [
        |t| (more(t), even(t)),
        |t| {
            let right = even(t);
            (more(t).emit_on_commit(), right)
        },
        |t| {
            let t = t.emit_on_commit();
            (more(&t), even(&t))
        },
    ];
    for (number, sides) in wrong.into_iter().enumerate() {
        assert_eq!(meet(sides, None)?, (true, false), "{number}");
    }
    Ok(())
}
