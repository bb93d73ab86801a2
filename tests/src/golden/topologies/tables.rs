//! Section *Tables*.

use millstream_dsl::{BufferConfig, GroupedTable, KStream, KTable, StreamsBuilder, Windowed};

use crate::golden::topologies::aggregations::{in_sessions, in_windows, tumbling};
use crate::golden::topologies::{Params, Text, count_out, counts_out, even, first, plus, table_out, text_out};

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    let source = || -> KTable<String, String> { b.table("in", "source") };
    let by_first = || -> GroupedTable<String, String> { source().group_by("by-first", |_, v| (first(&v), v)) };
    let left = || -> KTable<String, String> { b.table("left", "l") };
    let right = || -> KTable<String, String> { b.table("right", "r") };
    let counted = |stream: &KStream<Text, Text>, store: &str| -> KTable<Windowed<String>, i64> {
        in_windows(stream.group_by_key(), tumbling(p), p).count(store)
    };
    match name {
        "table-table-inner-join" => table_out(&left().join(&right(), |l, r| plus(Some(l), Some(r)))),
        "table-table-left-join" => table_out(&left().left_join(&right(), |l, r| plus(Some(l), r))),
        "table-table-outer-join" => table_out(&left().outer_join(&right(), plus)),
        "foreign-key-inner-join" => {
            table_out(&left().join_on("joined", &right(), |v| foreign_key(v), |l, r| plus(Some(l), Some(r))));
        }
        "foreign-key-left-join" => {
            table_out(&left().left_join_on("joined", &right(), |v| foreign_key(v), |l, r| plus(Some(l), r)));
        }
        "windowed-tables-join" => {
            let (left, right) = (counted(&b.stream("left"), "lc"), counted(&b.stream("right"), "rc"));
            let text = |n: Option<&i64>| n.map_or("null".into(), i64::to_string);
            text_out(&left.left_join(&right, move |l, r| format!("{l}+{}", text(r))));
        }
        "suppress-until-time-limit" => {
            let source = b.table_with("in", "source", p.consumed::<String, String>());
            table_out(&source.suppress_for("suppressed", p.ms("limit"), bounded(p)));
        }
        "suppress-until-window-closes" => {
            let counts = counted(&b.stream_with("in", p.consumed::<Text, Text>()), "counts");
            count_out(&counts.suppress_until_closed("suppressed", BufferConfig::unbounded()));
        }
        "suppress-session-closes" => {
            let counts = in_sessions(b.stream_with("in", p.consumed::<Text, Text>()).group_by_key(), p).count("counts");
            count_out(&counts.suppress_until_closed("suppressed", BufferConfig::unbounded()));
        }
        "count-then-table-join" => {
            let counts = b.stream::<Text, Text>("stream").group_by_key().count("counts").map_values(|n| n.to_string());
            table_out(&counts.outer_join(&b.table("table", "t"), plus));
        }
        "table-filter" => table_out(&source().filter(|_, v| even(&Some(v.clone())))),
        "table-filter-materialized" => {
            table_out(&source().filter(|_, v| even(&Some(v.clone()))).materialize("filtered"))
        }
        "table-map-values" => table_out(&source().map_values_with_key(|k, v| format!("{k}:{v}"))),
        "table-group-count" => counts_out(&by_first().count("counts")),
        "table-group-reduce" => {
            table_out(&by_first().reduce("reduced", |a, v| format!("{a}+{v}"), |a, v| format!("{a}-{v}")));
        }
        "table-group-aggregate" => {
            let add = |_: &String, v: String, a: &mut String| *a += &format!("+{v}");
            let subtract = |_: &String, v: String, a: &mut String| *a += &format!("-{v}");
            table_out(&by_first().aggregate("aggregated", String::new, add, subtract));
        }
        _ => return false,
    }
    true
}

/// A bound on rows that lets the oldest out when it is reached.
pub(crate) fn bounded(p: &Params<'_>) -> BufferConfig {
    BufferConfig::max_records(p.ms("max_records").as_millis() as usize).emit_early_when_full()
}

/// The first character; none if the value begins with `none`.
pub(crate) fn foreign_key(v: &str) -> Option<String> {
    (!v.starts_with("none")).then(|| first(v))
}
