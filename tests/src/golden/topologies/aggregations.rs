//! Section *Aggregations*, and the compositions of two of them.

use millstream_dsl::{
    GroupedStream, SessionWindowedStream, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindowedStream,
    TimeWindows, UnlimitedWindows, WindowsOf,
};

use crate::golden::topologies::{KEPT, Params, Text, count_out, counts_out, first, table_out, text_out};

fn reducer(a: String, v: String) -> Text {
    (v != "del").then(|| format!("{a},{v}"))
}

pub(crate) fn tumbling(p: &Params<'_>) -> TimeWindows {
    TimeWindows::of(p.ms("size")).grace(p.ms("grace"))
}

fn sliding(p: &Params<'_>) -> SlidingWindows {
    SlidingWindows::of(p.ms("difference")).grace(p.ms("grace"))
}

fn sessions(p: &Params<'_>) -> SessionWindows {
    let windows = SessionWindows::of(p.ms("gap")).grace(p.ms("grace"));
    if p.has_strict_ends() { windows.strict_end() } else { windows }
}

/// Unless the case says otherwise, nothing expires.
pub(crate) fn in_windows<W: WindowsOf<String, Text, Windowed = TimeWindowedStream<String, Text>>>(
    grouped: GroupedStream<String, Text>,
    windows: W,
    p: &Params<'_>,
) -> TimeWindowedStream<String, Text> {
    let windowed = grouped.windowed_by(windows);
    if p.keeps_no_more_than_it_must() { windowed } else { windowed.retention(KEPT) }
}

pub(crate) fn in_sessions(grouped: GroupedStream<String, Text>, p: &Params<'_>) -> SessionWindowedStream<String, Text> {
    let windowed = grouped.windowed_by(sessions(p));
    if p.keeps_no_more_than_it_must() { windowed } else { windowed.retention(KEPT) }
}

fn append(_: &String, v: Text, a: &mut String) {
    a.push_str(&v.as_deref().map_or("~".into(), first));
}

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    let consumed = || p.consumed::<Text, Text>();
    let grouped = || -> GroupedStream<String, Text> { b.stream_with("in", consumed()).group_by_key() };
    match name {
        "count" => counts_out(&grouped().count("counts")),
        "reduce" => table_out(&grouped().reduce_or_delete("reduced", reducer)),
        "aggregate" => {
            let fold = |_: &String, v: String, a: String| (v != "del").then(|| a + &first(&v));
            table_out(&grouped().aggregate_or_delete("aggregated", String::new, fold));
        }
        "word-count" => {
            let words = b
                .stream::<Text, Text>("in")
                .flat_map_values(|v| v.iter().flat_map(|v| v.split(' ')).map(str::to_owned).collect::<Vec<_>>());
            counts_out(&words.group_by("by-word", |_, w| w.clone()).count("counts"));
        }
        "unlimited-count" => {
            let windows = UnlimitedWindows::of().start_on(p.ms("after").as_millis() as i64);
            count_out(&grouped().windowed_by(windows).count("counts"));
        }
        "tumbling-count" => count_out(&in_windows(grouped(), tumbling(p), p).count("counts")),
        "tumbling-reduce" => {
            let stream = b.stream::<Text, Text>("in").filter(|_, v| v.is_some());
            let windowed = in_windows(stream.group_by_key(), tumbling(p), p);
            text_out(&windowed.reduce_or_delete("reduced", reducer));
        }
        "hopping-aggregate" => {
            let windows = tumbling(p).advance_by(p.ms("advance"));
            text_out(&in_windows(grouped(), windows, p).aggregate("aggregated", String::new, append));
        }
        "sliding-count" => count_out(&in_windows(grouped(), sliding(p), p).count("counts")),
        "sliding-aggregate" => {
            text_out(&in_windows(grouped(), sliding(p), p).aggregate("aggregated", String::new, append));
        }
        "session-count" => count_out(&in_sessions(grouped(), p).count("counts")),
        "session-aggregate" => {
            let windowed = in_sessions(grouped(), p);
            text_out(&windowed.aggregate("aggregated", String::new, append, |_, x, y| format!("{x}|{y}")));
        }
        "tumbling-count-final" => count_out(&in_windows(grouped(), tumbling(p), p).emit_on_close().count("counts")),
        "sliding-count-final" => count_out(&in_windows(grouped(), sliding(p), p).emit_on_close().count("counts")),
        "session-count-final" => count_out(&in_sessions(grouped(), p).emit_on_close().count("counts")),
        "rekey-then-tumbling-final" => {
            let by_first = b.stream_with("in", consumed()).group_by("by-first", |_, v| v.as_deref().map(first));
            count_out(&in_windows(by_first, tumbling(p), p).emit_on_close().count("counts"));
        }
        name if name.starts_with("cogroup") => cogroup(name, b, p),
        "two-level-aggregate" => {
            let counts = in_windows(grouped(), tumbling(p), p).count("counts").to_stream();
            let by_window = counts.group_by("by-window", |k, _| k.window.start.to_string());
            let fold = |_: &String, n: i64, a: &mut String| {
                a.push_str(&n.to_string());
            };
            table_out(&by_window.aggregate("aggregated", String::new, fold));
        }
        _ => return false,
    }
    true
}

fn cogroup(name: &str, b: &StreamsBuilder, p: &Params<'_>) {
    let left = b.stream::<Text, Text>("left").group_by_key();
    let right = b.stream::<Text, Text>("right").group_by_key();
    let both = left.cogroup(|_, v: String, a: &mut String| *a += &format!("L{}", first(&v)));
    if name == "cogroup" {
        let fold = |_: &String, v: String, a: String| (v != "del").then(|| format!("{a}R{}", first(&v)));
        table_out(&both.cogroup_or_delete(&right, fold).aggregate("cogrouped", String::new));
        return;
    }
    let both = both.cogroup(&right, |_, v: String, a| *a += &format!("R{}", first(&v)));
    let (name, on_close) = name.strip_suffix("-final").map_or((name, false), |name| (name, true));
    if name == "cogroup-session" {
        let merge = |_: &String, x: String, y: String| format!("{x}|{y}");
        let windowed = both.in_sessions(sessions(p));
        let windowed = if p.keeps_no_more_than_it_must() { windowed } else { windowed.retention(KEPT) };
        let windowed = if on_close { windowed.emit_on_close() } else { windowed };
        text_out(&windowed.aggregate("cogrouped", String::new, merge));
        return;
    }
    let windowed = match name {
        "cogroup-sliding" => both.windowed_by(sliding(p)),
        "cogroup-hopping" => both.windowed_by(tumbling(p).advance_by(p.ms("advance"))),
        _ => both.windowed_by(tumbling(p)),
    };
    let windowed = if p.keeps_no_more_than_it_must() { windowed } else { windowed.retention(KEPT) };
    let windowed = if on_close { windowed.emit_on_close() } else { windowed };
    text_out(&windowed.aggregate("cogrouped", String::new));
}
