//! Stream-table join with grace: stream records wait until their time has passed by the grace, and meet the table in the
//! order of time (KIP-923).

use std::cell::RefCell;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{
    Data, END_OF_TIME, Encoded, Forward, Headers, Lifecycle, NO_TIME, Payload, Record, Result, Serde, SerdeContext,
    SerdeError, StoreFormat, StoreId, TaskBuilder, TaskContext, TimeSlot, Timestamp,
};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::framed;
use crate::keys::Keys;

/// A place in the buffer: a time, the record's key, a number, each time and number in so many bytes.
const TIME: usize = size_of::<Timestamp>();
const NUMBER: usize = size_of::<i64>();

/// A record that waits: its value and headers.
#[derive(Debug, Clone)]
pub(crate) struct Waiting<V> {
    value: V,
    headers: Headers,
}

/// In front of a join: lets records wait.
pub(crate) struct GraceBuffer<K: Data, V: Data, N> {
    table: Rc<RefCell<KeyValueTable<WaitingSerde<V::Serde>>>>,
    keys: Keys<K>,
    grace: Timestamp,
    /// The largest time of a record that has waited.
    observed: TimeSlot,
    /// How many have waited: numbers those of one key and time.
    count: TimeSlot,
    join: N,
}

/// Adds the store of the records that wait.
pub(crate) fn add_store<K: Data, V: Data>(builder: &StreamsBuilder, name: &str) -> StoreId {
    // The first format numbered records in 4 bytes.
    let format = StoreFormat::of::<K::Serde, WaitingSerde<V::Serde>>("grace-buffer-2");
    let make = |name: &str| KeyValueTable::new(name, WaitingSerde(V::Serde::default()), true);
    builder.store_named(NewStore::new(name, format, [("cleanup.policy", "compact")], make))
}

impl<K: Data, V: Data, N: Forward<Record<K, V>>> GraceBuffer<K, V, N> {
    pub(crate) fn open(task: &mut TaskBuilder<'_>, id: StoreId, name: &Arc<str>, grace: Timestamp, join: N) -> Self {
        let observed = task.time(&format!("{name}.stream-time"));
        let count = task.time(&format!("{name}.count"));
        GraceBuffer { table: task.store(id), keys: Keys::new(name), grace, observed, count, join }
    }

    fn process(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let late = cx.time(self.observed).saturating_sub(self.grace) > record.timestamp;
        if late || record.key.as_non_null().is_none() || record.value.as_non_null().is_none() {
            return self.join.forward(cx, record);
        }
        let now = cx.advance_time(self.observed, record.timestamp);
        let number = cx.time(self.count) + 1;
        cx.set_time(self.count, number);
        let Record { key, value, timestamp, headers } = record;
        {
            let mut place = self.keys.encode_behind(&timestamp.to_be_bytes(), &key)?;
            place.extend(number.to_be_bytes());
            let waiting = Waiting { value, headers };
            *self.table.borrow_mut().change(&place)? = Entry { value: Some(waiting), timestamp };
        }
        self.release(cx, now - self.grace)
    }

    /// Lets the records up to a time go, in the order of time, then key, then as they came.
    fn release(&mut self, cx: &mut TaskContext, up_to: Timestamp) -> Result<()> {
        if up_to <= NO_TIME {
            return Ok(());
        }
        let end = up_to.saturating_add(1).to_be_bytes();
        let mut leaving: Vec<(Vec<u8>, Waiting<V>, Timestamp)> = Vec::new();
        self.table.borrow_mut().scan((Bound::Unbounded, Bound::Excluded(&end)), false, &mut |key, waiting, time| {
            leaving.push((key.to_vec(), waiting.clone(), time));
            Ok(ControlFlow::Continue(()))
        })?;
        for (place, Waiting { value, headers }, timestamp) in leaving {
            *self.table.borrow_mut().change(&place)? = Entry { value: None, timestamp };
            let key = self.keys.decode(&place[TIME..place.len() - NUMBER])?;
            cx.passing_on(|cx| self.join.forward(cx, Record { key, value, timestamp, headers }))?;
        }
        Ok(())
    }
}

impl<K: Data, V: Data, N: Forward<Record<K, V>>> Lifecycle for GraceBuffer<K, V, N> {
    fn due(&self, _: &TaskContext) -> Timestamp {
        let mut due = Timestamp::MAX;
        let read = self.table.borrow_mut().scan((Bound::Unbounded, Bound::Unbounded), false, &mut |_, _, time| {
            due = time.saturating_add(self.grace);
            Ok(ControlFlow::Break(()))
        });
        // Rows that cannot be read are looked for at once: whoever does it returns the error.
        read.map_or(NO_TIME, |()| due)
    }

    fn on_time(&mut self, cx: &mut TaskContext, time: Timestamp) -> Result<()> {
        let now = cx.advance_time(self.observed, time);
        self.release(cx, now - self.grace)
    }

    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        self.release(cx, END_OF_TIME)
    }
}

/// The buffer as records and the end of the input both reach it.
pub(crate) struct GraceJoin<N>(pub(crate) Rc<RefCell<N>>);

impl<K: Data, V: Data, N: Forward<Record<K, V>>> Forward<Record<K, V>> for GraceJoin<GraceBuffer<K, V, N>> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        self.0.borrow_mut().process(cx, record)
    }
}

/// The value behind its length, then headers.
#[derive(Debug, Clone)]
pub(crate) struct WaitingSerde<S>(S);

impl<S: Serde> Serde for WaitingSerde<S>
where
    S::Value: Clone,
{
    type Value = Waiting<S::Value>;

    fn serialize(
        &self,
        waiting: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        framed::put(&self.0, Some(&waiting.value), cx, headers, out)?;
        out.extend(waiting.headers.section());
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let mut rest = bytes.ok_or_else(SerdeError::null::<Self::Value>)?.to_bytes();
        let value = framed::take(&self.0, &mut rest, cx, headers)?;
        let value = value.ok_or_else(|| SerdeError::invalid("a waiting record without a value"))?;
        Ok(Waiting { value, headers: Headers::from_section(&rest) })
    }

    fn detach(&self, waiting: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        self.0.detach(&mut waiting.value, copy);
    }
}
