//! The result of an aggregation in sessions.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_core::{Change, Data, NodeId, Port, Record, Result, StoreFormat, StoreId, Timestamp};
use millstream_state::SessionBounds;

use super::close::WindowClock;
use super::lent::Lent;
use super::session_aggregate::{SessionAggregate, SharedSessions};
use super::spec::WindowSpec;
use super::store::{TimedStore, WindowedRows};
use crate::builder::StreamsBuilder;
use crate::failure::Failure;
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, OwnStore, Rows};
use crate::late::LateStream;
use crate::windows::{EmitStrategy, SessionWindows, Window, Windowed};

/// The result of a session aggregation under construction, that several inputs may share.
pub(crate) struct SessionTableBuilder<K, A> {
    pub(crate) id: StoreId,
    port: Port<Record<Windowed<K>, Change<A>>>,
    old_values: OldValues,
    pub(crate) store: Arc<str>,
    spec: WindowSpec<SessionWindows>,
    /// How much longer rows are kept than a record can need.
    spare: Timestamp,
    inputs: Arc<AtomicUsize>,
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> SessionTableBuilder<K, A> {
    pub(crate) fn add(builder: &StreamsBuilder, store: &str, spec: WindowSpec<SessionWindows>) -> Self {
        let least = spec.windows.gap + spec.windows.grace;
        let problem = spec.windows.bad.get().map(|bad| bad.to_string());
        let retention = spec.kept(builder, store, problem, ("sessions", "gap and grace"), least);
        // A session that ended gap and grace ago may still merge (semantics.md 41): a record a gap later, which is late by
        // itself, can bring it into a session that is open.
        let format = StoreFormat::of::<K::Serde, A::Serde>("session").with("session.gap.ms", spec.windows.gap);
        let id = TimedStore::<SessionBounds, K, A>::add(builder, store, retention + spec.windows.gap + 1, 1, format);
        SessionTableBuilder {
            id,
            port: builder.port(),
            old_values: OldValues::stored(),
            store: store.into(),
            spec,
            spare: retention - least,
            inputs: Arc::default(),
        }
    }

    pub(crate) fn subscribe<
        V: Data,
        E: Failure + 'static,
        M: Fn(&K, Option<A>, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    >(
        &self,
        node: NodeId,
        stream: &KStream<K, V>,
        late: Option<Arc<LateStream<Windowed<K>, V>>>,
        f: impl Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
        merge: Arc<M>,
    ) {
        let (id, out, wanted, store) = (self.id, self.port.clone(), self.old_values.clone(), self.store.clone());
        let (f, spec, id_of_node) = (Arc::new(f), self.spec, node);
        let (inputs, spare) = (self.inputs.clone(), self.spare);
        let input = inputs.fetch_add(1, Ordering::Relaxed);
        // What is final for one input is for all.
        let clock = if spec.windows.strict_end { 0 } else { input };
        stream.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            let node = SessionAggregate {
                node,
                rows: TimedStore::open(task, id, &store),
                clock: WindowClock::open(task, &store, clock, spec.emit),
                functions: (f.clone(), merge.clone()),
                spec,
                send_old: wanted.wanted(),
                spare: (inputs.load(Ordering::Relaxed) > 1).then_some(spare),
                late: late.as_ref().map(|late| late.open(task)),
                down,
            };
            let node = Rc::new(RefCell::new(node));
            task.lifecycle(id_of_node, node.clone());
            Box::new(SharedSessions(node))
        });
    }

    pub(crate) fn into_table(
        self,
        node: NodeId,
        sources: Arc<BTreeSet<NodeId>>,
        builder: StreamsBuilder,
    ) -> KTable<Windowed<K>, A> {
        let ahead = self.spec.emit == EmitStrategy::OnWindowClose;
        builder.closes_behind(node, self.spec.windows.closes_behind());
        let nature = Nature { history: None, ahead };
        let (id, store) = (self.id, self.store);
        let rows: Rows<Windowed<K>, A> = Arc::new(move |task| {
            let store = TimedStore::<SessionBounds, K, A>::open(task, id, &store);
            let place = |w: Window| SessionBounds { end: w.end, start: w.start };
            Box::new(WindowedRows { store, place, types: PhantomData })
        });
        let (own, old_values) = (Some(OwnStore::Session(id)), self.old_values);
        KTable { builder, node, port: self.port, sources, stores: vec![id], own, rows, old_values, nature }
    }
}
