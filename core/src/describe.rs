//! `Topology::describe`: the topology as text, in the shape of Kafka Streams' `Topology#describe`.

use std::fmt::Write as _;

use crate::topology::{NodeKind, Topics, Topology};
use crate::topology_index::NodeId;

impl Topology {
    /// Sub-topologies, nodes, stores and edges, as text.
    pub fn describe(&self) -> String {
        let mut text = String::from("Topologies:\n");
        for (number, sub) in self.sub_topologies().iter().enumerate() {
            let _infallible = writeln!(text, "   Sub-topology: {number}");
            sub.nodes.iter().for_each(|id| self.describe_node(*id, &mut text));
            text.push('\n');
        }
        for (number, source) in (self.sub_topologies().len()..).zip(self.global_sources()) {
            let _infallible = writeln!(text, "   Sub-topology: {number} for global-store (will not generate tasks)");
            self.global_nodes(source).into_iter().for_each(|id| self.describe_node(id, &mut text));
            text.push('\n');
        }
        text
    }

    /// A global source, and what hangs on it.
    pub(crate) fn global_nodes(&self, source: usize) -> Vec<NodeId> {
        let source = self.sources()[source].node;
        let below = self.nodes().iter().enumerate().filter(|(_, n)| n.inputs.contains(&source));
        std::iter::once(source).chain(below.map(|(id, _)| NodeId(id))).collect()
    }

    fn describe_node(&self, id: NodeId, text: &mut String) {
        let node = &self.nodes()[id.0];
        let name = |id: &NodeId| self.nodes()[id.0].name.as_str();
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let line = match &node.kind {
            NodeKind::Source(Topics::Named(topics)) => {
                let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
                format!("Source: {} (topics: [{}])", node.name, topics.join(", "))
            }
            NodeKind::Source(Topics::Pattern(pattern)) => format!("Source: {} (topics: {pattern})", node.name),
            NodeKind::Sink(Some(topic)) => format!("Sink: {} (topic: {topic})", node.name),
            NodeKind::Sink(None) => format!("Sink: {} (extractor)", node.name),
            NodeKind::Processor => {
                let stores: Vec<&str> = node.stores.iter().map(|s| self.stores()[s.0].name.as_str()).collect();
                format!("Processor: {} (stores: [{}])", node.name, stores.join(", "))
            }
        };
        let _infallible = writeln!(text, "    {line}");
        if !matches!(node.kind, NodeKind::Sink(_)) {
            let below = self.nodes().iter().filter(|n| n.inputs.contains(&id)).map(|n| n.name.as_str()).collect();
            let _infallible = writeln!(text, "      --> {}", list(below));
        }
        if !matches!(node.kind, NodeKind::Source(_)) {
            let _infallible = writeln!(text, "      <-- {}", list(node.inputs.iter().map(name).collect()));
        }
    }
}
