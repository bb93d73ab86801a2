//! A stream joined with itself: one buffer instead of two, the results in the order of the plain join (semantics.md 27).

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{Data, Downstream, Forward, NodeId, Record, Result, TaskContext, Timestamp};

use crate::failure::Failure;
use crate::joins::join_rows::JoinRows;
use crate::joins::stream_joined::StreamJoined;
use crate::keys::Keys;
use crate::kstream::KStream;
use crate::late::{Late, copy_if, pass_on};
use crate::windows::JoinWindows;

/// Joins a stream with itself; `W` is `V` by another name.
pub(crate) fn add<K: Data, V: Data, W: Data, K2: Clone + 'static, O: Clone + 'static, E: Failure + 'static>(
    stream: &KStream<K, V>,
    name: &str,
    joined: StreamJoined<K, V, W>,
    f: impl Fn(K, Option<&V::NonNull>, Option<&W::NonNull>) -> Result<Option<(K2, O)>, E> + Send + Sync + 'static,
) -> KStream<K2, O> {
    let (builder, windows) = (&stream.builder, joined.windows);
    let late = joined.late_of_self(stream);
    builder.warn_of_windows_of_no_time(name, windows);
    builder.no_bad_duration(&format!("join `{name}`"), windows.bad);
    let store = Arc::<str>::from(format!("{name}-left"));
    let id = JoinRows::<V::NonNull>::add::<K>(builder, &store, windows.retention());
    let node = builder.node("KSTREAM-JOIN", &[stream.node], &[id]);
    builder.copartition(&format!("join `{name}`"), stream.sources.as_ref().clone());
    late.iter().for_each(|late| late.follow(stream, node));
    let port = builder.port();
    let (out, f) = (port.clone(), Arc::new(f));
    stream.port.subscribe(move |task| {
        let down = task.open(&out);
        let rows = JoinRows::<V::NonNull>::open(task, id, &store);
        let keys = Keys::<K>::new(&store);
        let late = late.as_ref().map(|late| late.open(task));
        Box::new(SelfJoin { node, keys, rows, windows, f: f.clone(), late, down, right: PhantomData::<fn(W)> })
    });
    KStream { builder: builder.clone(), node, port, key_changed: false, sources: stream.sources.clone() }
}

struct SelfJoin<K: Data, V, L: Data, W, F, K2, O> {
    node: NodeId,
    keys: Keys<K>,
    rows: JoinRows<L>,
    windows: JoinWindows,
    f: Arc<F>,
    late: Option<Late<K, V>>,
    down: Downstream<Record<K2, O>>,
    right: PhantomData<fn(W)>,
}

impl<K, V, W, E, F, K2, O> Forward<Record<K, V>> for SelfJoin<K, V, V::NonNull, W, F, K2, O>
where
    K: Data,
    V: Data,
    W: Data,
    E: Failure,
    F: Fn(K, Option<&V::NonNull>, Option<&W::NonNull>) -> Result<Option<(K2, O)>, E>,
    K2: Clone,
    O: Clone,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let late = copy_if(&self.late, &record, || self.is_late(cx, &record));
        self.take(cx, record)?;
        pass_on(cx, &mut self.late, late)
    }
}

impl<K, V, W, E, F, K2, O> SelfJoin<K, V, V::NonNull, W, F, K2, O>
where
    K: Data,
    V: Data,
    W: Data,
    E: Failure,
    F: Fn(K, Option<&V::NonNull>, Option<&W::NonNull>) -> Result<Option<(K2, O)>, E>,
    K2: Clone,
    O: Clone,
{
    /// Whether a record is counted as late.
    fn is_late(&self, cx: &TaskContext, record: &Record<K, V>) -> bool {
        if record.key.as_non_null().is_none() || record.value.as_non_null().is_none() {
            return false;
        }
        let now = self.rows.catch_up(cx).max(record.timestamp);
        let open = self.windows.before.max(self.windows.after);
        self.windows.is_late(record.timestamp, open, now) || self.windows.is_forgotten(record.timestamp, now)
    }

    /// Joins a record with those before it and with itself.
    fn take(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let has_key = key.as_non_null().is_some();
        let Some(value) = value.into_non_null().filter(|_| has_key) else {
            if has_key {
                self.rows.observe(cx, timestamp);
            }
            cx.drop_record();
            return Ok(());
        };
        let now = self.rows.catch_up(cx).max(timestamp);
        if self.windows.is_late(timestamp, self.windows.before.max(self.windows.after), now) {
            cx.drop_late_record();
            return Ok(());
        }
        let (node, f, down) = (self.node, &*self.f, &mut self.down);
        let mut emit = |left: &V::NonNull, right: &V::NonNull, time| {
            let joined = f(key.clone(), Some(left), (right as &dyn Any).downcast_ref()).map_err(E::into)?;
            let Some((key, value)) = joined else { return Ok(()) };
            down.forward(cx, Record { key, value, timestamp: timestamp.max(time), headers: headers.clone() })
        };
        let JoinWindows { before, after, .. } = self.windows;
        let around = |before: Timestamp, after: Timestamp| (timestamp - before).max(0)..=timestamp + after;
        let bytes = self.keys.encode(&key)?;
        let first = self.rows.for_each(&bytes, around(before, after), |time, other| emit(&value, other, time));
        // From here on it is among the others itself, also when the function has failed on those that were there.
        let kept = self.rows.put(&bytes, timestamp, value.clone())?;
        let met = first
            .and_then(|_| self.rows.for_each(&bytes, around(after, before), |time, other| emit(other, &value, time)));
        if !kept {
            cx.drop_late_record();
        }
        met.map(drop).or_else(|error| cx.failed(node, error))
    }
}
