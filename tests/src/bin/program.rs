//! A program as a user has one, for tests of what surrounds it: settings, data directory, errors on the way out.

use millstream::prelude::*;

fn main() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("lines").map_values(|line| line.to_uppercase()).to("loud");
    millstream::run_with("program", b.build()?, Settings::new().set("commit.interval.ms", 50))
}
