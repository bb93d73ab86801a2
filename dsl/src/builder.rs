//! `StreamsBuilder`: where a program starts, and the graph that every operator adds itself to.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::{
    Copartition, Data, Error, NodeDescription, NodeId, NodeKind, OffsetReset, Port, RebuiltFrom, RecordTypes,
    RepartitionDescription, Result, Serde, SourceDescription, SourceSupplier, StateStore, StoreDescription,
    StoreFormat, StoreId, StoreInstance, StorePlace, Timestamp, TopicName, TopicPattern, Topics, Topology,
    TopologyParts, short_type_name,
};

use crate::consumed::{Consumed, Produced};
use crate::durations::{self, FirstBad, Least};
use crate::keyed_stores;
use crate::materialized::Materialized;
use crate::named;
use crate::once::Made;
use crate::optimization::Optimization;
use crate::windows::JoinWindows;

/// Builds a [`Topology`]. Clones share one graph.
///
/// ```
/// use millstream_dsl::StreamsBuilder;
///
/// let b = StreamsBuilder::new();
/// b.stream::<String, String>("in").filter(|_, v| !v.is_empty()).to("out");
/// let topology = b.build()?;
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct StreamsBuilder {
    graph: Arc<Mutex<Graph>>,
}

#[derive(Default)]
struct Graph {
    parts: TopologyParts,
    /// Problems of operators between programs.
    strangers: Vec<String>,
    problems: Vec<String>,
    ports: usize,
    optimizations: BTreeSet<Optimization>,
    made: Vec<Made>,
    /// Stores that could do without a changelog.
    rebuildable: Vec<(StoreId, RebuiltFrom)>,
    /// How stores are kept for which the program says so, by name.
    materialized: BTreeMap<String, Materialized>,
    /// Names of topics and stores that operators make, each with its operator.
    names: BTreeMap<String, String>,
    /// Names of processors with timers.
    timed: BTreeSet<String>,
    /// Nodes that pass changes on with commits only.
    holding_back: BTreeSet<NodeId>,
    /// How long after its end a window closes, in milliseconds, for the nodes that aggregate in windows.
    graces: BTreeMap<NodeId, Timestamp>,
    /// Which stores the program's own code has asked for, and where.
    asked: BTreeSet<(NodeId, StoreId)>,
    /// Nodes that the program has named.
    named: BTreeSet<NodeId>,
}

/// How a source reads, besides its records.
pub(crate) struct SourceOptions {
    pub(crate) reset: Option<OffsetReset>,
    pub(crate) idleness: Option<Duration>,
    pub(crate) global: bool,
}

/// A store to be added to the graph.
pub(crate) struct NewStore {
    pub(crate) name: String,
    pub(crate) format: StoreFormat,
    pub(crate) changelog: Option<BTreeMap<String, String>>,
    pub(crate) supplier: Arc<dyn Fn() -> StoreInstance + Send + Sync>,
    pub(crate) global: bool,
}

impl NewStore {
    /// A store that `make` makes anew for every task, given the store's name, with a changelog of this configuration.
    pub(crate) fn new<T: StateStore>(
        name: &str,
        format: StoreFormat,
        changelog: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
        make: impl Fn(&str) -> T + Send + Sync + 'static,
    ) -> Self {
        let store = name.to_owned();
        NewStore {
            name: name.to_owned(),
            format,
            changelog: Some(changelog.into_iter().map(|(key, value)| (key.into(), value.into())).collect()),
            supplier: Arc::new(move || StoreInstance::new(make(&store))),
            global: false,
        }
    }
}

impl StreamsBuilder {
    /// An empty program.
    ///
    /// ```
    /// let b = millstream_dsl::StreamsBuilder::new();
    /// b.stream::<String, String>("in").to("out");
    /// b.build()?;
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a topic of the user's with so many partitions, at least 1: it is created when it is missing.
    /// A topic that is there with another number is an error when the program starts.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.topic("in", 3).topic("out", 3);
    /// b.stream::<String, i64>("in").to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn topic(&self, name: &str, partitions: i32) -> &Self {
        if partitions < 1 {
            self.problem(format!("topic `{name}` is asked for with {partitions} partitions\n  help: at least 1"));
        }
        self.graph().parts.declared.insert(name.to_owned(), partitions);
        self
    }

    /// Freezes the program.
    ///
    /// ```
    /// # let b = millstream_dsl::StreamsBuilder::new();
    /// let words = b.stream::<String, String>("in").group_by_key();
    /// words.count("counts");
    /// words.count("counts");
    /// let problem = b.build().map(drop).unwrap_err().to_string();
    /// assert!(problem.contains("the name `counts` is used for a store and again for a store"));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Build`] with every problem of the program at once.
    pub fn build(&self) -> Result<Topology> {
        let graph = self.graph();
        // What these name is not in this graph: nothing else is looked at.
        if !graph.strangers.is_empty() {
            return Err(Error::Build(Box::new(graph.strangers.clone())));
        }
        let mut problems = graph.problems.clone();
        problems.extend(illegal_topics(&graph.parts));
        problems.extend(unreadable_lists(&graph.parts));
        problems.extend(overlapping_sources(&graph.parts));
        problems.extend(named::names_of_several(&graph.parts));
        let mut parts = graph.parts.clone();
        parts.copartitions.extend(keyed_stores::copartitions(&parts, &graph.asked));
        problems.extend(parts.scattered_keys(true));
        parts.warnings.extend(parts.scattered_keys(false));
        problems.extend(misread_topics(&parts));
        if graph.parts.sources.is_empty() {
            problems.push(
                "the program reads no topic\n  help: start with .stream(…), .table(…) or .global_table(…)".into(),
            );
        }
        if graph.optimizations.contains(&Optimization::ReuseSourceTopics) {
            for (store, from) in &graph.rebuildable {
                let store = &mut parts.stores[store.0];
                (store.changelog, store.rebuilt_from) = (None, Some(from.clone()));
            }
        }
        for (name, how) in &graph.materialized {
            problems.extend(match parts.stores.iter_mut().find(|store| store.name == *name) {
                Some(store) => how.apply(store),
                None => Some(format!(
                    "the program says how to keep store `{name}`, and has none of that name\n  help: stores have the names that operators are given"
                )),
            });
        }
        if !problems.is_empty() {
            return Err(Error::Build(Box::new(problems)));
        }
        Ok(Topology::new(parts))
    }

    pub(crate) fn choose(&self, optimizations: impl IntoIterator<Item = Optimization>) {
        let mut graph = self.graph();
        if !graph.parts.nodes.is_empty() {
            let problem = "the program is optimized after its first operator\n  help: call .optimize(…) right after StreamsBuilder::new()";
            graph.problems.push(problem.to_owned());
        }
        graph.optimizations.extend(optimizations);
    }

    pub(crate) fn materialize_as(&self, store: &str, how: Materialized) {
        let mut graph = self.graph();
        if graph.materialized.insert(store.to_owned(), how).is_some() {
            let problem = format!("the program says twice how to keep store `{store}`\n  help: say it once");
            graph.problems.push(problem);
        }
    }

    pub(crate) fn optimizes(&self, optimization: Optimization) -> bool {
        self.graph().optimizations.contains(&optimization)
    }

    pub(crate) fn with_made<R>(&self, f: impl FnOnce(&mut Vec<Made>) -> R) -> R {
        f(&mut self.graph().made)
    }

    /// Notes that a store's rows are in a topic too.
    pub(crate) fn rebuildable(&self, store: StoreId, from: RebuiltFrom) {
        self.graph().rebuildable.push((store, from));
    }

    /// Lets a store that can be rebuilt from a topic do without a changelog.
    pub(crate) fn rebuild_from_topic(&self, store: StoreId) {
        let mut graph = self.graph();
        if let Some((_, from)) = graph.rebuildable.iter().find(|(id, _)| *id == store).cloned() {
            let store = &mut graph.parts.stores[store.0];
            (store.changelog, store.rebuilt_from) = (None, Some(from));
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes it as a problem when two streams, or tables, that come together are of different programs.
    pub(crate) fn same_program(&self, other: &StreamsBuilder, operator: &str) {
        if !Arc::ptr_eq(&self.graph, &other.graph) {
            self.graph().strangers.push(format!(
                "{operator} brings streams or tables of two StreamsBuilders together\n  help: make both from one"
            ));
        }
    }

    /// Milliseconds of a duration that is given to `place` as `what`; a bad one is a problem, and stands for a millisecond.
    pub(crate) fn millis(&self, place: &str, what: &'static str, given: Duration, least: Least) -> Timestamp {
        durations::millis(what, given, least).unwrap_or_else(|bad| {
            self.problem(format!("{place}: {bad}"));
            1
        })
    }

    /// Notes the bad duration of a definition that `place` was given.
    pub(crate) fn no_bad_duration(&self, place: &str, bad: FirstBad) {
        if let Some(bad) = bad.get() {
            self.problem(format!("{place}: {bad}"));
        }
    }

    /// A global table or store is read from the start, without a part in stream time.
    pub(crate) fn no_start_of_globals<KS, VS, X>(&self, what: &str, store: &str, consumed: &Consumed<KS, VS, X>) {
        if consumed.reset.is_some() || consumed.idleness.is_some() {
            self.problem(format!(
                "global {what} `{store}` is given a reset policy or idleness\n  help: leave it out: the topic is always read from its start, and no time waits for it"
            ));
        }
    }

    pub(crate) fn problem(&self, problem: String) {
        self.graph().problems.push(problem);
    }

    /// Warns of a join whose buffers keep nothing (semantics.md 26).
    pub(crate) fn warn_of_windows_of_no_time(&self, join: &str, windows: JoinWindows) {
        if windows.retention() == 0 {
            self.graph().parts.warnings.push(format!(
                "the windows of join `{join}` are 0 ms long and without grace: nothing is kept, so nothing joins, as in Kafka \
                 Streams\n  help: `JoinWindows::exact()` joins records of equal times"
            ));
        }
    }

    /// Notes that a node passes changes on with commits only.
    pub(crate) fn holds_back(&self, node: NodeId) {
        self.graph().holding_back.insert(node);
    }

    /// Notes that a node aggregates in windows that close so long after their end.
    pub(crate) fn closes_behind(&self, node: NodeId, grace: Timestamp) {
        self.graph().graces.insert(node, grace);
    }

    /// How long after its end a window closes whose rows come of these nodes: the largest grace of the nearest windowed
    /// aggregations on all ways up. The node at which a way ends without one, if there is any.
    pub(crate) fn grace_above(&self, node: NodeId) -> Result<Timestamp, String> {
        let graph = self.graph();
        let (mut seen, mut next, mut largest) = (BTreeSet::from([node]), vec![node], 0);
        while let Some(node) = next.pop() {
            if let Some(grace) = graph.graces.get(&node) {
                largest = largest.max(*grace);
                continue;
            }
            let NodeDescription { name, kind, inputs, .. } = &graph.parts.nodes[node.0];
            let repartition = graph.parts.repartitions.iter().find(|repartition| repartition.source == node);
            let above: Vec<NodeId> = inputs.iter().copied().chain(repartition.map(|r| r.sink)).collect();
            if above.is_empty() {
                return Err(if let NodeKind::Source(topics) = kind { topics.to_string() } else { name.clone() });
            }
            next.extend(above.into_iter().filter(|node| seen.insert(*node)));
        }
        Ok(largest)
    }

    /// Warns of a join whose sides come of one table, and whose look-ups read rows that have changed before both sides have
    /// heard of it (semantics.md 77). Not if each side has heard of it before either passes it on: with the commit, from an
    /// `emit_on_commit` of its own, which knows until then what it has passed on last.
    pub(crate) fn warn_of_rows_on_both_sides(&self, sides: [NodeId; 2], read: &[StoreId]) {
        let mut graph = self.graph();
        let Graph { parts, holding_back, .. } = &mut *graph;
        let above = |node: NodeId, ends: &dyn Fn(NodeId) -> bool| {
            let (mut found, mut next) = (BTreeSet::from([node]), vec![node]);
            while let Some(node) = next.pop() {
                let inputs = if ends(node) { &[][..] } else { &parts.nodes[node.0].inputs };
                next.extend(inputs.iter().filter(|input| found.insert(**input)));
            }
            found
        };
        let [left, right] = sides.map(|side| above(side, &|_| false));
        let both: BTreeSet<_> = left.intersection(&right).copied().collect();
        let hears_at_once = |side| {
            let heard = above(side, &|node| holding_back.contains(&node) && !both.contains(&node));
            !heard.is_disjoint(&both)
        };
        if !sides.into_iter().any(hears_at_once) {
            return;
        }
        let above_both: BTreeSet<_> = both.iter().flat_map(|node| parts.nodes[node.0].stores.iter().copied()).collect();
        let shared = read.iter().filter(|store| above_both.contains(store));
        let names: Vec<_> = shared.map(|store| format!("`{}`", parts.stores[store.0].name)).collect();
        if !names.is_empty() {
            parts.warnings.push(format!(
                "both sides of a join of tables come of {}, whose rows change before either side hears of it: as in Kafka Streams, \
                 deletions may not be passed on, and what is grouped below may be added twice\n  help: give both sides rows of \
                 their own with .materialize(name), right before the join, or an .emit_on_commit() of their own",
                names.join(", ")
            ));
        }
    }

    /// Warns of a join with a table of windows that are emitted on close: it finds open windows, of which the table below has not
    /// heard (semantics.md 42).
    pub(crate) fn warn_of_rows_ahead(&self) {
        self.graph().parts.warnings.push(
            "a join of tables looks up windows that are emitted on close: as in Kafka Streams it finds them while they are open, \
             and what is grouped below may be added twice\n  help: give that side rows of its own with .materialize(name), right \
             before the join"
                .to_owned(),
        );
    }

    /// Warns of a windowed count whose values may be null: it counts them, and an unwindowed one does not (semantics.md 35).
    pub(crate) fn warn_of_nulls<V: Data>(&self, store: &str) {
        if TypeId::of::<V>() != TypeId::of::<V::NonNull>() {
            self.graph().parts.warnings.push(format!(
                "`{store}` counts null values, which a count without windows leaves out\n  help: leave them out with .flat_map_values(|v| v) before it, or show that they count with .map_values(|v| v.is_some())"
            ));
        }
    }

    pub(crate) fn port<T>(&self) -> Port<T> {
        let mut graph = self.graph();
        graph.ports += 1;
        Port::new(graph.ports)
    }

    /// Adds a node between others, which makes rows of these stores of what it is fed with.
    pub(crate) fn node(&self, kind: &str, inputs: &[NodeId], stores: &[StoreId]) -> NodeId {
        stores.iter().for_each(|store| inputs.iter().for_each(|input| self.make(*store, *input)));
        self.describe(kind, NodeKind::Processor, inputs, stores, None)
    }

    /// Adds a node between others that has these stores to look into, or of which [`StreamsBuilder::make`] is told.
    pub(crate) fn looking_node(&self, kind: &str, inputs: &[NodeId], stores: &[StoreId]) -> NodeId {
        self.describe(kind, NodeKind::Processor, inputs, stores, None)
    }

    /// Notes that a node's records become rows of a store.
    pub(crate) fn make(&self, store: StoreId, of: NodeId) {
        self.graph().parts.stores[store.0].made_of.insert(of);
    }

    fn describe(
        &self,
        kind: &str,
        what: NodeKind,
        inputs: &[NodeId],
        stores: &[StoreId],
        types: Option<RecordTypes>,
    ) -> NodeId {
        let mut graph = self.graph();
        let id = NodeId(graph.parts.nodes.len());
        let name = format!("{kind}-{:010}", id.0);
        graph.parts.nodes.push(NodeDescription {
            name,
            kind: what,
            inputs: inputs.to_vec(),
            stores: stores.to_vec(),
            types,
        });
        id
    }

    /// What a node is called.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        self.graph().parts.nodes[node.0].name.clone()
    }

    /// Gives a node a name of the program's, if it has none yet.
    pub(crate) fn name_node(&self, id: NodeId, name: &str) {
        let mut graph = self.graph();
        let Graph { parts, problems, named, .. } = &mut *graph;
        let node = &mut parts.nodes[id.0];
        if !TopicName::is_legal(name) {
            problems.push(format!("`{name}` cannot name a node\n  help: {}", TopicName::RULE));
        } else if named.insert(id) {
            name.clone_into(&mut node.name);
        } else if node.name != name {
            problems.push(format!("node `{}` is named again, `{name}`\n  help: name it once", node.name));
        }
    }

    /// Leads one node more to a node.
    pub(crate) fn connect(&self, node: NodeId, input: NodeId) {
        self.graph().parts.nodes[node.0].inputs.push(input);
    }

    /// Adds a source node.
    pub(crate) fn source<KS: Serde, VS: Serde>(
        &self,
        kind: &str,
        topics: Topics,
        options: SourceOptions,
        supplier: SourceSupplier,
    ) -> NodeId {
        let node = self.describe(kind, NodeKind::Source(topics.clone()), &[], &[], Some(RecordTypes::of::<KS, VS>()));
        let SourceOptions { reset, idleness, global } = options;
        let place = format!("the source of `{topics}`");
        if let Some(idleness) = idleness {
            self.millis(&place, "an idleness", idleness, Least::Millisecond);
        }
        if let Some(OffsetReset::ByDuration(age)) = reset {
            self.millis(&place, "a reset by duration", age, Least::Zero);
        }
        self.graph().parts.sources.push(SourceDescription { node, topics, reset, idleness, supplier, global });
        node
    }

    /// Adds a sink node.
    pub(crate) fn sink<KS: Serde, VS: Serde>(&self, input: NodeId, topic: Option<TopicName>) -> NodeId {
        self.describe("KSTREAM-SINK", NodeKind::Sink(topic), &[input], &[], Some(RecordTypes::of::<KS, VS>()))
    }

    /// Notes by which partitioner of the program's own a sink places its records.
    pub(crate) fn place<KS: Serde, VS: Serde>(&self, sink: NodeId, produced: &Produced<KS, VS>) {
        if let Some(placed_by) = &produced.placed_by {
            self.graph().parts.placed_by.insert(sink, placed_by.clone());
        }
    }

    /// Adds a store; its name must be free.
    pub(crate) fn store_named(&self, store: NewStore) -> StoreId {
        self.claim(&store.name, "a store");
        let mut graph = self.graph();
        let id = StoreId(graph.parts.stores.len());
        let NewStore { name, format, changelog, supplier, global } = store;
        graph.parts.stores.push(StoreDescription {
            name,
            format,
            changelog,
            rebuilt_from: None,
            made_of: BTreeSet::new(),
            place: StorePlace::default(),
            supplier,
            global,
        });
        id
    }

    /// The topic whose records alone fill a store: it is read again at a start, and nothing else is.
    pub(crate) fn filled_by(&self, id: StoreId) -> Option<String> {
        let graph = self.graph();
        let Graph { parts, rebuildable, optimizations, .. } = &*graph;
        let store = &parts.stores[id.0];
        let mut global = parts.sources.iter().filter(|source| source.global && store.made_of.contains(&source.node));
        if let Some(source) = global.next() {
            return Some(source.topics.to_string());
        }
        let reuses = optimizations.contains(&Optimization::ReuseSourceTopics);
        let reused = rebuildable.iter().find(|(rebuilt, _)| reuses && *rebuilt == id).map(|(_, from)| from);
        store.rebuilt_from.as_ref().or(reused).map(|from| from.topic.clone())
    }

    /// A store as a task would get it, empty, and its name.
    pub(crate) fn empty_store(&self, id: StoreId) -> (StoreInstance, String) {
        let (supplier, name) = {
            let graph = self.graph();
            let store = &graph.parts.stores[id.0];
            (store.supplier.clone(), store.name.clone())
        };
        (supplier(), name)
    }

    pub(crate) fn repartition(&self, name: &str, partitions: Option<i32>, sink: NodeId, source: NodeId) {
        self.claim(&format!("{name}-repartition"), "a repartition topic");
        if partitions.is_some_and(|partitions| partitions < 1) {
            self.problem(format!(
                "`{name}` repartitions to {} partitions\n  help: at least 1",
                partitions.unwrap_or_default()
            ));
        }
        self.graph().parts.repartitions.push(RepartitionDescription {
            name: name.to_owned(),
            partitions,
            sink,
            source,
        });
    }

    pub(crate) fn copartition(&self, operator: &str, sources: BTreeSet<NodeId>) {
        let group = Copartition { operator: operator.to_owned(), sources, required: true };
        self.graph().parts.copartitions.push(group);
    }

    /// Notes which stores the code of a node's own has asked for.
    pub(crate) fn asks(&self, node: NodeId, stores: &[StoreId]) {
        self.graph().asked.extend(stores.iter().map(|store| (node, *store)));
    }

    /// The sources that feed these nodes.
    pub(crate) fn sources_of(&self, nodes: &[NodeId]) -> BTreeSet<NodeId> {
        keyed_stores::sources_above(&self.graph().parts, nodes)
    }

    /// Takes the name of a processor with timers: when they are due is kept by it.
    pub(crate) fn claim_timers(&self, processor: &str) {
        let is_new = self.graph().timed.insert(processor.to_owned());
        if processor.is_empty() || !is_new {
            let what = if processor.is_empty() { "has no name" } else { "has the name of another" };
            self.problem(format!(
                "processor `{processor}` {what}, and timers, which are kept by it\n  help: give each processor a name of its own"
            ));
        }
    }

    /// Takes a name for something that is persisted.
    fn claim(&self, name: &str, what: &str) {
        let mut graph = self.graph();
        let problem = match graph.names.get(name) {
            Some(other) => Some(format!(
                "the name `{name}` is used for {other} and again for {what}\n  help: give each operator a name of its own"
            )),
            None => check_name(name),
        };
        graph.problems.extend(problem);
        graph.names.insert(name.to_owned(), what.to_owned());
    }
}

/// Kafka's rule for topic names, since every name becomes a part of one.
fn check_name(name: &str) -> Option<String> {
    // What begins with a `-` is a part of an operator that was given no name.
    (!TopicName::is_legal_part(name))
        .then(|| format!("`{name}` cannot name a store or topic\n  help: {}", TopicName::PART_RULE))
}

/// Names of the user's topics that no log takes, by Kafka's rule.
fn illegal_topics(parts: &TopologyParts) -> Vec<String> {
    let sources = parts.sources.iter().filter_map(|source| match &source.topics {
        Topics::Named(names) => Some(names.iter()),
        Topics::Pattern(_) => None,
    });
    let sinks = parts.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(topic) => topic.as_ref(),
        _ => None,
    });
    let users = sources.flatten().chain(sinks).filter_map(|name| match name {
        TopicName::User(name) => Some(name),
        _ => None,
    });
    let names: BTreeSet<&String> = users.chain(parts.declared.keys()).collect();
    let illegal = names.into_iter().filter(|name| !TopicName::is_legal(name));
    let problem = |name| format!("`{name}` cannot be a topic's name\n  help: {}", TopicName::RULE);
    illegal.map(problem).collect()
}

/// A list of topics names at least one, and none twice.
fn unreadable_lists(parts: &TopologyParts) -> Vec<String> {
    let mut problems = Vec::new();
    for source in &parts.sources {
        let Topics::Named(names) = &source.topics else { continue };
        if names.is_empty() {
            problems.push("a source is given no topics\n  help: name at least one".into());
        }
        let mut seen = BTreeSet::new();
        for twice in names.iter().filter(|name| !seen.insert(*name)) {
            problems.push(format!("topic `{twice}` is named twice in one source\n  help: name it once"));
        }
    }
    problems
}

/// A topic that the program writes with a serde whose bytes another, with which it reads it, cannot mean: numbers are of one
/// type and length. Text and JSON may be read as each other; bytes, and a serde of the program's own, may mean anything.
fn misread_topics(parts: &TopologyParts) -> Vec<String> {
    let fits = |written: &str, read: &str| {
        let number = |serde: &str| serde.starts_with("NumberSerde");
        let others = ["BooleanSerde", "Json<", "ListSerde", "StringSerde", "TextSerde", "UuidSerde"];
        let other = |serde: &str| others.iter().any(|name| serde.starts_with(name));
        let is_one = |number_serde, serde| number(number_serde) && (number(serde) || other(serde));
        written == read || !(is_one(written, read) || is_one(read, written))
    };
    let mut problems = Vec::new();
    for sink in &parts.nodes {
        let (NodeKind::Sink(Some(topic)), Some(written)) = (&sink.kind, &sink.types) else { continue };
        for source in &parts.nodes {
            let (NodeKind::Source(Topics::Named(topics)), Some(read)) = (&source.kind, &source.types) else { continue };
            let same = fits(&written.serdes.0, &read.serdes.0) && fits(&written.serdes.1, &read.serdes.1);
            if topics.contains(topic) && !same {
                let [written, read] = [written, read].map(|record| {
                    let (key, value) = record.types;
                    format!("({}, {})", short_type_name(key), short_type_name(value))
                });
                problems.push(format!(
                    "topic `{topic}` is written as {written} and read as {read}\n  help: read it with the types it is written with"
                ));
            }
        }
    }
    problems
}

/// No topic is read by two sources, not even if their topics are the same: streams that may share a source do
/// (semantics.md 15).
fn overlapping_sources(parts: &TopologyParts) -> Vec<String> {
    let named: Vec<BTreeSet<&TopicName>> = parts
        .sources
        .iter()
        .filter_map(|s| if let Topics::Named(names) = &s.topics { Some(names.iter().collect()) } else { None })
        .collect();
    let mut problems = Vec::new();
    for (i, a) in named.iter().enumerate() {
        for b in &named[i + 1..] {
            if let Some(shared) = a.intersection(b).next() {
                problems.push(if a == b {
                    format!("topic `{shared}` is read by two sources\n  help: read it once and use the stream twice: only streams of the same types and options share a source")
                } else {
                    format!("topic `{shared}` is in two sources with different topics\n  help: sources may not overlap: read it in one of them")
                });
            }
        }
    }
    problems
}

/// Something that names topics: a name, several, or a [`pattern`].
pub trait IntoTopics {
    /// The topics.
    fn into_topics(self) -> Topics;
}

impl IntoTopics for &str {
    fn into_topics(self) -> Topics {
        Topics::Named(vec![TopicName::User(self.to_owned())])
    }
}
impl IntoTopics for String {
    fn into_topics(self) -> Topics {
        self.as_str().into_topics()
    }
}
impl IntoTopics for &[&str] {
    fn into_topics(self) -> Topics {
        Topics::Named(self.iter().map(|t| TopicName::User((*t).to_owned())).collect())
    }
}
impl<const N: usize> IntoTopics for [&str; N] {
    fn into_topics(self) -> Topics {
        self.as_slice().into_topics()
    }
}
impl IntoTopics for TopicPattern {
    fn into_topics(self) -> Topics {
        Topics::Pattern(self)
    }
}

/// Every topic whose whole name matches a regular expression: at least one that is there at the start, and those that come
/// later, which an application looks for every `metadata.max.age.ms` (a [`TopologyTestDriver`](crate::TopologyTestDriver) does not).
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv, pattern};
/// # let b = StreamsBuilder::new();
/// b.topic("orders-no", 1).topic("orders-se", 1);
/// b.stream::<String, i64>(pattern("orders-.*")?).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("orders-se")?;
/// # let out = t.output::<String, i64>("out")?;
/// input.pipe("a", 5);
/// assert_eq!(out.read(), [kv("a", 5)]);
/// assert!(pattern("orders-(").is_err());
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
///
/// # Errors
/// When the expression cannot be read.
pub fn pattern(expression: &str) -> Result<TopicPattern> {
    TopicPattern::new(expression)
}
