//! Rows that remember what was committed: the slab under every table.
//!
//! ```text
//!   row changed ─► undo of the present generation ─ flush ─► undo of the flushed one ─ committed ─► gone
//!                         │                                        │
//!                         └──────────── rollback ◄─────────────────┘
//! ```

use millstream_core::Timestamp;

/// The present content of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<V> {
    /// `None` is no row (a tombstone until it is committed).
    pub value: Option<V>,
    /// The row's time.
    pub timestamp: Timestamp,
}

impl<V> Entry<V> {
    const EMPTY: Self = Entry { value: None, timestamp: -1 };
}

/// On a cache line of its own where it fits one: a probe of a large table then waits for memory once, not twice.
#[repr(align(64))]
struct Row<P, V> {
    place: P,
    entry: Entry<V>,
    /// The generation that changed it last; 0 is none since the last commit.
    changed: u32,
}

/// Index of a row.
pub(crate) type RowId = u32;

/// A slab of rows with a place each (what identifies them), and their undo information.
pub(crate) struct Rows<P, V> {
    rows: Vec<Row<P, V>>,
    free: Vec<RowId>,
    generation: u32,
    present: Vec<(RowId, Entry<V>)>,
    flushed: Vec<(RowId, Entry<V>)>,
    /// Without undo (global stores) changes are final at once.
    undo: bool,
}

impl<P, V: Clone> Rows<P, V> {
    pub(crate) fn new(undo: bool) -> Self {
        Rows { rows: Vec::new(), free: Vec::new(), generation: 1, present: Vec::new(), flushed: Vec::new(), undo }
    }

    /// A new, empty row. It is a change only when it is changed.
    pub(crate) fn insert(&mut self, place: P) -> RowId {
        let row = Row { place, entry: Entry::EMPTY, changed: 0 };
        match self.free.pop() {
            Some(id) => {
                self.rows[id as usize] = row;
                id
            }
            None => {
                self.rows.push(row);
                (self.rows.len() - 1) as RowId
            }
        }
    }

    #[inline]
    pub(crate) fn place(&self, id: RowId) -> &P {
        &self.rows[id as usize].place
    }

    #[inline]
    pub(crate) fn entry(&self, id: RowId) -> &Entry<V> {
        &self.rows[id as usize].entry
    }

    /// The row to be changed; what it was is kept for a rollback, once per generation.
    #[inline]
    pub(crate) fn change(&mut self, id: RowId) -> &mut Entry<V> {
        let row = &mut self.rows[id as usize];
        if row.changed != self.generation && self.undo {
            row.changed = self.generation;
            self.present.push((id, row.entry.clone()));
        }
        &mut row.entry
    }

    /// Sets a row without a trace: restore.
    pub(crate) fn load(&mut self, id: RowId, entry: Entry<V>) {
        self.rows[id as usize].entry = entry;
    }

    pub(crate) fn changed(&self) -> usize {
        self.present.len()
    }

    /// Calls `f` for every row changed in this generation, in the order of their first change, with what is in it now.
    /// The caller must call [`Rows::flushed`] afterwards.
    pub(crate) fn for_each_change<E>(
        &mut self,
        mut f: impl FnMut(&P, &mut Entry<V>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (id, _) in &self.present {
            let row = &mut self.rows[*id as usize];
            f(&row.place, &mut row.entry)?;
        }
        Ok(())
    }

    /// Starts a new generation.
    pub(crate) fn flushed(&mut self) {
        debug_assert!(self.flushed.is_empty(), "one commit is under way at most");
        std::mem::swap(&mut self.present, &mut self.flushed);
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }

    /// The flushed generation is committed. `remove` is told the rows that are gone for good.
    pub(crate) fn committed(&mut self, mut remove: impl FnMut(RowId, &P)) {
        for (id, _) in self.flushed.drain(..) {
            let row = &mut self.rows[id as usize];
            let changed_again = row.changed == self.generation;
            if !changed_again {
                row.changed = 0;
                if row.entry.value.is_none() {
                    remove(id, &row.place);
                    self.free.push(id);
                }
            }
        }
    }

    /// Back to the last commit. `remove` is told the rows that were not there.
    pub(crate) fn rollback(&mut self, mut remove: impl FnMut(RowId, &P)) {
        // The older generation last: its entries are what was committed.
        let mut touched = Vec::new();
        for (id, entry) in self.present.drain(..).chain(self.flushed.drain(..)) {
            let row = &mut self.rows[id as usize];
            row.entry = entry;
            row.changed = 0;
            touched.push(id);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let row = &self.rows[id as usize];
            if row.entry.value.is_none() {
                remove(id, &row.place);
                self.free.push(id);
            }
        }
    }

    /// Frees a row that no undo information speaks of; the caller has removed it from its indexes.
    pub(crate) fn free(&mut self, id: RowId) -> bool {
        let row = &mut self.rows[id as usize];
        if row.changed != 0 {
            return false;
        }
        row.entry = Entry::EMPTY;
        self.free.push(id);
        true
    }
}
