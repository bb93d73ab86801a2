//! The application that is killed: transfers become legs and balances, and elements of lists; changes go through a table.

use millstream_core::{Record, Result, Topology};
use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder};

use crate::workload::{
    BALANCES, Balance, CHANGES, LEGS, LISTS, Leg, List, PARTITIONS, RowChange, Seen, Stamped as _, TABLE, TRANSFERS,
    Transfer, legs, list,
};

/// Puts and deletes rows, and tells what was there.
struct Rows {
    rows: KeyValueStore<String, i64>,
}

impl Processor for Rows {
    type KIn = String;
    type VIn = RowChange;
    type KOut = String;
    type VOut = Seen;

    fn process(&mut self, change: Record<String, RowChange>, out: &mut Out<'_, String, Seen>) -> Result<()> {
        let RowChange { origin, put } = change.value;
        let before = self.rows.put(&change.key, put)?;
        out.forward(Record::new(change.key, Seen { origin, before, after: put }.sealed(TABLE), change.timestamp))
    }
}

/// The application.
///
/// # Errors
/// None, as it stands.
pub(crate) fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    for topic in [TRANSFERS, CHANGES, LEGS, BALANCES, LISTS, TABLE] {
        b.topic(topic, PARTITIONS);
    }
    let transfers = b.stream::<Option<String>, Transfer>(TRANSFERS);
    let legs = transfers.flat_map(|_, transfer| legs(&transfer));
    legs.to(LEGS);
    legs.group_by("by-account", |account: &String, _: &Leg| account.clone())
        .aggregate("accounts", Balance::default, |_, leg, balance| {
            let (count, sum) = (balance.count + 1, balance.sum + leg.amount);
            *balance = Balance { origin: leg.origin, count, sum, last: leg.amount }.sealed(BALANCES);
        })
        .to_stream()
        .to(BALANCES);
    transfers
        .group_by("by-list", |_, transfer| list(transfer.origin))
        .aggregate("elements", List::default, |_, transfer, list| {
            list.origin = transfer.origin;
            list.elements.push(transfer.origin.seq);
            *list = std::mem::take(list).sealed(LISTS);
        })
        .to_stream()
        .to(LISTS);
    let rows = b.store::<String, i64>("rows");
    b.stream::<String, RowChange>(CHANGES).process("table", move |s| Rows { rows: s.store(rows) }).to(TABLE);
    b.build()
}
