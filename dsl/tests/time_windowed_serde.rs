//! Keys of time windows in Kafka's own format: a program in Java reads what is written, and the other way round.

use std::time::Duration;

use millstream_core::{
    Data, Encoded, Half, Headers, Nullable, NumberSerde, Payload, Result, Serde, SerdeContext, SerdeError, StringSerde,
};
use millstream_dsl::{
    Consumed, MIN, Produced, SlidingWindows, StreamsBuilder, TimeWindowedSerde, TimeWindowedStream, TimeWindows,
    TopologyTestDriver, UnlimitedWindows, Window, Windowed, WindowedSerde, WindowsOf,
};

const CX: SerdeContext<'_> = SerdeContext { topic: "per-minute", half: Half::Key };
/// `ann` in the minute from 60,000 ms.
const ANN: &[u8] = b"ann\0\0\0\0\0\0\xea\x60";

fn minutes() -> TimeWindowedSerde<StringSerde> {
    TimeWindowedSerde::new(StringSerde, MIN)
}

fn windowed(key: &str, start: i64, end: i64) -> Windowed<String> {
    Windowed { key: key.to_owned(), window: Window { start, end } }
}

fn write<S: Serde>(serde: &S, value: &S::Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    match serde.serialize(value, CX, &mut Headers::new(), &mut out) {
        Ok(Encoded::Bytes) => Ok(out),
        Ok(Encoded::Null) => Err("null".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn read<S: Serde>(serde: &S, bytes: &[u8]) -> Result<S::Value, String> {
    serde.deserialize(Some(Payload::from(bytes)), CX, &Headers::new()).map_err(|error| error.to_string())
}

/// By hand, from `TimeWindowedSerializer.serialize` and `WindowKeySchema.toBinary` of Apache Kafka.
#[test]
fn bytes_are_the_key_and_the_start() {
    assert_eq!(write(&minutes(), &windowed("ann", 60_000, 120_000)).as_deref(), Ok(ANN));
    assert_eq!(read(&minutes(), ANN), Ok(windowed("ann", 60_000, 120_000)));
    assert_eq!(read(&TimeWindowedSerde::new(StringSerde, 2 * MIN), ANN), Ok(windowed("ann", 60_000, 180_000)));
    assert_eq!(read(&minutes(), &[0; 8]), Ok(windowed("", 0, 60_000)));
}

/// As of `timeWindowForSize` in `WindowKeySchema`: the end of a window is in no byte, and it may not fit into 64 bits.
#[test]
fn a_window_that_would_end_behind_all_times_ends_with_them() {
    let last = windowed("ann", i64::MAX - 1, i64::MAX);
    let bytes = write(&minutes(), &last);
    assert_eq!(bytes.as_deref(), Ok(b"ann\x7f\xff\xff\xff\xff\xff\xff\xfe".as_slice()));
    assert_eq!(read(&minutes(), &bytes.unwrap_or_default()), Ok(last));
    let without_end = TimeWindowedSerde::new(StringSerde, Duration::MAX);
    assert_eq!(read(&without_end, ANN), Ok(windowed("ann", 60_000, i64::MAX)));
}

#[test]
fn what_is_no_key_of_a_time_window_is_refused() {
    let refused = |bytes: &[u8]| read(&minutes(), bytes).err().unwrap_or_default();
    assert_eq!(refused(&ANN[4..]), "too short for a windowed key");
    assert_eq!(refused(b""), "too short for a windowed key");
    // Java's `TimeWindow` throws.
    assert_eq!(refused(&[0xff; 8]), "a time window that starts at -1 ms, before 1970");
    assert!(refused(b"\xff\0\0\0\0\0\0\xea\x60").starts_with("not UTF-8"), "of the inner serde");
    let null = minutes().deserialize(None, CX, &Headers::new());
    assert!(matches!(null, Err(SerdeError::UnexpectedNull { .. })), "{null:?}");
    assert_eq!(Nullable(minutes()).deserialize(None, CX, &Headers::new()).ok(), Some(None));
    let nullable = TimeWindowedSerde::new(Nullable(StringSerde), MIN);
    let of_nobody = Windowed { key: None, window: Window { start: 0, end: 60_000 } };
    assert_eq!(write(&nullable, &of_nobody), Err("the inner key of a windowed key is null".to_owned()));
}

/// Java writes the start of any window, and the reader makes up an end.
#[test]
fn a_window_of_another_size_is_not_written() {
    assert_eq!(
        write(&minutes(), &windowed("ann", 60_000, 60_005)),
        Err("the window 60000/60005 is not of 60000 ms, and a key of time windows says its start alone\n  \
             help: give TimeWindowedSerde the size of the windows; sessions take WindowedSerde, Kafka's format of theirs"
            .to_owned())
    );
    for nothing in [Duration::ZERO, Duration::from_micros(999)] {
        let nothing = TimeWindowedSerde::new(StringSerde, nothing);
        let refused = "time windows of less than 1 ms\n  help: give TimeWindowedSerde the size of the windows";
        assert_eq!(write(&nothing, &windowed("ann", 60_000, 60_000)), Err(refused.to_owned()));
        assert_eq!(read(&nothing, ANN), Err(refused.to_owned()));
    }
}

#[test]
fn a_record_is_placed_by_the_inner_key() -> Result<()> {
    assert_eq!(minutes().partition_bytes(ANN), b"ann");
    assert_eq!(minutes().partition_bytes(b"ann"), b"", "of nothing that it has written");
    assert_eq!(TimeWindowedSerde::<StringSerde>::partition_serde(), StringSerde::partition_serde());

    let b = StreamsBuilder::new();
    b.topic("clicks", 4).topic("keys", 4).topic("per-minute", 4);
    let clicks = b.stream::<String, i64>("clicks").group_by_key().windowed_by(TimeWindows::of(MIN));
    let counts = clicks.count("counts").to_stream();
    // A topic that is chosen by the record can be read with any type.
    let written = Produced::with(minutes(), <Option<i64> as Data>::Serde::default());
    counts.to_dynamic_with(|_, _, _| "per-minute".to_owned(), written);
    counts.select_key(|windowed, _| windowed.key.clone()).to("keys");
    let t = TopologyTestDriver::new(b.build()?)?;
    let clicks = t.input::<String, i64>("clicks")?;
    let names = ["ann", "bob", "cid", "dora", "eve", "fay", "gus", "hal"];
    names.into_iter().for_each(|name| clicks.pipe_at(60_000, name, 5));
    // Partition by partition.
    let by_key: Vec<_> = t.output::<String, Option<i64>>("keys")?.read().into_iter().map(|(key, _)| key).collect();
    assert_ne!(by_key, names, "all in one partition");
    let bytes: Vec<_> = t.output::<Vec<u8>, i64>("per-minute")?.read().into_iter().map(|(key, _)| key).collect();
    let wanted = by_key.iter().map(|key| [key.as_bytes(), &ANN[3..]].concat());
    assert_eq!(bytes, wanted.collect::<Vec<_>>());
    Ok(())
}

/// What Java has written, as bytes.
#[test]
fn a_topic_and_a_table_of_javas_are_read() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("counts", 1).topic("rows", 1);
    let (counts, rows) = (b.stream::<Vec<u8>, i64>("counts-of-java"), b.stream::<Vec<u8>, i64>("rows-of-java"));
    counts.to_dynamic(|_, _, _| "counts".to_owned());
    rows.to_dynamic(|_, _, _| "rows".to_owned());
    let counts = b.stream_with("counts", Consumed::with(minutes(), NumberSerde::<i64>::default()));
    let rows = b.table_with("rows", "rows", Consumed::with(minutes(), NumberSerde::<i64>::default()));
    counts.join_table("sums", &rows, |n, row| n + row).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<Vec<u8>, i64>("rows-of-java")?.pipe(ANN, 30);
    t.restart()?;
    t.input::<Vec<u8>, i64>("counts-of-java")?.pipe(ANN, 5);
    assert_eq!(t.output::<Windowed<String>, i64>("out")?.read(), [(windowed("ann", 60_000, 120_000), 35)]);
    Ok(())
}

/// Both write equal keys to one partition, so a topic in either format joins the other.
#[test]
fn the_two_formats_are_no_difference_in_a_join() -> Result<()> {
    let b = StreamsBuilder::new();
    let of_java = b.stream_with("of-java", Consumed::with(minutes(), NumberSerde::<i64>::default()));
    let ours = Consumed::with(WindowedSerde(StringSerde), NumberSerde::<i64>::default());
    of_java.join_table("sums", &b.table_with("ours", "ours", ours), |a, b| a + b).to("out");
    b.build().map(drop)
}

/// All windows of a kind are of its size, from the first one of a key on.
#[test]
fn windows_of_each_kind_are_written() -> Result<()> {
    fn all_are_read<W: WindowsOf<String, i64, Windowed = TimeWindowedStream<String, i64>>>(
        windows: W,
        size: Duration,
    ) -> Result<()> {
        let b = StreamsBuilder::new();
        let serde = TimeWindowedSerde::new(StringSerde, size);
        let counts = b.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("counts").to_stream();
        counts.to("ours");
        counts.to_with("kafkas", Produced::with(serde.clone(), <Option<i64> as Data>::Serde::default()));
        b.stream_with("kafkas", Consumed::with(serde, <Option<i64> as Data>::Serde::default())).to("out");
        let t = TopologyTestDriver::new(b.build()?)?;
        let input = t.input::<String, i64>("in")?;
        [3, 50_000, 70_000, 71_000, 200_000].into_iter().for_each(|time| input.pipe_at(time, "ann", 5));
        let ours = t.output::<Windowed<String>, Option<i64>>("ours")?.read();
        assert!(ours.len() >= 5);
        assert_eq!(t.output::<Windowed<String>, Option<i64>>("out")?.read(), ours);
        Ok(())
    }
    all_are_read(TimeWindows::of(MIN), MIN)?;
    all_are_read(TimeWindows::of(MIN).advance_by(MIN / 4), MIN)?;
    all_are_read(SlidingWindows::of(MIN), MIN)?;
    all_are_read(UnlimitedWindows::of(), Duration::MAX)
}
