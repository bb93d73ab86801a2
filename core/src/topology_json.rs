//! `Topology::json`: the topology as plain data, for tools. Written by hand: core knows no JSON otherwise.

use crate::topology::{NodeKind, RecordTypes, Topics, Topology};
use crate::topology_index::NodeId;
use crate::type_name::short_type_name;

impl Topology {
    /// The topology as one JSON object: `subTopologies` and `globalStores` with their `nodes`, and `stores`.
    pub fn json(&self) -> String {
        let nodes = |nodes: &[NodeId]| list(nodes.iter().map(|id| self.node_json(*id)));
        let subs = self.sub_topologies().iter().enumerate();
        let subs = subs.map(|(id, sub)| object(&[("id", id.to_string()), ("nodes", nodes(&sub.nodes))]));
        let globals = self.global_sources().map(|source| object(&[("nodes", nodes(&self.global_nodes(source)))]));
        let stores = self.stores().iter().map(|store| {
            let changelog = store.changelog.as_ref().map_or_else(
                || "null".to_owned(),
                |configs| {
                    let configs: Vec<(&str, String)> = configs.iter().map(|(k, v)| (k.as_str(), text(v))).collect();
                    object(&configs)
                },
            );
            let details: Vec<(&str, String)> = store.format.details.iter().map(|(k, v)| (*k, text(v))).collect();
            object(&[
                ("name", text(&store.name)),
                ("kind", text(store.format.kind)),
                ("keySerde", text(&store.format.key)),
                ("valueSerde", text(&store.format.value)),
                ("details", object(&details)),
                ("global", store.global.to_string()),
                ("changelog", changelog),
                ("rebuiltFrom", store.rebuilt_from.as_ref().map_or_else(|| "null".to_owned(), |r| text(&r.topic))),
            ])
        });
        object(&[("subTopologies", list(subs)), ("globalStores", list(globals)), ("stores", list(stores))])
    }

    fn node_json(&self, id: NodeId) -> String {
        let node = &self.nodes()[id.0];
        let names = |nodes: &mut dyn Iterator<Item = &str>| list(nodes.map(text));
        let mut fields = vec![("name", text(&node.name))];
        match &node.kind {
            NodeKind::Source(Topics::Named(topics)) => {
                fields.push(("type", text("source")));
                fields.push(("topics", list(topics.iter().map(|topic| text(&topic.to_string())))));
            }
            NodeKind::Source(Topics::Pattern(pattern)) => {
                fields.push(("type", text("source")));
                fields.push(("pattern", text(&pattern.to_string())));
            }
            NodeKind::Processor => {
                fields.push(("type", text("processor")));
                let mut stores = node.stores.iter().map(|id| self.stores()[id.0].name.as_str());
                fields.push(("stores", names(&mut stores)));
            }
            NodeKind::Sink(topic) => {
                fields.push(("type", text("sink")));
                fields.push(("topic", topic.as_ref().map_or_else(|| "null".to_owned(), |t| text(&t.to_string()))));
            }
        }
        if let Some(RecordTypes { types: (key, value), .. }) = &node.types {
            fields.extend([("keyType", text(&short_type_name(key))), ("valueType", text(&short_type_name(value)))]);
        }
        let mut inputs = node.inputs.iter().map(|id| self.nodes()[id.0].name.as_str());
        fields.push(("predecessors", names(&mut inputs)));
        let mut below = self.nodes().iter().filter(|n| n.inputs.contains(&id)).map(|n| n.name.as_str());
        fields.push(("successors", names(&mut below)));
        object(&fields)
    }
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}:{value}", text(key))).collect();
    format!("{{{}}}", fields.join(","))
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

fn text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
