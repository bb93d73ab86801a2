//! Timers that processors start and cancel while they process: as Kafka's `schedule` at that moment, and rolled back with all else.

use std::time::Duration;

use millstream_core::{Record, Result};
use millstream_dsl::{Clock, Out, Processor, Setup, StreamsBuilder, Timer, TopologyTestDriver};

const TEN: Duration = Duration::from_millis(10);

/// Does with its timers what records say.
struct Obedient {
    first: Timer,
    second: Timer,
}

type OutOfIt<'a> = Out<'a, String, i64>;

impl Processor for Obedient {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, r: Record<String, i64>, out: &mut OutOfIt<'_>) -> Result<()> {
        match r.key.as_str() {
            "start" => self.first.start(out),
            "from" => self.first.start_from(r.value, out),
            "cancel" => self.first.cancel(),
            _ => {}
        }
        Ok(())
    }
}

impl Obedient {
    fn new(s: &mut Setup<'_, Self>, clock: Clock, first: fn(&mut Self, i64, &mut OutOfIt<'_>) -> Result<()>) -> Self {
        let second = s.timer(TEN, clock, Self::second);
        Obedient { first: s.timer(TEN, clock, first), second }
    }

    fn first(&mut self, now: i64, out: &mut OutOfIt<'_>) -> Result<()> {
        assert!(self.first.is_running());
        tell("first", now, out)
    }

    fn second(&mut self, now: i64, out: &mut OutOfIt<'_>) -> Result<()> {
        tell("second", now, out)
    }

    fn once(&mut self, now: i64, out: &mut OutOfIt<'_>) -> Result<()> {
        self.first.cancel();
        assert!(!self.first.is_running());
        tell("first", now, out)
    }

    fn begin_second(&mut self, now: i64, out: &mut OutOfIt<'_>) -> Result<()> {
        self.first.cancel();
        self.second.start(out);
        tell("first", now, out)
    }

    fn go_on(&mut self, now: i64, out: &mut OutOfIt<'_>) -> Result<()> {
        self.first.start(out);
        tell("first", now, out)
    }
}

fn tell(what: &str, now: i64, out: &mut OutOfIt<'_>) -> Result<()> {
    out.forward(Record::new(what.to_owned(), now, now))
}

/// Times, keys and values of records; time passes by the clock in question.
type Records<'a> = &'a [(i64, &'a str, i64)];

/// What the timers tell, with commits that fail and without.
fn told(
    clock: Clock,
    make: fn(&mut Setup<'_, Obedient>) -> Obedient,
    restart: bool,
    records: Records<'_>,
) -> Result<Vec<(String, i64)>> {
    let runs: [Result<Vec<(String, i64)>>; 3] = [None, Some(2), Some(3)].map(|fail| {
        let b = StreamsBuilder::new();
        b.stream("in").process("obedient", make).to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        t.fail_commits(fail);
        let input = t.input::<String, i64>("in")?;
        let mut wall = 0;
        for (time, key, value) in records {
            if clock == Clock::Wall {
                t.advance(Duration::from_millis((time - wall) as u64))?;
                wall = *time;
            }
            input.pipe_at(*time, *key, *value);
            if restart {
                t.restart()?;
            }
        }
        Ok(t.output::<String, i64>("out")?.read())
    });
    let [without, with, also] = runs;
    let without = without?;
    assert_eq!((&with?, &also?), (&without, &without), "commits that fail change nothing");
    Ok(without)
}

fn first(times: &[i64]) -> Vec<(String, i64)> {
    times.iter().map(|time| ("first".to_owned(), *time)).collect()
}

const STREAM: fn(&mut Setup<'_, Obedient>) -> Obedient = |s| Obedient::new(s, Clock::Stream, Obedient::first);
const WALL: fn(&mut Setup<'_, Obedient>) -> Obedient = |s| Obedient::new(s, Clock::Wall, Obedient::first);

#[test]
fn by_stream_time_it_fires_behind_the_record_that_starts_it_and_then_at_multiples() -> Result<()> {
    let records: Records<'_> = &[
        (3, "-", 0),
        (4, "start", 0),
        (9, "-", 0),
        (12, "-", 0),
        (13, "cancel", 0),
        (25, "-", 0),
        (26, "start", 0),
        (27, "start", 0),
        (29, "-", 0),
        (30, "-", 0),
    ];
    assert_eq!(told(Clock::Stream, STREAM, false, records)?, first(&[4, 12, 26, 27, 30]));
    Ok(())
}

#[test]
fn it_starts_at_a_time_that_is_given_and_is_put_off_by_another() -> Result<()> {
    let records: Records<'_> = &[
        (3, "from", 15),
        (14, "from", 18),
        (17, "-", 0),
        (18, "-", 0),
        (27, "-", 0),
        (28, "-", 0),
        (30, "from", 5),
        (34, "-", 0),
        (36, "cancel", 0),
        (50, "-", 0),
    ];
    // The last start is past, and aligns it: 35 is due with the record at 36, which cancels it.
    assert_eq!(told(Clock::Stream, STREAM, false, records)?, first(&[18, 28]));
    Ok(())
}

#[test]
fn by_the_wall_clock_it_fires_an_interval_after_its_start() -> Result<()> {
    let records: Records<'_> = &[
        (3, "start", 0),
        (12, "start", 0),
        (21, "-", 0),
        (22, "-", 0),
        (31, "-", 0),
        (32, "cancel", 0),
        (50, "-", 0),
        (51, "from", 44),
        (53, "-", 0),
        (54, "-", 0),
    ];
    // It is 32 before the record of that time comes.
    assert_eq!(told(Clock::Wall, WALL, false, records)?, first(&[22, 32, 54]));
    Ok(())
}

#[test]
fn a_timer_cancels_itself_and_is_started_again() -> Result<()> {
    let once = |s: &mut Setup<'_, Obedient>| Obedient::new(s, Clock::Stream, Obedient::once);
    let records: Records<'_> =
        &[(3, "from", 10), (10, "-", 0), (20, "-", 0), (21, "from", 30), (40, "-", 0), (50, "-", 0)];
    assert_eq!(told(Clock::Stream, once, false, records)?, first(&[10, 40]));
    Ok(())
}

#[test]
fn a_timer_starts_another_which_fires_in_the_same_round() -> Result<()> {
    let records: Records<'_> = &[(3, "from", 10), (12, "-", 0), (13, "-", 0), (20, "-", 0), (31, "cancel", 0)];
    let stream = |s: &mut Setup<'_, Obedient>| Obedient::new(s, Clock::Stream, Obedient::begin_second);
    let both = |times: &[i64]| {
        let second = times.iter().map(|time| ("second".to_owned(), *time));
        first(&[12]).into_iter().chain(second).collect::<Vec<_>>()
    };
    assert_eq!(told(Clock::Stream, stream, false, records)?, both(&[12, 20, 31]));
    let wall = |s: &mut Setup<'_, Obedient>| Obedient::new(s, Clock::Wall, Obedient::begin_second);
    assert_eq!(told(Clock::Wall, wall, false, records)?, both(&[31]), "due at 22");
    Ok(())
}

#[test]
fn a_timer_of_one_clock_starts_one_of_the_other() -> Result<()> {
    let mixed = |s: &mut Setup<'_, Obedient>| {
        let second = s.timer(TEN, Clock::Stream, Obedient::second);
        Obedient { first: s.timer(TEN, Clock::Wall, Obedient::begin_second), second }
    };
    let b = StreamsBuilder::new();
    b.stream("in").process("obedient", mixed).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, i64>("in")?.pipe_at(5, "start", 0);
    t.advance(TEN)?;
    // Nothing comes: the stream time is that of the last record, and the second timer is due by it.
    assert_eq!(t.output::<String, i64>("out")?.read(), [("first".to_owned(), 10), ("second".to_owned(), 5)]);
    Ok(())
}

#[test]
fn a_timer_that_starts_itself_at_once_fires_once_in_a_round() -> Result<()> {
    let go_on = |s: &mut Setup<'_, Obedient>| Obedient::new(s, Clock::Stream, Obedient::go_on);
    let records: Records<'_> = &[(3, "start", 0), (4, "-", 0), (10, "-", 0), (35, "-", 0), (39, "-", 0), (40, "-", 0)];
    assert_eq!(told(Clock::Stream, go_on, false, records)?, first(&[3, 10, 35, 40]));
    Ok(())
}

#[test]
fn what_is_due_survives_a_restart_and_what_was_cancelled_begins_as_in_the_setup() -> Result<()> {
    let records: Records<'_> =
        &[(3, "from", 15), (14, "-", 0), (17, "-", 0), (24, "-", 0), (25, "cancel", 0), (99, "-", 0)];
    assert_eq!(told(Clock::Stream, STREAM, true, records)?, first(&[17]), "25 is due with the record that cancels it");
    let every = |s: &mut Setup<'_, Obedient>| {
        let second = s.timer(TEN, Clock::Stream, Obedient::second);
        Obedient { first: s.every(TEN, Clock::Stream, Obedient::first), second }
    };
    let records: Records<'_> = &[(3, "-", 0), (4, "cancel", 0), (25, "-", 0), (26, "-", 0), (30, "cancel", 0)];
    assert_eq!(told(Clock::Stream, every, false, records)?, first(&[3]));
    // Begun anew after 4 and 30, when stream time is known already: it is due at once.
    assert_eq!(told(Clock::Stream, every, true, records)?, first(&[3, 4, 25, 30]));
    Ok(())
}
