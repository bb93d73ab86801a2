//! A program of the catalogue as the product runs it, in the test driver.

use std::cell::Cell;
use std::time::Duration;

use millstream_core::{Headers, Record, Result, RuntimeConfig};
use millstream_dsl::{StreamsBuilder, TestOutput, TopologyTestDriver};
use millstream_tests::golden;
use millstream_tests::reference::Row;

use crate::script::{Script, Step};

type Text = Option<String>;

pub(crate) struct Product {
    driver: TopologyTestDriver,
    out: TestOutput<Text, Text>,
    rollbacks_before: Cell<u64>,
}

impl Product {
    /// Builds the program; all its topics have the script's number of partitions.
    pub(crate) fn new(name: &str, topics: &[&str], script: &Script) -> Result<Self> {
        let b = StreamsBuilder::new();
        for topic in topics.iter().chain(&["out"]) {
            b.topic(topic, script.partitions);
        }
        let config = RuntimeConfig::embedded("differential");
        // Commits in the middle of what arrives at once, so that a failing one goes back into it.
        let config = match script.abort_every {
            Some(_) => RuntimeConfig { poll_records: 7, uncommitted_bytes: 1, ..config },
            None => config,
        };
        let driver = TopologyTestDriver::with_config(golden::build(&b, name, &script.params)?, config)?;
        driver.fail_commits(script.abort_every);
        let out = driver.output("out")?;
        Ok(Product { driver, out, rollbacks_before: Cell::new(0) })
    }

    /// What comes out for records that arrive at once, and while nothing came before them, partition by partition.
    pub(crate) fn process(&self, steps: &[Step]) -> Result<Vec<Row>> {
        if let Some(wait) = steps.first().map(|step| step.wait).filter(|wait| *wait > 0) {
            self.driver.advance(Duration::from_millis(wait.unsigned_abs()))?;
        }
        for step in steps {
            let Row { key, value, time: timestamp, headers } = step.row();
            let mut section = Headers::new();
            headers.iter().for_each(|(name, value)| section.add(name, Some(value.as_bytes())));
            let input = self.driver.input::<Text, Text>(step.topic)?;
            input.enqueue(Record { key, value, timestamp, headers: section })?;
        }
        self.driver.run()?;
        Ok(self.out.try_read()?.into_iter().map(row).collect())
    }

    /// How often a task was rolled back.
    pub(crate) fn rollbacks(&self) -> u64 {
        self.rollbacks_before.get() + self.driver.counters().rollback
    }

    /// Drops all stores and starts again from the log.
    pub(crate) fn restart(&self) -> Result<()> {
        self.rollbacks_before.set(self.rollbacks());
        self.driver.restart()
    }
}

fn row(record: Record<Text, Text>) -> Row {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    Row { key: record.key, value: record.value, time: record.timestamp, headers }
}
