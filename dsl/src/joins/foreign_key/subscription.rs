//! Subscriptions: what a left row asks of a foreign key, kept where that key's row is.

use std::cell::RefCell;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{
    Change, Data, Downstream, Encoded, Forward, Headers, NodeId, Payload, Record, Result, Serde, SerdeContext,
    SerdeError, StoreFormat, StoreId, TaskBuilder, TaskContext, Timestamp,
};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::joins::foreign_key::response::Response;
use crate::joins::foreign_key::row_hash::{NO_HASH, put_hash};
use crate::keys::{Keys, behind};
use crate::ktable::LookUp;

/// What the receiver does (semantics.md 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Forgets the subscription.
    Delete = 0,
    /// Forgets it and answers with none.
    DeleteAndAnswer = 1,
    /// Keeps it and answers with the row or with none.
    AnswerAlways = 2,
    /// Keeps it and answers with the row; without one quietly, for what the row before may have left behind.
    AnswerIfThere = 3,
}

impl Instruction {
    fn keeps(self) -> bool {
        matches!(self, Instruction::AnswerAlways | Instruction::AnswerIfThere)
    }
}

/// A left row's question.
#[derive(Debug, Clone)]
pub(crate) struct Subscription<K> {
    /// Hash of the left row's bytes; none if it was deleted, or of an inner join has no foreign key.
    pub(super) hash: Option<u128>,
    pub(super) instruction: Instruction,
    pub(super) key: K,
    /// The left row's partition.
    pub(super) partition: i32,
}

/// The format's version.
const VERSION: u8 = 1;

/// Kafka Streams' format: version, instruction, hash if there is one, primary key, partition.
#[derive(Debug, Clone)]
pub(crate) struct SubscriptionSerde<S>(pub(super) S);

impl<S: Serde> Serde for SubscriptionSerde<S> {
    type Value = Subscription<S::Value>;

    fn serialize(
        &self,
        subscription: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        let start = out.len() + 1;
        put_hash(subscription.hash, VERSION, out);
        out.insert(start, subscription.instruction as u8);
        let _bytes = self.0.serialize(&subscription.key, cx, headers, out)?;
        out.extend(subscription.partition.to_be_bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let all = bytes.ok_or_else(SerdeError::null::<Self::Value>)?.to_bytes();
        let (hash_len, instruction) = match *all {
            [version, instruction, ..] if version & !NO_HASH <= VERSION => {
                (if version & NO_HASH == 0 { 16 } else { 0 }, instruction)
            }
            _ => return Err(SerdeError::invalid("a subscription of an unknown version")),
        };
        let instruction = match instruction {
            0 => Instruction::Delete,
            1 => Instruction::DeleteAndAnswer,
            2 => Instruction::AnswerAlways,
            3 => Instruction::AnswerIfThere,
            other => return Err(SerdeError::invalid(format!("a subscription with the unknown instruction {other}"))),
        };
        let cut_off = || SerdeError::invalid("a subscription is cut off");
        let rest = all.get(2..).and_then(|rest| rest.split_at_checked(hash_len)).ok_or_else(cut_off)?;
        let hash = rest.0.first_chunk().map(|hash| u128::from_be_bytes(*hash));
        let (key, partition) = rest.1.split_last_chunk().ok_or_else(cut_off)?;
        let from = 2 + hash_len;
        let key = all.slice(from..from + key.len());
        let key = self.0.deserialize(Some(Payload::from(&key)), cx, headers)?;
        Ok(Subscription { hash, instruction, key, partition: i32::from_be_bytes(*partition) })
    }

    fn detach(&self, subscription: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        self.0.detach(&mut subscription.key, copy);
    }
}

/// Subscriptions in a task, by foreign key, then primary key.
pub(super) struct Subscriptions<F: Data, K: Data> {
    table: Rc<RefCell<KeyValueTable<SubscriptionSerde<K::Serde>>>>,
    foreign: Keys<F>,
    primary: Keys<K>,
}

impl<F: Data, K: Data> Subscriptions<F, K> {
    pub(super) fn add(builder: &StreamsBuilder, name: &str) -> StoreId {
        let format = StoreFormat::of::<F::Serde, SubscriptionSerde<K::Serde>>("subscriptions");
        let make = |name: &str| KeyValueTable::new(name, SubscriptionSerde(K::Serde::default()), true);
        builder.store_named(NewStore::new(name, format, [("cleanup.policy", "compact")], make))
    }

    pub(super) fn open(task: &TaskBuilder<'_>, id: StoreId, name: &Arc<str>) -> Self {
        Subscriptions { table: task.store(id), foreign: Keys::new(name), primary: Keys::new(name) }
    }

    /// The beginning of the rows of a foreign key: its length, its bytes.
    fn prefix(&self, foreign: &F) -> Result<Vec<u8>> {
        let key = self.foreign.encode(foreign)?;
        let mut prefix = (key.len() as u32).to_be_bytes().to_vec();
        prefix.extend_from_slice(&key);
        Ok(prefix)
    }

    fn keep(&self, foreign: &F, subscription: &Subscription<K>, timestamp: Timestamp) -> Result<()> {
        let mut key = self.prefix(foreign)?;
        key.extend_from_slice(&self.primary.encode(&subscription.key)?);
        let value = subscription.instruction.keeps().then(|| subscription.clone());
        *self.table.borrow_mut().change(&key)? = Entry { value, timestamp };
        Ok(())
    }
}

/// Keeps subscriptions and answers them.
pub(super) struct Receive<F: Data, K: Data, W> {
    pub(super) node: NodeId,
    pub(super) subscriptions: Subscriptions<F, K>,
    pub(super) rows: Box<dyn LookUp<F, W>>,
    pub(super) down: Downstream<Record<K, Response<W>>>,
}

impl<F: Data, K: Data, W: Data> Forward<Record<Option<F>, Subscription<K>>> for Receive<F, K, W> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<Option<F>, Subscription<K>>) -> Result<()> {
        let Record { key: foreign, value: subscription, timestamp, headers } = record;
        let row = match &foreign {
            Some(foreign) => {
                self.subscriptions.keep(foreign, &subscription, timestamp)?;
                match self.rows.get(foreign) {
                    Ok(row) => row,
                    Err(error) => return cx.failed(self.node, error),
                }
            }
            // A left row without a foreign key is told that there is none, and waits for nothing.
            None if subscription.instruction.keeps() => None,
            None => {
                cx.drop_record();
                return Ok(());
            }
        };
        let timestamp = row.as_ref().map_or(timestamp, |(_, time)| timestamp.max(*time));
        let value = match subscription.instruction {
            Instruction::Delete => return Ok(()),
            Instruction::DeleteAndAnswer => None,
            Instruction::AnswerAlways | Instruction::AnswerIfThere => row.map(|(row, _)| row),
        };
        let Subscription { hash, instruction, key, partition } = subscription;
        let quiet = value.is_none() && instruction == Instruction::AnswerIfThere;
        let response = Response { hash, value, quiet, partition };
        self.down.forward(cx, Record { key, value: response, timestamp, headers })
    }
}

/// Answers all subscribers of a row that changes.
pub(super) struct Answer<F: Data, K: Data, W> {
    pub(super) subscriptions: Subscriptions<F, K>,
    pub(super) versioned: bool,
    pub(super) down: Downstream<Record<K, Response<W>>>,
}

impl<F: Data, K: Data, W: Data> Forward<Record<F, Change<W>>> for Answer<F, K, W> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<F, Change<W>>) -> Result<()> {
        if self.versioned && cx.is_out_of_order() {
            cx.drop_record();
            return Ok(());
        }
        let prefix = self.subscriptions.prefix(&record.key)?;
        let mut table = self.subscriptions.table.borrow_mut();
        let to = behind(prefix.clone());
        let range = (Bound::Included(&prefix[..]), to.as_ref().map(Vec::as_slice));
        table.scan(range, false, &mut |_, subscription, _| {
            let Subscription { hash, key, partition, .. } = subscription.clone();
            let value = Response { hash, value: record.value.new.clone(), quiet: false, partition };
            let (timestamp, headers) = (record.timestamp, record.headers.clone());
            self.down.forward(cx, Record { key, value, timestamp, headers })?;
            Ok(ControlFlow::Continue(()))
        })
    }
}
