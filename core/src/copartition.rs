//! Whether equal keys meet: what an operator brings together must be written by one key serde and placed by one
//! partitioner. Kafka Streams compares the numbers of partitions alone (semantics.md 13), and equal keys then silently
//! miss each other. Numbers are for [`crate::Plan`], which knows the topics as they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::placed_by::PlacedBy;
use crate::topic_name::TopicName;
use crate::topology::{Copartition, NodeKind, Topics, TopologyParts};
use crate::topology_index::NodeId;

/// One topic of a group.
struct Member<'a> {
    topic: &'a TopicName,
    /// What writes the bytes that decide the partition.
    key: &'a str,
    /// The partitioners of the sinks of this program that write it; `None` is the default one. Empty if nothing is known, or
    /// if it follows the others.
    placed: Vec<Option<&'a PlacedBy>>,
}

impl TopologyParts {
    /// Every operator that brings keys together which are not where their equals are.
    pub fn scattered_keys(&self) -> Vec<String> {
        self.copartitions.iter().flat_map(|group| self.scattered_in(group)).collect()
    }

    fn scattered_in(&self, group: &Copartition) -> Vec<String> {
        let members: Vec<Member<'_>> = self.members(group);
        let mut problems = Vec::new();
        let serdes: BTreeSet<&str> = members.iter().map(|m| m.key).collect();
        if serdes.len() > 1 {
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
        // Whether a partitioner is what the program says of it cannot be known, but that the default one is not.
        let denied = !stated.is_empty() && all.contains(&None);
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
                "{} brings topics together whose records are placed by different partitioners: {}\n  help: place one of them anew by .repartition(name), or .repartition_by(name, partitioner), before it; two partitioners are known to be one only if they are the same function and it captures nothing",
                group.operator,
                list.join(", ")
            ));
        }
        problems
    }

    fn members(&self, group: &Copartition) -> Vec<Member<'_>> {
        let mut writers: BTreeMap<&TopicName, Vec<Option<&PlacedBy>>> = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            if let NodeKind::Sink(Some(topic)) = &node.kind {
                let placed = Some(self.placed_by.get(&NodeId(id)));
                let placed = placed.filter(|placed| !placed.is_some_and(PlacedBy::goes_back));
                writers.entry(topic).or_default().extend(placed);
            }
        }
        let sources = group.sources.iter().map(|source| &self.nodes[source.0]);
        let named = sources.filter_map(|node| match (&node.kind, &node.types) {
            (NodeKind::Source(Topics::Named(topics)), Some(types)) => Some((topics, types.partition_serde.as_str())),
            _ => None,
        });
        let named: Vec<(&TopicName, &str)> =
            named.flat_map(|(topics, key)| topics.iter().map(move |topic| (topic, key))).collect();
        let mut written = named.iter().filter_map(|(topic, _)| writers.get(topic)).flatten();
        // What nobody writes here is taken to be placed as the program says, or as every Kafka client does by default.
        let elsewhere =
            if written.any(|placed| placed.is_some_and(PlacedBy::is_stated)) { Vec::new() } else { vec![None] };
        let member = |(topic, key)| {
            let placed = writers.get(topic).cloned().unwrap_or_else(|| elsewhere.clone());
            Member { topic, key, placed }
        };
        named.into_iter().map(member).collect()
    }
}
