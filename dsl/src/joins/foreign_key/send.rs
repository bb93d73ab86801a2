//! What a change of a left row makes of its subscriptions (semantics.md 54).

use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::Failure;
use crate::joins::foreign_key::row_hash::RowHash;
use crate::joins::foreign_key::subscription::{Instruction, Subscription};
use crate::keys::Keys;

pub(super) struct Send<K, V: Data, F: Data, Key> {
    node: NodeId,
    foreign_key: Arc<Key>,
    /// Rows without a partner are told so.
    left: bool,
    versioned: bool,
    hash: RowHash<V>,
    keys: [Keys<F>; 2],
    down: Downstream<Record<Option<F>, Subscription<K>>>,
}

impl<K, V: Data, F: Data, Key> Send<K, V, F, Key> {
    pub(super) fn new(
        node: NodeId,
        foreign_key: Arc<Key>,
        left: bool,
        versioned: bool,
        down: Downstream<Record<Option<F>, Subscription<K>>>,
    ) -> Self {
        let label: Arc<str> = "a foreign key".into();
        let keys = [Keys::new(&label), Keys::new(&label)];
        Send { node, foreign_key, left, versioned, hash: RowHash::default(), keys, down }
    }
}

impl<K, V, F, E, Key> Forward<Record<K, Change<V>>> for Send<K, V, F, Key>
where
    K: Data,
    V: Data,
    F: Data,
    E: Failure,
    Key: Fn(&K, &V) -> Result<Option<F>, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        if self.versioned && cx.is_out_of_order() {
            cx.drop_record();
            return Ok(());
        }
        let Record { key, value: Change { mut old, mut new }, timestamp, headers } = record;
        let foreign = |row: Option<&V>| row.map_or(Ok(None), |row| (self.foreign_key)(&key, row));
        let after = foreign(new.as_ref()).or_else(|error| {
            // It is no row.
            new = None;
            cx.failed(self.node, E::into(error)).map(|()| None)
        })?;
        let before = foreign(old.as_ref()).unwrap_or_else(|_| {
            old = None;
            None
        });
        let asks = new.as_ref().filter(|_| self.left || after.is_some());
        let hash = self.hash.of(asks)?;
        let partition = cx.partition();
        let down = &mut self.down;
        let mut send = |cx: &mut TaskContext, foreign: Option<F>, instruction| {
            let value = Subscription { hash, instruction, key: key.clone(), partition };
            down.forward(cx, Record { key: foreign, value, timestamp, headers: headers.clone() })
        };
        let same = match (&before, &after) {
            (Some(before), Some(after)) => *self.keys[0].encode(before)? == *self.keys[1].encode(after)?,
            (None, None) => true,
            _ => false,
        };
        if self.left {
            if old.is_none() && new.is_none() {
                return Ok(());
            }
            if before.is_some() && !same {
                send(cx, before, Instruction::Delete)?;
            }
            return send(cx, after, Instruction::AnswerAlways);
        }
        match (before, after) {
            (None, None) => {
                if old.is_some() || new.is_some() {
                    cx.drop_record();
                }
                Ok(())
            }
            (Some(before), None) => {
                if new.is_some() {
                    cx.drop_record();
                }
                send(cx, Some(before), Instruction::DeleteAndAnswer)
            }
            (Some(before), after) if !same => {
                send(cx, Some(before), Instruction::Delete)?;
                send(cx, after, Instruction::AnswerAlways)
            }
            (_, after) => send(cx, after, Instruction::AnswerIfThere),
        }
    }
}
