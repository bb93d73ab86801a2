//! `Materialized`: how a store is logged, and where its rows lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{StateDisk, StoreDescription, StorePlace};

use crate::builder::StreamsBuilder;

/// How the rows of one store are kept, where that is to be other than for all: [`StreamsBuilder::materialized`].
///
/// ```
/// # use millstream_dsl::{Materialized, StreamsBuilder};
/// # let b = StreamsBuilder::new();
/// let words = b.stream::<String, String>("in").group_by_key();
/// words.count("of-this-run");
/// words.count("counts");
/// words.count("many");
/// b.materialized("of-this-run", Materialized::new().with_logging_disabled());
/// b.materialized("counts", Materialized::new().in_memory().with_logging_enabled([("segment.bytes", "1048576")]));
/// b.materialized("many", Materialized::new().on_disk());
/// let topology = b.build()?;
/// let [of_this_run, counts, _many] = topology.stores() else { panic!("three stores") };
/// assert!(of_this_run.changelog.is_none());
/// assert_eq!(counts.changelog.as_ref().map(|configs| configs["segment.bytes"].as_str()), Some("1048576"));
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Materialized {
    logging: Option<Logging>,
    place: Option<StorePlace>,
    /// How many rows it keeps.
    lru: Option<usize>,
}

/// What is said about the changelog.
#[derive(Debug, Clone)]
enum Logging {
    Disabled,
    /// With these configurations besides the store's own.
    Enabled(BTreeMap<String, String>),
}

impl Materialized {
    /// As all stores are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without a changelog: after a restart, and in another task, the store is empty, whatever `default.dsl.store` says, unless it is
    /// rebuilt from its topic ([`crate::Optimization::ReuseSourceTopics`]). Within a run it goes back with its task when a commit fails, as others do.
    pub fn with_logging_disabled(mut self) -> Self {
        self.logging = Some(Logging::Disabled);
        self
    }

    /// With a changelog whose topic is created with these configurations, by Kafka's keys. They win over the store's own, such
    /// as its `cleanup.policy`. A topic that is there already keeps what it has, but for a `retention.ms` or `min.compaction.lag.ms`
    /// that is longer than the program had before: it gets that, `-1` being for good.
    pub fn with_logging_enabled<'a>(mut self, configs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let configs = configs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.logging = Some(Logging::Enabled(configs));
        self
    }

    /// With all its rows in memory, and none on disk, where `default.dsl.store` says `rocksDB`: a start reads its whole changelog.
    pub fn in_memory(mut self) -> Self {
        self.place = Some(StorePlace::InMemory);
        self
    }

    /// With its rows on disk, where `default.dsl.store` says `in_memory`: it may outgrow memory. `millstream::run` makes the disk,
    /// with the feature `rocksdb`; without `run` it is [`millstream_core::RuntimeConfig::disk`]. A test driver without a disk keeps
    /// the rows in memory.
    pub fn on_disk(mut self) -> Self {
        self.place = Some(StorePlace::OnDisk);
        self
    }

    /// With no more than so many rows in each of its parts, at least 1, and those in memory: when there are more, the one that was
    /// read or written least recently goes, from the changelog too, and nobody below is told (`Stores.lruMap`). After a start, or
    /// when a commit has failed, rows count as used when they were written, by their times. Of tables and stores of processors, but
    /// not of global tables, nor of tables that are read from their topic again.
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Materialized, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// /// Passes on what was not among the last thousand words.
    /// struct Unheard {
    ///     heard: KeyValueStore<String, i64>,
    /// }
    /// # impl Processor for Unheard {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, word: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         if self.heard.put(&word.key, Some(word.value))?.is_none() { out.forward(word)?; }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let heard = b.store::<String, i64>("heard");
    /// b.materialized("heard", Materialized::new().lru(1_000));
    /// b.stream("words").process("unheard", move |setup| Unheard { heard: setup.store(heard) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let words = t.input::<String, i64>("words")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// ["a", "b", "a"].into_iter().for_each(|word| words.pipe(word, 1));
    /// assert_eq!(out.read(), [kv("a", 1), kv("b", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn lru(mut self, rows: usize) -> Self {
        self.lru = Some(rows);
        self
    }

    /// With its rows on this disk, whatever `default.dsl.store` says: a [`StateDisk`] of the program's own, for as many stores as are
    /// given it. `millstream::conformance::check_disk` tests one.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use millstream_dsl::{Materialized, StreamsBuilder, core::StateDisk};
    /// fn counts(b: &StreamsBuilder, disk: Arc<dyn StateDisk>) {
    ///     b.stream::<String, String>("in").group_by_key().count("counts");
    ///     b.materialized("counts", Materialized::new().on(disk));
    /// }
    /// ```
    pub fn on(mut self, disk: Arc<dyn StateDisk>) -> Self {
        self.place = Some(StorePlace::On(disk));
        self
    }

    /// Changes a store accordingly; or says why not.
    pub(crate) fn apply(&self, store: &mut StoreDescription) -> Option<String> {
        if let Some(place) = &self.place {
            store.place = place.clone();
        }
        if matches!(store.place, StorePlace::OnDisk | StorePlace::On(_)) {
            let why = if store.global {
                Some("it is a global store, which every thread has in memory")
            } else {
                matches!(self.logging, Some(Logging::Disabled))
                    .then_some("it has no changelog that a disk could fall behind")
            };
            if let Some(why) = why {
                return Some(format!(
                    "store `{}` cannot be on disk: {why}\n  help: leave out on_disk() or on(…)",
                    store.name
                ));
            }
        }
        if let Some(rows) = self.lru
            && let Some(why) = keep_most_recent(store, rows)
        {
            return Some(format!("store `{}` cannot have lru({rows}): {why}\n  help: leave it out", store.name));
        }
        match (&self.logging, &mut store.changelog) {
            (None, _) | (Some(Logging::Disabled), None) => None,
            (Some(Logging::Disabled), changelog) => {
                *changelog = None;
                None
            }
            (Some(Logging::Enabled(configs)), Some(changelog)) => {
                changelog.extend(configs.clone());
                None
            }
            (Some(Logging::Enabled(_)), None) => Some(format!(
                "store `{}` has no changelog that could be configured: its rows are read from a topic of the program's\n  help: leave out with_logging_enabled",
                store.name
            )),
        }
    }
}

/// Lets a store keep so many rows; or says why not.
fn keep_most_recent(store: &mut StoreDescription, rows: usize) -> Option<&'static str> {
    let make = store.supplier.clone();
    if rows == 0 {
        return Some("it would keep no row");
    }
    if store.global || store.rebuilt_from.is_some() {
        return Some("its rows are those of a topic");
    }
    if matches!(store.place, StorePlace::OnDisk | StorePlace::On(_)) {
        return Some("its rows are to be on disk");
    }
    if !make().keep_most_recent(rows) {
        return Some("only tables and stores of keys and values have it");
    }
    store.place = StorePlace::InMemory;
    store.supplier = Arc::new(move || {
        let made = make();
        made.keep_most_recent(rows);
        made
    });
    None
}

impl StreamsBuilder {
    /// Says how the rows of a store are kept: of any that the program has, by the name it has there, before or after. Joins of
    /// streams have the stores `<name>-left`, `<name>-right` and `<name>-held`.
    ///
    /// ```
    /// # use millstream_dsl::{Materialized, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.materialized("latest", Materialized::new().with_logging_disabled());
    /// b.materialized("counts", Materialized::new().in_memory().with_logging_enabled([("segment.bytes", "1048576")]));
    /// let words = b.stream::<String, String>("in").group_by_key();
    /// words.reduce("latest", |_, word| word);
    /// words.count("counts").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", "x");
    /// t.restart()?; // `latest` is empty now, `counts` is not
    /// input.pipe("a", "y");
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn materialized(&self, store: &str, how: Materialized) -> &Self {
        self.materialize_as(store, how);
        self
    }
}
