//! Section *Stream joins*, and the compositions that begin with one.

use millstream_dsl::{Consumed, JoinWindows, KStream, StreamsBuilder, TimeWindows};

use crate::golden::topologies::{KEPT, Params, Text, first, plus, text_out};

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    let stream = || b.stream::<Text, Text>("stream");
    let lookup = |k: &Text, v: &Text| v.as_ref().filter(|v| !v.starts_with('a')).and_then(|_| k.clone());
    let windows = || {
        let windows = JoinWindows::of(p.ms("before")).after(p.ms("after")).grace(p.ms("grace"));
        if p.is_exact() { windows.exact() } else { windows }
    };
    // Only where the reference interpreter lets time go on, too.
    let is_idle = name.starts_with("stream-stream");
    let side = |topic: &str| {
        let consumed = if is_idle { p.consumed::<Text, Text>() } else { Consumed::of::<Text, Text>() };
        b.stream_with(topic, consumed)
    };
    let (left, right) = (|| side("left"), || side("right"));
    let left_joined = |left: &KStream<Text, Text>| {
        left.left_join("joined", &right(), windows(), |l, r: Option<&String>| plus(Some(l), r))
    };
    match name {
        "stream-stream-inner-join" => {
            left().join("joined", &right(), windows(), |l, r| plus(Some(l), Some(r))).to("out");
        }
        "stream-stream-left-join" => left_joined(&left()).to("out"),
        "stream-stream-outer-join" => left().outer_join("joined", &right(), windows(), plus).to("out"),
        "stream-self-join" => {
            let stream = b.stream::<Text, Text>("in");
            stream.join("joined", &stream, windows(), |l, r| plus(Some(l), Some(r))).to("out");
        }
        "rekey-then-join" => {
            let rekeyed = left().filter(|_, v| v.is_some()).select_key(|_, v| v.as_ref().map(|v| first(v)));
            left_joined(&rekeyed).to("out");
        }
        "join-chain" => {
            let joined = left_joined(&left());
            joined
                .left_join_table("looked-up", &b.table("table", "t"), |l, r: Option<&String>| plus(Some(l), r))
                .to("out");
        }
        "stream-table-inner-join" => {
            stream().join_table("joined", &b.table("table", "t"), |l, r: &String| plus(Some(l), Some(r))).to("out");
        }
        "stream-table-left-join" => {
            stream()
                .left_join_table("joined", &b.table("table", "t"), |l, r: Option<&String>| plus(Some(l), r))
                .to("out");
        }
        "stream-global-table-inner-join" => {
            let table = b.global_table::<String, String>("table", "t");
            stream().join_global(&table, lookup, |l, r| plus(Some(l), Some(r))).to("out");
        }
        "stream-global-table-left-join" => {
            let table = b.global_table::<String, String>("table", "t");
            stream().left_join_global(&table, lookup, |l, r| plus(Some(l), r)).to("out");
        }
        "enrich-then-window" => {
            let joined = stream().join_table("joined", &b.table("table", "t"), |l, r: &String| plus(Some(l), Some(r)));
            let grouped = joined.group_by("by-first", |_, v| first(v));
            let windowed = grouped.windowed_by(TimeWindows::of(p.ms("size")).grace(p.ms("grace"))).retention(KEPT);
            let fold = |_: &String, v: String, a: &mut String| *a += &format!("/{v}");
            text_out(&windowed.aggregate("aggregated", String::new, fold));
        }
        _ => return false,
    }
    true
}
