//! Section *Tables*.

use millstream_dsl::{GroupedTable, KTable, StreamsBuilder};

use crate::golden::topologies::{Params, counts_out, even, first, table_out};

pub(crate) fn add(name: &str, b: &StreamsBuilder, _: &Params<'_>) -> bool {
    let source = || -> KTable<String, String> { b.table("in", "source") };
    let by_first = || -> GroupedTable<String, String> { source().group_by("by-first", |_, v| (first(&v), v)) };
    match name {
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
