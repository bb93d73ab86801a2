//! Rows that remember what was committed: the slab under every table.
//!
//! ```text
//!   row changed ─► undo of the present generation ─ flush ─► undo of the flushed one ─ committed ─► gone
//!                         │                                        │
//!                         └──────────── rollback ◄─────────────────┘
//! ```

use std::num::NonZeroU32;

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
    pub(crate) const EMPTY: Self = Entry { value: None, timestamp: -1 };
}

/// The part of a row that changes, and that a rollback brings back.
pub(crate) trait Content: Clone {
    /// Whether the row is there: if not, it is a tombstone until that is committed.
    fn is_there(&self) -> bool;
    /// Lets go of the value.
    fn clear(&mut self);
}

impl<V: Clone> Content for Entry<V> {
    #[inline]
    fn is_there(&self) -> bool {
        self.value.is_some()
    }

    fn clear(&mut self) {
        *self = Entry::EMPTY;
    }
}

/// On a cache line of its own where it fits one: a probe of a large table then waits for memory once, not twice.
#[repr(align(64))]
struct Row<I, C> {
    identity: I,
    content: C,
    /// The generation that changed it last; 0 is none since the last commit.
    changed: u32,
}

/// Number of a row, from 1: an `Option` of it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowId(NonZeroU32);

impl RowId {
    #[inline]
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A slab of rows with an identity each (what never changes in them), and their undo information.
pub(crate) struct Rows<I, C> {
    rows: Vec<Row<I, C>>,
    free: Vec<RowId>,
    generation: u32,
    present: Vec<(RowId, C)>,
    flushed: Vec<(RowId, C)>,
    /// Without undo (global stores) changes are final at once.
    undo: bool,
}

impl<I, C: Content> Rows<I, C> {
    pub(crate) fn new(undo: bool) -> Self {
        Rows { rows: Vec::new(), free: Vec::new(), generation: 1, present: Vec::new(), flushed: Vec::new(), undo }
    }

    /// A new row. It is a change only when it is changed.
    pub(crate) fn insert(&mut self, identity: I, content: C) -> RowId {
        let row = Row { identity, content, changed: 0 };
        if let Some(id) = self.free.pop() {
            self.rows[id.index()] = row;
            return id;
        }
        self.rows.push(row);
        RowId(NonZeroU32::MIN.saturating_add((self.rows.len() - 1) as u32))
    }

    #[inline]
    pub(crate) fn identity(&self, id: RowId) -> &I {
        &self.rows[id.index()].identity
    }

    #[inline]
    pub(crate) fn content(&self, id: RowId) -> &C {
        &self.rows[id.index()].content
    }

    /// The row to be changed; what it was is kept for a rollback, once per generation.
    #[inline]
    pub(crate) fn change(&mut self, id: RowId) -> &mut C {
        let row = &mut self.rows[id.index()];
        if row.changed != self.generation && self.undo {
            row.changed = self.generation;
            self.present.push((id, row.content.clone()));
        }
        &mut row.content
    }

    /// A row, to be changed without a trace: restore, and what means the same as before.
    #[inline]
    pub(crate) fn parts(&mut self, id: RowId) -> (&I, &mut C) {
        let row = &mut self.rows[id.index()];
        (&row.identity, &mut row.content)
    }

    /// Reads the row, for the processor's cache.
    #[inline]
    pub(crate) fn touch(&self, id: RowId) {
        let row = &self.rows[id.index()];
        std::hint::black_box((row.changed, row.content.is_there()));
    }

    /// Whether the rows are more than a processor's cache holds.
    pub(crate) fn is_large(&self) -> bool {
        self.rows.len() > 8192
    }

    pub(crate) fn changed(&self) -> usize {
        self.present.len()
    }

    /// Calls `f` for every row changed in this generation, in the order of their first change, with what was in it
    /// before; not for those that neither were nor are there. `ahead` is called for some rows before they come, to read
    /// what belongs to them. The caller must call [`Rows::flushed`] afterwards.
    pub(crate) fn for_each_change<E>(
        &mut self,
        ahead: impl Fn(&I),
        mut f: impl FnMut(&mut Self, RowId, &C) -> Result<(), E>,
    ) -> Result<(), E> {
        let present = std::mem::take(&mut self.present);
        let result = present.chunks(32).try_for_each(|chunk| {
            chunk.iter().for_each(|(id, _)| self.touch(*id));
            chunk.iter().for_each(|(id, _)| ahead(self.identity(*id)));
            chunk.iter().try_for_each(|(id, was)| {
                let there = was.is_there() || self.content(*id).is_there();
                if there { f(self, *id, was) } else { Ok(()) }
            })
        });
        self.present = present;
        result
    }

    /// Starts a new generation.
    pub(crate) fn flushed(&mut self) {
        debug_assert!(self.flushed.is_empty(), "one commit is under way at most");
        std::mem::swap(&mut self.present, &mut self.flushed);
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }

    /// The flushed generation is committed. `remove` is told the rows that are gone for good.
    pub(crate) fn committed(&mut self, mut remove: impl FnMut(RowId, &I)) {
        let mut flushed = std::mem::take(&mut self.flushed);
        for chunk in flushed.chunks(32) {
            chunk.iter().for_each(|(id, _)| self.touch(*id));
            for (id, _) in chunk {
                let row = &mut self.rows[id.index()];
                let changed_again = row.changed == self.generation;
                if !changed_again {
                    row.changed = 0;
                    if !row.content.is_there() {
                        remove(*id, &row.identity);
                        self.free.push(*id);
                    }
                }
            }
        }
        flushed.clear();
        self.flushed = flushed;
    }

    /// Back to the last commit. `f` is told every row that was changed, as it is again: if it is not there, it is gone
    /// for good.
    pub(crate) fn rollback(&mut self, mut f: impl FnMut(RowId, &I, &C)) {
        // The older generation last: its contents are what was committed.
        let mut touched = Vec::new();
        for (id, content) in self.present.drain(..).chain(self.flushed.drain(..)) {
            let row = &mut self.rows[id.index()];
            row.content = content;
            row.changed = 0;
            touched.push(id);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let row = &self.rows[id.index()];
            f(id, &row.identity, &row.content);
            if !row.content.is_there() {
                self.free.push(id);
            }
        }
    }

    /// Frees a row that no undo information speaks of; the caller removes it from its indexes.
    pub(crate) fn free(&mut self, id: RowId) -> bool {
        let row = &mut self.rows[id.index()];
        if row.changed != 0 {
            return false;
        }
        row.content.clear();
        self.free.push(id);
        true
    }
}
