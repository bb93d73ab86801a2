//! With `continue`, a record on which the function of a windowed aggregation fails is in none of its windows, as if it had not
//! come. It stayed in those that had taken it before one failed; and in sliding windows it opened one that it is not in.

#[path = "seen/dice.rs"]
mod dice;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_core::{Error, ExceptionHandler, Record, Result, RuntimeConfig};
use millstream_dsl::{
    DAY, KTable, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindowedStream, TimeWindows, TopologyTestDriver,
    Windowed,
};

use crate::dice::Dice;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

type Sums = KTable<Windowed<String>, i64>;

const FAILURES: [fn(i64, Option<i64>) -> bool; 4] = [
    |n, _| n % 3 == 0,
    |n, sum| sum.is_some() && n % 2 == 0,
    |n, sum| sum.is_none() && n % 2 == 0,
    |n, sum| (n + sum.unwrap_or(7)) % 3 == 0,
];

/// Sums in which a zero stands for none, and those that fail.
fn sums(windows: TimeWindowedStream<String, i64>, failing: usize, failed: Arc<AtomicBool>) -> Sums {
    let fails = FAILURES[failing];
    windows.try_aggregate(
        "sums",
        || 0,
        move |_, n, sum| {
            if fails(n, Some(sum).filter(|sum| *sum != 0)) {
                failed.store(true, Ordering::Relaxed);
                return Err("bad");
            }
            Ok(sum + n)
        },
    )
}

/// A program of windows, and whether its function has failed.
fn program(kind: usize, failing: usize) -> Result<(TopologyTestDriver, Arc<AtomicBool>)> {
    let b = StreamsBuilder::new();
    let input = b.stream::<String, i64>("in").group_by_key();
    let windows = match kind {
        0 => input.windowed_by(SlidingWindows::of(ms(10)).grace(DAY)),
        1 => input.windowed_by(TimeWindows::of(ms(10)).advance_by(ms(4)).grace(DAY)),
        _ => input.windowed_by(TimeWindows::of(ms(10)).grace(DAY)),
    };
    let failed = Arc::<AtomicBool>::default();
    let sums = sums(windows, failing, failed.clone());
    sums.to_stream().to("out");
    sums.group_by("all", |_, n| ("all".to_owned(), n)).reduce("all", |a, b| a + b, |a, b| a - b).to_stream().to("sum");
    let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    Ok((TopologyTestDriver::with_config(b.build()?, skip)?, failed))
}

type Outputs = (Vec<(Windowed<String>, Option<i64>)>, Vec<(String, Option<i64>)>);

fn read(t: &TopologyTestDriver) -> Result<Outputs> {
    Ok((t.output::<Windowed<String>, _>("out")?.read(), t.output::<String, _>("sum")?.read()))
}

#[test]
fn a_record_on_which_a_function_fails_is_in_no_window() -> Result<()> {
    for (kind, failing, seed) in (0..3).flat_map(|k| (0..4).flat_map(move |f| (1..=12).map(move |s| (k, f, s)))) {
        let (tried, failed) = program(kind, failing)?;
        let (without, never) = program(kind, failing)?;
        let (mut dice, mut log, mut left_out) = (Dice(seed * 7919), Vec::new(), 0);
        for at in 0..50_i64 {
            let (key, n) = (["a", "b"][dice.below(2) as usize], dice.below(12) as i64 + 1);
            // Out of order, and many before the first window of full length.
            let time = (at + dice.below(16) as i64 - 8).max(0);
            log.push((key, n, time));
            tried.input::<String, i64>("in")?.pipe_at(time, key, n);
            if failed.swap(false, Ordering::Relaxed) {
                left_out += 1;
            } else {
                without.input::<String, i64>("in")?.pipe_at(time, key, n);
            }
            let place = format!("windows {kind}, failure {failing}, seed {seed}: {log:?}");
            assert!(!never.load(Ordering::Relaxed), "{place}");
            assert_eq!(read(&tried)?, read(&without)?, "{place}");
            if seed % 4 == 0 && at % 9 == 8 {
                tried.restart()?;
                without.restart()?;
            }
        }
        assert!((1..50).contains(&left_out), "{left_out} failed in windows {kind}, failure {failing}");
    }
    Ok(())
}

/// Emitted on close, in windows of a kind: the bad are left out.
fn closing(kind: usize) -> Result<TopologyTestDriver> {
    let b = StreamsBuilder::new();
    let input = b.stream::<String, i64>("in").group_by_key();
    let add = |_: &String, n, sum| if n % 3 == 0 { Err("bad") } else { Ok(sum + n) };
    let sums = match kind {
        0 => input.windowed_by(TimeWindows::of(ms(10))).emit_on_close().try_aggregate("sums", || 0, add),
        1 => {
            let windows = TimeWindows::of(ms(10)).advance_by(ms(4)).grace(ms(3));
            input.windowed_by(windows).emit_on_close().try_aggregate("sums", || 0, add)
        }
        2 => input.windowed_by(SlidingWindows::of(ms(10))).emit_on_close().try_aggregate("sums", || 0, add),
        3 => {
            let merge = |_: &String, a, b| Ok(a + b);
            input.windowed_by(SessionWindows::of(ms(10))).emit_on_close().try_aggregate("sums", || 0, add, merge)
        }
        _ => {
            let windows = input
                .try_cogroup(move |key: &String, n, sum| add(key, n, sum).map(Some))
                .windowed_by(TimeWindows::of(ms(10)));
            windows.emit_on_close().aggregate("sums", || 0)
        }
    };
    sums.to_stream().to("out");
    let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    TopologyTestDriver::with_config(b.build()?, skip)
}

/// What its time closes closes all the same: it was never emitted if a commit came before the next good record.
#[test]
fn a_record_on_which_a_function_fails_closes_windows() -> Result<()> {
    for (kind, seed) in (0..5).flat_map(|kind| (1..=20).map(move |seed| (kind, seed))) {
        let (at_once, one_by_one) = (closing(kind)?, closing(kind)?);
        let mut dice = Dice(seed * 7919);
        let records: Vec<_> = (0..40_i64)
            .map(|at| {
                let (key, n) = (["a", "b", "c"][dice.below(3) as usize], dice.below(9) as i64);
                Record::new(key.to_owned(), n, at * 20 + dice.below(60) as i64)
            })
            .collect();
        let (together, alone) = (at_once.input::<String, i64>("in")?, one_by_one.input::<String, i64>("in")?);
        for (record, at) in records.iter().zip(0..) {
            together.enqueue(record.clone())?;
            alone.try_pipe(record.clone())?;
            if seed % 4 == 0 && at % 9 == 8 {
                one_by_one.restart()?;
            }
        }
        at_once.run()?;
        let read = |t: &TopologyTestDriver| Ok::<_, Error>(t.output::<Windowed<String>, Option<i64>>("out")?.read());
        let wanted = read(&at_once)?;
        assert!(wanted.len() > 10, "{wanted:?}");
        assert_eq!(read(&one_by_one)?, wanted, "windows {kind}, seed {seed}: {records:?}");
    }
    Ok(())
}
