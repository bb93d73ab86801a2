//! What a program may be spared, by choice: topics that hold what another topic holds already. The results stay the same,
//! and so do all names.

use crate::builder::StreamsBuilder;
use crate::kstream::KStream;

/// Something that [`StreamsBuilder::optimize`] may do. None is done unless asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Optimization {
    /// A table has no changelog: its rows are read from its topic again, up to the committed position. So the topic must
    /// keep them, compacted or forever; one that the program creates is compacted. After a restart the table has every
    /// row of the topic, also those that a reset to `latest` has passed over, and those of records that a handler left out for what
    /// failed behind the table; but none of a record that the program, which may be another now, cannot read. Tables with a history, or with event time of their own, keep their changelogs.
    ReuseSourceTopics,
    /// What needs the new key of one and the same stream shares one repartition topic: that of the operator that comes
    /// first in the program, under the name it has anyhow. Aggregations, inner joins, and what takes null keys too (left and outer
    /// joins, `to_table`) have one each; all that is joined over it has one number of partitions. What goes through `.repartition(name)` keeps its own.
    MergeRepartitions,
}

impl Optimization {
    /// All of them.
    pub const ALL: [Optimization; 2] = [Optimization::ReuseSourceTopics, Optimization::MergeRepartitions];
}

impl<K: 'static, V: 'static> KStream<K, V> {
    /// The stream behind this one that `make` makes; if repartitions are merged, the one that `step` has made before.
    pub(crate) fn shared<K2: 'static, V2: 'static>(
        &self,
        step: &'static str,
        make: impl FnOnce() -> KStream<K2, V2>,
    ) -> KStream<K2, V2> {
        if !self.builder.optimizes(Optimization::MergeRepartitions) {
            return make();
        }
        let behind = (step, self.port.clone());
        self.builder.once(behind, |known, wanted| known.0 == wanted.0 && known.1.is(&wanted.1), make)
    }
}

impl StreamsBuilder {
    /// Spares the program topics, as [`Optimization`] says. To be called before the first operator.
    ///
    /// ```
    /// use millstream_dsl::{Optimization, StreamsBuilder};
    ///
    /// let b = StreamsBuilder::new();
    /// b.optimize(Optimization::ALL);
    /// let names = b.stream::<String, String>("names").select_key(|_, name| name.clone());
    /// names.group_by_key().count("counts");
    /// names.group_by_key().reduce("last", |_, name| name);
    /// assert_eq!(b.build()?.repartitions().len(), 1);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    pub fn optimize(&self, optimizations: impl IntoIterator<Item = Optimization>) -> &Self {
        self.choose(optimizations);
        self
    }
}
