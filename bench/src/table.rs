//! The results, as a table for people and as JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::json;

/// One result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) keys: u64,
    pub(crate) records: u64,
    /// The figure that the bound is about.
    pub(crate) figure: f64,
    pub(crate) unit: Cow<'static, str>,
    /// Wall nanoseconds per record, where that means something.
    pub(crate) wall: f64,
    /// The goal, and whether more is better.
    pub(crate) bound: Option<(f64, bool)>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.bound {
            None => "",
            Some((bound, more)) if (self.figure >= bound) == more || self.figure == bound => "ok",
            Some(_) => "MISSED",
        }
    }

    /// Figure, goal and verdict on one line.
    pub(crate) fn print_verdict(&self) {
        let goal = self.bound.map_or(String::new(), |(b, more)| format!("{} {b}", if more { ">=" } else { "<=" }));
        println!("  {:<52} {:>10.2} {:<14} {goal:>10} {}", self.name, self.figure, self.unit, self.verdict());
    }
}

#[derive(Default)]
pub(crate) struct Table(pub(crate) Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        println!("  {:<44} {:>10.1} {}", row.name, row.figure, row.unit);
        self.0.push(row);
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<44} {:>9} {:>10} {:>12} {:<14} {:>10} {:>10}",
            "", "keys", "records", "figure", "", "wall ns", "goal"
        );
        for row in &self.0 {
            let goal = row.bound.map_or(String::new(), |(b, more)| format!("{} {b}", if more { ">=" } else { "<=" }));
            let count = |n: u64| if n == 0 { String::new() } else { n.to_string() };
            let wall = if row.wall > 0.0 { format!("{:.0}", row.wall) } else { String::new() };
            println!(
                "{:<44} {:>9} {:>10} {:>12.1} {:<14} {wall:>10} {goal:>10} {}",
                row.name,
                count(row.keys),
                count(row.records),
                row.figure,
                row.unit,
                row.verdict()
            );
        }
    }

    pub(crate) fn json(&self) -> String {
        let rows = self.0.iter().map(|r| {
            json!({ "name": r.name, "keys": r.keys, "records": r.records, "figure": r.figure, "unit": r.unit,
                    "wall_ns_per_record": r.wall, "goal": r.bound.map(|(b, _)| b), "verdict": r.verdict() })
        });
        json!({ "rows": rows.collect::<Vec<_>>() }).to_string()
    }
}
