//! A table's topic may be written and timed as its owner likes; the table's store has the serdes of its types.

use std::convert::Infallible;

use millstream_core::{
    Encoded, Error, Headers, OffsetReset, Payload, Record, Result, Serde, SerdeContext, SerdeError, StringSerde,
};
use millstream_dsl::{
    Consumed, EventTime, HOUR, KeyValueStore, MIN, Optimization, Out, Processor, StoreHandle, StreamsBuilder,
    TopologyTestDriver, event_time, kv,
};

/// Numbers as text.
#[derive(Debug, Clone)]
struct Decimal;

impl Serde for Decimal {
    type Value = i64;

    fn serialize(
        &self,
        n: &i64,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.extend(n.to_string().bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<i64, SerdeError> {
        let bytes = bytes.ok_or_else(SerdeError::null::<i64>)?;
        let text = std::str::from_utf8(bytes.as_slice()).map_err(|e| SerdeError::invalid(e.to_string()))?;
        text.parse().map_err(|_| SerdeError::invalid(format!("`{text}` is no number")))
    }
}

type Times = EventTime<Option<String>, Option<i64>, fn(&Option<String>, &Option<i64>) -> i64>;

/// The row's time is its value.
fn timed() -> Consumed<StringSerde, Decimal, Times> {
    Consumed::with(StringSerde, Decimal).timestamps(event_time(|_, n| n.unwrap_or(0)))
}

#[test]
fn a_table_reads_its_topic_with_serdes_and_times_of_its_own() -> Result<()> {
    for optimized in [false, true] {
        let b = StreamsBuilder::new();
        b.optimize(optimized.then_some(Optimization::ReuseSourceTopics));
        b.stream::<String, String>("texts").to("in");
        let rows = b.table_with("in", "rows", Consumed::with(StringSerde, Decimal));
        b.stream::<String, i64>("asked").join_table("sums", &rows, |n, row| n + row).to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        t.input::<String, String>("texts")?.pipe("a", "12");
        t.restart()?;
        t.input::<String, i64>("asked")?.pipe("a", 1);
        assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 13)], "{optimized}");
    }
    let b = StreamsBuilder::new();
    b.stream::<String, String>("texts").to("in");
    b.table_with("in", "rows", timed()).to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("texts")?.pipe("a", "12");
    assert_eq!(t.output::<String, i64>("out")?.read_records()[0].timestamp, 12);
    Ok(())
}

/// Only its types were asked for: neither serdes nor times could be given.
#[test]
fn a_table_with_a_history_does_too() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("texts").to("in");
    let rows = b.versioned_table_with("in", "rows", HOUR, timed());
    b.stream::<String, i64>("asked").join_table("sums", &rows, |n, row| n + row).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (texts, asked) = (t.input::<String, String>("texts")?, t.input::<String, i64>("asked")?);
    ["1000", "500"].into_iter().for_each(|n| texts.pipe("a", n));
    asked.pipe_at(999, "a", 1);
    asked.pipe_at(1_000, "a", 1);
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 501), kv("a", 1_001)]);
    Ok(())
}

#[test]
fn a_global_table_does_too_but_is_always_read_whole() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("texts").to("in");
    let rows = b.global_table_with("in", "rows", timed());
    let key = |key: &String, _: &i64| Some(key.clone());
    b.stream::<String, i64>("asked").join_global(&rows, key, |n, row| n + row).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("texts")?.pipe("a", "12");
    t.input::<String, i64>("asked")?.pipe("a", 1);
    assert_eq!(t.output::<String, i64>("out")?.read(), [kv("a", 13)]);
    for consumed in [timed().reset(OffsetReset::Latest), timed().idleness(MIN)] {
        let b = StreamsBuilder::new();
        b.global_table_with("in", "rows", consumed);
        let refused: Option<Error> = b.build().err();
        let text = refused.map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("global table `rows` is given a reset policy or idleness"), "{text}");
    }
    Ok(())
}

/// The changelog is as that of any table of its types.
#[test]
fn a_row_is_kept_with_the_serdes_of_its_types() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("texts").to("in");
    b.table_with("in", "rows", Consumed::with(StringSerde, Decimal));
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("texts")?.pipe("a", "12");
    assert_eq!(t.output::<String, i64>("test-rows-changelog")?.read(), [kv("a", 12)]);
    Ok(())
}

/// Looks rows up, and forwards what it finds.
struct Find {
    rows: KeyValueStore<String, i64>,
}

impl Processor for Find {
    type KIn = String;
    type VIn = i64;
    type KOut = String;
    type VOut = i64;

    fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
        let found = self.rows.get(&r.key)?.unwrap_or(-1);
        out.forward(r.with_value(found))
    }
}

/// What a program finds that reads decimals into a store: before a restart and after it.
fn found(store: impl FnOnce(&StreamsBuilder) -> StoreHandle<KeyValueStore<String, i64>>) -> Result<[i64; 2]> {
    let b = StreamsBuilder::new();
    b.stream::<String, Option<String>>("texts").to("in");
    let rows = store(&b);
    b.stream("asked").process("find", move |setup| Find { rows: setup.store(rows) }).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (texts, asked) = (t.input::<String, Option<String>>("texts")?, t.input::<String, i64>("asked")?);
    let out = t.output::<String, i64>("out")?;
    ["12", "9"].into_iter().for_each(|n| texts.pipe("a", n.to_owned()));
    let ask = || {
        asked.pipe("a", 0);
        out.read().iter().map(|(_, n)| *n).sum()
    };
    let before = ask();
    t.restart()?;
    Ok([before, ask()])
}

/// Only the types of their topics were asked for.
#[test]
fn stores_that_are_filled_from_a_topic_do_too() -> Result<()> {
    let decimals = || Consumed::with(StringSerde, Decimal);
    // The row of the largest time.
    let newest = |rows: KeyValueStore<String, i64>| {
        move |r: Record<Option<String>, Option<i64>>| {
            let key = r.key.unwrap_or_default();
            if rows.get_with_timestamp(&key)?.is_some_and(|row| row.timestamp > r.timestamp) {
                return Ok(());
            }
            rows.put_at(&key, r.value, r.timestamp).map(drop)
        }
    };
    assert_eq!(found(|b| b.read_only_store_with("in", "rows", decimals()))?, [9, 9]);
    assert_eq!(found(|b| b.read_only_store_with("in", "rows", timed()))?, [9, 9]);
    assert_eq!(found(|b| b.global_store_with("in", "rows", decimals(), newest))?, [9, 9]);
    assert_eq!(found(|b| b.global_store_with("in", "rows", timed(), newest))?, [12, 12]);
    Ok(())
}

/// A row's time is the extractor's, and it survives a restart without a changelog or with one.
#[test]
fn a_read_only_store_is_restored_from_its_topic_unless_times_are_the_programs_own() -> Result<()> {
    for (own, changelog) in [(false, false), (true, true)] {
        let b = StreamsBuilder::new();
        b.stream::<String, String>("texts").to("in");
        if own {
            b.read_only_store_with("in", "rows", timed());
        } else {
            b.read_only_store_with("in", "rows", Consumed::with(StringSerde, Decimal));
        }
        let t = TopologyTestDriver::new(b.build()?)?;
        t.input::<String, String>("texts")?.pipe("a", "12");
        assert_eq!(t.output::<String, i64>("test-rows-changelog").is_ok(), changelog);
    }
    Ok(())
}

/// Fills a store with the times of records.
struct Seen {
    rows: KeyValueStore<String, i64>,
}

impl Processor for Seen {
    type KIn = String;
    type VIn = i64;
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(&mut self, r: Record<String, i64>, _: &mut Out<'_, Infallible, Infallible>) -> Result<()> {
        self.rows.put(&r.key, Some(r.timestamp)).map(drop)
    }
}

#[test]
fn a_global_store_with_a_processor_does_too_and_is_always_read_whole() -> Result<()> {
    let times = || Consumed::with(StringSerde, Decimal).timestamps(event_time(|_, n: &i64| n * 100));
    assert_eq!(found(|b| b.global_store_processor_with("in", "rows", times(), |rows| Seen { rows }))?, [900, 900]);
    for consumed in [times().reset(OffsetReset::Latest), times().idleness(MIN)] {
        let b = StreamsBuilder::new();
        b.global_store_processor_with("in", "rows", consumed, |rows| Seen { rows });
        let refused: Option<Error> = b.build().err();
        let text = refused.map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("global store `rows` is given a reset policy or idleness"), "{text}");
    }
    Ok(())
}
