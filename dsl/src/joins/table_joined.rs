//! `TableJoined`: what a foreign-key join is called, and how the other table's keys are placed.

use std::sync::Arc;

use millstream_core::{Error, PlacedBy, Result};

use crate::failure::BoxError;

/// The partition of a key, given the number of partitions.
pub(super) type KeyPartitioner<F> = Arc<dyn Fn(&F, i32) -> Result<i32> + Send + Sync>;

/// How a table is joined with another by foreign keys. The name alone will do where the other table's topic is partitioned by
/// key as Kafka's default partitioner does it.
///
/// ```
/// # use millstream_dsl::{Produced, StreamsBuilder, TableJoined, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// // By the first letter of the town.
/// fn by_letter(town: &String, partitions: i32) -> i32 {
///     town.bytes().next().map_or(0, i32::from) % partitions
/// }
/// b.topic("people", 4).topic("towns", 4);
/// let placed = Produced::of::<String, i64>().partitioner(|town, _, n| Some(vec![by_letter(town, n)]));
/// b.stream::<String, i64>("census").to_with("towns", placed);
/// let people = b.table::<String, String>("people", "people"); // name, town
/// let towns = b.table::<String, i64>("towns", "towns"); // town, inhabitants
/// let joined = TableJoined::named("neighbours").other_partitioner(by_letter);
/// people.join_on(joined, &towns, |town| Some(town.clone()), |_, n| n - 1).to_stream().to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let (people, census) = (t.input::<String, String>("people")?, t.input::<String, i64>("census")?);
/// # let out = t.output::<String, Option<i64>>("out")?;
/// [("Oslo", 700_000), ("Bergen", 290_000)].into_iter().for_each(|(town, n)| census.pipe(town, n));
/// people.pipe("ann", "Oslo");
/// people.pipe("bob", "Bergen");
/// assert_eq!(out.read(), [kv("ann", 699_999), kv("bob", 289_999)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct TableJoined<F> {
    pub(super) name: String,
    pub(super) other: Option<(KeyPartitioner<F>, PlacedBy)>,
}

impl<F> TableJoined<F> {
    /// Names the store of the result and the repartition topics.
    pub fn named(name: &str) -> Self {
        TableJoined { name: name.to_owned(), other: None }
    }

    /// The partition of a key of the other table, given the number of partitions, as that table's topic has it, which counts for
    /// everything else that is joined with it. Answers go back to the partition that a row came from, however this table's topic is
    /// partitioned.
    pub fn other_partitioner<P>(mut self, partitioner: P) -> Self
    where
        P: Fn(&F, i32) -> i32 + Send + Sync + 'static,
    {
        self.other = Some((Arc::new(move |key, partitions| Ok(partitioner(key, partitions))), PlacedBy::stated::<P>()));
        self
    }

    /// As [`TableJoined::other_partitioner`], with a function that may fail: `processing.exception.handler` decides then. What a
    /// row asks that is left out is not asked: its result stays as it was.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TableJoined, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.topic("people", 4).topic("streets", 4);
    /// let people = b.table::<String, String>("people", "people"); // name, number of the street
    /// let streets = b.table::<String, String>("streets", "streets");
    /// let by_number = |street: &String, partitions: i32| street.parse::<i32>().map(|n| n % partitions);
    /// let joined = TableJoined::named("homes").try_other_partitioner(by_number);
    /// people.left_join_on(joined, &streets, |street| Some(street.clone()), |_, name| format!("{name:?}")).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// [("ann", "7"), ("bob", "?")].into_iter().for_each(|(name, street)| people.pipe(name, street));
    /// assert_eq!(out.read(), [kv("ann", "None".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_other_partitioner<P, E: Into<BoxError>>(mut self, partitioner: P) -> Self
    where
        P: Fn(&F, i32) -> Result<i32, E> + Send + Sync + 'static,
    {
        let partition = move |key: &F, partitions: i32| partitioner(key, partitions).map_err(Error::user);
        self.other = Some((Arc::new(partition), PlacedBy::stated::<P>()));
        self
    }
}

impl<F> From<&str> for TableJoined<F> {
    fn from(name: &str) -> Self {
        TableJoined::named(name)
    }
}

impl<F> From<&String> for TableJoined<F> {
    fn from(name: &String) -> Self {
        TableJoined::named(name)
    }
}
