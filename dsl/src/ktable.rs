//! `KTable`: the latest value per key, as a stream of changes and as rows to be looked up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::{Change, NodeId, Port, Record, Result, StoreId, TaskBuilder, Timestamp};

use crate::builder::StreamsBuilder;

/// A table: per key the latest value. Its changes flow to what hangs on it; its rows can be looked up by joins.
///
/// `V` has no null: a row that is deleted is no row.
pub struct KTable<K, V> {
    pub(crate) builder: StreamsBuilder,
    pub(crate) node: NodeId,
    pub(crate) port: Port<Record<K, Change<V>>>,
    pub(crate) sources: Arc<BTreeSet<NodeId>>,
    /// The stores that a look-up reads.
    pub(crate) stores: Vec<StoreId>,
    /// The one that has this table's rows, and no others.
    pub(crate) own: Option<OwnStore>,
    pub(crate) rows: Rows<K, V>,
    pub(crate) old_values: OldValues,
    pub(crate) nature: Nature,
}

/// The store of a table, by kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OwnStore {
    KeyValue(StoreId),
    Versioned(StoreId),
    Window(StoreId),
    Session(StoreId),
}

/// What an operator must know of the tables above it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Nature {
    /// How long a history the rows have, in milliseconds; changes may be out of order then (KIP-914).
    pub(crate) history: Option<Timestamp>,
    /// Whether a look-up finds rows that have not been passed on: windows that are emitted on close.
    pub(crate) ahead: bool,
}

impl Nature {
    pub(crate) fn is_versioned(self) -> bool {
        self.history.is_some()
    }
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        KTable {
            builder: self.builder.clone(),
            node: self.node,
            port: self.port.clone(),
            sources: self.sources.clone(),
            stores: self.stores.clone(),
            own: self.own,
            rows: self.rows.clone(),
            old_values: self.old_values.clone(),
            nature: self.nature,
        }
    }
}

/// Looks a row up in one task.
pub trait LookUp<K, V> {
    /// The row of `key` and its time. A row on which a function that computes it fails is none (semantics.md 76).
    ///
    /// # Errors
    /// When the key cannot be encoded, or a store cannot be read.
    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>>;

    /// The row of `key` that was valid at `time` and the time from which on it was; the present row of a table without
    /// history.
    ///
    /// # Errors
    /// As [`LookUp::get`].
    fn get_as_of(&self, key: &K, _time: Timestamp) -> Result<Option<(V, Timestamp)>> {
        self.get(key)
    }

    /// Shows `f` the value that [`LookUp::get_as_of`] gives, once, without a copy where the table has it at hand. `f` must
    /// not come back to the table.
    ///
    /// # Errors
    /// As [`LookUp::get`]; `f` was not called then.
    fn show_as_of(&self, key: &K, time: Timestamp, f: &mut dyn FnMut(Option<&V>)) -> Result<()> {
        let row = self.get_as_of(key, time)?;
        f(row.as_ref().map(|(value, _)| value));
        Ok(())
    }
}

/// Recipe for a look-up, run once per task.
pub(crate) type Rows<K, V> = Arc<dyn Fn(&mut TaskBuilder<'_>) -> Box<dyn LookUp<K, V>> + Send + Sync>;

/// Whether a table sends the old value with a change: only when something downstream asked (semantics.md 62).
#[derive(Clone)]
pub(crate) struct OldValues(Arc<Wanted>);

struct Wanted {
    wanted: AtomicBool,
    /// Whether the table has them, or can have them from the tables above.
    available: bool,
    above: Vec<OldValues>,
}

impl OldValues {
    /// For a table with a store of its own.
    pub(crate) fn stored() -> Self {
        OldValues(Arc::new(Wanted { wanted: AtomicBool::new(false), available: true, above: Vec::new() }))
    }

    /// For a table that computes them from those of the tables above.
    pub(crate) fn derived(above: &[&OldValues]) -> Self {
        let available = above.iter().all(|a| a.0.available);
        OldValues(Arc::new(Wanted {
            wanted: AtomicBool::new(false),
            available,
            above: above.iter().map(|a| (*a).clone()).collect(),
        }))
    }

    /// Asks for them, if they are to be had.
    pub(crate) fn ask(&self) -> bool {
        if self.0.available {
            self.0.wanted.store(true, Ordering::Relaxed);
            for above in &self.0.above {
                above.ask();
            }
        }
        self.0.available
    }

    /// Whether somebody asked: read when a task is built, after the program is frozen.
    pub(crate) fn wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed)
    }
}
