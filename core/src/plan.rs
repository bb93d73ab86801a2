//! From a topology and what the log holds to tasks and topics: a pure decision, carried out by whoever starts.
//!
//! Every problem is found before any topic is created.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::alignment::TimeAlignment;
use crate::config::RuntimeConfig;
use crate::error::{Error, Result};
use crate::exception_handler::ExceptionHandler;
use crate::idleness::IdlePlan;
use crate::log::{Admin, TopicPartition, TopicSpec};
use crate::task_id::TaskId;
use crate::time::Timestamp;
use crate::topic_name::TopicName;
use crate::topology::{NodeKind, SubTopology, Topics, Topology};
use crate::topology_index::{NodeId, StoreId};
use crate::topology_topic::topology_topic;

/// What one task reads and keeps.
#[derive(Debug, Clone)]
pub struct TaskPlan {
    /// Its name.
    pub id: TaskId,
    /// Its sources, as indices into the topology's.
    pub sources: Vec<usize>,
    /// Its input partitions, each with an index into `sources`.
    pub inputs: Vec<(TopicPartition, usize)>,
    /// Its stores, each with its changelog partition.
    pub stores: Vec<(StoreId, Option<TopicPartition>)>,
    /// Its sources whose time goes on without them.
    pub idle: Vec<IdlePlan>,
}

/// A topology that fits the log.
#[derive(Debug)]
pub struct Plan {
    /// All tasks, by sub-topology and partition.
    pub tasks: Vec<TaskPlan>,
    /// What every thread reads into global stores, before anything else.
    pub globals: TaskPlan,
    /// Topics that are missing and may be created.
    pub create: Vec<TopicSpec>,
    /// The topics that the application keeps for itself: repartition topics, changelogs, and what is known of the program.
    pub internal_topics: Arc<BTreeSet<String>>,
    /// Sub-topologies in the order in which records flow through them; those that write to each other are together.
    pub order: Vec<Vec<usize>>,
    /// By the name of a store, the topics that its tasks read, or have read under earlier programs: what was committed with their
    /// positions has the times of its operators. Empty where nothing is known of earlier programs.
    pub(crate) known_inputs: BTreeMap<String, BTreeSet<String>>,
    /// What runs on these topics, and may not be meant; each with what to do. As [`Topology::warnings`].
    pub warnings: Vec<String>,
}

impl Plan {
    /// Fits a topology to the log.
    ///
    /// # Errors
    /// [`Error::Build`] or [`Error::Config`] with every problem at once; nothing has been created then.
    pub fn new(topology: &Topology, config: &RuntimeConfig, admin: &dyn Admin) -> Result<Plan> {
        config.check()?;
        let mut planner = Planner {
            topology,
            config,
            admin,
            problems: Vec::new(),
            warnings: Vec::new(),
            counts: BTreeMap::new(),
            create: BTreeMap::new(),
            topics: Vec::new(),
        };
        planner.find_topics()?;
        planner.size_repartitions();
        planner.check_copartitions();
        planner.size_internal_topics()?;
        if !planner.problems.is_empty() {
            return Err(Error::Build(Box::new(planner.problems)));
        }
        let (tasks, globals) = planner.tasks();
        let (internal_topics, order) = (Arc::new(planner.internal_topics()), topology.flow());
        let Planner { create, warnings, .. } = planner;
        let (create, known_inputs) = (create.into_values().collect(), BTreeMap::new());
        Ok(Plan { tasks, globals, create, internal_topics, order, known_inputs, warnings })
    }

    /// The topics that a source reads, each once or more.
    pub(crate) fn source_topics<'a>(&'a self, topology: &'a Topology, source: NodeId) -> impl Iterator<Item = &'a str> {
        let inputs = self.tasks.iter().chain([&self.globals]).flat_map(|task| &task.inputs);
        let own = inputs.filter(move |(_, index)| topology.sources()[*index].node == source);
        own.map(|(partition, _)| &*partition.topic)
    }

    /// The topics that the tasks of a store read.
    pub(crate) fn store_inputs(&self, store: StoreId) -> BTreeSet<&str> {
        let tasks = self.tasks.iter().filter(|task| task.stores.iter().any(|(id, _)| *id == store));
        tasks.flat_map(|task| task.inputs.iter().map(|(partition, _)| &*partition.topic)).collect()
    }

    /// Creates the missing topics. A topic that another member has created meanwhile is fine.
    ///
    /// # Errors
    /// When the log refuses one.
    pub fn create_topics(&self, admin: &dyn Admin) -> Result<()> {
        for spec in &self.create {
            match admin.create_topic(spec) {
                Ok(()) | Err(crate::log::LogError::TopicExists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The partitions that tasks read, by sub-topology.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (TaskId, &TopicPartition)> {
        let globals = self.globals.inputs.iter().map(|(partition, _)| (self.globals.id, partition));
        self.tasks.iter().flat_map(|task| task.inputs.iter().map(|(partition, _)| (task.id, partition))).chain(globals)
    }

    /// Which tasks each of `threads` threads runs: partition by partition, so that one thread has whole
    /// co-partitions where it can, and every sub-topology is spread.
    pub fn assign(&self, threads: usize) -> Vec<Vec<usize>> {
        let mut assigned = vec![Vec::new(); threads];
        for (index, task) in self.tasks.iter().enumerate().filter(|_| threads > 0) {
            assigned[Self::thread_for(task.id.partition, threads)].push(index);
        }
        assigned
    }

    /// What its tasks tell each other about time; `skew` `None` is no bound.
    pub fn alignment(&self, skew: Option<Timestamp>) -> TimeAlignment {
        let sources: Vec<usize> = self.tasks.iter().map(|task| task.sources.len()).collect();
        TimeAlignment::new(&sources, skew)
    }

    /// The thread, of so many, that has the tasks of a partition.
    pub(crate) fn thread_for(partition: i32, threads: usize) -> usize {
        partition as usize % threads.max(1)
    }

    /// The partitions of a store; a global store is one.
    pub fn store_partitions(&self, store: StoreId) -> Vec<i32> {
        let tasks = self.tasks.iter().filter(|task| task.stores.iter().any(|(id, _)| *id == store));
        let partitions: Vec<i32> = tasks.map(|task| task.id.partition).collect();
        if partitions.is_empty() { vec![0] } else { partitions }
    }
}

struct Planner<'a> {
    topology: &'a Topology,
    config: &'a RuntimeConfig,
    admin: &'a dyn Admin,
    problems: Vec<String>,
    warnings: Vec<String>,
    /// Partitions of every topic known so far, by full name.
    counts: BTreeMap<String, i32>,
    create: BTreeMap<String, TopicSpec>,
    /// Per source, the full names of its topics.
    topics: Vec<Vec<String>>,
}

impl Planner<'_> {
    fn resolve(&self, name: &TopicName) -> String {
        name.resolve(&self.config.application_id)
    }

    /// Finds the user's topics, or plans to create them.
    fn find_topics(&mut self) -> Result<()> {
        let topology = self.topology;
        let mut wanted = self.named_topics();
        let internal = self.internal_topics();
        self.check_internal(&internal, &mut wanted);
        let there = self.admin.topics()?.into_iter().filter(|name| !name.starts_with("__") && !internal.contains(name));
        // A second start finds what the first one creates: a pattern must match the same topics at both.
        let all: BTreeSet<String> = there.chain(wanted.iter().cloned()).collect();
        for source in topology.sources() {
            let names: Vec<String> = match &source.topics {
                Topics::Named(names) => names.iter().map(|n| self.resolve(n)).collect(),
                Topics::Pattern(pattern) => {
                    let names: Vec<String> = all.iter().filter(|name| pattern.matches(name)).cloned().collect();
                    if names.is_empty() {
                        self.problems.push(format!(
                            "no topic matches the pattern `{pattern}`\n  help: topics are looked for at the start: create one first, or name it with .topic(name, partitions) in the program"
                        ));
                    }
                    names
                }
            };
            wanted.extend(names.iter().filter(|name| !internal.contains(*name)).cloned());
            self.topics.push(names);
        }
        self.check_overlaps();
        self.check_letters();
        for topic in wanted {
            self.find_topic(topic)?;
        }
        Ok(())
    }

    /// The user's topics that the program names.
    fn named_topics(&self) -> BTreeSet<String> {
        let sources = self.topology.sources().iter().filter_map(|source| match &source.topics {
            Topics::Named(names) => Some(names.iter()),
            Topics::Pattern(_) => None,
        });
        let sinks = self.topology.nodes().iter().filter_map(|node| match &node.kind {
            NodeKind::Sink(topic) => topic.as_ref(),
            _ => None,
        });
        let users = sources.flatten().chain(sinks).filter(|name| matches!(name, TopicName::User(_)));
        let mut named: BTreeSet<String> = users.map(|name| self.resolve(name)).collect();
        named.extend(self.topology.declared().keys().cloned());
        for handler in [&self.config.undecodable, &self.config.processing, &self.config.production] {
            if let ExceptionHandler::DeadLetter(topic) = handler {
                named.insert(topic.clone());
            }
        }
        named
    }

    /// The topics that the application keeps for itself.
    fn internal_topics(&self) -> BTreeSet<String> {
        let repartitions = self.topology.repartitions().iter().map(|r| TopicName::Repartition(r.name.clone()));
        let changelogs = self.topology.stores().iter().filter(|s| s.changelog.is_some());
        let changelogs = changelogs.map(|s| TopicName::Changelog(s.name.clone()));
        let internal = repartitions.chain(changelogs).map(|name| self.resolve(&name));
        internal.chain([topology_topic(&self.config.application_id)]).collect()
    }

    /// Records of a program's among those that the application keeps for itself could not be read back.
    fn check_internal(&mut self, internal: &BTreeSet<String>, wanted: &mut BTreeSet<String>) {
        self.problems.extend(internal.iter().filter(|name| wanted.remove(*name)).map(|name| {
            format!(
                "topic `{name}` is one of the application's own, for its state or for records on their way, and the program names it too\n  help: give the program's topic another name"
            )
        }));
        self.problems.extend(internal.iter().filter(|name| !TopicName::is_legal(name)).map(|name| {
            format!(
                "internal topic `{name}` would have a name of {} characters, and a log takes 249\n  help: a shorter application.id, or a shorter name of the operator",
                name.len()
            )
        }));
    }

    /// A letter that a task writes to its own input, and fails on, would be written again, without an end. A global table that
    /// takes letters for its rows loses the rows of their keys.
    fn check_letters(&mut self) {
        let config = self.config;
        let handlers = [&config.undecodable, &config.processing, &config.production];
        let letters = handlers.into_iter().filter_map(|handler| match handler {
            ExceptionHandler::DeadLetter(topic) => Some(topic),
            _ => None,
        });
        let letters: BTreeSet<&String> = letters.collect();
        let sources = self.topology.sources().iter().zip(&self.topics);
        let read: BTreeMap<&String, bool> =
            sources.flat_map(|(source, names)| names.iter().map(|name| (name, source.global))).collect();
        let read = letters.into_iter().filter_map(|topic| Some((topic, *read.get(topic)?)));
        self.problems.extend(read.map(|(topic, is_global)| {
            let (why, or) = if is_global {
                ("whose records are rows of a global store of the program", "")
            } else {
                (
                    "which the program reads: it would write one for a letter that fails, without an end",
                    ", or decide in an ExceptionHandler of the program's, by the record's topic",
                )
            };
            format!(
                "dead letters go to topic `{topic}`, {why}\n  help: name another topic in errors.dead.letter.queue.topic.name{or}"
            )
        }));
    }

    /// A topic that a pattern shares with another source would be read twice.
    fn check_overlaps(&mut self) {
        let mut readers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (source, names) in self.topology.sources().iter().zip(&self.topics) {
            let reader = match &source.topics {
                Topics::Named(_) => "by its name".to_owned(),
                Topics::Pattern(pattern) => format!("by the pattern `{pattern}`"),
            };
            names.iter().for_each(|name| readers.entry(name).or_default().push(reader.clone()));
        }
        let shared = readers.into_iter().filter(|(_, by)| by.len() > 1);
        self.problems.extend(shared.map(|(topic, by)| {
            format!(
                "topic `{topic}` is read twice: {}\n  help: sources may not overlap: narrow the pattern, or read the topic in one of them",
                by.join(", ")
            )
        }));
    }

    fn find_topic(&mut self, topic: String) -> Result<()> {
        let declared = self.topology.declared().get(&topic).copied();
        match (self.admin.partitions(&topic)?, declared) {
            (Some(found), Some(declared)) if found != declared => self.problems.push(format!(
                "topic `{topic}` has {found} partitions, the program asks for {declared}\n  help: say {found} in the program; a topic's keys move when its partitions change"
            )),
            (Some(found), _) => {
                self.counts.insert(topic, found);
            }
            (None, declared) => match declared.or(self.config.create_topics) {
                Some(partitions) => {
                    self.counts.insert(topic.clone(), partitions);
                    let rebuilds = self.topology.stores().iter().filter_map(|s| s.rebuilt_from.as_ref());
                    let compacted = rebuilds.into_iter().any(|from| from.topic == topic);
                    let configs = compacted.then(|| ("cleanup.policy".to_owned(), "compact".to_owned()));
                    self.plan_topic(topic, partitions, configs.into_iter().collect());
                }
                None => self.problems.push(format!(
                    "topic `{topic}` does not exist\n  help: create it, or set auto.create.topics.enable=true and num.partitions on the embedded log"
                )),
            },
        }
        Ok(())
    }

    fn plan_topic(&mut self, name: String, partitions: i32, configs: BTreeMap<String, String>) {
        self.create.insert(name.clone(), TopicSpec { name, partitions, configs });
    }

    /// An unfixed repartition topic has as many partitions as the largest source of the sub-topology that writes it,
    /// solved through chains (semantics.md 12); as many as the user topics it is co-partitioned with (13).
    fn size_repartitions(&mut self) {
        let topology = self.topology;
        for repartition in topology.repartitions() {
            if let Some(fixed) = repartition.partitions {
                self.counts.insert(self.resolve(&TopicName::Repartition(repartition.name.clone())), fixed);
            }
        }
        let fixed: BTreeSet<String> = self.counts.keys().cloned().collect();
        let groups = self.size_groups();
        loop {
            // All from the sizes before, so that none goes by one that is itself about to change.
            let mut sizes = BTreeMap::new();
            for repartition in topology.repartitions().iter().filter(|r| r.partitions.is_none()) {
                let writers = topology.sub_topologies().iter().filter(|s| s.nodes.contains(&repartition.sink));
                let sources: Option<Vec<i32>> = writers
                    .flat_map(|s| &s.sources)
                    .flat_map(|source| &self.topics[*source])
                    .map(|topic| self.counts.get(topic).copied())
                    .collect();
                if let Some(largest) = sources.and_then(|sizes| sizes.into_iter().max()) {
                    sizes.insert(self.resolve(&TopicName::Repartition(repartition.name.clone())), largest);
                }
            }
            for group in &groups {
                let given = group.iter().filter(|name| fixed.contains(*name)).filter_map(|name| self.counts.get(name));
                let free = group.iter().filter_map(|name| sizes.get(name));
                let Some(size) = given.max().or_else(|| free.max()).copied() else { continue };
                sizes.extend(group.iter().filter(|name| !fixed.contains(*name)).map(|name| (name.clone(), size)));
            }
            let before = self.counts.clone();
            self.counts.extend(sizes);
            if self.counts == before {
                break;
            }
        }
        for repartition in topology.repartitions() {
            let name = self.resolve(&TopicName::Repartition(repartition.name.clone()));
            if !self.counts.contains_key(&name) && self.problems.is_empty() {
                self.problems.push(format!(
                    "the partitions of repartition topic `{name}` cannot be found: it depends on itself\n  help: fix them with .repartition(Repartitioned::named(name).number_of_partitions(n))"
                ));
            }
        }
    }

    /// Topics of one size: those that operators bring together, and of operators that have a topic in common, all.
    fn size_groups(&self) -> Vec<BTreeSet<String>> {
        let mut groups: Vec<BTreeSet<String>> = Vec::new();
        // What may be meant otherwise sizes no topic.
        for group in self.topology.copartitions().iter().filter(|group| group.required) {
            let (repartitions, users) = self.split_group(&group.sources);
            let topics = repartitions.into_iter().chain(users).collect();
            let (meet, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(|other| !other.is_disjoint(&topics));
            groups = others;
            groups.push(meet.into_iter().fold(topics, |topics, other| &topics | &other));
        }
        groups
    }

    /// Full names of a group's repartition topics and of its user topics.
    fn split_group(&self, sources: &BTreeSet<NodeId>) -> (Vec<String>, Vec<String>) {
        let mut repartitions = Vec::new();
        let mut users = Vec::new();
        for (source, names) in self.topology.sources().iter().zip(&self.topics) {
            if sources.contains(&source.node) {
                let internal = matches!(&source.topics, Topics::Named(list) if list.iter().any(|n| matches!(n, TopicName::Repartition(_))));
                if internal { &mut repartitions } else { &mut users }.extend(names.iter().cloned());
            }
        }
        (repartitions, users)
    }

    fn check_copartitions(&mut self) {
        for group in self.topology.copartitions() {
            let (repartitions, users) = self.split_group(&group.sources);
            let sizes: Vec<(String, i32)> = users
                .into_iter()
                .chain(repartitions)
                .filter_map(|n| Some((n.clone(), *self.counts.get(&n)?)))
                .collect();
            let distinct: BTreeSet<i32> = sizes.iter().map(|(_, size)| *size).collect();
            if distinct.len() > 1 {
                let list: Vec<String> = sizes.iter().map(|(name, size)| format!("`{name}` {size}")).collect();
                let most = distinct.last().copied().unwrap_or(1);
                let found = if group.required { &mut self.problems } else { &mut self.warnings };
                found.push(format!(
                    "{} brings topics together that are not co-partitioned: {}\n  help: .repartition(Repartitioned::named(name).number_of_partitions({most})) before it, or give the topics equal partitions{}",
                    group.operator,
                    list.join(", "),
                    group.or_leave_it()
                ));
            }
        }
    }

    fn size_internal_topics(&mut self) -> Result<()> {
        if !self.problems.is_empty() {
            return Ok(());
        }
        let topology = self.topology;
        let mut internal: Vec<(String, i32, BTreeMap<String, String>)> = Vec::new();
        for repartition in topology.repartitions() {
            let name = self.resolve(&TopicName::Repartition(repartition.name.clone()));
            let configs = [("cleanup.policy", "delete"), ("segment.bytes", "52428800"), ("retention.ms", "-1")];
            let configs = configs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            internal.push((name.clone(), self.counts[&name], configs));
        }
        for sub in topology.sub_topologies() {
            for store in &sub.stores {
                let store = &topology.stores()[store.0];
                if let Some(configs) = &store.changelog {
                    internal.push((
                        self.resolve(&TopicName::Changelog(store.name.clone())),
                        self.task_count(&sub.sources),
                        configs.clone(),
                    ));
                }
            }
        }
        for (name, partitions, configs) in internal {
            match self.admin.partitions(&name)? {
                None => self.plan_topic(name, partitions, configs),
                Some(found) if found != partitions => self.problems.push(format!(
                    "internal topic `{name}` has {found} partitions, the program now needs {partitions}: its state was written by another partitioning\n  help: use a new application.id"
                )),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn task_count(&self, sources: &[usize]) -> i32 {
        sources.iter().flat_map(|s| &self.topics[*s]).filter_map(|t| self.counts.get(t)).max().copied().unwrap_or(0)
    }

    fn tasks(&self) -> (Vec<TaskPlan>, TaskPlan) {
        let topology = self.topology;
        let changelog = |store: &StoreId, partition| {
            let description = &topology.stores()[store.0];
            let name = TopicName::Changelog(description.name.clone());
            description.changelog.as_ref().map(|_| TopicPartition::new(self.resolve(&name), partition))
        };
        let idleness = topology.idleness();
        let mut tasks = Vec::new();
        for (number, sub) in topology.sub_topologies().iter().enumerate() {
            for partition in 0..self.task_count(&sub.sources) {
                let mut inputs = Vec::new();
                for (index, source) in sub.sources.iter().enumerate() {
                    let names =
                        self.topics[*source].iter().filter(|t| self.counts.get(*t).is_some_and(|n| partition < *n));
                    inputs.extend(
                        names.map(|topic| (TopicPartition::new(Arc::<str>::from(topic.as_str()), partition), index)),
                    );
                }
                let stores = sub.stores.iter().map(|store| (*store, changelog(store, partition))).collect();
                tasks.push(TaskPlan {
                    id: TaskId { sub_topology: number, partition },
                    sources: sub.sources.clone(),
                    inputs,
                    stores,
                    idle: self.idle(sub, &idleness),
                });
            }
        }
        let sources: Vec<usize> = topology.global_sources().collect();
        let mut inputs = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            for topic in &self.topics[*source] {
                inputs.extend((0..self.counts[topic]).map(|p| (TopicPartition::new(topic.as_str(), p), index)));
            }
        }
        let stores =
            topology.stores().iter().enumerate().filter(|(_, s)| s.global).map(|(i, _)| (StoreId(i), None)).collect();
        let id = TaskId { sub_topology: topology.sub_topologies().len(), partition: -1 };
        (tasks, TaskPlan { id, sources, inputs, stores, idle: Vec::new() })
    }

    /// The sources of a task whose time goes on without them.
    fn idle(&self, sub: &SubTopology, idleness: &[Option<Timestamp>]) -> Vec<IdlePlan> {
        let topology = self.topology;
        let sources = sub.sources.iter().enumerate().filter_map(|(index, source)| {
            let node = topology.sources()[*source].node;
            let sink = topology.repartitions().iter().find(|r| r.source == node).map(|r| r.sink);
            let writers = sink.map(|sink| self.writers(sink)).unwrap_or_default();
            idleness[*source].map(|after| IdlePlan { source: index, node, after, writers })
        });
        sources.collect()
    }

    /// The tasks that write to a sink, each with a source of its whose records reach it.
    fn writers(&self, sink: NodeId) -> Vec<(usize, usize)> {
        let Some(sub) = self.topology.writer(sink) else { return Vec::new() };
        let (above, sources) = (self.topology.sources_above(sink), &self.topology.sub_topologies()[sub].sources);
        let above = sources.iter().enumerate().filter(|(_, source)| above.contains(source)).map(|(index, _)| index);
        let above: Vec<usize> = above.collect();
        self.task_indices(sub).flat_map(|task| above.iter().map(move |source| (task, *source))).collect()
    }

    /// Where the tasks of a sub-topology are among all.
    fn task_indices(&self, sub: usize) -> Range<usize> {
        let count = |sub: &SubTopology| self.task_count(&sub.sources) as usize;
        let (before, own) = self.topology.sub_topologies().split_at(sub);
        let first = before.iter().map(count).sum();
        first..first + own.first().map_or(0, count)
    }
}
