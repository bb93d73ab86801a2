//! `on_late`: the records that a windowed aggregation leaves out, or a join counts, since they come too late.

use std::sync::Arc;

use millstream_core::{Data, Downstream, Forward, NodeId, Record, Result, TaskBuilder, TaskContext};

use crate::kstream::KStream;
use crate::windows::{Window, Windowed};

/// Where late records go.
pub(crate) struct LateStream<K, V>(KStream<K, V>);

impl<K: Data, V: Data> LateStream<K, V> {
    /// The records of a stream that are late for an operator that is still to come, or for its windows.
    pub(crate) fn of<K2, W>(stream: &KStream<K2, W>) -> Arc<Self> {
        let builder = &stream.builder;
        Arc::new(LateStream(KStream {
            builder: builder.clone(),
            node: builder.node("KSTREAM-LATE", &[], &[]),
            port: builder.port(),
            key_changed: stream.key_changed,
            sources: stream.sources.clone(),
        }))
    }

    /// As a stream, for those who asked for it.
    pub(crate) fn stream(&self) -> KStream<K, V> {
        self.0.clone()
    }

    /// Several operators may lead to it: one windowed stream may be aggregated more than once.
    pub(crate) fn open(&self, task: &mut TaskBuilder<'_>) -> Late<K, V> {
        Late { down: task.open_shared(&self.0.port) }
    }
}

impl<K, V> LateStream<K, V> {
    /// Hangs it on the operator.
    pub(crate) fn follow<K2, W>(&self, stream: &KStream<K2, W>, operator: NodeId) {
        stream.builder.connect(self.0.node, operator);
    }
}

/// Late records in a task.
pub(crate) struct Late<K, V> {
    down: Downstream<Record<K, V>>,
}

/// A copy of a record that is late, if somebody wants late ones. It is asked for before the record is given away, so that
/// those that are not late are not copied.
#[inline]
pub(crate) fn copy_if<K: Clone, V: Clone, L>(
    late: &Option<L>,
    record: &Record<K, V>,
    is_late: impl FnOnce() -> bool,
) -> Option<Record<K, V>> {
    late.as_ref().filter(|_| is_late()).map(|_| record.clone())
}

/// Passes a late record on to those who want it.
#[inline]
pub(crate) fn pass_on<K: Clone, V: Clone>(
    cx: &mut TaskContext,
    late: &mut Option<Late<K, V>>,
    record: Option<Record<K, V>>,
) -> Result<()> {
    late.as_mut().zip(record).map_or(Ok(()), |(late, record)| late.down.forward(cx, record))
}

/// Passes a late record on, once for each of the windows that it has missed.
#[cold]
pub(crate) fn pass_on_in<K: Clone, V: Clone>(
    cx: &mut TaskContext,
    late: &mut Option<Late<Windowed<K>, V>>,
    record: Record<K, V>,
    windows: &[Window],
) -> Result<()> {
    let (Some(late), Some((last, others))) = (late, windows.split_last()) else { return Ok(()) };
    let mut pass_on = |record: Record<K, V>, window: Window| {
        let Record { key, value, timestamp, headers } = record;
        late.down.forward(cx, Record { key: Windowed { key, window }, value, timestamp, headers })
    };
    others.iter().try_for_each(|window| pass_on(record.clone(), *window))?;
    pass_on(record, *last)
}
