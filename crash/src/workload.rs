//! What is fed in and what comes out: records that say where they come from, with a checksum over what they say.
//!
//! An input record is a function of seed, partition and sequence number, and its sequence number is its offset: parent, worker and
//! checker know what it must be without telling each other. Every record that follows from it carries its origin on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dice::Dice;

/// Partitions of every topic.
pub(crate) const PARTITIONS: i32 = 4;
/// Input: money from one account to another.
pub(crate) const TRANSFERS: &str = "transfers";
/// Input: rows that are put and deleted.
pub(crate) const CHANGES: &str = "changes";
/// Output: the two legs of a transfer, in one transaction.
pub(crate) const LEGS: &str = "legs";
/// Output: every state of every account.
pub(crate) const BALANCES: &str = "balances";
/// Output: every state of every list.
pub(crate) const LISTS: &str = "lists";
/// Output: what a change found in its row, and what it left.
pub(crate) const TABLE: &str = "table";
/// Both inputs.
pub(crate) const INPUTS: [&str; 2] = [TRANSFERS, CHANGES];

const ACCOUNTS: u64 = 400;
/// Rows per partition: few, so that every one is put and deleted often.
const ROWS: u64 = 40;
/// Elements of a full list.
const LIST: u64 = 32;

/// Which input record a record comes from, and the checksum over topic and record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Partition of the input record.
    pub(crate) partition: i32,
    /// Sequence number of the input record, which is its offset.
    pub(crate) seq: i64,
    /// CRC-32C of the topic's name and of the record with 0 in this place.
    pub(crate) crc: u32,
}

/// A record with a stamp.
pub(crate) trait Stamped: Serialize + Clone {
    /// Its stamp.
    fn stamp(&self) -> Stamp;
    /// Its stamp, to be changed.
    fn stamp_mut(&mut self) -> &mut Stamp;

    /// The record with the checksum that it has in a topic.
    #[must_use]
    fn sealed(mut self, topic: &str) -> Self {
        self.stamp_mut().crc = 0;
        // Of plain structs: no map with keys that are not text.
        let bytes = serde_json::to_vec(&self).unwrap_or_default();
        self.stamp_mut().crc = crc32c::crc32c_append(crc32c::crc32c(topic.as_bytes()), &bytes);
        self
    }

    /// Whether its checksum is the one that it has in a topic.
    fn is_sound(&self, topic: &str) -> bool {
        self.clone().sealed(topic).stamp().crc == self.stamp().crc
    }
}

macro_rules! stamped {
    ($($type:ty),+) => {$(
        impl Stamped for $type {
            fn stamp(&self) -> Stamp {
                self.origin
            }
            fn stamp_mut(&mut self) -> &mut Stamp {
                &mut self.origin
            }
        }
        millstream_dsl::json!($type);
    )+};
}

/// Input: an amount from one account to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    /// Where it stands.
    pub(crate) origin: Stamp,
    /// The account that pays.
    pub(crate) from: String,
    /// The account that is paid.
    pub(crate) to: String,
    /// How much.
    pub(crate) amount: i64,
}

/// Input: a row is put, or deleted. Its key is the record's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowChange {
    /// Where it stands.
    pub(crate) origin: Stamp,
    /// The row from now on; `None` deletes it.
    pub(crate) put: Option<i64>,
}

/// Half of a transfer. The account is the record's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leg {
    /// The transfer.
    pub(crate) origin: Stamp,
    /// Negative for the account that pays.
    pub(crate) amount: i64,
}

/// An account after a leg. The account is the record's key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Balance {
    /// The transfer of that leg.
    pub(crate) origin: Stamp,
    /// Legs so far.
    pub(crate) count: i64,
    /// The sum of their amounts.
    pub(crate) sum: i64,
    /// The amount of that leg.
    pub(crate) last: i64,
}

/// A list after an append. Its name is the record's key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct List {
    /// The transfer that was appended.
    pub(crate) origin: Stamp,
    /// Sequence numbers of transfers.
    pub(crate) elements: Vec<i64>,
}

/// What a change found and left. The row's key is the record's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The change.
    pub(crate) origin: Stamp,
    /// The row before.
    pub(crate) before: Option<i64>,
    /// The row after.
    pub(crate) after: Option<i64>,
}

stamped!(Transfer, RowChange, Leg, Balance, List, Seen);

/// The transfer of a sequence number.
pub(crate) fn transfer(seed: u64, partition: i32, seq: i64) -> Transfer {
    let mut dice = Dice::new(seed, &[1, partition as u64, seq as u64]);
    let from = dice.below(ACCOUNTS);
    let to = (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
    let amount = 1 + dice.below(100) as i64;
    let origin = Stamp { partition, seq, crc: 0 };
    Transfer { origin, from: format!("account-{from}"), to: format!("account-{to}"), amount }.sealed(TRANSFERS)
}

/// The two legs of a transfer, each with its account.
pub(crate) fn legs(transfer: &Transfer) -> [(String, Leg); 2] {
    let leg = |account: &String, amount| (account.clone(), Leg { origin: transfer.origin, amount }.sealed(LEGS));
    [leg(&transfer.from, -transfer.amount), leg(&transfer.to, transfer.amount)]
}

/// The list that a transfer is appended to.
pub(crate) fn list(origin: Stamp) -> String {
    format!("list-{}-{}", origin.partition, origin.seq as u64 / LIST)
}

/// The change of a sequence number, with the key of its row.
pub(crate) fn change(seed: u64, partition: i32, seq: i64) -> (String, RowChange) {
    let mut dice = Dice::new(seed, &[2, partition as u64, seq as u64]);
    let key = format!("row-{partition}-{}", dice.below(ROWS));
    let put = (dice.below(10) < 6).then(|| dice.below(1 << 40) as i64);
    (key, RowChange { origin: Stamp { partition, seq, crc: 0 }, put }.sealed(CHANGES))
}

/// Key and value of an input record.
pub(crate) fn input(seed: u64, topic: &str, partition: i32, seq: i64) -> (Option<String>, Vec<u8>) {
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    if topic == TRANSFERS {
        return (None, json(serde_json::to_vec(&transfer(seed, partition, seq))));
    }
    let (key, change) = change(seed, partition, seq);
    (Some(key), json(serde_json::to_vec(&change)))
}

/// How many records of every input partition.
pub(crate) type Counts = BTreeMap<(String, i32), i64>;
