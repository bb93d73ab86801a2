//! What an application leaves behind in its topics, as plain text: by this the next start can tell whether the state that
//! is there fits the program. A pure comparison; [`crate::topology_topic`] reads, keeps and acts.
//!
//! Nothing here is numbered: sub-topologies, tasks and nodes may be renumbered freely, since nothing that is kept is named
//! by them. Of a sub-topology's shape only this matters: which of the user's topics end up in a store.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::plan::Plan;
use crate::topic_name::TopicName;
use crate::topology::{NodeKind, RecordTypes, StoreDescription, Topics, Topology};
use crate::topology_index::{NodeId, StoreId};

/// What is kept of one store or one repartition topic.
pub(crate) type Properties = BTreeMap<String, String>;

/// What an application keeps: its changelogs and repartition topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) BTreeMap<TopicName, Properties>);

/// Set on a store that a program without it has left behind: its rows have missed what came since.
pub(crate) const LEFT_BEHIND: &str = "left behind";

/// The topic that stands for a store's changelog.
pub(crate) const REBUILT_FROM: &str = "rebuilt from";

/// The topics that a store's tasks read, and those that they have read under earlier programs: the times of its operators are
/// beside the positions of some of them.
const INPUTS: &str = "inputs";

/// The kind of the stores that a join of streams has for its sides.
const JOIN_BUFFER: &str = "join-buffer";

/// Properties of a changelog topic that follow the program. Only growth matters: what is kept for longer than it is needed
/// does no harm.
const PERIODS: [&str; 2] = ["retention.ms", "min.compaction.lag.ms"];

/// Whether the program places the records of a repartition topic, or of the topics that a store is made of, by a partitioner of its
/// own.
const PARTITIONER: &str = "partitioner";

impl Fingerprint {
    /// Of a program whose topics are known.
    pub(crate) fn of(topology: &Topology, plan: &Plan) -> Self {
        let mut entries = BTreeMap::new();
        for (id, store) in topology.stores().iter().enumerate() {
            if store.changelog.is_some() || store.rebuilt_from.is_some() {
                let name = TopicName::Changelog(store.name.clone());
                let mut properties = of_store(topology, plan, store);
                let inputs: Vec<&str> = plan.store_inputs(StoreId(id)).into_iter().collect();
                properties.insert(INPUTS.to_owned(), inputs.join(" "));
                entries.insert(name, properties);
            }
        }
        for repartition in topology.repartitions() {
            let source = &topology.nodes()[repartition.source.0];
            let mut properties = Properties::new();
            if let Some(RecordTypes { serdes: (key, value), .. }) = &source.types {
                properties.insert("key".to_owned(), key.clone());
                properties.insert("value".to_owned(), value.clone());
            }
            let name = TopicName::Repartition(repartition.name.clone());
            properties.extend(partitioner(topology, &name).map(|by| (PARTITIONER.to_owned(), by.to_owned())));
            entries.insert(name, properties);
        }
        Fingerprint(entries)
    }

    /// Takes over which topics the tasks of its stores have read before: what was committed with their positions counts until
    /// the program has committed as much with its own, and no start can tell when all of its tasks have.
    pub(crate) fn take_over(&mut self, earlier: &Fingerprint) {
        for (name, is) in &mut self.0 {
            let Some(was) = earlier.0.get(name).filter(|was| was.contains_key(INPUTS)) else { continue };
            let all = (&inputs(is) | &inputs(was)).into_iter().collect::<Vec<_>>().join(" ");
            is.insert(INPUTS.to_owned(), all);
        }
    }

    /// The topics that the tasks of every store read or have read.
    pub(crate) fn known_inputs(&self) -> BTreeMap<String, BTreeSet<String>> {
        let stores = self.0.iter().filter_map(|(name, properties)| match name {
            TopicName::Changelog(store) => {
                Some((store.clone(), inputs(properties).into_iter().map(str::to_owned).collect()))
            }
            _ => None,
        });
        stores.collect()
    }

    /// Every difference from an earlier program for which what that one left behind does not fit, each with its remedy.
    /// `holds` says whether there is anything: rows of a store, or records that are not processed yet.
    pub(crate) fn differences(
        &self,
        earlier: &Fingerprint,
        topology: &Topology,
        mut holds: impl FnMut(&TopicName) -> Result<bool>,
    ) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let mut swapped = BTreeSet::new();
        for join in self.swapped_joins(earlier) {
            let stores = ["left", "right", "held"].map(|part| TopicName::Changelog(format!("{join}-{part}")));
            let mut held = false;
            for store in stores.iter().filter(|store| earlier.0.contains_key(*store)) {
                held = held || holds(store)?;
            }
            if held {
                problems.push(swapped_join(join, &earlier.0[&stores[0]]));
            }
            swapped.extend(stores);
        }
        for (name, was) in earlier.0.iter().filter(|(name, _)| !swapped.contains(*name)) {
            let found = match (name, self.0.get(name)) {
                (TopicName::Changelog(store), Some(is)) => changed_store(store, was, is),
                (TopicName::Changelog(_), None) if is_nowhere(was) => Vec::new(),
                (TopicName::Changelog(store), None) if topology.stores().iter().any(|s| s.name == *store) => {
                    vec![lost_changelog(store)]
                }
                (TopicName::Changelog(store), None) => vec![self.vanished_store(earlier, store, was)],
                (TopicName::Repartition(topic), Some(is)) => changed_repartition(topic, was, is).into_iter().collect(),
                (TopicName::Repartition(topic), None) => vec![vanished_repartition(topic)],
                (TopicName::User(_), _) => Vec::new(),
            };
            if !found.is_empty() && holds(name)? {
                problems.extend(found);
            }
        }
        Ok(problems)
    }

    /// What the topics of changelogs must now keep for longer than the earlier program had asked for. What it had let go is
    /// gone, from its store too: a longer retention begins with what that one had.
    pub(crate) fn longer(&self, earlier: &Fingerprint) -> Vec<(TopicName, Properties)> {
        let both = self.0.iter().filter_map(|(name, is)| Some((name, is, earlier.0.get(name)?)));
        let grown = both.map(|(name, is, was)| {
            let keys = PERIODS.into_iter().filter(|key| period(is, key) > period(was, key));
            (name.clone(), keys.map(|key| (key.to_owned(), is[key].clone())).collect())
        });
        grown.filter(|(_, longer): &(_, Properties)| !longer.is_empty()).collect()
    }

    /// The joins of streams whose left rows are made of what their right ones were made of, and the other way round. Told
    /// apart from a store that is made of something else, since sides may have topics in common.
    fn swapped_joins<'a>(&'a self, earlier: &'a Fingerprint) -> impl Iterator<Item = &'a str> {
        let topics = |of: &'a Fingerprint, store: String| -> Option<Option<&'a String>> {
            let store = of.0.get(&TopicName::Changelog(store))?;
            (store.get("kind")? == JOIN_BUFFER).then(|| store.get("topics"))
        };
        let sides =
            move |of, join: &str| Some((topics(of, format!("{join}-left"))?, topics(of, format!("{join}-right"))?));
        let joins = self.0.keys().filter_map(|name| match name {
            TopicName::Changelog(store) => store.strip_suffix("-left"),
            _ => None,
        });
        joins.filter(move |join| match (sides(earlier, join), sides(self, join)) {
            (Some(was), Some((left, right))) => was.0 != was.1 && was == (right, left),
            _ => false,
        })
    }

    fn vanished_store(&self, earlier: &Fingerprint, store: &str, was: &Properties) -> String {
        let alike = |is: &Properties| {
            let [is, was] = [is, was].map(|of| of.iter().filter(|(key, _)| *key != INPUTS));
            is.eq(was)
        };
        let new = self.0.iter().filter(|(name, is)| !earlier.0.contains_key(*name) && alike(is));
        let alike: Vec<String> = new
            .filter_map(|(name, _)| match name {
                TopicName::Changelog(name) => Some(format!("`{name}`")),
                _ => None,
            })
            .collect();
        let keep = match alike.as_slice() {
            [] => format!("keep a store of the name `{store}`"),
            alike => format!("if {} is its new name, keep the old one", alike.join(" or ")),
        };
        format!(
            "store `{store}` is no longer in the program, and its changelog holds rows\n  help: {keep}; if its rows are to be left behind, start once with topology.compatibility=ignore"
        )
    }
}

/// A period of a changelog's topic in milliseconds; -1 is for good.
pub(crate) fn period(of: &Properties, key: &str) -> Option<u64> {
    of.get(key)?.parse::<i64>().ok().map(|ms| u64::try_from(ms).unwrap_or(u64::MAX))
}

fn inputs(of: &Properties) -> BTreeSet<&str> {
    of.get(INPUTS).into_iter().flat_map(|topics| topics.split_whitespace()).collect()
}

/// The store has left no rows, or they were left behind already.
fn is_nowhere(was: &Properties) -> bool {
    was.contains_key(LEFT_BEHIND) || was.contains_key(REBUILT_FROM)
}

fn of_store(topology: &Topology, plan: &Plan, store: &StoreDescription) -> Properties {
    let format = &store.format;
    let mut properties: Properties = [("kind", format.kind), ("key", &format.key), ("value", &format.value)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    properties.extend(format.details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let configs = store.changelog.iter().flatten();
    properties.extend(configs.filter(|(key, _)| PERIODS.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())));
    if let Some(from) = &store.rebuilt_from {
        properties.insert(REBUILT_FROM.to_owned(), from.topic.clone());
    }
    let topics = topics_behind(topology, plan, store).into_iter().collect::<Vec<_>>().join(" ");
    properties.insert("topics".to_owned(), topics);
    let partitioners = partitioners_behind(topology, store);
    if !partitioners.is_empty() {
        properties.insert(PARTITIONER.to_owned(), partitioners.into_iter().collect::<Vec<_>>().join(" "));
    }
    properties
}

/// Whether a topic is placed by the program or by default: all that can be told of a function between two runs.
/// `None` if it follows where others are.
fn partitioner(topology: &Topology, topic: &TopicName) -> Option<&'static str> {
    let nodes = topology.nodes().iter().enumerate();
    let mut sinks = nodes.filter(|(_, node)| matches!(&node.kind, NodeKind::Sink(Some(to)) if to == topic));
    match sinks.find_map(|(sink, _)| topology.placed_by(NodeId(sink))) {
        Some(placed_by) => (!placed_by.goes_back()).then_some("custom"),
        None => Some("default"),
    }
}

/// How the topics are placed from which a store is made without another one between. One of the user's is taken to be placed by
/// default, as every Kafka client does it, unless the program itself writes it.
fn partitioners_behind(topology: &Topology, store: &StoreDescription) -> BTreeSet<&'static str> {
    let nodes = topology.nodes();
    let mut next: Vec<usize> = store.made_of.iter().map(|node| node.0).collect();
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        next.extend(nodes[id].inputs.iter().map(|input| input.0));
        match &nodes[id].kind {
            NodeKind::Source(Topics::Named(names)) => {
                found.extend(names.iter().filter_map(|name| partitioner(topology, name)))
            }
            NodeKind::Source(Topics::Pattern(_)) => {
                found.insert("default");
            }
            NodeKind::Processor | NodeKind::Sink(_) => {}
        }
    }
    found
}

/// The user's topics whose records end up in a store, over however many repartition topics. A pattern is one of them, beside those that
/// it matches now: it may come to match others. What only looks into the store does not count: a join's sides, each with
/// rows of its own, would have each other's topics.
fn topics_behind(topology: &Topology, plan: &Plan, store: &StoreDescription) -> BTreeSet<String> {
    let nodes = topology.nodes();
    let mut next: Vec<usize> = store.made_of.iter().map(|node| node.0).collect();
    let mut seen = BTreeSet::new();
    let mut topics = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        next.extend(nodes[id].inputs.iter().map(|input| input.0));
        match &nodes[id].kind {
            NodeKind::Source(Topics::Pattern(pattern)) => {
                // No space ends a topic's name.
                topics.insert(pattern.to_string().replace(char::is_whitespace, "_"));
                topics.extend(plan.source_topics(topology, NodeId(id)).map(str::to_owned));
            }
            NodeKind::Source(Topics::Named(names)) => {
                for name in names {
                    match name {
                        TopicName::User(name) => {
                            topics.insert(name.clone());
                        }
                        name => next.extend(
                            (0..nodes.len())
                                .filter(|n| matches!(&nodes[*n].kind, NodeKind::Sink(Some(to)) if to == name)),
                        ),
                    }
                }
            }
            NodeKind::Processor | NodeKind::Sink(_) => {}
        }
    }
    topics
}

fn changed_store(store: &str, was: &Properties, is: &Properties) -> Vec<String> {
    let afresh = format!(
        "give the store another name and start once with topology.compatibility=ignore, to begin without rows, or the application another application.id; to go back, keep what `{store}` was"
    );
    if was.contains_key(LEFT_BEHIND) {
        return vec![format!(
            "store `{store}` comes back, and its changelog holds the rows of the time before it was left out\n  help: {afresh}"
        )];
    }
    match (was.get(REBUILT_FROM), is.get(REBUILT_FROM)) {
        (None, Some(topic)) => {
            return vec![format!(
                "store `{store}` is rebuilt from `{topic}` now, and its changelog would be left behind\n  help: if `{topic}` has all of its rows, start once with topology.compatibility=ignore; else leave the optimization"
            )];
        }
        (Some(topic), None) => {
            return vec![format!(
                "store `{store}` has a changelog of its own now, and was rebuilt from `{topic}`: its rows would be missing\n  help: {afresh}"
            )];
        }
        // Read again, whatever they were.
        (Some(_), Some(_)) => return Vec::new(),
        (None, None) => {}
    }
    let ignore = |same: &str| format!("{afresh}; if {same}, start once with topology.compatibility=ignore");
    let same_bytes = "only the name of the type is another and its bytes are the same";
    let is_another_kind = was.get("kind") != is.get("kind");
    let mut problems = Vec::new();
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for key in keys {
        let (before, now) = (was.get(key).map(String::as_str), is.get(key).map(String::as_str));
        let (shown, help) = match key.as_str() {
            _ if before == now => continue,
            // What one kind has and the other has not says no more than the kind.
            _ if is_another_kind && (before.is_none() || now.is_none()) => continue,
            // One more or less leaves the rows what they are; none in common makes them another store's.
            "topics" | PARTITIONER if !are_apart(before, now) => continue,
            "topics" => ("is made from", ignore("these are the same records under another name")),
            PARTITIONER => (PARTITIONER, ignore("both place equal keys alike")),
            // State from before this was written down starts as it is.
            "suppress.until" if before.is_none() => continue,
            // Its times are taken over: see `Fingerprint::take_over`.
            INPUTS => continue,
            // The topic is told: see `Fingerprint::longer`.
            key if PERIODS.contains(&key) => continue,
            "key" => ("has keys by", ignore(same_bytes)),
            "value" => ("has values by", ignore(same_bytes)),
            "kind" => ("is of the kind", afresh.clone()),
            key => (key, afresh.clone()),
        };
        let quoted = |text: Option<&str>| text.map_or_else(|| "nothing".to_owned(), |text| format!("`{text}`"));
        problems.push(format!(
            "store `{store}`: {shown} {} now, its changelog was written with {}\n  help: {help}",
            quoted(now),
            quoted(before)
        ));
    }
    problems
}

/// Whether two lists are known, and have nothing in common.
fn are_apart(before: Option<&str>, now: Option<&str>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return false };
    before.split(' ').all(|b| now.split(' ').all(|n| n != b))
}

fn lost_changelog(store: &str) -> String {
    format!(
        "store `{store}` has no changelog now, and the one that it had holds rows\n  help: leave it on; if its rows are to be left behind, start once with topology.compatibility=ignore"
    )
}

fn swapped_join(join: &str, left: &Properties) -> String {
    let of = left.get("topics").map(|topics| format!(", of `{topics}`,")).unwrap_or_default();
    format!(
        "join `{join}` has changed its sides: its changelogs hold what was on the left{of} as left rows, which is on the right now\n  help: swap them back; or give the join another name and start once with topology.compatibility=ignore, to begin without rows, or the application another application.id"
    )
}

fn changed_repartition(topic: &str, was: &Properties, is: &Properties) -> Option<String> {
    let types = |p: &Properties| {
        let of = |key| p.get(key).map_or("?", String::as_str);
        format!("<{}, {}>", of("key"), of("value"))
    };
    let [before, now] = [was, is].map(|p| p.get(PARTITIONER).map(String::as_str));
    let changed = if types(was) != types(is) {
        format!("has {} now, and holds records of {}", types(is), types(was))
    } else if are_apart(before, now) {
        let [before, now] = [before, now].map(Option::unwrap_or_default);
        format!("is placed by the {now} partitioner now, and holds records placed by the {before} one")
    } else {
        return None;
    };
    let first = process_first("give it another name and ");
    Some(format!("repartition topic `{topic}` {changed} that are not processed yet\n  help: {first}"))
}

fn vanished_repartition(topic: &str) -> String {
    format!(
        "repartition topic `{topic}` is no longer in the program, and holds records that are not processed yet\n  help: {}",
        process_first("")
    )
}

fn process_first(name: &str) -> String {
    format!(
        "let the earlier program process them, Streams::run_to_end does; if they are to be lost, {name}start once with topology.compatibility=ignore"
    )
}
