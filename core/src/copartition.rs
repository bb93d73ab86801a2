//! Whether equal keys meet: what an operator brings together must be written by one key serde and placed by one
//! partitioner. Kafka Streams compares the numbers of partitions alone, and of joins alone (semantics.md 13), and equal keys
//! then silently miss each other. Numbers are for [`crate::Plan`], which knows the topics as they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::placed_by::PlacedBy;
use crate::topic_name::TopicName;
use crate::topology::{Copartition, NodeDescription, NodeKind, Topics, TopologyParts};
use crate::topology_index::NodeId;

/// One topic of a group.
struct Member<'a> {
    /// Its name, or the pattern that it matches.
    topic: String,
    /// What writes the bytes that decide the partition.
    key: &'a str,
    /// The partitioners of the sinks of this program that write it; `None` is the default one. Empty if nothing is known, or
    /// if it follows the others.
    placed: Vec<Option<&'a PlacedBy>>,
    /// Whether this program writes it.
    is_written: bool,
}

/// By topic, the partitioners that the program says it is placed by where others write it.
type Stated<'a> = BTreeMap<String, Vec<&'a PlacedBy>>;

impl TopologyParts {
    /// Everything that brings keys together which are not where their equals are: what is `required` not to, or the rest, which
    /// may be meant.
    pub fn scattered_keys(&self, required: bool) -> Vec<String> {
        let stated = self.stated();
        let groups = self.copartitions.iter().filter(|group| group.required == required);
        groups.flat_map(|group| self.scattered_in(group, &stated)).collect()
    }

    fn scattered_in(&self, group: &Copartition, stated: &Stated<'_>) -> Vec<String> {
        let members = self.members(group, stated);
        let mut problems = Vec::new();
        let serdes: BTreeSet<&str> = members.iter().map(|m| m.key).collect();
        // Processors may look rows up by what they like.
        if serdes.len() > 1 && group.required {
            let list: Vec<String> = members.iter().map(|m| format!("`{}` by {}", m.topic, m.key)).collect();
            problems.push(format!(
                "{} brings keys together that are written by different serdes, so that equal keys may be in different partitions: {}\n  help: read the topics by one serde, or write one of them anew by .repartition(name) before it; a serde that writes the bytes of another says so in Serde::partition_serde",
                group.operator,
                list.join(", ")
            ));
        }
        let all = members.iter().flat_map(|m| m.placed.iter().copied());
        let (stated, all): (Vec<Option<&PlacedBy>>, Vec<_>) =
            all.partition(|placed| placed.is_some_and(PlacedBy::is_stated));
        let alike = |a: &Option<&PlacedBy>, b: &Option<&PlacedBy>| match (a, b) {
            (Some(a), Some(b)) => a.places_like(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        // Whether a partitioner is what the program says of it cannot be known, but that the default one is not, and that two are
        // not one.
        let contradicted = stated.iter().flatten().any(|a| stated.iter().flatten().any(|b| a.contradicts(b)));
        let denied = contradicted || !stated.is_empty() && all.contains(&None);
        if denied || all.len() > 1 && all[1..].iter().any(|placed| !alike(&all[0], placed)) {
            let list: Vec<String> = members
                .iter()
                .filter(|m| !m.placed.is_empty())
                .map(|m| {
                    let by = m.placed.iter().map(|by| by.map_or("the default", |by| &by.name));
                    format!("`{}` by {}", m.topic, by.collect::<Vec<_>>().join(" and "))
                })
                .collect();
            problems.push(format!(
                "{} brings topics together whose records are placed by different partitioners: {}\n  help: place one of them anew by .repartition(name), or with a partitioner of Repartitioned::named(name), before it; two partitioners are known to be one only if they are the same function and it captures nothing{}",
                group.operator,
                list.join(", "),
                group.or_leave_it()
            ));
        }
        problems
    }

    /// What is said in one group is true of its topics in all the others.
    fn stated(&self) -> Stated<'_> {
        let mut stated = Stated::new();
        for group in &self.copartitions {
            let (written, others): (Vec<_>, Vec<_>) = self.topics(group).into_iter().partition(|m| m.is_written);
            let says = written.iter().flat_map(|m| &m.placed).flatten().filter(|placed| placed.is_stated());
            for (topic, placed) in says.flat_map(|placed| others.iter().map(move |m| (&m.topic, *placed))) {
                let all = stated.entry(topic.clone()).or_default();
                if !all.contains(&placed) {
                    all.push(placed);
                }
            }
        }
        stated
    }

    fn members<'a>(&'a self, group: &Copartition, stated: &Stated<'a>) -> Vec<Member<'a>> {
        let mut members = self.topics(group);
        for member in members.iter_mut().filter(|m| !m.is_written) {
            member.placed.extend(stated.get(&member.topic).into_iter().flatten().copied().map(Some));
        }
        // What nobody writes here is taken to be placed as the program says, or as every Kafka client does by default.
        if !members.iter().flat_map(|m| &m.placed).flatten().any(|placed| placed.is_stated()) {
            members.iter_mut().filter(|m| !m.is_written).for_each(|m| m.placed.push(None));
        }
        members
    }

    /// The topics of a group, each with what writes it here.
    fn topics(&self, group: &Copartition) -> Vec<Member<'_>> {
        let mut writers: BTreeMap<&TopicName, Vec<Option<&PlacedBy>>> = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            if let NodeKind::Sink(Some(topic)) = &node.kind {
                let placed = Some(self.placed_by.get(&NodeId(id)));
                let placed = placed.filter(|placed| !placed.is_some_and(PlacedBy::goes_back));
                writers.entry(topic).or_default().extend(placed);
            }
        }
        let mut members = Vec::new();
        for source in &group.sources {
            let NodeDescription { kind: NodeKind::Source(topics), types: Some(types), .. } = &self.nodes[source.0]
            else {
                continue;
            };
            let key = types.partition_serde.as_str();
            let member = |topic, placed: Option<&Vec<_>>| Member {
                topic,
                key,
                placed: placed.cloned().unwrap_or_default(),
                is_written: placed.is_some(),
            };
            let named = |name: &TopicName| member(name.to_string(), writers.get(name));
            match topics {
                Topics::Named(names) => members.extend(names.iter().map(named)),
                Topics::Pattern(pattern) => {
                    let own =
                        writers.keys().filter(|name| matches!(name, TopicName::User(name) if pattern.matches(name)));
                    let own: Vec<_> = own.map(|name| named(name)).collect();
                    // Whether others match too is not known before the start.
                    let others = own.is_empty().then(|| member(pattern.to_string(), None));
                    members.extend(own.into_iter().chain(others));
                }
            }
        }
        members
    }
}

impl Copartition {
    /// The end of a help about what may be meant.
    pub(crate) fn or_leave_it(&self) -> &'static str {
        if self.required { "" } else { "; leave it as it is if no row is looked up by a record's key" }
    }
}
