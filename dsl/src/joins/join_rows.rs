//! The buffer of one side of a stream-stream join in its task. Keys are encoded by the join, once per record.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Result, StoreFormat, StoreId, TaskBuilder, TaskContext, TimeSlot, Timestamp};
use millstream_state::JoinBuffer;

use crate::builder::{NewStore, StreamsBuilder};

pub(crate) struct JoinRows<V: Data> {
    buffer: Rc<RefCell<JoinBuffer<V::Serde>>>,
    /// The largest time of a record without a value: of those with one, the buffer's changelog knows.
    empty: TimeSlot,
}

impl<V: Data> JoinRows<V> {
    /// Adds the buffer; its changelog is deleted a day after the retention, and never compacted (semantics.md 11).
    pub(crate) fn add<K: Data>(builder: &StreamsBuilder, name: &str, retention: Timestamp) -> StoreId {
        let configs = [
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", retention.saturating_add(86_400_000).to_string()),
        ];
        let format = StoreFormat::of::<K::Serde, V::Serde>("join-buffer");
        let make = move |name: &str| JoinBuffer::<V::Serde>::new(name, V::Serde::default(), retention);
        builder.store_named(NewStore::new(name, format, configs, make))
    }

    pub(crate) fn open(task: &mut TaskBuilder<'_>, id: StoreId, name: &Arc<str>) -> Self {
        let empty = task.time(&format!("{name}.empty"));
        JoinRows { buffer: task.store(id), empty }
    }

    /// Keeps a record; `false` if it is too old.
    #[inline]
    pub(crate) fn put(&self, key: &[u8], time: Timestamp, value: V) -> Result<bool> {
        self.buffer.borrow_mut().put(key, time, value)
    }

    /// A record without a value moves the buffer's time all the same.
    pub(crate) fn observe(&self, cx: &mut TaskContext, time: Timestamp) {
        let time = cx.advance_time(self.empty, time);
        self.buffer.borrow_mut().observe(time);
    }

    /// Lets the buffer know what time it is, since after a restart it has only seen what it keeps, and returns it.
    #[inline]
    pub(crate) fn catch_up(&self, cx: &TaskContext) -> Timestamp {
        self.buffer.borrow_mut().observe(cx.time(self.empty))
    }

    /// Calls `f` for the records of a key within a range of times; the buffer must not be changed meanwhile. Returns how
    /// many there were.
    #[inline]
    pub(crate) fn for_each(
        &self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
        mut f: impl FnMut(Timestamp, &V) -> Result<()>,
    ) -> Result<usize> {
        let mut buffer = self.buffer.borrow_mut();
        let mut count = 0;
        for (time, value) in buffer.fetch(key, times)? {
            count += 1;
            f(time, value)?;
        }
        Ok(count)
    }
}
