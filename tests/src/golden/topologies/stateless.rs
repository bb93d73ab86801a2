//! Section *Stateless*.

use millstream_dsl::{Consumed, StreamsBuilder, event_time};

use crate::golden::topologies::{Text, even, shown, table_out};

fn words(text: &Text) -> Vec<String> {
    text.iter().flat_map(|t| t.split(' ')).map(str::to_owned).collect()
}

pub(crate) fn add(name: &str, b: &StreamsBuilder) -> bool {
    let source = || b.stream::<Text, Text>("in");
    let starts_with_a = |v: &Text| v.as_ref().is_some_and(|v| v.starts_with('a'));
    match name {
        "filter" => source().filter(|_, v| even(v)).to("out"),
        "filter-not" => source().filter_not(|_, v| even(v)).to("out"),
        "map" => source().map(|k, v| (v, k)).to("out"),
        "map-values" => {
            let text = |k: &Text, v: Text| Some(format!("{}:{}", shown(k.as_ref()), shown(v.as_ref())));
            source().map_values_with_key(text).to("out");
        }
        "flat-map" => source()
            .flat_map(|k, v| words(&v).into_iter().map(move |w| (Some(w), k.clone())).collect::<Vec<_>>())
            .to("out"),
        "flat-map-values" => {
            source().flat_map_values(|v| words(&v).into_iter().map(Some).collect::<Vec<_>>()).to("out")
        }
        "branch" => {
            let split = source().split("").branch("a", move |_, v| starts_with_a(v)).branch("even", |_, v| even(v));
            for (name, branch) in split.default_branch("rest") {
                branch.to(&format!("out-{name}"));
            }
        }
        "merge" => b.stream::<Text, Text>("left").merge(&b.stream("right")).to("out"),
        "to-table" => table_out(&source().to_table("source")),
        "dynamic-to" => {
            for topic in ["out-a", "out-even", "out-rest"] {
                b.topic(topic, 1);
            }
            source().to_dynamic(move |_, v, _| {
                let name = if starts_with_a(v) {
                    "out-a"
                } else if even(v) {
                    "out-even"
                } else {
                    "out-rest"
                };
                name.to_owned()
            });
        }
        "timestamp-extractor" => {
            let time = |_: &Text, v: &Text| v.as_ref().and_then(|v| v.split_once('@')?.1.parse().ok()).unwrap_or(-1);
            b.stream_with("in", Consumed::of::<Text, Text>().timestamps(event_time(time))).to("out");
        }
        _ => return false,
    }
    true
}
