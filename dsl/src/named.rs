//! `named`: a name of the program's own for the node of an operator, which people are told and nothing is kept by. It is no
//! node itself.

use millstream_core::TopologyParts;

use crate::kstream::KStream;
use crate::ktable::KTable;

impl<K, V> KStream<K, V> {
    /// Gives the operator that this stream comes of a name, which `describe()`, errors, handlers and dead letters say in place of a
    /// numbered one: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, not `.` or `..` alone, and no other node's.
    ///
    /// It names one node: of an operator that has several, a cogroup or a foreign-key join, the last; of a stream that is read, or
    /// repartitioned, its source. Stores, topics and timers have the names that operators are given, whatever their nodes are
    /// called, and other nodes keep theirs: a node counts whether it is named or not.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver};
    /// # use millstream_dsl::core::Record;
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_map_values(|text| text.parse::<i64>()).named("parse").to("out");
    /// let topology = b.build()?;
    /// assert!(topology.describe().contains("Processor: parse (stores: [])"));
    /// # let t = TopologyTestDriver::new(topology)?;
    /// # let input = t.input::<String, String>("in")?;
    /// let error = input.try_pipe(Record::new("a".into(), "one".into(), 0)).unwrap_err().to_string();
    /// assert!(error.starts_with("parse failed in task 0_0 at in-0@0: invalid digit found in string"));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn named(&self, name: &str) -> KStream<K, V> {
        self.builder.name_node(self.node, name);
        self.clone()
    }
}

impl<K, V> KTable<K, V> {
    /// As [`KStream::named`], for the operator that this table comes of: of a table that is read, the node that keeps its rows.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").filter(|_, n| *n > 0).named("positive").to_stream().to("out");
    /// let topology = b.build()?;
    /// assert!(topology.describe().contains("Processor: positive (stores: [])"));
    /// # let t = TopologyTestDriver::new(topology)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// # input.pipe("a", 5);
    /// # assert_eq!(out.read(), [kv("a", Some(5))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn named(&self, name: &str) -> KTable<K, V> {
        self.builder.name_node(self.node, name);
        self.clone()
    }
}

/// No two nodes have one name, be it numbered or the program's own.
pub(crate) fn names_of_several(parts: &TopologyParts) -> Vec<String> {
    let mut names: Vec<&str> = parts.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.chunk_by(|a, b| a == b).filter(|same| same.len() > 1);
    twice
        .map(|same| {
            let name = same[0];
            format!("the name `{name}` is used for a node and again for a node\n  help: give each operator a name of its own")
        })
        .collect()
}
