//! Responses: a foreign row on its way to the left rows that asked for it, and the join there.

use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Encoded, Forward, Headers, NodeId, Payload, Record, Result, Serde, SerdeContext,
    SerdeError, TaskContext,
};
use millstream_state::Entry;

use crate::failure::{Failure, row_or_none};
use crate::joins::foreign_key::row_hash::{NO_HASH, RowHash, put_hash};
use crate::ktable::LookUp;
use crate::stored::Stored;

/// An answer to a subscription.
#[derive(Debug, Clone)]
pub(crate) struct Response<W> {
    /// The hash that came with the question.
    pub(super) hash: Option<u128>,
    /// The foreign row.
    pub(super) value: Option<W>,
    /// Where there is no row: Kafka Streams would not have answered. What this deletes is to be there, then.
    pub(super) quiet: bool,
    /// The partition of who asked: it goes there. It is not written.
    pub(super) partition: i32,
}

const VERSION: u8 = 0;

/// What is said in front of a row.
const NO_ROW: u8 = 0;
const ROW: u8 = 1;
const QUIET: u8 = 2;

/// Kafka Streams' format: version, hash if there is one, the foreign row if there is one.
#[derive(Debug, Clone)]
pub(crate) struct ResponseSerde<S>(pub(super) S);

impl<S: Serde> Serde for ResponseSerde<S>
where
    S::Value: Clone,
{
    type Value = Response<S::Value>;

    fn serialize(
        &self,
        response: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        put_hash(response.hash, VERSION, out);
        // A row may be encoded in no bytes at all: whether there is one is said in front of it.
        out.push(match response.value {
            Some(_) => ROW,
            None if response.quiet => QUIET,
            None => NO_ROW,
        });
        if let Some(value) = &response.value {
            let _bytes = self.0.serialize(value, cx, headers, out)?;
        }
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let all = bytes.ok_or_else(SerdeError::null::<Self::Value>)?.to_bytes();
        let wrong = || SerdeError::invalid("a response that cannot be read");
        let version = *all.first().filter(|version| **version & !NO_HASH == VERSION).ok_or_else(wrong)?;
        let hash_len = if version & NO_HASH == 0 { 16 } else { 0 };
        let hash = all.get(1..1 + hash_len).ok_or_else(wrong)?.first_chunk().map(|hash| u128::from_be_bytes(*hash));
        let (value, quiet) = match *all.get(1 + hash_len).ok_or_else(wrong)? {
            NO_ROW => (None, false),
            ROW => (Some(self.0.deserialize(Some(Payload::from(&all.slice(2 + hash_len..))), cx, headers)?), false),
            QUIET => (None, true),
            _ => return Err(wrong()),
        };
        Ok(Response { hash, value, quiet, partition: 0 })
    }
}

/// Joins responses with the rows that asked, if these are still the same, and keeps the results.
pub(super) struct ResponseJoin<K: Data, V: Data, Key, F, O: Data> {
    pub(super) node: NodeId,
    pub(super) rows: Box<dyn LookUp<K, V>>,
    pub(super) hash: RowHash<V>,
    pub(super) foreign_key: Arc<Key>,
    /// Rows without a partner have results.
    pub(super) left: bool,
    pub(super) f: Arc<F>,
    pub(super) results: Stored<K, O>,
    pub(super) send_old: bool,
    pub(super) down: Downstream<Record<K, Change<O>>>,
}

impl<K: Data, V: Data, Key, F, O: Data> ResponseJoin<K, V, Key, F, O> {
    /// Whether a row is the one that asked.
    fn asked<T, E>(&mut self, key: &K, row: Option<&V>, hash: Option<u128>) -> Result<bool>
    where
        Key: Fn(&K, &V) -> Result<Option<T>, E>,
    {
        match row {
            // Rows without a foreign key have asked as if they were gone: one may have followed another without a word.
            Some(row) if hash.is_none() && !self.left => Ok(matches!((self.foreign_key)(key, row), Ok(None))),
            row => Ok(self.hash.of(row)? == hash),
        }
    }
}

impl<K, V, W, T, E, Key, F, O> Forward<Record<K, Response<W>>> for ResponseJoin<K, V, Key, F, O>
where
    K: Data,
    V: Data,
    W: Data,
    E: Failure,
    Key: Fn(&K, &V) -> Result<Option<T>, E>,
    F: Fn(&K, &V, Option<&W>) -> Result<Option<O>, E>,
    O: Data,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Response<W>>) -> Result<()> {
        let Record { key, value: response, timestamp, headers } = record;
        let row = match self.rows.get(&key) {
            // One whose foreign key cannot be found is no row (semantics.md 76).
            Ok(row) => row.map(|(row, _)| row).filter(|row| !E::POSSIBLE || (self.foreign_key)(&key, row).is_ok()),
            Err(error) => return cx.failed(self.node, error),
        };
        if !self.asked(&key, row.as_ref(), response.hash)? {
            // Stale: the row has changed, and asked again.
            cx.drop_record();
            return Ok(());
        }
        if response.quiet && self.results.get(&key)?.is_none() {
            return Ok(());
        }
        let joined = row.map_or(Ok(None), |row| (self.f)(&key, &row, response.value.as_ref()));
        let failed = joined.is_err();
        let new = row_or_none(cx, self.node, joined)?;
        let kept = Entry { value: new.clone(), timestamp };
        let old = self.results.change(&key, |entry| std::mem::replace(entry, kept))?.value;
        if failed && old.is_none() {
            return Ok(());
        }
        let old = old.filter(|_| self.send_old);
        self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers })
    }
}
