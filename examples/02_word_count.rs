//! 02: count. Lines of text come in, and each word goes out with how often it has been seen. The counts are kept: started
//! again, the program goes on where it stopped.
//!
//! ```console
//! $ echo "the mill by the stream" | cargo run -q --bin 02_word_count -- --stdin lines --stdout word-counts
//! the    1
//! mill    1
//! by    1
//! the    2
//! stream    1
//! $ echo "the stream runs" | cargo run -q --bin 02_word_count -- --stdin lines --stdout word-counts
//! the    3
//! stream    2
//! runs    1
//! ```

use millstream::prelude::*;

fn word_count() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("lines")
        .flat_map_values(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        // Equal words must meet in one task: they travel over a topic of this name.
        .group_by("by-word", |_, word| word.clone())
        // The name of the store, and of the topic that it is restored from.
        .count("counts")
        .to_stream()
        .to("word-counts");
    b.build()
}

fn main() -> Result<()> {
    millstream::run("word-count", word_count()?)
}
