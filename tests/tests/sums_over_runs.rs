//! Runs that end with their input pass windows on that are open still, and later runs merge, change and delete them: what stands
//! below hears of that. A window that was deleted in a later run stayed for good behind `suppress_until_closed`, and in sums.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Log, Result, RuntimeConfig, StateDisk, Streams};
use millstream_dsl::{
    BufferConfig, GroupedStream, KTable, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows, Windowed,
};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::embedded::{Embedded, folder};
use millstream_tests::faults::FailingCommits;
use millstream_tests::simulation::Dice;

type Table = KTable<Windowed<String>, i64>;
type Rows = BTreeMap<(String, i64, i64), i64>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How windows come to be passed on once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Once {
    Close,
    Suppress,
    Both,
}

/// What lies between windows and what passes them on once.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    Filter,
    Values,
    Commit,
}

fn deleting(a: i64, b: i64) -> Option<i64> {
    Some(a + b).filter(|sum| sum % 3 != 0)
}

/// Windows of a kind, with their updates or what closes.
fn windows(grouped: &GroupedStream<String, i64>, kind: &str, grace: Duration, store: &str, on_close: bool) -> Table {
    let sessions = SessionWindows::of(ms(5)).grace(grace);
    macro_rules! emitting {
        ($windowed:expr) => {{ if on_close { $windowed.emit_on_close() } else { $windowed } }};
    }
    let hopping = TimeWindows::of(ms(10)).advance_by(ms(4)).grace(grace);
    match kind {
        "tumbling" => emitting!(grouped.windowed_by(TimeWindows::of(ms(10)).grace(grace))).reduce(store, |a, b| a + b),
        "hopping that delete" => emitting!(grouped.windowed_by(hopping)).reduce_or_delete(store, deleting),
        "sliding that delete" => {
            emitting!(grouped.windowed_by(SlidingWindows::of(ms(6)).grace(grace))).reduce_or_delete(store, deleting)
        }
        "sessions" => emitting!(grouped.windowed_by(sessions)).reduce(store, |a, b| a + b),
        "strict sessions" => emitting!(grouped.windowed_by(sessions.strict_end())).reduce(store, |a, b| a + b),
        _ => emitting!(grouped.windowed_by(sessions.strict_end())).reduce_or_delete(store, deleting),
    }
}

/// The windows as they are passed on once, and all of their updates.
fn program(b: &StreamsBuilder, kind: &str, grace: u64, once: Once, between: Between) {
    b.topic("in", 1).topic("rows", 1).topic("all", 1).topic("sum", 1);
    let numbers = b.stream::<String, String>("in").map_values(|text| text.parse::<i64>().unwrap_or_default());
    let windows = |store: &str, on_close: bool| {
        let windows = windows(&numbers.group_by_key(), kind, ms(grace), store, on_close);
        match between {
            Between::Nothing => windows,
            Between::Filter => windows.filter(|_, n| n % 4 != 1),
            Between::Values => windows.map_values(|n| n * 2 + 1),
            Between::Commit => windows.emit_on_commit(),
        }
    };
    let table = windows("n", once != Once::Suppress);
    let table = match once {
        Once::Close => table,
        Once::Suppress | Once::Both => table.suppress_until_closed("final", BufferConfig::unbounded()),
    };
    table.to_stream().to("rows");
    windows("all", false).to_stream().to("all");
    let sum = table.group_by("g", |_, n| ("all".to_owned(), n)).reduce("s", |a, b| a + b, |a, b| a - b);
    sum.to_stream().to("sum");
}

/// What a topic's changes leave.
fn left(embedded: &Embedded, topic: &str) -> Result<Rows> {
    let mut rows = Rows::new();
    for (key, n) in embedded.read::<Windowed<String>, Option<i64>>(topic)?.concat() {
        let key = (key.key, key.window.start, key.window.end);
        match n {
            Some(n) => drop(rows.insert(key, n)),
            None => drop(rows.remove(&key)),
        }
    }
    Ok(rows)
}

/// Several runs, and what is wrong after the first behind which something is.
fn story(kind: &str, once: Once, between: Between, seed: u64) -> Result<Option<String>> {
    let dice = Dice::new(seed);
    let embedded = Embedded::in_memory()?;
    let folder = folder()?;
    let on_disk = seed.is_multiple_of(2);
    let grace = dice.below(3) * 6;
    let every = if seed.is_multiple_of(3) { 3 } else { 0 };
    let log: Arc<dyn Log> = Arc::new(FailingCommits::new(Arc::new(embedded.log.clone()), every));
    let streams = || {
        let b = StreamsBuilder::new();
        program(&b, kind, grace, once, between);
        let disk = on_disk.then(|| RocksDisk::new(folder.path(), RocksOptions { rows: 0, ..RocksOptions::default() }));
        let disk = disk.transpose()?.map(|disk| Arc::new(disk) as Arc<dyn StateDisk>);
        // Commits in the middle of a run too.
        let config = RuntimeConfig { disk, poll_records: 5, uncommitted_bytes: 1, ..RuntimeConfig::embedded("app") };
        Streams::new(b.build()?, config, log.clone(), embedded.clock.clone())
    };
    let (mut time, mut told) = (0, Vec::new());
    for run in 0..6 {
        let mut running = streams()?;
        for _ in 0..dice.below(12) {
            time += if dice.below(12) == 0 { 40 } else { dice.below(5) as i64 };
            let at = (time - dice.below(9) as i64).max(0);
            let (key, n) = (["a", "b"][dice.below(2) as usize], (dice.below(9) as i64 - 3).to_string());
            told.push(format!("{key}:{n}@{at}"));
            embedded.write("in", 0, &[(at, Some(key), n.as_str())])?;
        }
        if dice.below(4) == 0 {
            // Stopped somewhere in its input: no end of it.
            running.start()?;
            running.close()?;
            running = streams()?;
        }
        running.run_to_end()?;
        told.push("|".to_owned());
        let (rows, all) = (left(&embedded, "rows")?, left(&embedded, "all")?);
        let sums = embedded.read::<String, Option<i64>>("sum")?.concat();
        let sum = sums.last().and_then(|(_, sum)| *sum).unwrap_or(0);
        // As in Kafka Streams, what a record deletes or merges that comes to a session or a suppressed sliding window which has been let
        // go by time stays.
        let stays = kind == "sessions" || kind.starts_with("sliding") && once == Once::Suppress;
        let same = if stays { all.iter().all(|(key, n)| rows.get(key) == Some(n)) } else { rows == all };
        if sum != rows.values().sum::<i64>() || !same {
            let place =
                format!("{kind} {once:?} {between:?}, seed {seed}, grace {grace}, run {run}: {}", told.join(" "));
            return Ok(Some(format!("{place}\n  sum {sum} of {rows:?}\n  where there are {all:?}")));
        }
    }
    Ok(None)
}

/// Whatever comes, in however many runs: what is passed on is what there is, and its sum is that of its rows.
#[test]
fn after_every_run_what_was_passed_on_is_what_there_is() -> Result<()> {
    let kinds = ["tumbling", "hopping that delete", "sliding that delete", "sessions", "strict sessions"];
    let mut wrong = Vec::new();
    for kind in kinds.into_iter().chain(["strict sessions that delete"]) {
        for once in [Once::Suppress, Once::Close, Once::Both] {
            for between in [Between::Nothing, Between::Filter, Between::Values, Between::Commit] {
                let found = [1, 2, 3, 6]
                    .map(|seed| story(kind, once, between, seed))
                    .into_iter()
                    .collect::<Result<Vec<_>>>()?;
                let found: Vec<String> = found.into_iter().flatten().collect();
                wrong.extend(found.first().map(|first| format!("{} of 4: {first}", found.len())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
