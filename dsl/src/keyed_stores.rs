//! Which sources a store brings together: those of all nodes that have it. What the operators have not asked to be
//! co-partitioned themselves is found here, when the program is built, so that no operator can forget it: an aggregation of a
//! merged stream, a table made of one, a store that several processors share.

use std::collections::BTreeSet;

use millstream_core::{Copartition, NodeId, NodeKind, StoreId, TopologyParts};

/// The co-partitions that stores of tasks need besides those that there are, each cause once. Of what only processors bring
/// together, which have asked for their stores, none is required: their rows may be of other keys.
pub(crate) fn copartitions(parts: &TopologyParts, asked: &BTreeSet<(NodeId, StoreId)>) -> Vec<Copartition> {
    let mut together = Together::default();
    parts.copartitions.iter().for_each(|group| together.add(group.sources.clone()));
    let mut found = Vec::new();
    for required in [true, false] {
        for (id, store) in parts.stores.iter().enumerate().filter(|(_, store)| !store.global) {
            let id = StoreId(id);
            let has =
                |node: &NodeId| parts.nodes[node.0].stores.contains(&id) && !(required && asked.contains(&(*node, id)));
            let nodes: Vec<NodeId> = (0..parts.nodes.len()).map(NodeId).filter(has).collect();
            let sources = sources_above(parts, &nodes);
            if sources.is_empty() || together.has(&sources) {
                continue;
            }
            together.add(sources.clone());
            let by = if required { "" } else { ", which processors have," };
            found.push(Copartition { operator: format!("store `{}`{by}", store.name), sources, required });
        }
    }
    found
}

/// The sources that feed these nodes.
pub(crate) fn sources_above(parts: &TopologyParts, nodes: &[NodeId]) -> BTreeSet<NodeId> {
    let mut seen: BTreeSet<NodeId> = BTreeSet::new();
    let mut next = nodes.to_vec();
    while let Some(node) = next.pop() {
        if seen.insert(node) {
            next.extend(&parts.nodes[node.0].inputs);
        }
    }
    seen.retain(|node| matches!(parts.nodes[node.0].kind, NodeKind::Source(_)));
    seen
}

/// Sets of sources that agree, none of which has a source of another: what agrees with one of a set agrees with all.
#[derive(Default)]
struct Together(Vec<BTreeSet<NodeId>>);

impl Together {
    fn has(&self, sources: &BTreeSet<NodeId>) -> bool {
        self.0.iter().any(|set| set.is_superset(sources))
    }

    fn add(&mut self, mut sources: BTreeSet<NodeId>) {
        self.0.retain(|set| {
            let apart = set.is_disjoint(&sources);
            if !apart {
                sources.extend(set);
            }
            apart
        });
        self.0.push(sources);
    }
}
