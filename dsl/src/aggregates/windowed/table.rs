//! The result of an aggregation in windows of a fixed size.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_core::{Change, Data, NodeId, Port, Record, Result, StoreId, Timestamp};
use millstream_state::WindowStart;

use super::aggregate::{SharedAggregate, WindowAggregate};
use super::close::WindowClock;
use super::fixed_windows::FixedWindows;
use super::lent::Lent;
use super::spec::WindowSpec;
use super::store::{TimedStore, WindowedRows};
use crate::builder::StreamsBuilder;
use crate::failure::Failure;
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, OwnStore, Rows};
use crate::late::LateStream;
use crate::windows::{EmitStrategy, Window, Windowed};

/// The result of a windowed aggregation under construction: its store and port, that several inputs may share.
pub(crate) struct WindowedTable<K, A> {
    pub(crate) id: StoreId,
    port: Port<Record<Windowed<K>, Change<A>>>,
    old_values: OldValues,
    pub(crate) store: Arc<str>,
    spec: WindowSpec<FixedWindows>,
    /// How much longer rows are kept than a record can need.
    spare: Timestamp,
    inputs: Arc<AtomicUsize>,
}

impl<K: Data<NonNull = K>, A: Data<NonNull = A>> WindowedTable<K, A> {
    pub(crate) fn add(builder: &StreamsBuilder, store: &str, spec: WindowSpec<FixedWindows>) -> Self {
        let least = spec.windows.retention();
        let problem = spec.windows.problem().or_else(|| spec.waits_for_ever());
        let retention = spec.kept(builder, store, problem, ("windows", "size and grace"), least);
        let format = spec.windows.format::<K::Serde, A::Serde>();
        let (kept, at_once) = (retention + spec.windows.needed_beyond(), spec.windows.at_once());
        let id = TimedStore::<WindowStart, K, A>::add(builder, store, kept, at_once, format);
        WindowedTable {
            id,
            port: builder.port(),
            old_values: OldValues::stored(),
            store: store.into(),
            spec,
            spare: retention - least,
            inputs: Arc::default(),
        }
    }

    /// Hangs a fold on an input.
    pub(crate) fn subscribe<V: Data, E: Failure + 'static>(
        &self,
        node: NodeId,
        stream: &KStream<K, V>,
        late: Option<Arc<LateStream<Windowed<K>, V>>>,
        f: impl Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) {
        let (id, out, wanted, store) = (self.id, self.port.clone(), self.old_values.clone(), self.store.clone());
        let (f, spec, id_of_node) = (Arc::new(f), self.spec, node);
        let (inputs, spare) = (self.inputs.clone(), self.spare);
        let input = inputs.fetch_add(1, Ordering::Relaxed);
        stream.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            let node = WindowAggregate {
                node,
                rows: TimedStore::open(task, id, &store),
                clock: WindowClock::open(task, &store, input, spec.emit),
                f: f.clone(),
                spec,
                send_old: wanted.wanted(),
                spare: (inputs.load(Ordering::Relaxed) > 1).then_some(spare),
                late: late.as_ref().map(|late| late.open(task)),
                found: None,
                steps: Vec::new(),
                undo: Vec::new(),
                down,
            };
            let node = Rc::new(RefCell::new(node));
            task.lifecycle(id_of_node, node.clone());
            Box::new(SharedAggregate(node))
        });
    }

    pub(crate) fn into_table(
        self,
        node: NodeId,
        sources: Arc<BTreeSet<NodeId>>,
        builder: StreamsBuilder,
    ) -> KTable<Windowed<K>, A> {
        let ahead = self.spec.emit == EmitStrategy::OnWindowClose;
        if self.spec.windows.close() {
            builder.closes_behind(node, self.spec.windows.grace());
        }
        let nature = Nature { history: None, ahead };
        let (id, store) = (self.id, self.store);
        let rows: Rows<Windowed<K>, A> = Arc::new(move |task| {
            let store = TimedStore::<WindowStart, K, A>::open(task, id, &store);
            Box::new(WindowedRows { store, place: |w: Window| WindowStart(w.start), types: PhantomData })
        });
        let (own, old_values) = (Some(OwnStore::Window(id)), self.old_values);
        KTable { builder, node, port: self.port, sources, stores: vec![id], own, rows, old_values, nature }
    }
}
