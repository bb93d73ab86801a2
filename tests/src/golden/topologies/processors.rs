//! Section *Processors*, and the *Headers* cases that need no operator beyond those of the other sections.

use millstream_core::{Record, Result, Timestamp};
use millstream_dsl::{
    Clock, FixedKeyRecord, JoinWindows, KStream, KeyValueStore, Out, Processor, StreamsBuilder, TimeWindows, ValueOut,
    ValueProcessor,
};

use crate::golden::topologies::tables::{bounded, foreign_key};
use crate::golden::topologies::{KEPT, Params, Text, first, plus, shown};

struct Ticker {
    count: KeyValueStore<String, i64>,
}

impl Processor for Ticker {
    type KIn = Text;
    type VIn = Text;
    type KOut = Text;
    type VOut = Text;

    fn process(&mut self, _: Record<Text, Text>, _: &mut Out<'_, Text, Text>) -> Result<()> {
        self.count.update(&"n".into(), |n| *n = Some(n.unwrap_or(0) + 1))
    }
}

impl Ticker {
    fn tick(&mut self, time: Timestamp, out: &mut Out<'_, Text, Text>) -> Result<()> {
        let count = self.count.get(&"n".into())?.unwrap_or(0);
        out.forward(Record::new(Some("tick".into()), Some(count.to_string()), time))
    }
}

fn ticking(b: &StreamsBuilder, stream: &KStream<Text, Text>, p: &Params<'_>, clock: Clock) -> KStream<Text, Text> {
    let count = b.store::<String, i64>("count");
    let interval = p.ms("interval");
    stream.process("ticker", move |s| {
        s.every(interval, clock, Ticker::tick);
        Ticker { count: s.store(count) }
    })
}

/// Sets header `h` to a letter and the number of records seen.
struct Stamp {
    letter: &'static str,
    seen: KeyValueStore<String, i64>,
}

impl ValueProcessor for Stamp {
    type K = Text;
    type VIn = Text;
    type VOut = Text;

    fn process(&mut self, mut record: FixedKeyRecord<Text, Text>, out: &mut ValueOut<'_, Text, Text>) -> Result<()> {
        let n = self.seen.update(&"n".into(), |n| *n.insert(n.unwrap_or(0) + 1))?;
        record.headers.add("h", Some(format!("{}{n}", self.letter).as_bytes()));
        out.forward(record)
    }
}

pub(crate) fn stamped(b: &StreamsBuilder, topic: &str, letter: &'static str) -> KStream<Text, Text> {
    let seen = b.store::<String, i64>(&format!("seen-{letter}"));
    b.stream::<Text, Text>(topic).process_values("stamp", move |s| Stamp { letter, seen: s.store(seen) })
}

/// Shows header `h` in the value.
struct Reveal<K>(std::marker::PhantomData<fn() -> K>);

impl<K: Clone + 'static> ValueProcessor for Reveal<K> {
    type K = K;
    type VIn = Text;
    type VOut = Text;

    fn process(&mut self, record: FixedKeyRecord<K, Text>, out: &mut ValueOut<'_, K, Text>) -> Result<()> {
        let header = record.headers.last("h").map_or("-".into(), String::from_utf8_lossy).into_owned();
        let text = format!("{}#{header}", shown(record.value.as_ref()));
        out.forward(record.with_value(Some(text)))
    }
}

pub(crate) fn reveal<K: Clone + 'static>(stream: &KStream<K, Text>) -> KStream<K, Text> {
    stream.process_values("reveal", |_| Reveal(std::marker::PhantomData))
}

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    let text = |n: Option<i64>| n.map(|n| n.to_string());
    match name {
        "punctuate-stream-time" => ticking(b, &b.stream("in"), p, Clock::Stream).to("out"),
        "punctuate-wall-clock" => ticking(b, &b.stream("in"), p, Clock::Wall).to("out"),
        "headers-punctuate" => reveal(&ticking(b, &stamped(b, "in", "i"), p, Clock::Stream)).to("out"),
        "headers-map" => reveal(&stamped(b, "in", "i").map(|k, v| (v, k)).filter(|k, _| k.is_some())).to("out"),
        "headers-count" => {
            reveal(&stamped(b, "in", "i").group_by_key().count("counts").to_stream().map_values(text)).to("out")
        }
        "headers-rekey-count" => {
            let grouped =
                stamped(b, "in", "i").filter(|_, v| v.is_some()).group_by("by-first", |_, v| v.as_deref().map(first));
            reveal(&grouped.count("counts").to_stream().map_values(text)).to("out");
        }
        "headers-tumbling-final" => {
            let windows = TimeWindows::of(p.ms("size")).grace(p.ms("grace"));
            let windowed = stamped(b, "in", "i").group_by_key().windowed_by(windows).retention(KEPT).emit_on_close();
            let counts = windowed.count("counts").to_stream().map_values(text);
            let named = counts.map(|k, v| (format!("{}[{},{}]", k.key, k.window.start, k.window.end), v));
            reveal(&named).to("out");
        }
        "headers-table-group-count" => {
            let table = stamped(b, "in", "i").to_table("source");
            let counts = table.group_by("by-first", |_, v| (first(&v), v)).count("counts");
            reveal(&counts.to_stream().map_values(text)).to("out");
        }
        "headers-suppress" => {
            let table = stamped(b, "in", "i").to_table("source").suppress_for("suppressed", p.ms("limit"), bounded(p));
            reveal(&table.to_stream()).to("out");
        }
        "headers-table-table-join" => {
            let (left, right) = (stamped(b, "left", "l").to_table("l"), stamped(b, "right", "r").to_table("r"));
            reveal(&left.outer_join(&right, plus).to_stream()).to("out");
        }
        "headers-foreign-key-join" => {
            let (left, right) = (stamped(b, "left", "l").to_table("l"), stamped(b, "right", "r").to_table("r"));
            let joined = left.left_join_on("joined", &right, |v| foreign_key(v), |l, r| plus(Some(l), r));
            reveal(&joined.to_stream()).to("out");
        }
        "headers-stream-stream-join" => {
            let windows = JoinWindows::of(p.ms("before")).after(p.ms("after")).grace(p.ms("grace"));
            let (left, right) = (stamped(b, "left", "l"), stamped(b, "right", "r"));
            let joined = left.outer_join("joined", &right, windows, plus);
            reveal(&joined.map_values(Some)).to("out");
        }
        "headers-stream-table-join" => {
            let table = stamped(b, "table", "t").to_table("t");
            let joined =
                stamped(b, "stream", "s").left_join_table("joined", &table, |l, r: Option<&String>| plus(Some(l), r));
            reveal(&joined.map_values(Some)).to("out");
        }
        _ => return false,
    }
    true
}
