//! What can be seen of a table: the rows that a stream of it tells, their sum in a grouping, the row that a stream finds. They
//! are one table.

mod dice;

use std::collections::BTreeMap;

use millstream_core::Result;
use millstream_dsl::{KTable, StreamsBuilder, TopologyTestDriver};

pub(crate) use self::dice::Dice;

pub(crate) type Table = KTable<String, i64>;

/// What stands for no row.
pub(crate) const NO_ROW: i64 = i64::MIN;

/// A table's rows as a stream of it tells, their sum as a grouping does, and the row that a stream finds.
pub(crate) struct Seen {
    names: [String; 4],
    pub(crate) rows: BTreeMap<String, i64>,
    pub(crate) sum: i64,
    pub(crate) found: i64,
}

impl Seen {
    pub(crate) fn of(name: &str, b: &StreamsBuilder, table: &Table) -> Seen {
        let names = ["rows", "sum", "found", "asked"].map(|what| format!("{name}-{what}"));
        table.to_stream().to(&names[0]);
        let all = table.group_by(&format!("{name}-g"), |_, n| ("all".to_owned(), n));
        all.reduce(&format!("{name}-s"), |a, b| a + b, |a, b| a - b).to_stream().to(&names[1]);
        let asked = b.stream::<String, i64>(names[3].as_str());
        asked.left_join_table(&format!("{name}-j"), table, |_, n| *n.unwrap_or(&NO_ROW)).to(&names[2]);
        Seen { names, rows: BTreeMap::new(), sum: 0, found: NO_ROW }
    }

    pub(crate) fn look(&mut self, t: &TopologyTestDriver, time: i64, key: &str) -> Result<()> {
        for (key, row) in t.output::<String, Option<i64>>(&self.names[0])?.read() {
            match row {
                Some(row) => drop(self.rows.insert(key, row)),
                None => drop(self.rows.remove(&key)),
            }
        }
        if let Some((_, sum)) = t.output::<String, Option<i64>>(&self.names[1])?.read().pop() {
            self.sum = sum.unwrap_or(0);
        }
        t.input::<String, i64>(&self.names[3])?.pipe_at(time, key, 0);
        self.found = t.output::<String, i64>(&self.names[2])?.read().pop().map_or(NO_ROW, |(_, found)| found);
        Ok(())
    }
}
