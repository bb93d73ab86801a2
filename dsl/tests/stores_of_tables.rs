//! A processor opens the store behind a table, as `stream.process(supplier, "counts")` does in Kafka Streams, and that of a
//! global table without being connected to it.

use std::time::Duration;

use millstream_core::{Record, Result};
use millstream_dsl::{
    KTable, KeyValueStore, Optimization, Out, Processor, ProcessorStore, Repartitioned, SessionStore, SessionWindows,
    StoreHandle, StreamsBuilder, TimeWindows, TopologyTestDriver, VersionedStore, WindowStore, Windowed,
};

/// Answers a record with what `f` finds in a store.
struct Ask<S, F>(S, F);

impl<S: 'static, F: Fn(&S, &Record<String, i64>) -> Result<String> + 'static> Processor for Ask<S, F> {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = String;

    fn process(&mut self, record: Record<String, i64>, out: &mut Out<'_, String, String>) -> Result<()> {
        let found = (self.1)(&self.0, &record)?;
        out.forward(record.with_value(found))
    }
}

/// A processor of topic `asked`, which answers to topic `answers`.
fn ask<S: ProcessorStore + 'static>(
    b: &StreamsBuilder,
    store: StoreHandle<S>,
    f: impl Fn(&S, &Record<String, i64>) -> Result<String> + Clone + Send + Sync + 'static,
) {
    let asked = b.stream::<String, i64>("asked");
    asked.process("ask", move |setup| Ask(setup.store(store), f.clone())).to("answers");
}

/// What it answers to `n`, once the topic `in` has had these records of key `a`, also after a restart.
fn answers(b: &StreamsBuilder, records: &[(i64, i64)], asked: &[i64]) -> Result<Vec<String>> {
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, ask) = (t.input::<String, i64>("in")?, t.input::<String, i64>("asked")?);
    let out = t.output::<String, String>("answers")?;
    records.iter().for_each(|(time, n)| input.pipe_at(*time, "a", *n));
    let mut all = Vec::new();
    for again in [false, true] {
        if again {
            t.restart()?;
        }
        asked.iter().for_each(|n| ask.pipe_at(100, "a", *n));
        all.push(out.read().into_iter().map(|(_, answer)| answer).collect::<Vec<_>>());
    }
    assert_eq!(all[0], all[1], "after a restart");
    Ok(all.remove(0))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn row(rows: &KeyValueStore<String, i64>, asked: &Record<String, i64>) -> Result<String> {
    Ok(format!("{:?}", rows.get_with_timestamp(&asked.key)?.map(|row| (row.value, row.timestamp))))
}

#[test]
fn key_value_tables_of_every_origin_are_read() -> Result<()> {
    type Make = fn(&StreamsBuilder) -> KTable<String, i64>;
    let tables: [(&str, Make); 7] = [
        ("Some((7, 5))", |b| b.table("in", "rows")),
        ("Some((7, 5))", |b| b.stream::<String, i64>("in").to_table("rows")),
        ("Some((2, 5))", |b| b.stream::<String, i64>("in").group_by_key().count("rows")),
        ("Some((10, 5))", |b| b.stream::<String, i64>("in").group_by_key().reduce("rows", |a, b| a + b)),
        ("Some((70, 5))", |b| b.table::<String, i64>("in", "above").map_values(|n: i64| n * 10).materialize("rows")),
        ("Some((7, 5))", |b| {
            b.table::<String, i64>("in", "above").group_by("by", |k, n: i64| (k.clone(), n)).reduce(
                "rows",
                |a, b| a + b,
                |a, b| a - b,
            )
        }),
        ("Some((8, 5))", |b| {
            b.table::<String, i64>("in", "above")
                .transform_values("rows", |_| |_: &String, n: Option<i64>| Ok(n.map(|n| n + 1)))
        }),
    ];
    for (wanted, make) in tables {
        let b = StreamsBuilder::new();
        ask(&b, make(&b).store()?, row);
        assert_eq!(answers(&b, &[(1, 3), (5, 7)], &[0])?, [wanted]);
    }
    Ok(())
}

#[test]
fn windows_sessions_and_versions_are_read() -> Result<()> {
    let records = [(1, 3), (5, 7), (14, 1)];
    let b = StreamsBuilder::new();
    let counts = b
        .stream::<String, i64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::of(ms(10)))
        .retention(ms(50))
        .count("rows");
    ask(&b, counts.window_store()?, |rows: &WindowStore<String, i64>, r| {
        Ok(format!("{:?}", rows.fetch(&r.key, 0..=99)?))
    });
    assert_eq!(answers(&b, &records, &[0])?, ["[(0, 2), (10, 1)]"]);

    let b = StreamsBuilder::new();
    let counts = b
        .stream::<String, i64>("in")
        .group_by_key()
        .windowed_by(SessionWindows::of(ms(5)))
        .retention(ms(50))
        .count("rows");
    ask(&b, counts.session_store()?, |rows: &SessionStore<String, i64>, r| {
        let sessions =
            rows.fetch(&r.key)?.into_iter().map(|(session, n)| (session.window.start, session.window.end, n));
        Ok(format!("{:?}", sessions.collect::<Vec<_>>()))
    });
    assert_eq!(answers(&b, &records, &[0])?, ["[(1, 5, 2), (14, 14, 1)]"]);

    let b = StreamsBuilder::new();
    let rows = b.versioned_table::<String, i64>("in", "rows", ms(100)).versioned_store()?;
    ask(&b, rows, |rows: &VersionedStore<String, i64>, r| {
        Ok(format!("{:?}", rows.get_as_of(&r.key, r.value)?.map(|row| (row.value, row.timestamp))))
    });
    assert_eq!(answers(&b, &records, &[4, 5, 20])?, ["Some((3, 1))", "Some((7, 5))", "Some((1, 14))"]);
    Ok(())
}

#[test]
fn a_global_table_is_read_and_not_written() -> Result<()> {
    let b = StreamsBuilder::new();
    ask(&b, b.global_table::<String, i64>("in", "rows").store(), |rows: &KeyValueStore<String, i64>, r| {
        let put = rows
            .put(&r.key, Some(r.value))
            .map(drop)
            .map_err(|error| error.to_string().lines().next().map(str::to_owned));
        Ok(format!("{} {put:?}", row(rows, r)?))
    });
    let refused = "store `rows` is filled by the records of topic `in` alone: what a processor puts there would be gone with the next start";
    assert_eq!(answers(&b, &[(1, 3), (5, 7)], &[9])?, [format!("Some((7, 5)) {:?}", Err::<(), _>(Some(refused)))]);
    Ok(())
}

/// As in Kafka Streams: the row is the table's from then on, also for the aggregation, and nobody is told.
#[test]
fn a_row_that_a_processor_puts_is_the_tables_and_is_not_passed_on() -> Result<()> {
    let b = StreamsBuilder::new();
    let sums = b.stream::<String, i64>("in").group_by_key().reduce("rows", |a, b| a + b);
    sums.to_stream().to("sums");
    ask(&b, sums.store()?, |rows: &KeyValueStore<String, i64>, r| {
        rows.put(&r.key, Some(r.value))?;
        row(rows, r)
    });
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, asked) = (t.input::<String, i64>("in")?, t.input::<String, i64>("asked")?);
    let sums = t.output::<String, Option<i64>>("sums")?;
    input.pipe_at(0, "a", 1);
    asked.pipe_at(1, "a", 100);
    t.restart()?;
    input.pipe_at(2, "a", 1);
    let values: Vec<_> = sums.read().into_iter().map(|(_, sum)| sum).collect();
    assert_eq!(values, [Some(1), Some(101)]);
    Ok(())
}

/// A processor may write a window while a hopping aggregation passes on what it has made of the one before.
#[test]
fn windows_may_be_written_while_they_are_passed_on() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = TimeWindows::of(ms(10)).advance_by(ms(5));
    let sums = b.stream::<String, i64>("in").group_by_key().windowed_by(windows).reduce("rows", |a, b| a + b);
    let (rows, changes) = (sums.window_store()?, sums.to_stream());
    let changes = changes.flat_map(|w, n| n.map(|n| (w.key, n)));
    let below = changes.process("below", move |setup| {
        Ask(setup.store(rows), |rows: &WindowStore<String, i64>, r: &Record<String, i64>| {
            rows.put(&r.key, Some(1000), 5)?;
            Ok(format!("{:?}", rows.fetch(&r.key, 0..=99)?))
        })
    });
    below.to("answers");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    input.pipe_at(6, "a", 1);
    let told: Vec<_> = t.output::<String, String>("answers")?.read().into_iter().map(|(_, told)| told).collect();
    // The second window takes the record behind what was put.
    assert_eq!(told, ["[(0, 1), (5, 1000)]", "[(0, 1), (5, 1000)]"]);
    Ok(())
}

/// Rows that are read again from the table's topic at a start cannot be put.
#[test]
fn a_table_that_is_rebuilt_from_its_topic_is_not_written() -> Result<()> {
    for (optimized, wanted) in [(false, "Ok"), (true, "Err")] {
        let b = StreamsBuilder::new();
        if optimized {
            b.optimize(Optimization::ALL);
        }
        ask(&b, b.table::<String, i64>("in", "rows").store()?, |rows: &KeyValueStore<String, i64>, r| {
            Ok(rows.put(&r.key, Some(r.value)).map_or("Err", |_| "Ok").to_owned())
        });
        assert_eq!(answers(&b, &[(1, 3)], &[9])?, [wanted]);
    }
    Ok(())
}

#[test]
fn a_table_without_a_store_of_its_own_has_none_to_open() {
    let b = StreamsBuilder::new();
    let rows = b.table::<String, i64>("in", "rows");
    let said = |result: Result<()>| result.expect_err("no such store").to_string();
    assert_eq!(
        said(rows.filter(|_, n| *n > 0).store().map(drop)),
        "the topology cannot run: .store() is asked of table `KTABLE-FILTER-0000000002`, which has no store of its own\n  help: \
         .materialize(name) behind it gives it one, for .store()"
    );
    let counts = b.stream::<String, i64>("other").group_by_key().windowed_by(TimeWindows::of(ms(10))).count("counts");
    let has = "which has a window store\n  help: open it with .window_store()";
    for result in [counts.store().map(drop), counts.session_store().map(drop), counts.versioned_store().map(drop)] {
        let text = said(result);
        assert!(text.ends_with(has), "{text}");
    }
    let kept: KTable<Windowed<String>, i64> = counts.materialize("kept");
    assert!(kept.store().is_ok() && kept.window_store().is_err());
}

/// The store and the processor are in one sub-topology; a processor whose records are placed otherwise is warned about.
#[test]
fn it_must_be_where_the_rows_are() -> Result<()> {
    let b = StreamsBuilder::new();
    let counts = b.stream::<String, i64>("in").group_by_key().count("rows").store()?;
    let asked = b
        .stream::<String, i64>("asked")
        .repartition(Repartitioned::named("elsewhere").partitioner(|_, n, size| Some(vec![*n as i32 % size])));
    asked.process("ask", move |setup| Ask(setup.store(counts), row)).to("answers");
    let warnings = b.build()?.warnings().to_vec();
    assert_eq!(b.build()?.sub_topologies().len(), 2, "that of `asked`, and one for both");
    assert!(
        warnings.iter().any(|w| w.starts_with("store `rows`, which processors have, brings topics together")),
        "{warnings:?}"
    );
    Ok(())
}
