//! A row that its store cannot write is found at the commit, and is for the processing handler as if it had failed at once: Kafka
//! Streams writes rows while it processes.

use std::str::from_utf8;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use millstream_core::{
    Data, Encoded, ExceptionHandler, Headers, Payload, Record, Result, RuntimeConfig, Serde, SerdeContext, SerdeError,
    Topology,
};
use millstream_dsl::{
    Clock, KeyValueStore, Optimization, Out, Processor, SECOND, SessionWindows, Setup, StreamsBuilder, TimeWindows,
};
use millstream_dsl::{TopologyTestDriver, kv};

/// A number, which has no bytes in a store if it is 13.
#[derive(Clone, Default, PartialEq, Debug)]
struct Odd(i64);

#[derive(Clone, Default)]
struct OddSerde;

impl Serde for OddSerde {
    type Value = Odd;

    fn serialize(
        &self,
        odd: &Odd,
        cx: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        if odd.0 == 13 && cx.topic != "in" {
            return Err(SerdeError::invalid("13 has no bytes"));
        }
        out.extend(odd.0.to_string().bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<Odd, SerdeError> {
        let bytes = bytes.ok_or_else(SerdeError::null::<Odd>)?;
        let text = from_utf8(bytes.as_slice()).map_err(|e| SerdeError::invalid(e.to_string()))?;
        assert!(text != "1313", "1313 is not read");
        Ok(Odd(text.parse().map_err(|e: std::num::ParseIntError| SerdeError::invalid(e.to_string()))?))
    }
}

impl Data for Odd {
    type Serde = OddSerde;
    type NonNull = Odd;

    fn as_non_null(&self) -> Option<&Odd> {
        Some(self)
    }

    fn into_non_null(self) -> Option<Odd> {
        Some(self)
    }
}

/// The last of a key's numbers, as a text.
fn last() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("letters", 1);
    let numbers = b.stream::<String, i64>("in").group_by_key();
    let last = numbers.aggregate("last", Odd::default, |_, n, odd| odd.0 = n);
    last.to_stream().map_values(|odd| odd.map(|odd| odd.0)).to("out");
    b.build()
}

fn driver(topology: Topology, processing: ExceptionHandler) -> Result<TopologyTestDriver> {
    TopologyTestDriver::with_config(topology, RuntimeConfig { processing, ..RuntimeConfig::embedded("test") })
}

/// Writes these, and processes them in one commit.
fn pipe(t: &TopologyTestDriver, records: &[(&str, i64)]) -> Result<()> {
    let input = t.input::<String, i64>("in")?;
    for (key, n) in records {
        input.enqueue(Record::new((*key).to_owned(), *n, 0))?;
    }
    t.run()
}

const RECORDS: [(&str, i64); 7] = [("a", 5), ("b", 13), ("a", 6), ("c", 13), ("e", 7), ("d", 13), ("b", 8)];

/// Every start came to it again, and nothing said which record it was.
#[test]
fn it_is_told_with_its_record() -> Result<()> {
    let t = driver(last()?, ExceptionHandler::Fail)?;
    let wanted = "KSTREAM-AGGREGATE-0000000002 failed in task 0_0 at in-0@1: cannot encode a value for `last`: 13 has no bytes\n  \
                  help: set processing.exception.handler to `continue` to leave such records out, and \
                  errors.dead.letter.queue.topic.name to keep them";
    for again in [&RECORDS[..], &[], &[]] {
        let said = pipe(&t, again).map_err(|error| error.to_string());
        assert_eq!(said, Err(wanted.to_owned()));
    }
    // What came before it is done.
    assert_eq!(t.output::<String, Option<i64>>("out")?.read(), [kv("a", 5)]);
    Ok(())
}

#[test]
fn it_is_left_out() -> Result<()> {
    for restart in [false, true] {
        let t = driver(last()?, ExceptionHandler::DeadLetter("letters".into()))?;
        let out = t.output::<String, Option<i64>>("out")?;
        pipe(&t, &RECORDS)?;
        assert_eq!(out.read(), [kv("a", 5), kv("a", 6), kv("e", 7), kv("b", 8)]);
        assert_eq!(t.output::<String, i64>("letters")?.read(), [kv("b", 13), kv("c", 13), kv("d", 13)]);
        assert_eq!((t.counters().dropped_records, t.counters().dead_letter), (3, 3));
        if restart {
            t.restart()?;
        }
        // Records go together again.
        let commits = t.counters().commit;
        pipe(&t, &[("a", 1), ("b", 2), ("d", 3)])?;
        assert_eq!(out.read(), [kv("a", 1), kv("b", 2), kv("d", 3)]);
        assert_eq!(t.counters().commit, if restart { 1 } else { commits + 1 });
    }
    Ok(())
}

/// A commit that fails meanwhile, whatever comes of it, leaves out no other record.
#[test]
fn it_alone_is_left_out_if_commits_fail() -> Result<()> {
    for nth in [2, 3, 5] {
        let t = driver(last()?, ExceptionHandler::Skip)?;
        t.fail_commits(Some(nth));
        pipe(&t, &RECORDS)?;
        let found = t.output::<String, Option<i64>>("out")?.read();
        assert_eq!(found, [kv("a", 5), kv("a", 6), kv("e", 7), kv("b", 8)], "every {nth}.");
    }
    Ok(())
}

/// Keeps what comes, and at a time of its own what has no bytes.
struct Keeper {
    rows: KeyValueStore<String, Odd>,
}

impl Processor for Keeper {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        self.rows.put(&record.key, Some(Odd(record.value)))?;
        out.forward(record)
    }
}

#[test]
fn it_is_so_for_every_kind_of_store() -> Result<()> {
    let programs: [fn(&StreamsBuilder); 4] = [
        |b| {
            let windows = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(10 * SECOND));
            let last = windows.aggregate("last", Odd::default, |_, n, odd| odd.0 = n);
            last.to_stream().map(|k, odd| (k.key, odd.map_or(0, |odd| odd.0))).to("out");
        },
        |b| {
            let sessions = b.stream::<String, i64>("in").group_by_key().windowed_by(SessionWindows::of(SECOND));
            let last = sessions.aggregate("last", Odd::default, |_, n, odd| odd.0 = n, |_, _, odd| odd);
            last.to_stream().filter(|_, odd| odd.is_some()).map(|k, odd| (k.key, odd.map_or(0, |odd| odd.0))).to("out");
        },
        |b| {
            let table = b.stream::<String, i64>("in").map_values(|n| Some(Odd(n))).to_table("last");
            table.to_stream().map_values(|odd| odd.map_or(0, |odd| odd.0)).to("out");
        },
        |b| {
            let rows = b.store::<String, Odd>("last");
            b.stream::<String, i64>("in").process("keep", move |setup| Keeper { rows: setup.store(rows) }).to("out");
        },
    ];
    for (number, program) in programs.into_iter().enumerate() {
        let b = StreamsBuilder::new();
        program(&b);
        let t = driver(b.build()?, ExceptionHandler::Skip)?;
        pipe(&t, &RECORDS)?;
        let found = t.output::<String, i64>("out")?.read();
        assert_eq!(found, [kv("a", 5), kv("a", 6), kv("e", 7), kv("b", 8)], "program {number}");
    }
    Ok(())
}

/// The record that was left out last was taken for the one at fault, and the same was done for ever.
#[test]
fn a_panic_in_the_same_commit_is_another_records() -> Result<()> {
    for records in
        [vec![("a", 13), ("b", 99)], vec![("a", 13), ("b", 99), ("c", 1)], vec![("b", 99), ("a", 13), ("c", 1)]]
    {
        let b = StreamsBuilder::new();
        b.topic("letters", 1);
        let numbers = b.stream::<String, i64>("in").map_values(|n| if n == 99 { panic!("99") } else { n });
        numbers.to("out");
        numbers.map_values(|n| Some(Odd(n))).to_table("last");
        let t = driver(b.build()?, ExceptionHandler::DeadLetter("letters".into()))?;
        pipe(&t, &records)?;
        let passed: Vec<i64> = records.iter().map(|(_, n)| *n).filter(|n| *n == 1).collect();
        let found = t.output::<String, i64>("out")?.read();
        assert_eq!(found.into_iter().map(|(_, n)| n).collect::<Vec<_>>(), passed, "{records:?}");
        assert_eq!(t.output::<String, i64>("letters")?.read().len(), 2, "{records:?}");
    }
    Ok(())
}

/// The records that moved time were left out, one after the other.
#[test]
fn what_has_waited_is_no_records_fault() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("letters", 1);
    let sums = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(SECOND));
    let sums = sums.emit_on_close().aggregate("sums", || 0, |_, n, sum| *sum += n);
    sums.to_stream().map_values(|sum| Some(Odd(sum.unwrap_or(0)))).to_table("last");
    let t = driver(b.build()?, ExceptionHandler::DeadLetter("letters".into()))?;
    let input = t.input::<String, i64>("in")?;
    input.pipe_at(0, "a", 13);
    for time in [1_000, 2_000] {
        let said = input.try_pipe(Record::new("b".into(), 1, time)).map_err(|error| error.to_string());
        assert_eq!(said, Err("cannot encode a value for `last`: 13 has no bytes".to_owned()));
    }
    assert_eq!(t.output::<String, i64>("letters")?.read(), []);
    Ok(())
}

/// One of very many costs a few commits, not one for each of them.
#[test]
fn it_is_found_by_halves() -> Result<()> {
    let t = driver(last()?, ExceptionHandler::Skip)?;
    let records: Vec<(&str, i64)> = (0..1_000).map(|n| ("a", if n == 700 { 13 } else { 1_000 + n })).collect();
    let tail = ("b", 13);
    pipe(&t, &records.iter().copied().chain([tail]).collect::<Vec<_>>())?;
    assert_eq!(t.output::<String, Option<i64>>("out")?.read().len(), 1_000);
    assert!(t.counters().commit < 40, "{} commits", t.counters().commit);
    Ok(())
}

/// No record has made it: the error says which store, and the state is as it was.
#[test]
fn it_may_come_from_a_timer() -> Result<()> {
    let b = StreamsBuilder::new();
    let rows = b.store::<String, Odd>("last");
    b.stream::<String, i64>("in")
        .process("keep", move |setup| {
            setup.every(SECOND, Clock::Wall, |keeper: &mut Keeper, _, _| {
                keeper.rows.put(&"t".into(), Some(Odd(13))).map(drop)
            });
            Keeper { rows: setup.store(rows) }
        })
        .to("out");
    let t = driver(b.build()?, ExceptionHandler::Skip)?;
    pipe(&t, &[("a", 1)])?;
    let said = t.advance(SECOND).map_err(|error| error.to_string());
    assert_eq!(said, Err("cannot encode a value for `last`: 13 has no bytes".to_owned()));
    Ok(())
}

/// No start got past it: who reads the rows asked no handler, or panicked outside every task.
#[test]
fn a_table_that_is_rebuilt_from_its_topic_leaves_it_out_too() -> Result<()> {
    let b = StreamsBuilder::new();
    b.optimize(Optimization::ALL);
    let rows = b.table::<String, Odd>("in", "rows");
    b.stream::<String, String>("asked").left_join_table("answers", &rows, |_, odd| odd.map_or(0, |o| o.0)).to("out");
    let t = driver(b.build()?, ExceptionHandler::Skip)?;
    let input = t.input::<Option<String>, Option<Odd>>("in")?;
    for (key, n) in [("a", 5), ("b", 13), ("a", 6), ("c", 1313), ("d", 7)] {
        input.pipe(Some(key.to_owned()), Some(Odd(n)));
    }
    assert_eq!(t.counters().dropped_records, 2);
    for _ in 0..2 {
        let asked = t.input::<String, String>("asked")?;
        ["a", "b", "c", "d"].into_iter().for_each(|key| asked.pipe(key, String::new()));
        let told = t.output::<String, i64>("out")?.read();
        assert_eq!(told, [kv("a", 6), kv("b", 0), kv("c", 0), kv("d", 7)]);
        t.restart()?;
    }
    Ok(())
}

struct Alarm;

impl Processor for Alarm {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> {
        Ok(())
    }
}

/// A timer whose program says another first time whenever its processor is made: each rollback put it off.
#[test]
fn a_timer_is_due_when_it_was_however_often_its_processor_is_made() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("letters", 1);
    let numbers = b.stream::<String, i64>("in");
    numbers.group_by_key().aggregate("last", Odd::default, |_, n, odd| odd.0 = n);
    let made = Arc::new(AtomicI64::new(0));
    let count = made.clone();
    let rings =
        |_: &mut Alarm, now: i64, out: &mut Out<'_, String, i64>| out.forward(Record::new("a".into(), now, now));
    let alarm = move |s: &mut Setup<'_, Alarm>| {
        let first = 10 + 10 * count.fetch_add(1, Ordering::Relaxed);
        s.every_from(first, Duration::from_secs(60), Clock::Wall, rings);
        Alarm
    };
    numbers.process("alarm", alarm).to("out");
    let t = driver(b.build()?, ExceptionHandler::DeadLetter("letters".into()))?;
    let before = made.load(Ordering::Relaxed);
    pipe(&t, &RECORDS)?;
    assert!(made.load(Ordering::Relaxed) > before + 2, "{made:?}");
    t.advance(Duration::from_millis(10 * before as u64))?;
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 10 * before)]);
    Ok(())
}
