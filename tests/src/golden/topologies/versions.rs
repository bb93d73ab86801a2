//! Section *Versions*: tables with a history.

use millstream_dsl::{Joined, KTable, StreamsBuilder};

use crate::golden::topologies::tables::foreign_key;
use crate::golden::topologies::{Params, Text, counts_out, even, first, plus, table_out};

pub(crate) fn add(name: &str, b: &StreamsBuilder, p: &Params<'_>) -> bool {
    let table =
        |topic: &str, store: &str| -> KTable<String, String> { b.versioned_table(topic, store, p.ms("history")) };
    let (left, right) = (|| table("left", "l"), || table("right", "r"));
    let stream = || b.stream::<Text, Text>("stream");
    match name {
        "versioned-table" => table_out(&table("in", "source")),
        "versioned-table-filter" => table_out(&table("in", "source").filter(|_, v| even(&Some(v.clone())))),
        "versioned-table-group-count" => {
            counts_out(&table("in", "source").group_by("by-first", |_, v| (first(&v), v)).count("counts"));
        }
        "versioned-table-table-inner-join" => table_out(&left().join(&right(), |l, r| plus(Some(l), Some(r)))),
        "versioned-table-table-left-join" => table_out(&left().left_join(&right(), |l, r| plus(Some(l), r))),
        "versioned-table-table-outer-join" => table_out(&left().outer_join(&right(), plus)),
        "stream-versioned-table-inner-join" => {
            stream().join_table("joined", &table("table", "t"), |l, r| plus(Some(l), Some(r))).to("out");
        }
        "stream-versioned-table-left-join" => {
            stream().left_join_table("joined", &table("table", "t"), |l, r| plus(Some(l), r)).to("out");
        }
        "stream-versioned-table-inner-grace-join" => {
            let joined =
                stream().join_table(Joined::named("joined").grace(p.ms("grace")), &table("table", "t"), |l, r| {
                    plus(Some(l), Some(r))
                });
            joined.to("out");
        }
        "stream-versioned-table-left-grace-join" => {
            let joined =
                stream().left_join_table(Joined::named("joined").grace(p.ms("grace")), &table("table", "t"), |l, r| {
                    plus(Some(l), r)
                });
            joined.to("out");
        }
        "versioned-foreign-key-inner-join" => {
            table_out(&left().join_on("joined", &right(), |v| foreign_key(v), |l, r| plus(Some(l), Some(r))));
        }
        "versioned-foreign-key-left-join" => {
            table_out(&left().left_join_on("joined", &right(), |v| foreign_key(v), |l, r| plus(Some(l), r)));
        }
        _ => return false,
    }
    true
}
