//! The README's program, word for word below this line; `./dev test` builds it, runs it and compares what it prints.

use millstream::prelude::*;

fn word_count() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("lines")
        .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .group_by("by-word", |_, word| word.clone())
        .count("counts")
        .to_stream()
        .to("word-counts");
    b.build()
}

fn main() -> Result<()> {
    millstream::run("word-count", word_count()?)
}
