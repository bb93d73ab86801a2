//! A foreign-key join in which several changes are under way at once ends where its tables do: what is left is the join of
//! the rows that are left, whichever of its messages came first (semantics.md 56). In Kafka Streams' inner join a result
//! may stay that has lost its partner.

use std::collections::BTreeMap;

use millstream_core::{ExceptionHandler, Record, Result, RuntimeConfig};
use millstream_dsl::{StreamsBuilder, TopologyTestDriver};

/// Left rows begin with their foreign key; those that begin with `-` have none, with those that begin with `?` the program
/// cannot do anything.
fn key_of(row: &str) -> std::result::Result<Option<String>, String> {
    match &row[..1] {
        "-" => Ok(None),
        "?" => Err("no foreign key can be found".into()),
        key => Ok(Some(key.to_owned())),
    }
}

/// What is left of an inner join after records that come at once, behind those of `before`, which came one by one.
/// `left p:x1` is a record, `left p:` a deletion.
fn left_over(before: &[&str], at_once: &[&str]) -> Result<BTreeMap<String, String>> {
    let b = StreamsBuilder::new();
    let (left, right) = (b.table::<String, String>("left", "l"), b.table::<String, String>("right", "r"));
    let joined = left.try_join_on("joined", &right, |row| key_of(row), |row, of| Ok(format!("{row}+{of}")));
    joined.to_stream().to("out");
    let config = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    let t = TopologyTestDriver::with_config(b.build()?, config)?;
    for (number, record) in before.iter().chain(at_once).enumerate() {
        let (topic, row) = record.split_once(' ').expect("topic key:row");
        let (key, row) = row.split_once(':').expect("topic key:row");
        let row = Some(row).filter(|row| !row.is_empty()).map(str::to_owned);
        let record = Record::new(key.to_owned(), row, number as i64);
        t.input::<String, Option<String>>(topic)?.enqueue(record)?;
        if number < before.len() {
            t.run()?;
        }
    }
    t.run()?;
    let mut table = BTreeMap::new();
    for (key, row) in t.output::<String, Option<String>>("out")?.read() {
        match row {
            Some(row) => drop(table.insert(key, row)),
            None => drop(table.remove(&key)),
        }
    }
    Ok(table)
}

fn rows(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter().map(|(key, row)| ((*key).to_owned(), (*row).to_owned())).collect()
}

#[test]
fn a_partner_goes_while_the_row_changes() -> Result<()> {
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["right x:", "left p:x2"])?, rows(&[]));
    assert_eq!(
        left_over(&["right x:X", "left p:x1"], &["right x:", "left p:x2", "right x:Y"])?,
        rows(&[("p", "x2+Y")])
    );
    Ok(())
}

#[test]
fn a_row_goes_to_a_key_without_a_partner_and_changes_there() -> Result<()> {
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:y1", "left p:y2"])?, rows(&[]));
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:y1", "left p:x2"])?, rows(&[("p", "x2+X")]));
    Ok(())
}

#[test]
fn a_row_goes_and_another_comes_without_a_partner() -> Result<()> {
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:", "left p:y1"])?, rows(&[]));
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:", "left p:x1", "left p:"])?, rows(&[]));
    Ok(())
}

#[test]
fn a_row_loses_its_foreign_key_and_changes_without_one() -> Result<()> {
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:-1", "left p:-2"])?, rows(&[]));
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:-1", "left p:"])?, rows(&[]));
    assert_eq!(left_over(&["right x:X", "left p:x1"], &["left p:", "left p:-1"])?, rows(&[]));
    Ok(())
}

/// The row comes back as it was while answers to it are still under way.
#[test]
fn a_row_comes_back_when_its_partner_has_gone() -> Result<()> {
    let at_once = ["right x:X", "left p:x1", "left p:", "right x:", "left p:x1"];
    assert_eq!(left_over(&[], &at_once)?, rows(&[]));
    assert_eq!(left_over(&["right x:X", "left p:x1"], &at_once)?, rows(&[]));
    Ok(())
}

/// A row that is left out is no row; those behind it are rows as any other.
#[test]
fn a_row_whose_foreign_key_cannot_be_found_is_no_row() -> Result<()> {
    let before = ["right x:X", "right y:Y", "left p:x1", "left p:?"];
    assert_eq!(left_over(&before, &[])?, rows(&[]));
    assert_eq!(left_over(&before[..3], &["left p:?", "right x:Z"])?, rows(&[]));
    assert_eq!(left_over(&before, &["left p:x2"])?, rows(&[("p", "x2+X")]));
    assert_eq!(left_over(&before, &["left p:y2"])?, rows(&[("p", "y2+Y")]));
    for gone in ["left p:", "left p:-1", "left p:z1"] {
        assert_eq!(left_over(&before, &[gone])?, rows(&[]), "{gone}");
    }
    Ok(())
}

/// A subscription goes with the foreign key that it was for. No result shows one that stays, but the store and its changelog grow.
#[test]
fn a_row_has_one_subscription_or_none() -> Result<()> {
    for inner in [true, false] {
        let b = StreamsBuilder::new();
        let (left, right) = (b.table::<String, String>("left", "l"), b.table::<String, String>("right", "r"));
        let joined = match inner {
            true => left.try_join_on("joined", &right, |row| key_of(row), |row, of| Ok(format!("{row}+{of}"))),
            false => left.try_left_join_on("joined", &right, |row| key_of(row), |row, of| Ok(format!("{row}+{of:?}"))),
        };
        joined.to_stream().to("out");
        let config = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
        let t = TopologyTestDriver::with_config(b.build()?, config)?;
        let rows = t.input::<String, Option<String>>("left")?;
        let kept = t.output::<Vec<u8>, Option<Vec<u8>>>("test-joined-subscription-changelog")?;
        let mut subscriptions = BTreeMap::new();
        let steps = [
            (Some("x1"), 1),
            (Some("y1"), 1),
            (Some("y2"), 1),
            (Some("-1"), 0),
            (Some("z1"), 1),
            (Some("?"), 0),
            (Some("?"), 0),
            (Some("x1"), 1),
            (None, 0),
            (Some("y1"), 1),
            (None, 0),
        ];
        for (row, count) in steps {
            rows.pipe("p", row.map(str::to_owned));
            subscriptions.extend(kept.read());
            let live = subscriptions.values().filter(|subscription| subscription.is_some()).count();
            assert_eq!(live, count, "{row:?}, inner {inner}: {subscriptions:?}");
        }
    }
    Ok(())
}
