//! What makes no sense is refused when the program is built, by an error that says what, where and what to do; and what is just
//! on the right side of that is taken.

use std::time::Duration;

use millstream_core::{Error, OffsetReset, Record, Result};
use millstream_dsl::{
    BufferConfig, Clock, Consumed, GroupedStream, JoinWindows, Joined, KStream, KTable, MIN, Out, Processor,
    Repartitioned, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows,
};

const TOO_SHORT: Duration = Duration::from_micros(999);
const MS: Duration = Duration::from_millis(1);
/// A millisecond too many, and what fits 64 bits of milliseconds no more.
const TOO_LONG: [Duration; 2] = [Duration::from_millis((i64::MAX / 8) as u64 + 1), Duration::MAX];
const LONGEST: Duration = Duration::from_millis((i64::MAX / 8) as u64);

struct Ticking;

impl Processor for Ticking {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        out.forward(record)
    }
}

/// A program under test: a stream, what it is grouped to, and tables.
struct Program {
    b: StreamsBuilder,
    stream: KStream<String, i64>,
    grouped: GroupedStream<String, i64>,
    rows: KTable<String, i64>,
    versions: KTable<String, i64>,
}

impl Program {
    fn new() -> Self {
        let b = StreamsBuilder::new();
        let stream = b.stream::<String, i64>("in");
        let grouped = stream.group_by_key();
        let rows = b.table::<String, i64>("rows", "rows");
        let versions = b.versioned_table::<String, i64>("versions", "versions", LONGEST);
        Program { b, stream, grouped, rows, versions }
    }
}

/// What `build` says of a program, problem by problem.
fn problems(program: impl FnOnce(&Program)) -> Vec<String> {
    let p = Program::new();
    program(&p);
    match p.b.build() {
        Ok(_) => Vec::new(),
        Err(Error::Build(problems)) => *problems,
        Err(other) => panic!("{other}"),
    }
}

/// A place that takes a duration: what it is, where, whether zero is fine, and a program that has it there.
type Place = (&'static str, &'static str, bool, fn(&Program, Duration));

const PLACES: [Place; 24] = [
    ("windows", "`s`", false, |p, d| drop(p.grouped.windowed_by(TimeWindows::of(d)).count("s"))),
    // The size leaves room for every advance.
    ("an advance", "`s`", false, |p, d| {
        drop(p.grouped.windowed_by(TimeWindows::of(LONGEST).advance_by(d)).count("s"));
    }),
    ("a grace", "`s`", true, |p, d| drop(p.grouped.windowed_by(TimeWindows::of(MS).grace(d)).count("s"))),
    ("a difference", "`s`", true, |p, d| drop(p.grouped.windowed_by(SlidingWindows::of(d)).count("s"))),
    ("a grace", "`s`", true, |p, d| drop(p.grouped.windowed_by(SlidingWindows::of(MS).grace(d)).count("s"))),
    ("a gap", "`s`", false, |p, d| drop(p.grouped.windowed_by(SessionWindows::of(d)).count("s"))),
    ("a grace", "`s`", true, |p, d| drop(p.grouped.windowed_by(SessionWindows::of(MS).grace(d)).count("s"))),
    ("a difference", "join `j`", true, |p, d| {
        drop(p.stream.join("j", &p.b.stream::<String, i64>("other"), JoinWindows::of(d), |l, r| l + r));
    }),
    ("a difference", "join `j`", true, |p, d| {
        drop(p.stream.left_join("j", &p.b.stream::<String, i64>("other"), JoinWindows::of(MS).before(d), |l, _| *l));
    }),
    ("a difference", "join `j`", true, |p, d| {
        drop(p.stream.outer_join("j", &p.b.stream::<String, i64>("other"), JoinWindows::of(MS).after(d), |_, _| 0));
    }),
    ("a grace", "join `j`", true, |p, d| {
        drop(p.stream.join("j", &p.stream, JoinWindows::of(MS).grace(d), |l, r| l + r));
    }),
    ("a grace", "join `j`", true, |p, d| {
        drop(p.stream.join_table(Joined::named("j").grace(d), &p.versions, |l, r| l + r));
    }),
    ("a grace", "join `j`", true, |p, d| {
        drop(p.stream.left_join_table(Joined::named("j").grace(d), &p.versions, |l, _| *l));
    }),
    ("a history", "`s`", true, |p, d| drop(p.b.versioned_table::<String, i64>("other", "s", d))),
    ("a history", "`s`", true, |p, d| drop(p.stream.to_versioned_table("s", d))),
    ("a history", "`s`", true, |p, d| {
        let _handle = p.b.versioned_store::<String, i64>("s", d);
    }),
    ("a retention", "`s`", false, |p, d| {
        let _handle = p.b.window_store::<String, i64>("s", d);
    }),
    ("a retention", "`s`", false, |p, d| {
        let _handle = p.b.session_store::<String, i64>("s", d);
    }),
    ("a limit", "`s`", true, |p, d| drop(p.rows.suppress_for("s", d, BufferConfig::unbounded()))),
    ("an idleness", "the source of `other`", false, |p, d| {
        p.b.stream_with("other", Consumed::of::<String, i64>().idleness(d)).to("out");
    }),
    ("an idleness", "the source of `other`", false, |p, d| {
        drop(p.b.table_with("other", "s", Consumed::of::<String, i64>().idleness(d)));
    }),
    ("a reset by duration", "the source of `other`", true, |p, d| {
        p.b.stream_with("other", Consumed::of::<String, i64>().reset(OffsetReset::ByDuration(d))).to("out");
    }),
    ("a timer", "processor `tick`", false, |p, d| {
        drop(p.stream.process("tick", move |setup| {
            setup.every(d, Clock::Wall, |_, _, _| Ok(()));
            Ticking
        }));
    }),
    ("a timer", "processor `tick`", false, |p, d| {
        drop(p.stream.process("tick", move |setup| {
            setup.every_from(0, d, Clock::Stream, |_, _, _| Ok(()));
            Ticking
        }));
    }),
];

#[test]
fn durations_are_nothing_or_a_millisecond_at_least_and_not_longer_than_time() {
    for (number, (what, place, zero_is_fine, program)) in PLACES.into_iter().enumerate() {
        let of = |given: Duration| problems(|p| program(p, given));
        let refused = |given: Duration, remedy: &str| {
            assert_eq!(of(given), [format!("{place}: {what} of {given:?}\n  help: {remedy}")], "{number}");
        };
        let least =
            if zero_is_fine { "0, or at least 1 ms: durations count in whole milliseconds" } else { "at least 1 ms" };
        refused(TOO_SHORT, least);
        if zero_is_fine {
            assert_eq!(of(Duration::ZERO), [""; 0], "{number}: zero");
        } else {
            refused(Duration::ZERO, least);
        }
        TOO_LONG.iter().for_each(|long| refused(*long, "at most 1152921504606846975 ms, which is 36 million years"));
        for fine in [MS, LONGEST] {
            assert_eq!(of(fine), [""; 0], "{number}: {fine:?}");
        }
    }
}

/// What is kept, what needs it, and a program that keeps it for a duration.
type Retention = (&'static str, &'static str, fn(&Program, Duration));

const RETENTIONS: [Retention; 4] = [
    ("windows", "size and grace", |p, d| {
        drop(p.grouped.windowed_by(TimeWindows::of(MS)).retention(d).count("s"));
    }),
    ("sessions", "gap and grace", |p, d| {
        drop(p.grouped.windowed_by(SessionWindows::of(MS)).retention(d).count("s"));
    }),
    ("windows", "size and grace", |p, d| {
        let cogroup = p.grouped.cogroup(|_, n, sum: &mut i64| *sum += n).windowed_by(TimeWindows::of(MS));
        drop(cogroup.retention(d).aggregate("s", || 0));
    }),
    ("sessions", "gap and grace", |p, d| {
        let cogroup = p.grouped.cogroup(|_, n, sum: &mut i64| *sum += n).in_sessions(SessionWindows::of(MS));
        drop(cogroup.retention(d).aggregate("s", || 0, |_, a, b| a + b));
    }),
];

/// Of nothing at all, a millisecond at least was wanted, which was not enough then.
#[test]
fn a_retention_of_nothing_is_as_short_as_any_other_that_is_too_short() {
    for (kept, of, program) in RETENTIONS {
        let keeps = |given: Duration| problems(|p| program(p, given));
        for short in [Duration::ZERO, TOO_SHORT] {
            assert_eq!(keeps(short), [format!("`s` keeps {kept} for 0 ms\n  help: {of} need at least 1 ms")]);
        }
        let remedy = "at most 1152921504606846975 ms, which is 36 million years";
        for long in TOO_LONG {
            assert_eq!(keeps(long), [format!("`s`: a retention of {long:?}\n  help: {remedy}")]);
        }
        assert_eq!((keeps(MS), keeps(LONGEST)), (vec![], vec![]));
    }
}

/// The first of several, and nothing that follows from it.
#[test]
fn a_bad_duration_is_one_problem() {
    let found = problems(|p| {
        let windows = TimeWindows::of(Duration::ZERO).advance_by(MIN).grace(TOO_SHORT);
        p.grouped.windowed_by(windows).retention(Duration::ZERO).count("s");
    });
    assert_eq!(found, ["`s`: windows of 0ns\n  help: at least 1 ms"]);
    let found = problems(|p| drop(p.grouped.windowed_by(TimeWindows::of(MS).advance_by(2 * MS)).count("s")));
    assert_eq!(found, ["`s`: windows of 1 ms that advance by 2 ms\n  help: no more than the size"]);
}

#[test]
fn buffers_hold_something() {
    let suppressed = |buffer: BufferConfig| problems(|p| drop(p.rows.suppress_for("s", MIN, buffer)));
    let remedy = "help: at least 1, or BufferConfig::unbounded()";
    assert_eq!(suppressed(BufferConfig::max_records(0)), [format!("`s` may hold 0 rows\n  {remedy}")]);
    let early = BufferConfig::max_bytes(0).emit_early_when_full();
    assert_eq!(suppressed(early), [format!("`s` may hold 0 bytes\n  {remedy}")]);
    assert_eq!(suppressed(BufferConfig::max_records(1).with_max_bytes(1)), [""; 0]);
    let closed = problems(|p| {
        let counts = p.grouped.windowed_by(TimeWindows::of(MIN)).count("counts");
        counts.suppress_until_closed("s", BufferConfig::max_records(0));
    });
    assert_eq!(closed, [format!("`s` may hold 0 rows\n  {remedy}")]);
}

/// A name that is refused, and a program that has it.
type Named = (&'static str, fn(&Program));

#[test]
fn what_is_kept_has_a_name_that_a_log_takes() {
    let stores: [Named; 9] = [
        ("", |p| drop(p.grouped.count(""))),
        ("", |p| {
            let _handle = p.b.store::<String, i64>("");
        }),
        ("", |p| drop(p.b.table::<String, i64>("other", ""))),
        ("", |p| drop(p.b.global_table::<String, i64>("other", ""))),
        ("", |p| drop(p.rows.suppress_for("", MIN, BufferConfig::unbounded()))),
        ("-repartition", |p| p.stream.repartition("").to("out")),
        ("-repartition", |p| drop(p.stream.group_by("", |_, n| *n).count("s"))),
        ("-buffer", |p| drop(p.stream.join_table(Joined::named("").grace(MS), &p.versions, |l, r| l + r))),
        ("a b", |p| drop(p.grouped.count("a b"))),
    ];
    let remedy = "help: 1 to 200 of a-z, A-Z, 0-9, `.`, `_` and `-`, which does not come first";
    for (name, program) in stores {
        assert_eq!(problems(program), [format!("`{name}` cannot name a store or topic\n  {remedy}")]);
    }
    let topics: [Named; 6] = [
        ("", |p| p.stream.to("")),
        ("", |p| p.b.stream::<String, i64>("").to("out")),
        ("", |p| drop(p.b.table::<String, i64>("", "s"))),
        ("", |p| {
            let _handle = p.b.topic("", 1);
        }),
        ("a b", |p| p.b.stream::<String, i64>(["c", "a b"]).to("out")),
        (".", |p| p.stream.to(".")),
    ];
    let remedy = "help: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, not `.` or `..` alone";
    for (name, program) in topics {
        assert_eq!(problems(program), [format!("`{name}` cannot be a topic's name\n  {remedy}")]);
    }
}

/// When a timer is due next is kept under the name of its processor.
#[test]
fn processors_with_timers_have_names_of_their_own() {
    let tick = |p: &Program, name: &str| {
        drop(p.stream.process(name, |setup| {
            setup.every(MIN, Clock::Wall, |_, _, _| Ok(()));
            Ticking
        }));
    };
    let remedy = "timers, which are kept by it\n  help: give each processor a name of its own";
    assert_eq!(problems(|p| tick(p, "")), [format!("processor `` has no name, and {remedy}")]);
    let twice = problems(|p| ["a", "b", "a"].into_iter().for_each(|name| tick(p, name)));
    assert_eq!(twice, [format!("processor `a` has the name of another, and {remedy}")]);
    let without = problems(|p| (0..2).for_each(|_| drop(p.stream.process("", |_| Ticking))));
    assert_eq!(without, [""; 0]);
}

#[test]
fn partitions_are_one_at_least() {
    let found = problems(|p| p.stream.repartition(Repartitioned::named("r").number_of_partitions(0)).to("out"));
    assert_eq!(found, ["`r` repartitions to 0 partitions\n  help: at least 1"]);
    let found = problems(|p| {
        let _handle = p.b.topic("t", 0);
    });
    assert_eq!(found, ["topic `t` is asked for with 0 partitions\n  help: at least 1"]);
}
