//! Section *Stream joins*, and the compositions that begin with one.

use millstream_dsl::{StreamsBuilder, TimeWindows};

use crate::golden::topologies::{KEPT, Params, Text, first, plus, text_out};

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    let stream = || b.stream::<Text, Text>("stream");
    let lookup = |k: &Text, v: &Text| v.as_ref().filter(|v| !v.starts_with('a')).and_then(|_| k.clone());
    match name {
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
