//! `on_late`: records that come too late for windows and sessions are streams of the program, those of a cogroup one stream for
//! each that is in it.

use std::cell::Cell;
use std::time::Duration;

use millstream_core::Result;
use millstream_dsl::{
    FixedKeyRecord, FixedWindows, GroupedStream, JoinWindows, KStream, SessionWindows, SlidingWindows, StreamJoined,
    StreamsBuilder, TimeWindowedStream, TimeWindows, TopologyTestDriver, ValueOut, ValueProcessor, Windowed, json,
};

type Text = Option<String>;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Topic, time, value; the key is always the same.
const RECORDS: [(&str, i64, Option<&str>); 8] = [
    ("left", 95, Some("l")),
    ("left", 340, Some("now")),
    ("left", 96, Some("late")),
    ("left", 230, Some("half")),
    ("right", 97, Some("r")),
    ("right", 98, None),
    ("right", 320, Some("soon")),
    ("right", 99, Some("later")),
];

/// What comes out late of a program with two grouped streams, the right one rekeyed, and what is counted as late.
fn late(
    program: impl Fn(&GroupedStream<String, Text>, &GroupedStream<String, Text>),
) -> Result<([Vec<String>; 2], u64)> {
    let run = |fail| -> Result<([Vec<String>; 2], u64)> {
        let b = StreamsBuilder::new();
        let right = b.stream::<Text, Text>("right").select_key(|key, _| key.clone());
        program(&b.stream::<Text, Text>("left").group_by_key(), &right.group_by_key());
        let driver = TopologyTestDriver::new(b.build()?)?;
        driver.fail_commits(fail);
        for (topic, time, value) in RECORDS {
            driver.input::<Text, Text>(topic)?.pipe_at(time, Some("k".into()), value.map(str::to_owned));
        }
        let out = |topic: &str| -> Result<Vec<String>> {
            let Ok(late) = driver.output::<Windowed<String>, String>(topic) else { return Ok(Vec::new()) };
            Ok(late.read_records().into_iter().map(|late| format!("{}@{}", late.value, late.timestamp)).collect())
        };
        Ok(([out("late-left")?, out("late-right")?], driver.counters().late_records))
    };
    let (undisturbed, disturbed) = (run(None)?, run(Some(2))?);
    assert_eq!(undisturbed.0, disturbed.0, "commits that fail");
    Ok(undisturbed)
}

fn to(topic: &str) -> impl FnOnce(KStream<Windowed<String>, String>) {
    move |late| late.to(topic)
}

fn texts(left: &[&str], right: &[&str]) -> [Vec<String>; 2] {
    [left, right].map(|side| side.iter().map(|text| (*text).to_owned()).collect())
}

/// A cogroup of both: on every update, its rows kept for so long, or on close.
fn in_windows(windows: impl Into<FixedWindows> + Copy, kept: Option<u64>) -> Result<([Vec<String>; 2], u64)> {
    late(|left, right| {
        let both = left.cogroup(|_, v: String, sum: &mut String| *sum += &v).cogroup(right, |_, v, sum| *sum += &v);
        let windowed = both.windowed_by(windows).on_late(left, to("late-left")).on_late(right, to("late-right"));
        let windowed = match kept {
            Some(retention) => windowed.retention(ms(retention)),
            None => windowed.emit_on_close(),
        };
        windowed.aggregate("sums", String::new);
    })
}

#[test]
fn of_a_cogroup_in_windows_each_stream_has_its_own() -> Result<()> {
    // Each goes by its own time, as far as the store has kept the row; on close all go by one (semantics.md 3).
    let own = (texts(&["late@96", "half@230"], &["later@99"]), 3);
    let one = (texts(&["late@96", "half@230"], &["r@97", "later@99"]), 4);
    assert_eq!(in_windows(TimeWindows::of(ms(100)), Some(1_000))?, own);
    assert_eq!(in_windows(TimeWindows::of(ms(100)), Some(100))?, one);
    assert_eq!(in_windows(TimeWindows::of(ms(100)), None)?, one);
    assert_eq!(in_windows(SlidingWindows::of(ms(100)), Some(1_000))?, own);
    // Of the windows of a record some are over: it comes with those, and they are counted.
    let hopping = TimeWindows::of(ms(200)).advance_by(ms(100));
    assert_eq!(in_windows(hopping, None)?, one);
    let sliding = texts(&["late@96", "half@230"], &["r@97", "soon@320", "later@99"]);
    assert_eq!(in_windows(SlidingWindows::of(ms(100)), None)?, (sliding, 5));
    Ok(())
}

/// A record that is late for some of its windows comes with those, and with none that has it.
#[test]
fn each_comes_with_the_windows_that_it_has_missed() -> Result<()> {
    type UseIt = fn(KStream<Windowed<String>, i64>);
    let missed = |program: fn(&GroupedStream<String, i64>, UseIt)| -> Result<Vec<(i64, i64, i64)>> {
        let b = StreamsBuilder::new();
        program(&b.stream::<String, i64>("in").group_by_key(), |late| late.to("late"));
        let driver = TopologyTestDriver::new(b.build()?)?;
        let input = driver.input::<String, i64>("in")?;
        [(0, 1), (460, 2), (120, 3), (20, 4), (459, 5)].into_iter().for_each(|(time, n)| input.pipe_at(time, "k", n));
        let late = driver.output::<Windowed<String>, i64>("late")?.read();
        Ok(late.into_iter().map(|(key, n)| (n, key.window.start, key.window.end)).collect())
    };
    let hopping = missed(|grouped, use_it| {
        let windows = TimeWindows::of(ms(300)).advance_by(ms(100)).grace(ms(60));
        grouped.windowed_by(windows).on_late(use_it).count("counts");
    })?;
    assert_eq!(hopping, [(3, 0, 300), (3, 100, 400), (4, 0, 300)]);
    let sliding = missed(|grouped, use_it| {
        grouped.windowed_by(SlidingWindows::of(ms(50)).grace(ms(60))).on_late(use_it).count("counts");
    })?;
    assert_eq!(sliding, [(3, 70, 120), (4, 0, 50)]);
    let sessions = missed(|grouped, use_it| {
        grouped.windowed_by(SessionWindows::of(ms(50)).grace(ms(60))).on_late(use_it).count("counts");
    })?;
    assert_eq!(sessions, [(3, 120, 120), (4, 20, 20)]);
    Ok(())
}

#[test]
fn of_a_cogroup_in_sessions_too() -> Result<()> {
    let in_sessions = |kept: Option<u64>| {
        late(|left, right| {
            let both = left.cogroup(|_, v: String, sum: &mut String| *sum += &v).cogroup(right, |_, v, sum| *sum += &v);
            let sessions = both.in_sessions(SessionWindows::of(ms(100)));
            let sessions = match kept {
                Some(retention) => sessions.retention(ms(retention)),
                None => sessions.emit_on_close(),
            };
            let sessions = sessions.on_late(left, to("late-left")).on_late(right, to("late-right"));
            sessions.aggregate("sums", String::new, |_, a, b| a + &b);
        })
    };
    assert_eq!(in_sessions(Some(1_000))?, (texts(&["late@96", "half@230"], &["later@99"]), 3));
    assert_eq!(in_sessions(Some(100))?, in_sessions(None)?);
    assert_eq!(in_sessions(None)?, (texts(&["late@96", "half@230"], &["r@97", "later@99"]), 4));
    Ok(())
}

#[test]
fn of_one_stream_in_sliding_windows_and_sessions() -> Result<()> {
    let values = |late: KStream<Windowed<String>, Text>| late.filter(|_, v| v.is_some()).to("late-left");
    let sliding = late(|left, _| drop(left.windowed_by(SlidingWindows::of(ms(100))).on_late(values).count("sliding")))?;
    let sessions =
        late(|left, _| drop(left.windowed_by(SessionWindows::of(ms(100))).on_late(values).count("sessions")))?;
    assert_eq!(
        (sliding, sessions),
        ((texts(&["late@96", "half@230"], &[]), 2), (texts(&["late@96", "half@230"], &[]), 2))
    );
    Ok(())
}

#[test]
fn a_stream_that_is_in_a_cogroup_twice_has_each_once() -> Result<()> {
    let twice = late(|left, _| {
        let both = left.cogroup(|_, v: String, sum: &mut String| *sum += &v).cogroup(left, |_, v, sum| *sum += &v);
        both.windowed_by(TimeWindows::of(ms(100))).on_late(left, to("late-left")).aggregate("sums", String::new);
    })?;
    assert_eq!(twice, (texts(&["late@96", "half@230"], &[]), 4));
    Ok(())
}

#[test]
fn a_stream_that_is_not_in_the_cogroup_is_refused() {
    let b = StreamsBuilder::new();
    let [one, another] = ["one", "another"].map(|topic| b.stream::<String, String>(topic).group_by_key());
    let windowed = one.cogroup(|_, v, sum: &mut String| *sum += &v).windowed_by(TimeWindows::of(ms(100)));
    windowed.on_late(&another, to("late")).aggregate("sums", String::new);
    let error = b.build().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("`on_late` of a cogroup is given a stream that is not in it"), "{error}");
    assert!(error.contains("help: give it one that was given to `cogroup`, or began it"), "{error}");
}

/// A second `on_late` of one stream took the place of the first, whose stream then had nothing.
#[test]
fn who_asks_for_them_second_does_not_take_them_from_who_asked_first() -> Result<()> {
    let both = || texts(&["late@96", "half@230"], &["late@96", "half@230"]);
    let values =
        |topic: &'static str| move |late: KStream<Windowed<String>, Text>| late.filter(|_, v| v.is_some()).to(topic);
    let one = late(|left, _| {
        let windowed = left.windowed_by(TimeWindows::of(ms(100)));
        windowed.on_late(values("late-left")).on_late(values("late-right")).count("counts");
    })?;
    assert_eq!(one, (both(), 2));
    let sessions = late(|left, _| {
        let windowed = left.windowed_by(SessionWindows::of(ms(100)));
        windowed.on_late(values("late-left")).on_late(values("late-right")).count("counts");
    })?;
    assert_eq!(sessions, (both(), 2));
    let cogroup = late(|left, _| {
        let windowed = left.cogroup(|_, v: String, sum: &mut String| *sum += &v).windowed_by(TimeWindows::of(ms(100)));
        windowed.on_late(left, to("late-left")).on_late(left, to("late-right")).aggregate("sums", String::new);
    })?;
    assert_eq!(cogroup, (both(), 2));

    let b = StreamsBuilder::new();
    let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, String>("right"));
    let joined = StreamJoined::with(JoinWindows::of(ms(10)).drop_late())
        .on_late_left(|late: KStream<String, String>| late.to("first"))
        .on_late_left(|late: KStream<String, String>| late.to("second"));
    left.join("joined", &right, joined, |l, r| format!("{l}{r}")).to("out");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let left = driver.input::<String, String>("left")?;
    [(95, "l"), (340, "now"), (96, "late")].into_iter().for_each(|(time, v)| left.pipe_at(time, "k", v));
    for topic in ["first", "second"] {
        let late = driver.output::<String, String>(topic)?.read();
        assert_eq!(late, [("k".to_owned(), "late".to_owned())], "{topic}");
    }
    Ok(())
}

/// Numbers what it is given.
struct Numbered(i64);

impl ValueProcessor for Numbered {
    type K = Windowed<String>;
    type VIn = String;
    type VOut = i64;

    fn process(
        &mut self,
        r: FixedKeyRecord<Windowed<String>, String>,
        out: &mut ValueOut<'_, Windowed<String>, i64>,
    ) -> Result<()> {
        self.0 += 1;
        out.forward(r.with_value(self.0))
    }
}

/// Each of two aggregations of one windowed stream had processors of its own behind `on_late`, on the same stores.
#[test]
fn late_records_of_two_aggregations_of_one_windowed_stream_go_one_way() -> Result<()> {
    let b = StreamsBuilder::new();
    let windowed = b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(ms(100)));
    let windowed = windowed.on_late(|late| late.process_values("numbered", |_| Numbered(0)).to("out"));
    windowed.count("one");
    windowed.count("two");
    let driver = TopologyTestDriver::new(b.build()?)?;
    let input = driver.input::<String, String>("in")?;
    [(300, "now"), (99, "late"), (98, "later")].into_iter().for_each(|(time, v)| input.pipe_at(time, "k", v));
    let numbers: Vec<i64> = driver.output::<Windowed<String>, i64>("out")?.read().into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Heavy(i64);
json!(Heavy);

thread_local! {
    static COPIES: Cell<usize> = const { Cell::new(0) };
}

impl Clone for Heavy {
    fn clone(&self) -> Heavy {
        COPIES.set(COPIES.get() + 1);
        Heavy(self.0)
    }
}

/// Every record was copied before it was known whether it is late.
#[test]
fn a_record_that_is_not_late_is_not_copied_for_those_who_want_late_ones() -> Result<()> {
    type Heavies = KStream<String, Heavy>;
    let program = |kind: &str, wanted: bool| -> Result<Vec<usize>> {
        let b = StreamsBuilder::new();
        let stream = b.stream::<String, Heavy>("in");
        let (grouped, use_it) = (stream.group_by_key(), |late: KStream<Windowed<String>, Heavy>| late.to("late"));
        let hopping = TimeWindows::of(ms(100)).advance_by(ms(50)).grace(ms(50));
        let fixed = |windowed: TimeWindowedStream<String, Heavy>| {
            let windowed = if wanted { windowed.on_late(use_it) } else { windowed };
            windowed.aggregate("sums", || 0_i64, |_, n, sum| *sum += n.0);
        };
        match kind {
            "hopping" => fixed(grouped.windowed_by(hopping)),
            "sliding" => fixed(grouped.windowed_by(SlidingWindows::of(ms(100)).grace(ms(50)))),
            "sessions" => {
                let windowed = grouped.windowed_by(SessionWindows::of(ms(100)));
                let windowed = if wanted { windowed.on_late(use_it) } else { windowed };
                windowed.aggregate("sums", || 0_i64, |_, n, sum| *sum += n.0, |_, a, b| a + b);
            }
            join => {
                let windows = JoinWindows::of(ms(100)).drop_late();
                let joined = StreamJoined::with(windows);
                let joined = if wanted { joined.on_late_left(|late: Heavies| late.to("late")) } else { joined };
                let other = if join == "self" { stream.clone() } else { b.stream("other") };
                stream.join("joined", &other, joined, |l, r| l.0 + r.0).to("out");
            }
        }
        let driver = TopologyTestDriver::new(b.build()?)?;
        let input = driver.input::<String, Heavy>("in")?;
        let copies = |time| {
            COPIES.set(0);
            input.pipe_at(time, "k", Heavy(1));
            COPIES.get()
        };
        // Early, in order, only just in time, and late.
        Ok([0, 40, 500, 900, 880, 300].map(copies).to_vec())
    };
    for kind in ["hopping", "sliding", "sessions", "join", "self"] {
        let (without, with) = (program(kind, false)?, program(kind, true)?);
        assert_eq!(without[..5], with[..5], "{kind}");
        let late = with[5] - without[5];
        // The two windows that it has missed, of which one has the first copy.
        let most = if kind == "hopping" { 2 } else { 1 };
        assert!(late <= most, "{kind}: {late} copies of a late record");
    }
    Ok(())
}
