//! Responses: a foreign row on its way to the left rows that asked for it, and the join there.

use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{
    Data, Downstream, Encoded, Forward, Headers, NodeId, Payload, Record, Result, Serde, SerdeContext, SerdeError,
    TaskContext,
};

use crate::failure::Failure;
use crate::joins::foreign_key::row_hash::{NO_HASH, RowHash, put_hash};
use crate::ktable::LookUp;

/// An answer to a subscription.
#[derive(Debug, Clone)]
pub(crate) struct Response<W> {
    /// The hash that came with the question.
    pub(super) hash: Option<u128>,
    /// The foreign row.
    pub(super) value: Option<W>,
    /// The partition of who asked: it goes there. It is not written.
    pub(super) partition: i32,
}

const VERSION: u8 = 0;

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
        out.push(response.value.is_some().into());
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
        let value = match all.get(1 + hash_len).ok_or_else(wrong)? {
            0 => None,
            _ => Some(self.0.deserialize(Some(Payload::from(&all.slice(2 + hash_len..))), cx, headers)?),
        };
        Ok(Response { hash, value, partition: 0 })
    }
}

/// Joins responses with the rows that asked, if these are still the same.
pub(super) struct ResponseJoin<K, V: Data, F, O> {
    node: NodeId,
    rows: Box<dyn LookUp<K, V>>,
    hash: RowHash<V>,
    f: Arc<F>,
    down: Downstream<Record<K, Option<O>>>,
    result: PhantomData<O>,
}

impl<K, V: Data, F, O> ResponseJoin<K, V, F, O> {
    pub(super) fn new(
        node: NodeId,
        rows: Box<dyn LookUp<K, V>>,
        f: Arc<F>,
        down: Downstream<Record<K, Option<O>>>,
    ) -> Self {
        ResponseJoin { node, rows, hash: RowHash::default(), f, down, result: PhantomData }
    }
}

impl<K, V, W, E, F, O> Forward<Record<K, Response<W>>> for ResponseJoin<K, V, F, O>
where
    K: Data,
    V: Data,
    W: Data,
    E: Failure,
    F: Fn(&V, Option<&W>) -> Result<Option<O>, E>,
    O: Data,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Response<W>>) -> Result<()> {
        let row = match self.rows.get(&record.key) {
            Ok(row) => row.map(|(row, _)| row),
            Err(error) => return cx.failed(self.node, error),
        };
        if self.hash.of(row.as_ref())? != record.value.hash {
            // Stale: the row has changed, and asked again.
            cx.drop_record();
            return Ok(());
        }
        match row.map_or(Ok(None), |row| (self.f)(&row, record.value.value.as_ref())) {
            Ok(joined) => self.down.forward(cx, record.with_value(joined)),
            Err(error) => cx.failed(self.node, error.into()),
        }
    }
}
