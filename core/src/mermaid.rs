//! `Topology::mermaid`: the topology as a flowchart, for documents and for whoever reviews a program.
//!
//! Sub-topologies are boxes; topics stand outside of them, since that is where a topology is cut; stores are cylinders.

use std::fmt::Write as _;

use crate::topology::{NodeKind, Topics, Topology};
use crate::topology_index::{NodeId, StoreId};

impl Topology {
    /// The topology as a [Mermaid](https://mermaid.js.org) flowchart.
    pub fn mermaid(&self) -> String {
        let mut chart = Chart { topology: self, topics: Vec::new(), boxes: String::new(), edges: String::new() };
        for (number, sub) in self.sub_topologies().iter().enumerate() {
            chart.sub_topology(&format!("sub{number}"), &format!("Sub-topology {number}"), &sub.nodes, &sub.stores);
        }
        for (number, source) in self.global_sources().enumerate() {
            let nodes = self.global_nodes(source);
            let stores: Vec<StoreId> = nodes.iter().flat_map(|id| self.nodes()[id.0].stores.clone()).collect();
            chart.sub_topology(&format!("global{number}"), "Global store", &nodes, &stores);
        }
        chart.finish()
    }
}

struct Chart<'a> {
    topology: &'a Topology,
    /// Each topic once, in the order in which the nodes name them.
    topics: Vec<String>,
    boxes: String,
    edges: String,
}

impl Chart<'_> {
    fn sub_topology(&mut self, id: &str, title: &str, nodes: &[NodeId], stores: &[StoreId]) {
        self.boxes += &format!("    subgraph {id}[\"{title}\"]\n");
        for id in nodes {
            self.boxes += &format!("        n{}[\"{}\"]\n", id.0, escaped(&self.topology.nodes()[id.0].name));
        }
        for id in stores {
            self.boxes += &format!("        s{}[(\"{}\")]\n", id.0, escaped(&self.topology.stores()[id.0].name));
        }
        self.boxes += "    end\n";
        nodes.iter().for_each(|id| self.edges_of(*id));
    }

    fn edges_of(&mut self, id: NodeId) {
        let topology = self.topology;
        let node = &topology.nodes()[id.0];
        let number = id.0;
        match &node.kind {
            NodeKind::Source(Topics::Named(topics)) => {
                for topic in topics {
                    let topic = self.topic(topic.to_string());
                    self.edge(&format!("t{topic} --> n{number}"));
                }
            }
            NodeKind::Source(Topics::Pattern(pattern)) => {
                let topic = self.topic(pattern.to_string());
                self.edge(&format!("t{topic} --> n{number}"));
            }
            NodeKind::Sink(_) | NodeKind::Processor => {}
        }
        for input in &node.inputs {
            self.edge(&format!("n{} --> n{number}", input.0));
        }
        for store in &node.stores {
            self.edge(&format!("n{number} -.- s{}", store.0));
        }
        if let NodeKind::Sink(topic) = &node.kind {
            let topic = topic.as_ref().map_or_else(|| "chosen by each record".to_owned(), ToString::to_string);
            let topic = self.topic(topic);
            self.edge(&format!("n{number} --> t{topic}"));
        }
    }

    fn edge(&mut self, edge: &str) {
        let _infallible = writeln!(self.edges, "    {edge}");
    }

    fn topic(&mut self, name: String) -> usize {
        self.topics.iter().position(|t| *t == name).unwrap_or_else(|| {
            self.topics.push(name);
            self.topics.len() - 1
        })
    }

    fn finish(self) -> String {
        let mut text = String::from("flowchart TD\n");
        for (number, topic) in self.topics.iter().enumerate() {
            let _infallible = writeln!(text, "    t{number}([\"{}\"])", escaped(topic));
        }
        text + &self.boxes + &self.edges
    }
}

/// Text within Mermaid's quotes: what would end it, or begin a code, becomes one.
fn escaped(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}
