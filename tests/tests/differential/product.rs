//! A program of the catalogue as the product runs it, in the test driver.

use millstream_core::{Headers, Record, Result};
use millstream_dsl::{StreamsBuilder, TestOutput, TopologyTestDriver};
use millstream_tests::golden;
use millstream_tests::reference::Row;

use crate::script::{Script, Step};

type Text = Option<String>;

pub(crate) struct Product {
    driver: TopologyTestDriver,
    out: TestOutput<Text, Text>,
}

impl Product {
    /// Builds the program; all its topics have the script's number of partitions.
    pub(crate) fn new(name: &str, topics: &[&str], script: &Script) -> Result<Self> {
        let b = StreamsBuilder::new();
        for topic in topics.iter().chain(&["out"]) {
            b.topic(topic, script.partitions);
        }
        let driver = TopologyTestDriver::new(golden::build(&b, name, &script.params)?)?;
        driver.fail_commits(script.abort_every);
        let out = driver.output("out")?;
        Ok(Product { driver, out })
    }

    /// What comes out for a record, partition by partition.
    pub(crate) fn process(&self, step: &Step) -> Result<Vec<Row>> {
        let mut headers = Headers::new();
        step.headers.iter().for_each(|(name, value)| headers.add(name, Some(value.as_bytes())));
        let (key, value) = (step.key.map(str::to_owned), step.value.map(str::to_owned));
        let input = self.driver.input::<Text, Text>(step.topic)?;
        input.try_pipe(Record { key, value, timestamp: step.time, headers })?;
        Ok(self.out.try_read()?.into_iter().map(row).collect())
    }

    /// Drops all stores and starts again from the log.
    pub(crate) fn restart(&self) -> Result<()> {
        self.driver.restart()
    }
}

fn row(record: Record<Text, Text>) -> Row {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    Row { key: record.key, value: record.value, time: record.timestamp, headers }
}
