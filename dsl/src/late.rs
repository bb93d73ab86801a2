//! `on_late`: the records that a windowed aggregation leaves out, or a join counts, since they come too late.

use std::sync::Arc;

use millstream_core::{Data, Downstream, Forward, NodeId, Port, Record, Result, TaskBuilder, TaskContext};

use crate::kstream::KStream;

/// Where late records go.
pub(crate) struct LateStream<K, V> {
    node: NodeId,
    port: Port<Record<K, V>>,
}

impl<K: Data, V: Data> LateStream<K, V> {
    /// A stream of those records of a stream that are late for an operator that is still to come; `use_it` is given it.
    pub(crate) fn of<W>(stream: &KStream<K, W>, use_it: impl FnOnce(KStream<K, V>)) -> Arc<Self> {
        let builder = &stream.builder;
        let late = LateStream { node: builder.node("KSTREAM-LATE", &[], &[]), port: builder.port() };
        use_it(KStream {
            builder: builder.clone(),
            node: late.node,
            port: late.port.clone(),
            key_changed: stream.key_changed,
            sources: stream.sources.clone(),
        });
        Arc::new(late)
    }

    /// Hangs it on the operator.
    pub(crate) fn follow<W>(&self, stream: &KStream<K, W>, operator: NodeId) {
        stream.builder.connect(self.node, operator);
    }

    pub(crate) fn open(&self, task: &mut TaskBuilder<'_>) -> Late<K, V> {
        Late { down: task.open(&self.port), came: false }
    }
}

/// Late records in a task.
pub(crate) struct Late<K, V> {
    down: Downstream<Record<K, V>>,
    came: bool,
}

/// Counts a record, or one of its windows, as late.
#[inline]
pub(crate) fn too_late<K, V>(cx: &mut TaskContext, late: &mut Option<Late<K, V>>) {
    cx.drop_late_record();
    if let Some(late) = late {
        late.came = true;
    }
}

/// A copy of a record, should it turn out to be late.
#[inline]
pub(crate) fn keep<K: Clone, V: Clone>(late: &Option<Late<K, V>>, record: &Record<K, V>) -> Option<Record<K, V>> {
    late.as_ref().map(|_| record.clone())
}

/// Passes a record on if it was late, for one of its windows at least.
#[inline]
pub(crate) fn pass_on<K: Clone, V: Clone>(
    cx: &mut TaskContext,
    late: &mut Option<Late<K, V>>,
    kept: Option<Record<K, V>>,
) -> Result<()> {
    let Some((late, record)) = late.as_mut().zip(kept) else { return Ok(()) };
    if std::mem::take(&mut late.came) { late.down.forward(cx, record) } else { Ok(()) }
}
