//! `on_late`: records that come too late for windows and sessions are streams of the program, those of a cogroup one stream for
//! each that is in it.

use std::time::Duration;

use millstream_core::Result;
use millstream_dsl::{
    FixedWindows, GroupedStream, KStream, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows,
    TopologyTestDriver,
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
            let Ok(late) = driver.output::<String, String>(topic) else { return Ok(Vec::new()) };
            Ok(late.read_records().into_iter().map(|late| format!("{}@{}", late.value, late.timestamp)).collect())
        };
        Ok(([out("late-left")?, out("late-right")?], driver.counters().late_records))
    };
    let (undisturbed, disturbed) = (run(None)?, run(Some(2))?);
    assert_eq!(undisturbed.0, disturbed.0, "commits that fail");
    Ok(undisturbed)
}

fn to(topic: &str) -> impl FnOnce(KStream<String, String>) {
    move |late| late.to(topic)
}

fn texts(left: &[&str], right: &[&str]) -> [Vec<String>; 2] {
    [left, right].map(|side| side.iter().map(|text| (*text).to_owned()).collect())
}

/// A cogroup of both.
fn in_windows(windows: impl Into<FixedWindows> + Copy, on_close: bool) -> Result<([Vec<String>; 2], u64)> {
    late(|left, right| {
        let both = left.cogroup(|_, v: String, sum: &mut String| *sum += &v).cogroup(right, |_, v, sum| *sum += &v);
        let windowed = both.windowed_by(windows).on_late(left, to("late-left")).on_late(right, to("late-right"));
        let windowed = if on_close { windowed.emit_on_close() } else { windowed };
        windowed.aggregate("sums", String::new);
    })
}

#[test]
fn of_a_cogroup_in_windows_each_stream_has_its_own() -> Result<()> {
    // Each goes by its own time; on close all go by one (semantics.md 3).
    let own = (texts(&["late@96", "half@230"], &["later@99"]), 3);
    let one = (texts(&["late@96", "half@230"], &["r@97", "later@99"]), 4);
    assert_eq!(in_windows(TimeWindows::of(ms(100)), false)?, own);
    assert_eq!(in_windows(TimeWindows::of(ms(100)), true)?, one);
    assert_eq!(in_windows(SlidingWindows::of(ms(100)), false)?, own);
    // Of the windows of a record some are over: it comes once, and they are counted.
    let hopping = TimeWindows::of(ms(200)).advance_by(ms(100));
    assert_eq!(in_windows(hopping, true)?, one);
    let sliding = texts(&["late@96", "half@230"], &["r@97", "soon@320", "later@99"]);
    assert_eq!(in_windows(SlidingWindows::of(ms(100)), true)?, (sliding, 5));
    Ok(())
}

#[test]
fn of_a_cogroup_in_sessions_too() -> Result<()> {
    let in_sessions = |on_close| {
        late(|left, right| {
            let both = left.cogroup(|_, v: String, sum: &mut String| *sum += &v).cogroup(right, |_, v, sum| *sum += &v);
            let sessions = both.in_sessions(SessionWindows::of(ms(100)));
            let sessions = if on_close { sessions.emit_on_close() } else { sessions };
            let sessions = sessions.on_late(left, to("late-left")).on_late(right, to("late-right"));
            sessions.aggregate("sums", String::new, |_, a, b| a + &b);
        })
    };
    assert_eq!(in_sessions(false)?, (texts(&["late@96", "half@230"], &["later@99"]), 3));
    assert_eq!(in_sessions(true)?, (texts(&["late@96", "half@230"], &["r@97", "later@99"]), 4));
    Ok(())
}

#[test]
fn of_one_stream_in_sliding_windows_and_sessions() -> Result<()> {
    let values = |late: KStream<String, Text>| late.filter(|_, v| v.is_some()).to("late-left");
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
