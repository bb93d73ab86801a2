//! Rows that remember what was committed: the slab under every table.
//!
//! ```text
//!   row changed ─► undo of the present generation ─ flush ─► undo of the flushed one ─ committed ─► gone
//!                         │                                        │
//!                         └──────────── rollback ◄─────────────────┘
//! ```
//!
//! Rows that are on disk too may leave memory when they are needed for nothing: when no undo speaks of them, and the disk has
//! what was committed.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet};
use millstream_core::{Isolation, KEYS_AHEAD, Timestamp};

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
    /// The generation that changed it last: behind the committed one, there is undo information.
    changed: u32,
    /// It waits to be removed when the disk has its deletion.
    leaving: bool,
    /// It was asked for since it was last looked at whether it may leave.
    recent: bool,
}

/// Number of a row, from 1: an `Option` of it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    committed: u32,
    present: Vec<(RowId, C)>,
    flushed: Vec<(RowId, C)>,
    /// Rows that were not there when they were flushed: they go for good with the commit. Without undo, rows that were changed and may
    /// not be there.
    gone: Vec<RowId>,
    /// Without undo (global stores) changes are final at once.
    undo: bool,
    disk: Option<Generations>,
    /// The row that is looked at next whether it may leave.
    hand: usize,
}

/// Rows as an isolation sees them.
pub(crate) struct Seen<'a, I, C> {
    rows: &'a Rows<I, C>,
    /// Of those that have changed since the last commit and are not to be seen so, what it made permanent.
    committed: HashMap<RowId, &'a C>,
}

impl<'a, I, C: Content> Seen<'a, I, C> {
    /// The content of one of the rows.
    pub(crate) fn content(&self, id: RowId) -> &'a C {
        self.committed.get(&id).copied().unwrap_or_else(|| self.rows.content(id))
    }
}

/// Which generations the disk has. Deletions stay until it has them, or the row before would be found there.
#[derive(Default)]
struct Generations {
    /// Committed, and not written yet.
    unwritten: VecDeque<u32>,
    written: u32,
    deleted: VecDeque<(u32, RowId)>,
}

impl Generations {
    /// Lets a row that is not there leave when the disk has everything that was done to it.
    fn delete<I, C: Content>(&mut self, committed: u32, id: RowId, row: &mut Row<I, C>) {
        if !row.content.is_there() && !row.leaving {
            row.leaving = true;
            self.deleted.push_back((row.changed.max(committed), id));
        }
    }
}

impl<I, C: Content> Rows<I, C> {
    pub(crate) fn new(undo: bool) -> Self {
        Rows {
            rows: Vec::new(),
            free: Vec::new(),
            generation: 1,
            committed: 0,
            present: Vec::new(),
            flushed: Vec::new(),
            gone: Vec::new(),
            undo,
            disk: None,
            hand: 0,
        }
    }

    /// From now on what is committed is also written to a disk, which [`Rows::written`] tells of.
    pub(crate) fn attach(&mut self) {
        self.disk = Some(Generations::default());
    }

    /// A new row. It is a change only when it is changed.
    pub(crate) fn insert(&mut self, identity: I, content: C) -> RowId {
        let row = Row { identity, content, changed: 0, leaving: false, recent: true };
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

    /// Some rows as they are to be seen. If one of them has changed since the last commit, that takes one look at all undo.
    pub(crate) fn seen(&self, isolation: Isolation, rows: impl Iterator<Item = RowId>) -> Seen<'_, I, C> {
        let is_hidden = |id: &RowId| self.rows[id.index()].changed > self.committed;
        let mut hidden: HashSet<RowId> = match isolation {
            Isolation::ReadCommitted => rows.filter(is_hidden).collect(),
            Isolation::ReadUncommitted => HashSet::new(),
        };
        let mut committed = HashMap::with_capacity(hidden.len());
        // The older generation first: its contents are what was committed.
        for (id, content) in self.flushed.iter().chain(&self.present) {
            if hidden.is_empty() {
                break;
            }
            if hidden.remove(id) {
                committed.insert(*id, content);
            }
        }
        Seen { rows: self, committed }
    }

    /// Places of rows, free ones among them.
    pub(crate) fn slots(&self) -> usize {
        self.rows.len()
    }

    /// The row in a place; its identity means something if an index knows the row.
    pub(crate) fn slot(&self, place: usize) -> RowId {
        RowId(NonZeroU32::MIN.saturating_add(place as u32))
    }

    /// As [`Rows::content`], for somebody who asked for the row.
    #[inline]
    pub(crate) fn read(&mut self, id: RowId) -> &C {
        let row = &mut self.rows[id.index()];
        // A row that is only read stays as the memory has it.
        if !row.recent {
            row.recent = true;
        }
        &row.content
    }

    /// The row to be changed; what it was is kept for a rollback, once per generation.
    #[inline]
    pub(crate) fn change(&mut self, id: RowId) -> &mut C {
        let row = &mut self.rows[id.index()];
        row.recent = true;
        if row.changed != self.generation && self.undo {
            row.changed = self.generation;
            self.present.push((id, row.content.clone()));
        }
        if !self.undo {
            self.gone.push(id);
        }
        &mut row.content
    }

    /// Whether there is something for [`Rows::finish`].
    #[inline]
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.undo && !self.gone.is_empty()
    }

    /// Without undo and a disk, lets go of the rows that were changed and are not there: `remove` is told which.
    pub(crate) fn finish(&mut self, mut remove: impl FnMut(RowId, &I)) {
        self.gone.sort_unstable();
        self.gone.dedup();
        for id in self.gone.drain(..) {
            let row = &self.rows[id.index()];
            if !row.content.is_there() && self.disk.is_none() {
                remove(id, &row.identity);
                self.free.push(id);
            }
        }
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

    /// Reads the places that the next new rows take.
    pub(crate) fn touch_free(&self) {
        self.free.iter().rev().take(KEYS_AHEAD).for_each(|id| self.touch(*id));
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
        self.gone.clear();
        let result = present.chunks(32).try_for_each(|chunk| {
            chunk.iter().for_each(|(id, _)| self.touch(*id));
            chunk.iter().for_each(|(id, _)| ahead(self.identity(*id)));
            chunk.iter().try_for_each(|(id, was)| {
                let is_there = self.content(*id).is_there();
                if !is_there {
                    self.gone.push(*id);
                }
                if is_there || was.is_there() { f(self, *id, was) } else { Ok(()) }
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
        self.flushed.clear();
        self.committed = self.generation - 1;
        if let Some(disk) = &mut self.disk {
            disk.unwritten.push_back(self.committed);
            for id in self.gone.drain(..) {
                disk.delete(self.committed, id, &mut self.rows[id.index()]);
            }
            return;
        }
        for id in self.gone.drain(..) {
            let row = &self.rows[id.index()];
            // What was changed again is flushed again.
            if row.changed <= self.committed {
                remove(id, &row.identity);
                self.free.push(id);
            }
        }
    }

    /// Back to the last commit. `f` is told every row that was changed, as it is again: if it is not there, it is gone
    /// for good.
    pub(crate) fn rollback(&mut self, mut f: impl FnMut(RowId, &I, &C)) {
        self.gone.clear();
        // The older generation last: its contents are what was committed.
        let mut touched = Vec::new();
        for (id, content) in self.present.drain(..).chain(self.flushed.drain(..)) {
            let row = &mut self.rows[id.index()];
            row.content = content;
            // The disk may not have what was committed last.
            row.changed = self.committed;
            touched.push(id);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let row = &self.rows[id.index()];
            f(id, &row.identity, &row.content);
            if !row.content.is_there() {
                match &mut self.disk {
                    Some(disk) => disk.delete(self.committed, id, &mut self.rows[id.index()]),
                    None => self.free.push(id),
                }
            }
        }
    }

    /// The earliest commit that the disk did not have is on it. `remove` is told the rows that are gone for good.
    pub(crate) fn written(&mut self, mut remove: impl FnMut(RowId, &I)) {
        let Some(disk) = &mut self.disk else { return };
        disk.written = disk.unwritten.pop_front().unwrap_or(disk.written);
        let written = disk.written;
        while let Some((_, id)) = disk.deleted.pop_front_if(|(generation, _)| *generation <= written) {
            let row = &mut self.rows[id.index()];
            row.leaving = false;
            if row.content.is_there() {
                continue;
            }
            if row.changed <= written {
                remove(id, &row.identity);
                self.free.push(id);
            } else {
                disk.delete(self.committed, id, row);
            }
        }
    }

    /// Lets so many rows leave that are on disk and were not asked for lately, or as many as there are; `leaves` is told which.
    /// Returns how many have left.
    pub(crate) fn evict(&mut self, rows: usize, mut leaves: impl FnMut(RowId, &I)) -> usize {
        let mut left = 0;
        // Once around takes from all rows that they were asked for.
        for _ in 0..2 * self.rows.len() {
            if left == rows {
                break;
            }
            self.hand = (self.hand + 1) % self.rows.len();
            let id = self.slot(self.hand);
            if self.leave(id) {
                leaves(id, self.identity(id));
                left += 1;
            }
        }
        left
    }

    /// Whether the disk, if there is one, has everything that was done to a row.
    pub(crate) fn is_written(&self, id: RowId) -> bool {
        self.disk.as_ref().is_none_or(|disk| self.rows[id.index()].changed <= disk.written)
    }

    /// Lets a row leave that is on disk and was not asked for lately; the caller removes it from its indexes.
    pub(crate) fn leave(&mut self, id: RowId) -> bool {
        let Some(disk) = &self.disk else { return false };
        let row = &mut self.rows[id.index()];
        let was_recent = std::mem::take(&mut row.recent);
        if was_recent || row.changed > disk.written || row.leaving || !row.content.is_there() {
            return false;
        }
        row.content.clear();
        row.changed = 0;
        self.free.push(id);
        true
    }

    /// Number of rows, deletions among them.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// Bytes of a row's place.
    pub(crate) fn row_bytes(&self) -> usize {
        size_of::<Row<I, C>>()
    }

    /// Frees a row that no undo information speaks of; the caller removes it from its indexes.
    pub(crate) fn free(&mut self, id: RowId) -> bool {
        let row = &mut self.rows[id.index()];
        if row.changed > self.committed || row.leaving {
            return false;
        }
        row.content.clear();
        self.free.push(id);
        true
    }
}
