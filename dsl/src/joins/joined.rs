//! `Joined`: what a join of a stream and a table is called, and how long a record waits for the table.

use std::time::Duration;

/// How a stream is joined with a table. The name alone will do where nothing waits.
///
/// ```
/// # use millstream_dsl::{HOUR, Joined, MIN, StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// let prices = b.versioned_table::<String, i64>("prices", "prices", HOUR);
/// let waits = Joined::named("priced").grace(MIN);
/// b.stream::<String, i64>("orders").join_table(waits, &prices, |n, price| n * price).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let orders = t.input::<String, i64>("orders")?;
/// # let prices = t.input::<String, i64>("prices")?;
/// # let out = t.output::<String, i64>("out")?;
/// prices.pipe_at(0, "hat", 20);
/// orders.pipe_at(50_000, "hat", 1);
/// prices.pipe_at(40_000, "hat", 30); // comes later, but was valid then
/// orders.pipe_at(110_000, "hat", 2);
/// assert_eq!(out.read(), [kv("hat", 30)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Joined {
    pub(super) name: String,
    pub(super) grace: Option<Duration>,
}

impl Joined {
    /// Names the repartition topic, should the key have changed.
    pub fn named(name: &str) -> Self {
        Joined { name: name.to_owned(), grace: None }
    }

    /// With a versioned table, whose history is at least as long: records wait until the stream time is `grace` beyond theirs,
    /// and meet the table in the order of time. They wait in the store `<name>-buffer`.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }
}

impl From<&str> for Joined {
    fn from(name: &str) -> Self {
        Joined::named(name)
    }
}

impl From<&String> for Joined {
    fn from(name: &String) -> Self {
        Joined::named(name)
    }
}
