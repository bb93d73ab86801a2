//! A change says what a row was, and what stands below believes it: groupings subtract it, filters delete what they had passed
//! on. Sessions of one millisecond did not say it, and sliding windows said what another window held: sums below were too
//! large for good, and rows stayed that a filter had let through once.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Record, Result};
use millstream_dsl::{
    GroupedStream, KTable, SessionWindows, SlidingWindows, StreamsBuilder, TestOutput, TimeWindows, TopologyTestDriver,
    Windowed,
};

type Table = KTable<Windowed<String>, i64>;
type Key = (String, i64, i64);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn is_small(n: i64) -> bool {
    n < 2
}

/// What is below a table: its changes, a filter's, and a sum by way of a grouping.
fn below(table: &Table) {
    table.to_stream().to("rows");
    table.filter(|_, n| is_small(*n)).to_stream().to("small");
    let sum = table.group_by("all", |_, n| ("all".to_owned(), n)).reduce("sum", |a, b| a + b, |a, b| a - b);
    sum.to_stream().to("sum");
}

type Changes = TestOutput<Windowed<String>, Option<i64>>;

/// The rows that are left, of a table and of its filter, and the sum.
struct Below {
    outputs: (Changes, Changes),
    sums: TestOutput<String, Option<i64>>,
    rows: BTreeMap<Key, i64>,
    small: BTreeMap<Key, i64>,
    sum: i64,
}

impl Below {
    fn of(t: &TopologyTestDriver) -> Result<Self> {
        let outputs = (t.output("rows")?, t.output("small")?);
        Ok(Below { outputs, sums: t.output("sum")?, rows: BTreeMap::new(), small: BTreeMap::new(), sum: 0 })
    }

    fn read(&mut self) {
        for (output, rows) in [(&self.outputs.0, &mut self.rows), (&self.outputs.1, &mut self.small)] {
            for (key, n) in output.read() {
                let key = (key.key, key.window.start, key.window.end);
                match n {
                    Some(n) => drop(rows.insert(key, n)),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        if let Some((_, sum)) = self.sums.read().pop() {
            self.sum = sum.unwrap_or(0);
        }
    }

    /// What is wrong.
    fn difference(&self) -> Option<String> {
        let sum: i64 = self.rows.values().sum();
        let small: BTreeMap<_, _> = self.rows.clone().into_iter().filter(|(_, n)| is_small(*n)).collect();
        if self.sum != sum {
            return Some(format!("the sum is {} of {:?}", self.sum, self.rows));
        }
        (self.small != small).then(|| format!("the filter has left {:?} of {:?}", self.small, self.rows))
    }
}

type Aggregation = fn(&GroupedStream<String, i64>) -> Table;

#[test]
fn a_session_that_is_changed_in_place_says_what_it_was() -> Result<()> {
    let make: [Aggregation; 2] = [
        |grouped| grouped.windowed_by(SessionWindows::of(ms(5))).count("n"),
        |grouped| grouped.windowed_by(SessionWindows::of(ms(5))).try_reduce("n", |a, b| Ok::<_, String>(a + b)),
    ];
    for make in make {
        let b = StreamsBuilder::new();
        below(&make(&b.stream::<String, i64>("in").group_by_key()));
        let t = TopologyTestDriver::new(b.build()?)?;
        let input = t.input::<String, i64>("in")?;
        let mut below = Below::of(&t)?;
        for _ in 0..2 {
            input.pipe_at(0, "a", 1);
            below.read();
            assert_eq!(below.difference(), None);
        }
        assert_eq!((below.sum, below.small), (2, BTreeMap::new()));
    }
    Ok(())
}

#[test]
fn a_sliding_window_that_begins_was_not_there() -> Result<()> {
    for times in [&[20, 25][..], &[20, 24, 27], &[3, 5, 9, 14]] {
        let b = StreamsBuilder::new();
        let windows = b.stream::<String, i64>("in").group_by_key().windowed_by(SlidingWindows::of(ms(10)));
        below(&windows.reduce("n", |a, b| a + b));
        let t = TopologyTestDriver::new(b.build()?)?;
        let input = t.input::<String, i64>("in")?;
        let mut below = Below::of(&t)?;
        for time in times {
            input.pipe_at(*time, "a", 1);
            below.read();
            assert_eq!(below.difference(), None, "{times:?} at {time}");
        }
    }
    Ok(())
}

/// Rule 3: the inputs of a cogroup have times of their own, and rows are forgotten by the largest. What meets a forgotten row is
/// late; it began the row anew, and the new result replaced the right one below.
#[test]
fn what_comes_to_a_forgotten_row_of_a_cogroup_is_late() -> Result<()> {
    let run = |retention: u64| -> Result<_> {
        let b = StreamsBuilder::new();
        let (x, y) = (b.stream::<String, i64>("x").group_by_key(), b.stream::<String, i64>("y").group_by_key());
        let both = x.cogroup(|_, n, sum: &mut i64| *sum += n).cogroup(&y, |_, n, sum| *sum += n);
        let windows = both.windowed_by(TimeWindows::of(ms(10))).retention(ms(retention));
        below(&windows.on_late(&x, |late| late.to("late")).aggregate("n", || 0));
        let t = TopologyTestDriver::new(b.build()?)?;
        let (x, y) = (t.input::<String, i64>("x")?, t.input::<String, i64>("y")?);
        let mut below = Below::of(&t)?;
        x.pipe_at(1, "a", 1);
        y.pipe_at(30, "a", 1);
        x.pipe_at(2, "a", 1);
        x.pipe_at(3, "a", 1);
        below.read();
        assert_eq!(below.difference(), None);
        Ok((below.sum, t.output::<Windowed<String>, i64>("late")?.read().len(), t.counters().late_records))
    };
    // The window that begins at 0 is kept until a row begins 30 ms later.
    assert_eq!([run(10)?, run(30)?, run(31)?], [(2, 2, 2), (2, 2, 2), (4, 0, 0)]);
    Ok(())
}

#[test]
fn what_would_have_joined_a_forgotten_session_of_a_cogroup_is_late() -> Result<()> {
    let run = |retention: u64| -> Result<_> {
        let b = StreamsBuilder::new();
        let (x, y) = (b.stream::<String, i64>("x").group_by_key(), b.stream::<String, i64>("y").group_by_key());
        let both = x.cogroup(|_, n, sum: &mut i64| *sum += n).cogroup(&y, |_, n, sum| *sum += n);
        let sessions = both.in_sessions(SessionWindows::of(ms(5))).retention(ms(retention));
        below(&sessions.on_late(&x, |late| late.to("late")).aggregate("n", || 0, |_, a, b| a + b));
        let t = TopologyTestDriver::new(b.build()?)?;
        let (x, y) = (t.input::<String, i64>("x")?, t.input::<String, i64>("y")?);
        let mut below = Below::of(&t)?;
        x.pipe_at(10, "a", 1);
        y.pipe_at(40, "a", 1);
        x.pipe_at(14, "a", 1);
        below.read();
        assert_eq!(below.difference(), None);
        Ok((
            below.rows.len(),
            below.sum,
            t.output::<Windowed<String>, i64>("late")?.read().len(),
            t.counters().late_records,
        ))
    };
    assert_eq!([run(5)?, run(25)?, run(26)?], [(2, 2, 1, 1), (2, 2, 1, 1), (2, 3, 0, 0)]);
    Ok(())
}

/// Numbers that look like chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n) as i64
    }
}

/// How the changes of a table of windows are passed on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Emit {
    Update,
    Close,
    Commit,
}

/// Makes a table of windows of a name, of one stream or two.
fn windows(b: &StreamsBuilder, name: &str, grace: Duration, emit: Emit) -> Table {
    let grouped = || b.stream::<String, i64>("in").group_by_key();
    let other = b.stream::<String, i64>("other").group_by_key();
    let both = || grouped().cogroup(|_, n, sum: &mut i64| *sum += n).cogroup(&other, |_, n, sum| *sum += 10 * n);
    let deleting = |a: i64, b: i64| Some(a + b).filter(|sum| sum % 3 != 0);
    macro_rules! emitting {
        ($windows:expr) => {
            if emit == Emit::Close { $windows.emit_on_close() } else { $windows }
        };
    }
    let hopping = TimeWindows::of(ms(12)).advance_by(ms(4)).grace(grace);
    let sliding = SlidingWindows::of(ms(10)).grace(grace);
    let sessions = SessionWindows::of(ms(4)).grace(grace);
    let table = match name {
        "tumbling" => emitting!(grouped().windowed_by(TimeWindows::of(ms(10)).grace(grace))).reduce("n", |a, b| a + b),
        "hopping" => emitting!(grouped().windowed_by(hopping)).reduce_or_delete("n", deleting),
        "sliding" => emitting!(grouped().windowed_by(sliding)).reduce("n", |a, b| a + b),
        "sliding that deletes" => emitting!(grouped().windowed_by(sliding)).reduce_or_delete("n", deleting),
        "sessions" => emitting!(grouped().windowed_by(sessions)).reduce("n", |a, b| a + b),
        "sessions that delete" => emitting!(grouped().windowed_by(sessions)).reduce_or_delete("n", deleting),
        "sessions that may fail" => {
            emitting!(grouped().windowed_by(sessions)).try_reduce("n", |a, b| Ok::<_, String>(a + b))
        }
        "cogroup" => emitting!(both().windowed_by(hopping)).aggregate("n", || 0),
        "sliding cogroup" => emitting!(both().windowed_by(sliding)).aggregate("n", || 0),
        _ => emitting!(both().in_sessions(sessions)).aggregate("n", || 0, |_, a, b| a + b),
    };
    if emit == Emit::Commit { table.emit_on_commit() } else { table }
}

/// What is wrong below a table of windows, at the first step at which something is.
fn story(name: &str, emit: Emit, seed: u64) -> Result<Option<String>> {
    let mut dice = Dice(seed * 7919);
    let b = StreamsBuilder::new();
    below(&windows(&b, name, ms(dice.below(3) as u64 * 6), emit));
    let t = TopologyTestDriver::new(b.build()?)?;
    let inputs = [t.input::<String, i64>("in")?, t.input::<String, i64>("other")?];
    let mut below = Below::of(&t)?;
    t.fail_commits((seed.is_multiple_of(3)).then_some(3));
    let at_once = if emit == Emit::Commit { 4 } else { 1 };
    let mut time = 0;
    let mut told = Vec::new();
    for step in 0..60 {
        time += if dice.below(15) == 0 { 40 } else { dice.below(5) };
        let at = (time - dice.below(9)).max(0);
        let (key, n) = (["a", "b"][dice.below(2) as usize], dice.below(9) - 3);
        let input = dice.below(2) as usize;
        told.push(format!("{input} {key}:{n}@{at}"));
        inputs[input].enqueue(Record::new(key.into(), n, at))?;
        if step % at_once + 1 < at_once {
            continue;
        }
        t.run()?;
        below.read();
        if let Some(difference) = below.difference() {
            return Ok(Some(format!("{name} {emit:?} {seed}: {difference}\n  {told:?}")));
        }
        if seed.is_multiple_of(4) && step % 8 == 7 {
            t.restart()?;
        }
    }
    Ok(None)
}

/// Whatever comes: the sum is that of the rows, and a filter leaves those that match.
#[test]
fn sums_and_filters_below_windows_are_those_of_their_rows() -> Result<()> {
    let names = ["tumbling", "hopping", "sliding", "sliding that deletes", "sessions", "sessions that delete"];
    let mut wrong = Vec::new();
    for name in names.into_iter().chain(["sessions that may fail", "cogroup", "sliding cogroup", "session cogroup"]) {
        for emit in [Emit::Update, Emit::Close, Emit::Commit] {
            let stories = (1..=24).map(|seed| story(name, emit, seed)).collect::<Result<Vec<_>>>()?;
            let found: Vec<String> = stories.into_iter().flatten().collect();
            wrong.extend(found.first().map(|first| format!("{} of 24: {first}", found.len())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
