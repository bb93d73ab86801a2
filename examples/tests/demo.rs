//! The demo's results are those of a straightforward fold over the file, undisturbed, on two threads, and killed ten
//! times on the way; and so are the tables that it prints.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millstream_examples::data::{airlines, flights, planes};
use serde_json::Value;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

type Rows = BTreeMap<String, Vec<String>>;

fn demo(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(["--exit-when-done", "--out"]).arg(out).arg(format!("--data.dir={}", data.display())).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(data: &Path, out: &Path, more: &[&str]) -> String {
    let done = demo(data, out, more).output().expect("the demo starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

/// Rows of one result, keyed and as text, numbers as they are printed.
fn result(out: &Path, name: &str, key: &[&str], fields: &[&str]) -> Rows {
    let text = fs::read_to_string(out.join(name)).expect("the demo writes its results");
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("a JSON line");
        let take = |names: &[&str]| names.iter().map(|n| shown(&row[n])).collect::<Vec<_>>();
        (take(key).join(" "), take(fields))
    });
    rows.collect()
}

/// A mean may differ in its last bit between the way it was written and the way it was read.
fn shown(value: &Value) -> String {
    value.as_f64().filter(|_| value.is_f64()).map_or_else(|| value.to_string(), |mean| format!("{mean:.9}"))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What the three results must be.
fn fold() -> [Rows; 3] {
    let names: HashMap<String, String> = airlines().into_iter().map(|(code, a)| (code, a.name)).collect();
    let makers: HashMap<String, String> =
        planes().expect("planes").into_iter().map(|(tail, p)| (tail, p.manufacturer)).collect();
    let mut days: BTreeMap<(String, i64), Vec<i64>> = BTreeMap::new();
    let mut routes: BTreeMap<(String, String, i64), i64> = BTreeMap::new();
    let mut legs: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for flight in flights().expect("flights") {
        let Some(delay) = flight.dep_delay else { continue };
        let time = flight.scheduled + delay * 60_000;
        days.entry((names[&flight.carrier].clone(), time / DAY * DAY)).or_default().push(delay);
        for back in 0..3 {
            let start = time / HOUR * HOUR - back * HOUR;
            *routes.entry((flight.origin.clone(), flight.dest.clone(), start)).or_default() += 1;
        }
        if let Some(tail) = flight.tailnum {
            legs.entry(tail).or_default().push((time, flight.distance));
        }
    }
    let days = days.into_iter().map(|((name, start), delays)| {
        let mean = delays.iter().sum::<i64>() as f64 / delays.len() as f64;
        let max = delays.iter().max().copied().unwrap_or_default();
        let fields = vec![delays.len().to_string(), shown(&Value::from(mean)), max.to_string()];
        (format!("{} {start} {}", quoted(&name), start + DAY), fields)
    });
    let routes = routes.into_iter().map(|((origin, dest, start), n)| {
        (format!("{} {} {start} {}", quoted(&origin), quoted(&dest), start + 3 * HOUR), vec![n.to_string()])
    });
    let mut tours = Rows::new();
    for (tail, mut flown) in legs {
        flown.sort_unstable();
        let maker = makers.get(&tail).map_or("null".into(), |m| quoted(m));
        for tour in flown.chunk_by(|a, b| b.0 - a.0 <= DAY) {
            let miles: i64 = tour.iter().map(|(_, miles)| miles).sum();
            let key = format!("{} {} {}", quoted(&tail), tour[0].0, tour[tour.len() - 1].0);
            tours.insert(key, vec![tour.len().to_string(), miles.to_string(), maker.clone()]);
        }
    }
    [days.collect(), routes.collect(), tours]
}

fn results(out: &Path) -> [Rows; 3] {
    let window = |names: &[&'static str]| [names, &["window_start", "window_end"]].concat();
    [
        result(out, "carrier-days.jsonl", &window(&["carrier"]), &["flights", "mean_dep_delay", "max_dep_delay"]),
        result(out, "route-hours.jsonl", &window(&["origin", "dest"]), &["departures"]),
        result(out, "aircraft-sessions.jsonl", &window(&["tailnum"]), &["legs", "miles", "manufacturer"]),
    ]
}

fn assert_equal(found: &[Rows; 3], wanted: &[Rows; 3]) {
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.len(), wanted.len());
        for (key, fields) in wanted {
            assert_eq!(found.get(key), Some(fields), "{key}");
        }
    }
}

/// The five rows under a title of what the demo says, in words.
fn printed<'a>(said: &'a str, title: &str) -> Vec<Vec<&'a str>> {
    let rows = said.lines().skip_while(|line| !line.starts_with(title)).skip(1).take(5);
    rows.map(|line| line.split_whitespace().collect()).collect()
}

/// The five largest numbers of a result, one for each key without its window.
fn five_largest(rows: &Rows, field: usize) -> Vec<i64> {
    let mut largest: BTreeMap<&str, i64> = BTreeMap::new();
    for (key, fields) in rows {
        let name = &key[..=key.rfind('"').expect("a quoted name")];
        let number: i64 = fields[field].parse().expect("a whole number");
        largest.entry(name).and_modify(|n| *n = number.max(*n)).or_insert(number);
    }
    let mut largest: Vec<i64> = largest.into_values().collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    largest.into_iter().take(5).collect()
}

/// The tables at the end are the tops of the results.
fn assert_printed(said: &str, [days, routes, tours]: &[Rows; 3]) {
    let mut carriers: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (key, fields) in days {
        let name = key.split('"').nth(1).expect("a quoted name");
        let [flights, mean] = [0, 1].map(|n| fields[n].parse::<f64>().expect("a number"));
        let sum = carriers.entry(name).or_default();
        *sum = (sum.0 + flights, sum.1 + flights * mean);
    }
    let mut means: Vec<(f64, &str)> = carriers.iter().map(|(name, (n, delay))| (delay / n, *name)).collect();
    means.sort_by(|a, b| b.0.total_cmp(&a.0));
    let means = means.iter().take(5).map(|(mean, name)| format!("{name} {mean:.1} min"));
    // Name, flights, mean, `min`, longest, `min`.
    let shown = printed(said, "carriers by mean delay");
    let shown = shown.iter().map(|row| [&row[..row.len() - 5], &row[row.len() - 4..row.len() - 2]].concat().join(" "));
    assert_eq!(shown.collect::<Vec<_>>(), means.collect::<Vec<_>>());
    let number = |title, back: usize| {
        let rows = printed(said, title);
        rows.iter().map(|row| row[row.len() - back].parse::<i64>().expect("a number")).collect::<Vec<_>>()
    };
    // Departures, date, hours; legs, miles, two dates.
    assert_eq!(number("routes by departures", 3), five_largest(routes, 0));
    assert_eq!(number("aircraft longest", 4), five_largest(tours, 0));
}

#[test]
fn the_results_are_a_fold_over_the_file_and_no_record_is_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = fold();
    for threads in ["1", "2"] {
        let out = folder.path().join(format!("out-{threads}"));
        let data = folder.path().join(format!("data-{threads}"));
        let said = finish(&data, &out, &[&format!("--num.stream.threads={threads}")]);
        assert!(said.contains(" 0 late"), "{said}");
        assert_equal(&results(&out), &wanted);
        assert_printed(&said, &wanted);
    }
}

#[test]
fn on_a_disk_that_is_synced_the_results_are_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = fold();
    for threads in ["1", "2"] {
        let (data, out) = (folder.path().join(format!("data-{threads}")), folder.path().join(format!("out-{threads}")));
        let said = finish(&data, &out, &["--durability=disk", &format!("--num.stream.threads={threads}")]);
        assert!(said.contains(" 0 late"), "{said}");
        assert_equal(&results(&out), &wanted);
    }
}

#[test]
fn killed_ten_times_it_comes_to_the_same_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    // A different moment each time; the seed is the process, printed so that a failure can be told apart.
    let mut state = u64::from(std::process::id()) | 1;
    println!("seed {state}");
    for _ in 0..10 {
        let mut child = demo(&data, &out, &["--num.stream.threads=2"]).spawn().expect("the demo starts");
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // From before the first record to the middle of the replay. It is a process of its own: there is no clock to move.
        std::thread::sleep(Duration::from_millis(300 + (state >> 33) % 2_200));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    let said = finish(&data, &out, &["--num.stream.threads=2"]);
    let wanted = fold();
    assert_equal(&results(&out), &wanted);
    assert_printed(&said, &wanted);
}
