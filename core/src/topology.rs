//! A topology: plain data that says what there is, and suppliers that build a task's nodes. Never generic.
//!
//! Built by the DSL, frozen, shared between threads. Nodes connected by an edge or a store belong to one
//! [`SubTopology`]; a repartition topic is no edge, so that is where a topology is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::offset_reset::OffsetReset;
use crate::placed_by::PlacedBy;
use crate::rebuilt_from::RebuiltFrom;
use crate::serde::Serde;
use crate::store::StoreInstance;
use crate::store_format::{StoreFormat, serde_name};
use crate::store_place::StorePlace;
use crate::task_builder::SourceSupplier;
use crate::topic_name::TopicName;
use crate::topic_pattern::TopicPattern;
use crate::topology_index::{NodeId, StoreId};

/// Which topics a source reads. As text: the first of them, or the pattern.
#[derive(Debug, Clone)]
pub enum Topics {
    /// These.
    Named(Vec<TopicName>),
    /// Every topic of the user's whose whole name matches, found at start.
    Pattern(TopicPattern),
}

/// One reaches another, and with it all that reach the one all that the other reaches.
fn connect(reaches: &mut [Vec<bool>], from: usize, to: usize) {
    let behind = reaches[to].clone();
    for (at, row) in reaches.iter_mut().enumerate() {
        if at == from || row[from] {
            row[to] = true;
            row.iter_mut().zip(&behind).for_each(|(reached, behind)| *reached |= behind);
        }
    }
}

impl Topics {
    /// Whether a sink's topic is, or may be, one of them.
    fn may_have(&self, sink: Option<&TopicName>) -> bool {
        match (self, sink) {
            (Topics::Named(names), Some(sink)) => names.contains(sink),
            (Topics::Named(names), None) => names.iter().any(|name| matches!(name, TopicName::User(_))),
            (Topics::Pattern(pattern), Some(TopicName::User(sink))) => pattern.matches(sink),
            (Topics::Pattern(_), sink) => sink.is_none(),
        }
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topics::Named(names) => names.first().map_or(Ok(()), |name| name.fmt(f)),
            Topics::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// One node, for people and for cutting the topology.
#[derive(Debug, Clone)]
pub struct NodeDescription {
    /// `KSTREAM-FILTER-0000000002`, or the user's name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// The nodes in front of it.
    pub inputs: Vec<NodeId>,
    /// The stores it reads or writes.
    pub stores: Vec<StoreId>,
    /// What a source or sink reads or writes.
    pub types: Option<RecordTypes>,
}

impl NodeDescription {
    /// What it writes, if it is a sink: `None` within if its records decide.
    fn sink(&self) -> Option<Option<&TopicName>> {
        match &self.kind {
            NodeKind::Sink(topic) => Some(topic.as_ref()),
            _ => None,
        }
    }
}

/// Types and serdes of a source or sink.
#[derive(Debug, Clone)]
pub struct RecordTypes {
    /// Key and value type, as Rust prints them.
    pub types: (&'static str, &'static str),
    /// Key and value serde, as [`serde_name`] has them.
    pub serdes: (String, String),
    /// What writes the bytes that decide a record's partition.
    pub partition_serde: String,
}

impl RecordTypes {
    /// Of two serdes.
    pub fn of<KS: Serde, VS: Serde>() -> Self {
        let types = (std::any::type_name::<KS::Value>(), std::any::type_name::<VS::Value>());
        let serdes = (serde_name::<KS>(), serde_name::<VS>());
        RecordTypes { types, serdes, partition_serde: KS::partition_serde() }
    }
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum NodeKind {
    /// Reads topics.
    Source(Topics),
    /// Anything between.
    Processor,
    /// Writes a topic; `None` if the record decides.
    Sink(Option<TopicName>),
}

/// A source.
#[derive(Clone)]
pub struct SourceDescription {
    /// Its node.
    pub node: NodeId,
    /// What it reads.
    pub topics: Topics,
    /// Where it starts.
    pub reset: Option<OffsetReset>,
    /// After how long a silence its time goes on without it, if it does.
    pub idleness: Option<Duration>,
    /// How to build it.
    pub supplier: SourceSupplier,
    /// Feeds a global store: every thread reads all partitions before it starts.
    pub global: bool,
}

/// A store.
#[derive(Clone)]
pub struct StoreDescription {
    /// Its name.
    pub name: String,
    /// How its rows are written.
    pub format: StoreFormat,
    /// Its changelog topic's configuration; `None` for none.
    pub changelog: Option<BTreeMap<String, String>>,
    /// The topic that stands for its changelog, if it has none of its own.
    pub rebuilt_from: Option<RebuiltFrom>,
    /// The nodes whose records become its rows: other nodes may have it too, and only look into it.
    pub made_of: BTreeSet<NodeId>,
    /// Where its rows lie.
    pub place: StorePlace,
    /// How to build it, empty.
    pub supplier: Arc<dyn Fn() -> StoreInstance + Send + Sync>,
    /// One per thread, fed by a global source.
    pub global: bool,
}

/// A repartition topic: written by one node, read by another.
#[derive(Debug, Clone)]
pub struct RepartitionDescription {
    /// Its name, without application id.
    pub name: String,
    /// Its partitions, if the program fixes them.
    pub partitions: Option<i32>,
    /// The node that writes it.
    pub sink: NodeId,
    /// The node that reads it.
    pub source: NodeId,
}

/// Sources whose partitions must agree, because an operator, or a store, brings their keys together.
#[derive(Debug, Clone)]
pub struct Copartition {
    /// What brings them together, for messages.
    pub operator: String,
    /// The sources.
    pub sources: BTreeSet<NodeId>,
    /// `false`: only processors do, whose rows may be of other keys. It is a warning then.
    pub required: bool,
}

/// What the DSL hands to [`Topology::new`].
#[derive(Clone, Default)]
pub struct TopologyParts {
    /// All nodes; a node's inputs come before it.
    pub nodes: Vec<NodeDescription>,
    /// All sources.
    pub sources: Vec<SourceDescription>,
    /// All stores.
    pub stores: Vec<StoreDescription>,
    /// All repartition topics.
    pub repartitions: Vec<RepartitionDescription>,
    /// Which sources must have equal partitions.
    pub copartitions: Vec<Copartition>,
    /// The sinks that place records by a partitioner of the program's own.
    pub placed_by: BTreeMap<NodeId, PlacedBy>,
    /// Topics of the user's with the number of partitions the program asks for.
    pub declared: BTreeMap<String, i32>,
    /// What runs, and may not be meant.
    pub warnings: Vec<String>,
}

/// A part of the topology that runs as one task per partition.
#[derive(Debug, Clone)]
pub struct SubTopology {
    /// Its nodes, in order.
    pub nodes: Vec<NodeId>,
    /// Indices of its sources.
    pub sources: Vec<usize>,
    /// Its stores that belong to tasks (global stores belong to threads).
    pub stores: Vec<StoreId>,
}

/// A frozen program.
pub struct Topology {
    parts: TopologyParts,
    node_names: Arc<[String]>,
    sub_topologies: Vec<SubTopology>,
}

impl Topology {
    /// Freezes a topology. The parts have been checked by the builder.
    pub fn new(parts: TopologyParts) -> Self {
        let sub_topologies = cut(&parts);
        let node_names = parts.nodes.iter().map(|node| node.name.clone()).collect();
        Topology { parts, node_names, sub_topologies }
    }

    /// All nodes.
    pub fn nodes(&self) -> &[NodeDescription] {
        &self.parts.nodes
    }

    /// The names of all nodes.
    pub(crate) fn node_names(&self) -> &Arc<[String]> {
        &self.node_names
    }

    /// Whether a source reads what a pattern matches.
    pub(crate) fn reads_patterns(&self) -> bool {
        self.sources().iter().any(|source| matches!(source.topics, Topics::Pattern(_)))
    }

    /// Whether a source reads a topic of this name as soon as there is one.
    pub(crate) fn has_pattern_of(&self, topic: &str) -> bool {
        self.sources().iter().any(|source| matches!(&source.topics, Topics::Pattern(pattern) if pattern.matches(topic)))
    }

    /// All sources.
    pub fn sources(&self) -> &[SourceDescription] {
        &self.parts.sources
    }

    /// All stores.
    pub fn stores(&self) -> &[StoreDescription] {
        &self.parts.stores
    }

    /// All repartition topics.
    pub fn repartitions(&self) -> &[RepartitionDescription] {
        &self.parts.repartitions
    }

    /// Sources that must agree in partitions.
    pub fn copartitions(&self) -> &[Copartition] {
        &self.parts.copartitions
    }

    /// Topics with the number of partitions that the program asks for.
    pub fn declared(&self) -> &BTreeMap<String, i32> {
        &self.parts.declared
    }

    /// The partitioner of the program's own by which a sink places its records.
    pub(crate) fn placed_by(&self, sink: NodeId) -> Option<&PlacedBy> {
        self.parts.placed_by.get(&sink)
    }

    /// What runs, and may not be meant; each with what to do. [`crate::Streams`] says nothing of it, `millstream::run` prints it.
    pub fn warnings(&self) -> &[String] {
        &self.parts.warnings
    }

    /// The parts that run as tasks, numbered as in task ids.
    pub fn sub_topologies(&self) -> &[SubTopology] {
        &self.sub_topologies
    }

    /// Groups of sub-topologies in an order in which every topic of the program's own is written before it is read, but within a
    /// group: a foreign-key join writes both ways. Who lets records name their topic comes before those who may read it, as far as that
    /// goes with the rest.
    pub fn flow(&self) -> Vec<Vec<usize>> {
        let parts = self.sub_topologies();
        let sinks = |from: &SubTopology| from.nodes.iter().filter_map(|node| self.nodes()[node.0].sink()).collect();
        let reads = |to: &SubTopology, sink| to.sources.iter().any(|s| self.sources()[*s].topics.may_have(sink));
        // Whether records of one sub-topology can reach another.
        let mut reaches = vec![vec![false; parts.len()]; parts.len()];
        for named in [true, false] {
            for (from, writer) in parts.iter().enumerate() {
                let mut sinks: Vec<Option<&TopicName>> = sinks(writer);
                sinks.retain(|sink| sink.is_some() == named);
                for (to, reader) in parts.iter().enumerate() {
                    if (named || !reaches[to][from]) && sinks.iter().any(|sink| reads(reader, *sink)) {
                        connect(&mut reaches, from, to);
                    }
                }
            }
        }
        let count = parts.len();
        let mut order: Vec<Vec<usize>> = Vec::new();
        let mut left: BTreeSet<usize> = (0..count).collect();
        while let Some(first) = left.first().copied() {
            let ready = |to: usize| left.iter().all(|from| !reaches[*from][to] || reaches[to][*from]);
            let next = left.iter().copied().find(|s| ready(*s)).unwrap_or(first);
            let group: Vec<usize> =
                left.iter().copied().filter(|s| *s == next || (reaches[next][*s] && reaches[*s][next])).collect();
            left.retain(|s| !group.contains(s));
            order.push(group);
        }
        order
    }

    /// Whether a sink of the program's writes a topic.
    pub(crate) fn writes(&self, application_id: &str, topic: &str) -> bool {
        let sinks = self.nodes().iter().filter_map(NodeDescription::sink);
        sinks.flatten().any(|name| name.resolve(application_id) == topic)
    }

    /// A store that the program wants on the application's disk.
    pub fn wants_disk(&self) -> Option<&StoreDescription> {
        self.stores().iter().find(|store| matches!(store.place, StorePlace::OnDisk))
    }

    /// Where its stores lie.
    pub(crate) fn places(&self) -> impl Iterator<Item = &StorePlace> {
        self.stores().iter().map(|store| &store.place)
    }

    /// Indices of the global sources.
    pub fn global_sources(&self) -> impl Iterator<Item = usize> {
        self.parts.sources.iter().enumerate().filter(|(_, s)| s.global).map(|(i, _)| i)
    }
}

/// Union-find over nodes by edges and by stores of tasks; what hangs on a global source alone is left out.
fn cut(parts: &TopologyParts) -> Vec<SubTopology> {
    let mut parent: Vec<usize> = (0..parts.nodes.len()).collect();
    fn root(parent: &mut [usize], mut node: usize) -> usize {
        while parent[node] != node {
            parent[node] = parent[parent[node]];
            node = parent[node];
        }
        node
    }
    let mut join = |a: usize, b: usize| {
        let (a, b) = (root(&mut parent, a), root(&mut parent, b));
        parent[a.max(b)] = a.min(b);
    };
    let mut first_with_store = BTreeMap::new();
    for (id, node) in parts.nodes.iter().enumerate() {
        for input in &node.inputs {
            join(input.0, id);
        }
        for store in node.stores.iter().filter(|s| !parts.stores[s.0].global) {
            join(*first_with_store.entry(*store).or_insert(id), id);
        }
    }
    let global: BTreeSet<usize> =
        parts.sources.iter().filter(|s| s.global).map(|s| root(&mut parent, s.node.0)).collect();
    let mut groups: BTreeMap<usize, SubTopology> = BTreeMap::new();
    for id in 0..parts.nodes.len() {
        let root = root(&mut parent, id);
        if global.contains(&root) {
            continue;
        }
        let group =
            groups.entry(root).or_insert_with(|| SubTopology { nodes: vec![], sources: vec![], stores: vec![] });
        group.nodes.push(NodeId(id));
        group.sources.extend(parts.sources.iter().position(|s| s.node.0 == id));
        for store in &parts.nodes[id].stores {
            if !parts.stores[store.0].global && !group.stores.contains(store) {
                group.stores.push(*store);
            }
        }
    }
    groups.into_values().collect()
}
