//! A topology shows itself to people and to tools: as text, as a Mermaid flowchart, and as plain JSON.

use millstream_core::{Result, Topology};
use millstream_dsl::{StreamsBuilder, pattern};

/// Sub-topologies cut by a repartition, a store, a global store, and a name that wants quoting.
fn enriched_counts() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let users = b.global_table::<String, String>("users", "user-names");
    b.stream::<String, String>("clicks")
        .join_global(&users, |key, _| Some(key.clone()), |click, name| format!("{name}: {click}"))
        .group_by("by-name", |_, click| click.clone())
        .count("counts")
        .to_stream()
        .to("click-counts");
    b.stream::<String, String>(pattern("log-\"a\".*")?).to_dynamic(|_, value, _| value.clone());
    b.build()
}

/// In Kafka Streams' words; there, global stores are numbered among the others.
#[test]
fn text_has_global_stores_patterns_and_extractors() -> Result<()> {
    let wanted = r#"Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000002 (topics: log-.*)
      --> KSTREAM-GLOBALJOIN-0000000003
    Processor: KSTREAM-GLOBALJOIN-0000000003 (stores: [user-names])
      --> KSTREAM-SINK-0000000004
      <-- KSTREAM-SOURCE-0000000002
    Sink: KSTREAM-SINK-0000000004 (extractor)
      <-- KSTREAM-GLOBALJOIN-0000000003

   Sub-topology: 1 for global-store (will not generate tasks)
    Source: KSTREAM-SOURCE-0000000000 (topics: [users])
      --> KTABLE-SOURCE-0000000001
    Processor: KTABLE-SOURCE-0000000001 (stores: [user-names])
      --> none
      <-- KSTREAM-SOURCE-0000000000

"#;
    let b = StreamsBuilder::new();
    let users = b.global_table::<String, String>("users", "user-names");
    let logs = b.stream::<String, String>(pattern("log-.*")?);
    logs.join_global(&users, |key, _| Some(key.clone()), |_, name| name.clone()).to_dynamic(|_, name, _| name.clone());
    assert_eq!(b.build()?.describe(), wanted);
    Ok(())
}

#[test]
fn a_flowchart_has_boxes_of_nodes_topics_between_them_and_cylinders() -> Result<()> {
    let wanted = r#"flowchart TD
    t0(["clicks"])
    t1(["by-name-repartition"])
    t2(["click-counts"])
    t3(["log-#quot;a#quot;.*"])
    t4(["chosen by each record"])
    t5(["users"])
    subgraph sub0["Sub-topology 0"]
        n2["KSTREAM-SOURCE-0000000002"]
        n3["KSTREAM-GLOBALJOIN-0000000003"]
        n4["KSTREAM-KEY-SELECT-0000000004"]
        n5["KSTREAM-FILTER-0000000005"]
        n6["KSTREAM-SINK-0000000006"]
    end
    subgraph sub1["Sub-topology 1"]
        n7["KSTREAM-SOURCE-0000000007"]
        n8["KSTREAM-AGGREGATE-0000000008"]
        n9["KTABLE-TOSTREAM-0000000009"]
        n10["KSTREAM-SINK-0000000010"]
        s1[("counts")]
    end
    subgraph sub2["Sub-topology 2"]
        n11["KSTREAM-SOURCE-0000000011"]
        n12["KSTREAM-SINK-0000000012"]
    end
    subgraph global0["Global store"]
        n0["KSTREAM-SOURCE-0000000000"]
        n1["KTABLE-SOURCE-0000000001"]
        s0[("user-names")]
    end
    t0 --> n2
    n2 --> n3
    n3 -.- s0
    n3 --> n4
    n4 --> n5
    n5 --> n6
    n6 --> t1
    t1 --> n7
    n7 --> n8
    n8 -.- s1
    n8 --> n9
    n9 --> n10
    n10 --> t2
    t3 --> n11
    n11 --> n12
    n12 --> t4
    t5 --> n0
    n0 --> n1
    n1 -.- s0
"#;
    assert_eq!(enriched_counts()?.mermaid(), wanted);
    Ok(())
}

#[test]
fn json_holds_nodes_by_sub_topology_and_stores() -> Result<()> {
    let b = StreamsBuilder::new();
    let users = b.global_table::<String, String>("users", "user-names");
    b.table::<String, i64>("scores", "best")
        .to_stream()
        .join_global(&users, |k, _| Some(k.clone()), |n, _| *n)
        .to("out");
    b.stream::<String, String>(pattern("log-\"a\".*")?).to_dynamic(|_, value, _| value.clone());
    let found: serde_json::Value = serde_json::from_str(&b.build()?.json()).expect("this is JSON");
    let source = |name, topic, value, next| {
        serde_json::json!({"name": name, "type": "source", "topics": [topic], "keyType": "Option<String>",
            "valueType": value, "predecessors": [], "successors": [next]})
    };
    let wanted = serde_json::json!({
        "subTopologies": [
            {"id": 0, "nodes": [
                source("KSTREAM-SOURCE-0000000002", "scores", "Option<i64>", "KTABLE-SOURCE-0000000003"),
                {"name": "KTABLE-SOURCE-0000000003", "type": "processor", "stores": ["best"],
                    "predecessors": ["KSTREAM-SOURCE-0000000002"], "successors": ["KTABLE-TOSTREAM-0000000004"]},
                {"name": "KTABLE-TOSTREAM-0000000004", "type": "processor", "stores": [],
                    "predecessors": ["KTABLE-SOURCE-0000000003"], "successors": ["KSTREAM-GLOBALJOIN-0000000005"]},
                {"name": "KSTREAM-GLOBALJOIN-0000000005", "type": "processor", "stores": ["user-names"],
                    "predecessors": ["KTABLE-TOSTREAM-0000000004"], "successors": ["KSTREAM-SINK-0000000006"]},
                {"name": "KSTREAM-SINK-0000000006", "type": "sink", "topic": "out", "keyType": "String",
                    "valueType": "i64", "predecessors": ["KSTREAM-GLOBALJOIN-0000000005"], "successors": []},
            ]},
            {"id": 1, "nodes": [
                {"name": "KSTREAM-SOURCE-0000000007", "type": "source", "pattern": "log-\"a\".*", "keyType": "String",
                    "valueType": "String", "predecessors": [], "successors": ["KSTREAM-SINK-0000000008"]},
                {"name": "KSTREAM-SINK-0000000008", "type": "sink", "topic": null, "keyType": "String",
                    "valueType": "String", "predecessors": ["KSTREAM-SOURCE-0000000007"], "successors": []},
            ]},
        ],
        "globalStores": [{"nodes": [
            source("KSTREAM-SOURCE-0000000000", "users", "Option<String>", "KTABLE-SOURCE-0000000001"),
            {"name": "KTABLE-SOURCE-0000000001", "type": "processor", "stores": ["user-names"],
                "predecessors": ["KSTREAM-SOURCE-0000000000"], "successors": []},
        ]}],
        "stores": [
            {"name": "user-names", "kind": "key-value", "keySerde": "StringSerde", "valueSerde": "StringSerde",
                "details": {}, "global": true, "changelog": null, "rebuiltFrom": null},
            {"name": "best", "kind": "key-value", "keySerde": "StringSerde", "valueSerde": "NumberSerde<i64>",
                "details": {}, "global": false, "changelog": {"cleanup.policy": "compact"}, "rebuiltFrom": null},
        ],
    });
    assert_eq!(found, wanted);
    Ok(())
}
