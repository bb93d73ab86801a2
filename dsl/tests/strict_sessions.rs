//! `strict_end()`: a session that has closed is final. A record that was only just not late came to sessions that had ended a gap
//! before it, and merged them: they were passed on twice, as in Kafka Streams, although one result was promised.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Record, Result, Timestamp};
use millstream_dsl::{
    BufferConfig, CogroupedStream, KTable, SessionWindows, StreamsBuilder, TestOutput, TopologyTestDriver, Windowed,
};

type Table = KTable<Windowed<String>, i64>;
type Session = (String, Timestamp, Timestamp);

/// Begins, ends and counts.
type Closed = Vec<(Timestamp, Timestamp, Option<i64>)>;

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn changes(out: &TestOutput<Windowed<String>, Option<i64>>) -> Vec<(Session, Option<i64>)> {
    out.read().into_iter().map(|(k, n)| ((k.key, k.window.start, k.window.end), n)).collect()
}

/// What is passed on when it closes, and by a suppression, for records of two keys, `a` and `b`, of which `b` moves time: sessions of `a`, of a gap of 5 ms.
fn closed(windows: SessionWindows, records: &[(i64, &str)]) -> Result<[Closed; 2]> {
    let b = StreamsBuilder::new();
    let sessions = b.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    sessions.count("waiting").suppress_until_closed("final", BufferConfig::unbounded()).to_stream().to("suppressed");
    sessions.emit_on_close().count("n").to_stream().to("on-close");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    records.iter().for_each(|(time, key)| input.pipe_at(*time, *key, 1));
    let of_a = |topic: &str| -> Result<Closed> {
        let rows = changes(&t.output(topic)?).into_iter().filter(|((key, ..), _)| key == "a");
        Ok(rows.map(|((_, start, end), n)| (start, end, n)).collect())
    };
    Ok([of_a("on-close")?, of_a("suppressed")?])
}

#[test]
fn a_record_that_is_only_just_not_late_begins_a_session_behind_a_closed_one() -> Result<()> {
    let records = [(0, "a"), (6, "b"), (1, "a"), (100, "b")];
    let twice = vec![(0, 0, Some(1)), (0, 1, Some(2))];
    assert_eq!(closed(SessionWindows::of(ms(5)), &records)?, [twice.clone(), twice]);
    let once = vec![(0, 0, Some(1)), (1, 1, Some(1))];
    assert_eq!(closed(SessionWindows::of(ms(5)).strict_end(), &records)?, [once.clone(), once]);
    Ok(())
}

#[test]
fn an_open_session_does_not_grow_over_a_closed_one() -> Result<()> {
    // The session of 0 to 10 has closed when that of 14 is open still: what came at 11 is nobody's, what came at 10 the closed one's.
    let before = [(0, "a"), (5, "a"), (10, "a"), (16, "b"), (14, "a")];
    let with = |time| [&before[..], &[(time, "a"), (100, "b")]].concat();
    let strict = |time| closed(SessionWindows::of(ms(5)).strict_end(), &with(time));
    let own = vec![(0, 10, Some(3)), (11, 14, Some(2))];
    assert_eq!(strict(11)?, [own.clone(), own]);
    let late = vec![(0, 10, Some(3)), (14, 14, Some(1))];
    assert_eq!(strict(10)?, [late.clone(), late]);
    Ok(())
}

#[test]
fn an_open_session_does_not_grow_to_where_a_closed_one_may_be_forgotten() -> Result<()> {
    let chain: Vec<(i64, &str)> = [0, 7].into_iter().chain((2..9).map(|n| n * 5)).map(|time| (time, "a")).collect();
    let with = |time| [&chain[..], &[(time, "a"), (100, "b")]].concat();
    let strict = |time| closed(SessionWindows::of(ms(5)).strict_end(), &with(time));
    // It began at 7. What is in it comes to it however late; at 4 there may have been another.
    for (time, n) in [(4, 8), (8, 9)] {
        let wanted = vec![(0, 0, Some(1)), (7, 40, Some(n))];
        assert_eq!(strict(time)?, [wanted.clone(), wanted], "{time}");
    }
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

#[derive(Debug, Clone, Copy, PartialEq)]
enum Emit {
    Update,
    Close,
    Suppress,
}

/// Sessions of a kind; all but those that delete count.
fn sessions(b: &StreamsBuilder, kind: &str, windows: SessionWindows, kept: Duration, emit: Emit) -> Table {
    let grouped = |topic: &str| b.stream::<String, i64>(topic).group_by_key();
    let (one, other) = (grouped("in"), grouped("other"));
    let both: CogroupedStream<String, i64> = one.cogroup(|_, _, n| *n += 1).cogroup(&other, |_, _, n| *n += 1);
    macro_rules! emitting {
        ($windowed:expr) => {{
            let windowed = $windowed.retention(kept);
            if emit == Emit::Close { windowed.emit_on_close() } else { windowed }
        }};
    }
    let alone = || emitting!(one.windowed_by(windows));
    let table = match kind {
        "count" => alone().count("n"),
        "reduce" => alone().reduce("n", |a, b| a + b),
        "reduce that may fail" => alone().try_reduce("n", |a, b| Ok::<_, String>(a + b)),
        "reduce that deletes" => alone().reduce_or_delete("n", |a, b| Some(a + b).filter(|n| n % 3 != 0)),
        "aggregate" => alone().aggregate("n", || 0, |_, _, n| *n += 1, |_, a, b| a + b),
        _ => emitting!(both.in_sessions(windows)).aggregate("n", || 0, |_, a, b| a + b),
    };
    match emit {
        Emit::Suppress => table.suppress_until_closed("final", BufferConfig::unbounded()),
        _ => table,
    }
}

/// What is wrong with what is passed on of sessions with a strict end.
fn story(kind: &str, emit: Emit, seed: u64) -> Result<Option<String>> {
    let mut dice = Dice(seed * 7919);
    let (gap, grace) = (1 + dice.below(6), dice.below(3) * 4);
    let b = StreamsBuilder::new();
    let windows = SessionWindows::of(ms(gap)).grace(ms(grace)).strict_end();
    let kept = ms(gap + grace + dice.below(2) * 50);
    sessions(&b, kind, windows, kept, emit).to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.fail_commits(seed.is_multiple_of(3).then_some(3));
    let inputs = [t.input::<String, i64>("in")?, t.input::<String, i64>("other")?];
    let out = t.output("out")?;
    let (mut now, mut rows, mut told, mut late) = (0, BTreeMap::new(), Vec::new(), 0);
    let records = 80;
    for step in 0..records {
        // The last of them lets all go.
        let last = step == records - 1;
        let on = if last || dice.below(20) == 0 { 90 } else { dice.below(gap.unsigned_abs() + 2) };
        let newest = now + on;
        let at = if last { newest } else { (newest - dice.below(2) * dice.below(25)).max(0) };
        let (closes_before, key) = (now - gap - grace, if last { "c" } else { ["a", "b"][dice.below(2) as usize] });
        let input = if kind == "cogroup" { dice.below(2) as usize } else { 0 };
        now = now.max(at);
        told.push(format!("{input} {key}@{at}"));
        inputs[input].try_pipe(Record::new(key.to_owned(), 1, at))?;
        let place = |what: &str| Some(format!("{kind} {emit:?} {seed}, gap {gap}, grace {grace}: {what}\n  {told:?}"));
        for (session, n) in changes(&out) {
            // What has closed before this record, on close what is open after it.
            let is_final = session.2 < closes_before;
            let wrong = if emit == Emit::Update { is_final } else { is_final || session.2 >= now - gap - grace };
            let before = rows.insert(session.clone(), n);
            if wrong || emit != Emit::Update && (before.is_some() || n.is_none()) {
                return Ok(place(&format!("{session:?} {n:?} where time was {now}, before it {before:?}")));
            }
        }
        rows.retain(|_, n| n.is_some());
        let mut one_by_one = rows.keys().zip(rows.keys().skip(1));
        if let Some((l, r)) = one_by_one.find(|((key, _, end), (other, start, _))| key == other && end >= start) {
            return Ok(place(&format!("{l:?} and {r:?}")));
        }
        if seed.is_multiple_of(4) && step % 8 == 7 {
            late += t.counters().late_records;
            t.restart()?;
        }
    }
    late += t.counters().late_records;
    // But for the record that came last, and waits on close.
    let counted = rows.values().flatten().sum::<i64>() + i64::from(emit != Emit::Update);
    let lost = kind != "reduce that deletes" && !seed.is_multiple_of(3) && counted + late as i64 != records;
    Ok(lost.then(|| format!("{kind} {emit:?} {seed}: {counted} and {late} late\n  {told:?}")))
}

/// Each session once, no two over each other, none changed that has closed, no record in two of them or in none.
#[test]
fn what_has_closed_is_final() -> Result<()> {
    let mut wrong = Vec::new();
    for kind in ["count", "reduce", "reduce that may fail", "reduce that deletes", "aggregate", "cogroup"] {
        for emit in [Emit::Update, Emit::Close, Emit::Suppress] {
            let found = (1..=40).map(|seed| story(kind, emit, seed)).collect::<Result<Vec<_>>>()?;
            let found: Vec<String> = found.into_iter().flatten().collect();
            wrong.extend(found.first().map(|first| format!("{} of 40: {first}", found.len())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
